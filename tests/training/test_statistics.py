"""The target's statistics in batch normalisation."""

import jax
import numpy as np
import pytest
import tensorstore as ts

from yseg import parallel
from yseg.config import Experiment, strong_augmentation
from yseg.data.augment import augment_intensity
from yseg.data.grid import Grid
from yseg.data.patches import Region, make_reader
from yseg.methods.parts import sample_keys
from yseg.models import segmentation_network
from yseg.models.normalization import EPSILON, MOMENTUM
from yseg.training.state import create_state
from yseg.training.statistics import BATCHES, make_estimate

MEAN, DEVIATION = 100.0, 20.0


def experiment(method="ft", **model):
    config = Experiment(method=method)
    config.model.levels, config.model.features, config.model.dropout = 1, 2, 0.3
    config.sampling.patch_size, config.sampling.batch_size = 8, 2
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


def reader_of(target):
    config = experiment()
    return make_reader({"target": target}, sampling=config.sampling, sections=1, seed=config.seed)


@pytest.fixture(scope="module")
def target():
    voxels = np.random.default_rng(0).integers(0, 256, (3, 24, 32), np.uint8)
    grid = Grid(voxels.shape, 10.0, 10.0)
    return Region(ts.array(voxels), None, grid, grid.box, None, (MEAN, DEVIATION))


@pytest.fixture(scope="module")
def estimated(target):
    """A state and the same with the target's statistics."""
    config = experiment()
    state = parallel.replicate(create_state(config, jax.random.key(0)))
    return state, make_estimate(config.model, reader_of(target))(state)


@pytest.mark.parametrize("augmentation", [None, strong_augmentation()], ids=["as they are", "augmented"])
def test_they_are_what_each_layer_meets_in_target_patches(augmentation, target, estimated):
    """The first layer sees the patches through one convolution: its moments follow from the patches, in float64."""
    before, after = estimated
    if augmentation:
        after = make_estimate(experiment().model, reader_of(target), seed=5, augmentation=augmentation)(before)
    reader, kernel = reader_of(target), after.params["network"]["encoder"]["level_0"]["Conv_0"]["kernel"]
    augment = jax.jit(jax.vmap(lambda key, image: augment_intensity(key, image, augmentation)))
    means, variances = [], []
    for number in range(BATCHES):
        raw = reader.batch(number)
        images = (np.concatenate(np.asarray(raw["target"])) - MEAN) / DEVIATION
        if augmentation:
            keys = sample_keys(jax.random.fold_in(jax.random.key(5), number), 0, np.concatenate(raw["index"]))
            images = np.asarray(augment(keys, images.astype(np.float32)))
        seen = jax.lax.conv_general_dilated(images.astype(np.float32), kernel, (1, 1), "SAME",
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))
        seen = np.asarray(seen, np.float64)
        means.append(seen.mean((0, 1, 2)))
        variances.append(seen.var((0, 1, 2)))
    weights = MOMENTUM ** np.arange(BATCHES)[::-1]  # a running mean: later batches count a little more
    found = after.target_stats["encoder"]["level_0"]["Normalization_0"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], np.average(means, axis=0, weights=weights), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["var"], np.average(variances, axis=0, weights=weights), rtol=1e-4)


def test_all_layers_are_estimated_and_nothing_else_changes(estimated):
    before, after = estimated
    jax.tree.map(np.testing.assert_array_equal, before.replace(target_stats=None), after.replace(target_stats=None))
    assert jax.tree.structure(after.target_stats) == jax.tree.structure(before.target_stats)
    changed = [np.abs(np.asarray(a) - np.asarray(b)).min()
               for a, b in zip(*map(jax.tree.leaves, (before.target_stats, after.target_stats)), strict=True)]
    assert min(changed) > 0


def test_the_network_normalised_by_them_sees_a_mean_of_0_and_a_variance_of_1(target, estimated):
    """What comes out of every convolution is standardised by them."""
    _, after = estimated
    network = segmentation_network(experiment().model)
    variables = {"params": after.params["network"], "batch_stats": after.target_stats}
    reader = reader_of(target)
    patches = np.concatenate([np.asarray(reader.batch(number)["target"])[0] for number in range(BATCHES)])
    images = (patches.astype(np.float32) - MEAN) / DEVIATION
    _, seen = network.apply(variables, images, capture_intermediates=lambda module, _: type(module).__name__ == "Conv")
    found = 0
    for part in ("encoder", "decoder"):
        for level, block in seen["intermediates"][part].items():
            for number in range(2):
                maps, = block[f"Conv_{number}"]["__call__"]
                own = after.target_stats[part][level][f"Normalization_{number}"]["BatchNorm_0"]
                standard = (np.asarray(maps) - np.asarray(own["mean"])) / np.sqrt(np.asarray(own["var"]) + EPSILON)
                np.testing.assert_allclose(np.mean(standard, (0, 1, 2)), 0, atol=0.1)
                np.testing.assert_allclose(np.var(standard, (0, 1, 2)), 1, atol=0.2)
                found += 1
    assert found == 2 * (2 * experiment().model.levels + 1)


def test_they_do_not_depend_on_what_was_estimated_before(target, estimated):
    before, after = estimated
    again = make_estimate(experiment().model, reader_of(target))(after.replace(step=before.step + 7))
    jax.tree.map(np.testing.assert_array_equal, after.target_stats, again.target_stats)


@pytest.mark.parametrize("normalization", ["instance", "none"])
def test_without_batch_normalisation_the_state_stays(target, normalization):
    config = experiment(normalization=normalization)
    state = create_state(config, jax.random.key(0))
    assert make_estimate(config.model, reader_of(target))(state) is state
