"""Pasting: foreground of the source on patches of the target, which puts structures with certain labels among its own tissue.

After CutMix (Yun et al. 2019) and its use across domains (ClassMix, Olsson et al. 2021; DACS, Tranheden et al. 2021): here the
class that is pasted is always the foreground, as pseudo-labels of the target miss it more often than they invent it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

RIM = 2  # pixels around the foreground that come along: a membrane belongs to what it surrounds
SOFT = 1  # pixels over which one image passes into the other


def paste_foreground(keys: Key[Array, "batch"], images: Float[Array, "batch y x channel"], labels: Int[Array, "batch y x"],
                     *, pasted: Float[Array, "batch y x channel"], pasted_labels: Int[Array, "batch y x"],
                     probability: float) -> tuple[Float[Array, "batch y x channel"], Int[Array, "batch y x"]]:
    """Put the foreground of one patch, with a rim, on another, in a share of the samples.

    Args:
      keys: one key a sample.
      images, labels: of the target; -1 = no label.
      pasted, pasted_labels: of the source, z-scored as the target is; what is 1 is pasted, with its rim.
      probability: that a sample gets it.

    Returns:
      Images and labels of the target, shaped as before. Under what was pasted the labels are the source's.
    """
    chosen = jax.vmap(lambda key: jax.random.uniform(key) < probability)(keys)[:, None, None]
    covered = _grown(pasted_labels == 1) & chosen
    side = 2 * SOFT + 1
    opacity = jax.lax.reduce_window(covered.astype(jnp.float32), 0.0, jax.lax.add, (1, side, side), (1, 1, 1), "SAME") / side**2
    opacity = opacity[..., None]
    return images * (1 - opacity) + pasted * opacity, jnp.where(covered, pasted_labels, labels)


def _grown(mask: Bool[Array, "batch y x"]) -> Bool[Array, "batch y x"]:
    """The mask and all pixels within RIM of it, along y and x."""
    side = 2 * RIM + 1
    return jax.lax.reduce_window(mask, False, jax.lax.bitwise_or, (1, side, side), (1, 1, 1), "SAME")
