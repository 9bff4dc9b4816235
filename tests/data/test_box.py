"""yseg.data.box: boxes of voxels against masks, and regions given as text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yseg.config import InputError
from yseg.data.box import Box, evenly_spaced, parse_region, sections_of

shapes = st.tuples(*[st.integers(1, 9)] * 3)


@given(shapes, st.data())
def test_a_region_is_the_slice_of_the_same_text(shape, data):
    parts, index = [], []
    for size in shape:
        start = data.draw(st.integers(0, size - 1))
        stop = data.draw(st.integers(start + 1, size))
        left, right = data.draw(st.booleans()) and start == 0, data.draw(st.booleans()) and stop == size
        parts.append(f"{'' if left else start}:{'' if right else stop}")
        index.append(slice(start, stop))
    assert parse_region(",".join(parts), shape).slices == tuple(index)


def test_an_empty_region_is_the_whole_volume():
    assert parse_region("", (2, 3, 4)) == parse_region(":,:,:", (2, 3, 4)) == Box.whole((2, 3, 4))


@pytest.mark.parametrize("text", ["0:1", "0:1,0:1,0:9", "1,2,3", "a:b,:,:", ":,2:1,:", ":,1:1,:", "-1:,:,:", ":,:,:,:"])
def test_a_bad_region_names_the_flag_and_what_was_given(text):
    with pytest.raises(InputError, match=r"^--region=") as caught:
        parse_region(text, (4, 4, 4))
    assert text in str(caught.value)


@given(st.tuples(shapes, shapes), st.tuples(shapes, shapes))
def test_the_intersection_holds_the_voxels_in_both(one, other):
    arrays = np.zeros((2, 10, 10, 10), bool)
    first, second = Box(*one), Box(*other)
    for array, box in zip(arrays, (first, second), strict=True):
        array[box.slices] = True
    both = np.zeros((10, 10, 10), bool)
    both[first.intersect(second).slices] = True
    np.testing.assert_array_equal(both, arrays[0] & arrays[1])
    assert first.contains(second) == (not (arrays[1] & ~arrays[0]).any())
    assert first.shape == tuple(max(b - a, 0) for a, b in zip(*one, strict=True))
    assert first.is_empty == (not arrays[0].any())


def test_a_box_is_written_as_it_is_read():
    box = Box((0, 5, 12), (3, 9, 40))
    assert str(box) == "0:3,5:9,12:40"
    assert parse_region(str(box), (3, 10, 40)) == box
    assert box.relative_to(Box((0, 5, 10), (9, 9, 99))) == Box((0, 0, 2), (3, 4, 30))


def test_sections_of_a_box_have_its_rows_and_columns():
    assert sections_of(Box((0, 5, 12), (3, 9, 40)), 1, 2) == Box((1, 5, 12), (2, 9, 40))


@pytest.mark.parametrize(("start", "stop", "count"), [(0, 3, 5), (2, 20, 4), (5, 1000, 32)])
def test_evenly_spaced_numbers_differ_and_lie_inside(start, stop, count):
    numbers = evenly_spaced(start, stop, count)
    assert len(set(numbers)) == len(numbers) == min(count, stop - start)
    assert all(start <= number < stop for number in numbers)
    if len(numbers) > 1:
        assert np.ptp(np.diff(numbers)) <= 1
