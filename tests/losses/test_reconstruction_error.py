"""The reconstruction loss against its definition in float64 NumPy."""

import doctest
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from yseg.losses import reconstruction

pytestmark = pytest.mark.usefixtures("strict_dtypes")
FORMULAS = {"squared": np.square, "absolute": np.abs}
each_kind = pytest.mark.parametrize("kind", FORMULAS)


@pytest.fixture
def images():
    random = np.random.default_rng(0)
    return tuple(random.normal(size=(2, 3, 4, 2)).astype(np.float32) for _ in range(2))


@each_kind
def test_value_and_gradient_are_those_of_the_definition(kind, images):
    prediction, image = images
    value, gradient = jax.value_and_grad(reconstruction)(prediction, image, kind)
    assert value.dtype == jnp.float32
    assert value.shape == ()

    def formula(flat):
        return np.mean(FORMULAS[kind](flat - image.astype(np.float64).ravel()))

    flat = prediction.astype(np.float64).ravel()
    np.testing.assert_allclose(value, formula(flat), rtol=1e-6)
    np.testing.assert_allclose(gradient.ravel(), approx_fprime(flat, formula), atol=1e-6)


@each_kind
def test_a_perfect_reconstruction_gives_zero_and_no_gradient(kind, images):
    value, gradient = jax.value_and_grad(reconstruction)(images[0], images[0], kind)
    assert value == 0
    assert not gradient.any()


@each_kind
def test_mapped_shards_give_the_global_mean(kind, images):
    shards = jax.vmap(lambda *shard: reconstruction(*shard, kind, axis_name="batch"), axis_name="batch")(*images)
    np.testing.assert_allclose(shards, np.full(2, reconstruction(*images, kind)), rtol=1e-6)


@each_kind
def test_a_bfloat16_prediction_is_promoted(kind, images):
    prediction = jnp.asarray(images[0], jnp.bfloat16)
    value = reconstruction(prediction, images[1], kind)
    assert value.dtype == jnp.float32
    assert value == reconstruction(prediction.astype(jnp.float32), images[1], kind)


def test_an_unknown_kind_is_refused(images):
    with pytest.raises(ValueError, match="kind='l7': must be one of squared, absolute"):
        reconstruction(*images, "l7")


def test_a_prediction_of_another_shape_is_refused(images):
    with pytest.raises(ValueError, match="shape"):
        reconstruction(images[0][..., :1], images[1])


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sys.modules["yseg.losses.reconstruction_error"]) == (0, 1)
