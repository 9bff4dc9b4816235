"""Instances of a whole region from the fragments of its blocks, see `yseg.inference.instances`. NumPy and SciPy.

The result does not depend on how the region is cut: fragments that one ascent runs through, across faces, are one basin, basins
are joined in the order of their saddles, and objects are numbered in the order of their first voxels.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from yseg.data.box import Box
from yseg.inference.instances import NECK, PER_NM, Contacts, Face, Fragments, united
from yseg.metrics.sums import Sums, total

MOST = np.iinfo(np.uint32).max  # objects
_NO_CONTACTS = Contacts(np.zeros((0, 2), np.int64), np.zeros(0, np.uint16), np.zeros(0, np.int64), np.zeros((0, 3), np.int64))


class Rule(NamedTuple):
    """How instances are told apart: voxel_nm: size of a voxel in z, y, x; least_nm: see `merge`; separate: whether components
    are cut where they are narrow.
    """

    voxel_nm: tuple[float, float, float]
    least_nm: float
    separate: bool


class Merged(NamedTuple):
    """tables: for each block uint32 [1 + fragment], the object of each label, 0 = none; sums: Sums of the objects 1, 2, ..."""

    tables: list[np.ndarray]
    sums: Sums


def merge(blocks: Sequence[Box], found: Iterable[Fragments], *, voxel_nm: tuple[float, float, float],
          least_nm: float = 0.0) -> Merged:
    """The objects of all blocks.

    Two basins are separate objects if the way between them is narrower than NECK times the thinner one, measured by the largest
    balls that fit in, and if each of these has a diameter of `least_nm` or more. Then objects are dropped whose volume is below
    that of a ball of the diameter `least_nm`.

    Args:
      blocks: that make up the region, as `yseg.inference.cut.cut` gives them.
      found: their fragments, of which the labels are not used, and the faces not for longer than until those beyond have come.
      voxel_nm: size of a voxel in z, y, x.
      least_nm: see above.

    Raises:
      ValueError: there are more objects than uint32 has numbers.
    """
    parts, across, crossed, peaks, sums, offsets = [], [_NO_CONTACTS], [np.zeros((0, 2), np.int64)], [], [], [0]
    faces = _Faces(blocks)
    for block, each in zip(blocks, found, strict=True):
        parts.append(each.contacts._replace(pair=each.contacts.pair + offsets[-1]))
        for contacts, crosses in faces.met(block, each, offsets[-1]):
            across.append(contacts)
            crossed.append(contacts.pair[crosses])
        peaks.append(each.peak)
        sums.append(each.sums)
        offsets.append(offsets[-1] + len(each.peak))
    basin, own = same(offsets[-1], np.concatenate(crossed)), _joined(sums)
    first = total(own, basin, basin.max(initial=-1) + 1).first
    basin = np.argsort(np.argsort(first))[basin]  # in the order of first voxels, however the region is cut
    contacts = Contacts(*map(np.concatenate, zip(*across, *parts, strict=True)))
    peak = np.zeros(len(first), np.int64)
    np.maximum.at(peak, basin, np.concatenate([np.zeros(0, np.uint16), *peaks]))
    merged = _joined_basins(peak, united(contacts, basin), least_nm)
    owner = merged[basin]

    objects = total(own, owner, owner.max(initial=-1) + 1)
    apart = united(contacts, owner)
    for side in apart.pair.T:
        np.add.at(objects.exposed, side, apart.faces)
    kept = equivalent_nm(objects.voxels, voxel_nm) >= least_nm
    order = np.flatnonzero(kept)[np.argsort(objects.first[kept])]
    if len(order) > MOST:
        raise ValueError(f"{len(order)} objects: must be at most {MOST}")
    numbers = np.zeros(len(kept), np.uint32)
    numbers[order] = np.arange(1, len(order) + 1)
    tables = [np.concatenate([np.zeros(1, np.uint32), numbers[owner[start:stop]]])
              for start, stop in itertools.pairwise(offsets)]
    return Merged(tables, Sums(*(values[order] for values in objects)))


def same(count: int, pairs: np.ndarray) -> np.ndarray:
    """The number, from 0 on, of the set of each of `count` things, of which those that are a pair [n, 2] are in one."""
    if not count:
        return np.zeros(0, np.int64)
    graph = sparse.coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return sparse.csgraph.connected_components(graph, directed=False)[1].astype(np.int64)


def equivalent_nm(voxels: np.ndarray, voxel_nm: tuple[float, float, float]) -> np.ndarray:
    """The diameter of a ball with the volume of so many voxels."""
    return np.cbrt(6 / math.pi * voxels * math.prod(voxel_nm))


def _joined(sums: Sequence[Sums]) -> Sums:
    return Sums(*(np.concatenate(values) for values in zip(*sums, strict=True)))


class _Side(NamedTuple):
    """A block at one of its faces, and the number of its first fragment."""

    block: Box
    face: Face
    offset: int


class _Faces:
    """The faces of blocks that have come, until the block on the other side comes."""

    def __init__(self, blocks: Sequence[Box]) -> None:
        starts = {block.start for block in blocks}
        self._between = {(axis, _beyond(block, axis)) for block in blocks for axis in range(3)
                         if _beyond(block, axis) in starts}  # those where blocks meet, by the block behind
        self._corner = np.min([block.start for block in blocks], axis=0)
        self._shape = tuple(np.ptp([*zip(*blocks, strict=True)], axis=(0, 1)))
        self._waiting: dict[tuple[int, tuple[int, ...]], _Side] = {}

    def met(self, block: Box, found: Fragments, offset: int) -> Iterator[tuple[Contacts, np.ndarray]]:
        """The Contacts of a block with each beside it that has come, and where an ascent crosses; offset: see `_Side`."""
        for axis in range(3):
            for place, face in ((block.start, found.faces[2 * axis]), (_beyond(block, axis), found.faces[2 * axis + 1])):
                if (axis, place) not in self._between:
                    continue
                own, other = _Side(block, face, offset), self._waiting.pop((axis, place), None)
                if other is None:
                    self._waiting[axis, place] = own
                else:
                    yield self._contacts(*((other, own) if place == block.start else (own, other)), axis)

    def _contacts(self, before: _Side, behind: _Side, axis: int) -> tuple[Contacts, np.ndarray]:
        block, one, two = before.block, before.face, behind.face
        place, here, there = np.intersect1d(one.place, two.place, assume_unique=True, return_indices=True)
        at = np.array(np.unravel_index(place, [1 if each == axis else size for each, size in enumerate(block.shape)]))
        at += (np.array(block.start) - self._corner)[:, None]
        at[axis] += block.shape[axis] - 1
        contacts = Contacts(
            np.stack([one.fragment[here] + before.offset, two.fragment[there] + behind.offset], axis=1),
            np.minimum(one.height[here], two.height[there]), 3 * np.ravel_multi_index(tuple(at), self._shape) + axis,
            np.broadcast_to(np.eye(3, dtype=np.int64)[axis], (len(here), 3)))
        return contacts, one.crosses[here] | two.crosses[there]


def _beyond(block: Box, axis: int) -> tuple[int, ...]:
    """Where a block behind another one along an axis starts."""
    return (*block.start[:axis], block.stop[axis], *block.start[axis + 1:])


def _joined_basins(peak: np.ndarray, contacts: Contacts, least_nm: float) -> np.ndarray:
    """The number, from 0 on, of the object of each basin: over the highest saddles first, like a flood that sinks."""
    parent, peaks = list(range(len(peak))), peak.tolist()

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    order = np.lexsort((contacts.where, -contacts.saddle.astype(np.int64)))
    least = least_nm / 2 * PER_NM
    for (one, two), saddle in zip(contacts.pair[order].tolist(), contacts.saddle[order].tolist(), strict=True):
        one, two = root(one), root(two)
        if one == two:
            continue
        lower = min(peaks[one], peaks[two])
        if saddle < NECK * lower and lower >= least:
            continue
        parent[two], peaks[one] = one, max(peaks[one], peaks[two])
    return np.unique([root(node) for node in range(len(peak))], return_inverse=True)[1].astype(np.int64)
