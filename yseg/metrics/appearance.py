"""How sections of electron microscopy look, in numbers: dark or bright lines, spectra, sizes of objects, whether labels fit."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

_LINES = (1.0, 1.5, 2.0)  # deviations in pixels of the Gaussians at whose scales lines are looked for
_STRONGEST = (95.0, 99.0)  # percentiles of the curvatures that are compared
_TILE = 256  # side of the squares whose spectra are averaged, in pixels
_RING = 6  # pixels around an object that it is compared with
_NEAR, _FAR = 3.0, 1.5  # shifts in pixels that are none; multiples of an object's diameter from which they are chance
_SHADING = 20.0  # deviation in pixels of the Gaussian that takes slow changes of brightness out of an image


class Fit(NamedTuple):
    """How well the contours of labels fit an image, in deviations of what chance gives, and where they would fit best.

    here: as they are; best: after the shift by (rows, columns) pixels that fits best.
    """

    here: float
    best: float
    shift: tuple[int, int]


def line_polarity(section: np.ndarray) -> float:
    """How much stronger thin dark lines, such as membranes, are than bright ones: the log of the ratio of their curvatures.

    Across a dark line the larger eigenvalue of the Hessian is high, across a bright one the smaller one is low (after Frangi,
    Niessen, Vincken and Viergever, Multiscale vessel enhancement filtering, MICCAI 1998). Inverting the image changes the sign,
    brightness and contrast change nothing, and noise is near 0.

    Args:
      section: real [y, x], of some 10 nm a pixel.

    Returns:
      float, above 0 where dark lines are the stronger; 0 where there is nothing to see.
    """
    section, logs = np.asarray(section, np.float64), []
    section = section - section.mean()  # a sampled second derivative of what is constant is not quite 0
    for sigma in _LINES:
        rows, columns, mixed = (ndimage.gaussian_filter(section, sigma, order=order) for order in ((2, 0), (0, 2), (1, 1)))
        middle, half = (rows + columns) / 2, np.hypot((rows - columns) / 2, mixed)
        for percentile in _STRONGEST:
            dark, bright = np.percentile(middle + half, percentile), -np.percentile(middle - half, 100 - percentile)
            if dark <= 0 or bright <= 0:
                return 0.0
            logs.append(math.log(dark / bright))
    return float(np.mean(logs))


def power_spectrum(section: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The power of a section by frequency, averaged over all directions and over squares of at most 256 pixels (Welch 1967).

    Args:
      section: real [y, x], at least 4 pixels a side.

    Returns:
      (frequencies in cycles a pixel, ascending up to 1/2; power), float64; white noise of variance v has the power v throughout.
    """
    section = np.asarray(section, np.float64)
    side = min(_TILE, *section.shape)
    taper = np.outer(*[np.hanning(side + 2)[1:-1]] * 2)
    starts = [[number * side for number in range(size // side)] for size in section.shape]
    tiles = [section[y:y + side, x:x + side] for y in starts[0] for x in starts[1]]
    power = np.mean([np.abs(np.fft.fft2((tile - tile.mean()) * taper)) ** 2 for tile in tiles], axis=0) / (taper**2).sum()
    along = np.fft.fftfreq(side) * side
    ring = np.rint(np.hypot(along[:, None], along[None])).astype(int).ravel()
    rings = np.arange(1, side // 2 + 1)
    mean = np.bincount(ring, power.ravel()) / np.maximum(np.bincount(ring), 1)
    return rings / side, mean[rings]


def diameters(mask: np.ndarray) -> np.ndarray:
    """Diameters of the discs that are as large as the components of a section, bool [y, x], in pixels: float64 [component]."""
    numbers, count = ndimage.label(mask)
    return 2 * np.sqrt(np.bincount(numbers.ravel(), minlength=count + 1)[1:] / np.pi)


def typical_diameter(found: np.ndarray) -> float:
    """That of the object in which a pixel of foreground typically lies: the median of diameters [component] by area.

    Specks do not change it, however many they are.
    """
    ordered = np.sort(found)
    areas = np.cumsum(ordered**2)
    return float(ordered[np.searchsorted(areas, areas[-1] / 2)])


def label_fit(sections: Iterable[tuple[np.ndarray, np.ndarray]], diameter: float) -> Fit | None:
    """How well labels fit their images: whether objects differ from what is around them, or have edges where labels end.

    Labels are moved over their images, and where they lie is compared with where they might lie.

    Args:
      sections: (image, classes), real and int [y, x], all of one shape; class 0 = background, -1 = no label.
      diameter: of a typical object, in pixels.

    Returns:
      Fit; None if the sections show too little to say so.
    """
    inside: np.ndarray | float = 0.0
    edges: np.ndarray | float = 0.0
    for image, classes in sections:
        objects, image = classes > 0, np.asarray(image, np.float64)
        ring = ndimage.binary_dilation(objects, iterations=_RING) & ~ndimage.binary_dilation(objects) & (classes == 0)
        contour = ndimage.binary_dilation(objects) & ~ndimage.binary_erosion(objects)
        if not (objects.any() and ring.any() and image.std()):
            continue
        even = image - ndimage.gaussian_filter(image, _SHADING)
        slope = ndimage.gaussian_gradient_magnitude(image, 1.0)
        inside = inside + _moved(even / (even.std() or 1.0), objects / objects.sum() - ring / ring.sum())
        edges = edges + _moved((slope - slope.mean()) / (slope.std() or 1.0), contour / contour.sum())
    if not isinstance(inside, np.ndarray) or not isinstance(edges, np.ndarray):
        return None
    y, x = np.meshgrid(*(np.fft.fftfreq(size, 1 / size) for size in inside.shape), indexing="ij")
    distance = np.hypot(y, x)
    chance, near, possible = distance > _FAR * diameter, distance <= _NEAR, distance <= min(inside.shape) / 4
    if chance.mean() < 0.5:
        return None
    scores = [np.abs(found - found[chance].mean()) / (found[chance].std() or 1.0) for found in (inside, edges)]
    score = max(scores, key=lambda each: each[possible].max())
    place = np.unravel_index(np.argmax(np.where(possible, score, 0)), score.shape)
    return Fit(float(max(each[near].max() for each in scores)), float(score[place]), (round(y[place]), round(x[place])))


def _moved(image, pattern):
    """The sum of an image times a pattern, both [y, x], for every shift of the pattern (around the edges): [y, x]."""
    return np.fft.irfft2(np.fft.rfft2(image) * np.conj(np.fft.rfft2(pattern)), image.shape)
