"""Cross-validation over sections of the target's training labels."""

import csv
import json

import numpy as np
import pytest
from tiny import experiment

import yseg
from launch import finetune as launcher
from launch import program
from yseg.config import JOINT, ONLY, Domain, Inference, TargetLabels
from yseg.data.box import Box, parse_region
from yseg.runs.folder import read_config
from yseg.studies.cross_validation import cross_validate, deal
from yseg.volumes.volume import open_volume

SHAPE = (4, 48, 64)
TRAINING = Box((0, 0, 0), (4, 48, 45))  # the last 30 % of x are for the test


def tiny(**fields):
    """An experiment of few steps."""
    def domain(name, **fields):
        image, labels = (f"phantom://{name}/{content}?shape=4,48,64&seed=0" for content in ("image", "labels"))
        return Domain(image=image, labels=labels, foreground=">0", pixel_size_nm=10.0, **fields)

    return experiment(source=domain("source"), target=domain("target", test_fraction=0.3),
                      inference=Inference(tile_size=32, overlap=4), **fields)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The workdir of a run."""
    workdir = tmp_path_factory.mktemp("runs") / "source"
    yseg.train(tiny(), workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module")
def validated(start, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "folds"
    return workdir, cross_validate(start, workdir, 2, steps=2, tell=lambda line: None, quiet=True)


def test_every_section_is_in_one_fold_and_the_seed_alone_decides_in_which():
    for folds in (2, 3, 7):
        dealt = deal(3, 20, folds, 5)
        assert sorted(section for each in dealt for section in each) == list(range(3, 20))
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
        assert dealt == deal(3, 20, folds, 5)
    assert deal(3, 20, 3, 5) != deal(3, 20, 3, 6)


def test_a_fold_is_scored_by_what_was_trained_on_the_others(validated, start):
    workdir, results = validated
    truth = open_volume(read_config(start).target.labels)
    for row in results["folds"]:
        config = read_config(workdir / row["run"])
        mine = set(map(int, row["sections"].split()))
        trained = [parse_region(text, SHAPE) for text in config.target_labels.boxes]
        assert {box.start[0] for box in trained} == set(range(4)) - mine  # with fraction 1 all of the others
        assert all(TRAINING.contains(box) for box in trained)
        found = [yseg.evaluate(workdir / row["run"], region=f"{section}:{section + 1},:,0:45", quiet=True) for section in mine]
        tp, fp, fn = np.sum([each["per_section_counts"][0] for each in found], axis=0)
        assert tp + fn == sum(int((truth[section, :, :45].read().result() > 0).sum()) for section in mine)
        assert row["iou"] == tp / (tp + fp + fn)


def test_mean_and_deviation_are_those_of_the_folds(validated):
    workdir, results = validated
    values = [row["iou"] for row in results["folds"]]
    assert results["mean_iou"] == pytest.approx(np.mean(values))
    assert results["deviation_iou"] == pytest.approx(np.std(values, ddof=1))
    assert json.loads((workdir / "folds.json").read_text()) == results
    with open(workdir / "folds.csv", newline="") as file:
        assert [float(row["iou"]) for row in csv.DictReader(file)] == values


def test_what_is_done_is_skipped_and_another_fine_tuning_is_refused(validated, start):
    workdir, results = validated
    (workdir / "fold1" / "fold.json").unlink()  # as after a kill
    before, told = (workdir / "fold0" / "metrics.jsonl").stat().st_mtime_ns, []
    assert cross_validate(start, workdir, 2, steps=2, tell=told.append, quiet=True) == results
    assert [line.rsplit(": ")[1] for line in told] == ["done before", "training"]
    assert (workdir / "fold0" / "metrics.jsonl").stat().st_mtime_ns == before
    for changes in ({"folds": 3}, {"steps": 3}, {"fraction": 0.5}):
        with pytest.raises(yseg.InputError, match="--workdir="):
            cross_validate(**{"start": start, "workdir": workdir, "folds": 2, "steps": 2, "quiet": True} | changes)


@pytest.mark.parametrize(("changes", "named"), [
    ({"folds": 5}, "--folds=5: must be at least 2 and at most 4"),
    ({"folds": 1}, "--folds=1: must be"),
    ({"fraction": 0.0}, "--fraction=0.0: must be above 0"),
    ({"start": "missing"}, "--from=missing"),
])
def test_what_is_wrong_is_named_and_leaves_no_folder(start, tmp_path, changes, named):
    with pytest.raises(yseg.InputError, match=named):
        cross_validate(**{"start": start, "workdir": tmp_path / "folds", "folds": 2, "quiet": True} | changes)
    assert not (tmp_path / "folds").exists()


@pytest.mark.parametrize(("use", "fraction"), [(JOINT, 0.15), (ONLY, 0.5)])
def test_a_start_that_has_seen_labels_of_the_target_is_refused(start, tmp_path, use, fraction):
    """Else held-out sections might be in its weights, and be scored as if they were not."""
    run = tmp_path / "start"
    named = rf"^--from={run}: was trained on labels of the target \(target_labels\.use={use}\); must be a run without them"
    if use == JOINT:
        yseg.train(tiny(target_labels=TargetLabels(use=JOINT, fraction=fraction)), run, quiet=True)
    else:
        yseg.finetune(start, run, fraction, steps=1, quiet=True)
    with pytest.raises(yseg.InputError, match=named) as raised:
        cross_validate(run, tmp_path / "folds", 2, steps=2, quiet=True)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["start"]


def test_a_fine_tuning_on_no_label_at_all_is_a_start(start, tmp_path):
    yseg.finetune(start, tmp_path / "start", 0.0, quiet=True)
    with pytest.raises(yseg.InputError, match="--folds=5: must be"):  # and not its start
        cross_validate(tmp_path / "start", tmp_path / "folds", 5, quiet=True)


def test_flags():
    values = program.parse(launcher.PROGRAM, ["finetune", "--from=a", "--workdir=b", "--folds=5"])
    assert (values.folds, values.fraction) == (5, None)
    with pytest.raises(yseg.InputError, match="--folds=1: must be"):
        program.parse(launcher.PROGRAM, ["finetune", "--from=a", "--workdir=b", "--folds=1"])
