"""Alignment of grey levels: values against independent references in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg.data.align import fourier_style, matching_levels
from yseg.training.step import z_score

pytestmark = pytest.mark.usefixtures("strict_dtypes")

TIED = np.repeat(np.arange(8.0) ** 2, 8)  # as of an 8-bit volume with eight grey levels
SIZES = [(16, 16), (15, 15), (12, 17), (17, 10)]

styled = jax.jit(fourier_style, static_argnames="share")


def sorted_values(seed, count=64):
    return np.sort(np.random.default_rng(seed).normal(120, 40, count))


def matched(values, own, other):
    return np.asarray(jax.jit(z_score)(np.asarray(values, np.float32), matching_levels(own, other)))


def reference_map(values, own, other):
    """Every distinct grey level with the mean of its targets, then linear between."""
    levels = np.unique(own)
    return np.interp(values, levels, [np.mean(other[own == level]) for level in levels])


def images(shape, seed=0, mean=0.0):
    """Patches with more energy at low frequencies, as in EM."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(np.cumsum(rng.normal(size=shape), axis=-3), axis=-2)
    return jnp.asarray(mean + walk / walk.std() + 0.1 * rng.normal(size=shape), jnp.float32)


def reference_style(image, style, half):
    """Full spectrum with the zero frequency in the middle; a box of 2 half + 1 amplitudes is swapped. float64."""
    image, style = np.asarray(image, np.float64), np.asarray(style, np.float64)
    spectra = [np.fft.fftshift(np.fft.fft2(pixels, axes=(0, 1)), axes=(0, 1)) for pixels in (image, style)]
    amplitude, phase = np.abs(spectra[0]), np.angle(spectra[0])
    middle = [size // 2 for size in image.shape[:2]]
    inside = tuple(slice(max(0, centre - reach), centre + reach + 1) for centre, reach in zip(middle, half, strict=True))
    amplitude[inside] = np.abs(spectra[1])[inside]
    spectrum = amplitude * np.exp(1j * phase)
    spectrum[*middle] = spectra[1][*middle]
    result = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(0, 1)), axes=(0, 1))
    np.testing.assert_allclose(result.imag, 0, atol=1e-9)
    return result.real


def spectrum_of(image):
    return np.fft.fft2(np.asarray(image, np.float64), axes=(0, 1))


@pytest.mark.parametrize("size", SIZES)
def test_the_styled_image_is_that_of_the_full_spectrum_in_numpy(size):
    image, style = images((*size, 2)), images((*size, 2), seed=1, mean=2.0)
    for share in (0.0, 0.06, 0.11, 0.23, 0.5):
        result, half = styled(image, style, share), [max(1, round(share * side)) for side in size]
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, reference_style(image, style, half), atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
def test_the_own_style_changes_nothing(size):
    image = images((*size, 2), mean=-3.0)
    for share in (0.0, 0.1, 0.5):
        np.testing.assert_allclose(styled(image, image, share), image, atol=1e-5)


def test_amplitudes_are_the_styles_inside_the_square_and_the_images_outside_and_phases_are_kept():
    size, half = 20, 3
    image, style = images((size, size, 2), mean=9.0), images((size, size, 2), seed=1, mean=6.0)
    found, own, other = (spectrum_of(pixels) for pixels in (styled(image, style, half / size), image, style))
    reach = np.abs(np.fft.fftfreq(size) * size).round()
    inside = np.maximum(reach[:, None], reach[None, :]) <= half
    assert inside.sum() == (2 * half + 1) ** 2
    np.testing.assert_allclose(np.abs(found)[inside], np.abs(other)[inside], rtol=1e-4)
    np.testing.assert_allclose(np.abs(found)[~inside], np.abs(own)[~inside], atol=1e-3)
    np.testing.assert_allclose(np.angle(found * own.conj())[np.abs(own) > 0.5], 0, atol=1e-3)


@pytest.mark.parametrize("means", [(-1.5, 2.0), (2.0, -1.5), (2.0, 1.0)])
def test_the_mean_becomes_that_of_the_style_with_its_sign(means):
    image, style = (images((16, 15, 2), seed, mean) for seed, mean in enumerate(means))
    np.testing.assert_allclose(jnp.mean(styled(image, style, 0.1), (0, 1)), jnp.mean(style, (0, 1)), atol=1e-5)


