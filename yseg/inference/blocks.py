"""Tiled segmentation of a volume of any size: section by section, block by block, tile by tile.

A tile is what the network sees at once. Its outer `network.halo` working pixels are context only; what is left, its core,
overlaps the cores of its neighbours, where they are blended. Tiles start at multiples of `network.multiple` on the volume's
working grid, so that pooling cells lie alike in every tile: a pixel's result depends on the pixels around it, and not on the
tile, block or region it is computed in. (It does with instance and group normalisation, which look at a whole tile.)
"""

import collections
import concurrent.futures
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorstore as ts

from yseg import parallel
from yseg.config import Inference, InputError, Model
from yseg.data.box import Box, sections_of
from yseg.data.grid import Grid
from yseg.data.patches import section_numbers
from yseg.inference.tiling import Tiling, make_tiling, rounded_up
from yseg.models import segmentation_network

BLOCK_SIZE = 4096  # largest side of a block, in working pixels: bounds the memory
_CHUNK = 512  # blocks of a region start at multiples of this many voxels, so that they rarely share a chunk of the output


# `predict(tiles, statistics)`: raw grey levels [tile, y, x, section] -> float32 probabilities [tile, y, x, class], on the host.
Predict = Callable[[np.ndarray, tuple[float, float]], np.ndarray]
Tilings = tuple[Tiling, Tiling]  # of y and x
Blocks = Iterator[tuple[Box, np.ndarray]]  # boxes in voxels, and float32 probabilities [z, y, x, class] of their voxels


def predict_blocks(predict: Predict, store: ts.TensorStore, grid: Grid, statistics: tuple[float, float], *,
                   regions: Sequence[Box], model: Model, inference: Inference, tilings: Tilings | None = None,
                   block_size: int = BLOCK_SIZE, on_working_grid: bool = False) -> Blocks:
    """Class probabilities of regions, block by block: sections in order, and in each its blocks of rows and columns.

    Around a region the network sees what the volume has there, and beyond the volume's borders its mirror image. The next block
    is read while one is computed. Memory depends on the size of a block and not on that of the volume.

    Args:
      predict: see `yseg.inference.predictor.make_predictor`.
      store: TensorStore [z, y, x], the image volume.
      grid: of the volume.
      statistics: mean and standard deviation of the volume's grey levels.
      regions: in voxels, none of them empty.
      model, inference: what the config says of the network and of tiles.
      tilings: of y and x, if the regions are some of many, see `tilings_of`; None = their own.
      block_size: largest side of a block, in working pixels.
      on_working_grid: give the working pixels that cover the blocks, as the network sees them.

    Returns:
      Iterator of (Box in voxels, float32 probabilities [z, y, x, class] of these voxels). The boxes are one section thick, and
      those of a region do not overlap and make it up. On the working grid they are in its pixels and may overlap, with the same
      values.

    Raises:
      InputError: at once if `inference.tile_size` is too small; while iterating if probabilities are not finite.
      ValueError: there are no regions.
    """
    if not regions:
        raise ValueError("regions: must be at least one")
    sections = [[sections_of(region, number, number + 1) for number in range(region.start[0], region.stop[0])]
                for region in regions]
    tilings = tilings or tilings_of(regions, grid, model=model, inference=inference, block_size=block_size)
    boxes = (box for section in itertools.chain.from_iterable(sections) for box in block_boxes(section, grid, block_size))
    return _predicted(predict, _Reader(store, grid, model.sections), statistics, (_plan(box, grid, tilings) for box in boxes),
                      tilings, model.classes, parallel.local_device_count() * inference.batch_size, on_working_grid)


def tilings_of(regions: Sequence[Box], grid: Grid, *, model: Model, inference: Inference,
               block_size: int = BLOCK_SIZE) -> Tilings:
    """How the tiles lie of all blocks of some regions: they have one shape, and are compiled once. See `predict_blocks`."""
    sections = [sections_of(region, region.start[0], region.start[0] + 1) for region in regions]
    covering = [grid.covering(box) for section in sections for box in block_boxes(section, grid, block_size)]
    y, x = (make_tiling(segmentation_network(model), inference, [(box.start[axis], box.stop[axis]) for box in covering])
            for axis in (1, 2))
    return y, x


def block_boxes(section: Box, grid: Grid, block_size: int = BLOCK_SIZE) -> list[Box]:
    """The blocks in which a box of one section is computed, in order; see `predict_blocks`."""
    largest = max(1, math.floor(block_size * grid.ratio))
    spans = (_spans(section.start[axis], section.stop[axis], largest) for axis in (1, 2))
    return [Box((section.start[0], rows[0], columns[0]), (section.stop[0], rows[1], columns[1]))
            for rows, columns in itertools.product(*spans)]


def _spans(start, stop, largest):
    """[start, stop) cut into ranges of about the same size, at most `largest`."""
    count = math.ceil((stop - start) / largest)
    unit = _CHUNK if largest >= _CHUNK else 1
    step = min(largest // unit * unit, rounded_up(math.ceil((stop - start) / count), unit))
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]


