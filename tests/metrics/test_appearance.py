"""What is measured of sections, on images whose answer is known."""

import numpy as np
import pytest
from scipy import ndimage

from yseg.metrics.appearance import diameters, label_fit, line_polarity, power_spectrum, typical_diameter
from yseg.volumes.phantom import phantom


def discs(shape, radius, count, seed=0):
    """Labels int [y, x] with discs that may touch, and an image that is dark in them, with noise."""
    random, y, x = np.random.default_rng(seed), *np.indices(shape)
    labels = np.zeros(shape, int)
    for cy, cx in random.uniform(0, shape, (count, 2)):
        labels[np.hypot(y - cy, x - cx) <= radius] = 1
    return random.normal(0, 1, shape) - 1.5 * labels, labels


@pytest.mark.parametrize("domain", ["source", "target"])
def test_lines_of_the_phantom_are_dark_and_those_of_its_inverse_are_bright(domain):
    section = phantom(domain, (1, 256, 256), seed=4)[0][0]
    section = ndimage.zoom(section.astype(float), 0.5, order=1)
    assert line_polarity(section) > 0.08
    assert line_polarity(255 - section) == pytest.approx(-line_polarity(section))


def test_polarity_has_neither_unit_nor_offset():
    section = phantom("source", (1, 128, 128), seed=4)[0][0].astype(float)
    assert line_polarity(3 * section - 40) == pytest.approx(line_polarity(section))


def test_noise_and_nothing_have_no_polarity():
    assert abs(line_polarity(np.random.default_rng(0).normal(0, 9, (512, 512)))) < 0.02
    assert line_polarity(np.full((32, 32), 7, np.uint8)) == 0


def test_white_noise_has_its_variance_at_every_frequency():
    frequencies, power = power_spectrum(np.random.default_rng(0).normal(0, 3, (1024, 1024)))
    assert frequencies[-1] == 0.5
    np.testing.assert_allclose(power[4:], 9, rtol=0.25)
    assert power.mean() == pytest.approx(9, rel=0.05)


def test_a_wave_has_its_power_at_its_frequency():
    frequencies, power = power_spectrum(np.sin(2 * np.pi * np.arange(256) / 8)[None] + np.zeros((256, 1)))
    assert frequencies[np.argmax(power)] == pytest.approx(1 / 8)


def test_diameters_are_those_of_discs():
    _, labels = discs((200, 200), 10, 1, seed=3)
    assert diameters(labels > 0) == pytest.approx(20, abs=0.5)
    assert diameters(np.zeros((5, 5), bool)).size == 0


def test_specks_do_not_change_the_typical_diameter():
    assert typical_diameter(np.array([20.0, 30.0, 40.0])) == 40
    assert typical_diameter(np.array([30.0] * 5 + [1.0] * 1000)) == 30


def test_labels_that_belong_to_an_image_fit_and_others_do_not():
    pairs = [discs((256, 256), 8, 12, seed) for seed in range(4)]
    fit = label_fit(pairs, 16)
    assert fit.here > 12
    assert fit.best == fit.here
    assert np.hypot(*fit.shift) <= 2
    others = [(image, pairs[number - 1][1]) for number, (image, _) in enumerate(pairs)]
    assert label_fit(others, 16).here < 4.5


def test_the_shift_that_makes_labels_fit_is_found():
    pairs = [discs((256, 256), 8, 12, seed) for seed in range(4)]
    pairs = [(image, np.roll(labels, (9, -14), (0, 1))) for image, labels in pairs]
    fit = label_fit(pairs, 16)
    assert np.abs(np.subtract(fit.shift, (-9, 14))).max() <= 2
    assert fit.best > 2 * fit.here


def test_a_fit_is_not_judged_where_there_is_nothing_to_compare():
    image, labels = discs((64, 64), 8, 2)
    assert label_fit([(image, np.zeros_like(labels))], 16) is None
    assert label_fit([(np.zeros_like(image), labels)], 16) is None
    assert label_fit([(image, labels)], 60) is None
