"""Alignment of grey levels: values against independent references in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg.data.align import fourier_style

pytestmark = pytest.mark.usefixtures("strict_dtypes")

SIZES = [(16, 16), (15, 15), (12, 17), (17, 10)]

styled = jax.jit(fourier_style, static_argnames="share")


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
