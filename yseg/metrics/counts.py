"""Segmentation scores from exact counts, in NumPy.

Voxels are counted in int64, per section and threshold, and scores are computed from sums of counts at the end. So blocks may come
in any order and of any size, and the result is that of the whole volume at once. A score that is 0 / 0 is None.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def _check_shape(labels: ArrayLike, name: str, values: ArrayLike) -> None:
    if np.shape(labels) != np.shape(values):
        raise ValueError(f"{name} of shape {np.shape(values)}: must be of the shape of labels, {np.shape(labels)}")


def _labelled(labels: ArrayLike, name: str, values: ArrayLike, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and values (called `name`) where the label is >= 0, both [voxel]; ValueError if a label is no class index."""
    _check_shape(labels, name, values)
    labels, values = np.asarray(labels), np.asarray(values)
    mask = labels >= 0
    truth = labels[mask].astype(np.int64)
    if truth.size and truth.max() >= classes:
        raise ValueError(f"labels up to {truth.max()}: must be below classes={classes}")
    return truth, values[mask]


def confusion(labels: ArrayLike, predictions: ArrayLike, classes: int) -> np.ndarray:
    """Confusion matrix: how many voxels of true class i (row) are predicted as class j (column).

    Args:
      labels: integers below `classes`, of any shape; < 0 = ignored.
      predictions: integers in [0, classes), of the same shape.
      classes: number of classes.

    Returns:
      int64 [class, class].

    Raises:
      ValueError: a label or a prediction is no class index, or the shapes differ.

    >>> confusion(np.array([0, 1, 1, -1]), np.array([0, 0, 1, 1]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    truth, predictions = _labelled(labels, "predictions", predictions, classes)
    if predictions.size and not 0 <= predictions.min() <= predictions.max() < classes:
        raise ValueError(f"predictions from {predictions.min()} to {predictions.max()}: must be in [0, {classes})")
    return np.bincount(truth * classes + predictions, minlength=classes**2).reshape(classes, classes)


def threshold_confusions(labels: ArrayLike, probabilities: ArrayLike, thresholds: Sequence[float]) -> np.ndarray:
    """Binary confusion matrices at many thresholds in one pass; a voxel is foreground where probability >= threshold.

    Args:
      labels: 0 or 1, of any shape; < 0 = ignored.
      probabilities: of foreground, of the same shape.
      thresholds: [threshold], increasing; compared in the type of the probabilities, as NumPy compares with a Python number.

    Returns:
      int64 [threshold, truth, prediction].

    Raises:
      ValueError: a label is above 1, a probability of a labelled voxel is NaN, or the shapes differ.
    """
    truth, probabilities = _labelled(labels, "probabilities", probabilities, 2)
    if np.isnan(probabilities).any():
        raise ValueError("probabilities: must not be NaN")
    steps = len(thresholds) + 1
    bounds = np.asarray(thresholds, np.result_type(probabilities, np.float32))
    passed = np.searchsorted(bounds, probabilities, side="right")
    histogram = np.bincount(truth * steps + passed, minlength=2 * steps).reshape(2, steps)  # [truth, thresholds passed]
    background = np.cumsum(histogram, axis=1)[:, :-1]
    foreground = histogram.sum(axis=1, keepdims=True) - background
    return np.stack([background, foreground], axis=-1).transpose(1, 0, 2)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Confusion matrices of every section at every threshold.

    Immutable: `add` and `add_predictions` return new counts. Blocks may come in any order; each voxel must come once.

    >>> counts = Counts.zeros(sections=2, thresholds=(0.5,))
    >>> counts = counts.add(np.array([[[1, 0, 1]]]), np.array([[[0.9, 0.8, 0.2]]]), first_section=1)
    >>> scores(counts)["per_section_iou"]
    [None, 0.3333333333333333]
    """

    matrices: np.ndarray  # int64 [section, threshold, truth, prediction]
    thresholds: tuple[float, ...]

    @classmethod
    def zeros(cls, sections: int, thresholds: Iterable[float] = (0.5,), classes: int = 2) -> "Counts":
        """Counts of nothing yet for `sections` sections at increasing `thresholds`; ValueError if these do not increase."""
        thresholds = tuple(float(threshold) for threshold in thresholds)
        if not thresholds or any(np.diff(thresholds) <= 0):
            raise ValueError(f"thresholds {thresholds}: must increase, and be at least one")
        return cls(np.zeros((sections, len(thresholds), classes, classes), np.int64), thresholds)

    def add(self, labels: np.ndarray, probabilities: np.ndarray, first_section: int = 0) -> "Counts":
        """These counts and those of a block, for two classes.

        Args:
          labels: [z, y, x] integers; 1 = foreground, 0 = background, < 0 = ignored.
          probabilities: [z, y, x] of foreground.
          first_section: the section of the block's first plane.

        Returns:
          Counts.

        Raises:
          ValueError: see `threshold_confusions`, or the block does not fit.
        """
        _check_shape(labels, "probabilities", probabilities)
        return self._with(first_section, [threshold_confusions(*section, self.thresholds)
                                          for section in zip(labels, probabilities, strict=True)])

    def add_predictions(self, labels: np.ndarray, predictions: np.ndarray, first_section: int = 0) -> "Counts":
        """These counts and those of a block of predicted classes; for any number of classes and a single threshold.

        Args:
          labels: [z, y, x] integers below the number of classes, < 0 = ignored.
          predictions: [z, y, x] class indices.
          first_section: the section of the block's first plane.

        Returns:
          Counts.

        Raises:
          ValueError: see `confusion`, or the block does not fit.
        """
        classes = self.matrices.shape[-1]
        _check_shape(labels, "predictions", predictions)
        return self._with(first_section, [confusion(*section, classes)[None]
                                          for section in zip(labels, predictions, strict=True)])

    def _with(self, first_section: int, sections: list[np.ndarray]) -> "Counts":
        matrices = self.matrices.copy()
        block = np.stack(sections)
        last = first_section + len(block)
        if first_section < 0 or last > len(matrices) or block.shape[1:] != matrices.shape[1:]:
            raise ValueError(f"first_section={first_section}, {len(block)} sections with counts {block.shape[1:]}: must lie"
                             f" within the {len(matrices)} sections with counts {matrices.shape[1:]}")
        matrices[first_section:last] += block
        return dataclasses.replace(self, matrices=matrices)

    @property
    def tp(self) -> np.ndarray:
        """True positives of class 1, int64 [section, threshold]."""
        return self.matrices[..., 1, 1]

    @property
    def fp(self) -> np.ndarray:
        """False positives of class 1, int64 [section, threshold]."""
        return self.matrices[..., 1].sum(axis=-1) - self.tp

    @property
    def fn(self) -> np.ndarray:
        """False negatives of class 1, int64 [section, threshold]."""
        return self.matrices[..., 1, :].sum(axis=-1) - self.tp

    @property
    def tn(self) -> np.ndarray:
        """True negatives of class 1, int64 [section, threshold]."""
        return self.matrices.sum(axis=(-2, -1)) - self.tp - self.fp - self.fn


