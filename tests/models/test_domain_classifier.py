"""The domain classifier and the discriminator of outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from yseg.losses import domain_accuracy, domain_loss
from yseg.models import DomainClassifier, OutputDiscriminator


def test_logits_are_those_of_two_hidden_layers():
    features = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    classifier = DomainClassifier(hidden=6)
    variables = classifier.init(jax.random.key(0), features)
    x = features.astype(np.float64)
    for layer in range(3):
        kernel, bias = (np.asarray(variables["params"][f"Dense_{layer}"][name], np.float64) for name in ("kernel", "bias"))
        x = x @ kernel + bias
        x = np.maximum(x, 0) if layer < 2 else x
    logits = classifier.apply(variables, features)
    assert (logits.shape, logits.dtype) == ((7,), jnp.float32)
    np.testing.assert_allclose(logits, x[:, 0], rtol=1e-4, atol=1e-5)


def test_features_in_bfloat16_give_float32_logits():
    features = jnp.ones((3, 4), jnp.bfloat16)
    classifier = DomainClassifier(hidden=2)
    variables = classifier.init(jax.random.key(0), features)
    assert classifier.apply(variables, features).dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_it_learns_what_no_linear_classifier_can():
    """Source near the origin, target on a ring around it."""
    random = np.random.default_rng(0)
    angle = random.uniform(0, 2 * np.pi, 200)
    target = 3 * np.stack([np.cos(angle), np.sin(angle)], 1) + random.normal(0, 0.2, (200, 2))
    source, target = random.normal(0, 0.5, (200, 2)).astype(np.float32), target.astype(np.float32)
    classifier, optimizer = DomainClassifier(hidden=16), optax.adam(0.02)
    params = classifier.init(jax.random.key(0), source)

    def logits(params):
        return classifier.apply(params, source), classifier.apply(params, target)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(lambda params: domain_loss(*logits(params)))(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(100):
        params, state = step(params, state)
    assert domain_accuracy(*logits(params)) > 0.95


def strided(x, kernel, bias, stride):
    """A convolution over a frame of one zero, as sums of products in float64. A frame of odd size gets another zero behind."""
    size, (height, width) = kernel.shape[0], (-(-side // stride) for side in x.shape[1:3])
    x = np.pad(x, ((0, 0), (1, 1 + x.shape[1] % stride), (1, 1 + x.shape[2] % stride), (0, 0)))
    return bias + sum(
        x[:, row:row + stride * height:stride, column:column + stride * width:stride][:, :height, :width] @ kernel[row, column]
        for row in range(size) for column in range(size))


@pytest.mark.parametrize("size", [(16, 24), (11, 6), (2, 2)])
def test_discriminator_is_three_strided_convolutions_of_4x4_and_one_of_3x3(size):
    probabilities = np.random.default_rng(0).uniform(size=(2, *size, 3)).astype(np.float32)
    discriminator = OutputDiscriminator(hidden=4)
    variables = discriminator.init(jax.random.key(0), probabilities)
    x = probabilities.astype(np.float64)
    for layer in range(4):
        kernel, bias = (np.asarray(variables["params"][f"Conv_{layer}"][name], np.float64) for name in ("kernel", "bias"))
        if layer < 3:  # the cells of 2x2 pixels, taken apart
            kernel = kernel.reshape(2, 2, 2, 2, -1, 4 * 2**layer).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, -1, 4 * 2**layer)
        x = strided(x, kernel, bias, 2 if layer < 3 else 1)
        x = np.where(x < 0, 0.2 * x, x) if layer < 3 else x
    logits = discriminator.apply(variables, probabilities)
    assert (logits.shape, logits.dtype) == ((2, *(-(-side // 8) for side in size)), jnp.float32)
    np.testing.assert_allclose(logits, x[..., 0], rtol=1e-4, atol=1e-5)


def test_logits_of_a_sample_are_its_own_and_of_a_place_those_of_its_neighbourhood():
    images = np.random.default_rng(0).uniform(size=(2, 96, 96, 2)).astype(np.float32)
    discriminator = OutputDiscriminator(hidden=4)
    variables = discriminator.init(jax.random.key(0), images)
    before, changed = discriminator.apply(variables, images), images.copy()
    changed[0, 48:, :, 0] += 1
    after = discriminator.apply(variables, changed)
    np.testing.assert_array_equal(after[1], before[1])
    seen = (np.abs(after - before)[0].max(axis=1) > 1e-6).tolist()
    assert seen == [8 * place + 7 + 15 >= 48 for place in range(12)]
