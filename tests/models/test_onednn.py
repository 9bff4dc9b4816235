"""Convolutions by oneDNN, and the gradients of those of training, against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg.config import Model
from yseg.models import onednn, segmentation_network

pytestmark = pytest.mark.skipif(not onednn.available(), reason="this jaxlib or processor has no oneDNN")

# batch, y, x, channel, feature: of fewer pixels than maps; one and many maps.
SHAPES = [(1, 5, 7, 1, 3), (2, 16, 8, 16, 32), (3, 2, 2, 64, 8), (4, 6, 5, 2, 3), (9, 5, 4, 3, 2), (1, 4, 4, 130, 2)]


def arrays(shape):
    batch, height, width, channels, features = shape
    random = np.random.default_rng(0)
    return [random.normal(size=size) for size in ((batch, height, width, channels), (3, 3, channels, features),
                                                  (batch, height, width, features))]


def shifted(x):
    """[row, column, batch, y, x, channel]: what lies under each weight of the kernel."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [[padded[:, row:row + x.shape[1], column:column + x.shape[2]] for column in range(3)] for row in range(3)]


def convolved(x, kernel):
    return sum(part @ kernel[row, column] for row, parts in enumerate(shifted(x)) for column, part in enumerate(parts))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_convolution_offset_and_relu_are_those_of_float64(shape, relu):
    x, kernel, _ = arrays(shape)
    offset = np.random.default_rng(1).normal(size=shape[-1])
    expected = convolved(x, kernel) + offset
    given = [jnp.asarray(values, jnp.float32) for values in (x, kernel, offset)]
    for convolve in (onednn.convolve, onednn.plain):
        found = jax.jit(convolve, static_argnames="relu")(*given, relu=relu)
        np.testing.assert_allclose(found, np.maximum(expected, 0) if relu else expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradients_are_those_of_float64(shape):
    x, kernel, gradient = arrays(shape)
    of_kernel = np.array([[np.einsum("byxc,byxf->cf", part, gradient) for part in parts] for parts in shifted(x)])
    of_x = convolved(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
    given = [jnp.asarray(values, jnp.float32) for values in (x, kernel, gradient)]

    @jax.jit
    def value_and_gradients(x, kernel, gradient):
        value, backward = jax.vjp(onednn.convolution, x, kernel)
        return value, *backward(gradient)

    for mine, expected in zip(value_and_gradients(*given), (convolved(x, kernel), of_x, of_kernel), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("fields", [{}, {"residual": True, "activation": "elu"}, {"normalization": "group", "groups": 2},
                                    {"rematerialise": True}], ids=str)
def test_a_network_that_is_trained_by_it_has_the_same_logits_and_gradients(fields):
    plain = segmentation_network(Model(**{"levels": 2, "features": 4} | fields))
    images = np.random.default_rng(0).normal(size=(2, 16, 24, 1)).astype(np.float32)
    variables = plain.init(jax.random.key(0), images)

    def loss(params, network):
        logits, _ = network.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return (logits * np.linspace(-1, 1, logits.size).reshape(logits.shape)).sum()

    expected, found = (jax.jit(jax.value_and_grad(lambda params, network=network: loss(params, network)))(variables["params"])
                       for network in (plain, plain.clone(by_onednn=True)))
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda mine, theirs: np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=2e-5 * largest), found, expected)


def test_a_long_training_in_float32_pays_and_a_short_one_does_not():
    small = Model(features=16)
    assert onednn.pays(small, 900 * 8 * 96 * 96)
    assert not onednn.pays(small, 100 * 8 * 96 * 96)
    assert not onednn.pays(Model(features=16, compute_dtype="bfloat16"), 10**12)


def test_where_the_call_is_not_known_there_is_no_onednn(monkeypatch):
    monkeypatch.setattr(onednn, "_TARGET", "__onednn$nothing")
    assert not onednn.available.__wrapped__()
