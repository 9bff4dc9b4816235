"""MMD and its bandwidths against their definitions in float64 NumPy."""

import doctest
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.spatial.distance import cdist, pdist

from yseg.losses import median_bandwidths, mmd
from yseg.losses.mean_discrepancy import _median_by_bisection, _median_by_sorting

pytestmark = pytest.mark.usefixtures("strict_dtypes")
BANDWIDTHS = np.array([0.5, 1.0, 2.5], np.float32)
value_and_gradients = jax.jit(jax.value_and_grad(mmd, argnums=(0, 1)))


def reference(source, target, bandwidths):
    def mean_kernel(a, b):
        squared = cdist(a.astype(np.float64), b.astype(np.float64), "sqeuclidean")
        return np.mean([np.exp(-squared / (2 * float(bandwidth) ** 2)) for bandwidth in bandwidths])

    return mean_kernel(source, source) + mean_kernel(target, target) - 2 * mean_kernel(source, target)


def samples(n=7, m=5, d=3, offset=0.0):
    random = np.random.default_rng(0)
    source, target = random.normal(size=(n, d)), random.normal(0.7, 1.5, size=(m, d))
    return (source + offset).astype(np.float32), (target + offset).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_value_and_gradients_are_those_of_the_definition(offset):
    source, target = samples(offset=offset)
    value, gradients = value_and_gradients(source, target, BANDWIDTHS)
    assert value.dtype == jnp.float32
    assert value.shape == ()
    np.testing.assert_allclose(value, reference(source, target, BANDWIDTHS), atol=1e-6, rtol=1e-5)
    flat = np.concatenate([source, target]).astype(np.float64).ravel() - offset
    numerical = approx_fprime(flat, lambda x: reference(*np.split(x.reshape(-1, 3), [len(source)]), BANDWIDTHS))
    np.testing.assert_allclose(np.concatenate(gradients).ravel(), numerical, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 1), (1, 6, 3), (5, 2, 4)])
def test_samples_of_any_size_give_the_definition(n, m, d):
    source, target = samples(n, m, d)
    np.testing.assert_allclose(jax.jit(mmd)(source, target, BANDWIDTHS), reference(source, target, BANDWIDTHS), atol=1e-6)


def test_two_points_give_the_closed_form():
    value = mmd(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0]]), jnp.array([5.0]))
    np.testing.assert_allclose(value, 2 - 2 * np.exp(-0.5), rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_equal_samples_give_zero_and_no_gradient(offset):
    source, _ = samples(offset=offset)
    value, gradients = value_and_gradients(source, source[::-1], BANDWIDTHS)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradients, np.zeros_like(gradients), atol=1e-6)


def test_coinciding_points_give_finite_gradients():
    _, gradients = value_and_gradients(np.full((7, 3), 2, np.float32), np.full((5, 3), 2, np.float32), BANDWIDTHS)
    np.testing.assert_allclose(np.concatenate(gradients), np.zeros((12, 3)), atol=1e-6)


def test_a_step_against_the_gradient_brings_the_samples_closer():
    source, target = samples()
    before, (gradient, _) = value_and_gradients(source, target, BANDWIDTHS)
    after, _ = value_and_gradients(source - gradient, target, BANDWIDTHS)
    assert after < before


def test_bfloat16_features_are_promoted():
    source, target = (jnp.asarray(sample, jnp.bfloat16) for sample in samples())
    value = mmd(source, target, BANDWIDTHS)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, reference(np.asarray(source), np.asarray(target), BANDWIDTHS), atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_bandwidths_are_multiples_of_the_median_distance(offset):
    source, target = samples(9, 6, offset=offset)
    median = np.median(pdist(np.concatenate([source, target]).astype(np.float64)))
    np.testing.assert_allclose(median_bandwidths(source, target, (0.5, 2.0)), [median / 2, median * 2], rtol=1e-4)


@pytest.mark.parametrize("values", [
    [3.0], [2.0, 5.0], [0.0, 4.0, 1.0], [1.0, 1.0, 1.0, 7.0], [0.0, 0.0, 0.0], [5.0, 0.0, 0.0, 9.0]], ids=str)
@pytest.mark.parametrize("median", [_median_by_sorting, _median_by_bisection])
def test_the_median_is_the_lower_of_two(median, values):
    np.testing.assert_allclose(median(jnp.array(values)), np.percentile(values, 50, method="lower"), rtol=0, atol=1e-6)


def test_both_forms_of_the_median_agree():
    values = np.random.default_rng(0).gamma(2.0, size=1001).astype(np.float32)
    assert _median_by_sorting(values) == np.median(values)
    np.testing.assert_allclose(_median_by_bisection(values), np.median(values), rtol=0, atol=1e-7 * values.max())


def test_an_accelerator_sorts_and_a_cpu_does_not():
    traced = jax.jit(lambda *given: median_bandwidths(*given, (1.0,))).trace(*samples())
    forms = {platform: "stablehlo.sort" in traced.lower(lowering_platforms=(platform,)).as_text()
             for platform in ("cpu", "cuda", "tpu")}
    assert forms == {"cpu": False, "cuda": True, "tpu": True}


def test_the_median_of_some_rows_is_near_that_of_all():
    source, target = samples(600, 500, 16)
    median = np.median(pdist(np.concatenate([source, target])))
    np.testing.assert_allclose(median_bandwidths(source, target, (1.0,)), [median], rtol=0.03)


def test_bandwidths_have_no_gradient():
    gradients = jax.grad(lambda *x: jnp.sum(median_bandwidths(*x, (1.0, 2.0))), argnums=(0, 1))(*samples())
    assert not any(gradient.any() for gradient in gradients)


def test_bandwidths_grow_with_the_features_so_that_shrinking_gains_nothing():
    source, target = samples()

    @jax.jit
    def adaptive(scale):
        return mmd(scale * source, scale * target, median_bandwidths(scale * source, scale * target, (0.5, 1.0)))

    np.testing.assert_allclose(adaptive(np.float32(1e-3)), adaptive(np.float32(1)), rtol=1e-2)


def test_bandwidths_of_equal_rows_are_positive_and_the_loss_is_zero():
    source, target = np.full((7, 3), 0.1, np.float32), np.full((5, 3), 0.1, np.float32)
    bandwidths = median_bandwidths(source, target, (0.25, 1.0, 4.0))
    assert (bandwidths > 0).all()
    value, gradients = value_and_gradients(source, target, bandwidths)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    assert np.isfinite(np.concatenate(gradients)).all()


def test_bandwidths_are_positive_where_most_rows_coincide():
    source, target = samples()
    source[1:], target[:] = 0, 0
    bandwidths = median_bandwidths(source, target, (0.25, 1.0, 4.0))
    assert (bandwidths > 0).all()
    assert np.isfinite(np.concatenate(value_and_gradients(source, target, bandwidths)[1])).all()


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sys.modules["yseg.losses.mean_discrepancy"]) == (0, 2)
