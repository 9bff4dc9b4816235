"""Consistency with a teacher's predictions, and the schedule of its weight.

French, Mackiewicz and Fisher, Self-ensembling for visual domain adaptation, ICLR 2018; after Tarvainen and Valpola, Mean teachers
are better role models, NIPS 2017.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from yseg.config import InputError
from yseg.parallel import total

KINDS = ("squared", "cross_entropy")


def consistency(logits, teacher_logits, confidence, kind="squared", axis_name=None):
    """How far the student is from the teacher where the teacher is confident (French et al. 2018, sections 3.1 to 3.3).

    With student p and teacher q, both softmax of logits, a pixel costs sum_c (p_c - q_c)^2 / class, or -log p at the teacher's
    most probable class; where max_c q_c is below `confidence` it costs nothing. The mean is over all pixels of the global batch,
    so that a batch counts by its share of confident pixels. The teacher gets no gradient.

    Args:
      logits: of the student, [batch, y, x, class].
      teacher_logits: the same shape.
      confidence: least probability, in [0, 1], a Python number.
      kind: "squared" or "cross_entropy".
      axis_name: the devices' axis, if the batch is spread over several.

    Returns:
      Two float32 scalars: the loss, and the share of confident pixels. InputError if `kind` is neither.

    >>> loss, share = consistency(jnp.zeros((1, 1, 2, 2)), jnp.array([[[[0.0, 100.0], [0.0, 0.1]]]]), 0.9)
    >>> float(loss), float(share)  # 1/4 at the first of two pixels
    (0.125, 0.5)
    """
    if kind not in KINDS:
        raise InputError(f"--config.adaptation.consistency_loss={kind!r}: must be one of {', '.join(KINDS)}")
    if logits.shape != teacher_logits.shape:
        raise ValueError(f"teacher's logits {teacher_logits.shape}: must have the shape of the student's {logits.shape}")
    logits, teacher_logits = (x.astype(np.promote_types(x.dtype, np.float32)) for x in (logits, teacher_logits))
    teacher = jax.nn.softmax(lax.stop_gradient(teacher_logits))
    if kind == "squared":
        costs = jnp.mean((jax.nn.softmax(logits) - teacher) ** 2, axis=-1)
    else:
        truth = jax.nn.one_hot(jnp.argmax(teacher, axis=-1), logits.shape[-1], dtype=logits.dtype)
        costs = -jnp.sum(truth * jax.nn.log_softmax(logits), axis=-1)
    confident = (jnp.max(teacher, axis=-1) >= confidence).astype(logits.dtype)
    pixels = total(jnp.asarray(confident.size, logits.dtype), axis_name)
    return total(jnp.sum(confident * costs), axis_name) / pixels, total(jnp.sum(confident), axis_name) / pixels


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