class _Block(NamedTuple):
    """What a block is computed from. Boxes but `voxels` are in working pixels; pairs are for y and x."""

    voxels: Box
    working: Box  # those of which the voxels' values are interpolated
    read: Box  # those that the tiles see
    starts: tuple[list[int], list[int]]  # of the tiles' cores
    pixels: tuple[np.ndarray, np.ndarray]  # int64 [tile, pixel]: rows or columns of the grid that a tile sees, after mirroring


def _plan(voxels, grid, tilings):
    """The _Block of a Box of voxels."""
    working = grid.covering(voxels)
    starts = tuple(tiling.starts(working.start[axis], working.stop[axis]) for axis, tiling in enumerate(tilings, 1))
    pixels = tuple(_mirrored(np.array(first)[:, None] - tiling.halo + np.arange(tiling.size), grid.shape[axis])
                   for axis, (first, tiling) in enumerate(zip(starts, tilings, strict=True), 1))
    read = Box((working.start[0], *(int(index.min()) for index in pixels)),
               (working.stop[0], *(int(index.max()) + 1 for index in pixels)))
    return _Block(voxels, working, read, starts, pixels)


def _mirrored(positions, size):
    """Positions on an axis of `size` pixels that is mirrored at its outermost pixels again and again."""
    period = max(1, 2 * (size - 1))
    return np.minimum(positions % period, -positions % period)


class _Reader:
    """Starts to read a section with its neighbours; those that the call before has read are not read again."""

    def __init__(self, store, grid, sections):
        self._store, self.grid, self._sections = store, grid, sections
        self._recent = {}

    def start(self, block):
        """Start to read `block.read`; return a function that waits for it: the block, and raw grey levels [y, x, section]."""
        (section, *start), (_, *stop) = block.read
        numbers = section_numbers(section, self._sections, self.grid.shape[0])
        boxes = [Box((int(number), *start), (int(number) + 1, *stop)) for number in numbers]
        parts = {box: self._recent.get(box) or functools.cache(self.grid.request(self._store, box).result)
                 for box in dict.fromkeys(boxes)}
        self._recent = parts
        return lambda: (block, np.stack([parts[box]()[0] for box in boxes], axis=-1))


def _one_ahead(start, items):
    """`start(item)()` of every item in order; the next item is started before one is waited for."""
    pending: collections.deque = collections.deque()
    for item in items:
        pending.append(start(item))
        if len(pending) > 1:
            yield pending.popleft()()
    for wait in pending:
        yield wait()


def _predicted(predict, reader, statistics, blocks, tilings, classes, at_once, on_working_grid):
    """The blocks of `predict_blocks`, from their plans."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:

        def start(tiles):
            return executor.submit(predict, tiles, statistics).result

        for block, image in _one_ahead(reader.start, blocks):
            values = _blend(start, image, block, tilings, classes, at_once)
            if not np.isfinite(values.sum()):
                raise InputError(f"section {block.voxels.start[0]}: probabilities are not finite: the image has values that are"
                                 " not finite, or the training of this network has diverged (lower its learning rate)")
            grid = reader.grid
            if on_working_grid:
                yield block.working, values[None]
            else:
                yield block.voxels, values[None] if grid.ratio == 1 else grid.back(values[None], block.working, block.voxels)


def _blend(start, image, block, tilings, classes, at_once):
    """Probabilities float32 [y, x, class] on `block.working`, from the image on `block.read`, `at_once` tiles at a time."""
    rows, columns = (index - first for index, first in zip(block.pixels, block.read.start[1:], strict=True))
    row_weights, column_weights = (tiling.weights(len(starts)) for tiling, starts in zip(tilings, block.starts, strict=True))
    inner = tuple(slice(tiling.halo, tiling.halo + tiling.core) for tiling in tilings)
    size = (starts[-1] - starts[0] + tiling.core for tiling, starts in zip(tilings, block.starts, strict=True))
    result = np.zeros((*size, classes), np.float32)  # of all cores

    def start_batch(batch):
        wait = start(np.stack([image[np.ix_(rows[row], columns[column])] for row, column in batch]))
        return lambda: (batch, wait())

    tiles = list(itertools.product(range(len(rows)), range(len(columns))))
    batches = (tiles[first:first + at_once] for first in range(0, len(tiles), at_once))
    for batch, predicted in _one_ahead(start_batch, batches):
        for (row, column), values in zip(batch, predicted, strict=True):
            core = tuple(slice(number * tiling.stride, number * tiling.stride + tiling.core)
                         for number, tiling in zip((row, column), tilings, strict=True))
            result[core] += values[inner] * row_weights[row][:, None, None] * column_weights[column][:, None]
    first_y, first_x = (block.working.start[axis] - block.starts[axis - 1][0] for axis in (1, 2))
    return result[first_y:, first_x:][:block.working.shape[1], :block.working.shape[2]]
