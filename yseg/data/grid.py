"""The working grid: the pixels on which the network works, defined once for a whole volume.

A working pixel has a fixed place in the volume, so that a box of the grid is computed from coordinates: whoever asks for a
pixel, alone or in any box, gets the same bits. With ratio r = working pixel size / pixel size, working pixel j covers
[j r, (j + 1) r) of the volume's rows or columns, pixel i of which covers [i, i + 1); r need not be whole. Sections are never
resampled.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import tensorstore as ts

from yseg.data.box import Box, triple
from yseg.data.labels import LabelRule, apply_rule
from yseg.data.resample import area_taps, majority, resample, triangle_taps

_BLOCK_VOXELS = 2**24  # voxels of a volume that are read at once


@dataclasses.dataclass(frozen=True)
class Request:
    """Voxels that are being read; `result()` waits for them and resamples them."""

    voxels: ts.Future
    finish: Callable[[np.ndarray], np.ndarray]

    def result(self) -> np.ndarray:
        """The box that was asked for, [z, y, x]."""
        return self.finish(self.voxels.result())


@dataclasses.dataclass(frozen=True)
class Grid:
    """The working grid of a volume of shape (z, y, x) whose pixels measure pixel_size_nm in y and x."""

    volume_shape: tuple[int, int, int]
    pixel_size_nm: float
    working_pixel_size_nm: float

    @property
    def ratio(self) -> float:
        """Size of a working pixel in pixels of the volume; exactly 1 if the sizes are equal to 9 digits."""
        ratio = self.working_pixel_size_nm / self.pixel_size_nm
        return 1.0 if abs(ratio - 1) < 1e-9 else ratio

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sections, rows and columns of whole working pixels; at least 1."""
        sections, *sizes = self.volume_shape
        return triple((sections, *(max(1, math.floor(round(size / self.ratio, 6))) for size in sizes)))

    @property
    def box(self) -> Box:
        """The whole grid."""
        return Box.whole(self.shape)

    def request(self, store: ts.TensorStore, box: Box) -> Request:
        """Start to read a box of the image; return the Request for it.

        Anti-aliased linear interpolation: a triangle as wide as two working pixels (two pixels of the volume, if these are
        larger). Integers are rounded to the volume's own type; other types become float32.

        Args:
          store: TensorStore [z, y, x], the volume.
          box: Box in working pixels.

        Raises:
          ValueError: the box is empty or reaches outside the grid, or the volume is not of the grid's shape.
        """
        self._check(store, box)
        kind = store.dtype.numpy_dtype
        if self.ratio == 1:
            return self._start(store, box, None, lambda voxels: voxels if kind.kind in "ui" else voxels.astype(np.float32))
        precision = np.result_type(kind, np.float32)  # float64 for integers of 32 bits
        rows, columns = (self._image_taps(axis, box).astype(precision) for axis in (1, 2))

        def finish(voxels):
            result = np.empty(box.shape, kind if kind.kind in "ui" else np.float32)
            for section, out in zip(voxels, result, strict=True):
                values = resample(section, rows, columns, (rows.start, columns.start))
                out[...] = np.rint(values) if kind.kind in "ui" else values
            return result

        return self._start(store, box, (rows, columns), finish)

    def request_labels(self, store: ts.TensorStore, rule: LabelRule, box: Box) -> Request:
        """Start to read a box of labels; return the Request for it: classes int8 [z, y, x], see `apply_rule`.

        A working pixel gets the class that covers most of its area, the smaller one of two that cover the same; -1 counts as a
        class.

        Args:
          store: TensorStore [z, y, x], the label volume.
          rule: LabelRule.
          box: Box in working pixels.

        Raises:
          ValueError: as `request`.
          InputError: on `result()`, as `apply_rule`.
        """
        self._check(store, box)
        if self.ratio == 1:
            return self._start(store, box, None, lambda voxels: apply_rule(voxels, rule))
        rows, columns = (self._label_taps(axis, box) for axis in (1, 2))

        def finish(voxels):
            result = np.empty(box.shape, np.int8)
            for section, out in zip(voxels, result, strict=True):
                out[...] = majority(apply_rule(section, rule), rows, columns, (rows.start, columns.start))
            return result

        return self._start(store, box, (rows, columns), finish)

    def image(self, store: ts.TensorStore, box: Box) -> np.ndarray:
        """A box of the image [z, y, x], see `request`; large ones are read in blocks of sections."""
        return self._in_blocks(lambda part: self.request(store, part), box)

    def labels(self, store: ts.TensorStore, rule: LabelRule, box: Box) -> np.ndarray:
        """A box of labels int8 [z, y, x], see `request_labels`; large ones are read in blocks of sections."""
        return self._in_blocks(lambda part: self.request_labels(store, rule, part), box)

    def inside(self, voxel_box: Box) -> Box:
        """The working pixels, a Box, that are computed from voxels of this Box alone, image and labels. It may be empty."""
        ranges = [(voxel_box.start[0], voxel_box.stop[0])]
        for axis in (1, 2):
            taps = [self._image_taps(axis, self.box), self._label_taps(axis, self.box)]
            first = np.min([tap.index.min(1) for tap in taps], 0)
            last = np.max([tap.index.max(1) for tap in taps], 0)
            found = np.flatnonzero((first >= voxel_box.start[axis]) & (last < voxel_box.stop[axis]))
            ranges.append((int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0))
        return Box(*zip(*ranges, strict=True))

    def covering(self, voxel_box: Box) -> Box:
        """The working pixels, a Box, that `back` needs for this Box of voxels."""
        if voxel_box.is_empty:
            return Box((voxel_box.start[0], 0, 0), (voxel_box.stop[0], 0, 0))
        taps = [self._back_taps(axis, voxel_box) for axis in (1, 2)]
        return Box((voxel_box.start[0], *(tap.start for tap in taps)), (voxel_box.stop[0], *(tap.stop for tap in taps)))

    def back(self, values: np.ndarray, working_box: Box, voxel_box: Box) -> np.ndarray:
        """Values on the working grid, interpolated linearly to the volume's own voxels (averaged, if these are the larger).

        Args:
          values: float32 [z, y, x] or [z, y, x, channel] on `working_box`.
          working_box: Box in working pixels that contains `covering(voxel_box)`.
          voxel_box: Box in voxels.

        Returns:
          float32 [z, y, x] or [z, y, x, channel] on `voxel_box`. Beyond the outermost working pixels' centres it is constant.

        Raises:
          ValueError: the boxes do not fit one another, the values or the volume.
        """
        values = np.asarray(values, np.float32)
        if values.shape[:3] != working_box.shape or not working_box.contains(self.covering(voxel_box)):
            raise ValueError(f"values {values.shape} on {working_box} do not cover {voxel_box}")
        if not Box.whole(self.volume_shape).contains(voxel_box):
            raise ValueError(f"{voxel_box} is not inside a volume of {self.volume_shape}")
        result = np.empty((*voxel_box.shape, *values.shape[3:]), np.float32)
        if voxel_box.is_empty:
            return result
        rows, columns = (self._back_taps(axis, voxel_box).astype(np.float32) for axis in (1, 2))
        first = voxel_box.start[0] - working_box.start[0]
        for section, out in zip(values[first:first + len(result)], result, strict=True):
            out[...] = resample(section, rows, columns, working_box.start[1:])
        return result

    def _image_taps(self, axis, box):
        centre = (np.arange(box.start[axis], box.stop[axis]) + 0.5) * self.ratio - 0.5
        return triangle_taps(centre, max(1.0, self.ratio), self.volume_shape[axis])

    def _label_taps(self, axis, box):
        return area_taps(np.arange(box.start[axis], box.stop[axis]) * self.ratio, self.ratio, self.volume_shape[axis])

    def _back_taps(self, axis, voxel_box):
        # The grid's pixels are whole, so that it may end before the volume does: the last pixel is continued.
        size = self.shape[axis]
        centre = np.clip((np.arange(voxel_box.start[axis], voxel_box.stop[axis]) + 0.5) / self.ratio - 0.5, 0, size - 1)
        return triangle_taps(centre, max(1.0, 1 / self.ratio), size)

    def _check(self, store, box):
        if tuple(store.shape) != tuple(self.volume_shape):
            raise ValueError(f"a volume of {tuple(store.shape)} has another shape than the grid's {self.volume_shape}")
        if box.is_empty or not self.box.contains(box):
            raise ValueError(f"{box} is not a box inside the working grid {self.shape}")

    def _start(self, store, box, taps, finish):
        """Request the voxels under a box: those of the taps of rows and columns, or (None) the box itself."""
        sections, *pixels = box.slices
        if taps:
            pixels = [slice(tap.start, tap.stop) for tap in taps]
        return Request(store[sections, *pixels].read(), finish)

    def _in_blocks(self, request, box):
        """The results of requests for blocks of sections as one array; the next block is read while one is resampled."""
        step = max(1, int(_BLOCK_VOXELS / (box.shape[1] * box.shape[2] * self.ratio**2 + 1)))
        parts = [box._replace(start=(start, *box.start[1:]), stop=(min(start + step, box.stop[0]), *box.stop[1:]))
                 for start in range(box.start[0], box.stop[0], step)] or [box]
        result, following = None, request(parts[0])
        for part, later in itertools.zip_longest(parts, parts[1:]):
            current, following = following, later and request(later)
            values = current.result()
            result = np.empty(box.shape, values.dtype) if result is None else result
            result[part.start[0] - box.start[0]:part.stop[0] - box.start[0]] = values
        return result
