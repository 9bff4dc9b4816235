"""Training, on tiny volumes: 4 sections, a U-Net with one pooling, a few steps."""

import math
import os
import random

import jax
import numpy as np
import pytest
from killing import train_and_kill
from tiny import experiment

import yseg
from yseg.config import (
    Augmentation,
    Domain,
    Inference,
    Optimizer,
    Record,
    Sampling,
)
from yseg.config_json import from_json
from yseg.runs.folder import load_state, read_config
from yseg.runs.session import compiled_step, prepare
from yseg.training.checkpoint import Checkpoints
from yseg.training.loop import Member, TrainingDiverged, fit
from yseg.training.recorder import Recorder, read_metrics
from yseg.volumes.arrays import create_array
from yseg.volumes.volume import open_volume

SHAPE = "4,64,64"


def domain(name, **fields):
    image, labels = (f"phantom://{name}/{content}?shape={SHAPE}&seed=0" for content in ("image", "labels"))
    return Domain(**{"image": image, "labels": labels, "foreground": ">0"} | fields)


def tiny(**fields):
    """A config; the method sees the target."""
    defaults = {
        "method": "coral", "source": domain("source", validation_fraction=0.3), "target": domain("target", test_fraction=0.3),
        "optimizer": Optimizer(steps=12, warmup_steps=2), "inference": Inference(tile_size=32, overlap=4, depth_nm=0),
        "record": Record(log_every=2, validate_every=0, checkpoint_every=3, images=0)}
    return experiment(**defaults | fields)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workdir of a run that was not interrupted, with pictures and validations."""
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    record = Record(log_every=2, validate_every=8, checkpoint_every=3, images=1)
    yseg.train(tiny(record=record), workdir, quiet=True)
    return workdir


def state_bytes(workdir):
    """Step and bytes of everything in the last checkpoint of a run."""
    state = load_state(workdir, read_config(workdir))
    return [leaf.tobytes() for leaf in jax.tree.leaves(state)]


def steps_of(workdir):
    return [row["step"] for row in read_metrics(workdir)]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Training ---


def test_a_run_leaves_its_config_metrics_checkpoints_and_pictures(trained):
    assert from_json((trained / "config.json").read_text()).source.pixel_size_nm == 5.0  # resolved: the phantom knows it
    rows = read_metrics(trained)
    assert [row["step"] for row in rows] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert all(math.isfinite(row[name]) for row in rows for name in ("loss", "adaptation", "learning_rate"))
    assert [row["step"] for row in rows if "validation_iou" in row] == [8, 12]
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["12", "9"]
    assert all((trained / "report" / name).read_bytes().startswith(b"\x89PNG") for name in ("panels.png", "loss_curves.png"))
    assert list(trained.glob("events.out.tfevents.*"))


def test_the_last_validation_is_the_iou_of_the_whole_source_validation_box(trained):
    results = yseg.evaluate(trained, domain="source", quiet=True)
    assert results["iou"] == read_metrics(trained)[-1]["validation_iou"]
    assert results["region"] == "0:4,0:64,45:64"
    assert not (trained / "results.json").exists()  # which is of the target's test


def test_pictures_and_validations_do_not_change_what_is_learnt(trained, tmp_path):
    yseg.train(tiny(), tmp_path / "run", quiet=True)
    assert state_bytes(tmp_path / "run") == state_bytes(trained)


def test_target_labels_do_not_change_what_is_learnt(trained, tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (4, 64, 64), np.uint8)
    with create_array(str(tmp_path / "noise.zarr"), noise.shape, np.uint8, 4.6) as store:
        store.write(noise).result()
    target = domain("target", labels=str(tmp_path / "noise.zarr"), test_fraction=0.3)
    yseg.train(tiny(target=target), tmp_path / "noise", quiet=True)
    assert state_bytes(tmp_path / "noise") == state_bytes(trained)


def test_a_run_interrupted_again_and_again_ends_as_one_that_was_not(tmp_path):
    training = prepare(tiny(), tmp_path / "unused")
    step = compiled_step(training.config, training.devices)

    def run(folder, at):
        def batch(number):
            if number == at:
                raise ConnectionError
            return training.reader.batch(number)

        with Checkpoints(folder / "checkpoints", keep=2) as checkpoints:
            state = checkpoints.restore(training.start) or training.start
            with Recorder(folder, int(state.step)) as recorder:
                member = Member(training.key, recorder, checkpoints, training.estimate, lambda state, last: {},
                                lambda state, recorder: None)
                fit([state], step, [member], batch, config=training.config, devices=training.devices, quiet=True)
        with Checkpoints(folder / "checkpoints") as checkpoints:
            return [leaf.tobytes() for leaf in jax.tree.leaves(checkpoints.restore(state))]

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole", at=None)
    for at in sorted(random.Random(3).sample(range(1, 12), 3)):
        with pytest.raises(ConnectionError):
            run(tmp_path / "cut", at)
    assert run(tmp_path / "cut", at=None) == whole
    kept = [[{name: value for name, value in row.items() if name != "images_per_second"} for row in read_metrics(tmp_path / run)]
            for run in ("whole", "cut")]
    assert kept[0] == kept[1]


@pytest.mark.slow
def test_a_run_killed_at_a_random_moment_ends_as_one_that_was_not(tmp_path):
    config = tiny(optimizer=Optimizer(steps=60, warmup_steps=2), augmentation=Augmentation(),
                  record=Record(log_every=1, validate_every=0, checkpoint_every=5, images=0))
    workdir = tmp_path / "killed"
    train_and_kill(config, workdir, 30)
    yseg.train(config, workdir, quiet=True)
    yseg.train(config, tmp_path / "whole", quiet=True)
    assert state_bytes(workdir) == state_bytes(tmp_path / "whole")
    assert steps_of(workdir) == list(range(1, 61))


def test_a_finished_run_that_is_started_again_is_left_as_it_is(trained):
    before = files(trained)
    yseg.train(read_config(trained), trained, quiet=True)
    assert files(trained) == before


def test_a_diverged_loss_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path):
    optimizer = Optimizer(name="sgd", steps=12, learning_rate=1e25, warmup_steps=0, schedule="constant")
    record = Record(log_every=5, validate_every=0, checkpoint_every=1, images=0)
    with pytest.raises(TrainingDiverged) as raised:
        yseg.train(tiny(optimizer=optimizer, record=record), tmp_path / "run", quiet=True)
    good = steps_of(tmp_path / "run")[-1]
    folder = tmp_path / "run" / "checkpoints"
    assert f"at step {good + 1}; the last good checkpoint is step {good} in {folder};" in str(raised.value)
    assert "try a smaller optimizer.learning_rate" in str(raised.value)
    assert max(map(int, os.listdir(folder))) == good
    # Under such parameters the target's activations, and with them their statistics, may be beyond float32.
    state = load_state(tmp_path / "run", read_config(tmp_path / "run")).replace(target_stats=None)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


# --- What the user has to change ---


def test_the_workdir_of_another_config_is_refused_and_not_changed(trained):
    before = files(trained)
    differs = r"^--workdir=.*optimizer\.learning_rate=0\.001.* optimizer\.learning_rate=0\.01; must"
    with pytest.raises(yseg.InputError, match=differs) as raised:
        yseg.train(tiny(optimizer=Optimizer(steps=12, learning_rate=0.01, warmup_steps=2)), trained)
    assert "\n" not in str(raised.value)
    assert files(trained) == before


def test_what_a_kill_left_of_the_first_file_does_not_stop_a_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.12.unfinished").write_text("{")
    yseg.train(tiny(optimizer=Optimizer(steps=0)), tmp_path / "run", quiet=True)
    assert read_config(tmp_path / "run").optimizer.steps == 0


def test_a_folder_with_other_things_is_refused_and_not_changed(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(yseg.InputError, match="--workdir="):
        yseg.train(tiny(), tmp_path)
    with pytest.raises(yseg.InputError, match="--workdir="):
        yseg.train(tiny(), tmp_path / "thesis.tex")
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(("changes", "named"), [
    ({"source": domain("source", image="missing.tif", pixel_size_nm=5.0)}, "--config.source.image=.*missing.tif"),
    ({"source": domain("source", labels="")}, "--config.source.labels"),
    ({"source": domain("source", labels="phantom://source/labels?shape=4,64,63&seed=0")}, "--config.source.labels.*4 x 64 x 63"),
    ({"method": "ft", "target": domain("target", image="missing.tif", pixel_size_nm=5.0)}, "--config.target.image=.*missing.tif"),
    ({"method": "ft", "target": Domain()}, "--config.target.image"),
    ({"sampling": Sampling(patch_size=64, batch_size=2)}, "--config.sampling.patch_size=64"),
    ({"inference": Inference(tile_size=16, overlap=16)}, r"^inference\.tile_size=16: must be at least"),
    ({"source": domain("source", foreground="many")}, "--config.source.foreground='many'"),
    ({"optimizer": Optimizer(steps=-1)}, "--config.optimizer.steps=-1"),
])
def test_wrong_input_is_named_in_one_line_and_leaves_no_workdir(changes, named, tmp_path):
    with pytest.raises(yseg.InputError, match=named) as raised:
        yseg.train(tiny(**changes), tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_class_indices_beyond_the_model_are_refused(tmp_path):
    with create_array(str(tmp_path / "classes.zarr"), (4, 64, 64), np.uint8, 5.0) as store:
        store.write(np.full((4, 64, 64), 2, np.uint8)).result()
    source = domain("source", labels=str(tmp_path / "classes.zarr"), foreground="classes")
    with pytest.raises(yseg.InputError, match=r"--config\.model\.classes=2: must be above 2"):
        yseg.train(tiny(source=source), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_or_without_a_checkpoint_is_refused(trained, tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(yseg.InputError, match=r"--workdir=.*config\.json"):
            yseg.evaluate(folder)
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    with pytest.raises(yseg.InputError, match=r"--workdir=.*checkpoint"):
        yseg.evaluate(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_run_is_found_again_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("image", "labels"):
        with create_array(f"{name}.zarr", (4, 64, 64), np.uint8, 5.0) as store:
            store.write(open_volume(getattr(domain("source"), name)).read().result()).result()
    source = domain("source", image="image.zarr", labels="labels.zarr", pixel_size_nm=5.0, validation_fraction=0.3)
    yseg.train(tiny(source=source), "run", quiet=True)
    os.makedirs("elsewhere")
    monkeypatch.chdir("elsewhere")
    assert yseg.evaluate("../run", domain="source", quiet=True)["image"] == str(tmp_path / "image.zarr")
