"""A short campaign of faults; `python -m tests.faults` is the long one."""

import numpy as np
import pytest

from tests.faults import Campaign, bits_that_differ

KILLS = {"training": 4, "adaptation": 4, "segmentation": 2}


def test_bits_that_differ_are_counted_and_those_of_what_is_missing_too():
    one = {"a": np.array([1, 2], np.uint8), "b": np.float32(1.0)}
    assert bits_that_differ(one, one) == 0
    assert bits_that_differ(one, {**one, "a": np.array([1, 7], np.uint8)}) == 2  # 0b010 and 0b111
    assert bits_that_differ(one, {"a": one["a"]}) == 32
    assert bits_that_differ({**one, "a": np.array([1], np.uint8)}, one) == 16


@pytest.mark.slow
def test_what_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    campaign, lines = Campaign(tmp_path, seed=1), []
    for name, kills in KILLS.items():
        assert campaign.kill(name, kills, lines.append) == (kills, 0), lines
