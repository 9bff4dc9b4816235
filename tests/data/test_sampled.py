"""Parts of a volume that stand for all of it."""

import itertools
import math

import pytest

from yseg.data.box import Box
from yseg.data.sampled import DEPTH, PARTS, sampled_parts


@pytest.mark.parametrize("box", [Box((2, 3, 5), (12, 83, 95)), Box((0, 0, 0), (1, 40, 30))])
def test_a_box_that_is_small_enough_is_its_only_part(box):
    assert sampled_parts(box, math.prod(box.shape)) == [box]


@pytest.mark.parametrize("box", [
    Box((0, 0, 0), (500, 3000, 2000)), Box((7, 10, 20), (20, 5000, 4000)), Box((0, 0, 0), (1, 9000, 8000)),
    Box((0, 0, 0), (4000, 300, 300))])
def test_parts_lie_inside_and_apart_and_are_as_large_as_they_may(box):
    largest = 2**22
    parts = sampled_parts(box, largest, 96)
    assert 1 < len(parts) <= PARTS
    assert all(box.contains(part) and min(part.shape[1:]) >= 96 for part in parts)
    assert all(one.intersect(other).is_empty for one, other in itertools.combinations(parts, 2))
    assert {part.shape[0] for part in parts} == {min(DEPTH, box.shape[0])}
    total = sum(math.prod(part.shape) for part in parts)
    assert total <= largest
    assert total > 0.9 * largest or min(parts[0].shape[1:]) == 300
    assert sampled_parts(box, largest, 96) == parts


def test_a_part_holds_a_patch():
    for part in sampled_parts(Box((0, 0, 0), (50, 700, 600)), 1000, 96):
        assert part.shape == (32, 96, 96)


def test_parts_may_have_to_hold_something():
    box, largest = Box((0, 0, 0), (40, 900, 900)), 32 * 96 * 96 * 8
    usual = sampled_parts(box, largest, 96)
    found = sampled_parts(box, largest, 96, lambda part: part.start[1] >= 400)
    assert len(found) == PARTS
    assert found != usual
    assert all(part.start[1] >= 400 for part in found)
    assert sampled_parts(box, largest, 96, lambda part: False) == usual
