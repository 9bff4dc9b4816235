"""Instances of a mask in memory, computed in blocks of a shape: for tests."""

import numpy as np

from yseg.data.box import Box, triple
from yseg.inference.cut import cut
from yseg.inference.instances import fragments, halo
from yseg.inference.merge import merge


def instances(mask, block, voxel_nm=(1.0, 1.0, 1.0), *, separate=True, least_nm=0.0, probability=None):
    """(ids uint32 [z, y, x], Merged) of a mask [z, y, x]."""
    region = Box.whole(mask.shape)
    blocks, more, found = cut(region, block), halo(voxel_nm if separate else None), []
    probability = mask.astype(np.float32) if probability is None else probability
    for box in blocks:
        wide = Box(triple(a - b for a, b in zip(box.start, more, strict=True)),
                   triple(a + b for a, b in zip(box.stop, more, strict=True))).intersect(region)
        found.append(fragments(mask[wide.slices], probability[box.slices], block=box, wide=wide, region=region,
                               voxel_nm=voxel_nm if separate else None))
    merged, ids = merge(blocks, found, voxel_nm=voxel_nm, least_nm=least_nm), np.zeros(mask.shape, np.uint32)
    for box, each, table in zip(blocks, found, merged.tables, strict=True):
        ids[box.slices] = table[each.labels]
    return ids, merged


def balls(shape, voxel_nm, *centres_and_radii):
    """A mask of balls: each (z, y, x, radius) in nm."""
    at = np.stack(np.meshgrid(*(np.arange(size) * step for size, step in zip(shape, voxel_nm, strict=True)), indexing="ij"), -1)
    return np.any([((at - ball[:3]) ** 2).sum(-1) <= ball[3] ** 2 for ball in centres_and_radii], axis=0)
