"""Reconstruction loss: how far a rebuilt image is from the image."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yseg.parallel import total

# jnp.abs has the slope 1 at 0; this has the slope 0 there, so that a perfect reconstruction is left alone.
_ERRORS = {"squared": jnp.square, "absolute": lambda error: error * jnp.sign(error)}


def reconstruction(prediction: Float[Array, "batch y x channel"], image: Float[Array, "batch y x channel"],
                   kind: str = "squared", axis_name: str | None = None) -> Float[Array, ""]:
    """Mean squared or absolute error over all pixels and channels of the global batch.

    The reconstruction term L_r of Y-Net (Roels et al., ISBI 2019).

    Args:
      prediction: [batch, y, x, channel], promoted to float32.
      image: the same shape.
      kind: "squared" or "absolute".
      axis_name: the devices' axis, if the batch is spread over several.

    Returns:
      float32 scalar.

    Raises:
      ValueError: `kind` is neither, or the shapes differ.

    >>> float(reconstruction(jnp.zeros((1, 1, 2, 1)), jnp.array([[[[1.0], [3.0]]]])))
    5.0
    """
    if kind not in _ERRORS:
        raise ValueError(f"kind={kind!r}: must be one of {', '.join(_ERRORS)}")
    if prediction.shape != image.shape:
        raise ValueError(f"prediction {prediction.shape}: must have the shape of the image {image.shape}")
    dtype = np.promote_types(np.promote_types(prediction.dtype, image.dtype), np.float32)
    error = _ERRORS[kind](prediction.astype(dtype) - image.astype(dtype))
    return total(jnp.sum(error), axis_name) / total(jnp.asarray(error.size, dtype), axis_name)