def test_a_mirrored_or_transposed_pair_gives_the_mirrored_or_transposed_image():
    image, style = images((16, 16, 1)), images((16, 16, 1), seed=1)
    result = styled(image, style, 0.2)
    for move in (lambda pixels: pixels[::-1], lambda pixels: pixels[:, ::-1], lambda pixels: jnp.swapaxes(pixels, 0, 1)):
        np.testing.assert_allclose(styled(move(image), move(style), 0.2), move(result), atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_a_constant_image_takes_the_styles_amplitudes_with_phase_zero(level):
    style = images((16, 15, 1), seed=1, mean=-2.0)
    constant = jnp.full(style.shape, level)
    result, other = spectrum_of(styled(constant, style, 1.0)), spectrum_of(style)
    expected = np.abs(other)
    expected[0, 0] = other[0, 0].real
    np.testing.assert_allclose(result, expected, atol=1e-3)
    np.testing.assert_allclose(styled(style, constant, 1.0), constant, atol=1e-5)


def test_a_sample_of_a_batch_depends_on_its_own_image_and_style_alone():
    batch, styles = images((4, 16, 16, 2)), images((4, 16, 16, 2), seed=1)
    together = jax.jit(jax.vmap(lambda image, style: fourier_style(image, style, 0.1)))(batch, styles)
    for one, image, style in zip(together, batch, styles, strict=True):
        np.testing.assert_allclose(one, styled(image, style, 0.1), atol=1e-5)


def test_images_and_styles_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4, 1\) and a style of \(4, 5, 1\)"):
        fourier_style(jnp.zeros((4, 4, 1)), jnp.zeros((4, 5, 1)), 0.1)
    with pytest.raises(ValueError, match=r"must both be \[y, x, channel\]"):
        fourier_style(jnp.zeros((4, 4)), jnp.zeros((4, 4)), 0.1)


# --- Histogram matching ---


CASES = {
    "distinct": (sorted_values(0), sorted_values(1)), "tied": (TIED, sorted_values(1)), "onto tied": (sorted_values(0), TIED),
    "tied onto tied": (TIED, 49 - TIED[::-1]), "constant": (np.full(64, 5.0), sorted_values(1)),
    "onto constant": (sorted_values(0).round(), np.full(64, 3.0)),
}


@pytest.mark.parametrize(("own", "other"), CASES.values(), ids=CASES)
def test_the_map_is_that_of_numpy_non_decreasing_and_constant_beyond_the_ends(own, other):
    values = np.sort(np.concatenate([np.linspace(own[0] - 20, own[-1] + 20, 500), own])).astype(np.float32)
    result = matched(values, own, other)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference_map(values, own.astype(np.float32), other), rtol=1e-5, atol=1e-3)
    assert np.diff(result).min() >= -1e-4
    assert result.min() >= other[0] - 1e-4
    assert result.max() <= other[-1] + 1e-4
    assert len(set(result[values < own[0]])) == len(set(result[values > own[-1]])) == 1


@pytest.mark.parametrize(("own", "other"), CASES.values(), ids=CASES)
def test_grey_levels_of_the_map_increase_strictly_in_float32(own, other):
    for offset in (0, 1e7):  # there float32 holds whole numbers alone
        levels, there = matching_levels(own + offset, other)
        assert levels.dtype == there.dtype == np.float32
        assert (np.diff(levels) > 0).all()
        assert (np.diff(there) >= 0).all()


def test_a_tied_grey_level_goes_to_the_mean_of_its_ranks_and_keeps_the_mean_of_the_histogram():
    other = sorted_values(1)
    result = matched(TIED, TIED, other)
    np.testing.assert_allclose(result[::8], other.reshape(8, 8).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(result.mean(), other.mean(), rtol=1e-6)


@pytest.mark.parametrize("own", [sorted_values(0), TIED], ids=["distinct", "tied"])
def test_matching_to_the_own_histogram_changes_nothing(own):
    values = np.linspace(own[0], own[-1], 300)
    np.testing.assert_allclose(matched(values, own, own), values, rtol=1e-5, atol=1e-4)


def test_quantiles_at_different_ranks_are_refused():
    with pytest.raises(ValueError, match=r"\(64,\) and \(63,\)"):
        matching_levels(TIED, TIED[1:])
