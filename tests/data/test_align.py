"""Input alignment: histogram matching and Fourier domain adaptation against references in NumPy float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from yseg.config import InputError
from yseg.data.align import fourier_style, fourier_style_batch, match_histogram, quantiles
from yseg.data.split import Box

pytestmark = pytest.mark.usefixtures("strict_dtypes")

TIED = np.repeat(np.arange(8.0) ** 2, 8)  # as of an 8-bit volume with eight grey levels
SIZES = [(16, 16), (15, 15), (12, 17), (17, 10)]

styled = jax.jit(fourier_style)
styled_batch = jax.jit(fourier_style_batch)
matched = jax.jit(match_histogram)


def sorted_values(seed, count=64):
    return np.sort(np.random.default_rng(seed).normal(120, 40, count))


def images(shape, seed=0, mean=0.0):
    """Patches with more energy at low frequencies, as in EM."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(np.cumsum(rng.normal(size=shape), axis=-3), axis=-2)
    return jnp.asarray(mean + walk / walk.std() + 0.1 * rng.normal(size=shape), jnp.float32)


def reference_map(values, own, other):
    """Every distinct grey level with the mean of its targets, then linear between."""
    levels = np.unique(own)
    return np.interp(values, levels, [np.mean(other[own == level]) for level in levels])


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


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_quantiles_are_those_of_numpy(dtype):
    voxels = np.random.default_rng(0).normal(100, 20, (7, 20, 30)).astype(dtype)
    found = quantiles(ts.array(voxels), 11)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.quantile(voxels.astype(np.float64), np.linspace(0, 1, 11)), rtol=1e-12)
    assert (found[0], found[-1]) == (voxels.min(), voxels.max())
    box = Box((1, 2, 3), (5, 9, 30))
    part = voxels[box.slices].astype(np.float64)
    np.testing.assert_allclose(quantiles(ts.array(voxels), 11, box=box), np.quantile(part, np.linspace(0, 1, 11)), rtol=1e-12)
    ends = voxels[[0, 3, 6]].astype(np.float64)
    np.testing.assert_allclose(quantiles(ts.array(voxels), 11, 3), np.quantile(ends, np.linspace(0, 1, 11)), rtol=1e-12)


def test_only_the_middle_of_large_sections_is_read_and_there_evenly_spaced_pixels():
    voxels = np.tile(np.arange(4101) % 8 == 2, (1, 3, 1)).astype(np.uint8)  # the middle starts at column 2, every 8th is kept
    voxels[:, :, :2] = voxels[:, :, -3:] = 99
    np.testing.assert_array_equal(quantiles(ts.array(voxels), 3), 1)


def test_values_that_are_not_finite_are_refused():
    voxels = np.zeros((2, 3, 3), np.float32)
    voxels[1, 1, 1] = np.nan
    with pytest.raises(InputError, match="section 1"):
        quantiles(ts.array(voxels))


def test_fewer_than_two_quantiles_are_refused():
    with pytest.raises(ValueError, match="count=1"):
        quantiles(ts.array(np.zeros((1, 2, 2))), 1)


@pytest.mark.parametrize(("own", "other"), [
    (sorted_values(0), sorted_values(1)), (TIED, sorted_values(1)), (sorted_values(0), TIED), (TIED, 49 - TIED[::-1]),
    (np.full(64, 5.0), sorted_values(1)), (sorted_values(0).round(), np.full(64, 3.0)),
], ids=["distinct", "tied", "onto tied", "tied onto tied", "constant", "onto constant"])
def test_the_map_is_that_of_numpy_non_decreasing_and_clamped(own, other):
    values = np.sort(np.concatenate([np.linspace(own[0] - 20, own[-1] + 20, 500), own])).astype(np.float32)
    result = np.asarray(matched(values, own, other))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference_map(values, own.astype(np.float32), other), rtol=1e-5, atol=1e-3)
    assert np.diff(result).min() >= -1e-4
    assert result.min() >= other[0] - 1e-4
    assert result.max() <= other[-1] + 1e-4
    assert len(set(result[values < own[0]])) == len(set(result[values > own[-1]])) == 1


def test_distinct_quantiles_go_to_the_others_exactly():
    own, other = sorted_values(0), sorted_values(1)
    np.testing.assert_allclose(matched(own.astype(np.float32), own, other), other, rtol=1e-6)


