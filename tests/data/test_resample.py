"""yseg.data.resample: taps against dense matrices, in fractions where areas are meant to be exact; part against whole."""

import fractions

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yseg.data.resample import Taps, area_taps, majority, resample, triangle_taps

sizes = st.integers(1, 30)
ratios = st.sampled_from([10 / 4.6, 2.0, 1.0, 0.5, 3.7, 1.5]) | st.floats(0.3, 6)


def dense(taps, size):
    """The matrix [n, size] of Taps."""
    matrix = np.zeros((len(taps.index), size))
    for row, index, weight in zip(matrix, taps.index, taps.weight, strict=True):
        np.add.at(row, index, weight)
    return matrix


def triangles(ratio, size):
    """Taps of all whole pixels of a grid whose pixels are `ratio` samples wide."""
    return triangle_taps((np.arange(max(1, int(size / ratio))) + 0.5) * ratio - 0.5, max(1.0, ratio), size)


@given(ratios, sizes)
@settings(deadline=None)
def test_triangle_taps_weigh_by_the_distance_from_the_centre(ratio, size):
    found = dense(triangles(ratio, size), size)
    half = max(1.0, ratio)
    for j, row in enumerate(found):
        expected = [max(0.0, 1 - abs(i + 0.5 - (j + 0.5) * ratio) / half) for i in range(size)]
        np.testing.assert_allclose(row, np.array(expected) / sum(expected), atol=1e-9)


@given(st.fractions(fractions.Fraction(1, 3), 6, max_denominator=7), sizes)
@settings(deadline=None)
def test_area_taps_weigh_by_the_exact_share_of_the_area(ratio, size):
    count = int(size / ratio)
    if not count:
        return
    found = dense(area_taps(np.arange(count) * float(ratio), float(ratio), size), size)
    for j, row in enumerate(found):
        shares = [max(fractions.Fraction(0), min(i + 1, (j + 1) * ratio) - max(i, j * ratio)) for i in range(size)]
        np.testing.assert_allclose(row, [float(share / ratio) for share in shares], atol=1e-9)
        assert [weight > 0 for weight in row] == [share > 0 for share in shares]


@given(ratios, sizes)
@settings(deadline=None)
def test_taps_stay_inside_and_their_weights_sum_to_1(ratio, size):
    count = max(1, int(size / ratio))
    for taps in (triangles(ratio, size), area_taps(np.arange(count) * ratio, ratio, size)):
        assert 0 <= taps.start < taps.stop <= size
        assert (taps.start, taps.stop) == (taps.index.min(), taps.index.max() + 1)
        np.testing.assert_allclose(taps.weight.sum(1), 1, rtol=1e-12)
        assert (taps.weight >= 0).all()


@pytest.mark.parametrize("channels", [(), (3,)])
def test_resampling_is_the_product_with_both_matrices(channels):
    section = np.random.default_rng(0).normal(size=(19, 23, *channels))
    rows, columns = triangles(10 / 4.6, 19), triangles(0.5, 23)
    expected = np.einsum("jy,yx...,kx->jk...", dense(rows, 19), section, dense(columns, 23))
    np.testing.assert_allclose(resample(section, rows, columns, (0, 0)), expected, atol=1e-12)


@given(ratios, sizes, sizes, st.data())
@settings(deadline=None)
def test_a_part_has_the_bits_of_the_whole(ratio, height, width, data):
    section = np.random.default_rng(0).normal(size=(height, width)).astype(np.float32)
    rows, columns = (triangles(ratio, size).astype(np.float32) for size in (height, width))
    whole = resample(section, rows, columns, (0, 0))
    assert whole.dtype == np.float32
    first, last = (data.draw(st.integers(0, len(rows.index) - 1)) for _ in range(2))
    first, last = min(first, last), max(first, last) + 1
    part = Taps(rows.index[first:last], rows.weight[first:last])
    seen = section[part.start:part.stop, columns.start:columns.stop]
    found = resample(seen, part, columns, (part.start, columns.start))
    assert found.tobytes() == whole[first:last].tobytes()


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(["5/3", "2", "3", "1/2", "7/4"]), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_majority_has_the_largest_exact_area_and_of_equal_ones_it_is_the_smaller_class(height, width, ratio, seed):
    exact = fractions.Fraction(ratio)
    classes = np.random.default_rng(seed).integers(-1, 3, (height, width)).astype(np.int8)
    counts = [int(size / exact) for size in (height, width)]
    if 0 in counts:
        return
    rows, columns = (area_taps(np.arange(count) * float(exact), float(exact), size)
                     for count, size in zip(counts, (height, width), strict=True))
    found = majority(classes, rows, columns, (0, 0))
    assert found.dtype == np.int8

    def share(i, j):
        return max(fractions.Fraction(0), min(i + 1, (j + 1) * exact) - max(i, j * exact))

    for j, k in np.ndindex(*counts):
        area = dict.fromkeys(range(-1, 3), fractions.Fraction(0))
        for i, h in np.ndindex(height, width):
            area[int(classes[i, h])] += share(i, j) * share(h, k)
        assert found[j, k] == max(sorted(area), key=area.get)  # max takes the first, that is the smaller class
