"""Grey levels: their mean and standard deviation in a volume, and what a network gets of them."""

import math

import jax.numpy as jnp
import numpy as np
import tensorstore as ts
from jaxtyping import Array, Float, Num

from yseg.data.box import Box
from yseg.data.exact import differences

_LEAST = 1e-30  # difference of grey levels
_SECTION_SIDE = 4096  # rows and columns of a section that the statistics look at, at most


def statistics(store: ts.TensorStore, max_sections: int = 32, box: Box | None = None, *, mask: ts.TensorStore | None = None,
               pivot: int | float = 0) -> tuple[float, float]:
    """Mean and standard deviation of an image volume, for z-scoring.

    They are those of at most `max_sections` evenly spaced sections, and of the middle 4096 x 4096 pixels of larger ones.

    Args:
      store: TensorStore [z, y, x].
      max_sections: how many sections are read at most.
      box: Box in voxels to which this is limited; None = the whole volume.
      mask: TensorStore [z, y, x], not 0 where there is tissue, of which alone they are; None = everywhere.
      pivot: the mean is that of the differences from it, see `yseg.data.exact`.

    Returns:
      (mean, std), floats, in grey levels; std is 1.0 where all values are equal.

    Raises:
      ValueError: there are values that are not finite, or differ too much or too little for float32, or no tissue.
    """
    box = box or Box.whole(store.shape)
    numbers = np.unique(np.linspace(box.start[0], box.stop[0] - 1, min(max_sections, box.shape[0])).round().astype(int))
    rows, columns = middle(box)
    count, mean, squares = 0, 0.0, 0.0  # squares: sum of the squared differences from the mean
    for number in numbers:
        section = differences(store[int(number), rows, columns].read().result(), pivot)
        if mask is not None:
            tissue = mask[int(number), rows, columns].read().result() != 0
            if not tissue.any():
                continue
            section = section if tissue.all() else section[tissue]
        if not np.isfinite(section).all():
            raise ValueError(f"the image volume has values that are not finite in section {number}")
        check_spread(section, int(number))
        # Chan, Golub and LeVeque 1983: the union of two samples, without cancellation.
        difference, total = section.mean() - mean, count + section.size
        squares += ((section - section.mean()) ** 2).sum() + difference**2 * count * section.size / total
        mean, count = mean + difference * section.size / total, total
    if not count:
        raise ValueError("the image volume has no tissue in the sections that are looked at")
    return float(mean), math.sqrt(squares / count) or 1.0


def check_spread(section: np.ndarray, number: int) -> None:
    """ValueError if grey levels, float64, differ so much or so little that float32, or their squares, cannot hold it."""
    largest = np.abs(section - section.mean()).max()
    if largest and not _LEAST < largest < 1 / _LEAST:
        raise ValueError(f"the image volume has grey levels that differ by {largest:g} in section {number}; must differ by"
                         f" {_LEAST:g} to {1 / _LEAST:g}, as they do when they are multiplied by a constant")


def middle(box: Box) -> tuple[slice, slice]:
    """The rows and columns that statistics of a Box look at: all of them, or the middle 4096."""
    extra = [max(0, size - _SECTION_SIDE) for size in box.shape]
    rows, columns = (slice(box.start[axis] + extra[axis] // 2, box.stop[axis] - (extra[axis] + 1) // 2) for axis in (1, 2))
    return rows, columns


def z_score(patches: Num[Array, "batch y x section"], statistics: Float[Array, "2"]) -> Float[Array, "batch y x section"]:
    """Raw grey levels as the network gets them: float32 `[batch, y, x, section]`, about 0 and of deviation 1.

    Args:
      patches: grey levels of any type `[batch, y, x, section]`.
      statistics: `[2]`, mean and standard deviation of their volume.
    """
    return (patches.astype(jnp.float32) - statistics[0]) / statistics[1]
