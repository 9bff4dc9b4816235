"""Consistency with a teacher's predictions, labels from them, and the schedule of their weight.

French, Mackiewicz and Fisher, Self-ensembling for visual domain adaptation, ICLR 2018; after Tarvainen and Valpola, Mean teachers
are better role models, NIPS 2017.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from yseg.parallel import total


def _confident(teacher_logits, confidence, axis_name):
    """(the teacher's probabilities [batch, y, x, class], where it is confident [batch, y, x], global share of that)."""
    teacher = jax.nn.softmax(lax.stop_gradient(teacher_logits.astype(np.promote_types(teacher_logits.dtype, np.float32))))
    confident = jnp.max(teacher, axis=-1) >= confidence
    pixels = total(jnp.asarray(confident.size, teacher.dtype), axis_name)
    return teacher, confident, total(jnp.sum(confident.astype(teacher.dtype)), axis_name) / pixels


def consistency(logits, teacher_logits, confidence, axis_name=None):
    """How far the student is from the teacher where the teacher is confident (French et al. 2018, sections 3.1 to 3.3).

    With student p and teacher q, both softmax of logits, a pixel costs sum_c (p_c - q_c)^2 / class; where max_c q_c is below
    `confidence` it costs nothing. The mean is over all pixels of the global batch, so that a batch counts by its share of
    confident pixels. The teacher gets no gradient.

    Args:
      logits: of the student, [batch, y, x, class].
      teacher_logits: the same shape.
      confidence: least probability, in [0, 1], a Python number.
      axis_name: the devices' axis, if the batch is spread over several.

    Returns:
      Two float32 scalars: the loss, and the share of confident pixels.

    >>> loss, share = consistency(jnp.zeros((1, 1, 2, 2)), jnp.array([[[[0.0, 100.0], [0.0, 0.1]]]]), 0.9)
    >>> float(loss), float(share)  # 1/4 at the first of two pixels
    (0.125, 0.5)
    """
    if logits.shape != teacher_logits.shape:
        raise ValueError(f"teacher's logits {teacher_logits.shape}: must have the shape of the student's {logits.shape}")
    teacher, confident, share = _confident(teacher_logits, confidence, axis_name)
    student = jax.nn.softmax(logits.astype(np.promote_types(logits.dtype, np.float32)))
    costs = jnp.mean((student - teacher) ** 2, axis=-1)
    pixels = total(jnp.asarray(confident.size, costs.dtype), axis_name)
    return total(jnp.sum(jnp.where(confident, costs, jnp.zeros_like(costs))), axis_name) / pixels, share


def pseudo_labels(teacher_logits, confidence, axis_name=None):
    """The teacher's classes as labels for self-training: where it is confident the most probable one, elsewhere none.

    French et al. 2018, section 3.3, have the threshold; labels in place of probabilities are those of Lee, Pseudo-label: the
    simple and efficient semi-supervised learning method for deep neural networks, ICML 2013 workshops.

    Args:
      teacher_logits: [batch, y, x, class].
      confidence: least probability, in [0, 1], a Python number.
      axis_name: the devices' axis, if the batch is spread over several.

    Returns:
      int32 labels [batch, y, x], -1 = none, and the float32 share of confident pixels of the global batch. No gradient.

    >>> labels, share = pseudo_labels(jnp.array([[[[0.0, 100.0], [0.0, 0.1]]]]), 0.9)
    >>> labels.tolist(), float(share)
    ([[[1, -1]]], 0.5)
    """
    teacher, confident, share = _confident(teacher_logits, confidence, axis_name)
    return jnp.where(confident, jnp.argmax(teacher, axis=-1).astype(jnp.int32), jnp.int32(-1)), share


def ramp_up(progress, length):
    """Weight of the consistency over the training: exp(-5 (1 - p / length)^2), and 1 from p = length on.

    Laine and Aila, Temporal ensembling for semi-supervised learning, ICLR 2017, section 3.1.

    Args:
      progress: p, the share of the training that is done, in [0, 1]; a number or traced.
      length: share of the training, a Python number; 0 = 1 throughout.

    Returns:
      scalar, in the type of `progress`.
    """
    if not length:
        return jnp.ones_like(progress)
    return jnp.exp(-5 * (1 - jnp.minimum(progress / length, 1)) ** 2)
