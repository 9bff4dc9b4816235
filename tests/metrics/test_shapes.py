"""Shapes of the components of sections, against hulls by another way."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import Delaunay

from yseg.metrics.shapes import Prior, implausible, measure_prior, of_components, prior_from, section_shapes


def hull_area(component):
    """Area of the convex hull of pixels as squares: the triangles of all their corners."""
    corners = np.unique(np.concatenate([np.argwhere(component) + offset for offset in ((0, 0), (0, 1), (1, 0), (1, 1))]), axis=0)
    a, b, c = corners[Delaunay(corners).simplices].transpose(1, 0, 2)
    return 0.5 * np.abs((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1])).sum()


def test_areas_and_solidities_are_those_of_the_components_of_each_section():
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(3, 60, 50)), (0, 2, 2)) > 0.1
    found, seen = section_shapes(mask), 0
    for section, numbers in zip(mask, found.numbers, strict=True):
        expected, count = ndimage.label(section)
        for number in range(1, count + 1):
            component = expected == number
            (own,) = np.unique(numbers[component])
            assert (numbers == own).sum() == component.sum() == found.areas[own - 1]
            assert found.solidities[own - 1] == pytest.approx(component.sum() / hull_area(component))
            seen += 1
    assert seen == len(found.areas) > 20
    assert ((found.numbers > 0) == mask).all()


def test_of_a_rectangle_the_solidity_is_one_and_of_a_ring_it_lacks_the_hole():
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 2:5, 3:12] = True
    mask[0, 8:18, 8:18] = True
    mask[0, 10:16, 10:16] = False
    found = section_shapes(mask)
    assert found.areas.tolist() == [27, 64]
    np.testing.assert_allclose(found.solidities, [1, 0.64])


def test_sections_and_corners_do_not_join():
    mask = np.zeros((2, 4, 4), bool)
    mask[:, 1, 1] = mask[0, 2, 2] = True
    assert section_shapes(mask).areas.tolist() == [1, 1, 1]


def test_of_nothing_there_is_nothing():
    found = section_shapes(np.zeros((2, 3, 3), bool))
    assert found.areas.shape == found.solidities.shape == (0,)


def test_what_is_no_mask_is_a_mistake():
    with pytest.raises(ValueError, match="must be bool"):
        section_shapes(np.zeros((2, 3, 3), np.uint8))


def test_the_prior_is_that_of_the_labels():
    labels = np.zeros((3, 100, 100), np.int8)
    labels[:, 10:20, 10:20] = labels[:, 40:50, 40:60] = 1
    labels[:, 90:] = -1
    prior = measure_prior(labels, 8.0)
    assert prior.share == pytest.approx(300 / 9000)
    assert prior.least_area_nm2 == 100 * 64
    assert prior.least_solidity == 1
    with pytest.raises(ValueError, match="share of foreground of 0"):
        measure_prior(np.zeros((1, 4, 4), np.int8), 8.0)


def test_a_prior_comes_back_from_its_fields_and_what_is_none_is_refused():
    prior = Prior(0.05, 900.0, 0.7)
    assert prior_from(prior._asdict()) == prior
    for wrong in ([], {"share": 0.1}, prior._replace(share=1.0)._asdict(), prior._replace(least_solidity="ragged")._asdict()):
        with pytest.raises(ValueError, match=r"share|float|Prior"):
            prior_from(wrong)


def test_what_is_smaller_or_more_ragged_than_the_prior_is_implausible_at_any_pixel_size():
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 2:12, 2:12] = mask[0, 20:23, 2:5] = mask[0, 20:22, 10:30] = mask[0, 20:38, 18:20] = True
    found = section_shapes(mask)
    for nm in (1.0, 10.0):
        wrong = implausible(found, Prior(0.1, 50 * nm**2, 0.8), nm)
        assert of_components(wrong, found.numbers).sum() == 9 + 40 + 36 - 4
        assert not of_components(wrong, found.numbers)[0, 2:12, 2:12].any()
