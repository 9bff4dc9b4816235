"""Fine-tuning on some of the target's labels, and training on them from scratch."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from tiny import domain as tiny_domain
from tiny import experiment

import yseg
from launch import finetune as launcher
from launch import program
from yseg.config import (
    JOINT,
    ONLY,
    Domain,
    Experiment,
    Inference,
    Model,
    Optimizer,
    Record,
    Sampling,
    TargetLabels,
)
from yseg.data.box import parse_region
from yseg.runs.folder import load_state, read_config
from yseg.runs.resolve import resolve
from yseg.runs.stages import finetuning, supervised
from yseg.training.state import inference_variables
from yseg.volumes.arrays import create_array
from yseg.volumes.volume import open_volume

SHAPE = (4, 64, 96)


def domain(name, **fields):
    return tiny_domain(name, sections=4, seed=0, **fields)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The workdir of an adapted run."""
    workdir = tmp_path_factory.mktemp("runs") / "adapted"
    config = experiment(
        method="ynet", source=domain("source", validation_fraction=0.3), target=domain("target", test_fraction=0.3),
        optimizer=Optimizer(steps=4), inference=Inference(tile_size=32, overlap=4), record=Record(validate_every=0, images=1))
    yseg.train(config, workdir, quiet=True)
    return workdir


def variables_of(workdir):
    config = read_config(workdir)
    return inference_variables(load_state(workdir, config), config.model.batch_statistics)


def test_it_starts_from_the_segmentation_network_and_drops_what_only_adaptation_needed(start, tmp_path):
    yseg.finetune(start, tmp_path / "run", 0.0, quiet=True)
    jax.tree.map(np.testing.assert_array_equal, variables_of(tmp_path / "run"), variables_of(start))
    state = load_state(tmp_path / "run", read_config(tmp_path / "run"))
    assert set(state.params["network"]) == {"encoder", "decoder"}
    assert yseg.evaluate(tmp_path / "run", quiet=True)["iou"] == yseg.evaluate(start, quiet=True)["iou"]


