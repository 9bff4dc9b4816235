"""How far a score can be trusted: bootstrap intervals of the IoU over sections and seeds, and spread over runs, in NumPy.

Sections, not voxels, are resampled, as the errors within a section go together (percentile interval of Efron & Tibshirani,
"An Introduction to the Bootstrap", Chapman & Hall 1993, chapter 13). Neighbouring sections show much the same objects, so they
too are correlated, but are resampled as if independent: the intervals are optimistic, that is too narrow, and the more so the
thinner the sections. They say nothing of other volumes.

Of several seeds, all are scored on the same sections. So a resample has two stages: it draws seeds, and it draws one set of
sections for all of them (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007). Sections drawn for each
seed on its own would wrongly average out the differences between sections. With n seeds the bootstrap sees only (n - 1) / n
of their variance, so with two or three seeds this part is too small; with one it is missing.
"""

import statistics
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike


def _checked(name: str, counts: ArrayLike) -> np.ndarray:
    """Counts (called `name`) as int64 [seed, section, 3]; ValueError if they are none."""
    array = np.asarray(counts)
    if array.ndim not in (2, 3) or array.shape[-1] != 3 or not array.size:
        raise ValueError(f"{name} of shape {array.shape}: must be [section, 3] or [seed, section, 3], of at least one section")
    if array.dtype.kind not in "ui" or array.min() < 0:
        raise ValueError(f"{name}: must be integers (tp, fp, fn), none below 0")
    return array.astype(np.int64).reshape(-1, *array.shape[-2:])


def _resample(seeds: int, sections: int, samples: int, seed: int) -> list[np.ndarray]:
    """How often every resample draws each section and each seed: int64 [sample, section] and [sample, seed]."""
    if samples < 1:
        raise ValueError(f"samples={samples}: must be at least 1")
    generator = np.random.default_rng(seed)
    return [generator.multinomial(n, np.full(n, 1 / n), size=samples) for n in (sections, seeds)]


def _iou(counts: np.ndarray, section_weights: np.ndarray, seed_weights: np.ndarray) -> np.ndarray:
    """Mean over the seeds of the IoU of each resample, float64 [sample]; NaN where no drawn seed has an IoU."""
    sums = section_weights @ counts  # [seed, sample, 3]
    tp, union = sums[..., 0].T, sums.sum(axis=-1).T  # [sample, seed]
    weights = seed_weights * (union > 0)
    total = weights.sum(axis=-1)
    iou = tp / np.maximum(union, 1)
    return np.where(total > 0, (weights * iou).sum(axis=-1) / np.maximum(total, 1), np.nan)


def _iou_of_all(counts: np.ndarray) -> float:
    """The mean over the seeds of the IoU, each of all sections once; NaN if undefined."""
    seeds, sections, _ = counts.shape
    return _iou(counts, np.ones((1, sections), np.int64), np.ones((1, seeds), np.int64))[0]


def _interval(values: np.ndarray, level: float) -> tuple[float, float] | tuple[None, None]:
    """Central interval (low, high) of the values that are no NaN, or (None, None) if there is none."""
    if not 0 < level < 1:
        raise ValueError(f"level={level}: must be between 0 and 1")
    values = values[~np.isnan(values)]
    if not values.size:
        return None, None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_iou(counts: ArrayLike, *, samples: int = 2000, level: float = 0.95,
                  seed: int = 0) -> tuple[float, float] | tuple[None, None]:
    """Bootstrap interval of the IoU.

    The IoU is the ratio of sums over sections, tp / (tp + fp + fn), as in `yseg.metrics.counts.scores`, not the mean of the
    sections' ratios; of several seeds, it is the mean over the seeds that have one. Resamples without an IoU are left out.

    Args:
      counts: integers [section, 3], or [seed, section, 3] with the same sections for every seed: voxels tp, fp, fn.
      samples: number of resamples.
      level: of the interval, between 0 and 1.
      seed: of the resampling; the same seed gives the same interval.

    Returns:
      (low, high), floats, or (None, None) if the IoU is undefined. For a single section (and seed), low = high = IoU.

    Raises:
      ValueError: counts of another shape or type, `samples` or `level` out of range.

    >>> bootstrap_iou(np.array([[3, 1, 0]]))
    (0.75, 0.75)
    """
    checked = _checked("counts", counts)
    seeds, sections, _ = checked.shape
    return _interval(_iou(checked, *_resample(seeds, sections, samples, seed)), level)


def paired_difference(counts_a: ArrayLike, counts_b: ArrayLike, *, samples: int = 2000, level: float = 0.95,
                      seed: int = 0) -> tuple[float, float | None, float | None] | tuple[None, None, None]:
    """Difference of two methods' IoU, a - b, with its bootstrap interval.

    Every resample draws the same sections, and the same seeds, for both methods; so what makes a section hard for both cancels
    out, and the interval is that of the difference. IoU as in `bootstrap_iou`.

    Args:
      counts_a: integers [section, 3] or [seed, section, 3]: voxels tp, fp, fn of method a.
      counts_b: of method b on the same sections, with the same seeds in the same order; of the same shape.
      samples: number of resamples.
      level: of the interval, between 0 and 1.
      seed: of the resampling; the same seed gives the same interval.

    Returns:
      (difference, low, high), floats, or three None if the IoU of a method is undefined; low and high alone are None if no
      resample has both.

    Raises:
      ValueError: counts of another shape or type, or of two shapes; `samples` or `level` out of range.

    >>> paired_difference(np.array([[3, 1, 0]]), np.array([[2, 1, 1]]))
    (0.25, 0.25, 0.25)
    """
    a, b = _checked("counts_a", counts_a), _checked("counts_b", counts_b)
    if a.shape != b.shape:
        raise ValueError(f"counts_a and counts_b of shapes {np.shape(counts_a)} and {np.shape(counts_b)}: must be of the same"
                         " sections and seeds")
    seeds, sections, _ = a.shape
    weights = _resample(seeds, sections, samples, seed)
    low, high = _interval(_iou(a, *weights) - _iou(b, *weights), level)
    difference = _iou_of_all(a) - _iou_of_all(b)
    return (None, None, None) if np.isnan(difference) else (float(difference), low, high)


def mean_and_spread(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1 in the denominator) of the values that are not None.

    Args:
      values: numbers and None, for example the IoU of every seed.

    Returns:
      (mean, standard deviation), floats; the deviation of one value is None, as is the mean of none.

    >>> mean_and_spread([0.5, None, 1.5]), mean_and_spread([0.5])
    ((1.0, 0.7071067811865476), (0.5, None))
    """
    known = [float(value) for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    return mean, statistics.stdev(known) if len(known) > 1 else None
