"""yseg.volumes.pyramid: coarser levels against NumPy."""

import numpy as np
import pytest
import tensorstore as ts

from yseg.volumes.pyramid import MEAN, MODE, Reduction, blocks, copy, downsampled, levels_of


def cells(values, factors):
    """[cell z, y, x, voxel] of a volume whose sides are multiples of the factors."""
    z, y, x = (size // factor for size, factor in zip(values.shape, factors, strict=True))
    a, b, c = factors
    return values.reshape(z, a, y, b, x, c).transpose(0, 2, 4, 1, 3, 5).reshape(z, y, x, -1)


@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 2, 2)])
def test_grey_levels_become_means_and_labels_the_most_frequent(factors):
    shape = (4, 6, 8)
    random = np.random.default_rng(0)
    for dtype in (np.uint8, np.float32):
        values = random.integers(0, 255, shape).astype(dtype)
        found = downsampled(ts.array(values), Reduction(factors, MEAN)).read().result()
        np.testing.assert_allclose(found, cells(values.astype(float), factors).mean(-1), atol=0.5 if dtype == np.uint8 else 1e-4)
    labels = random.integers(0, 3, shape).astype(np.uint64) * 2**60
    counts = np.stack([(cells(labels, factors) == value * 2**60).sum(-1) for value in range(3)])
    found = downsampled(ts.array(labels), Reduction(factors, MODE)).read().result()
    np.testing.assert_array_equal(found, counts.argmax(0).astype(np.uint64) * 2**60)


def test_the_last_voxels_of_odd_sides_are_kept():
    found = downsampled(ts.array(np.arange(15, dtype=np.float32).reshape(1, 3, 5)), Reduction((1, 2, 2), MEAN))
    assert found.read().result()[0].tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]


def test_sections_are_halved_only_where_voxels_become_cubes():
    assert [level.factors for level in levels_of((64, 256, 256), 5, 5)] == [(1, 1, 1), (2, 2, 2), (4, 4, 4)]
    assert [level.factors for level in levels_of((64, 256, 200), 5, None)] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    levels = levels_of((20, 1025, 1024), 4.6, 50)
    assert [level.factors for level in levels] == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16), (4, 32, 32)]
    assert [level.shape for level in levels][::3] == [(20, 1025, 1024), (20, 129, 128)]
    assert [level.shape for level in levels_of((5, 8, 9), 5, 5)] == [(5, 8, 9)]


def test_a_copy_is_made_of_blocks_that_make_up_the_volume():
    values = np.random.default_rng(0).integers(0, 255, (5, 7, 9)).astype(np.uint8)
    target = ts.array(np.zeros(values.shape, np.uint8))
    copy(ts.array(values), target, (2, 4, 20))
    np.testing.assert_array_equal(target.read().result(), values)
    counted = np.zeros(values.shape, int)
    for place in blocks(values.shape, (2, 4, 20)):
        counted[place] += 1
    assert (counted == 1).all()
