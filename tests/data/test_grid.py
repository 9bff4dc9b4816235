"""yseg.data.grid: the working grid against dense float64 matrices, box against box."""

import fractions
import math

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given, settings
from hypothesis import strategies as st

from yseg.data.box import Box
from yseg.data.grid import Grid
from yseg.data.labels import Condition, LabelRule, label_rule

RATIOS = [10 / 4.6, 2.0, 1.0, 0.5, 3.7, 10 / 15, 1.5, 8 / 5, 1.0001]
FOREGROUND = LabelRule(Condition(">", (0,)))
ratios = st.sampled_from(RATIOS) | st.floats(0.3, 6)
sizes = st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40))


def triangle_matrix(ratio, count, size):
    """[count, size] float64: interpolation with a triangle kernel, renormalised at the border, one entry after the other."""
    matrix = np.zeros((count, size))
    for j in range(count):
        for i in range(size):
            matrix[j, i] = max(0.0, 1 - abs(i + 0.5 - (j + 0.5) * ratio) / max(1.0, ratio))
    return matrix / matrix.sum(1, keepdims=True)


def draw_box(data, shape):
    start = [data.draw(st.integers(0, size - 1)) for size in shape]
    return Box(tuple(start), tuple(data.draw(st.integers(low + 1, size)) for low, size in zip(start, shape, strict=True)))


def grid_of(shape, ratio):
    return Grid(shape, 5.0, 5.0 * ratio)


def volume(shape, dtype=np.uint8, seed=0):
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


# --- The image ---


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("ratio", RATIOS)
def test_the_image_is_the_triangle_filtered_volume(ratio, dtype):
    voxels = volume((2, 31, 23), dtype)
    grid = grid_of(voxels.shape, ratio)
    assert grid.shape == (2, math.floor(31 / ratio), math.floor(23 / ratio))
    expected = np.einsum("jy,zyx,kx->zjk", triangle_matrix(ratio, grid.shape[1], 31), voxels.astype(float),
                         triangle_matrix(ratio, grid.shape[2], 23))
    image = grid.image(ts.array(voxels), grid.box)
    if np.issubdtype(dtype, np.integer):
        assert image.dtype == dtype
        assert np.abs(image - expected).max() <= 0.5 + 1e-6 * np.abs(voxels.astype(float)).max()
    else:
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, expected, atol=1e-5)


@given(sizes, ratios, st.booleans(), st.data())
@settings(deadline=None)
def test_a_box_has_the_bits_of_the_whole_grid(shape, ratio, floating, data):
    voxels = volume(shape, np.float32 if floating else np.uint8)
    labels = volume(shape) % 3
    grid = grid_of(shape, ratio)
    box = draw_box(data, grid.shape)
    whole, part = (grid.image(ts.array(voxels), which) for which in (grid.box, box))
    assert part.tobytes() == whole[box.slices].tobytes()
    rule = label_rule("==1", "==2", "")
    whole, part = (grid.labels(ts.array(labels), rule, which) for which in (grid.box, box))
    assert part.tobytes() == whole[box.slices].tobytes()


@given(sizes, st.floats(0.3, 6), st.integers(0, 255))
@settings(deadline=None)
def test_a_constant_volume_stays_constant(shape, ratio, value):
    grid = grid_of(shape, ratio)
    assert (grid.image(ts.array(np.full(shape, value, np.uint8)), grid.box) == value).all()


def test_at_ratio_1_the_image_is_the_volume():
    voxels = volume((3, 8, 9), np.uint16)
    grid = Grid(voxels.shape, 4.6, 4.6)
    np.testing.assert_array_equal(grid.image(ts.array(voxels), grid.box), voxels)


def test_detail_finer_than_a_working_pixel_becomes_grey_and_does_not_alias():
    stripes = np.zeros((1, 64, 64), np.float32)
    stripes[:, :, ::2] = 1
    grid = grid_of(stripes.shape, 4.0)
    np.testing.assert_allclose(grid.image(ts.array(stripes), grid.box)[:, :, 1:-1], 0.5, atol=1e-6)


