"""The working grid: the pixels on which the network works, defined once for a whole volume.

A working pixel has a fixed place in the volume, so that a box of the grid is computed from coordinates: whoever asks for a
pixel, alone or in any box, gets the same bits. With ratio r = working pixel size / pixel size, working pixel j covers
[j r, (j + 1) r) of the volume's rows or columns, pixel i of which covers [i, i + 1); r need not be whole. Sections are never
resampled.
"""

import dataclasses
import itertools
import math
import operator
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorstore as ts

from yseg.config import InputError
from yseg.data.split import Box

_BLOCK_VOXELS = 2**24  # voxels of a volume that are read at once
_SECTION_SIDE = 4096  # rows and columns of a section that the statistics look at, at most
_DIGITS = 9  # coordinates are exact to 1e-9 pixels: rounding makes whole numbers of them that are meant to be whole


class Condition(NamedTuple):
    """A comparison of label values with numbers; the name "classes" means that values are class indices."""

    name: str
    values: tuple[float, ...] = ()

    def holds(self, labels):
        """Where it is true: bool, of the shape of `labels`."""
        if self.name == "==":
            return np.isin(labels, self.values)
        return _COMPARISONS[self.name](labels, self.values[0])


class LabelRule(NamedTuple):
    """How label values become classes: foreground is class 1 and the rest 0, but where unlabelled holds they become -1."""

    foreground: Condition
    unlabelled: Condition | None = None


_COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def parse_rule(text, flag):
    """The Condition that '>0', '>=128', '<5', '<=5', '==1,5' or 'classes' means; `flag` is where it was given.

    Raises:
      InputError: it is none of these.
    """
    compact = "".join(text.split())
    if compact == "classes":
        return Condition("classes")
    number = r"-?\d+(?:\.\d+)?"
    found = re.fullmatch(rf"(>=|<=|>|<)({number})|(==)({number}(?:,{number})*)", compact)
    if not found:
        raise InputError(f"{flag}={text!r}: must be a comparison such as '>0', '>=128', '<5' or '==1,5', or 'classes'")
    values = [float(value) for value in (found[2] or found[4]).split(",")]
    return Condition(found[1] or found[3], tuple(int(value) if value.is_integer() else value for value in values))


def label_rule(foreground, unlabelled, flag):
    """The LabelRule of a domain's texts (config.Domain); unlabelled may be empty. InputError as in `parse_rule`."""
    if not unlabelled:
        return LabelRule(parse_rule(foreground, f"{flag}.foreground"))
    condition = parse_rule(unlabelled, f"{flag}.unlabelled")
    if condition.name == "classes":
        raise InputError(f"{flag}.unlabelled={unlabelled!r}: must be a comparison such as '==255'")
    return LabelRule(parse_rule(foreground, f"{flag}.foreground"), condition)


def apply_rule(labels, rule):
    """Label values of any shape as classes int8: -1 = unlabelled.

    Raises:
      InputError: the rule is 'classes' and a value is no class index (0 to 127).
    """
    if rule.foreground.name == "classes":
        invalid = (labels < 0) | (labels > 127)
        if rule.unlabelled:
            invalid &= ~rule.unlabelled.holds(labels)
        if invalid.any():
            raise InputError(f"label value {labels[invalid].flat[0]}: with the foreground rule 'classes' values must be class"
                             " indices from 0 to 127, or unlabelled")
        classes = labels.astype(np.int8)
    else:
        classes = rule.foreground.holds(labels).astype(np.int8)
    if rule.unlabelled:
        classes[rule.unlabelled.holds(labels)] = -1
    return classes


class _Taps(NamedTuple):
    """The samples that make up each of n resampled values, and their weights, which sum to 1."""

    # k is that of the grid, not of the box: sums of the same numbers in the same order have the same bits.
    index: np.ndarray  # int64 [n, k]; taps of weight 0 repeat one that counts
    weight: np.ndarray  # float64 [n, k]

    def astype(self, dtype):
        """The same with weights of this type, which sets the precision of the sums."""
        return self._replace(weight=self.weight.astype(dtype))

    @property
    def start(self):
        """The first sample in use."""
        return int(self.index.min())

    @property
    def stop(self):
        """The sample after the last one in use."""
        return int(self.index.max()) + 1


