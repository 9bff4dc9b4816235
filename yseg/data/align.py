"""Alignment of the domains' grey levels: transforms that leave structures, and with them labels, where they are.

Histogram matching bends the grey levels of a whole volume by one map, so that it has the histogram of another. Fourier domain
adaptation gives a patch the coarse contrast of another.
"""

import jax.numpy as jnp
import numpy as np

_ROUNDING = 1e-6  # times the root of an image's energy: a transform in float32 knows its amplitudes no better


def matching_levels(own, other):
    """The map that gives a volume the histogram of another, for `yseg.training.step.z_score`.

    Histogram matching (Gonzalez and Woods, Digital Image Processing, section 3.3): v -> G(F(v)) with F the cumulative
    histogram of the own volume and G the inverse of the other's, both given by their quantiles. The map is the non-decreasing,
    piecewise linear one that sends own[i] to other[i]. Volumes of 8 bits have the same grey level at many ranks,
    own[i] = ... = own[j]: it goes to the mean of other[i], ..., other[j], which keeps the mean of the other histogram.

    Args:
      own: [quantile], of the own volume at evenly spaced ranks, non-decreasing.
      other: [quantile], of the other volume at the same ranks, non-decreasing, in the unit that the map leads to.

    Returns:
      float32 [2, level], level <= quantile: the distinct grey levels of `own` in float32, strictly increasing, and where they go.

    Raises:
      ValueError: `own` and `other` are not both [quantile].
    """
    own, other = np.asarray(own, np.float32), np.asarray(other, np.float64)
    if own.ndim != 1 or own.shape != other.shape:
        raise ValueError(f"quantiles of shapes {own.shape} and {other.shape}: must both be [quantile]")
    levels, place, count = np.unique(own, return_inverse=True, return_counts=True)
    return np.stack([levels, (np.bincount(place, other) / count).astype(np.float32)])


def fourier_style(image, style, share):
    """Give an image the low-frequency amplitudes of another; its phases, and with them its structures, stay.

    Fourier domain adaptation (Yang and Soatto 2020, equations 2 and 3), each channel by itself: with F the Fourier transform
    over y and x, the result is F^-1(|F(style)| exp(i arg F(image))) at frequencies (k, l), in cycles per image, of
    |k| <= max(1, round(share height)) and |l| <= max(1, round(share width)), and F^-1(F(image)) at all others.

    Two cases that the paper leaves open, as its grey levels are positive and its images textured: the mean is taken with its
    sign, so that z-scored images get the style's mean too, and where the image's amplitude is zero up to rounding its phase is
    taken as zero.

    Args:
      image: float32 [y, x, channel], in any unit.
      style: float32 [y, x, channel] of the same shape and in the same unit.
      share: beta of the paper (which uses 0.01 to 0.09), a Python number of at least 0.

    Returns:
      float32 [y, x, channel].

    Raises:
      ValueError: `image` and `style` are not of the same shape [y, x, channel].
    """
    if image.ndim != 3 or image.shape != style.shape:
        raise ValueError(f"an image of shape {image.shape} and a style of {style.shape}: must both be [y, x, channel]")
    size = image.shape[:2]
    # Real images have symmetric spectra, so the half with l >= 0 determines all.
    rows, columns = np.abs(np.fft.fftfreq(size[0], 1 / size[0])).round(), np.arange(size[1] // 2 + 1)
    reach = [max(1, round(share * side)) for side in size]
    replaced = ((rows <= reach[0])[:, None] & (columns <= reach[1])[None, :])[:, :, None]
    spectrum, style_spectrum = (jnp.fft.rfft2(pixels, axes=(0, 1)) for pixels in (image, style))
    amplitude = jnp.abs(spectrum)
    has_phase = amplitude > _ROUNDING * jnp.sqrt(jnp.sum(jnp.square(image), axis=(0, 1), keepdims=True))
    gain = (jnp.abs(style_spectrum) / jnp.where(has_phase, amplitude, 1.0)).astype(spectrum.dtype)
    styled = (gain * jnp.where(has_phase, spectrum, 1.0)).at[0, 0].set(style_spectrum[0, 0])
    return jnp.fft.irfft2(jnp.where(replaced, styled, spectrum), s=size, axes=(0, 1))
