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
from typing import NamedTuple

import jax
import numpy as np

from yseg import parallel
from yseg.config import InputError
from yseg.data.grid import apply_rule
from yseg.data.patches import section_numbers
from yseg.data.split import Box
from yseg.metrics import Counts
from yseg.models import build_network
from yseg.training.step import z_score

BLOCK_SIZE = 4096  # largest side of a block, in working pixels: bounds the memory
_CHUNK = 512  # blocks of a region start at multiples of this many voxels, so that they rarely share a chunk of the output
_WRITES = 4  # blocks that are being written while others are computed


def make_predictor(config, variables):
    """The trained network as a function of raw tiles, on all local devices; compiled once for each shape of a tile.

    Args:
      config: `yseg.config.Experiment`.
      variables: {"params": {"encoder", "decoder"}, "batch_stats"} of the segmentation network, a U-Net.

    Returns:
      `predict(tiles, statistics)`: raw grey levels [tile, y, x, section] and their volume's, see `z_score` -> float32
      probabilities [tile, y, x, class] on the host. Any number of tiles; they are computed local devices x
      `config.inference.batch_size` at a time.
    """
    return make_predictors(config)(variables)


def make_predictors(config):
    """`variables -> predict`, see `make_predictor`; all of them share what is compiled."""
    network = build_network(config.model, "ft")
    share = (parallel.local_device_count(), config.inference.batch_size)
    at_once = math.prod(share)

    def probabilities(variables, tiles, statistics):
        return jax.nn.softmax(network.apply(variables, z_score(tiles, statistics)), axis=-1)

    compiled = parallel.map_shares(probabilities)

    def predict(variables, tiles, statistics):
        statistics = np.asarray(statistics, np.float32)
        results = []
        for first in range(0, len(tiles), at_once):
            part = tiles[first:first + at_once]
            padded = np.zeros((at_once, *tiles.shape[1:]), tiles.dtype)
            padded[:len(part)] = part
            result = np.asarray(compiled(variables, padded.reshape(*share, *tiles.shape[1:]), statistics))
            results.append(result.reshape(at_once, *result.shape[2:])[:len(part)])
        return results[0] if len(results) == 1 else np.concatenate(results)

    chosen = functools.partial(_over_symmetries, predict) if config.inference.test_time_augmentation else predict
    return lambda variables: functools.partial(chosen, parallel.replicate(variables))


def _over_symmetries(predict, variables, tiles, statistics):
    """`predict`, averaged over the eight symmetries of the square: each is applied to the tiles and undone in the result."""
    total = None
    for transposed, mirrored_y, mirrored_x in itertools.product((False, True), repeat=3):
        step = np.s_[:, ::-1 if mirrored_y else 1, ::-1 if mirrored_x else 1]
        moved = (tiles.swapaxes(1, 2) if transposed else tiles)[step]
        found = predict(variables, moved, statistics)[step]
        found = found.swapaxes(1, 2) if transposed else found
        total = found.copy() if total is None else np.add(total, found, out=total)
    return total / np.float32(8)


class Tiling(NamedTuple):
    """How tiles follow each other along one axis, in working pixels; all are multiples of `multiple`.

    halo: context on either side; overlap: of neighbouring cores; stride: from a tile to the next; multiple: of the network.
    """

    halo: int
    overlap: int
    stride: int
    multiple: int

    @property
    def core(self):
        """Size of a tile without its halo."""
        return self.stride + self.overlap

    @property
    def size(self):
        """Size of a tile."""
        return self.core + 2 * self.halo

    def starts(self, start, stop):
        """Where the cores of the tiles that cover [start, stop) start."""
        first = start // self.multiple * self.multiple
        count = max(1, math.ceil((stop - first - self.overlap) / self.stride))
        return [first + number * self.stride for number in range(count)]

    def weights(self, count):
        """Weights of `count` tiles one after another: float32 [tile, core]; those of all tiles that see a pixel sum to 1."""
        rise = np.sin(np.pi / 2 * (np.arange(self.overlap) + 0.5) / max(1, self.overlap)) ** 2
        weights = np.ones(self.core)
        weights[:self.overlap] *= rise
        weights[self.core - self.overlap:] *= rise[::-1]
        total = np.zeros(count * self.stride + self.overlap)
        places = np.arange(count)[:, None] * self.stride + np.arange(self.core)
        for place in places:
            total[place] += weights
        return (weights / total[places]).astype(np.float32)