def _ratio(numerator: int, denominator: int) -> float | None:
    """A Python float; None for 0 / 0."""
    return int(numerator) / int(denominator) if denominator else None


def scores(counts: Counts, index: int = 0) -> dict[str, Any]:
    """Scores at the threshold of that index, as Python numbers that json can write; None where undefined.

    Foreground is class 1 against all other classes. With tp, fp, fn, tn summed over the sections: iou = tp / (tp + fp + fn),
    f1 = 2 tp / (2 tp + fp + fn), precision = tp / (tp + fp), recall = tp / (tp + fn), accuracy = share of the voxels whose
    class is right, foreground_share = (tp + fn) / voxels. IoU is also given per section and per class (background first);
    mean_iou is the mean over the classes that have one.

    Args:
      counts: a `Counts`.
      index: which of `counts.thresholds`.

    Returns:
      dict with threshold, voxels, iou, f1, precision, recall, accuracy, foreground_share, mean_iou (each a number or None),
      per_class_iou and per_section_iou (lists of numbers and None), per_section_counts (list of [tp, fp, fn]).
    """
    tp_section, fp_section, fn_section = counts.tp[:, index], counts.fp[:, index], counts.fn[:, index]
    tp, fp, fn = tp_section.sum(), fp_section.sum(), fn_section.sum()
    matrix = counts.matrices[:, index].sum(axis=0)
    right, voxels = np.diagonal(matrix), matrix.sum()
    per_class = [_ratio(*pair) for pair in zip(right, matrix.sum(axis=0) + matrix.sum(axis=1) - right, strict=True)]
    defined = [iou for iou in per_class if iou is not None]
    return {
        "threshold": counts.thresholds[index],
        "voxels": int(voxels),
        "iou": _ratio(tp, tp + fp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "accuracy": _ratio(right.sum(), voxels),
        "foreground_share": _ratio(tp + fn, voxels),
        "mean_iou": sum(defined) / len(defined) if defined else None,
        "per_class_iou": per_class,
        "per_section_counts": np.stack([tp_section, fp_section, fn_section], axis=-1).tolist(),
        "per_section_iou": [_ratio(*pair) for pair in zip(tp_section, tp_section + fp_section + fn_section, strict=True)],
    }
