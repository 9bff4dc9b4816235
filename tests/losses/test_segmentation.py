"""The segmentation losses against their formulas in float64 NumPy."""

import doctest
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from yseg import config
from yseg.losses import cross_entropy, focal, jaccard_cross_entropy, segmentation_loss, soft_dice, soft_jaccard, tversky

pytestmark = pytest.mark.usefixtures("strict_dtypes")
WEIGHTS = (0.5, 1.0, 3.0)
LOSSES = {loss.__name__: loss for loss in (cross_entropy, focal, jaccard_cross_entropy, soft_dice, soft_jaccard,
                                             tversky)}


@functools.cache
def graded(name, class_weights=None):
    """Value and gradient with respect to the logits, compiled once for all tests."""
    return jax.jit(jax.value_and_grad(functools.partial(LOSSES[name], class_weights=class_weights)))


each_loss = pytest.mark.parametrize("name", LOSSES)


def reference(name, logits, labels, class_weights=(1.0, 1.0, 1.0), gamma=2.0, alpha=0.3, beta=0.7):
    """The loss, pixel by pixel and class by class, in float64."""
    if name == "jaccard_cross_entropy":
        return sum(reference(part, logits, labels, class_weights) for part in ("soft_jaccard", "cross_entropy"))
    rows = [(row, label) for row, label in zip(logits.reshape(-1, logits.shape[-1]), labels.ravel(), strict=True) if label >= 0]
    probabilities = [np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row, _ in rows]
    truth = [label for _, label in rows]
    if name in ("cross_entropy", "focal"):
        gamma = gamma if name == "focal" else 0.0
        loss = sum(class_weights[g] * (1 - p[g]) ** gamma * -np.log(p[g]) for p, g in zip(probabilities, truth, strict=True))
        return loss / sum(class_weights[g] for g in truth)
    values, weights = [], []
    for c in sorted(set(truth) - {0}):
        inside = sum(p[c] for p, g in zip(probabilities, truth, strict=True) if g == c)
        outside = sum(p[c] for p, g in zip(probabilities, truth, strict=True) if g != c)
        size = truth.count(c)
        values.append(1 - {"soft_dice": 2 * inside / (inside + outside + size), "soft_jaccard": inside / (size + outside),
                           "tversky": inside / (inside + alpha * outside + beta * (size - inside))}[name])
        weights.append(class_weights[c])
    return np.average(values, weights=weights)


@pytest.fixture
def batch():
    """Logits [2, 3, 4, 3] and labels with all classes and ignored pixels."""
    random = np.random.default_rng(1)
    logits = random.normal(size=(2, 3, 4, 3)).astype(np.float32) * 2
    labels = random.permutation(np.resize([-1, 0, 1, 2], 24)).reshape(2, 3, 4).astype(np.int32)
    return logits, labels


@each_loss
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_value_and_gradient_are_those_of_the_formula(name, class_weights, batch):
    logits, labels = batch
    value, gradient = graded(name, class_weights)(logits, labels)
    assert value.dtype == jnp.float32
    assert value.shape == ()

    def formula(flat):
        return reference(name, flat.reshape(logits.shape), labels, class_weights or (1.0, 1.0, 1.0))

    flat = logits.astype(np.float64).ravel()
    np.testing.assert_allclose(value, formula(flat), rtol=1e-5)
    np.testing.assert_allclose(gradient.ravel(), approx_fprime(flat, formula), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 3.0])
def test_focal_follows_its_exponent(gamma, batch):
    np.testing.assert_allclose(focal(*batch, gamma=gamma), reference("focal", *batch, gamma=gamma), rtol=1e-5)


def test_tversky_follows_its_weights(batch):
    value = tversky(*batch, alpha=0.9, beta=0.2)
    np.testing.assert_allclose(value, reference("tversky", *batch, alpha=0.9, beta=0.2), rtol=1e-5)


