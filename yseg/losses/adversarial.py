"""Domain-adversarial training: the gradient reversal, its schedule and the domain classifier's loss.

Ganin et al., Domain-adversarial training of neural networks, JMLR 2016.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yseg.parallel import total


@jax.custom_vjp
def reverse_gradient(x: Float[Array, "..."], scale: float | Float[Array, ""]) -> Float[Array, "..."]:
    """Identity forward; -scale * g backward (Ganin et al. 2016, equations 15 and 16). `scale` gets no gradient.

    Args:
      x: an array of any shape.
      scale: scalar, a number or traced.

    Returns:
      `x`.

    >>> float(jax.grad(lambda x: 3 * reverse_gradient(x, 0.5))(1.0))
    -1.5
    """
    return x


def _forward(x, scale):
    return x, scale


def _backward(scale, gradient):
    return -jnp.asarray(scale, gradient.dtype) * gradient, None


reverse_gradient.defvjp(_forward, _backward)


def reversal_schedule(progress: float | Float[Array, ""], gamma: float) -> Float[Array, ""]:
    """Scale of the reversal over the training: 2 / (1 + exp(-gamma p)) - 1, from 0 at p = 0 towards 1 at p = 1.

    Ganin et al. 2016, section 5.2.2 (gamma = 10).

    Args:
      progress: p, the share of the training that is done, in [0, 1]; a number or traced.
      gamma: steepness, a Python number; 0 = 1 throughout.

    Returns:
      scalar, in the type of `progress`.
    """
    return jnp.tanh(gamma / 2 * progress) if gamma else jnp.ones_like(progress)  # tanh is the same, and exact near 0


def _mean(x, axis_name):
    return total(jnp.sum(x), axis_name) / total(jnp.asarray(x.size, x.dtype), axis_name)


def domain_loss(source_logits: Float[Array, "n"], target_logits: Float[Array, "m"],
                axis_name: str | None = None) -> Float[Array, ""]:
    """Binary cross-entropy of a domain classifier, source = 0 and target = 1: mean of the two domains' means.

    With z the logit of "target": (mean softplus(z_source) + mean softplus(-z_target)) / 2. The domains weigh the same whatever
    their numbers of samples.

    Ganin et al. 2016, equation 9.

    Args:
      source_logits: [n].
      target_logits: [m].
      axis_name: the devices' axis, if the batch is spread over several; the means are then global.

    Returns:
      float32 scalar; log 2 = 0.693 for a classifier that cannot tell the domains apart.
    """
    source, target = (logits.astype(np.promote_types(logits.dtype, np.float32)) for logits in (source_logits, target_logits))
    return (_mean(jax.nn.softplus(source), axis_name) + _mean(jax.nn.softplus(-target), axis_name)) / 2


def domain_accuracy(source_logits: Float[Array, "n"], target_logits: Float[Array, "m"],
                    axis_name: str | None = None) -> Float[Array, ""]:
    """Mean of the shares of source and target samples that the domain classifier gets right (target = logit >= 0).

    Args and shapes as in `domain_loss`. Returns a float32 scalar in [0, 1]; 1/2 is chance.
    """
    right = (source_logits < 0).astype(jnp.float32), (target_logits >= 0).astype(jnp.float32)
    return (_mean(right[0], axis_name) + _mean(right[1], axis_name)) / 2
