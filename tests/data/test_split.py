"""yseg.data.split: boxes that tile a volume, and shares of a box."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yseg.config import InputError
from yseg.data.box import Box, parse_region
from yseg.data.split import share_of, split

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
        split((1, 8, 8), axis, 0.0, fraction, flag="--config.target")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def voxels_of(boxes, shape):
    mask = np.zeros(shape, int)
    for box in boxes:
        mask[box.slices] += 1
    assert mask.max(initial=0) <= 1
    return mask.astype(bool)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 5), st.integers(1, 4))
def test_a_smaller_share_lies_inside_a_larger_one_and_both_inside_the_box(one, other, seed, least_rows):
    shape, box = (7, 9, 8), Box((1, 2, 0), (6, 9, 5))
    small, large = (voxels_of(share_of(box, fraction, seed, least_rows=least_rows), shape) for fraction in sorted((one, other)))
    assert not (small & ~large).any()
    assert not (large & ~voxels_of([box], shape)).any()


@given(st.floats(0, 1), st.integers(0, 5))
def test_a_share_is_as_large_as_asked_for_to_a_row(fraction, seed):
    box = Box((1, 2, 0), (6, 9, 5))
    rows = sum(part.shape[1] for part in share_of(box, fraction, seed))
    assert abs(rows - fraction * 35) <= 1
    assert (rows == 0) == (fraction == 0)


def test_a_share_has_whole_sections_at_random_and_room_for_a_patch():
    box = Box((0, 0, 0), (20, 100, 90))
    assert share_of(box, 1.0, 0) == tuple(Box((z, 0, 0), (z + 1, 100, 90)) for z in range(20))
    chosen = [tuple(part.start[0] for part in share_of(box, 0.15, seed)) for seed in range(8)]
    assert all(len(sections) == 3 and list(sections) == sorted(sections) for sections in chosen)
    assert len(set(chosen)) > 4
    assert [part.shape for part in share_of(box, 0.001, 0, least_rows=40)] == [(1, 40, 90)]


def test_a_share_of_some_sections_has_no_others():
    box = parse_region("2:10,:,:", (12, 20, 30))
    boxes = share_of(box, 0.5, 3, sections=[2, 5, 6, 9])
    assert {each.start[0] for each in boxes} < {2, 5, 6, 9}
    assert sum(each.shape[0] * each.shape[1] for each in boxes) == 40
    assert share_of(box, 0.5, 3, sections=range(2, 10)) == share_of(box, 0.5, 3)
