"""Segmentation losses: how far a network's logits are from the labels.

All take `logits` [batch, y, x, class] (promoted to float32) and `labels` [batch, y, x] (integers below the number of classes) and
return a float32 scalar. Pixels with a label < 0 are ignored exactly: whatever the logits are there, infinite or NaN included,
neither the value nor the gradient changes. With `axis_name` the value is that of the global batch: global numerators over global
counts (see `yseg.parallel`). Where nothing is labelled the loss and its gradient are 0.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from yseg.config import Loss
from yseg.parallel import total

ClassWeights = Sequence[float] | Float[Array, "class"]


def _prepare(logits, labels, class_weights):
    """Logits and one-hot truth, both [class, batch, y, x] and 0 at ignored pixels, and class weights [class].

    With the few classes first, what sums over them takes whole images at a time.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"labels {labels.shape}: must have the shape of the logits {logits.shape} without their last axis")
    logits = jnp.moveaxis(logits.astype(np.promote_types(logits.dtype, np.float32)), -1, 0)
    # A product with 0 would let inf and NaN through; the gradient of a selection is exactly 0 where it is not taken.
    logits = jnp.where(labels[None] >= 0, logits, jnp.zeros_like(logits))
    truth = jax.nn.one_hot(labels, len(logits), dtype=logits.dtype, axis=0)
    weights = jnp.ones(len(logits)) if class_weights is None else jnp.asarray(class_weights)
    return logits, truth, weights.astype(logits.dtype)


def _ratio(numerator, denominator):
    """numerator / denominator, 0 (with gradient 0) where the denominator is 0, which it is only if the numerator is."""
    return numerator / jnp.where(denominator > 0, denominator, jnp.ones_like(denominator))


def cross_entropy(logits: Float[Array, "batch y x class"], labels: Int[Array, "batch y x"], *,
                  class_weights: ClassWeights | None = None, axis_name: str | None = None) -> Float[Array, ""]:
    """Weighted mean of the cross-entropy: sum_i w_i n_i / sum_i w_i over the labelled pixels i.

    n_i = -log softmax(logits_i)[label_i] and w_i = class_weights[label_i].

    Args:
      logits: [batch, y, x, class].
      labels: [batch, y, x], < 0 = ignored.
      class_weights: [class], all 1 if None.
      axis_name: the devices' axis, if the batch is spread over several.

    Returns:
      float32 scalar.

    >>> float(cross_entropy(jnp.zeros((1, 2, 2, 2)), jnp.array([[[0, 1], [-1, 1]]])))  # log 2
    0.6931471824645996
    """
    return focal(logits, labels, gamma=0.0, class_weights=class_weights, axis_name=axis_name)


def focal(logits: Float[Array, "batch y x class"], labels: Int[Array, "batch y x"], *, gamma: float = 2.0,
          class_weights: ClassWeights | None = None, axis_name: str | None = None) -> Float[Array, ""]:
    """Focal loss: sum_i w_i (1 - p_i)^gamma n_i / sum_i w_i over the labelled pixels i.

    p_i is the probability of the true class, n_i = -log p_i, w_i = class_weights[label_i]. Pixels that are already right count
    less; gamma = 0 is `cross_entropy`.

    Lin et al., Focal loss for dense object detection, ICCV 2017, equation 5 (here a mean over the labelled pixels).

    Args:
      logits: [batch, y, x, class].
      labels: [batch, y, x], < 0 = ignored.
      gamma: exponent >= 0, a Python number.
      class_weights: [class], all 1 if None.
      axis_name: the devices' axis, if the batch is spread over several.

    Returns:
      float32 scalar.
    """
    logits, truth, weights = _prepare(logits, labels, class_weights)
    log_probability = jnp.sum(truth * jax.nn.log_softmax(logits, axis=0), axis=0)
    loss = -log_probability
    if gamma:
        # Below gamma = 1 the slope of the power is infinite at 0: floored where float32 cannot tell p from 1.
        wrong = jnp.maximum(-jnp.expm1(log_probability), jnp.finfo(logits.dtype).eps)
        loss = loss * wrong**gamma
    weight = jnp.sum(truth * jnp.expand_dims(weights, tuple(range(1, truth.ndim))), axis=0)
    return _ratio(total(jnp.sum(weight * loss), axis_name), total(jnp.sum(weight), axis_name))


