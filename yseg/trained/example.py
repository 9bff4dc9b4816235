"""An example of what a trained network does: a tile of its target, or of a drawn volume, and the probabilities in it."""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from yseg.config import SECTION, VOLUME, Domain, InputError
from yseg.data.box import Box
from yseg.data.domain import Volume, open_domain
from yseg.data.exact import differences, pivot_of
from yseg.data.patches import section_numbers
from yseg.inference.outputs import predicted_classes
from yseg.inference.predictor import make_predictor
from yseg.report.figures import CLASSES, PREDICTION, grey_image, paint_labels
from yseg.trained.network import TrainedNetwork
from yseg.volumes import phantom

COVER_SIDE = 400  # pixels of each half of a cover
TARGET, DRAWN = "target", "drawn"
EPSILON = 1e-6  # is added to a deviation, as bioimage.io does unless told otherwise


class Example(NamedTuple):
    """of: TARGET or DRAWN; image: raw grey levels float32 [section, y, x], on the working grid; probabilities: float32
    [class, y, x], of the image normalised by what it has itself."""

    of: str
    image: np.ndarray
    probabilities: np.ndarray


def make_example(network: TrainedNetwork, side: int) -> Example:
    """A square tile of the middle of a network's target; of a drawn volume where that is unknown or not to be found.

    Args:
      network: whose probabilities are computed, by the network alone in float32: without averages, views and thresholds.
      side: of the tile, in working pixels, a multiple of the network's; a smaller target is mirrored.
    """
    config = network.config
    raw = dataclasses.replace(config.sampling, normalization=VOLUME)
    of = TARGET
    try:
        if not config.target.image:
            raise InputError("a released model has no target")
        volume = open_domain(config.target, raw, "target", with_labels=False)
    except InputError:
        of, size = DRAWN, phantom.PIXEL_SIZE_NM["target"]
        voxels = int(np.ceil(side * raw.working_pixel_size_nm / size))
        drawn = Domain(image=f"phantom://target/image?shape={config.model.sections},{voxels},{voxels}", pixel_size_nm=size)
        volume = open_domain(drawn, raw, "target", with_labels=False)
    image = _tile(volume, config.model.sections, side)
    model = dataclasses.replace(config.model, compute_dtype="float32")
    inference = dataclasses.replace(config.inference, test_time_augmentation=False, batch_size=1)
    predict = make_predictor(model, inference, network.variables[network.statistics])
    normalised = z_scored(image, config.sampling.normalization)
    probabilities = predict(normalised.transpose(1, 2, 0)[None], (0.0, 1.0))[0]
    return Example(of, image, probabilities.transpose(2, 0, 1))


def z_scored(image: np.ndarray, normalization: str) -> np.ndarray:
    """Grey levels [section, y, x] less their mean, over their deviation, float32: of each section, or of all together."""
    values, axes = image.astype(np.float64), (1, 2) if normalization == SECTION else None
    return ((values - values.mean(axes, keepdims=True)) / (values.std(axes, keepdims=True) + EPSILON)).astype(np.float32)


def cover(example: Example, threshold: float) -> np.ndarray:
    """The example as a picture of two squares, uint8 [y, x, 3]: its middle section, and the same with its classes on it."""
    zoom = COVER_SIDE / example.image.shape[1]
    image = ndimage.zoom(example.image[len(example.image) // 2], zoom, order=1)
    probabilities = np.stack([ndimage.zoom(values, zoom, order=1) for values in example.probabilities], axis=-1)
    grey = grey_image(image)
    classes = predicted_classes(probabilities, threshold)
    painted = paint_labels(grey, classes, CLASSES if probabilities.shape[-1] > 2 else (PREDICTION,))
    grey[:, -2:] = painted[:, :2] = 1  # a line between the two
    return np.rint(255 * np.clip(np.concatenate([grey, painted], axis=1), 0, 1)).astype(np.uint8)


def _tile(volume: Volume, sections: int, side: int) -> np.ndarray:
    """Raw grey levels float32 [section, side, side] amid a volume, around its middle section."""
    shape = volume.grid.shape
    start, stop = zip(*(((size - side) // 2, (size - side) // 2 + side) if size > side else (0, size) for size in shape[1:]),
                      strict=True)
    numbers = section_numbers(shape[0] // 2, sections, shape[0])
    levels = np.concatenate([volume.grid.image(volume.image, Box((int(number), *start), (int(number) + 1, *stop)))
                             for number in numbers])
    image = differences(levels, pivot_of(volume.image)).astype(np.float32)
    missing = [(0, side - size) for size in image.shape[1:]]
    return np.pad(image, [(0, 0), *missing], mode="reflect" if min(image.shape[1:]) > 1 else "edge")
