"""Parts of a volume that is too large to be looked at as a whole, which stand for all of it."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from yseg.data.box import Box, triple

PARTS = 8  # that are taken
DEPTH = 32  # sections of a part, where there are as many


def sampled_parts(box: Box, largest: int, least_side: int = 1, holds: Callable[[Box], bool] = lambda part: True) -> list[Box]:
    """The box itself, or up to PARTS boxes in it that have no voxel in common, at random places: always the same.

    Args:
      box: in voxels.
      largest: voxels that all of them have together, at most, if `least_side` leaves the choice.
      least_side: rows and columns of a part, at least, where the box has as many.
      holds: whether a part may be taken; if none may, they are taken as they come.
    """
    if math.prod(box.shape) <= largest:
        return [box]
    depth = min(DEPTH, box.shape[0])
    side = max(least_side, math.isqrt(largest // PARTS // depth))
    size = np.minimum((depth, side, side), box.shape)
    cells = np.array(box.shape) // size
    order = np.random.default_rng(0).permutation(math.prod(cells))
    slack = (np.array(box.shape) - cells * size) // 2  # what the cells leave free is shared out to both sides

    def part(number):
        start = np.array(box.start) + slack + np.array(np.unravel_index(number, cells)) * size
        return Box(triple(start), triple(start + size))

    chosen = list(itertools.islice((number for number in order if holds(part(number))), PARTS))
    return [part(number) for number in sorted(chosen or order[:PARTS])]
