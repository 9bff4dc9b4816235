"""The U-Net and the blocks it is made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg.config import Model
from yseg.models import UNet, reconstruction_network, segmentation_network
from yseg.models.blocks import ACTIVATIONS, Normalization, Upsample, block_keys, drop_maps

FAST = {"xla_backend_optimization_level": 0}  # compiling takes most of the time


def initialise(network, sections=1, seed=0):
    images = jnp.zeros((1, 8, 8, sections))
    return jax.jit(network.init, compiler_options=FAST)(jax.random.key(seed), images)


def applied(network, *arguments, **options):
    """`network.apply`, compiled as a whole: its operations one by one would take longer."""
    return jax.jit(functools.partial(network.apply, **options), static_argnums=2, compiler_options=FAST)(*arguments)


def images_of(seed, batch=2, size=16, sections=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(batch, size, size, sections)), jnp.float32)


@pytest.mark.parametrize("options", [
    {"normalization": "batch"}, {"normalization": "instance"}, {"normalization": "group", "groups": 2}, {"normalization": "none"},
    {"residual": True}, {"dtype": "bfloat16"}, {"dtype": "bfloat16", "normalization": "instance"}, {"classes": 5}, {"levels": 3},
], ids=str)
def test_shapes_and_types_of_every_option(options):
    network = UNet(**{"levels": 2, "features": 4, **options})
    images = jnp.zeros((2, 24, 16, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert ("batch_stats" in variables) == (network.normalization == "batch")
    activations = jax.eval_shape(functools.partial(network.apply, method="encode"), variables, images)
    assert [x.shape for x in activations] == [(2, 24 >> i, 16 >> i, 4 << i) for i in range(network.levels + 1)]
    assert {x.dtype for x in activations} == {jnp.dtype(network.dtype)}
    logits = jax.eval_shape(network.apply, variables, images)
    assert (logits.shape, logits.dtype) == ((2, 24, 16, network.classes), jnp.float32)
    assert network.halo % network.multiple == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_is_the_one_that_is_asked_for(activation):
    network = UNet(levels=1, features=2, normalization="none", activation=activation)
    images = images_of(0, batch=1, size=4)
    variables = initialise(network)
    kernels = variables["params"]["encoder"]["level_0"]
    x = np.asarray(images, np.float64)
    reference = {"relu": lambda x: np.maximum(x, 0), "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
                 "elu": lambda x: np.where(x > 0, x, np.expm1(x)), "silu": lambda x: x / (1 + np.exp(-x)),
                 "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))}[activation]
    for name in ("Conv_0", "Conv_1"):
        kernel, bias = (np.asarray(kernels[name][part], np.float64) for part in ("kernel", "bias"))
        x = reference(convolve(x, kernel) + bias)
    level_0 = network.apply(variables, images, method="encode")[0]
    np.testing.assert_allclose(level_0, x, rtol=1e-4, atol=1e-5)


def convolve(x, kernel):
    """3x3 convolution [batch, y, x, channel] with zeros around, term by term."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(padded[:, i:i + height, j:j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def test_residual_block_without_convolutions_passes_its_projected_input_on():
    network = UNet(levels=1, features=2, normalization="none", residual=True)
    variables = jax.tree.map(jnp.zeros_like, initialise(network))
    variables["params"]["encoder"]["level_0"]["Dense_0"]["kernel"] = jnp.array([[1.0, -1.0]])
    images = images_of(1, size=4)
    level_0 = network.apply(variables, images, method="encode")[0]
    np.testing.assert_array_equal(level_0, np.maximum(np.concatenate([images, -images], -1), 0))