def make_tiling(network, inference, spans):
    """The `Tiling` with the smallest tiles that covers each of `spans` along an axis in as few tiles as possible.

    Args:
      network: `yseg.models.UNet`.
      inference: `yseg.config.Inference`; the overlap is rounded up to a multiple of `network.multiple`.
      spans: (start, stop) of the blocks of a region, in working pixels.

    Raises:
      InputError: `tile_size` leaves no room between halo and overlap.
    """
    multiple, halo = network.multiple, network.halo
    overlap = _rounded_up(inference.overlap, multiple)
    room = inference.tile_size - 2 * halo - overlap
    if room < multiple:
        raise InputError(f"--config.inference.tile_size={inference.tile_size}: must be at least {2 * halo + overlap + multiple}"
                         f" for --config.model.levels={network.levels} and --config.inference.overlap={inference.overlap}")
    extent = max(stop - start // multiple * multiple for start, stop in spans) - overlap
    count = max(1, math.ceil(extent / (room // multiple * multiple)))
    return Tiling(halo, overlap, max(multiple, _rounded_up(math.ceil(extent / count), multiple)), multiple)


def _rounded_up(size, multiple):
    return -(-size // multiple) * multiple


def predict_blocks(predict, network, store, grid, statistics, region, config, block_size=BLOCK_SIZE):
    """Class probabilities of a region, block by block: sections in order, and in each its blocks of rows and columns.

    Around the region the network sees what the volume has there, and beyond the volume's borders its mirror image. The next block
    is read while one is computed. Memory depends on the size of a block and not on that of the volume.

    Args:
      predict: see `make_predictor`.
      network: the `yseg.models.UNet` that it applies.
      store: TensorStore [z, y, x], the image volume.
      grid: `yseg.data.grid.Grid` of the volume.
      statistics: mean and standard deviation of the volume's grey levels.
      region: Box in voxels, not empty.
      config: `yseg.config.Experiment`.
      block_size: largest side of a block, in working pixels.

    Returns:
      Iterator of (Box in voxels, float32 probabilities [z, y, x, class] of these voxels). The boxes are one section thick, do not
      overlap and make up the region.

    Raises:
      InputError: at once if `tile_size` is too small; while iterating if probabilities are not finite.
    """
    largest = max(1, math.floor(block_size * grid.ratio))
    rows, columns = (_spans(region.start[axis], region.stop[axis], largest) for axis in (1, 2))
    # One tiling for all blocks: tiles of one shape, which are compiled once.
    covering = [grid.covering(_block_box(0, row, column)) for row in rows for column in columns]
    tilings = tuple(make_tiling(network, config.inference, [(box.start[axis], box.stop[axis]) for box in covering])
                    for axis in (1, 2))
    boxes = itertools.starmap(_block_box, itertools.product(range(region.start[0], region.stop[0]), rows, columns))
    return _predicted(predict, store, grid, statistics, config, boxes, tilings)


def _block_box(section, rows, columns):
    return Box((section, rows[0], columns[0]), (section + 1, rows[1], columns[1]))


def _spans(start, stop, largest):
    """[start, stop) cut into ranges of about the same size, at most `largest`."""
    count = math.ceil((stop - start) / largest)
    unit = _CHUNK if largest >= _CHUNK else 1
    step = min(largest // unit * unit, _rounded_up(math.ceil((stop - start) / count), unit))
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
        self._store, self._grid, self._sections = store, grid, sections
        self._recent = {}

    def start(self, block):
        """Start to read `block.read`; return a function that waits for it: the block, and raw grey levels [y, x, section]."""
        (section, *start), (_, *stop) = block.read
        numbers = np.asarray(section_numbers(section, self._sections, self._grid.shape[0]))
        boxes = [Box((int(number), *start), (int(number) + 1, *stop)) for number in numbers]
        parts = {box: self._recent.get(box) or functools.cache(self._grid.request(self._store, box).result)
                 for box in dict.fromkeys(boxes)}
        self._recent = parts
        return lambda: (block, np.stack([parts[box]()[0] for box in boxes], axis=-1))


def _one_ahead(start, items):
    """`start(item)()` of every item in order; the next item is started before one is waited for."""
    pending = collections.deque()
    for item in items:
        pending.append(start(item))
        if len(pending) > 1:
            yield pending.popleft()()
    for wait in pending:
        yield wait()


def _predicted(predict, store, grid, statistics, config, boxes, tilings):
    """The blocks of `predict_blocks`."""
    reader = _Reader(store, grid, config.model.sections)
    blocks = (_plan(box, grid, tilings) for box in boxes)
    at_once = parallel.local_device_count() * config.inference.batch_size
    with concurrent.futures.ThreadPoolExecutor(1) as executor:

        def start(tiles):
            return executor.submit(predict, tiles, statistics).result

        for block, image in _one_ahead(reader.start, blocks):
            values = _blend(start, image, block, tilings, config.model.classes, at_once)
            if not np.isfinite(values.sum()):
                raise InputError(f"section {block.voxels.start[0]}: probabilities are not finite: the image has values that are"
                                 " not finite, or the training of this model has diverged (--config.optimizer.learning_rate)")
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


def predicted_classes(probabilities, threshold):
    """The class of every voxel, uint8.

    Args:
      probabilities: [..., class].
      threshold: of two classes, class 1 is predicted where its probability is at least this; more classes do not use it.
    """
    if probabilities.shape[-1] == 2:
        return (probabilities[..., 1] >= threshold).astype(np.uint8)
    return probabilities.argmax(axis=-1).astype(np.uint8)


def score(blocks, labels, rule, region, thresholds, classes):
    """`yseg.metrics.Counts` of a region's blocks, at the volume's own voxels. Section 0 of the counts is the region's first.

    Args:
      blocks: iterable of (Box, probabilities), see `predict_blocks`.
      labels: TensorStore [z, y, x] of label values.
      rule: `yseg.data.grid.LabelRule`.
      region: Box in voxels to which the blocks belong.
      thresholds: of the foreground probability, increasing; more than two classes are counted once, as predicted by argmax.
      classes: number of classes.

    Raises:
      InputError: a label is no class index of the model.
    """
    counts = Counts.zeros(region.shape[0], thresholds) if classes == 2 else Counts.zeros(region.shape[0], classes=classes)
    for box, probabilities in blocks:
        truth = apply_rule(labels[box.slices].read().result(), rule)
        section = box.start[0] - region.start[0]
        if classes == 2:
            counts = counts.add(truth, probabilities[..., 1], section)
        else:
            counts = counts.add_predictions(truth, probabilities.argmax(axis=-1), section)
    return counts


def write_segmentation(blocks, output, region, threshold, progress=None):
    """Write the predicted classes of a region's blocks; blocks are written while the next ones are computed.

    Args:
      blocks: iterable of (Box, probabilities), see `predict_blocks`.
      output: TensorStore uint8 [z, y, x] of the region's shape.
      region: Box in voxels to which the blocks belong; its start is the output's (0, 0, 0).
      threshold: see `predicted_classes`.
      progress: called with each Box once it has been handed over to be written.
    """
    writes = collections.deque()
    for box, probabilities in blocks:
        start = (first - origin for first, origin in zip(box.start, region.start, strict=True))
        place = tuple(slice(first, first + size) for first, size in zip(start, box.shape, strict=True))
        writes.append(output[place].write(predicted_classes(probabilities, threshold)))
        if len(writes) > _WRITES:
            writes.popleft().result()
        if progress:
            progress(box)
    for write in writes:
        write.result()
