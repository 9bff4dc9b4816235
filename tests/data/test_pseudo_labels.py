"""Pseudo-labels: what is believed, left open and refused."""

import numpy as np
import pytest

from yseg.data.pseudo_labels import Prior, measure_prior, pseudo_labels, smoothed

PRIOR = Prior(share=0.05, least_area=20.0, least_solidity=0.8)


def scene():
    """Probabilities [z, y, x] of discs in all sections, and the places of what is put among them."""
    y, x = np.mgrid[:80, :80]
    values = np.full((6, 80, 80), 0.01) + np.random.default_rng(0).uniform(0, 1e-3, (6, 80, 80))
    for row, column in ((15, 15), (15, 45), (50, 20)):
        values[:, np.hypot(y - row, x - column) < 6] = 0.9
    return values


def test_discs_of_the_sources_share_are_foreground_and_the_rest_is_background_or_open():
    values = scene()
    truth = values > 0.5
    labels = pseudo_labels(values, PRIOR._replace(share=truth.mean()))
    assert (labels[truth] == 1).all()
    assert (labels[~truth] <= 0).all()
    assert labels.dtype == np.int8
    # As many as half the share are open, beside what is believed.
    assert (labels == -1).mean() == pytest.approx(0.5 * truth.mean(), rel=0.05)


def test_a_ragged_or_small_component_is_background_and_what_is_in_one_section_is_open():
    values = scene()
    values[:, 60:61, 40:75] = values[:, 45:76, 57:58] = 0.95  # a cross
    values[2:5, 40:43, 40:43] = 0.95  # 9 pixels
    values[3, 25:35, 60:70] = 0.95  # in one section
    labels = pseudo_labels(values, PRIOR._replace(share=(smoothed(values) > 0.4).mean()))
    assert (labels[2:5, 60, 40:75] == 0).all()
    assert (labels[3, 40:43, 40:43] == 0).all()
    assert (labels[3, 26:34, 61:69] == -1).all()
    assert (labels[:, 15, 15] == 1).all()


def test_an_object_that_is_nowhere_certain_is_open():
    values = scene()
    values[:, 44:57, 14:27] *= 0.8  # one disc of three
    share = (values > 0.5).mean()
    assert (pseudo_labels(values, PRIOR._replace(share=share), certain=0.5)[:, 50, 20] == -1).all()
    assert (pseudo_labels(values, PRIOR._replace(share=share), certain=1.0)[:, 50, 20] == 1).all()


def test_holes_are_filled():
    values = scene()
    values[:, 14:17, 14:17] = 0.0
    labels = pseudo_labels(values, PRIOR._replace(share=(values > 0.5).mean()))
    assert (labels[:, 15, 15] == 1).all()


def test_a_single_section_may_hold_objects():
    values = scene()[:1]
    assert (pseudo_labels(values, PRIOR._replace(share=(values > 0.5).mean()))[0, 15, 15] == 1).all()


def test_smoothing_is_a_mean_with_the_neighbours():
    values = np.random.default_rng(0).uniform(size=(4, 3, 2))
    found = smoothed(values)
    np.testing.assert_allclose(found[1], 0.25 * values[0] + 0.5 * values[1] + 0.25 * values[2])
    np.testing.assert_allclose(found[0], 0.75 * values[0] + 0.25 * values[1])
    np.testing.assert_array_equal(smoothed(np.full((3, 2, 2), 0.5)), 0.5)


def test_the_prior_is_that_of_the_labels():
    labels = np.zeros((3, 100, 100), np.int8)
    labels[:, 10:20, 10:20] = labels[:, 40:50, 40:60] = 1
    labels[:, 90:] = -1
    prior = measure_prior(labels)
    assert prior.share == pytest.approx(300 / 9000)
    assert prior.least_area == 100
    assert prior.least_solidity == 1
    with pytest.raises(ValueError, match="share of foreground of 0"):
        measure_prior(np.zeros((1, 4, 4), np.int8))
