"""The levels of a volume that is shown: those that its file has are read, and the others are computed when they are asked for."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorstore as ts

from yseg.data.box import triple
from yseg.view.arrays import as_served, chunk_box, chunk_shape, served_type
from yseg.volumes.opened import OpenedVolume
from yseg.volumes.pyramid import MEAN, MODE, Level, Reduction, downsampled
from yseg.volumes.writers.multiscale import CHUNK

_CACHE_BYTES = 2**27  # chunks that are kept of a volume, as those of the next level are computed from them
_READ_AT_MOST = 2**28  # voxels that are read for one chunk: coarser levels, if the file has none, are left out
Meaning = Callable[[np.ndarray], np.ndarray]


class Levels:
    """The levels of a volume [z, y, x]; their chunks may be read from many threads.

    levels: the finest first; dtype: of the voxels, as they are served; labels: whether levels are computed by mode, else by mean.
    """

    def __init__(self, levels: Sequence[Level], stored: Mapping[int, ts.TensorStore], *, labels: bool,
                 meaning: Meaning | None = None) -> None:
        """From what a file has.

        Args:
          levels: see `yseg.volumes.pyramid.levels_of`.
          stored: by the numbers of the levels, the voxels of those that the file has, of the first at least.
          labels: see the class.
          meaning: what stored voxels mean, an array of the same shape, of one type; None = themselves.
        """
        count = next((number for number in range(1, len(levels)) if _voxels_read(levels, stored, number) > _READ_AT_MOST),
                     len(levels))
        self.levels, self._stored, self.labels = list(levels[:count]), stored, labels
        self._meaning = meaning or (lambda values: values)
        self.dtype = served_type(self._meaning(np.zeros(0, stored[0].dtype.numpy_dtype)).dtype, labels=labels)
        kept = max(8, _CACHE_BYTES // (math.prod(CHUNK) * self.dtype.itemsize))
        self.chunk = functools.lru_cache(kept)(self._chunk)

    def _chunk(self, number: int, index: tuple[int, int, int]) -> np.ndarray:
        """The voxels [z, y, x] of a chunk of a level, which the volume's end may cut.

        Raises:
          InputError, ValueError, OSError: the file is damaged.
          IndexError: there is no such chunk.
        """
        level, store = self.levels[number], self._stored.get(number)
        box = chunk_box(level, index)
        if box is None:
            raise IndexError(f"index={index}: is no chunk of {level}")
        if store is not None:
            return as_served(self._meaning(store[box].read().result()), self.dtype, labels=self.labels)
        finer = self.levels[number - 1]
        steps = triple(coarse // fine for coarse, fine in zip(level.factors, finer.factors, strict=True))
        region = self._region(number - 1, [slice(place.start * step, min(place.stop * step, size))
                                           for place, step, size in zip(box, steps, finer.shape, strict=True)])
        return downsampled(ts.array(region), Reduction(steps, MODE if self.labels else MEAN)).read().result()

    def _region(self, number: int, box: Sequence[slice]) -> np.ndarray:
        """A box of a level, which starts where a chunk does, from its chunks."""
        sides = chunk_shape(self.levels[number])
        values = np.empty([place.stop - place.start for place in box], self.dtype)
        for index in itertools.product(*(range(place.start // side, -(-place.stop // side))
                                         for place, side in zip(box, sides, strict=True))):
            chunk = self.chunk(number, index)
            starts = [one * side - place.start for one, side, place in zip(index, sides, box, strict=True)]
            inner = tuple(slice(start, start + size) for start, size in zip(starts, chunk.shape, strict=True))
            part = values[inner]
            part[...] = chunk[tuple(slice(size) for size in part.shape)]
        return values


def _voxels_read(levels: Sequence[Level], stored: Mapping[int, ts.TensorStore], number: int) -> int:
    """How many voxels are read for a chunk of a level."""
    origin = max(finer for finer in stored if finer <= number)
    steps = [coarse // fine for coarse, fine in zip(levels[number].factors, levels[origin].factors, strict=True)]
    return math.prod(steps) * math.prod(CHUNK)


def stored_levels(levels: Sequence[Level], finest: OpenedVolume,
                  near: Callable[[float], OpenedVolume] | None) -> dict[int, ts.TensorStore]:
    """What a file has of the levels of a volume, by their numbers.

    Args:
      levels: see `Levels`.
      finest: the first.
      near: opens the file at the resolution that is nearest to a pixel size in nm; None = it has one alone.
    """
    pixel_nm = max(finest.voxel_nm[1] or 0.0, finest.voxel_nm[2] or 0.0)  # as the file says, which may be wrong
    found = {0: finest.store}
    if near is None or not pixel_nm:
        return found
    for number, level in enumerate(levels[1:], 1):
        store = near(pixel_nm * level.factors[1]).store
        if store.shape == level.shape:
            found[number] = store
    return found


def grey_range(store: ts.TensorStore) -> tuple[float, float]:
    """The grey levels from black to white that show an image [z, y, x] well: the first and the last percent are left out.

    They are of 27 places, so that a volume of any size is soon shown. (0, 1) if it has no finite value, and one more than the
    least if all are the same.
    """
    sides = (1, *CHUNK[1:])
    starts = [sorted({max(0, min(round(size * share - side / 2), size - side)) for share in (1 / 6, 1 / 2, 5 / 6)})
              for size, side in zip(store.shape, sides, strict=True)]
    boxes = [tuple(slice(start, min(start + side, size)) for start, side, size in zip(place, sides, store.shape, strict=True))
             for place in itertools.product(*starts)]
    reads = [store[box].read() for box in boxes]
    values = np.concatenate([read.result().ravel() for read in reads])
    values = values[np.isfinite(values)].astype(float)
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    return low, high if high > low else low + 1.0
