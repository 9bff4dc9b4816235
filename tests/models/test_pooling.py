"""Max-pooling: every form has the same values and the same gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from yseg.config import Model
from yseg.models import segmentation_network
from yseg.models.pooling import max_pool, selected_maximum, window_maximum

each_form = pytest.mark.parametrize("pool", [max_pool, selected_maximum, window_maximum])


@each_form
def test_max_pool_is_the_maximum_of_every_two_by_two_pixels(pool):
    x = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(pool(x), x.reshape(2, 4, 2, 3, 2, 3).max(axis=(2, 4)))


@each_form
def test_max_pool_hands_the_whole_gradient_to_the_first_of_the_largest_pixels(pool):
    random = np.random.default_rng(0)
    x = random.integers(0, 3, (2, 8, 6, 3)).astype(np.float32)  # many are equal
    weights = random.normal(size=(2, 4, 3, 3)).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(weights * pool(x))))(x)
    windows = x.reshape(2, 4, 2, 3, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(2, 4, 3, 3, 4)
    expected = weights[..., None] * np.eye(4, dtype=np.float32)[windows.argmax(-1)]
    expected = expected.reshape(2, 4, 3, 3, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(x.shape)
    np.testing.assert_array_equal(gradient, expected)


def test_an_accelerator_pools_by_windows_and_a_cpu_does_not():
    traced = jax.jit(jax.grad(lambda x: jnp.sum(max_pool(x) ** 2))).trace(jnp.zeros((1, 4, 4, 2)))
    forms = {}
    for platform in ("cpu", "cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        forms[platform] = ["stablehlo.reduce_window" in text, "stablehlo.select_and_scatter" in text]
    assert forms == {"cpu": [False, False], "cuda": [True, True], "tpu": [True, True]}


@pytest.mark.parametrize("size", [16, 96])
def test_gradient_of_a_network_is_that_of_a_reduced_window(monkeypatch, size):
    """At 96 pixels XLA computes what is pooled twice, and rounds it differently: `jnp.maximum` would be wrong by a third."""
    network = segmentation_network(Model(levels=1, features=4))
    x = np.random.default_rng(0).normal(size=(1, size, size, 1)).astype(np.float32)
    variables = network.init(jax.random.key(0), x, True, None)

    def gradient():
        def loss(params):
            logits, _ = network.apply(variables | {"params": params}, x, True, None, mutable=["batch_stats"])
            return jnp.mean(logits ** 2)
        return jax.jit(jax.grad(loss))(variables["params"])

    ours = gradient()
    monkeypatch.setattr("yseg.models.blocks.max_pool", lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)))
    for leaf, reference in zip(jax.tree.leaves(ours), jax.tree.leaves(gradient()), strict=True):
        np.testing.assert_allclose(leaf, reference, rtol=0, atol=1e-4 * max(np.abs(reference).max(), 1e-3))