def test_a_tied_grey_level_goes_to_the_mean_of_its_ranks_and_keeps_the_mean_of_the_histogram():
    other = sorted_values(1)
    result = np.asarray(matched(TIED.astype(np.float32), TIED, other))
    np.testing.assert_allclose(result[::8], other.reshape(8, 8).mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(result.mean(), other.mean(), rtol=1e-6)


def test_a_tied_grey_level_is_no_jump():
    near = np.float32([8.999, 9.0, 9.001])
    result = np.asarray(matched(near, TIED, sorted_values(1)))
    slope = np.max(np.diff(sorted_values(1).reshape(8, 8).mean(axis=1)) / np.diff(TIED[::8]))
    assert np.abs(np.diff(result)).max() <= 1.01e-3 * slope + 1e-4


@pytest.mark.parametrize("own", [sorted_values(0), TIED], ids=["distinct", "tied"])
def test_matching_to_the_own_histogram_changes_nothing(own):
    values = np.linspace(own[0], own[-1], 300).astype(np.float32)
    np.testing.assert_allclose(matched(values, own, own), values, rtol=1e-5, atol=1e-4)


def test_matching_twice_is_matching_once():
    own, other = sorted_values(0), sorted_values(1)
    values = np.linspace(own[0] - 10, own[-1] + 10, 300).astype(np.float32)
    once = matched(values, own, other)
    np.testing.assert_allclose(matched(once, other, other), once, rtol=1e-5)


def test_a_matched_volume_has_the_quantiles_of_the_other():
    rng = np.random.default_rng(0)
    voxels = rng.gamma(9.0, 8.0, (6, 48, 48)).clip(0, 255).astype(np.uint8)
    other = (255 - rng.gamma(4.0, 12.0, (5, 40, 40))).clip(0, 255).astype(np.uint8)
    own_levels, other_levels = quantiles(ts.array(voxels)), quantiles(ts.array(other))
    result = np.asarray(matched(voxels.astype(np.float32), own_levels, other_levels))
    before = np.abs(own_levels - other_levels).max()
    inner = slice(5, -5)  # the ranks of the tails are few voxels
    after = np.abs(quantiles(ts.array(result)) - other_levels)[inner].max()
    assert after < 3 < 50 < before  # grey levels are steps of one, two where the map is steep
    np.testing.assert_allclose(result.mean(), other.mean(), atol=0.5)


def test_the_map_is_the_same_for_any_shape_plain_jitted_or_vmapped_and_has_its_slope_as_gradient():
    own, other = sorted_values(0), sorted_values(1)
    values = np.random.default_rng(2).uniform(own[0], own[-1], (3, 4, 5, 2)).astype(np.float32)
    plain = match_histogram(values, own, other)
    assert plain.shape == values.shape
    np.testing.assert_allclose(matched(values, own, other), plain, rtol=1e-6)
    stacked = [jnp.asarray(np.tile(levels, (3, 1)), jnp.float32) for levels in (own, other)]
    np.testing.assert_allclose(jax.jit(jax.vmap(match_histogram))(values, *stacked), plain, rtol=1e-6)
    assert matched(jnp.float32(100), own, other).shape == ()
    middles = ((own[1:] + own[:-1]) / 2).astype(np.float32)
    slopes = jax.jit(jax.grad(lambda grey: jnp.sum(match_histogram(grey, own, other))))(middles)
    np.testing.assert_allclose(slopes, np.diff(other) / np.diff(own), rtol=1e-2)
    at_ties = jax.jit(jax.grad(lambda grey: jnp.sum(match_histogram(grey, TIED, other))))(TIED.astype(np.float32))
    assert np.isfinite(at_ties).all()


def test_quantiles_at_different_ranks_are_refused():
    with pytest.raises(ValueError, match=r"\(64,\) and \(63,\)"):
        match_histogram(jnp.zeros(2), TIED, TIED[1:])


@pytest.mark.parametrize("size", SIZES)
def test_the_styled_image_is_that_of_the_full_spectrum_in_numpy(size):
    image, style = images((*size, 2)), images((*size, 2), seed=1, mean=2.0)
    for share in (0.0, 0.06, 0.11, 0.23, 0.49, 0.5, 0.7):
        half = [int(np.floor(share * side + 1e-9)) for side in size]
        result = styled(image, style, share)
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, reference_style(image, style, half), atol=2e-5)


