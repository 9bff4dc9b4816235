"""The gradient reversal, its schedule and the domain classifier's loss."""

import doctest
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from yseg.losses import domain_accuracy, domain_loss, reversal_schedule, reverse_gradient

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def reference(source, target):
    """Mean of the two domains' mean binary cross-entropies, from probabilities of 'target'."""
    probability = [1 / (1 + np.exp(-logits.astype(np.float64))) for logits in (source, target)]
    return (np.mean(-np.log(1 - probability[0])) + np.mean(-np.log(probability[1]))) / 2


@pytest.fixture
def logits():
    random = np.random.default_rng(0)
    return random.normal(size=6).astype(np.float32), random.normal(0.5, 2, size=4).astype(np.float32)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_reversal_is_the_identity_and_turns_the_gradient_round(transform, dtype):
    x, gradient = jnp.array([[1.0, -2.0, 3.0]], dtype), jnp.array([[0.5, 4.0, -1.0]], dtype)
    y, pullback = jax.vjp(transform(reverse_gradient), x, jnp.float32(0.25))
    np.testing.assert_array_equal(y, x)
    assert y.dtype == dtype
    x_gradient, scale_gradient = pullback(gradient)
    assert x_gradient.dtype == dtype
    np.testing.assert_array_equal(x_gradient, -0.25 * np.asarray(gradient, np.float32))
    assert scale_gradient == 0


@pytest.mark.parametrize("scale", [0, 1, 0.5])
def test_reversal_takes_a_plain_number(scale):
    assert jax.grad(lambda x: jnp.sum(reverse_gradient(x, scale) ** 2))(3.0) == -6 * scale


def test_reversal_under_vmap_scales_each_row_by_its_own():
    def gradient(x, scale):
        return jax.grad(lambda y: jnp.sum(reverse_gradient(y, scale)))(x)

    result = jax.vmap(gradient)(jnp.ones((2, 3)), jnp.array([0.5, 2.0]))
    np.testing.assert_array_equal(result, [[-0.5] * 3, [-2.0] * 3])


def test_features_climb_while_the_classifier_descends():
    def loss(features, weight):
        return jnp.sum(weight * reverse_gradient(features, 0.5))

    features, weight = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
    feature_gradient, weight_gradient = jax.grad(loss, argnums=(0, 1))(features, weight)
    np.testing.assert_array_equal(feature_gradient, -0.5 * weight)
    np.testing.assert_array_equal(weight_gradient, features)


@pytest.mark.parametrize("gamma", [1.0, 10.0, 50])
def test_schedule_is_that_of_ganin(gamma):
    progress = np.linspace(0, 1, 11, dtype=np.float32)
    expected = 2 / (1 + np.exp(-gamma * progress.astype(np.float64))) - 1
    np.testing.assert_allclose(reversal_schedule(progress, gamma), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("progress", [0.0, 0.3, jnp.float32(1)])
def test_schedule_without_gamma_is_full_strength_at_once(progress):
    assert reversal_schedule(progress, 0) == 1
    assert reversal_schedule(progress, 0.0) == 1


def test_domain_loss_value_and_gradient_are_those_of_the_formula(logits):
    value, gradients = jax.value_and_grad(domain_loss, argnums=(0, 1))(*logits)
    assert value.dtype == jnp.float32
    assert value.shape == ()
    np.testing.assert_allclose(value, reference(*logits), rtol=1e-6)
    numerical = approx_fprime(np.concatenate(logits).astype(np.float64), lambda x: reference(x[:6], x[6:]))
    np.testing.assert_allclose(np.concatenate(gradients), numerical, atol=1e-6)


def test_domain_loss_of_an_undecided_classifier_is_log_2():
    np.testing.assert_allclose(domain_loss(jnp.zeros(5), jnp.zeros(2)), np.log(2), rtol=1e-6)


def test_domain_loss_of_a_certain_and_wrong_classifier_is_its_margin():
    value, gradients = jax.value_and_grad(domain_loss, argnums=(0, 1))(jnp.array([1e4]), jnp.array([-1e4]))
    np.testing.assert_allclose(value, 1e4)
    np.testing.assert_allclose(gradients, [[0.5], [-0.5]])


def test_domains_weigh_the_same_whatever_their_numbers_of_samples(logits):
    source, target = logits
    np.testing.assert_allclose(domain_loss(np.tile(source, 3), target), domain_loss(source, target), rtol=1e-6)


def test_bfloat16_logits_are_promoted(logits):
    source, target = (jnp.asarray(x, jnp.bfloat16) for x in logits)
    value = domain_loss(source, target)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, reference(np.asarray(source), np.asarray(target)), rtol=1e-6)


@pytest.mark.parametrize("function", [domain_loss, domain_accuracy])
def test_mapped_shards_give_the_global_mean(function, logits):
    source, target = logits[0].reshape(2, 3), logits[1].reshape(2, 2)
    shards = jax.vmap(lambda *shard: function(*shard, axis_name="batch"), axis_name="batch")(source, target)
    np.testing.assert_allclose(shards, np.full(2, function(*logits)), rtol=1e-6)
    alone = jax.vmap(function)(source, target)
    assert alone[0] != alone[1]


def test_accuracy_averages_the_domains_and_counts_a_tie_as_half():
    np.testing.assert_allclose(domain_accuracy(jnp.array([-1.0, -2.0, 3.0, -4.0]), jnp.array([1.0, -1.0])), (0.75 + 0.5) / 2)
    assert domain_accuracy(jnp.zeros(3), jnp.zeros(3)) == 0.5


def test_the_examples_in_the_docstrings_hold():
    module = sys.modules["yseg.losses.adversarial"]
    # A doctest finder passes over objects that are no plain functions, as a custom_vjp is.
    assert doctest.testmod(module, extraglobs=vars(module) | {"__test__": {}}).failed == 0
    example = doctest.DocTestParser().get_doctest(reverse_gradient.__doc__, vars(module), "reverse_gradient", None, None)
    assert doctest.DocTestRunner().run(example) == (0, 1)
