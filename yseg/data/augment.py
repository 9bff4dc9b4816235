"""Augmentation: random transforms of one training patch, pure and keyed per sample.

First the geometry, the same for the image and its labels (rotation and mirroring, then zoom and elastic deformation), then the
intensities (blur, sharpening, gamma, contrast, brightness, noise). A sample's result depends on its own key, image and
labels alone, never on the batch around it. A knob that is off costs nothing and leaves the draws of the others as they are;
with all of them off the result is the input.
"""

import functools
import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray
from scipy.interpolate import BSpline

from yseg.config import Augmentation

DRAWS = ("turns", "mirror_y", "mirror_x", "elastic", "blur", "blur_sigma", "sharpen", "sharpen_amount", "gamma", "contrast",
         "brightness", "noise", "noise_deviation")
SHARPEN_SIGMA = 1.0  # pixels: EM patches differ in the crispness of membranes, which are a few pixels wide
ZOOM = 100  # branch of a sample's key; its other draws were there before
TINY = 1e-6  # keeps divisions finite; far below one standard deviation of a volume
Image: TypeAlias = Float[Array, "y x channel"]
Labels: TypeAlias = Int[Array, "y x"]
EXACT = jax.lax.Precision.HIGHEST  # accelerators otherwise round the factors of matrix products to fewer bits


def _draws(key):
    """The draws of a sample by name, uniform in [0, 1), and the keys of its deformation and its noise."""
    draw_key, elastic_key, noise_key = jax.random.split(key, 3)
    return dict(zip(DRAWS, jax.random.uniform(draw_key, (len(DRAWS),)), strict=True)), elastic_key, noise_key


def augment_geometry(key: PRNGKeyArray, image: Image, labels: Labels | None,
                     config: Augmentation) -> tuple[Image, Labels | None]:
    """Rotate, mirror, zoom and deform one sample as drawn by `key`.

    Args:
      key: a key of `jax.random`, typed or raw.
      image: float32 [y, x, channel], z-scored; its channels share every transform but the noise.
      labels: int32 [y, x], -1 = no label; or None for a sample without labels.
      config: `yseg.config.Augmentation`, static under `jax.jit`.

    Returns:
      The image and the labels (None if None was given), shaped as before. What comes from beyond the patch is mirrored at its
      edge.

    Raises:
      ValueError: if patches that are not square are to be rotated.
    """
    draws, elastic_key, _ = _draws(key)
    if config.rotate or config.flip:
        image, labels = _rotate_and_flip(draws, image, labels, config)
    y, x = (jnp.arange(size, dtype=jnp.float32) for size in image.shape[:2])
    if config.zoom:
        factor = jnp.exp(_symmetric(jax.random.uniform(jax.random.fold_in(key, ZOOM)), config.zoom))
        y, x = ((axis - axis[-1] / 2) / factor + axis[-1] / 2 for axis in (y, x))
    y, x, elastic = y[:, None], x[None, :], config.elastic_probability and config.elastic_pixels
    if elastic:
        applied = draws["elastic"] < config.elastic_probability
        displacement = jnp.where(applied, _displacement(elastic_key, image.shape[0], image.shape[1], config), 0.0)
        y, x = y + displacement[0], x + displacement[1]
    if config.zoom or elastic:
        # A position that was computed twice, and rounded in two ways, might have a floor and a fraction that do not fit.
        y, x = jax.lax.optimization_barrier(tuple(jnp.broadcast_arrays(y, x)))
        # Bilinear for the image, nearest neighbour for the labels (Ronneberger et al. 2015).
        image, labels = _sample_bilinear(image, y, x), None if labels is None else _sample_nearest(labels, y, x)
    return image, labels


def augment_intensity(key: PRNGKeyArray, image: Image, config: Augmentation) -> Image:
    """Blur, sharpen, and change gamma, contrast, brightness and noise of one sample; arguments as `augment_geometry`."""
    draws, _, noise_key = _draws(key)
    if config.blur_probability and config.blur_pixels:
        blurred = _gaussian(image, draws["blur_sigma"] * config.blur_pixels)
        image = jnp.where(draws["blur"] < config.blur_probability, blurred, image)
    if config.sharpen_probability and config.sharpen_amount:
        sharpened = _sharpen(image, draws["sharpen_amount"] * config.sharpen_amount)
        image = jnp.where(draws["sharpen"] < config.sharpen_probability, sharpened, image)
    if config.gamma:
        image = _change_gamma(image, jnp.exp(_symmetric(draws["gamma"], config.gamma)))
    if config.contrast:
        image = image * jnp.exp(_symmetric(draws["contrast"], config.contrast))
    if config.brightness:
        image = image + _symmetric(draws["brightness"], config.brightness)
    if config.noise_probability and config.noise:
        deviation = jnp.where(draws["noise"] < config.noise_probability, draws["noise_deviation"] * config.noise, 0.0)
        image = image + deviation * jax.random.normal(noise_key, image.shape)
    return image


