"""Amounts of objects that add up: those of an object follow from those of its parts, in whatever blocks these were counted."""

from typing import NamedTuple

import numpy as np

_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # of axes, in the order of `Sums.scatter`


class Sums(NamedTuple):
    """Amounts of fragments or objects, each for itself, of which those of a union follow, see `total`.

    voxels: int64 [n]; first: int64 [n], the least index of a voxel in the region in C order; low, high: int64 [n, 3], their box,
    half-open; mean: float64 [n, 3], of their coordinates; scatter: float64 [n, 6], sums of products of the distances from it, zz,
    zy, zx, yy, yx, xx; probability: float64 [n], the sum; exposed: int64 [n, 3], faces of voxels towards z, y, x behind which
    there is something else. All are in voxels of the region.
    """

    voxels: np.ndarray
    first: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray
    probability: np.ndarray
    exposed: np.ndarray


def sums_of(labels: np.ndarray, coordinates: np.ndarray, probability: np.ndarray, *, exposed: np.ndarray,
            shape: tuple[int, int, int]) -> Sums:
    """The Sums of fragments, each of which has a voxel or more.

    Args:
      labels: int64 [voxel], the fragment of each voxel, from 0 on.
      coordinates: int64 [voxel, 3], z, y, x in the region.
      probability: [voxel].
      exposed: int64 [fragment, 3], see `Sums`.
      shape: of the region.
    """
    count = len(exposed)
    voxels = np.bincount(labels, minlength=count)
    mean = np.stack([np.bincount(labels, column, count) / voxels for column in coordinates.T], axis=1)
    apart = coordinates - mean[labels]
    scatter = np.stack([np.bincount(labels, apart[:, i] * apart[:, j], count) for i, j in _PAIRS], axis=1)
    low, high = np.full((count, 3), np.iinfo(np.int64).max), np.zeros((count, 3), np.int64)
    np.minimum.at(low, labels, coordinates)
    np.maximum.at(high, labels, coordinates + 1)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, labels, np.ravel_multi_index(tuple(coordinates.T), shape))
    return Sums(voxels, first, low, high, mean, scatter, np.bincount(labels, probability, count), exposed)


def total(sums: Sums, owner: np.ndarray, count: int) -> Sums:
    """The Sums of unions: of the parts i with owner[i] = 0, 1, ..., count - 1, each of which has one part or more.

    Means and scatters are added as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979.
    """
    def added(values: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(owner, column, count) for column in values.T], axis=1)

    def extreme(ufunc: np.ufunc, values: np.ndarray, start: int) -> np.ndarray:
        found = np.full((count, *values.shape[1:]), start, np.int64)
        ufunc.at(found, owner, values)
        return found

    most = np.iinfo(np.int64).max
    voxels = np.bincount(owner, sums.voxels, count)
    mean = added(sums.mean * sums.voxels[:, None]) / voxels[:, None]
    apart = sums.mean - mean[owner]
    between = np.stack([apart[:, i] * apart[:, j] * sums.voxels for i, j in _PAIRS], axis=1)
    return Sums(voxels.astype(np.int64), extreme(np.minimum, sums.first, most), extreme(np.minimum, sums.low, most),
                extreme(np.maximum, sums.high, 0), mean, added(sums.scatter + between),
                np.bincount(owner, sums.probability, count), added(sums.exposed).astype(np.int64))
