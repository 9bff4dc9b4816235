"""Which labels of the target a training may read, and that no others change what is learnt."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny import domain as tiny_domain
from tiny import experiment

import yseg
from yseg.config import JOINT, NONE, ONLY, Optimizer, TargetLabels
from yseg.data.box import Box, parse_region
from yseg.data.grid import Grid
from yseg.data.split import share_of
from yseg.data.target_labels import fraction_seen, label_boxes
from yseg.runs.folder import load_state, read_config
from yseg.runs.resolve import resolve
from yseg.runs.stages import supervised
from yseg.training.recorder import read_metrics
from yseg.volumes.arrays import create_array
from yseg.volumes.volume import open_volume

SHAPE = (4, 64, 96)


def domain(name, **fields):
    return tiny_domain(name, sections=4, seed=0, **fields)


def tiny(**fields):
    """A joint training on 40 % of the target's labels."""
    defaults = {"target_labels": TargetLabels(JOINT, 0.4), "optimizer": Optimizer(steps=3),
                "source": domain("source", validation_fraction=0.3), "target": domain("target", test_fraction=0.3)}
    return experiment(**defaults | fields)


def test_the_boxes_are_a_share_of_the_training_box_and_each_holds_a_patch():
    box, grid = Box((0, 0, 0), (20, 1024, 686)), Grid((20, 1024, 1024), 4.6, 10.0)
    for fraction in (0.001, 0.15, 1.0):
        texts = label_boxes(box, grid, fraction, seed=3, patch_size=96)
        boxes = [parse_region(text, grid.volume_shape) for text in texts]
        least = 97 * 10 / 4.6  # rows that hold a patch wherever its first row lies
        assert boxes == list(share_of(box, fraction, 3, least_rows=int(np.ceil(least))))
        assert all(box.contains(each) and min(grid.inside(each).shape[1:]) >= 96 for each in boxes)
    assert label_boxes(box, grid, 0.0, seed=3, patch_size=96) == ()
    some = label_boxes(box, grid, 0.5, seed=3, patch_size=96, sections=[2, 5])
    assert {parse_region(text, grid.volume_shape).start[0] for text in some} < {2, 5}


@pytest.mark.parametrize(("labels", "seen"), [
    (TargetLabels(), 0.0), (TargetLabels(NONE, 0.5), 0.0), (TargetLabels(JOINT, 0.3), 0.3), (TargetLabels(ONLY, 0.15), 0.15),
    (TargetLabels(ONLY, 0.15, fraction_before=0.1), 0.25), (TargetLabels(ONLY, 0.0, fraction_before=0.1), 0.1),
    (TargetLabels(ONLY, 0.8, fraction_before=0.4), 1.0)])
def test_the_share_that_was_seen_counts_this_run_and_those_before(labels, seen):
    assert fraction_seen(labels) == pytest.approx(seen)


def test_only_the_listed_labels_change_what_is_learnt(tmp_path):
    """Noise in all other labels gives the same parameters; noise in the listed ones gives others."""
    config = resolve(tiny(target=domain("target", validation_fraction=0.1, test_fraction=0.3)))
    truth = open_volume(config.target.labels).read().result()
    chosen = np.zeros(SHAPE, bool)
    for text in config.target_labels.boxes:
        chosen[parse_region(text, SHAPE).slices] = True
    states = {}
    for where, changed in (("nowhere", np.zeros(SHAPE, bool)), ("outside", ~chosen), ("inside", chosen)):
        noise = np.random.default_rng(0).integers(0, 200, SHAPE, np.uint8)  # beyond the classes, where it must not be seen
        labels = np.where(changed, noise % 2 if where == "inside" else noise, truth > 0).astype(np.uint8)
        with create_array(str(tmp_path / f"{where}.zarr"), SHAPE, np.uint8, 10.0) as store:
            store.write(labels).result()
        target = dataclasses.replace(config.target, labels=str(tmp_path / f"{where}.zarr"), foreground="classes")
        yseg.train(tiny(target=target), tmp_path / where, quiet=True)
        states[where] = load_state(tmp_path / where, read_config(tmp_path / where))
    jax.tree.map(np.testing.assert_array_equal, states["nowhere"], states["outside"])
    pairs = zip(*(jax.tree.leaves(states[where].params) for where in ("nowhere", "inside")), strict=True)
    assert any((one != other).any() for one, other in pairs)


def test_its_labels_are_those_of_a_fine_tuning_and_are_listed(tmp_path):
    yseg.train(tiny(), tmp_path / "run", quiet=True)
    config = read_config(tmp_path / "run")
    assert config.target_labels.boxes == supervised(config, 0.4).target_labels.boxes
    listed = json.loads((tmp_path / "run" / "config.json").read_text())["target_labels"]["boxes"]
    boxes = [parse_region(text, SHAPE) for text in listed]
    assert sum(np.prod(box.shape) for box in boxes) / (4 * 64 * 67) == pytest.approx(0.4, abs=0.01)
    assert all(box.stop[2] <= 67 for box in boxes)
    assert "segmentation_target" in read_metrics(tmp_path / "run")[-1]
    again = yseg.train(tiny(), tmp_path / "run", quiet=True)  # the same config continues it
    assert again["step"] == 3
    yseg.finetune(tmp_path / "run", tmp_path / "tuned", 0.5, steps=1, quiet=True)
    tuned = read_config(tmp_path / "tuned").target_labels
    assert (tuned.use, tuned.fraction, tuned.start) == (ONLY, 0.5, str(tmp_path / "run"))
    assert fraction_seen(tuned) == 0.5  # of one seed, the smaller share lies inside the larger


@pytest.mark.parametrize(("changes", "named"), [
    ({"target_labels": TargetLabels("often")}, "--config.target_labels.use='often': must be one of none, joint, only"),
    ({"target_labels": TargetLabels(JOINT, 0.0)}, "--config.target_labels.fraction=0: must be above 0"),
    ({"target_labels": TargetLabels(NONE, boxes=("0:1,:,:",))}, "--config.target_labels.boxes"),
    ({"method": "coral", "target_labels": TargetLabels(ONLY, 0.4)},
     "--config.method=coral: must be ft with --config.target_labels.use=only"),
    ({"target_labels": TargetLabels(JOINT, boxes=("0:1,:,:",))}, r"--config.target_labels.boxes=.*must lie in"),
    ({"target": domain("target", labels="")}, "--config.target.labels is empty"),
])
def test_what_is_wrong_is_named_and_leaves_no_workdir(changes, named, tmp_path):
    with pytest.raises(yseg.InputError, match=named):
        yseg.train(tiny(**changes), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_boxes_are_in_the_voxels_of_the_files():
    box, grid = Box((0, 0, 0), (4, 200, 300)), Grid((4, 200, 400), 5.0, 10.0)
    here = label_boxes(box, grid, 0.4, seed=3, patch_size=32)
    there = label_boxes(box, grid, 0.4, seed=3, patch_size=32, offset=(2, 30, 7))
    shape = (9, 500, 500)
    assert [parse_region(text, shape).moved((2, 30, 7)) for text in here] == [parse_region(text, shape) for text in there]
