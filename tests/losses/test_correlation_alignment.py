"""CORAL against its definition in float64 NumPy."""

import doctest
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from yseg.losses import coral

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def reference(source, target):
    covariances = [np.atleast_2d(np.cov(sample.astype(np.float64), rowvar=False)) for sample in (source, target)]
    return np.linalg.norm(covariances[0] - covariances[1], "fro") ** 2 / (4 * source.shape[1] ** 2)


def samples(n=7, m=5, d=3, offset=0.0):
    random = np.random.default_rng(0)
    source, target = random.normal(size=(n, d)), random.normal(size=(m, d)) * np.linspace(0.5, 2, d)
    return (source + offset).astype(np.float32), (target + offset).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_value_and_gradients_are_those_of_the_definition(offset):
    source, target = samples(offset=offset)
    value, gradients = jax.value_and_grad(coral, argnums=(0, 1))(source, target)
    assert value.dtype == jnp.float32
    assert value.shape == ()
    # A float32 near 1e4 is a multiple of 1/1024: its mean is known to about that, the covariance to its square.
    np.testing.assert_allclose(value, reference(source, target), rtol=1e-5 if offset == 0 else 1e-4)
    flat = np.concatenate([source, target]).astype(np.float64).ravel() - offset
    numerical = approx_fprime(flat, lambda x: reference(*np.split(x.reshape(-1, 3), [len(source)])))
    np.testing.assert_allclose(np.concatenate(gradients).ravel(), numerical, atol=2e-6 if offset == 0 else 1e-3, rtol=1e-4)


def test_known_covariances_give_the_known_distance():
    source = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # covariance 2/3 I
    target = jnp.array([[3.0, 3.0], [-3.0, -3.0], [0.0, 0.0], [0.0, 0.0]])  # covariance 6 everywhere
    expected = (2 * (6 - 2 / 3) ** 2 + 2 * 6**2) / (4 * 2**2)
    np.testing.assert_allclose(coral(source, target), expected, rtol=1e-6)


def test_samples_of_one_covariance_give_zero_and_no_gradient():
    source, _ = samples()
    value, gradient = jax.value_and_grad(coral)(source, source[::-1] + np.float32(2))
    np.testing.assert_allclose(value, 0, atol=1e-10)
    np.testing.assert_allclose(gradient, np.zeros_like(gradient), atol=1e-6)


def test_one_channel_compares_variances():
    source, target = samples(d=1)
    np.testing.assert_allclose(coral(source, target), reference(source, target), rtol=1e-5)


def test_bfloat16_features_are_promoted():
    source, target = (jnp.asarray(sample, jnp.bfloat16) for sample in samples())
    value = coral(source, target)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, reference(np.asarray(source), np.asarray(target)), rtol=1e-5)


@pytest.mark.parametrize(("rows", "name"), [((1, 4), "source"), ((4, 1), "target")])
def test_a_single_feature_vector_is_refused(rows, name):
    with pytest.raises(ValueError, match=f"{name}: must have at least 2 rows, has 1"):
        coral(*(jnp.ones((count, 3)) for count in rows))


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sys.modules["yseg.losses.correlation_alignment"]) == (0, 1)