def test_a_share_of_b_by_the_side_reaches_frequency_b_in_spite_of_rounding():
    size = 49  # 1 / 49 times 49 is not 1 in floating point
    image, style = images((size, size, 1)), images((size, size, 1), seed=1)
    halves = np.arange(size // 2 + 1)
    results = jax.jit(jax.vmap(fourier_style, in_axes=(None, None, 0)))(image, style, jnp.asarray(halves / size, jnp.float32))
    for half, result in zip(halves, results, strict=True):
        np.testing.assert_allclose(result, reference_style(image, style, (half, half)), atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
def test_the_own_style_changes_nothing(size):
    image = images((*size, 2), mean=-3.0)
    for share in (0.0, 0.1, 1.0):
        np.testing.assert_allclose(styled(image, image, share), image, atol=1e-5)


@pytest.mark.parametrize("means", [(-1.5, 2.0), (2.0, -1.5), (2.0, 1.0)])
def test_a_share_of_zero_replaces_the_mean_alone_with_its_sign(means):
    image, style = (images((16, 15, 2), seed, mean) for seed, mean in enumerate(means))
    result = styled(image, style, 0)
    np.testing.assert_allclose(result, image + (jnp.mean(style, (0, 1)) - jnp.mean(image, (0, 1)))[None, None], atol=1e-5)


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
    for pair in ((constant, style), (style, constant)):
        gradients = jax.jit(jax.grad(lambda pair: jnp.sum(fourier_style(*pair, 0.2) ** 2)))(pair)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_gradients_are_the_differences_of_the_reference():
    image, style = images((8, 9, 1), mean=3.0), images((8, 9, 1), seed=1, mean=2.0)
    weights = images((8, 9, 1), seed=2)
    gradients = jax.jit(jax.grad(lambda pair: jnp.sum(weights * fourier_style(*pair, 0.25))))((image, style))
    image, style = np.asarray(image, np.float64), np.asarray(style, np.float64)
    direction = np.random.default_rng(3).normal(size=image.shape)
    steps = {0: (direction, 0), 1: (0, direction)}
    for number, step in steps.items():
        ends = [reference_style(image + sign * 1e-5 * step[0], style + sign * 1e-5 * step[1], (2, 2)) for sign in (-1, 1)]
        expected = np.sum(np.asarray(weights) * (ends[1] - ends[0])) / 2e-5
        np.testing.assert_allclose(np.sum(np.asarray(gradients[number]) * direction), expected, rtol=1e-4, atol=1e-4)


def test_jitted_and_vmapped_calls_equal_the_plain_one():
    pairs = images((3, 16, 16, 2)), images((3, 16, 16, 2), seed=1)
    plain = fourier_style(pairs[0][1], pairs[1][1], 0.1)
    np.testing.assert_allclose(styled(pairs[0][1], pairs[1][1], 0.1), plain, atol=1e-5)
    vmapped = jax.jit(jax.vmap(functools.partial(fourier_style, share=0.1)))(*pairs)
    np.testing.assert_allclose(vmapped[1], plain, atol=1e-5)


def test_images_and_styles_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4, 1\) and a style of \(4, 5, 1\)"):
        fourier_style(jnp.zeros((4, 4, 1)), jnp.zeros((4, 5, 1)), 0.1)
    with pytest.raises(ValueError, match=r"must both be \[y, x, channel\]"):
        fourier_style(jnp.zeros((4, 4)), jnp.zeros((4, 4)), 0.1)


def test_shares_of_a_batch_are_uniform_up_to_the_largest():
    # A style of zero leaves out the replaced frequencies of a bright pixel, whose spectrum is flat: counting them tells b.
    count, size, largest = 400, 20, 0.2
    pixel = jnp.zeros((count, size, size, 1)).at[:, 3, 5].set(1.0)
    results = styled_batch(jax.random.split(jax.random.key(0), count), pixel, jnp.zeros_like(pixel), largest)
    missing = (np.abs(np.fft.fft2(np.asarray(results), axes=(1, 2))) < 0.5).sum(axis=(1, 2, 3))
    halves = (np.sqrt(missing).round().astype(int) - 1) // 2
    np.testing.assert_array_equal((2 * halves + 1) ** 2, missing)
    frequencies = np.bincount(halves) / count
    assert len(frequencies) == round(largest * size)
    np.testing.assert_allclose(frequencies, 1 / len(frequencies), atol=4 * np.sqrt(1 / 4 * 3 / 4 / count))


def test_a_sample_of_a_batch_depends_on_its_own_key_image_and_style_alone():
    keys = jax.random.split(jax.random.key(0), 8)
    batch, styles = images((8, 16, 16, 1)), images((8, 16, 16, 1), seed=1)
    together = np.asarray(styled_batch(keys, batch, styles, 0.4))
    chosen = np.array([5, 2, 7])
    np.testing.assert_allclose(styled_batch(keys[chosen], batch[chosen], styles[chosen], 0.4), together[chosen], atol=1e-5)
    np.testing.assert_allclose(styled_batch(jax.random.key_data(keys), batch, styles, 0.4), together, atol=1e-6)
    others = styled_batch(jax.random.split(jax.random.key(1), 8), batch, styles, 0.4)
    assert (np.abs(others - together) > 1e-3).any(axis=(1, 2, 3)).sum() >= 4
