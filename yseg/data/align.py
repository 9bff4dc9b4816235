"""Input alignment: transforms that give images of one domain the intensities of the other. Pure, and independent of each other.

Histogram matching bends the grey levels of a whole volume by one fixed map, so that both volumes have the same histogram.
Fourier domain adaptation gives a patch the low-frequency amplitudes of a patch of the other domain: its mean, shading and
coarse contrast. Neither moves structures, so that labels stay valid.
"""

import jax
import jax.numpy as jnp
import numpy as np

from yseg.config import InputError
from yseg.data.split import Box

_SECTION_SIDE = 4096  # rows and columns of a section that are looked at, at most
_SAMPLED_SIDE = 512  # rows and columns of these that are kept: 2^18 of a section, enough for any quantile
_SLACK = 1e-3  # frequency steps: a share of b / side, rounded to float32, must still reach frequency b
_ROUNDING = 1e-6  # times the root of an image's energy: a transform in float32 knows its amplitudes no better


def quantiles(store, count=256, max_sections=32, box=None):
    """Grey levels of an image volume at evenly spaced ranks, for `match_histogram`.

    They are those of at most `max_sections` evenly spaced sections, of the middle 4096 x 4096 pixels of larger ones, and there
    of evenly spaced rows and columns, at most 512 each. So at most `max_sections` x 2^18 voxels are held at once.

    Args:
      store: TensorStore [z, y, x].
      count: number of quantiles, at least 2.
      max_sections: how many sections are read at most.
      box: Box in voxels to which this is limited; None = the whole volume.

    Returns:
      float64 [count], non-decreasing, in grey levels: entry i is the quantile i / (count - 1), interpolated linearly between
      voxels; the first is the minimum and the last the maximum.

    Raises:
      InputError: there are values that are not finite.
      ValueError: `count` is less than 2.
    """
    if count < 2:
        raise ValueError(f"count={count}: must be at least 2")
    box = box or Box.whole(store.shape)
    numbers = np.unique(np.linspace(box.start[0], box.stop[0] - 1, min(max_sections, box.shape[0])).round().astype(int))
    rows, columns = (_sampled(box.start[axis], box.stop[axis]) for axis in (1, 2))
    sections = []
    for number in numbers:
        section = store[int(number), rows, columns].read().result().astype(np.float64)
        if not np.isfinite(section).all():
            raise InputError(f"the image volume has values that are not finite in section {number}")
        sections.append(section.ravel())
    return np.quantile(np.concatenate(sections), np.linspace(0, 1, count), overwrite_input=True)