def _taps(low, high, count, size, weigh):
    """Taps on the samples that touch the open intervals (low, high) [n], of `size` samples that cover [i, i + 1)."""
    first = np.clip(np.floor(np.round(low, _DIGITS)), 0, size - 1).astype(np.int64)
    last = np.clip(np.ceil(np.round(high, _DIGITS)) - 1, first, size - 1).astype(np.int64)
    index = first[:, None] + np.arange(count)
    weight = np.where(index <= last[:, None], weigh(index), 0.0)
    total = np.zeros(len(weight))
    for column in weight.T:  # one by one: NumPy's own sum may order them by the shape
        total += column
    return _Taps(np.minimum(index, last[:, None]), weight / total[:, None])


def _triangle_taps(centre, half_width, size):
    """Taps of linear interpolation at `centre` [n], in samples, with a triangle kernel; renormalised at the border."""
    def weigh(index):
        return np.maximum(0, 1 - np.abs(index - centre[:, None]) / half_width)

    # Sample i counts where |i - centre| < half_width.
    low = np.floor(np.round(centre - half_width, _DIGITS)) + 1
    high = np.ceil(np.round(centre + half_width, _DIGITS))
    return _taps(low, high, math.ceil(round(2 * half_width, _DIGITS)), size, weigh)


def _area_taps(low, length, size):
    """Taps that average over [low, low + length) [n] by the share of each sample that is in it."""
    def weigh(index):
        return np.maximum(0, np.minimum(index + 1, low[:, None] + length) - np.maximum(index, low[:, None]))

    return _taps(low, low + length, math.ceil(length) + 1, size, weigh)


def _gather(values, taps, offset, axis):
    """Weighted sums along an axis, 0 or 1, of `values` [y, x, ...], whose first sample there is number `offset`."""
    channels, total = values[0, 0].size, 0
    for index, weight in zip(taps.index.T - offset, taps.weight.T, strict=True):
        taken = np.take(values, index, axis)
        # Rows of all pixels and channels: NumPy's inner loop would else be as short as there are channels.
        total = total + taken.reshape(len(taken), -1) * (weight[:, None] if axis == 0 else np.repeat(weight, channels))
    return total.reshape(taken.shape)


def _resample(section, rows, columns, offset):
    """A section [y, x, ...] resampled along both axes; its first pixel is number `offset` (y, x)."""
    return _gather(_gather(section, rows, offset[0], 0), columns, offset[1], 1)


def _majority(classes, rows, columns, offset):
    """The class int8 [n, m] that covers most of each pixel's area; equal areas: the smaller class. From classes [y, x]."""
    present = np.unique(classes)
    best = np.full((len(rows.index), len(columns.index)), present[0], np.int8)
    if len(present) == 1:
        return best
    largest = np.zeros(best.shape)
    for value in present:
        area = _resample((classes == value).astype(np.float64), rows, columns, offset)
        larger = area > largest + 1e-9  # areas are exact to rounding; what differs less is equal
        best[larger], largest[larger] = value, area[larger]
    return best


@dataclasses.dataclass(frozen=True)
class Request:
    """Voxels that are being read; `result()` waits for them and resamples them."""

    voxels: ts.Future
    finish: Callable[[np.ndarray], np.ndarray]

    def result(self):
        """The box that was asked for, [z, y, x]."""
        return self.finish(self.voxels.result())


