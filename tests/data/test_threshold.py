"""Thresholds at which a prediction has the source's share of foreground."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yseg.data.threshold import bounded_threshold, matching_threshold


@given(st.integers(1, 300), st.floats(0.001, 0.999), st.integers(0, 5))
def test_the_share_of_voxels_that_reach_the_threshold_is_that_asked_for(count, share, seed):
    probabilities = np.random.default_rng(seed).permutation(count) / count
    threshold = matching_threshold(probabilities, share)
    assert abs(np.mean(probabilities >= threshold) - share) <= max(0.5 / count, 1 / count - share) + 1e-9


@pytest.mark.parametrize(("share", "expected"), [(0.3, 0.5), (0.092, 0.5), (0.09, 0.519), (0.06, 0.55), (0.01, 0.6)])
def test_a_threshold_is_raised_to_where_the_share_is_reached_within_bounds(share, expected):
    values = np.linspace(0, 0.49, 1000)
    values[-100:] = np.linspace(0.51, 0.6, 100)  # 10 % are called
    values[-10:] = 0.9
    assert bounded_threshold(values, share, usual=0.5, shift=0.1, excess=0.1) == pytest.approx(expected, abs=0.005)
    assert bounded_threshold(values, share, usual=0.5, shift=0.0, excess=0.1) == 0.5
