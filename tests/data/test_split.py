"""yseg.data.split: boxes that tile a volume, regions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yseg.config import InputError
from yseg.data.split import Box, parse_region, split

shapes = st.tuples(*[st.integers(1, 9)] * 3)


@given(shapes, st.sampled_from("zyx"), st.floats(0, 0.6), st.floats(0, 0.6))
def test_boxes_are_disjoint_cover_the_volume_and_have_the_sizes_asked_for(shape, axis, validation, test):
    along = "zyx".index(axis)
    try:
        parts = split(shape, axis, validation, test)
    except InputError:
        assert (1 - validation - test) * shape[along] <= 2  # each of the others has a voxel at least
        return
    count = np.zeros(shape, int)
    for part in parts:
        count[part.slices] += 1
    assert (count == 1).all()
    for part, share in zip(parts, (1 - validation - test, validation, test), strict=True):
        assert abs(part.shape[along] - share * shape[along]) <= (2 if part is parts.train else 1)
    assert parts.train.stop[along] <= parts.validation.start[along] <= parts.test.start[along]


def test_the_first_67_percent_of_the_columns_of_vnc_are_for_training():
    parts = split((20, 1024, 1024), "x", 0.0, 0.33)
    assert parts.train == Box((0, 0, 0), (20, 1024, 686))
    assert parts.validation.is_empty
    assert parts.test == Box((0, 0, 686), (20, 1024, 1024))


def test_a_small_fraction_is_at_least_a_voxel():
    assert split((20, 5, 5), "z", 0.01, 0.0).validation.shape == (1, 5, 5)


@pytest.mark.parametrize(("axis", "fraction", "named"), [("z", 0.5, "--config.target.test_fraction=0.5"),
                                                         ("t", 0.1, "--config.target.split_axis='t'")])
def test_a_split_that_cannot_be_names_the_flag(axis, fraction, named):
    with pytest.raises(InputError) as caught:
        split((1, 8, 8), axis, 0.0, fraction, "--config.target")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


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
