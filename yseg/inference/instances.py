"""Instances of a block of a mask: fragments of objects, which `yseg.inference.merge` joins across blocks. NumPy and SciPy.

What touches is separated by a watershed on the distance to the background, as Zlateski and Seung (arXiv 1505.00249, 2015) make
one for volumes of any size: each voxel belongs to the peak that the steepest ascent from it leads to, and peaks are joined where
the way between them is high enough. The first needs no more than the distances of a voxel and of its neighbours, the second no
more than a list of peaks and of saddles between them. Distances count up to REACH_NM, and a block is computed with a halo of
that. So it makes no difference how a volume is cut: a fragment that ends at a face of its block is known to go on beyond.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from yseg.data.box import Box, triple
from yseg.metrics.sums import Sums, sums_of

REACH_NM = 200.0  # distances beyond are as this one: what is thicker is cut at narrower necks alone
NECK = 0.5  # an object is cut where it is narrower than this part of the thickness of the thinner side
PER_NM = 64  # distances are kept in whole numbers of 1 / PER_NM, which are the same in all blocks
_WIDE_BYTES, _BLOCK_BYTES = 56, 20  # for each voxel of a block with its halo, if one component reaches through it; and without
_OUTSIDE = np.iinfo(np.uint16).max  # of what lies beyond the region, where nobody knows what there is


class Face(NamedTuple):
    """The foreground of a block at one of its faces: place: int64 [n], increasing, index in the face in C order; fragment: int64
    [n], number from 0; height: uint16 [n], the distance; crosses: bool [n], whether the ascent goes to the next block from here.
    """

    place: np.ndarray
    fragment: np.ndarray
    height: np.ndarray
    crosses: np.ndarray


class Contacts(NamedTuple):
    """Pairs of fragments that touch: pair: int64 [n, 2]; saddle: uint16 [n], height of the highest way from one to the other;
    where: int64 [n], the least place in the region where it is, by which no two are equally high; faces: int64 [n, 3], faces of
    voxels towards z, y, x between them.
    """

    pair: np.ndarray
    saddle: np.ndarray
    where: np.ndarray
    faces: np.ndarray


class Fragments(NamedTuple):
    """Of a block: labels: uint32 [z, y, x], 0 or 1 + the number of a fragment; peak: uint16 [fragment], its largest distance;
    sums and contacts of the fragments; faces: the six of the block, before and behind along z, y, x.
    """

    labels: np.ndarray
    peak: np.ndarray
    sums: Sums
    contacts: Contacts
    faces: tuple[Face, ...]


def halo(voxel_nm: tuple[float, float, float] | None) -> tuple[int, int, int]:
    """By how many voxels z, y, x a block has to be wider on each side, for `fragments`."""
    return (1, 1, 1) if voxel_nm is None else triple(math.ceil(REACH_NM / size) + 1 for size in voxel_nm)


def memory_bytes(block: tuple[int, int, int], voxel_nm: tuple[float, float, float] | None) -> int:
    """About how much `fragments` holds at most, for a block of this shape of which a tenth is foreground."""
    wide = math.prod(size + 2 * more for size, more in zip(block, halo(voxel_nm), strict=True))
    return _WIDE_BYTES * wide + _BLOCK_BYTES * math.prod(block)


def fragments(mask: np.ndarray, probability: np.ndarray, *, block: Box, wide: Box, region: Box,
              voxel_nm: tuple[float, float, float] | None) -> Fragments:
    """The fragments of objects in a block: of connected components, joined by faces, that are cut where they are narrow.

    Args:
      mask: bool [z, y, x], the foreground of `wide`.
      probability: of foreground, [z, y, x] of `block`.
      block: Box of the block.
      wide: the block and `halo` more voxels on each side, as far as the region goes.
      region: Box of all blocks.
      voxel_nm: size of a voxel in z, y, x; None = components are not cut.

    Raises:
      ValueError: an array has another shape than its Box.
    """
    if mask.shape != wide.shape or probability.shape != block.shape:
        raise ValueError(f"mask and probability of shapes {mask.shape} and {probability.shape}: must be {wide.shape} and"
                         f" {block.shape}")
    inner, whole = block.relative_to(wide), region.relative_to(wide)
    seen = Box(triple(first - 1 for first in inner.start), triple(last + 1 for last in inner.stop))  # with one voxel around
    known = seen.intersect(whole)
    heights = np.full(seen.shape, _OUTSIDE, np.uint16)
    heights[known.relative_to(seen).slices] = _distances(mask, voxel_nm)[known.slices]
    flat, shape = heights.ravel(), np.array(seen.shape)
    inside = np.zeros(seen.shape, bool)
    inside[1:-1, 1:-1, 1:-1] = mask[inner.slices]
    voxels = np.flatnonzero(inside)
    number = np.full(heights.size, -1, np.int32)  # of each voxel of foreground in the block
    number[voxels] = np.arange(len(voxels))
    steps = [int(step) for step in (shape[1] * shape[2], shape[2], 1)]

    way = _ascent(flat, voxels, steps, voxel_nm)
    target = number[voxels + way]
    crosses = target < 0  # to a voxel of another block, of which this one knows no more
    labels = _roots(np.where(crosses, number[voxels], target)) if voxel_nm else _components(inside, voxels)
    coordinates = np.stack(np.unravel_index(voxels, seen.shape), axis=1) + np.array(seen.start) - np.array(whole.start)
    places = np.ravel_multi_index(tuple(coordinates.T), region.shape)
    outer = _at_inner_face(coordinates, block.relative_to(region), region.shape)
    labels, contacts = _contracted(labels, flat[voxels], outer, _touching(flat, voxels, number, labels, steps, places))
    count = int(labels.max(initial=-1)) + 1
    exposed = np.stack([np.bincount(labels, (flat[voxels - step] == 0).astype(int) + (flat[voxels + step] == 0), count)
                        for step in steps], axis=1).astype(np.int64)
    peak = _peaks(labels, flat[voxels])
    numbers = np.zeros(block.shape, np.uint32)
    numbers[inside[1:-1, 1:-1, 1:-1]] = labels + 1
    ends = tuple(_face(numbers, axis, end, heights, (crosses & (way == direction * steps[axis]), inside))
                 for axis in range(3) for end, direction in ((0, -1), (-1, 1)))
    sums = sums_of(labels, coordinates, probability[inside[1:-1, 1:-1, 1:-1]], exposed=exposed, shape=region.shape)
    return Fragments(numbers, peak, sums, contacts, ends)


def united(contacts: Contacts, owner: np.ndarray) -> Contacts:
    """The Contacts of what the fragments belong to, of which some may be the same, and pairs may occur several times."""
    pair = np.sort(owner[contacts.pair], axis=1)
    order = np.lexsort((-contacts.where, contacts.saddle, pair[:, 1], pair[:, 0]))
    order = order[pair[order, 0] != pair[order, 1]]
    if not len(order):
        return Contacts(*(values[:0] for values in contacts))
    pair = pair[order]
    starts = np.flatnonzero(np.r_[True, (pair[1:] != pair[:-1]).any(axis=1)])
    highest = order[np.r_[starts[1:], len(order)] - 1]
    return Contacts(pair[starts], contacts.saddle[highest], contacts.where[highest],
                    np.add.reduceat(contacts.faces[order], starts, axis=0))


def _distances(mask: np.ndarray, voxel_nm: tuple[float, float, float] | None) -> np.ndarray:
    """Of each voxel to the nearest of background, in 1 / PER_NM nm, uint16; 1 in all of the mask where sizes do not matter.

    The nearest one to a voxel of a component lies in its box or next to it, as the first on the way there is adjacent to it.
    """
    if voxel_nm is None:
        return mask.astype(np.uint16)
    found = np.zeros(mask.shape, np.uint16)
    components, _ = ndimage.label(mask)
    for component, place in enumerate(ndimage.find_objects(components), 1):
        wider = tuple(slice(max(each.start - 1, 0), each.stop + 1) for each in place)
        own = components[wider] == component
        distance = np.full(own.shape, np.inf) if own.all() else ndimage.distance_transform_edt(own, sampling=voxel_nm)
        kept = np.clip(np.rint(np.minimum(distance, REACH_NM) * PER_NM), 1, REACH_NM * PER_NM)
        found[wider][own] = kept[own]
    return found


def _ascent(flat: np.ndarray, voxels: np.ndarray, steps: list[int], voxel_nm: tuple[float, float, float] | None) -> np.ndarray:
    """The step from each voxel to its neighbour along which the distance grows most, 0 from a peak.

    Of equally high ones, those that come later in C order are higher: so no two voxels are, and there are no plateaus.
    """
    own = flat[voxels].astype(np.int32)
    best, way = np.full(len(voxels), -1.0), np.zeros(len(voxels), np.int64)
    sizes = voxel_nm or (1.0, 1.0, 1.0)
    for step, size in sorted((sign * step, size) for step, size in zip(steps, sizes, strict=True) for sign in (-1, 1)):
        there = flat[voxels + step].astype(np.int32)
        slope = (there - own) / size
        better = (there > 0) & (there != _OUTSIDE) & ((slope > 0) | ((slope == 0) & (step > 0))) & (slope >= best)
        best[better], way[better] = slope[better], step
    return way


def _roots(parent: np.ndarray) -> np.ndarray:
    """The number, from 0 on and in their order, of the root to which each node's parents lead."""
    while True:
        further = parent[parent]
        if (further == parent).all():
            return np.unique(parent, return_inverse=True)[1]
        parent = further