def augment_intensities(keys: Key[Array, "batch"], images: Float[Array, "batch y x channel"],
                        config: Augmentation) -> Float[Array, "batch y x channel"]:
    """`augment_intensity` of each sample with its own key."""
    return jax.vmap(lambda key, image: augment_intensity(key, image, config))(keys, images)


def _symmetric(draw, largest):
    """A draw from [0, 1) stretched to [-largest, largest)."""
    return largest * (2.0 * draw - 1.0)


def _rotate_and_flip(draws, image, labels, config):
    """Rotate by quarter turns and mirror; both together are uniform over the eight symmetries of the square.

    Each symmetry is an optional transposition followed by optional reversals of y and of x: a quarter turn transposes and
    reverses y, half a turn reverses both, three quarters transpose and reverse x.
    """
    height, width = image.shape[:2]
    if config.rotate and height != width:
        raise ValueError(f"image of {height} x {width}: must be square to be rotated")
    turns = jnp.floor(4.0 * draws["turns"]) if config.rotate else jnp.float32(0)
    mirror_y, mirror_x = (config.flip & (draws[name] < 0.5) for name in ("mirror_y", "mirror_x"))
    reverse_y = mirror_y ^ ((turns == 1) | (turns == 2))
    reverse_x = mirror_x ^ ((turns == 2) | (turns == 3))

    def move(pixels):
        if config.rotate:
            pixels = jnp.where((turns == 1) | (turns == 3), jnp.swapaxes(pixels, 0, 1), pixels)
        pixels = jnp.where(reverse_y, jnp.flip(pixels, 0), pixels)
        return jnp.where(reverse_x, jnp.flip(pixels, 1), pixels)

    return move(image), None if labels is None else move(labels)


def _spline_basis(size, spacing):
    """Cubic B-splines of control points `spacing` pixels apart, at each of `size` pixels: float32 [size, control point]."""
    intervals = max(1, math.ceil((size - 1) / spacing))
    knots = np.arange(-3, intervals + 4)
    return jnp.asarray(BSpline.design_matrix(np.arange(size) / spacing, knots, 3).toarray(), jnp.float32)


def _displacement(key, height, width, config):
    """A smooth random displacement in pixels, float32 [(y, x), y, x].

    Independent spline coefficients of standard deviation s give s / 2 at a control point (weights 1/6, 2/3, 1/6 along each axis).
    """
    basis_y, basis_x = (_spline_basis(size, config.elastic_spacing) for size in (height, width))
    control = 2 * config.elastic_pixels * jax.random.normal(key, (2, basis_y.shape[1], basis_x.shape[1]))
    # Sums of a few terms, not matrix products: those round differently in different batches.
    columns = jnp.sum(basis_y[None, :, :, None] * control[:, None, :, :], axis=2)
    return jnp.sum(columns[:, :, :, None] * basis_x.T[None, None, :, :], axis=2)


def _sample_bilinear(image, y, x):
    """The image [y, x, channel], mirrored beyond its edges, at the positions `y`, `x` [y, x]."""
    sample = functools.partial(map_coordinates, coordinates=(y, x), order=1, mode="mirror")
    return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)


def _sample_nearest(labels, y, x):
    """The labels [y, x], mirrored beyond their edges, at the nearest pixels to `y`, `x` [y, x]."""
    values = labels.astype(jnp.float32)  # class indices are exact in float32, and it is the type of the positions
    return map_coordinates(values, (y, x), order=0, mode="mirror").astype(labels.dtype)


def _gaussian(image, sigma):
    """Gaussian blur of [y, x, channel] by `sigma` pixels: products with two matrices whose rows sum to 1, at the borders too."""

    def matrix(size):
        position = jnp.arange(size, dtype=jnp.float32)
        distance = (position[:, None] - position[None, :]) / jnp.maximum(sigma, TINY)
        weights = jnp.exp(-0.5 * distance**2)
        return weights / jnp.sum(weights, axis=1, keepdims=True)

    height, width = image.shape[:2]
    return jnp.einsum("ab,bcd,ec->aed", matrix(height), image, matrix(width), precision=EXACT)


def _sharpen(image, amount):
    """Unsharp mask: the image plus `amount` times what a blur of SHARPEN_SIGMA pixels takes away."""
    return image + amount * (image - _gaussian(image, jnp.float32(SHARPEN_SIGMA)))


def _change_gamma(image, exponent):
    """Bend the intensities: scaled to [0, 1] by the sample's extremes, raised to `exponent`, scaled back to the mean and spread.

    So gamma changes the shape of the histogram and leaves its place and width to brightness and contrast.
    """
    low, high = jnp.min(image), jnp.max(image)
    bent = ((image - low) / jnp.maximum(high - low, TINY)) ** exponent
    return jnp.mean(image) + (bent - jnp.mean(bent)) * (jnp.std(image) / jnp.maximum(jnp.std(bent), TINY))
