"""Correlation alignment: the distance of two samples' covariances."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def _covariance(name, sample):
    """Covariance [d, d] of a sample [n, d] over n - 1, in float32."""
    if len(sample) < 2:
        raise ValueError(f"{name}: must have at least 2 rows, has {len(sample)}")
    sample = sample.astype(np.promote_types(sample.dtype, np.float32))
    centred = sample - jnp.mean(sample, axis=0, keepdims=True)  # first, or a large mean would cancel
    return jnp.dot(centred.T, centred, precision=lax.Precision.HIGHEST) / (len(sample) - 1)


def coral(source: Float[Array, "n d"], target: Float[Array, "m d"]) -> Float[Array, ""]:
    """CORAL loss: |C_s - C_t|_F^2 / (4 d^2), C the covariance over n - 1.

    Sun and Saenko, Deep CORAL: correlation alignment for deep domain adaptation, ECCV 2016 workshops, equations 1 to 3.

    Args:
      source: [n, d], one feature vector a row.
      target: [m, d].

    Returns:
      float32 scalar >= 0.

    Raises:
      ValueError: a sample has fewer than two rows.

    >>> float(coral(jnp.array([[0.0], [2.0]]), jnp.array([[0.0], [4.0]])))  # variances 2 and 8
    9.0
    """
    return jnp.sum((_covariance("source", source) - _covariance("target", target)) ** 2) / (4 * source.shape[-1] ** 2)
