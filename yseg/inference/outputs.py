"""What becomes of the blocks of a segmentation: classes, probabilities, scores."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from yseg.config import InputError
from yseg.data.box import Box
from yseg.metrics.counts import Counts
from yseg.volumes.header import CLASSES, INSTANCES, PROBABILITY

# What can be written, see `predicted_classes`, `foreground` and `yseg.inference.merge`.
OUTPUT_TYPES = {CLASSES: np.uint8, PROBABILITY: np.float32, INSTANCES: np.uint32}


def predicted_classes(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The class of every voxel, uint8.

    Args:
      probabilities: [..., class].
      threshold: of two classes, class 1 is predicted where its probability is at least this; more classes do not use it.
    """
    if probabilities.shape[-1] == 2:
        return (probabilities[..., 1] >= threshold).astype(np.uint8)
    return probabilities.argmax(axis=-1).astype(np.uint8)


def foreground(probabilities: np.ndarray) -> np.ndarray:
    """The probability float32 of being no background, class 0, of probabilities [..., class]."""
    return probabilities[..., 1:].sum(axis=-1, dtype=np.float32)


def score(blocks: Iterable[tuple[Box, np.ndarray]], truth_of: Callable[[Box], np.ndarray], region: Box, *,
          thresholds: Sequence[float], classes: int) -> Counts:
    """The counts of a region's blocks, at the volume's own voxels. Section 0 of the counts is the region's first.

    Args:
      blocks: of `yseg.inference.blocks.predict_blocks`.
      truth_of: the true classes int8 [z, y, x] of a Box of voxels, -1 = no label; see `yseg.data.domain.Volume.classes`.
      region: Box in voxels to which the blocks belong.
      thresholds: of the foreground probability, increasing; more than two classes are counted once, as predicted by argmax.
      classes: number of classes.

    Raises:
      InputError: a label is no class index of the model.
    """
    counts = Counts.zeros(region.shape[0], thresholds) if classes == 2 else Counts.zeros(region.shape[0], classes=classes)
    for box, probabilities in blocks:
        truth = truth_of(box)
        if truth.max(initial=0) >= classes:
            raise InputError(f"model.classes={classes}: must be above {truth.max()}, a label in section {box.start[0]}")
        section = box.start[0] - region.start[0]
        if classes == 2:
            counts = counts.add(truth, probabilities[..., 1], section)
        else:
            counts = counts.add_predictions(truth, probabilities.argmax(axis=-1), section)
    return counts


def fill(outputs: Mapping[str, np.ndarray], blocks: Iterable[tuple[Box, np.ndarray]], region: Box, threshold: float) -> None:
    """Fill arrays with what is predicted in a region's blocks.

    Args:
      outputs: [z, y, x] of the region's shape, by what they are filled with, see `OUTPUT_TYPES`.
      blocks: iterable of (Box, probabilities), see `predict_blocks`.
      region: Box in voxels to which the blocks belong; its start is the outputs' (0, 0, 0).
      threshold: see `predicted_classes`.
    """
    values_of = {CLASSES: lambda probabilities: predicted_classes(probabilities, threshold), PROBABILITY: foreground}
    for box, probabilities in blocks:
        for kind, output in outputs.items():
            output[box.relative_to(region).slices] = values_of[kind](probabilities)
