"""Consistency with a teacher against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from yseg.losses import consistency, pseudo_labels, ramp_up, soft_jaccard

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def logits_of(seed=0, scale=2.0):
    random = np.random.default_rng(seed)
    return [jnp.asarray(scale * random.normal(size=(2, 3, 4, 3)), jnp.float32) for _ in range(2)]


@pytest.mark.parametrize("confidence", [0.0, 0.6, 0.99999])
def test_value_is_the_mean_over_all_pixels_of_what_the_confident_cost(confidence):
    student, teacher = logits_of()
    p, q = softmax(np.float64(student), axis=-1), softmax(np.float64(teacher), axis=-1)
    costs = ((p - q) ** 2).mean(axis=-1)
    confident = q.max(axis=-1) >= confidence
    loss, share = consistency(student, teacher, confidence)
    np.testing.assert_allclose(loss, np.where(confident, costs, 0).mean(), rtol=1e-5)
    np.testing.assert_allclose(share, confident.mean(), rtol=1e-6)


def test_gradient_is_that_of_finite_differences_and_the_teacher_has_none():
    student, teacher = logits_of()
    loss = lambda student, teacher: consistency(student, teacher, 0.5)[0]  # noqa: E731
    gradients = jax.grad(loss, argnums=(0, 1))(student, teacher)
    assert not np.any(gradients[1])
    direction = np.random.default_rng(1).normal(size=student.shape).astype(np.float32)
    numeric = (loss(student + 1e-2 * direction, teacher) - loss(student - 1e-2 * direction, teacher)) / 2e-2
    np.testing.assert_allclose(np.vdot(gradients[0], direction), numeric, rtol=2e-2, atol=1e-4)


def test_equal_predictions_cost_nothing():
    student, _ = logits_of()
    assert float(consistency(student, student, 0.0)[0]) == 0


def test_labels_are_the_teachers_classes_where_it_is_confident_and_have_no_gradient():
    _, teacher = logits_of()
    q = softmax(np.float64(teacher), axis=-1)
    labels, share = pseudo_labels(teacher, 0.6)
    np.testing.assert_array_equal(labels, np.where(q.max(axis=-1) >= 0.6, q.argmax(axis=-1), -1))
    assert 0 < float(share) < 1
    np.testing.assert_allclose(share, (np.asarray(labels) >= 0).mean(), rtol=1e-6)
    gradient = jax.grad(lambda teacher: soft_jaccard(logits_of()[0], pseudo_labels(teacher, 0.6)[0]))(teacher)
    assert not np.any(gradient)


def test_other_shapes_are_refused():
    student, teacher = logits_of()
    with pytest.raises(ValueError, match="must have the shape"):
        consistency(student, teacher[:1], 0.5)


def test_ramp_up_rises_from_exp_minus_5_to_1():
    values = [float(ramp_up(jnp.float32(progress), 0.4)) for progress in (0.0, 0.2, 0.4, 1.0)]
    np.testing.assert_allclose(values, [np.exp(-5), np.exp(-5 / 4), 1, 1], rtol=1e-5)
    assert float(ramp_up(jnp.float32(0.0), 0)) == 1
