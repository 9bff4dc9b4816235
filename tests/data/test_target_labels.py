"""Joint training on source labels and some labels of the target."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny import domain as tiny_domain
from tiny import experiment

import yseg
from yseg.config import METHODS, Experiment, FineTuning, Optimizer, Sampling
from yseg.data.box import parse_region
from yseg.data.domain import open_domain, resolve, training_region
from yseg.data.patches import make_reader
from yseg.data.split import share_of
from yseg.data.target_labels import choose_labels, labelled_region
from yseg.experiment import supervised
from yseg.methods.objectives import METHODS as OBJECTIVES
from yseg.methods.objectives import Batch, Context, images_per_step, objective
from yseg.models import build_network
from yseg.runs.folder import load_state, read_config
from yseg.training.recorder import read_metrics
from yseg.training.state import create_state
from yseg.volumes.volume import create_volume, open_volume

SHAPE = (4, 64, 96)


def domain(name, **fields):
    return tiny_domain(name, sections=4, seed=0, **fields)


def tiny(**fields):
    defaults = {"method": "coral", "semi_supervised": "joint", "labelled_fraction": 0.4, "optimizer": Optimizer(steps=3),
                "source": domain("source", validation_fraction=0.3), "target": domain("target", test_fraction=0.3)}
    return experiment(**defaults | fields)


@pytest.mark.parametrize("method", ["ft", "dann", "ynet"])
def test_the_loss_is_the_methods_own_and_that_of_the_labelled_patches(method):
    config = tiny(method=method)
    network, state = build_network(config.model, method), create_state(config, jax.random.key(0))
    random = np.random.default_rng(0)
    images = random.normal(size=(3, 2, 8, 8, 1)).astype(np.float32)
    labels = random.integers(0, 2, (2, 2, 8, 8)).astype(np.int32)
    batch = Batch(np.arange(2), images[0], labels[0], images[1], images[2], labels[1])

    def differentiated(minimised, batch):
        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            return minimised(variables, batch, jax.random.key(1), 0.5, Context(network, config))
        return jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(state.params))

    (joint, (metrics, statistics)), gradient = differentiated(objective(config), batch)
    (alone, (its_metrics, its_statistics)), its_gradient = differentiated(OBJECTIVES[method], batch)
    swapped = Batch(np.arange(2), images[2], labels[1])  # what a source-only training on the labelled patches would minimise
    (target, _), target_gradient = differentiated(OBJECTIVES["ft"], swapped)
    assert joint == pytest.approx(alone + target, rel=1e-5)
    assert metrics["segmentation_target"] == pytest.approx(target, rel=1e-5)
    for name, value in its_metrics.items():
        assert metrics[name] == pytest.approx(value, rel=1e-5)
    close = lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, statistics, its_statistics)
    jax.tree.map(lambda both, one, other: close(both, one + other), gradient, its_gradient, target_gradient)


def test_without_it_nothing_changes():
    for method in METHODS:
        assert objective(Experiment(method=method)) is OBJECTIVES[method]
    assert [images_per_step(tiny(method=method, semi_supervised=how)) for method in ("ft", "ynet")
            for how in ("finetune", "joint")] == [2, 4, 4, 6]


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_labelled_patches_leave_the_others_as_they_are_and_lie_in_the_boxes(kind):
    config = choose_labels(resolve(tiny(sampling=Sampling(patch_size=16, batch_size=8, reader=kind))))
    source, target = (training_region(open_domain(getattr(config, name), 10.0, f"--config.{name}", labels), config)
                      for name, labels in (("source", True), ("target", False)))
    labelled = labelled_region(config)
    truth = open_volume(config.target.labels).read().result() > 0
    image = open_volume(config.target.image).read().result()
    inside = np.zeros(SHAPE, bool)
    for text in config.labelled_boxes:
        inside[parse_region(text, SHAPE).slices] = True
    windows = {cut.tobytes(): (section, row, column) for section in range(4) for row in range(49) for column in range(81)
               for cut in [image[section, row:row + 16, column:column + 16]]}
    with_, without = make_reader(source, target, config, labelled), make_reader(source, target, config)
    alone = make_reader(source, None, config, labelled)  # as a method without target does
    for step in range(3):
        raw, usual, its = with_.batch(step), without.batch(step), alone.batch(step)
        assert raw.keys() - usual.keys() == {"labelled", "labelled_labels", "labelled_statistics"}
        for name in usual:
            np.testing.assert_array_equal(raw[name], usual[name])
        for name in its:
            np.testing.assert_array_equal(raw[name], its[name])
        for patch, labels in zip(np.asarray(raw["labelled"])[0, ..., 0], np.asarray(raw["labelled_labels"])[0], strict=True):
            section, row, column = windows[patch.tobytes()]
            place = (section, slice(row, row + 16), slice(column, column + 16))
            assert inside[place].all()
            np.testing.assert_array_equal(labels, truth[place])


def test_only_the_listed_labels_change_what_is_learnt(tmp_path):
    """Noise in all other labels gives the same parameters; noise in the listed ones gives others."""
    config = choose_labels(resolve(tiny(target=domain("target", validation_fraction=0.1, test_fraction=0.3))))
    truth = open_volume(config.target.labels).read().result()
    chosen = np.zeros(SHAPE, bool)
    for text in config.labelled_boxes:
        chosen[parse_region(text, SHAPE).slices] = True
    states = {}
    for where, changed in (("nowhere", np.zeros(SHAPE, bool)), ("outside", ~chosen), ("inside", chosen)):
        noise = np.random.default_rng(0).integers(0, 200, SHAPE, np.uint8)  # beyond the classes, where it must not be seen
        labels = np.where(changed, noise % 2 if where == "inside" else noise, truth > 0).astype(np.uint8)
        with create_volume(str(tmp_path / f"{where}.zarr"), SHAPE, np.uint8, 10.0) as store:
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
    assert config.labelled_boxes == supervised(config, 0.4).finetuning.boxes
    boxes = [parse_region(text, SHAPE) for text in json.loads((tmp_path / "run" / "config.json").read_text())["labelled_boxes"]]
    assert sum(np.prod(box.shape) for box in boxes) / (4 * 64 * 67) == pytest.approx(0.4, abs=0.01)
    assert all(box.stop[2] <= 67 for box in boxes)
    assert "segmentation_target" in read_metrics(tmp_path / "run")[-1]
    again = yseg.train(tiny(), tmp_path / "run", quiet=True)  # the same config continues it
    assert again["step"] == 3
    yseg.finetune(tmp_path / "run", tmp_path / "tuned", 0.5, steps=1, quiet=True)
    assert read_config(tmp_path / "tuned").semi_supervised == "finetune"


@pytest.mark.parametrize(("changes", "named"), [
    ({"semi_supervised": "often"}, "--config.semi_supervised='often': must be one of finetune, joint"),
    ({"labelled_fraction": 0.0}, "--config.labelled_fraction=0.0: must be above 0"),
    ({"semi_supervised": "finetune", "labelled_boxes": ("0:1,:,:",)}, "--config.labelled_boxes"),
    ({"method": "ft", "finetuning": FineTuning(boxes=("0:1,:,:",))}, "--config.semi_supervised=joint: must be finetune"),
    ({"labelled_boxes": ("0:1,:,:",)}, r"--config.labelled_boxes=.*must lie in"),
    ({"target": domain("target", labels="")}, "--config.target.labels is empty"),
])
def test_what_is_wrong_is_named_and_leaves_no_workdir(changes, named, tmp_path):
    with pytest.raises(yseg.InputError, match=named):
        yseg.train(tiny(**changes), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_share_of_some_sections_has_no_others():
    box = parse_region("2:10,:,:", (12, 20, 30))
    boxes = share_of(box, 0.5, 3, sections=[2, 5, 6, 9])
    assert {each.start[0] for each in boxes} < {2, 5, 6, 9}
    assert sum(each.shape[0] * each.shape[1] for each in boxes) == 40
    assert share_of(box, 0.5, 3, sections=range(2, 10)) == share_of(box, 0.5, 3)