def tversky(logits: Float[Array, "batch y x class"], labels: Int[Array, "batch y x"], *, alpha: float = 0.3,
            beta: float = 0.7, class_weights: ClassWeights | None = None, axis_name: str | None = None) -> Float[Array, ""]:
    """Tversky loss: weighted mean over the foreground classes c of 1 - TP_c / (TP_c + alpha FP_c + beta FN_c).

    With probability p = softmax(logits) and one-hot truth g, TP_c = sum p_c g_c, FP_c = sum p_c (1 - g_c) and FN_c =
    sum (1 - p_c) g_c over all labelled pixels of the global batch (not per image: an image without foreground has no score).
    Foreground classes are 1 to class - 1. A class that no pixel is labelled with does not contribute: its score would be the
    constant 0, which pulls the value to 1 without any gradient. No epsilon is needed, and none biases small batches.

    Salehi et al., Tversky loss function for image segmentation using 3D fully convolutional deep networks, MLMI 2017, equation 3.

    Args:
      logits: [batch, y, x, class].
      labels: [batch, y, x], < 0 = ignored.
      alpha: weight of false positives, >= 0.
      beta: weight of false negatives, >= 0.
      class_weights: [class], all 1 if None; the background's is not used.
      axis_name: the devices' axis, if the batch is spread over several.

    Returns:
      float32 scalar in [0, 1].
    """
    logits, truth, weights = _prepare(logits, labels, class_weights)
    probability = jax.nn.softmax(logits, axis=0) * jnp.sum(truth, axis=0, keepdims=True)
    overlap, predicted, present = (
        total(jnp.sum(x[1:], axis=tuple(range(1, x.ndim))), axis_name) for x in (truth * probability, probability, truth))
    score = _ratio(overlap, overlap + alpha * (predicted - overlap) + beta * (present - overlap))
    weight = jnp.where(present > 0, weights[1:], jnp.zeros_like(present))
    return _ratio(jnp.sum(weight * (1 - score)), jnp.sum(weight))


def soft_dice(logits: Float[Array, "batch y x class"], labels: Int[Array, "batch y x"], *,
              class_weights: ClassWeights | None = None, axis_name: str | None = None) -> Float[Array, ""]:
    """Soft Dice loss: mean over the foreground classes of 1 - 2 sum p g / (sum p + sum g): `tversky` with alpha = beta = 1/2.

    Milletari et al., V-Net: fully convolutional neural networks for volumetric medical image segmentation, 3DV 2016 (with plain
    instead of squared terms in the denominator, as most of the field). Arguments and conventions are those of `tversky`.
    """
    return tversky(logits, labels, alpha=0.5, beta=0.5, class_weights=class_weights, axis_name=axis_name)


def soft_jaccard(logits: Float[Array, "batch y x class"], labels: Int[Array, "batch y x"], *,
                 class_weights: ClassWeights | None = None, axis_name: str | None = None) -> Float[Array, ""]:
    """Soft Jaccard (IoU) loss: mean over the foreground classes of 1 - sum p g / sum (p + g - p g): `tversky` with weights 1.

    Rahman and Wang, Optimizing intersection-over-union in deep neural networks for image segmentation, ISVC 2016. Arguments and
    conventions are those of `tversky`.

    >>> logits = jnp.array([[[[0.0, 0.0], [0.0, 0.0], [0.0, jnp.nan]]]])
    >>> float(soft_jaccard(logits, jnp.array([[[0, 1, -1]]])))  # 1 - 0.5 / (0.5 + 0.5 + 0.5)
    0.6666666269302368
    """
    return tversky(logits, labels, alpha=1.0, beta=1.0, class_weights=class_weights, axis_name=axis_name)


def jaccard_cross_entropy(logits: Float[Array, "batch y x class"], labels: Int[Array, "batch y x"], *,
                          class_weights: ClassWeights | None = None, axis_name: str | None = None) -> Float[Array, ""]:
    """The sum of `soft_jaccard` and `cross_entropy`.

    Jaccard's alone drives every probability to 0 or 1, also where the label is anybody's guess, and learns nothing for a while
    from a network that calls no foreground; cross-entropy alone neglects rare classes. Sums of an overlap and an entropy are the
    usual loss of medical segmentation: Isensee et al., nnU-Net, Nature Methods 2021 (there with Dice). Arguments as
    `cross_entropy`.
    """
    overlap = soft_jaccard(logits, labels, class_weights=class_weights, axis_name=axis_name)
    return overlap + cross_entropy(logits, labels, class_weights=class_weights, axis_name=axis_name)


def segmentation_loss(loss: Loss) -> Callable[..., Float[Array, ""]]:
    """The loss that a configuration describes, as function(logits, labels, axis_name=None) -> scalar.

    Raises:
      ValueError: `loss.name` is none of them.
    """
    losses = {"cross_entropy": (cross_entropy, {}), "focal": (focal, {"gamma": loss.focal_gamma}),
              "jaccard_cross_entropy": (jaccard_cross_entropy, {}),
              "soft_dice": (soft_dice, {}), "soft_jaccard": (soft_jaccard, {}),
              "tversky": (tversky, {"alpha": loss.tversky_alpha, "beta": loss.tversky_beta})}
    if loss.name not in losses:
        raise ValueError(f"loss.name={loss.name!r}: must be one of {', '.join(losses)}")
    function, parameters = losses[loss.name]
    class_weights = loss.class_weights or None

    def chosen(logits, labels, axis_name=None):
        return function(logits, labels, class_weights=class_weights, axis_name=axis_name, **parameters)

    return chosen