def test_upsample_is_the_transposed_convolution_of_size_2_and_stride_2():
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 3, 5, 4)).astype(np.float32)
    layer = Upsample(6)
    variables = layer.init(jax.random.key(0), x)
    kernel = np.asarray(variables["params"]["Dense_0"]["kernel"], np.float64).reshape(4, 2, 2, 6)  # channel in, y, x, channel out
    bias = random.normal(size=24).astype(np.float32)
    variables["params"]["Dense_0"]["bias"] = bias
    expected = np.zeros((2, 6, 10, 6))
    for y in range(3):
        for column in range(5):
            for i in range(2):
                for j in range(2):
                    expected[:, 2 * y + i, 2 * column + j] = x[:, y, column] @ kernel[:, i, j] + bias.reshape(2, 2, 6)[i, j]
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "axes"), [("instance", (1, 2)), ("group", (1, 2, 4)), ("batch", (0, 1, 2))])
def test_normalised_maps_have_mean_0_and_deviation_1(kind, axes):
    layer = Normalization(kind, groups=2)
    x = jnp.asarray(np.random.default_rng(0).normal(3, 5, (3, 8, 8, 6)), jnp.float32)
    result = layer.apply(layer.init(jax.random.key(0), x, True), x, True, mutable=["batch_stats"])[0]
    grouped = np.asarray(result, np.float64).reshape(3, 8, 8, 2, 3) if kind == "group" else np.asarray(result, np.float64)
    np.testing.assert_allclose(grouped.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(grouped.std(axes), 1, atol=1e-4)


class TestDropout:
    def test_whole_maps_are_dropped_and_the_others_scaled(self):
        x = jnp.ones((300, 2, 2, 40))
        dropped = np.asarray(drop_maps(x, jax.random.split(jax.random.key(0), 300), 0.25))
        assert (dropped == dropped[:, :1, :1]).all()
        np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75], rtol=1e-6)
        assert abs((dropped[:, 0, 0] == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 12000)

    def test_every_block_of_the_network_has_masks_of_its_own(self):
        keys = jax.random.split(jax.random.key(0), 1)
        paths = [(part, f"level_{level}") for part in ("encoder", "decoder", "reconstruction") for level in range(8)]
        found = {tuple(np.asarray(jax.random.key_data(block_keys(keys, path))).ravel().tolist()) for path in paths}
        assert len(found) == len(paths)

    def test_encoder_and_decoder_of_one_level_drop_different_maps(self):
        network = UNet(levels=1, features=16, normalization="none", dropout=0.5)
        variables = initialise(network)
        keys = jax.random.split(jax.random.key(1), 4)

        def masks(images):
            _, seen = applied(network, variables, images, True, keys, capture_intermediates=True)
            blocks = [seen["intermediates"][part]["level_0"]["__call__"][0] for part in ("encoder", "decoder")]
            return [(block == 0).all(axis=(1, 2)) for block in blocks]

        encoder, decoder = masks(images_of(2, batch=4))
        assert encoder.any()
        assert decoder.any()
        assert (encoder != decoder).any()

    def test_mask_of_a_sample_does_not_depend_on_its_batch(self):
        network = UNet(levels=2, features=4, normalization="instance", dropout=0.4)
        variables, images = initialise(network), images_of(3, batch=4)
        keys = jax.random.split(jax.random.key(1), 4)
        whole = applied(network, variables, images, True, keys)
        part = applied(network, variables, images[2:3], True, keys[2:3])
        np.testing.assert_allclose(whole[2:3], part, rtol=1e-5, atol=1e-5)
        other = applied(network, variables, images[2:3], True, keys[1:2])
        assert np.abs(np.asarray(part - other)).max() > 0.01

    def test_inference_drops_nothing(self):
        network = UNet(levels=1, features=4, dropout=0.5, normalization="none")
        variables, images = initialise(network), images_of(4)
        plain = UNet(levels=1, features=4, normalization="none").apply(variables, images)
        np.testing.assert_array_equal(network.apply(variables, images, False, jax.random.split(jax.random.key(0), 2)), plain)


def test_bfloat16_is_close_to_float32():
    images = images_of(5)
    exact = UNet(levels=2, features=4, normalization="instance")
    variables = initialise(exact)
    coarse = UNet(levels=2, features=4, normalization="instance", dtype="bfloat16")
    coarse, exact = applied(coarse, variables, images), applied(exact, variables, images)
    assert 0 < np.abs(np.asarray(coarse - exact)).max() < 0.1 * np.abs(np.asarray(exact)).max()


def test_the_network_is_the_one_that_the_config_describes():
    model = Model(levels=2, features=6, classes=3, sections=5, normalization="group", groups=3, dropout=0.1, activation="elu",
                  residual=True, compute_dtype="bfloat16")
    for build in (segmentation_network, reconstruction_network):
        network = build(model, "devices")
        assert (network.levels, network.features, network.classes, network.normalization, network.groups, network.dropout,
                network.activation, network.residual, network.dtype, network.axis_name) == (
                    2, 6, 3, "group", 3, 0.1, "elu", True, "bfloat16", "devices")
    assert network.sections == 5


@pytest.mark.parametrize(("build", "whole"), [(segmentation_network, None), (reconstruction_network, "everything")])
def test_rematerialised_it_has_the_same_variables_values_and_gradients(build, whole):
    plain, again = (build(Model(levels=1, features=4, dropout=0.5, rematerialise=kind)) for kind in (False, True))
    images, keys = images_of(6), jax.random.split(jax.random.key(1), 2)
    variables, other = (jax.jit(functools.partial(network.init, method=whole), compiler_options=FAST)(jax.random.key(0), images)
                        for network in (plain, again))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), variables, other))

    def results(network):
        def loss(params):
            outputs, updated = network.apply(variables | {"params": params}, images, True, keys, method=whole,
                                             mutable=["batch_stats"])
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(outputs)), updated
        gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=FAST)
        return gradient(variables["params"]), gradient.lower(variables["params"]).as_text().count("stablehlo.convolution")

    (mine, more), (reference, convolutions) = results(again), results(plain)
    for leaf, other in zip(jax.tree.leaves(mine), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-4)
    assert more > convolutions  # some are computed again
