"""How far apart sections are, and averages over them."""

import numpy as np
import pytest
import tensorstore as ts
from scipy import ndimage

from yseg.data.depth import MOST, averaged, depth_weights, section_spacing


def tissue(every, noise=0.0, shape=(60, 80, 90), seed=0):
    """Isotropic smooth grey levels of which every so many sections are kept, uint8, with noise of its own in every voxel."""
    random = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(random.normal(size=shape), 3)
    values = values[::every] / values.std() * 30 + 120
    return (values + noise * random.normal(size=values.shape)).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("noise", [0.0, 15.0])
@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_of_isotropic_tissue_it_is_the_distance_of_the_sections_with_and_without_noise(every, noise):
    assert section_spacing(ts.array(tissue(every, noise)), 8.0) == pytest.approx(8.0 * every, rel=0.12)


def test_brightness_of_sections_and_empty_borders_change_nothing():
    image = tissue(3)
    expected = section_spacing(ts.array(image), 5.0)
    offsets = np.random.default_rng(1).integers(-20, 20, (len(image), 1, 1))
    assert section_spacing(ts.array((image + offsets).clip(0, 255).astype(np.uint8)), 5.0) == pytest.approx(expected, rel=0.02)
    bordered = np.pad(image, ((0, 0), (0, 0), (0, 90)))
    assert section_spacing(ts.array(bordered), 5.0) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("factor", [1e-29, 1e-20, 1e20, 1e29])
def test_the_scale_of_grey_levels_changes_nothing(factor):
    image = tissue(2).astype(np.float32)
    expected = section_spacing(ts.array(image), 5.0)
    assert section_spacing(ts.array(image * np.float32(factor)), 5.0) == pytest.approx(expected, rel=1e-4)


def test_without_a_neighbour_or_anything_in_common_it_is_infinite():
    random = np.random.default_rng(0)
    smooth = np.stack([ndimage.gaussian_filter(random.normal(size=(70, 70)), 3) for _ in range(5)]).astype(np.float32)
    for image in (smooth, smooth[:1], np.zeros((4, 9, 9), np.uint8), np.zeros((3, 1, 1), np.uint8)):
        assert section_spacing(ts.array(image), 10.0) == np.inf


def test_weights_are_those_of_a_gaussian_within_two_deviations():
    weights = depth_weights(40.0, 30.0)
    assert weights.dtype == np.float32
    expected = np.exp(-0.5 * (np.array([-60, -30, 0, 30, 60]) / 40.0) ** 2)
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize(("depth", "spacing"), [(0.0, 5.0), (40.0, np.inf), (40.0, 81.0)])
def test_a_section_without_others_near_it_stays_alone(depth, spacing):
    np.testing.assert_array_equal(depth_weights(depth, spacing), [1])


def test_so_many_sections_are_averaged_at_most():
    assert len(depth_weights(40.0, 0.5)) == 2 * MOST + 1


def test_averages_repeat_the_outermost_sections():
    values = np.random.default_rng(0).uniform(size=(4, 3, 2)).astype(np.float32)
    found = averaged(values, np.float32([0.25, 0.5, 0.25]))
    np.testing.assert_allclose(found[1], 0.25 * values[0] + 0.5 * values[1] + 0.25 * values[2], rtol=1e-6)
    np.testing.assert_allclose(found[0], 0.75 * values[0] + 0.25 * values[1], rtol=1e-6)
    np.testing.assert_array_equal(averaged(values, np.ones(1, np.float32)), values)


def test_sections_without_tissue_have_no_part_in_averages():
    values = np.random.default_rng(0).random((7, 5, 6)).astype(np.float32)
    weights = depth_weights(40.0, 30.0)
    np.testing.assert_allclose(averaged(values, weights, np.ones(values.shape, bool)), averaged(values, weights), rtol=1e-6)
    tissue = np.ones(values.shape, bool)
    tissue[3] = False
    found = averaged(np.where(tissue, values, 100), weights, tissue)
    around = {offset: weight for offset, weight in zip(range(-2, 3), weights, strict=True)}
    expected = sum(around[other - 2] * values[other] for other in (0, 1, 2, 4)) / sum(around[other - 2] for other in (0, 1, 2, 4))
    np.testing.assert_allclose(found[2], expected, rtol=1e-5)
    assert (found[3] == 100).all()
