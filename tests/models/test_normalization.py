"""Batch normalisation with its own backward pass, against that of flax and against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from yseg.models.blocks import ACTIVATIONS
from yseg.models.normalization import EPSILON, MOMENTUM, BatchNorm, normalized, unchanged

SHAPE = (3, 8, 6, 5)
activations = pytest.mark.parametrize("activate", [unchanged, *ACTIVATIONS.values()], ids=["unchanged", *ACTIVATIONS])


def arrays(dtype=np.float32):
    """Maps, scale, offset, and weights of the result."""
    random = np.random.default_rng(0)
    x = random.normal(2, 3, SHAPE).astype(dtype)
    scale, offset = (random.normal(mean, 0.5, SHAPE[-1:]).astype(dtype) for mean in (1, 0))
    return x, scale, offset, random.normal(size=SHAPE).astype(dtype)


def of_flax(activate, x, scale, offset, train=True):
    """(result, running statistics) of flax's layer, from zeros and ones."""
    layer = nn.BatchNorm(use_running_average=not train, momentum=MOMENTUM, epsilon=EPSILON)
    variables = layer.init(jax.random.key(0), x) | {"params": {"scale": scale, "bias": offset}}
    y, updated = layer.apply(variables, x, mutable=["batch_stats"])
    return activate(y), updated["batch_stats"]


@activations
@pytest.mark.parametrize("train", [True, False])
def test_result_and_running_statistics_are_those_of_flax(activate, train):
    x, scale, offset, _ = arrays()
    layer = BatchNorm(activate)
    variables = layer.init(jax.random.key(0), x, True)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"scale": (5,), "bias": (5,)},
                                                  "batch_stats": {"mean": (5,), "var": (5,)}}
    y, updated = layer.apply(variables | {"params": {"scale": scale, "bias": offset}}, x, train, mutable=["batch_stats"])
    expected, statistics = of_flax(activate, x, scale, offset, train)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for name, values in statistics.items():
        np.testing.assert_allclose(updated["batch_stats"][name], values, rtol=1e-5, atol=1e-6)


@activations
def test_gradients_are_those_of_flax(activate):
    x, scale, offset, weights = arrays()
    ours = jax.jit(jax.grad(lambda *given: jnp.sum(weights * normalized(*given, activate=activate)[0]), (0, 1, 2)))
    theirs = jax.grad(lambda *given: jnp.sum(weights * of_flax(activate, *given)[0]), (0, 1, 2))
    for found, expected in zip(ours(x, scale, offset), theirs(x, scale, offset), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_gradient_is_that_of_finite_differences_in_float64():
    x, scale, offset, weights = arrays(np.float64)

    def loss(x, scale, offset):
        y = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + EPSILON) * scale + offset
        return np.sum(weights * np.log1p(np.exp(y)))

    softplus = jax.nn.softplus
    given = [values.astype(np.float32) for values in (x, scale, offset)]
    of_ours = lambda *given: jnp.sum(weights.astype(np.float32) * normalized(*given, activate=softplus)[0])  # noqa: E731
    found = jax.grad(of_ours, (0, 1, 2))(*given)
    for number, place in ((0, (1, 2, 3, 4)), (0, (0, 0, 0, 0)), (1, (2,)), (2, (4,))):
        ends = []
        for step in (1e-5, -1e-5):
            moved = [values.copy() for values in (x, scale, offset)]
            moved[number][place] += step
            ends.append(loss(*moved))
        np.testing.assert_allclose(found[number][place], (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-4)


def test_in_bfloat16_the_statistics_are_of_float32():
    x, scale, offset, _ = arrays()
    half = jnp.asarray(x, jnp.bfloat16)
    y, mean, variance = normalized(half, scale, offset)
    assert (y.dtype, mean.dtype, variance.dtype) == (jnp.float32,) * 3
    np.testing.assert_allclose(mean, np.asarray(half, np.float64).mean((0, 1, 2)), rtol=1e-5)
    layer = BatchNorm(nn.relu, "bfloat16")
    assert layer.apply(layer.init(jax.random.key(0), half, True), half, True, mutable=["batch_stats"])[0].dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: normalized(x, scale, offset, activate=nn.relu)[0].sum())(half)
    assert gradient.dtype == jnp.bfloat16


def test_of_a_training_only_the_incoming_maps_are_kept():
    """Of a layer with a map for each sample, pixel and channel, the derived pass keeps three."""
    x, scale, offset, weights = arrays()

    def kept(function):
        _, backward = jax.vjp(function, x, scale, offset)
        return sum(leaf.size == x.size for leaf in jax.tree.leaves(backward))

    assert kept(lambda *given: jnp.sum(weights * normalized(*given, activate=nn.silu)[0])) <= 2  # x, and the weights
    assert kept(lambda *given: jnp.sum(weights * of_flax(nn.silu, *given)[0])) > 2