def _sampled(start, stop):
    """The slice of evenly spaced rows or columns of [start, stop) that `quantiles` looks at."""
    extra = max(0, stop - start - _SECTION_SIDE)
    start, stop = start + extra // 2, stop - (extra + 1) // 2
    return slice(start, stop, max(1, -(-(stop - start) // _SAMPLED_SIDE)))


def match_histogram(values, own, other):
    """Bend grey levels so that their histogram becomes that of another volume.

    Histogram matching (Gonzalez and Woods, Digital Image Processing, section 3.3): v -> G(F(v)) with F the cumulative
    histogram of the own volume and G the inverse of the other's. Both are given by their quantiles, so that the map is the
    non-decreasing, piecewise linear one that sends own[i] to other[i]; below own[0] and above own[-1] it is constant.

    Volumes of 8 bits have the same grey level at many ranks, own[i] = ... = own[j]. This level goes to the mean of other[i],
    ..., other[j]: the map stays a function and continuous, and keeps the mean of the other histogram.

    Args:
      values: float32 of any shape, grey levels of the own volume.
      own: [count], quantiles of the own volume, non-decreasing, see `quantiles`.
      other: [count], quantiles of the other volume at the same ranks, non-decreasing.

    Returns:
      float32, shaped as `values`, in grey levels of the other volume (z-score them with its statistics).

    Raises:
      ValueError: `own` and `other` are not both [count].
    """
    own, other = jnp.asarray(own, jnp.float32), jnp.asarray(other, jnp.float32)
    if own.ndim != 1 or own.shape != other.shape:
        raise ValueError(f"quantiles of shapes {own.shape} and {other.shape}: must both be [count]")
    tied = own[:, None] == own[None, :]
    # The mean is taken of differences from the first of the tied: exact where these are equal, the same bits for all of them.
    first = other[jnp.argmax(tied, axis=1)]
    above = jnp.sum(jnp.where(tied, other[None, :] - first[:, None], 0.0), axis=1)
    return jnp.interp(values, own, first + above / jnp.sum(tied, axis=1, dtype=jnp.float32))


def fourier_style(image, style, share):
    """Give an image the low-frequency amplitudes of another; its phases, and with them its structures, stay.

    Fourier domain adaptation (Yang and Soatto, CVPR 2020, equations 2 and 3), each channel by itself: with F the Fourier
    transform over y and x, the result is F^-1(|F(style)| exp(i arg F(image))) at frequencies (k, l), in cycles per image, of
    |k| <= b = floor(share height) and |l| <= floor(share width), and F^-1(F(image)) at all others. In a square image these
    are (2 b + 1)^2 frequencies, symmetric about zero: with share 0 the zero frequency alone, so that only the mean is
    replaced; from 1 / 2 on all of them. `share` is thus also the highest replaced frequency in cycles per pixel.

    Two cases that the paper leaves open, as its grey levels are positive and its images textured: the mean is taken with its
    sign, so that z-scored images get the style's mean too, and where the image's amplitude is zero up to rounding its phase is
    taken as zero.

    Args:
      image: float32 [y, x, channel], in any unit.
      style: float32 [y, x, channel] of the same shape and in the same unit.
      share: scalar >= 0, may be traced; beta of the paper, which uses 0.01 to 0.09.

    Returns:
      float32 [y, x, channel].

    Raises:
      ValueError: `image` and `style` are not of the same shape [y, x, channel].
    """
    if image.ndim != 3 or image.shape != style.shape:
        raise ValueError(f"an image of shape {image.shape} and a style of {style.shape}: must both be [y, x, channel]")
    height, width = image.shape[:2]
    share = jnp.asarray(share, jnp.float32)
    # Real images have symmetric spectra, so the half with l >= 0 determines all.
    rows = np.minimum(np.arange(height), height - np.arange(height)).astype(np.float32)[:, None, None]
    columns = np.arange(width // 2 + 1, dtype=np.float32)[None, :, None]
    replaced = (rows <= share * height + _SLACK) & (columns <= share * width + _SLACK)
    spectrum, style_spectrum = (jnp.fft.rfft2(pixels, axes=(0, 1)) for pixels in (image, style))
    amplitude, style_amplitude = jnp.abs(spectrum), jnp.abs(style_spectrum)
    has_phase = amplitude > _ROUNDING * jnp.sqrt(jnp.sum(jnp.square(image), axis=(0, 1), keepdims=True))
    gain = (style_amplitude / jnp.where(has_phase, amplitude, 1.0)).astype(spectrum.dtype)
    styled = gain * jnp.where(has_phase, spectrum, 1.0)
    styled = jnp.where((rows == 0) & (columns == 0), style_spectrum, styled)
    return jnp.fft.irfft2(jnp.where(replaced, styled, spectrum), s=(height, width), axes=(0, 1))


def fourier_style_batch(keys, images, styles, largest_share):
    """Give every image of a batch the style at its own index, each with its own random share: `fourier_style`, vmapped.

    Patches are drawn at random, so the style at an image's index is a random one of the other domain. A sample's result
    depends on its own key, image and style alone, never on the batch around it or on how that is divided among devices.

    Args:
      keys: one key of `jax.random` a sample, [batch] typed or [batch, 2] raw.
      images: float32 [batch, y, x, channel].
      styles: float32 [batch, y, x, channel], patches of the other domain in the unit of `images`.
      largest_share: scalar >= 0; shares are uniform in [0, largest_share).

    Returns:
      float32 [batch, y, x, channel].

    Raises:
      ValueError: `images` and `styles` differ in shape.
    """
    def one(key, image, style):
        return fourier_style(image, style, jax.random.uniform(key) * jnp.asarray(largest_share, jnp.float32))

    return jax.vmap(one)(keys, images, styles)
