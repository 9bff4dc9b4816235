"""The report of a run: what its folder tells is on the page, whatever there is of it, in one file of a bounded size."""

import dataclasses
import json

import numpy as np
import pytest
from pages import parsed
from PIL import Image
from tiny import experiment

import yseg
from launch import program, report
from yseg.config import InputError, Optimizer, SelfTraining, TargetLabels
from yseg.config_json import to_json
from yseg.report.embedded import LIMIT
from yseg.report.stack import LARGEST, SECTIONS, Seen, write_stack
from yseg.runs.history import EVALUATED, SEGMENTED, TRAINED, command_line, read_history, record
from yseg.runs.report_file import refresh_report, write_report
from yseg.runs.resolve import resolve
from yseg.runs.views import FOLDERS

ROWS = [{"step": step, "loss": 1 / step, "segmentation": 1 / step, "validation_iou": step / 8} for step in (1, 2, 3, 4)]
SIGNS = {"agreement": 0.5, "plausible": 0.25, "share": 0.125}


def run_in(folder, rows=ROWS, **fields):
    """The folder of a run that was not trained here: its config and its record."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(resolve(experiment(**fields))))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def sections_in(folder, what, count=3, shape=(32, 48)):
    random = np.random.default_rng(0)
    seen = (Seen(number, random.integers(0, 256, shape), random.integers(0, 2, shape)) for number in range(count))
    write_stack(seen, folder / "report" / FOLDERS[what], {"image": "b.tif", "region": "0:3,:,:", "threshold": 0.5,
                                                           "pixel_size_nm": 10.0, "network": "ft, step 4"})


def test_a_run_that_has_just_begun_has_a_report(tmp_path):
    page = parsed(write_report(run_in(tmp_path / "run", rows=[])))
    assert page.sections == ["summary", "volumes", "training", "scores", "provenance", "cite"]
    assert "0 of 4 steps" in page.text
    assert "not finished" in page.text
    assert "Nothing has been scored" in page.text
    assert not page.all("img")


def test_curves_alone_of_a_run_that_was_interrupted(tmp_path):
    page = parsed(write_report(run_in(tmp_path / "run", rows=ROWS[:2])))
    assert "2 of 4 steps" in page.text
    assert "not finished" in page.text
    picture, = page.pictures()
    assert b"<svg" in picture
    assert "loss 0.5000" in page.all("img")[0]["alt"]


def test_knobs_that_differ_from_their_defaults_are_listed_and_no_others(tmp_path):
    page = parsed(write_report(run_in(tmp_path / "run", optimizer=Optimizer(steps=4, warmup_steps=1, learning_rate=0.0125))))
    assert "optimizer.learning_rate 0.0125" in page.text
    assert "optimizer.momentum" not in page.text
    assert "finished:" not in page.text


def test_scores_are_named_by_their_question_and_undefined_ones_are_undefined(tmp_path):
    folder = run_in(tmp_path / "run")
    (folder / "results.json").write_text(json.dumps({"iou": None, "f1": 0.75, "image": "b.tif", "region": "0:1,:,:"}))
    (folder / "results_threshold_0.3.json").write_text(json.dumps({"iou": 0.5, "panoptic_quality": None}))
    (folder / "results_source.json").write_text('{"iou": 0.')
    page = parsed(write_report(folder))
    assert "the run's own test undefined 0.7500" in page.text
    assert "threshold 0.3 0.5000 undefined" in page.text
    assert "panoptic quality undefined" in page.text
    assert "results_source.json cannot be read" in page.text


def test_what_is_known_without_labels_is_told(tmp_path):
    folder = run_in(tmp_path / "run", method="self_training", self_training=SelfTraining(start="elsewhere"))
    (folder / "choice.json").write_text(json.dumps({
        "use": "unadapted", "reason": "the agreement fell & fell", "threshold": None, "unadapted": SIGNS,
        "adapted": {**SIGNS, "agreement": None}}))
    (folder / "prior.json").write_text(json.dumps({"share": 0.0625, "least_area_nm2": 2e6, "least_solidity": 0.75}))
    page = parsed(write_report(folder))
    assert "unlabelled" in page.sections
    assert "The unadapted network is used" in page.text
    assert "the agreement fell & fell" in page.text
    assert "network before 0.5000 0.2500 0.1250" in page.text
    assert "adapted network undefined 0.2500" in page.text
    assert "source's labels - - 0.0625" in page.text
    assert "self-training: Zou" in page.text


def test_a_damaged_choice_is_told_and_ends_nothing(tmp_path):
    folder = run_in(tmp_path / "run")
    (folder / "choice.json").write_text("{")
    (folder / "prior.json").write_text("{")
    assert "choice.json is damaged" in parsed(write_report(folder)).text


def test_sections_are_a_slider_with_both_pictures_of_each(tmp_path):
    folder = run_in(tmp_path / "run")
    sections_in(folder, SEGMENTED)
    sections_in(folder, EVALUATED, count=1)
    page = parsed(write_report(folder))
    assert len(page.all("figure")) == 1 + 3 + 1  # the curves, too
    assert sum(tag.get("type") == "range" for tag in page.all("input")) == 2
    assert [content[:4] for content in page.pictures()[1:3]] == [b"\xff\xd8\xff\xe0", b"\x89PNG"]
    assert "3 sections of b.tif" in page.text
    assert "100 nm" in page.text


def test_names_are_escaped(tmp_path):
    folder = run_in(tmp_path / "run", name="<b>a & b</b>")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "x.png")
    (folder / "report").mkdir()
    (tmp_path / "x.png").rename(folder / "report" / "evaluation_<i>&.png")
    path = write_report(folder)
    page = parsed(path)
    assert "<b>a & b</b>" in page.text
    assert not page.all("b")
    assert not page.all("i")
    assert "right and wrong told apart (<i>&)" in page.text


def test_however_many_pictures_there_are_the_file_keeps_to_its_size(tmp_path):
    folder = run_in(tmp_path / "run")
    for what in (SEGMENTED, EVALUATED):
        sections_in(folder, what, count=SECTIONS, shape=(LARGEST, LARGEST))
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), np.uint8)
    for number in range(8):
        Image.fromarray(np.roll(noise, 10 * number, 0)).save(folder / "report" / f"evaluation_{number}.png", compress_level=1)
    path = write_report(folder)
    page = parsed(path)
    assert 5e6 < path.stat().st_size <= LIMIT
    assert sum(tag.get("type") == "range" for tag in page.all("input")) == 2
    assert "takes too much room" in page.text


def test_the_table_of_instances_is_told_if_the_last_segmentation_has_one(tmp_path):
    folder = run_in(tmp_path / "run")
    assert "instances" not in parsed(write_report(folder)).sections
    (tmp_path / "b.zarr.csv").write_text("id,voxels,volume_um3\n1,25,0.25\n2,175,\n")
    (folder / "report" / "instances.json").write_text(json.dumps({"count": 2, "median_um3": None, "bins": [1, 2]}))
    record(folder, SEGMENTED, outputs={"instances": str(tmp_path / "b.zarr")})
    page = parsed(write_report(folder))
    assert "count 2 median um3 -" in page.text
    assert "in b.zarr.csv: id voxels volume um3 2 175 - 1 25 0.25" in page.text
    record(folder, SEGMENTED, outputs={"classes": str(tmp_path / "b.zarr")})
    assert "instances" not in parsed(write_report(folder)).sections


def test_provenance_has_the_versions_of_then_and_the_commands(tmp_path):
    folder = run_in(tmp_path / "run")
    record(folder, TRAINED)
    line, = read_history(folder)
    line["versions"]["jax"] = "0.0.7"
    line["command"] = "python -m launch.train --x='<y>'"
    (folder / "history.jsonl").write_text(json.dumps(line) + '\n{"what": "eval')
    page = parsed(write_report(folder))
    assert "jax 0.0.7" in page.text
    assert "python -m launch.train --x='<y>'" in page.text
    assert command_line(["/somewhere/launch/train.py", "--a=b c"]) == "python -m launch.train '--a=b c'"


def test_several_seeds_are_compared_with_mean_and_deviation(tmp_path):
    for seed, iou in enumerate((0.5, 0.75, None)):
        run = run_in(tmp_path / "three" / f"seed{seed}", rows=ROWS[:4 - seed // 2], seed=seed)
        (run / "results.json").write_text(json.dumps({"iou": iou, "f1": 0.5}))
    write_report(tmp_path / "three" / "seed1")
    path = write_report(tmp_path / "three")
    page = parsed(path)
    assert "three: 3 runs" in page.text
    assert "Not finished: seed2" in page.text
    assert "seed2 undefined 0.5000 mean 0.6250 0.5000 standard deviation 0.1768 0.0000" in page.text
    links = [tag["href"] for tag in page.all("a") if tag["href"][0] != "#"]
    assert [(path.parent / link).resolve() for link in links] == [tmp_path / "three/seed1/report/report.html"]
    assert "differences" in page.sections


def test_runs_that_are_not_alike_have_no_mean(tmp_path):
    for rate in (0.5, 0.25):
        run = run_in(tmp_path / "two" / f"rate{rate}", optimizer=Optimizer(steps=4, warmup_steps=1, learning_rate=rate))
        (run / "results.json").write_text(json.dumps({"iou": rate}))
    text = parsed(write_report(tmp_path / "two")).text
    assert "mean" not in text
    assert "knob rate0.5 rate0.25 optimizer.learning_rate 0.5 0.25" in text


def test_a_file_that_is_no_report_is_never_replaced(tmp_path):
    folder, other = run_in(tmp_path / "run"), tmp_path / "notes.html"
    other.write_text("<html>mine</html>")
    with pytest.raises(InputError, match=r"notes.html: exists and is no report of yseg"):
        write_report(folder, other)
    assert other.read_text() == "<html>mine</html>"
    first = write_report(folder, tmp_path / "new" / "a.html")
    with pytest.raises(InputError, match=r"^--output=.*a.html: exists already; give --overwrite to replace it$"):
        write_report(folder, first)
    assert write_report(folder, first, overwrite=True) == first
    assert not list(first.parent.glob(".*"))


@pytest.mark.parametrize(("flags", "said"), [
    (["--workdir={tmp}/nowhere"], "nowhere: no such folder"),
    (["--workdir={tmp}"], "is not the folder of a run"),
    ([], "--workdir is missing"),
    (["--workdir={tmp}/run", "--output={tmp}/a.pdf"], "a.pdf: must end in .html"),
    (["--workdir={tmp}/run", "--output={tmp}/folder.html"], "folder.html: is a folder"),
    (["--workdir={tmp}/run", "--output={tmp}/run/config.json/a.html"], "cannot be written"),
])
def test_what_is_no_run_or_no_place_is_one_line(flags, said, tmp_path, capsys):
    run_in(tmp_path / "run").rename(tmp_path / "x")
    (tmp_path / "folder.html").mkdir()
    if "{tmp}/run" in " ".join(flags):
        (tmp_path / "x").rename(tmp_path / "run")
    else:
        (tmp_path / "x" / "config.json").unlink()
    with pytest.raises(SystemExit) as ended:
        program.run(report.PROGRAM, ["launch.report", *(flag.replace("{tmp}", str(tmp_path)) for flag in flags)])
    assert ended.value.code == 2
    line, = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_report_that_cannot_be_written_is_one_line_and_no_failure(tmp_path, capsys):
    folder = run_in(tmp_path / "run")
    (folder / "report").mkdir()
    (folder / "report" / "report.html").write_text("mine")
    refresh_report(folder)
    line, = capsys.readouterr().err.splitlines()
    assert "its report could not be written" in line
    assert "is no report of yseg" in line


def test_a_fine_tuning_says_which_labels_it_has_seen(tmp_path):
    config = resolve(experiment())
    run = run_in(tmp_path / "run", target_labels=TargetLabels("only", 0.5, ("0:1,0:64,0:64",)), target=config.target)
    text = parsed(write_report(run)).text
    assert "Labels of the target were trained on (only): 50 % of its training part, boxes 0:1,0:64,0:64" in text
    assert "trained on the labels of phantom://target/image" in text
    assert "labels of the target, seed 0" in text
    assert "source only" not in text


# --- Real runs ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A self-training of a few steps, scored and segmented."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = experiment(method="self_training", record=dataclasses.replace(experiment().record, images=1, log_every=2),
                        self_training=SelfTraining(steps=4, renew_every=2))
    yseg.train(config, folder, quiet=True)
    return folder


@pytest.mark.slow
def test_training_evaluating_and_segmenting_each_refresh_the_report(trained, tmp_path):
    path = trained / "report" / "report.html"
    assert parsed(path).sections == ["summary", "volumes", "training", "curves", "panels", "scores", "unlabelled", "first",
                                     "provenance", "cite"]
    assert "box kept for the test - 0:3,0:64,67:96" in parsed(path).text
    assert "curves" in parsed(trained / "first_stage" / "report" / "report.html").sections

    yseg.evaluate(trained, quiet=True)
    scored = parsed(path)
    assert "sections" in scored.sections
    assert "Scored: 3 sections" in scored.text
    assert "own test" in scored.text

    config = json.loads((trained / "config.json").read_text())
    yseg.segment(trained, config["target"]["image"], tmp_path / "b.zarr", quiet=True)
    segmented = parsed(path)
    assert "Segmented: 3 sections" in segmented.text
    assert "Scored: 3 sections" in segmented.text
    assert [line["what"] for line in read_history(trained)] == [TRAINED, EVALUATED, SEGMENTED]
    assert path.stat().st_size < LIMIT


@pytest.mark.slow
def test_the_sections_are_those_of_the_segmentation(trained, tmp_path):
    config = json.loads((trained / "config.json").read_text())
    output = yseg.segment(trained, config["target"]["image"], tmp_path / "b.zarr", quiet=True, threshold=0.45)
    classes = yseg.open_volume(f"{output}/0").read().result()
    folder = trained / "report" / FOLDERS[SEGMENTED]
    for number, section in enumerate(classes):
        with Image.open(folder / f"{number}.png") as overlay:
            np.testing.assert_array_equal(np.asarray(overlay.convert("RGBA"))[..., 3] > 0, section > 0)
    assert json.loads((folder / "index.json").read_text())["share"] == pytest.approx((classes > 0).mean())
