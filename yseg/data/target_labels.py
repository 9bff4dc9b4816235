"""Which labels of the target a training may read: a share of its training box, chosen by a seed and listed in the config."""

import math
from collections.abc import Sequence

from yseg.config import NONE, TargetLabels
from yseg.data.box import Box
from yseg.data.grid import Grid
from yseg.data.split import share_of


def label_boxes(box: Box, grid: Grid, fraction: float, *, seed: int, patch_size: int,
                sections: Sequence[int] | None = None, offset: Sequence[int] = (0, 0, 0)) -> tuple[str, ...]:
    """The boxes of a share of the target's training box, as text; each holds a patch.

    Args:
      box: the training box, in voxels.
      grid: of the volume.
      fraction, seed, sections: see `yseg.data.split.share_of`.
      patch_size: side of a patch, in working pixels.
      offset: the place of the volume's first voxel in its files, of whose voxels the text is.
    """
    least_rows = math.ceil((patch_size + 1) * grid.ratio)
    boxes = share_of(box, fraction, seed, least_rows=least_rows, sections=sections)
    return tuple(str(chosen.moved(offset)) for chosen in boxes)


def fraction_seen(labels: TargetLabels) -> float:
    """Share of the target's training labels that the network of a run has been trained on, by this run or those before it."""
    return min(1.0, (0.0 if labels.use == NONE else labels.fraction) + labels.fraction_before)
