"""Depth: how far apart the sections of a volume are, and averages over as many of them as lie within some nanometres.

A structure of some thickness is in several sections, and a mistake is often in one. How many sections a thickness is depends on
the microscope, and what files say of it is often missing or wrong; but tissue looks alike along all axes. So the distance of two
sections is that at which two pixels of one section differ as much as two that lie above one another (isotropy, as in Sporring,
Khanmohammadi, Darkner, Nava, Nyengaard and Jensen, Estimating the thickness of ultra thin sections for electron microscopy by
image statistics, ISBI 2014).
"""

import functools
import math

import numpy as np
import tensorstore as ts
from scipy import ndimage

from yseg.data.box import evenly_spaced

PAIRS = 8  # of neighbouring sections that are compared
SIDE = 512  # rows and columns of them that are looked at
FARTHEST_NM = 200.0  # distance up to which pixels of a section are compared
NOTHING = 0.8  # sections have nothing in common if they differ by this share of how much pixels of a section differ at most
MOST = 8  # sections on either side of one that is averaged: bounds the memory
REACH = 2.0  # standard deviations up to which sections have a weight


def section_spacing(store: ts.TensorStore, pixel_size_nm: float, mask: ts.TensorStore | None = None) -> float:
    """The distance of neighbouring sections, in nm, as their images show it.

    Compared is the variance of the difference of two pixels: of one section at some distance, and of neighbouring sections at
    one place. The noise is the same in both. Sections that are not aligned seem to lie farther apart.

    Args:
      store: TensorStore [z, y, x], the image volume.
      pixel_size_nm: size of a pixel in y and x.
      mask: TensorStore [z, y, x], 0 where there is no tissue; None = where the image is 0.

    Returns:
      float above 0; infinity where neighbouring sections have nothing in common, or there is one section or nothing to see.
    """
    sections, *sizes = store.shape
    rows, columns = (slice((size - min(size, SIDE)) // 2, (size + min(size, SIDE)) // 2) for size in sizes)
    places = [(slice(number, number + 2), rows, columns) for number in evenly_spaced(0, sections - 1, PAIRS)]
    pairs = [store[place].read().result().astype(np.float64) for place in places]  # float32 may not hold their squares
    if mask is not None:
        pairs = [np.where(mask[place].read().result(), pair, 0) for place, pair in zip(places, pairs, strict=True)]
    between = sum(_variance(upper, lower) for upper, lower in pairs)
    most = min(math.ceil(FARTHEST_NM / pixel_size_nm), min(sizes) - 1)
    within = [0.0, *(sum(_variance(pair[:, distance:], pair[:, :-distance]) / 2
                         + _variance(pair[..., distance:], pair[..., :-distance]) / 2 for pair in pairs)
                     for distance in range(1, most + 1))]
    if not 0 < between <= NOTHING * max(within):
        return math.inf
    distance = next(number for number, value in enumerate(within) if value >= between)
    return pixel_size_nm * (distance - (within[distance] - between) / (within[distance] - within[distance - 1]))


def _variance(one, other):
    """Of the difference of two images, where neither is 0, as it is where there is no tissue."""
    difference = (one - other)[(one != 0) & (other != 0)]
    return float(difference.var()) if difference.size else 0.0


def depth_weights(depth_nm: float, spacing_nm: float) -> np.ndarray:
    """Weights of a section and those around it, float32 [2 n + 1], which sum to 1: a Gaussian, cut off at REACH.

    Args:
      depth_nm: standard deviation; 0 = the section alone.
      spacing_nm: of neighbouring sections.
    """
    count = min(MOST, math.floor(REACH * depth_nm / spacing_nm))
    offsets = np.arange(-count, count + 1) * (spacing_nm if count else 0.0)
    weights = np.exp(-0.5 * (offsets / (depth_nm or 1.0)) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def averaged(values: np.ndarray, weights: np.ndarray, tissue: np.ndarray | None = None) -> np.ndarray:
    """Averages float32 [z, y, x] over sections, see `depth_weights`; the outermost sections are repeated.

    What is no tissue, bool [z, y, x], has no part in them and stays as it is; None = all is.
    """
    average = functools.partial(ndimage.correlate1d, weights=weights, axis=0, mode="nearest")
    values = np.asarray(values, np.float32)
    if tissue is None:
        return average(values)
    total = average(tissue.astype(np.float32))
    return np.where(tissue, average(np.where(tissue, values, 0)) / np.where(tissue, total, 1), values)
