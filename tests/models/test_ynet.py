"""Y-Net: a U-Net with a reconstruction decoder that can be taken off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg.models import UNet, YNet

FIELDS = {"levels": 2, "features": 4}


@pytest.fixture(scope="module", params=["batch", "instance"])
def trained(request):
    """A Y-Net with variables that are not those of its initialisation: (network, variables, images)."""
    network = YNet(sections=3, normalization=request.param, **FIELDS)
    random = np.random.default_rng(0)
    images = jnp.asarray(random.normal(size=(2, 16, 8, 3)), jnp.float32)
    init = jax.jit(lambda key: network.init(key, images, method="everything"),
                   compiler_options={"xla_backend_optimization_level": 0})
    variables = jax.tree.map(lambda leaf: leaf + random.uniform(0, 0.3, leaf.shape).astype(np.float32), init(jax.random.key(0)))
    return network, variables, images


def test_without_its_reconstruction_decoder_it_gives_the_very_same_segmentation(trained):
    network, variables, images = trained
    whole, _ = network.apply(variables, images, method="everything")
    part = YNet.segmentation_variables(variables)
    assert set(part["params"]) == {"encoder", "decoder"}
    unet = UNet(normalization=network.normalization, **FIELDS)
    np.testing.assert_array_equal(unet.apply(part, images), whole)
    np.testing.assert_array_equal(network.apply(variables, images), whole)


def test_what_is_taken_off_is_all_that_a_unet_does_not_have(trained):
    network, variables, images = trained
    unet = jax.eval_shape(UNet(normalization=network.normalization, **FIELDS).init, jax.random.key(0), images)
    part = YNet.segmentation_variables(variables)
    assert jax.tree.map(jnp.shape, part) == jax.tree.map(jnp.shape, unet)


def test_reconstruction_has_the_shape_of_the_images(trained):
    network, variables, images = trained
    _, rebuilt = network.apply(variables, images, method="everything")
    assert (rebuilt.shape, rebuilt.dtype) == (images.shape, jnp.float32)


def test_reconstruction_sees_the_bottleneck_alone(trained):
    network, variables, images = trained
    activations = network.apply(variables, images, method="encode")
    _, rebuilt = network.apply(variables, images, method="everything")
    np.testing.assert_array_equal(network.apply(variables, activations[-1:], method="reconstruct"), rebuilt)
    poisoned = (*(jnp.full_like(x, jnp.nan) for x in activations[:-1]), activations[-1])
    np.testing.assert_array_equal(network.apply(variables, poisoned, method="reconstruct"), rebuilt)


def test_segmentation_uses_every_level(trained):
    network, variables, images = trained
    activations = network.apply(variables, images, method="encode")
    logits = network.apply(variables, activations, method="decode")
    for level in range(len(activations)):
        changed = [2 * x if place == level else x for place, x in enumerate(activations)]
        assert np.abs(np.asarray(network.apply(variables, changed, method="decode") - logits)).max() > 1e-4
