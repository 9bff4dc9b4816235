"""Tiles of an axis: they cover it, are blended with weights that sum to one, and are as large as the network's view asks for."""

import jax
import numpy as np
import pytest
from tiled import random_network

from yseg.config import Inference, InputError, Model
from yseg.inference.tiling import make_tiling
from yseg.models import segmentation_network
from yseg.models.unet import receptive_radius


@pytest.mark.parametrize("overlap", [0, 4, 16])
@pytest.mark.parametrize("span", [(0, 300), (13, 14), (5, 161)])
def test_weights_sum_to_one_and_cores_cover_the_span(overlap, span):
    network = segmentation_network(Model(levels=2, features=4))
    tiling = make_tiling(network, Inference(tile_size=144, overlap=overlap), [span, (0, 7)])
    starts = tiling.starts(*span)
    assert starts[0] <= span[0]
    assert starts[-1] + tiling.core >= span[1]
    assert tiling.size <= 144
    assert all(size % network.multiple == 0 for size in (tiling.size, tiling.halo, *starts))
    weights = tiling.weights(len(starts))
    total = np.zeros(starts[-1] + tiling.core)
    for start, weight in zip(starts, weights, strict=True):
        total[start:start + tiling.core] += weight
    np.testing.assert_allclose(total[starts[0]:], 1, atol=1e-6)
    if len(starts) > 1 and overlap:
        ramp = weights[1][:tiling.overlap]
        assert (np.diff(ramp) > 0).all()
        assert ramp[0] < 0.05
        assert ramp[-1] > 0.95


@pytest.mark.parametrize(("levels", "overlap"), [(1, 6), (1, 0), (2, 5)])
def test_a_tile_that_is_too_small_is_refused_with_the_smallest_allowed(levels, overlap):
    network = segmentation_network(Model(levels=levels, features=4))
    rounded = -(-overlap // network.multiple) * network.multiple
    smallest = 2 * network.halo + rounded + network.multiple
    for size in (16, smallest - 1):
        with pytest.raises(InputError, match=f"^inference.tile_size={size}: must be at least {smallest} ") as raised:
            make_tiling(network, Inference(tile_size=size, overlap=overlap), [(0, 50)])
        assert "\n" not in str(raised.value)
    assert make_tiling(network, Inference(tile_size=smallest, overlap=overlap), [(0, 50)]).size == smallest


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_receptive_radius_is_reached_and_not_exceeded(levels):
    # All weights positive and no normalisation: the answer to a single bright row is positive exactly where it is seen.
    network = segmentation_network(Model(levels=levels, features=1, normalization="none"))
    radius, multiple = receptive_radius(levels), 2**levels
    middle = (radius // multiple + 2) * multiple
    image = np.zeros((1, 2 * middle, multiple, 1), np.float32)
    shape = jax.eval_shape(network.init, jax.random.key(0), image)
    apply = jax.jit(network.apply)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, 0.5 * (path[-1].key == "kernel"), np.float32), shape)
    reached = 0
    for offset in range(multiple):
        pixel = middle + offset
        image[:] = 0
        image[0, pixel] = 1
        rows = np.flatnonzero(np.asarray(apply(variables, image))[0].any((1, 2)))
        reached = max(reached, pixel - rows[0], rows[-1] - pixel)
    assert reached == radius <= network.halo


def test_nothing_beyond_the_halo_counts():
    network, variables = random_network(Model(levels=1, features=4))
    core, halo = 8, network.halo
    image = np.random.default_rng(0).normal(size=(1, *[3 * halo + core] * 2, 1)).astype(np.float32)
    other = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)
    first = halo // 2 // network.multiple * network.multiple
    inside = np.s_[:, first:first + 2 * halo + core, first:first + 2 * halo + core]
    other[inside] = image[inside]
    seen = np.s_[0, first + halo:first + halo + core, first + halo:first + halo + core]
    apply = jax.jit(network.apply)
    results = [np.asarray(apply(variables, values))[seen] for values in (image, other)]
    np.testing.assert_allclose(*results, atol=1e-6)
    alone = np.asarray(apply(variables, image[inside]))[0, halo:-halo, halo:-halo]
    np.testing.assert_allclose(alone, results[0], atol=1e-5)
