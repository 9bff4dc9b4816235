"""Pseudo-labels: what is believed, left open and refused."""

import numpy as np
import pytest
from scipy import ndimage

from yseg.data import pseudo_labels as module
from yseg.metrics.shapes import Prior

NM = 10.0
PRIOR = Prior(share=0.05, least_area_nm2=20.0 * NM**2, least_solidity=0.8)


def pseudo_labels(values, *arguments, **options):
    """Of a volume that is looked at as a whole."""
    return module.pseudo_labels([values], *arguments, **options)[0]


def scene():
    """Probabilities [z, y, x] of discs in all sections, and the places of what is put among them."""
    y, x = np.mgrid[:80, :80]
    values = np.full((6, 80, 80), 0.01) + np.random.default_rng(0).uniform(0, 1e-3, (6, 80, 80))
    for row, column in ((15, 15), (15, 45), (50, 20)):
        values[:, np.hypot(y - row, x - column) < 6] = 0.9
    return values


@pytest.mark.parametrize("share_of_called", [0.55, 0.8, 1.0, 1.25, 1.9])
def test_what_the_network_calls_is_foreground_and_all_around_is_background_whatever_the_sources_share(share_of_called):
    values = ndimage.gaussian_filter(scene(), (0, 1.5, 1.5))  # probabilities that fall off across the rims of the discs
    for threshold in (0.4, 0.5):
        called = values >= threshold
        prior = PRIOR._replace(share=share_of_called * called.mean())
        labels = pseudo_labels(values, prior, pixel_size_nm=NM, threshold=threshold)
        np.testing.assert_array_equal(labels, called)
        assert labels.dtype == np.int8


def test_of_the_next_probable_voxels_plausible_components_are_open_and_others_are_background():
    values = scene()
    values[:, 40:43, 40:43] = 0.4  # 9 pixels
    truth = values > 0.5
    values[:, np.hypot(*(np.mgrid[:80, :80] - np.array([60, 60])[:, None, None])) < 6] = 0.4
    prior = PRIOR._replace(share=truth.mean())
    labels = pseudo_labels(values, prior, pixel_size_nm=NM, margin=1.5)
    assert (labels[:, 60, 60] == -1).all()
    assert (labels[:, 40:43, 40:43] == 0).all()
    np.testing.assert_array_equal(labels == 1, truth)
    assert (pseudo_labels(values, prior, pixel_size_nm=NM, margin=1.0) >= 0).all()


@pytest.mark.parametrize(("threshold", "times"), [(0.99, 0.5), (0.0, 2.0)])
def test_a_network_that_calls_nothing_or_all_gets_half_or_twice_the_sources_share(threshold, times):
    values = ndimage.gaussian_filter(scene(), (0, 1.5, 1.5))
    labels = pseudo_labels(values, PRIOR._replace(share=0.04 / times), pixel_size_nm=NM, threshold=threshold, doubt=9.0)
    assert (labels == 1).mean() == pytest.approx(0.04, rel=0.01)


def test_a_ragged_or_small_component_is_background_and_what_is_in_one_section_is_open():
    values = scene()
    values[:, 60:61, 40:75] = values[:, 45:76, 57:58] = 0.95  # a cross
    values[2:5, 40:43, 40:43] = 0.95  # 9 pixels
    values[3, 25:35, 60:70] = 0.95  # in one section
    labels = pseudo_labels(values, PRIOR._replace(share=(values > 0.5).mean()), pixel_size_nm=NM)
    assert (labels[:, 60, 40:75] == 0).all()
    assert (labels[3, 40:43, 40:43] == 0).all()
    assert (labels[3, 26:34, 61:69] == -1).all()
    assert (labels[:, 15, 15] == 1).all()


def test_a_doubted_object_is_background_or_left_open_if_more_certain_ones_make_up_the_sources_share():
    values = scene()
    disc = np.s_[:, 44:57, 14:27]
    values[disc] *= 0.9  # one of three: 0.81, so that it is 1.9 times as doubtful
    called = values > 0.5
    others = called.copy()
    others[disc] = False

    def labels(share, doubt):
        return pseudo_labels(values, PRIOR._replace(share=share * called.mean()), pixel_size_nm=NM, doubt=doubt)

    np.testing.assert_array_equal(labels(0.6, doubt=1.8), others)
    np.testing.assert_array_equal(labels(0.6, doubt=2.5), np.where(called == others, called, -1))
    np.testing.assert_array_equal(labels(0.6, doubt=3.0), called)
    np.testing.assert_array_equal(labels(1.01, doubt=1.8), called)


def test_objects_are_doubted_by_what_is_typical_of_all_parts():
    doubtful, certain = scene(), scene()
    doubtful[doubtful > 0.5] = 0.7
    prior = PRIOR._replace(share=0.25 * (certain > 0.5).mean())
    alone, = module.pseudo_labels([doubtful], prior, pixel_size_nm=NM)
    assert (alone == 1).any()
    beside, *others = module.pseudo_labels([doubtful, certain, certain], prior._replace(share=(certain > 0.5).mean() * 0.6),
                                           pixel_size_nm=NM)
    assert (beside[doubtful > 0.5] == 0).all()
    assert all((labels == (certain > 0.5)).all() for labels in others)


def test_holes_are_filled():
    values = scene()
    values[:, 14:17, 14:17] = 0.0
    labels = pseudo_labels(values, PRIOR._replace(share=(values > 0.5).mean()), pixel_size_nm=NM)
    assert (labels[:, 15, 15] == 1).all()


def test_a_single_section_may_hold_objects():
    values = scene()[:1]
    assert (pseudo_labels(values, PRIOR._replace(share=(values > 0.5).mean()), pixel_size_nm=NM)[0, 15, 15] == 1).all()


def test_parts_share_one_ranking():
    values = scene()
    prior = PRIOR._replace(share=(values > 0.5).mean())
    whole = pseudo_labels(values, prior, pixel_size_nm=NM)
    parts = module.pseudo_labels([values[:, :40], values[:, 40:]], prior, pixel_size_nm=NM)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert (parts[0] == 1).mean() > 1.5 * (parts[1] == 1).mean()


def test_shares_are_those_of_tissue_and_the_rest_is_left_open():
    values = scene()
    prior = PRIOR._replace(share=(values > 0.5).mean())
    padded, tissue = (np.pad(array, ((0, 0), (40, 0), (0, 60))) for array in (values, np.ones(values.shape, bool)))
    found, = module.pseudo_labels([padded], prior, pixel_size_nm=NM, tissue=[tissue])
    np.testing.assert_array_equal(found[tissue].reshape(values.shape), pseudo_labels(values, prior, pixel_size_nm=NM))
    assert found.dtype == np.int8
    assert (found[~tissue] == -1).all()
