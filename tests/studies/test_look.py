"""What samples of grey levels and label values show."""

import numpy as np
import pytest

from yseg.studies.look import NAMED, Peak, label_values, peaks


@pytest.fixture
def grey():
    return np.random.default_rng(0).normal(100, 30, 100_000)


def test_grey_levels_that_were_cut_off_have_a_peak(grey):
    low, high = peaks(np.clip(grey, 60, 140).astype(np.uint8))
    assert (low.level, high.level, low.lowest, high.lowest) == (60, 140, True, False)
    assert low.share == pytest.approx(0.093, abs=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_grey_levels_that_were_not_have_none(grey, dtype):
    assert peaks(np.clip(grey, 5, 250).astype(dtype)) == ()


def test_a_mask_taken_for_an_image_has_no_peak():
    assert peaks(np.array([0, 255] * 500, np.uint8)) == ()


def test_no_data_is_a_peak(grey):
    assert peaks(np.concatenate([np.zeros(5000, np.uint8), grey.clip(5, 250).astype(np.uint8)])) == (
        Peak(0.0, 5000 / 105_000, True),)


def test_label_values_are_counted_with_their_components():
    first = np.zeros((4, 6), np.uint8)
    first[0, 0] = first[2, 4] = 1
    second = np.zeros_like(first)
    second[1, 1:3] = 7
    values, distinct = label_values([first, second])
    assert distinct == 3
    assert [(value.value, value.share, value.sections, value.pieces) for value in values] == [
        (0, 44 / 48, 1.0, 1.0), (1, 2 / 48, 0.5, 2.0), (7, 2 / 48, 0.5, 1.0)]


def test_many_values_are_not_told_apart_and_nan_is_none():
    assert label_values([np.arange(NAMED + 1)[None]]) == ((), NAMED + 1)
    assert label_values([np.array([[np.nan, 0.0, 1.0]])])[1] == 2
