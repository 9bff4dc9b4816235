"""Fragments of a block, and the amounts of objects, against NumPy over their voxels."""

import numpy as np
import pytest
from instanced import instances
from scipy import ndimage

from yseg.data.box import Box
from yseg.inference.instances import PER_NM, REACH_NM, fragments, halo


def test_the_amounts_of_objects_are_those_of_their_voxels():
    generator = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(generator.normal(size=(9, 20, 24)), 1.5) > 0.1
    probability = generator.random(mask.shape).astype(np.float32)
    ids, merged = instances(mask, (4, 8, 9), (20.0, 5.0, 5.0), probability=probability)
    assert ids.max() > 5
    padded = np.pad(ids.astype(int), 1, constant_values=-1)
    for number, place in enumerate(ndimage.find_objects(ids), 1):
        own = {name: values[number - 1] for name, values in merged.sums._asdict().items()}
        at = np.argwhere(ids == number)
        assert own["voxels"] == len(at)
        assert own["first"] == np.flatnonzero(ids == number)[0]
        assert own["low"].tolist() == [each.start for each in place]
        assert own["high"].tolist() == [each.stop for each in place]
        np.testing.assert_allclose(own["mean"], at.mean(axis=0))
        scatter = np.cov(at.T, ddof=0) * len(at) if len(at) > 1 else np.zeros((3, 3))
        np.testing.assert_allclose(own["scatter"], scatter[np.triu_indices(3)], atol=1e-9)
        assert own["probability"] == pytest.approx(probability[ids == number].sum(dtype=float))
        for axis in range(3):
            others = [np.roll(padded, step, axis)[padded == number] for step in (1, -1)]
            assert own["exposed"][axis] == sum(((other != number) & (other >= 0)).sum() for other in others)


@pytest.mark.parametrize("size", [(47.5, 4.6, 4.6), (30.0, 20.0, 20.0)])
def test_distances_of_a_block_are_those_of_the_whole_up_to_their_reach(size):
    mask = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(12, 150, 40)), (1, 9, 9)) > -0.01
    region, block = Box.whole(mask.shape), Box((5, 60, 0), (7, 90, 40))
    more = halo(size)
    wide = Box(tuple(a - b for a, b in zip(block.start, more, strict=True)),
               tuple(a + b for a, b in zip(block.stop, more, strict=True))).intersect(region)
    found = fragments(mask[wide.slices], np.ones(block.shape), block=block, wide=wide, region=region, voxel_nm=size)
    expected = np.minimum(ndimage.distance_transform_edt(mask, sampling=size), REACH_NM)[block.slices]
    assert expected.max() > 50
    for axis in range(3):
        for end in (0, -1):
            face, values = found.faces[2 * axis + abs(end)], np.take(expected, end, axis).ravel()
            assert face.place.tolist() == np.flatnonzero(values).tolist()
            np.testing.assert_allclose(face.height / PER_NM, values[face.place], atol=0.51 / PER_NM)


def test_each_fragment_has_one_peak_or_goes_on_in_another_block():
    mask = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(8, 30, 30)), 2) > 0
    region, block = Box.whole(mask.shape), Box((0, 0, 0), (8, 15, 30))
    found = fragments(mask, np.ones(block.shape), block=block, wide=region, region=region, voxel_nm=(10.0, 10.0, 10.0))
    assert ((found.labels > 0) == mask[block.slices]).all()
    behind = found.faces[3]
    assert behind.crosses.any()
    assert not any(face.crosses.any() for face in (*found.faces[:3], *found.faces[4:]))  # beyond the region is nothing
    leaving = set(behind.fragment[behind.crosses].tolist())
    assert len(leaving) == behind.crosses.sum()  # each voxel from which an ascent leaves is the end of one fragment
    distance = np.rint(ndimage.distance_transform_edt(mask, sampling=10.0) * PER_NM)[block.slices]
    np.testing.assert_array_equal(ndimage.maximum(distance, found.labels, np.arange(1, found.labels.max() + 1)), found.peak)
