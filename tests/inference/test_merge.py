"""Instances of blocks, merged: the same as those of the whole, and as scikit-image and SciPy find them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instanced import balls, instances
from scipy import ndimage
from skimage.segmentation import watershed

from yseg.data.box import Box
from yseg.inference.cut import cut
from yseg.inference.instances import fragments
from yseg.inference.merge import equivalent_nm, merge
from yseg.volumes.phantom import phantom

BLOCKS = st.tuples(st.integers(1, 9), st.integers(1, 17), st.integers(1, 20))


def blobs(seed, shape=(8, 14, 16), smooth=(0.6, 1.2, 1.2), share=0.4):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), smooth)
    return field > np.quantile(field, 1 - share)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), block=BLOCKS, share=st.floats(0, 1), smooth=st.floats(0, 1.5))
def test_components_of_blocks_are_those_of_the_whole_numbered_by_their_first_voxels(seed, block, share, smooth):
    mask = blobs(seed, smooth=(smooth / 2, smooth, smooth), share=share)
    expected, _ = ndimage.label(mask)  # which numbers components in this order, too
    np.testing.assert_array_equal(instances(mask, block, separate=False)[0], expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), block=BLOCKS, share=st.floats(0.05, 1),
       size=st.sampled_from([(40, 8, 8), (5, 5, 5), (30, 4.6, 4.6)]))
def test_what_a_watershed_separates_does_not_depend_on_the_blocks(seed, block, share, size):
    mask = blobs(seed, share=share)
    whole, of_whole = instances(mask, mask.shape, size, least_nm=20.0)
    cut_up, of_blocks = instances(mask, block, size, least_nm=20.0)
    np.testing.assert_array_equal(cut_up, whole)
    for name, values in of_blocks.sums._asdict().items():
        np.testing.assert_allclose(values, getattr(of_whole.sums, name), rtol=1e-9, atol=1e-6, err_msg=name)


def test_a_drawn_tissue_has_the_same_instances_in_blocks_that_are_smaller_than_its_mitochondria():
    _, labels = phantom("target", (12, 256, 256), seed=1)
    flat = np.stack([np.zeros((3, 3), bool), ndimage.generate_binary_structure(2, 1), np.zeros((3, 3), bool)])
    mask = ndimage.binary_dilation(labels > 0, flat, iterations=8)  # until two of them touch
    whole, _ = instances(mask, mask.shape, (50.0, 5.0, 5.0), least_nm=100.0)
    assert whole.max() == ndimage.label(labels)[1] == ndimage.label(mask)[1] + 1
    np.testing.assert_array_equal(instances(mask, (5, 48, 64), (50.0, 5.0, 5.0), least_nm=100.0)[0], whole)


@pytest.mark.parametrize("size", [(10.0, 10.0, 10.0), (40.0, 8.0, 8.0)])
def test_balls_that_touch_are_cut_where_they_do(size):
    shape = tuple(int(length / step) for length, step in zip((300, 300, 540), size, strict=True))
    mask = balls(shape, size, (150, 150, 140, 100), (150, 150, 325, 100))
    ids, _ = instances(mask, (3, 20, 17), size)
    assert (ndimage.label(mask)[1], ids.max()) == (1, 2)
    markers = np.zeros(shape, int)
    for number, x in enumerate((140, 325), 1):
        markers[int(150 / size[0]), int(150 / size[1]), int(x / size[2])] = number
    expected = watershed(-ndimage.distance_transform_edt(mask, sampling=size), markers, mask=mask)
    assert (ids == expected)[mask].mean() > 0.99


@pytest.mark.parametrize(("neck", "expected"), [(0.3, 2), (0.45, 2), (0.6, 1), (0.9, 1)])
def test_a_neck_cuts_if_it_is_narrower_than_half_of_the_thinner_side(neck, expected):
    mask = balls((61, 61, 161), (5, 5, 5), (150, 150, 150, 140), (150, 150, 600, 100))
    z, y, x = np.ogrid[:61, :61, :161]
    mask |= ((z - 30) ** 2 + (y - 30) ** 2 <= (neck * 20) ** 2) & (x > 30) & (x < 120)
    assert instances(mask, (32, 32, 32), (5.0, 5.0, 5.0))[0].max() == expected


def test_a_long_bent_tube_is_one_object():
    at = np.linspace(0, 3, 400)
    tube = [(150, 250 + 160 * np.sin(2 * t), 80 + 200 * t, 60 + 15 * np.sin(9 * t)) for t in at]
    mask = balls((30, 50, 80), (10, 10, 10), *tube)
    assert instances(mask, (16, 16, 16), (10.0, 10.0, 10.0), least_nm=50.0)[0].max() == 1


def test_what_is_too_small_is_dropped_after_the_merge():
    mask = np.zeros((4, 8, 20), bool)
    mask[1:3, 2:6, 2:18] = True  # 128 voxels, in each block fewer
    mask[0, 0, 0] = mask[3, 7, 18:] = True
    for least, expected in ((0.0, [128, 1, 2]), (equivalent_nm(2, (10, 10, 10)), [128, 2]), (70.0, [])):
        ids, merged = instances(mask, (2, 4, 4), (10.0, 10.0, 10.0), separate=False, least_nm=float(least))
        assert sorted(merged.sums.voxels) == sorted(expected)
        assert sorted(np.bincount(ids.ravel())[1:]) == sorted(expected)
    assert equivalent_nm(np.array([4.188790205e6]), (1, 1, 1)) == pytest.approx(200)  # a ball of radius 100


def test_a_bump_that_is_too_small_for_an_object_stays_with_what_it_is_on():
    mask = balls((40, 40, 60), (10, 10, 10), (200, 200, 200, 150), (200, 200, 390, 45))
    assert instances(mask, mask.shape, (10.0, 10.0, 10.0), least_nm=0.0)[0].max() == 2
    assert instances(mask, mask.shape, (10.0, 10.0, 10.0), least_nm=120.0)[0].max() == 1


@pytest.mark.parametrize("value", [False, True])
def test_a_region_without_edges_has_one_object_or_none(value):
    ids, merged = instances(np.full((4, 6, 8), value), (2, 3, 8), (10.0, 5.0, 5.0))
    assert (ids == int(value)).all()
    assert merged.sums.voxels.tolist() == [192] * value
    assert not merged.sums.exposed.any()  # what lies beyond the region is not known


def test_arrays_of_another_shape_than_their_boxes_are_refused():
    box = Box.whole((2, 2, 2))
    with pytest.raises(ValueError, match="mask and probability of shapes"):
        fragments(np.ones((2, 2, 3), bool), np.ones((2, 2, 2)), block=box, wide=box, region=box, voxel_nm=None)


def test_blocks_in_another_order_give_the_same_objects():
    mask, region = blobs(7), Box.whole((8, 14, 16))
    blocks = cut(region, (4, 7, 8))
    found, tables = {}, []
    for box in blocks:
        wide = Box(tuple(a - 1 for a in box.start), tuple(a + 1 for a in box.stop)).intersect(region)
        found[box] = fragments(mask[wide.slices], mask[box.slices], block=box, wide=wide, region=region, voxel_nm=None)
    for order in (blocks, blocks[::-1]):
        merged = merge(order, [found[box] for box in order], voxel_nm=(1.0, 1.0, 1.0))
        tables.append({box: table.tolist() for box, table in zip(order, merged.tables, strict=True)})
    assert tables[0] == tables[1]