def test_its_labels_are_listed_and_lie_in_the_targets_training_box(start, tmp_path):
    yseg.finetune(start, tmp_path / "run", 0.4, steps=2, quiet=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    boxes = [parse_region(text, SHAPE) for text in config["target_labels"]["boxes"]]
    assert sum(np.prod(box.shape) for box in boxes) / (4 * 64 * 67) == pytest.approx(0.4, abs=0.01)
    assert all(box.stop[2] <= 67 for box in boxes)  # the last 30 % of x are for the test
    assert (config["target_labels"]["use"], config["target_labels"]["fraction"]) == (ONLY, 0.4)
    assert config["target_labels"]["start"] == str(start)
    assert config["method"] == "ft"
    assert (tmp_path / "run" / "report" / "panels.png").read_bytes().startswith(b"\x89PNG")
    before, after = (variables_of(run)["params"]["encoder"]["level_0"]["Conv_0"]["kernel"] for run in (start, tmp_path / "run"))
    assert (before != after).all()


def test_only_the_listed_labels_change_what_is_learnt(start, tmp_path):
    """Noise in all other labels gives the same parameters; noise in the listed ones gives others."""
    config = read_config(start)
    boxes = [parse_region(text, SHAPE) for text in supervised(config, 0.4, str(start)).target_labels.boxes]
    truth = open_volume(config.target.labels).read().result()
    states = {}
    for where in ("nowhere", "outside", "inside"):
        labels, noise = truth.copy(), np.random.default_rng(0).integers(0, 2, SHAPE, np.uint8)
        chosen = np.zeros(SHAPE, bool)
        for box in boxes:
            chosen[box.slices] = True
        changed = {"nowhere": np.zeros(SHAPE, bool), "outside": ~chosen, "inside": chosen}[where]
        labels[changed] = noise[changed]
        path = str(tmp_path / f"{where}.zarr")
        with create_array(path, SHAPE, np.uint8, 10.0) as store:
            store.write(labels.astype(np.uint8)).result()
        target = dataclasses.replace(config.target, labels=path, foreground=">0")
        tuned = supervised(dataclasses.replace(config, target=target), 0.4, str(start))
        yseg.train(dataclasses.replace(tuned, optimizer=Optimizer(steps=3)), tmp_path / where, quiet=True)
        states[where] = load_state(tmp_path / where, read_config(tmp_path / where))
    jax.tree.map(np.testing.assert_array_equal, states["nowhere"], states["outside"])
    pairs = zip(*(jax.tree.leaves(states[where].params) for where in ("nowhere", "inside")), strict=True)
    assert any((one != other).any() for one, other in pairs)


def test_from_scratch_it_is_an_oracle_that_needs_no_source(tmp_path):
    config = resolve(Experiment(
        source=Domain(image="nowhere.tif", labels="nowhere.tif", pixel_size_nm=5.0), target=domain("target", test_fraction=0.3),
        sampling=Sampling(patch_size=16, batch_size=2), model=Model(levels=1, features=4), optimizer=Optimizer(steps=2),
        inference=Inference(tile_size=32, overlap=4), record=Record(images=0)))
    oracle = supervised(config, 1.0)
    assert len(oracle.target_labels.boxes) == 4
    assert oracle.target_labels.start == ""
    yseg.train(oracle, tmp_path / "run", quiet=True)
    assert yseg.evaluate(tmp_path / "run", quiet=True)["region"] == "0:4,0:64,67:96"


@pytest.mark.parametrize(("changes", "named"), [
    ({"fraction": 1.5}, "--fraction=1.5: must be at least 0 and at most 1"),
    ({"start": "missing"}, "--from=missing"),
])
def test_what_is_wrong_is_named_and_leaves_no_workdir(start, tmp_path, changes, named):
    with pytest.raises(yseg.InputError, match=named):
        yseg.finetune(**{"start": start, "workdir": tmp_path / "run", "fraction": 0.5, "quiet": True} | changes)
    assert not (tmp_path / "run").exists()


def of_user(config, **fields):
    """A config as a user gives it, neither checked nor filled."""
    return Experiment(**{field.name: getattr(config, field.name) for field in dataclasses.fields(Experiment)} | fields)


def test_labels_that_are_not_listed_are_chosen_by_fraction_and_seed(start, tmp_path):
    config = supervised(read_config(start), 0.5, str(start))
    unlisted = of_user(config, target_labels=dataclasses.replace(config.target_labels, boxes=()))
    yseg.train(dataclasses.replace(unlisted, optimizer=Optimizer(steps=0)), tmp_path / "run", quiet=True)
    assert read_config(tmp_path / "run").target_labels == config.target_labels
    none = dataclasses.replace(config.target_labels, boxes=(), fraction=0.0)
    with pytest.raises(yseg.InputError, match=r"--config\.target_labels\.fraction=0: must be above 0"):
        yseg.train(of_user(config, target_labels=none), tmp_path / "none", quiet=True)
    assert not (tmp_path / "none").exists()


def test_labels_outside_the_targets_training_box_are_refused(start, tmp_path):
    config = supervised(read_config(start), 0.5, str(start))
    for box in ("0:1,0:64,60:80", "0:1,0:64,67:96", "0:9,:,:", "here"):
        labels = dataclasses.replace(config.target_labels, boxes=(box,))
        with pytest.raises(yseg.InputError, match=r"^--config\.target_labels\.boxes=") as raised:
            yseg.train(of_user(config, target_labels=labels), tmp_path / "run", quiet=True)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_the_run_that_is_trained_further_must_have_come_to_its_end(start, tmp_path):
    shutil.copytree(start, tmp_path / "start")
    whole = json.loads((start / "config.json").read_text())
    whole["optimizer"]["steps"] = 400
    (tmp_path / "start" / "config.json").write_text(json.dumps(whole))
    with pytest.raises(yseg.InputError, match="is at step 4 of 400"):
        yseg.finetune(tmp_path / "start", tmp_path / "run", 0.5, quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("changes", "named"), [
    ({"steps": -1}, r"optimizer\.steps=-1: must be at least 0"),
    ({"learning_rate": 0.0}, r"optimizer\.learning_rate=0\.0: must be above 0"),
    ({"learning_rate": float("nan")}, r"optimizer\.learning_rate=nan: must be finite"),
    ({"seed": -1}, r"seed=-1: must be at least 0"),
])
def test_numbers_that_make_no_sense_are_named_and_leave_no_workdir(start, tmp_path, changes, named):
    with pytest.raises(yseg.InputError, match=named):
        yseg.finetune(start, tmp_path / "run", 0.5, quiet=True, **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("flag", "named"), [
    ("", "--fraction is missing: must be a share of the labels"),
    ("--fraction=2", "--fraction=2: must be"),
    ("--fraction=half", "--fraction=half: must be"),
])
def test_a_fraction_that_is_missing_or_wrong_is_named(flag, named):
    with pytest.raises(yseg.InputError, match=named):
        program.parse(launcher.PROGRAM, ["finetune", "--from=a", "--workdir=b", *filter(None, [flag])])


def test_no_labels_at_all_is_a_fraction_too():
    values = program.parse(launcher.PROGRAM, ["finetune", "--from=a", "--workdir=b", "--fraction=0"])
    assert (values["from"].value, values.fraction) == ("a", 0)


def test_a_method_that_adapts_is_refused(start, tmp_path):
    config = of_user(supervised(read_config(start), 0.5, str(start)), method="dann")
    with pytest.raises(yseg.InputError, match=r"--config\.method=dann: must be ft"):
        yseg.train(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_joint_training_is_tuned_on_labels_alone(start, tmp_path):
    """Its own boxes are not those of the fine-tuning, and the source's labels are read no more."""
    config = of_user(read_config(start), method="ft", target_labels=TargetLabels(use=JOINT, fraction=0.25),
                     optimizer=Optimizer(steps=1, warmup_steps=0))
    yseg.train(config, tmp_path / "joint", quiet=True)
    tuned = finetuning(tmp_path / "joint", 0.5, seed=3)
    assert (tuned.method, tuned.target_labels.use, tuned.target_labels.fraction) == ("ft", ONLY, 0.5)
    assert tuned.target_labels.boxes == supervised(resolve(of_user(config, seed=3)), 0.5).target_labels.boxes
    assert tuned.model.batch_statistics == "training"