@each_loss
@pytest.mark.parametrize("poison", [1e30, -1e30, np.inf, np.nan])
def test_ignored_pixels_change_neither_value_nor_gradient(name, poison, batch):
    logits, labels = batch
    poisoned = np.where(labels[..., None] < 0, np.float32(poison), logits)
    value, gradient = graded(name)(logits, labels)
    value_poisoned, gradient_poisoned = graded(name)(poisoned, labels)
    assert value == value_poisoned
    np.testing.assert_array_equal(gradient, gradient_poisoned)
    assert not gradient[labels < 0].any()
    assert gradient[labels >= 0].any()


@each_loss
def test_any_negative_label_is_ignored(name, batch):
    logits, labels = batch
    assert graded(name)(logits, labels)[0] == graded(name)(logits, np.where(labels < 0, -7, labels))[0]


@each_loss
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_nothing_labelled_gives_zero_and_no_gradient(name, class_weights, batch):
    logits, labels = batch
    value, gradient = graded(name, class_weights)(logits * np.nan, np.full_like(labels, -1))
    assert value == 0
    assert not gradient.any()


@each_loss
@pytest.mark.parametrize("right", [True, False])
def test_certain_predictions_give_finite_gradients(name, right, batch):
    _, labels = batch
    logits = 1e4 * jax.nn.one_hot(labels if right else (labels + 1) % 3, 3)
    value, gradient = graded(name)(logits, labels)
    assert np.isfinite(gradient).all()
    assert abs(value) < 1e-6 if right else value > 0.9


def test_focal_with_a_small_exponent_is_finite_where_the_prediction_is_certain():
    gradient = jax.grad(focal)(jnp.array([[[[100.0, -100.0]]]]), jnp.zeros((1, 1, 1), jnp.int32), gamma=0.5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["soft_dice", "soft_jaccard", "tversky"])
def test_a_class_without_labels_does_not_contribute(name, batch):
    logits, labels = batch
    labels = np.where(labels == 2, 0, labels)
    np.testing.assert_allclose(graded(name)(logits, labels)[0], reference(name, logits, labels), rtol=1e-5)
    value, gradient = graded(name)(logits, np.minimum(labels, 0))
    assert value == 0
    assert not gradient.any()


@each_loss
def test_bfloat16_logits_are_promoted(name, batch):
    logits, labels = jnp.asarray(batch[0], jnp.bfloat16), batch[1]
    value, gradient = graded(name, WEIGHTS)(logits, labels)
    assert value.dtype == jnp.float32
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, graded(name, WEIGHTS)(np.asarray(logits, np.float32), labels)[0], rtol=1e-6)


@each_loss
def test_labels_of_another_shape_are_refused(name, batch):
    with pytest.raises(ValueError, match="labels"):
        LOSSES[name](batch[0], batch[1][:1])


@each_loss
def test_the_config_chooses_the_loss_and_its_parameters(name, batch):
    logits, labels = batch
    chosen = config.Loss(name=name, class_weights=WEIGHTS, focal_gamma=1.5, tversky_alpha=0.6, tversky_beta=0.9)
    expected = reference(name, logits, labels, WEIGHTS, gamma=1.5, alpha=0.6, beta=0.9)
    np.testing.assert_allclose(jax.jit(segmentation_loss(chosen))(logits, labels), expected, rtol=1e-5)


@each_loss
def test_a_loss_of_mapped_shards_is_that_of_the_whole_batch(name, batch):
    loss = segmentation_loss(config.Loss(name=name, class_weights=WEIGHTS))
    logits, labels = batch[0][:, None], batch[1][:, None]
    shards = jax.jit(jax.vmap(lambda *shard: loss(*shard, axis_name="batch"), axis_name="batch"))(logits, labels)
    np.testing.assert_allclose(shards, np.full(2, graded(name, WEIGHTS)(*batch)[0]), rtol=1e-6)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"loss\.name='hinge': must be one of cross_entropy"):
        segmentation_loss(config.Loss(name="hinge"))


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sys.modules["yseg.losses.segmentation"]) == (0, 3)
