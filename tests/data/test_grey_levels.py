"""yseg.data.grey_levels: statistics of a volume against NumPy's, and the z-score."""

import numpy as np
import pytest
import tensorstore as ts

from yseg.data.box import Box
from yseg.data.grey_levels import statistics, z_score


def volume(dtype):
    random = np.random.default_rng(0)
    if dtype == np.float32:
        return random.normal(1000, 1, (7, 20, 30)).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max, (7, 20, 30), dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_statistics_are_those_of_numpy(dtype):
    voxels = volume(dtype)
    assert statistics(ts.array(voxels)) == pytest.approx((voxels.astype(float).mean(), voxels.astype(float).std()), rel=1e-9)
    box = Box((1, 2, 3), (5, 9, 30))
    part = voxels[box.slices].astype(float)
    assert statistics(ts.array(voxels), box=box) == pytest.approx((part.mean(), part.std()), rel=1e-9)
    ends = voxels[[0, 3, 6]].astype(float)
    assert statistics(ts.array(voxels), max_sections=3) == pytest.approx((ends.mean(), ends.std()), rel=1e-9)


def test_only_the_middle_of_large_sections_is_read():
    voxels = np.full((1, 3, 4101), 7, np.uint8)
    voxels[:, :, :2] = voxels[:, :, -3:] = 99
    assert statistics(ts.array(voxels)) == (7.0, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    voxels = np.zeros((2, 3, 3), np.float32)
    voxels[1, 1, 1] = value
    with pytest.raises(ValueError, match="the image volume has values that are not finite in section 1"):
        statistics(ts.array(voxels))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_z_score_of_any_type(dtype):
    values = np.array([0, 100, 250], dtype).reshape(1, 1, 3, 1)
    found = z_score(values, np.array([100, 50], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), [-2, 0, 3])


def test_statistics_are_those_of_tissue():
    voxels = volume(np.uint16)
    mask = (np.random.default_rng(1).random(voxels.shape) < 0.3).astype(np.uint8)
    mask[2] = 0
    inside = voxels[mask != 0].astype(float)
    assert statistics(ts.array(voxels), mask=ts.array(mask)) == pytest.approx((inside.mean(), inside.std()), rel=1e-9)
    assert statistics(ts.array(voxels), mask=ts.array(np.ones_like(mask))) == statistics(ts.array(voxels))  # to the bit
    with pytest.raises(ValueError, match="no tissue"):
        statistics(ts.array(voxels), mask=ts.array(np.zeros_like(mask)))
