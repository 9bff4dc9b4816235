"""Whole sections of a segmentation, on the working grid: each averaged with those around it, and its components judged whole.

A component of a section that does not look like what was labelled in the source, and of which the network is not sure, is a
mistake. Averages and components need whole sections, in whatever blocks they were computed: as many are held in memory as are
averaged, at the size of the working grid.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import tensorstore as ts
from scipy import ndimage

from yseg.config import Inference
from yseg.data.box import Box, sections_of
from yseg.data.grid import Grid
from yseg.inference.blocks import BLOCK_SIZE, Blocks, block_boxes
from yseg.metrics.shapes import Prior, implausible, of_components, section_shapes

SURE = 0.7  # mean probability from which a component is believed, whatever it looks like


def with_neighbours(region: Box, sections: int, weights: np.ndarray) -> Box:
    """A region with as many more sections on either side as have a weight, where a volume of so many sections has them."""
    more = len(weights) // 2
    return sections_of(region, max(region.start[0] - more, 0), min(region.stop[0] + more, sections))


def finished(blocks: Blocks, regions: Sequence[Box], grid: Grid, *, weights: np.ndarray, inference: Inference,
             prior: Prior | None, mask: ts.TensorStore | None = None, block_size: int = BLOCK_SIZE) -> Blocks:
    """The blocks of regions whose sections were averaged with those around them and freed of implausible components.

    Args:
      blocks: of the regions `with_neighbours`, on the working grid, see `yseg.inference.blocks.predict_blocks`.
      regions: in voxels.
      grid: of the volume.
      weights: of a section and those around it, see `yseg.data.depth.depth_weights`.
      inference: its threshold.
      prior: what a component of foreground looks like; None = all of them stay.
      mask: TensorStore [z, y, x] of the volume, 0 where there is no tissue, which has no part in averages; None = everywhere.
      block_size: of the blocks.

    Returns:
      Iterator of (Box in voxels, float32 probabilities [z, y, x, class] of these voxels), as `predict_blocks`.
    """
    for region in regions:
        for section, values in _averaged(blocks, region, grid, weights, mask, block_size):
            working = grid.covering(section)
            if prior is not None:
                values = without_implausible(values, prior, inference.threshold, grid.working_pixel_size_nm)
            for box in block_boxes(section, grid, block_size):
                covering = grid.covering(box)
                yield box, grid.back(values[None][covering.relative_to(working).slices], covering, box)


def without_implausible(values: np.ndarray, prior: Prior, threshold: float, pixel_size_nm: float) -> np.ndarray:
    """Probabilities of a section in which components are background that are implausible, and that the network is not sure of.

    Holes are filled. Components at the border of the section, of which some may be missing, stay.

    Args:
      values: float32 [y, x, class], of two classes.
      prior: see `yseg.metrics.shapes.implausible`.
      threshold: from which a pixel is foreground.
      pixel_size_nm: of the section.
    """
    probable = values[..., 1]
    foreground = ndimage.binary_fill_holes(probable >= threshold)
    shapes = section_shapes(foreground[None])
    means = ndimage.mean(probable, shapes.numbers[0], np.arange(1, len(shapes.areas) + 1))
    rejected = implausible(shapes, prior, pixel_size_nm) & (np.asarray(means) < SURE)
    border = np.ones(foreground.shape, bool)
    border[1:-1, 1:-1] = False
    rejected[np.unique(shapes.numbers[0][border & foreground]) - 1] = False
    changed = np.where(foreground, np.maximum(probable, threshold), probable)
    changed = np.where(of_components(rejected, shapes.numbers[0]), 0, changed).astype(np.float32)
    return np.stack([1 - changed, changed], axis=-1)


def _averaged(blocks, region, grid, weights, mask, block_size):
    """(Box in voxels of a section, probabilities [y, x, class] on the working pixels that cover it) for those of a region."""
    wide, more = with_neighbours(region, grid.shape[0], weights), len(weights) // 2
    held: dict[int, np.ndarray] = {}
    tissue: dict[int, np.ndarray] = {}  # of the sections held, float32 [y, x, 1]
    for number in range(region.start[0], region.stop[0]):
        around = [min(max(number + offset, 0), grid.shape[0] - 1) for offset in range(-more, more + 1)]
        for ahead in range(max(held, default=wide.start[0] - 1) + 1, around[-1] + 1):
            held[ahead] = _whole_section(blocks, wide, grid, ahead, block_size)
            if mask is not None:
                covering = grid.covering(sections_of(wide, ahead, ahead + 1))
                tissue[ahead] = grid.image(mask, covering)[0, ..., None].astype(np.float32)
        held, tissue = ({kept: values for kept, values in each.items() if kept >= around[0]} for each in (held, tissue))
        values = np.zeros_like(held[number])
        for other, weight in zip(around, weights, strict=True):
            values += weight * held[other] if mask is None else weight * tissue[other] * held[other]
        if mask is not None:
            total = sum(weight * tissue[other] for other, weight in zip(around, weights, strict=True))
            values = np.where(total > 0, values / np.where(total > 0, total, 1), held[number])
        yield sections_of(region, number, number + 1), values


def _whole_section(blocks, region, grid, number, block_size):
    """Probabilities [y, x, class] of a section of a region, from the next blocks, which make it up."""
    section = sections_of(region, number, number + 1)
    working = grid.covering(section)
    result = None
    for box, values in itertools.islice(blocks, len(block_boxes(section, grid, block_size))):
        result = np.empty((*working.shape[1:], values.shape[-1]), np.float32) if result is None else result
        result[box.relative_to(working).slices[1:]] = values[0]
    return result
