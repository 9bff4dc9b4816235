"""Parts of a volume that is too large to be looked at as a whole, which stand for all of it."""

import math

import numpy as np

from yseg.data.box import Box, triple

PARTS = 8  # that are taken
DEPTH = 32  # sections of a part, where there are as many


def sampled_parts(box: Box, largest: int, least_side: int = 1) -> list[Box]:
    """The box itself, or up to PARTS boxes in it that have no voxel in common, at random places: always the same.

    Args:
      box: in voxels.
      largest: voxels that all of them have together, at most, if `least_side` leaves the choice.
      least_side: rows and columns of a part, at least, where the box has as many.
    """
    if math.prod(box.shape) <= largest:
        return [box]
    depth = min(DEPTH, box.shape[0])
    side = max(least_side, math.isqrt(largest // PARTS // depth))
    size = np.minimum((depth, side, side), box.shape)
    cells = np.array(box.shape) // size
    chosen = np.random.default_rng(0).permutation(math.prod(cells))[:PARTS]
    slack = (np.array(box.shape) - cells * size) // 2  # what the cells leave free is shared out to both sides
    starts = np.array(box.start) + slack + np.stack(np.unravel_index(np.sort(chosen), cells), axis=1) * size
    return [Box(triple(start), triple(start + size)) for start in starts]
