"""Signs of a segmentation without labels, and what is made of them."""

import numpy as np
import pytest

from yseg.metrics.shapes import Prior
from yseg.metrics.signs import Signs, judge_adaptation, signs_of

PRIOR = Prior(share=0.05, least_area_nm2=20 * 100.0, least_solidity=0.8)
BEFORE = Signs(agreement=0.6, plausible=0.8, share=0.05)


def test_signs_are_those_of_a_mask():
    mask = np.zeros((3, 40, 40), bool)
    mask[:2, 5:15, 5:15] = True  # 100 pixels in two sections of three
    mask[2, 10:20, 5:15] = True  # half of it moved on
    mask[1, 30:33, 30:33] = True  # too small
    found = signs_of([mask], PRIOR, 10.0)
    assert signs_of([mask, mask], PRIOR, 10.0) == found
    assert signs_of([mask, np.zeros_like(mask)], PRIOR, 10.0) == found._replace(share=found.share / 2)
    assert found.agreement == pytest.approx(2 * (100 + 50) / ((100 + 109) + (109 + 100)))
    assert found.plausible == pytest.approx(300 / 309)
    assert found.share == pytest.approx(309 / 4800)


def test_of_nothing_or_one_section_they_say_nothing():
    assert signs_of([np.zeros((2, 9, 9), bool)], PRIOR, 10.0) == (None, None, 0.0)
    assert signs_of([np.ones((1, 9, 9), bool)], PRIOR, 10.0) == (None, 1.0, 1.0)


@pytest.mark.parametrize(("changes", "adapted", "named"), [
    ({"agreement": 0.7}, True, "sections went from 0.60 to 0.70"),
    ({"agreement": 0.595}, True, "sections"),
    ({"agreement": 0.55}, False, "sections went from 0.60 to 0.55"),
    ({"agreement": 0.9, "share": 0.11}, False, "from 5.0% to 11.0%"),
    ({"agreement": 0.9, "share": 0.02}, False, "foreground"),
    ({"agreement": 0.9, "plausible": 0.7}, False, "from 0.80 to 0.70"),
    ({"agreement": None, "plausible": None, "share": 0.0}, False, "foreground")])
def test_an_adaptation_is_used_if_nothing_speaks_against_it(changes, adapted, named):
    verdict = judge_adaptation(BEFORE, BEFORE._replace(**changes), PRIOR)
    assert verdict.adapted == adapted
    assert named in verdict.reason


def test_a_share_between_that_of_before_and_that_of_the_source_is_welcome():
    before = BEFORE._replace(share=0.3)
    assert judge_adaptation(before, BEFORE, PRIOR).adapted
    assert not judge_adaptation(before, before._replace(share=0.7), PRIOR).adapted


def test_of_one_section_components_decide():
    one = Signs(None, 0.8, 0.05)
    assert judge_adaptation(one, one, PRIOR).adapted
    assert not judge_adaptation(one, one._replace(plausible=0.6), PRIOR).adapted


@pytest.mark.parametrize("before", [BEFORE._replace(share=0.0, agreement=None, plausible=None), Signs(None, 0.8, 0.0)])
def test_a_network_that_calls_nothing_is_not_used_whatever_the_one_before_called(before):
    verdict = judge_adaptation(before, Signs(None, None, 0.0), PRIOR)
    assert verdict == (False, "it calls nothing foreground")


def test_what_is_no_tissue_has_no_part_in_them():
    mask = np.zeros((4, 40, 40), bool)
    mask[:, 5:15, 5:15] = True
    expected = signs_of([mask], PRIOR, 10.0)
    tissue, padded = (np.insert(np.pad(array, ((0, 0), (0, 9), (7, 0))), 2, filling, axis=0)
                      for array, filling in ((np.ones_like(mask), False), (mask, True)))
    found = signs_of([padded], PRIOR, 10.0, [tissue])
    assert (found.plausible, found.share, found.agreement) == (expected.plausible, expected.share, expected.agreement)
