"""Resampling along rows and columns: every value is a weighted sum of samples whose places come from coordinates."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

_DIGITS = 9  # coordinates are exact to 1e-9 pixels: rounding makes whole numbers of them that are meant to be whole


class Taps(NamedTuple):
    """The samples that make up each of n resampled values, and their weights, which sum to 1."""

    # k is that of the grid, not of the box: sums of the same numbers in the same order have the same bits.
    index: np.ndarray  # type: ignore[assignment]  # (tuple has a method index) int64 [n, k]; taps of weight 0 repeat one that counts
    weight: np.ndarray  # float64 [n, k]

    def astype(self, dtype: DTypeLike) -> "Taps":
        """The same with weights of this type, which sets the precision of the sums."""
        return self._replace(weight=self.weight.astype(dtype))

    @property
    def start(self) -> int:
        """The first sample in use."""
        return int(self.index.min())

    @property
    def stop(self) -> int:
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
    return Taps(np.minimum(index, last[:, None]), weight / total[:, None])


def triangle_taps(centre: np.ndarray, half_width: float, size: int) -> Taps:
    """Taps of linear interpolation at `centre` [n], in samples, with a triangle kernel; renormalised at the border."""
    def weigh(index):
        return np.maximum(0, 1 - np.abs(index - centre[:, None]) / half_width)

    # Sample i counts where |i - centre| < half_width.
    low = np.floor(np.round(centre - half_width, _DIGITS)) + 1
    high = np.ceil(np.round(centre + half_width, _DIGITS))
    return _taps(low, high, math.ceil(round(2 * half_width, _DIGITS)), size, weigh)


def area_taps(low: np.ndarray, length: float, size: int) -> Taps:
    """Taps that average over [low, low + length) [n] by the share of each sample that is in it."""
    def weigh(index):
        return np.maximum(0, np.minimum(index + 1, low[:, None] + length) - np.maximum(index, low[:, None]))

    return _taps(low, low + length, math.ceil(length) + 1, size, weigh)


def _gather(values, taps, offset, axis):
    """Weighted sums along an axis, 0 or 1, of `values` [y, x, ...], whose first sample there is number `offset`."""
    channels: int = values[0, 0].size
    total: Any = 0
    for index, weight in zip(taps.index.T - offset, taps.weight.T, strict=True):
        taken = np.take(values, index, axis)
        # Rows of all pixels and channels: NumPy's inner loop would else be as short as there are channels.
        total = total + taken.reshape(len(taken), -1) * (weight[:, None] if axis == 0 else np.repeat(weight, channels))
    return total.reshape(taken.shape)


def resample(section: np.ndarray, rows: Taps, columns: Taps, offset: tuple[int, int]) -> np.ndarray:
    """A section [y, x, ...] resampled along both axes; its first pixel is number `offset` (y, x)."""
    return _gather(_gather(section, rows, offset[0], 0), columns, offset[1], 1)


def majority(classes: np.ndarray, rows: Taps, columns: Taps, offset: tuple[int, int]) -> np.ndarray:
    """The class int8 [n, m] that covers most of each pixel's area; equal areas: the smaller class. From classes [y, x]."""
    present = np.unique(classes)
    best = np.full((len(rows.index), len(columns.index)), present[0], np.int8)
    if len(present) == 1:
        return best
    largest = np.zeros(best.shape)
    for value in present:
        area = resample((classes == value).astype(np.float64), rows, columns, offset)
        larger = area > largest + 1e-9  # areas are exact to rounding; what differs less is equal
        best[larger], largest[larger] = value, area[larger]
    return best