def _components(inside: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    return ndimage.label(inside)[0].ravel()[voxels].astype(np.int64) - 1


def _touching(flat: np.ndarray, voxels: np.ndarray, number: np.ndarray, labels: np.ndarray, steps: list[int],
              places: np.ndarray) -> Contacts:
    """The Contacts of all pairs of neighbouring voxels of the block that lie in different fragments; places: in the region."""
    found = []
    for axis, step in enumerate(steps):
        other = number[voxels + step]
        here = np.flatnonzero(other >= 0)
        here = here[labels[here] != labels[other[here]]]
        there = other[here]
        found.append(Contacts(np.stack([labels[here], labels[there]], axis=1),
                              np.minimum(flat[voxels[here]], flat[voxels[there]]), 3 * places[here] + axis,
                              np.broadcast_to(np.eye(3, dtype=np.int64)[axis], (len(here), 3))))
    return Contacts(*map(np.concatenate, zip(*found, strict=True)))


def _at_inner_face(coordinates: np.ndarray, block: Box, shape: tuple[int, int, int]) -> np.ndarray:
    """Whether voxels lie at a face of the block behind which the region goes on, bool [voxel]."""
    first, last = (np.array(corner) for corner in (block.start, block.stop))
    return (((coordinates == first) & (first > 0)) | ((coordinates == last - 1) & (last < shape))).any(axis=1)


def _contracted(labels: np.ndarray, heights: np.ndarray, ends: np.ndarray, contacts: Contacts) -> tuple[np.ndarray, Contacts]:
    """Labels of fragments and their Contacts, after those are joined that will be joined anyway, which leaves few to be merged.

    Such a fragment has no voxel in `ends`, so that all its contacts are known. The highest leads to one with a peak that is as
    high, and is high enough: when the merge comes to it neither of the two will have been joined over another of the fragment's
    contacts, and no later peak will be another one.
    """
    contacts = united(contacts, np.arange(labels.max(initial=-1) + 1))
    while True:
        peak = _peaks(labels, heights).astype(np.int64)
        closed = np.ones(len(peak), bool)
        closed[labels[ends]] = False
        sides = np.concatenate([contacts.pair, contacts.pair[:, ::-1]])
        saddle, where = (np.tile(values, 2) for values in (contacts.saddle, contacts.where))
        order = np.lexsort((-where, saddle, sides[:, 0]))
        highest = order[np.flatnonzero(np.diff(sides[order, 0], append=-1))]  # of each fragment with contacts
        one, two = sides[highest].T
        higher = (peak[two] > peak[one]) | ((peak[two] == peak[one]) & (two < one))
        joined = closed[one] & higher & (saddle[highest] >= NECK * peak[one])
        if not joined.any():
            return labels, contacts
        parent = np.arange(len(peak))
        parent[one[joined]] = two[joined]
        owner = _roots(parent)
        labels, contacts = owner[labels], united(contacts, owner)


def _peaks(labels: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """The largest height of each label, uint16."""
    peak = np.zeros(labels.max(initial=-1) + 1, np.uint16)
    np.maximum.at(peak, labels, heights)
    return peak


def _face(numbers: np.ndarray, axis: int, end: int, heights: np.ndarray, crossing: tuple[np.ndarray, np.ndarray]) -> Face:
    own = np.take(numbers, end, axis).ravel().astype(np.int64)
    place = np.flatnonzero(own)
    crosses = np.zeros(numbers.shape, bool)
    crosses[crossing[1][1:-1, 1:-1, 1:-1]] = crossing[0]
    return Face(place, own[place] - 1, np.take(heights[1:-1, 1:-1, 1:-1], end, axis).ravel()[place],
                np.take(crosses, end, axis).ravel()[place])