def test_requests_can_be_made_ahead():
    voxels = volume((4, 30, 30))
    grid = grid_of(voxels.shape, 10 / 4.6)
    boxes = [Box((z, 1, 2), (z + 1, 7, 9)) for z in range(4)]
    requests = [grid.request(ts.array(voxels), box) for box in boxes]
    whole = grid.image(ts.array(voxels), grid.box)
    for request, box in zip(requests, boxes, strict=True):
        np.testing.assert_array_equal(request.result(), whole[box.slices])


@pytest.mark.parametrize("box", [Box((0, 0, 0), (1, 6, 5)), Box((0, -1, 0), (1, 2, 2)), Box((0, 2, 2), (1, 2, 3))])
def test_a_box_outside_the_grid_or_empty_is_refused(box):
    grid = grid_of((1, 10, 10), 2.0)
    for read in (grid.image, grid.request):
        with pytest.raises(ValueError, match="not a box inside"):
            read(ts.array(volume((1, 10, 10))), box)
    with pytest.raises(ValueError, match="another shape"):
        grid.image(ts.array(volume((1, 10, 11))), grid.box)


# --- The labels ---


@given(st.tuples(st.just(1), st.integers(1, 7), st.integers(1, 7)),
       st.sampled_from(["5/3", "2", "3", "1/2", "5/2", "7/4", "2/3"]), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_labels_are_the_majority_of_the_exact_area(shape, ratio, seed):
    exact = fractions.Fraction(ratio)
    values = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    grid = Grid(shape, float(exact.denominator), float(exact.numerator))
    found = grid.labels(ts.array(values), label_rule("==1", "==2", ""), grid.box)
    classes = np.where(values == 2, -1, values.astype(int))[0]

    def overlaps(j, size):
        shares = [(i, min(i + 1, (j + 1) * exact) - max(i, j * exact)) for i in range(size)]
        return [(i, share) for i, share in shares if share > 0]

    for j in range(grid.shape[1]):
        for k in range(grid.shape[2]):
            area = {-1: 0, 0: 0, 1: 0}
            for i, height in overlaps(j, shape[1]):
                for h, width in overlaps(k, shape[2]):
                    area[int(classes[i, h])] += height * width
            assert found[0, j, k] == max(sorted(area), key=area.get)  # max takes the first, that is the smaller class


def test_of_equal_areas_the_smaller_class_wins():
    labels = np.array([[[0, 1], [0, 1]]], np.uint8)
    grid = grid_of(labels.shape, 2.0)
    assert grid.labels(ts.array(labels), FOREGROUND, grid.box).item() == 0
    assert grid.labels(ts.array(labels), label_rule("==1", "==0", ""), grid.box).item() == -1


def test_values_that_are_class_indices_stay_class_indices():
    rule, grid = label_rule("classes", "==255", ""), grid_of((1, 2, 2), 2.0)
    assert grid.labels(ts.array(np.full((1, 2, 2), 127, np.uint8)), rule, grid.box).item() == 127


# --- Boxes of voxels ---


@given(sizes, ratios, st.data())
@settings(deadline=None)
def test_inside_is_computed_without_the_voxels_outside(shape, ratio, data):
    grid = grid_of(shape, ratio)
    voxel_box = draw_box(data, shape)
    inside = grid.inside(voxel_box)
    if inside.is_empty:
        return
    image, labels = volume(shape, np.float32), volume(shape) % 2
    poisoned_image, poisoned_labels = np.full(shape, np.nan, np.float32), np.full(shape, 2, np.uint8)
    poisoned_image[voxel_box.slices] = image[voxel_box.slices]
    poisoned_labels[voxel_box.slices] = labels[voxel_box.slices]
    np.testing.assert_array_equal(grid.image(ts.array(poisoned_image), inside), grid.image(ts.array(image), inside))
    rule = label_rule("classes", "", "")
    clean, poisoned = (grid.labels(ts.array(values), rule, inside) for values in (labels, poisoned_labels))
    np.testing.assert_array_equal(poisoned, clean)


@given(sizes, ratios, st.data())
@settings(deadline=None)
def test_inside_leaves_out_only_pixels_that_reach_outside(shape, ratio, data):
    grid = grid_of(shape, ratio)
    voxel_box = draw_box(data, shape)
    inside = grid.inside(voxel_box)
    poisoned = np.full(shape, np.nan, np.float32)
    poisoned[voxel_box.slices] = 0
    clean = np.isfinite(grid.image(ts.array(poisoned), grid.box))
    # A triangle as wide as two working pixels contains the pixel's area, so that the image decides; but not if r is below 1.
    if ratio >= 1:
        assert clean.sum() == np.prod(inside.shape)
    assert clean[inside.slices].all()


def test_the_whole_volume_has_the_whole_grid_inside():
    for ratio in RATIOS:
        grid = grid_of((2, 33, 47), ratio)
        assert grid.inside(Box.whole(grid.volume_shape)) == grid.box


def test_training_pixels_do_not_see_the_test_columns():
    grid = Grid((20, 1024, 1024), 4.6, 10.0)
    train, test = Box((0, 0, 0), (20, 1024, 686)), Box((0, 0, 686), (20, 1024, 1024))
    assert grid.inside(train).intersect(grid.inside(test)).is_empty
    assert grid.inside(train).stop[2] in (313, 314, 315)  # 686 / (10 / 4.6) = 315.6, less the reach of the filter


@given(sizes, ratios, st.data())
@settings(deadline=None)
def test_back_is_linear_interpolation_and_the_same_in_every_box(shape, ratio, data):
    grid = grid_of(shape, ratio)
    whole = Box.whole(shape)
    values = volume(grid.shape, np.float32)
    back = grid.back(values, grid.box, whole)
    assert back.dtype == np.float32
    rows, columns = (back_matrix(ratio, size, count) for size, count in zip(shape[1:], grid.shape[1:], strict=True))
    np.testing.assert_allclose(back, np.einsum("yj,zjk,xk->zyx", rows, values.astype(float), columns), atol=1e-5)
    box = draw_box(data, shape)
    needed = grid.covering(box)
    assert grid.box.contains(needed)
    poisoned = np.full(grid.shape, np.nan, np.float32)
    poisoned[needed.slices] = values[needed.slices]
    part = grid.back(poisoned[needed.slices], needed, box)
    assert part.tobytes() == back[box.slices].tobytes()
    channels = grid.back(np.stack([values, -values], -1), grid.box, box)
    np.testing.assert_array_equal(channels[..., 0], part)
    np.testing.assert_array_equal(channels[..., 1], -part)


def back_matrix(ratio, size, count):
    """[size, count] float64: from `count` working pixels to `size` of the volume's own, constant beyond the outer centres."""
    matrix = np.zeros((size, count))
    for i in range(size):
        centre = min(max((i + 0.5) / ratio - 0.5, 0), count - 1)
        matrix[i] = np.maximum(0, 1 - np.abs(np.arange(count) - centre) / max(1.0, 1 / ratio))
    return matrix / matrix.sum(1, keepdims=True)


def test_a_ramp_survives_there_and_back():
    ramp = np.broadcast_to(np.arange(60, dtype=np.float32), (1, 50, 60)).copy()
    for ratio in (10 / 4.6, 2.0, 1.0, 0.5):
        grid = grid_of(ramp.shape, ratio)
        back = grid.back(grid.image(ts.array(ramp), grid.box), grid.box, Box.whole(ramp.shape))
        np.testing.assert_allclose(back[:, :, 6:-6], ramp[:, :, 6:-6], atol=0.3)


def test_back_refuses_too_few_values():
    grid = grid_of((1, 10, 10), 2.0)
    with pytest.raises(ValueError, match="do not cover"):
        grid.back(np.zeros((1, 5, 4), np.float32), Box((0, 0, 0), (1, 5, 4)), Box.whole((1, 10, 10)))