@dataclasses.dataclass(frozen=True)
class Grid:
    """The working grid of a volume of shape (z, y, x) whose pixels measure pixel_size_nm in y and x."""

    volume_shape: tuple[int, int, int]
    pixel_size_nm: float
    working_pixel_size_nm: float

    @property
    def ratio(self):
        """Size of a working pixel in pixels of the volume; exactly 1 if the sizes are equal to 9 digits."""
        ratio = self.working_pixel_size_nm / self.pixel_size_nm
        return 1.0 if abs(ratio - 1) < 1e-9 else ratio

    @property
    def shape(self):
        """Sections, rows and columns of whole working pixels; at least 1."""
        sections, *sizes = self.volume_shape
        return (sections, *(max(1, math.floor(round(size / self.ratio, 6))) for size in sizes))

    @property
    def box(self):
        """The whole grid."""
        return Box.whole(self.shape)

    def request(self, store, box):
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
                values = _resample(section, rows, columns, (rows.start, columns.start))
                out[...] = np.rint(values) if kind.kind in "ui" else values
            return result

        return self._start(store, box, (rows, columns), finish)

    def request_labels(self, store, rule, box):
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
                out[...] = _majority(apply_rule(section, rule), rows, columns, (rows.start, columns.start))
            return result

        return self._start(store, box, (rows, columns), finish)

    def image(self, store, box):
        """A box of the image [z, y, x], see `request`; large ones are read in blocks of sections."""
        return self._in_blocks(lambda part: self.request(store, part), box)

    def labels(self, store, rule, box):
        """A box of labels int8 [z, y, x], see `request_labels`; large ones are read in blocks of sections."""
        return self._in_blocks(lambda part: self.request_labels(store, rule, part), box)

    def inside(self, voxel_box):
        """The working pixels, a Box, that are computed from voxels of this Box alone, image and labels. It may be empty."""
        ranges = [(voxel_box.start[0], voxel_box.stop[0])]
        for axis in (1, 2):
            taps = [self._image_taps(axis, self.box), self._label_taps(axis, self.box)]
            first = np.min([tap.index.min(1) for tap in taps], 0)
            last = np.max([tap.index.max(1) for tap in taps], 0)
            found = np.flatnonzero((first >= voxel_box.start[axis]) & (last < voxel_box.stop[axis]))
            ranges.append((int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0))
        return Box(*zip(*ranges, strict=True))

    def covering(self, voxel_box):
        """The working pixels, a Box, that `back` needs for this Box of voxels."""
        if voxel_box.is_empty:
            return Box((voxel_box.start[0], 0, 0), (voxel_box.stop[0], 0, 0))
        taps = [self._back_taps(axis, voxel_box) for axis in (1, 2)]
        return Box((voxel_box.start[0], *(tap.start for tap in taps)), (voxel_box.stop[0], *(tap.stop for tap in taps)))

    def back(self, values, working_box, voxel_box):
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
            out[...] = _resample(section, rows, columns, working_box.start[1:])
        return result

    def _image_taps(self, axis, box):
        centre = (np.arange(box.start[axis], box.stop[axis]) + 0.5) * self.ratio - 0.5
        return _triangle_taps(centre, max(1.0, self.ratio), self.volume_shape[axis])

    def _label_taps(self, axis, box):
        return _area_taps(np.arange(box.start[axis], box.stop[axis]) * self.ratio, self.ratio, self.volume_shape[axis])

    def _back_taps(self, axis, voxel_box):
        # The grid's pixels are whole, so that it may end before the volume does: the last pixel is continued.
        size = self.shape[axis]
        centre = np.clip((np.arange(voxel_box.start[axis], voxel_box.stop[axis]) + 0.5) / self.ratio - 0.5, 0, size - 1)
        return _triangle_taps(centre, max(1.0, 1 / self.ratio), size)

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


def statistics(store, max_sections=32, box=None):
    """Mean and standard deviation of an image volume, for z-scoring.

    They are those of at most `max_sections` evenly spaced sections, and of the middle 4096 x 4096 pixels of larger ones.

    Args:
      store: TensorStore [z, y, x].
      max_sections: how many sections are read at most.
      box: Box in voxels to which this is limited; None = the whole volume.

    Returns:
      (mean, std), floats, in grey levels; std is 1.0 where all values are equal.

    Raises:
      InputError: there are values that are not finite.
    """
    box = box or Box.whole(store.shape)
    numbers = np.unique(np.linspace(box.start[0], box.stop[0] - 1, min(max_sections, box.shape[0])).round().astype(int))
    extra = [max(0, size - _SECTION_SIDE) for size in box.shape]
    rows, columns = (slice(box.start[axis] + extra[axis] // 2, box.stop[axis] - (extra[axis] + 1) // 2) for axis in (1, 2))
    count, mean, squares = 0, 0.0, 0.0  # squares: sum of the squared differences from the mean
    for number in numbers:
        section = store[int(number), rows, columns].read().result().astype(np.float64)
        if not np.isfinite(section).all():
            raise InputError(f"the image volume has values that are not finite in section {number}")
        # Chan, Golub and LeVeque 1983: the union of two samples, without cancellation.
        difference, total = section.mean() - mean, count + section.size
        squares += ((section - section.mean()) ** 2).sum() + difference**2 * count * section.size / total
        mean, count = mean + difference * section.size / total, total
    return float(mean), math.sqrt(squares / count) or 1.0
