"""What is not tissue is background: blocks of a segmentation without it, and for all that the files of a volume hold."""

import itertools
import math

import numpy as np
import tensorstore as ts

from yseg.data.box import Box, sections_of, triple
from yseg.inference.blocks import Blocks


def only_tissue(blocks: Blocks, mask: ts.TensorStore | None) -> Blocks:
    """The blocks; where there is no tissue, class 0 has the probability 1.

    Args:
      blocks: of (Box in voxels, float32 probabilities [z, y, x, class]).
      mask: TensorStore [z, y, x] of the volume, not 0 in tissue; None = everywhere.
    """
    if mask is None:
        return blocks
    return ((box, np.where(mask[box.slices].read().result()[..., None] != 0, values, _background(values.shape)))
            for box, values in blocks)


def in_files(blocks: Blocks, place: Box | None, region: Box, classes: int) -> Blocks:
    """Blocks of a part of what files hold as blocks of a region of theirs: what lies outside is background, section by section.

    Args:
      blocks: of the part that `yseg.data.tissue.part_of_region` gives, section by section.
      place: the Box of the files whose voxels the blocks count, see `yseg.data.domain.Volume`; None = they are all.
      region: Box in voxels of the files.
      classes: number of classes.
    """
    if place is None:
        yield from blocks
        return
    inner, ahead = region.intersect(place), iter(blocks)
    for number in range(region.start[0], region.stop[0]):
        for outside in _around(sections_of(region, number, number + 1), inner):
            yield outside, _background((*outside.shape, classes))
        area = math.prod(inner.shape[1:]) if inner.start[0] <= number < inner.stop[0] else 0
        while area > 0:
            box, values = next(ahead)
            area -= math.prod(box.shape[1:])
            yield box.moved(place.start), values


def _background(shape):
    """Probabilities of a shape [..., class] without a foreground; they take no memory."""
    return np.broadcast_to(np.eye(1, shape[-1], dtype=np.float32)[0], shape)


def _around(section, inner):
    """Boxes that together are a section without a box, which may be empty or in other sections."""
    inner = section.intersect(inner)
    if inner.is_empty:
        return [section]
    borders = [(section.start[axis], inner.start[axis], inner.stop[axis], section.stop[axis]) for axis in (1, 2)]
    spans = [itertools.pairwise(each) for each in borders]
    boxes = [Box(triple((section.start[0], rows[0], columns[0])), triple((section.stop[0], rows[1], columns[1])))
             for rows, columns in itertools.product(*spans)]
    return [box for box in boxes if not box.is_empty and box != inner]
