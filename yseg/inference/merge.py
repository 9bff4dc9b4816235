"""Instances of a whole region from the fragments of its blocks, see `yseg.inference.instances`. NumPy and SciPy.

The result does not depend on how the region is cut: fragments that one ascent runs through, across faces, are one basin, basins
are joined in the order of their saddles, and objects are numbered in the order of their first voxels.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from yseg.data.box import Box
from yseg.inference.instances import NECK, PER_NM, Contacts, Fragments, united
from yseg.metrics.sums import Sums, total

MOST = np.iinfo(np.uint32).max  # objects


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


def merge(blocks: Sequence[Box], found: Sequence[Fragments], *, voxel_nm: tuple[float, float, float],
          least_nm: float = 0.0) -> Merged:
    """The objects of all blocks.

    Two basins are separate objects if the way between them is narrower than NECK times the thinner one, measured by the largest
    balls that fit in, and if each of these has a diameter of `least_nm` or more. Then objects are dropped whose volume is below
    that of a ball of the diameter `least_nm`.

    Args:
      blocks: that make up the region, as `yseg.inference.cut.cut` gives them.
      found: their fragments, of which the labels are not used.
      voxel_nm: size of a voxel in z, y, x.
      least_nm: see above.

    Raises:
      ValueError: there are more objects than uint32 has numbers.
    """
    counts = [len(each.peak) for each in found]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    count = int(offsets[-1])
    across, crossed = _across(blocks, found, offsets)
    basin = same(count, across.pair[crossed])
    sums = _joined([each.sums for each in found])
    first = total(sums, basin, basin.max(initial=-1) + 1).first
    basin = np.argsort(np.argsort(first))[basin]  # in the order of first voxels, however the region is cut
    inside = (each.contacts._replace(pair=each.contacts.pair + offset) for each, offset in zip(found, offsets[:-1], strict=True))
    contacts = Contacts(*map(np.concatenate, zip(across, *inside, strict=True)))
    peak = np.zeros(len(first), np.int64)
    np.maximum.at(peak, basin, np.concatenate([np.zeros(0, np.uint16), *(each.peak for each in found)]))
    merged = _joined_basins(peak, united(contacts, basin), least_nm)
    owner = merged[basin]

    objects = total(sums, owner, owner.max(initial=-1) + 1)
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


def _across(blocks: Sequence[Box], found: Sequence[Fragments], offsets: np.ndarray) -> tuple[Contacts, np.ndarray]:
    """The Contacts of all pairs of voxels that touch across faces of blocks, and whether an ascent crosses there."""
    places = {block.start: number for number, block in enumerate(blocks)}
    corner, shape = np.min([block.start for block in blocks], axis=0), np.ptp([*zip(*blocks, strict=True)], axis=(0, 1))
    parts = [Contacts(np.zeros((0, 2), np.int64), np.zeros(0, np.uint16), np.zeros(0, np.int64), np.zeros((0, 3), np.int64))]
    crossed = [np.zeros(0, bool)]
    for number, block in enumerate(blocks):
        for axis in range(3):
            start = (*block.start[:axis], block.stop[axis], *block.start[axis + 1:])
            if start not in places:
                continue
            other = places[start]
            one, two = found[number].faces[2 * axis + 1], found[other].faces[2 * axis]
            place, here, there = np.intersect1d(one.place, two.place, assume_unique=True, return_indices=True)
            at = np.array(np.unravel_index(place, [1 if each == axis else size for each, size in enumerate(block.shape)]))
            at += (np.array(block.start) - corner)[:, None]
            at[axis] += block.shape[axis] - 1
            parts.append(Contacts(
                np.stack([one.fragment[here] + offsets[number], two.fragment[there] + offsets[other]], axis=1),
                np.minimum(one.height[here], two.height[there]), 3 * np.ravel_multi_index(tuple(at), tuple(shape)) + axis,
                np.broadcast_to(np.eye(3, dtype=np.int64)[axis], (len(here), 3))))
            crossed.append(one.crosses[here] | two.crosses[there])
    return Contacts(*map(np.concatenate, zip(*parts, strict=True))), np.concatenate(crossed)


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
