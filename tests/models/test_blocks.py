"""The parts of the networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from yseg.config import Model
from yseg.models import segmentation_network
from yseg.models.blocks import max_pool


def test_max_pool_is_the_maximum_of_every_two_by_two_pixels():
    x = np.random.default_rng(0).normal(size=(2, 8, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(max_pool(x), x.reshape(2, 4, 2, 3, 2, 3).max(axis=(2, 4)))


def test_max_pool_hands_the_whole_gradient_to_one_of_equal_pixels():
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x)))(jnp.ones((1, 4, 4, 2)))
    np.testing.assert_array_equal(gradient.reshape(1, 2, 2, 2, 2, 2).sum(axis=(2, 4)), 1)
    assert set(np.unique(gradient)) == {0, 1}


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
