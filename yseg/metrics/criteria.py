"""Criteria that rank adapted models without target labels, in NumPy float64.

A criterion is a function of a model's predictions on the target; higher is better. Compare all runs on the same voxels. No
criterion sees whether a confident prediction is right, so each prefers some wrong models to right ones; its docstring says which.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, rel_entr, softmax
from scipy.stats import rankdata

_TOLERANCE = 1e-3  # of a row's sum; float16 probabilities keep it


def _distributions(probabilities: ArrayLike) -> np.ndarray:
    """The predictions [n, class] in float64, each row divided by its sum so that the bounds of the criteria hold exactly."""
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or len(probabilities) < 1 or probabilities.shape[1] < 2:
        raise ValueError(f"probabilities of shape {probabilities.shape}: must be [n, class], n at least 1, class at least 2")
    if np.isnan(probabilities).any():
        raise ValueError("probabilities: must not be NaN")
    if not np.isfinite(probabilities).all() or probabilities.min() < 0:
        raise ValueError(f"probabilities from {probabilities.min():g} to {probabilities.max():g}: must be in [0, 1], not logits")
    sums = probabilities.sum(axis=1, keepdims=True)
    row = np.argmax(np.abs(sums - 1))
    if abs(sums[row, 0] - 1) > _TOLERANCE:
        raise ValueError(f"probabilities: row {row} sums to {sums[row, 0]:g}: every row must sum to 1 within {_TOLERANCE:g}")
    return probabilities / sums


def _mean_entropy(distributions: np.ndarray) -> float:
    """Mean entropy of the rows of [n, class] in nats; 0 log 0 = 0."""
    return entr(distributions).sum(axis=1).mean()


def entropy_score(probabilities: ArrayLike) -> float:
    """Confidence: minus the mean entropy of the predictions, mean_i sum_c p_ic log p_ic.

    It prefers confident models, also those that confidently predict one class everywhere.

    Morerio et al., Minimal-entropy correlation alignment for unsupervised deep domain adaptation, ICLR 2018, choose the weight of
    the alignment by it; Wang et al., Tent: fully test-time adaptation by entropy minimization, ICLR 2021, train with it.

    Args:
      probabilities: [n, class], rows sum to 1.

    Returns:
      float in [-log(class), 0], nats.

    Raises:
      ValueError: a probability is NaN, or the shape or a row's sum is wrong.

    >>> round(entropy_score([[0.5, 0.5], [1.0, 0.0]]), 4)  # -log(2) / 2
    -0.3466
    """
    return float(-_mean_entropy(_distributions(probabilities)))


def information_maximisation(probabilities: ArrayLike) -> float:
    """Mutual information of voxel and class: H(mean_i p_i) - mean_i H(p_i), H the entropy.

    It prefers models that are confident and use all classes equally often; see `balanced_information` where classes are not.

    Krause, Perona and Gomes, Discriminative clustering by regularized information maximization, NIPS 2010; Liang, Hu and Feng, Do
    we really need to access the source data? Source hypothesis transfer for unsupervised domain adaptation, ICML 2020.

    Args:
      probabilities: [n, class], rows sum to 1.

    Returns:
      float in [0, log(class)] to rounding, nats; 0 where all predictions are equal.

    Raises:
      ValueError: a probability is NaN, or the shape or a row's sum is wrong.

    >>> round(information_maximisation([[0.0, 1.0], [1.0, 0.0]]), 4)  # log(2)
    0.6931
    """
    distributions = _distributions(probabilities)
    return float(entr(distributions.mean(axis=0)).sum() - _mean_entropy(distributions))


def balanced_information(probabilities: ArrayLike, foreground_share: float) -> float:
    """Information with the balance of the source's classes: -KL(mean_i p_i || prior) - mean_i H(p_i).

    `information_maximisation` is, but for the constant log(class), the same with a uniform prior. That is wrong where classes are
    not equally frequent: mitochondria fill about 5 to 10 % of a volume, and a uniform prior prefers a model that calls half of
    it mitochondria. Here the prior is [1 - share, share] with the share of the source's labels.

    Two limits: the target's share may differ; and a small share makes the collapse to background cheap: it costs -log(1 - share),
    0.05 nats at 5 %, so a model of the right balance ranks below the collapsed one if its mean entropy is above that.

    After Krause, Perona and Gomes, NIPS 2010, with known class proportions in place of the uniform ones.

    Args:
      probabilities: [n, 2], background and foreground, rows sum to 1.
      foreground_share: share of the source's labelled voxels that are foreground, in (0, 1).

    Returns:
      float <= 0 to rounding, nats; 0 for confident predictions with the share of the prior.

    Raises:
      ValueError: a probability is NaN, the share is not in (0, 1), or the shape or a row's sum is wrong.

    >>> round(balanced_information([[1.0, 0.0]] * 10, 0.1), 4)  # all background: log(0.9)
    -0.1054
    """
    distributions = _distributions(probabilities)
    if distributions.shape[1] != 2:
        raise ValueError(f"probabilities of {distributions.shape[1]} classes: must be of 2, for a foreground share")
    if not 0 < foreground_share < 1:
        raise ValueError(f"foreground_share={foreground_share}: must be above 0 and below 1")
    prior = np.array([1 - foreground_share, foreground_share])
    return float(-rel_entr(distributions.mean(axis=0), prior).sum() - _mean_entropy(distributions))


def soft_neighbourhood_density(probabilities: ArrayLike, temperature: float = 0.05, pixels: int = 2000, seed: int = 0) -> float:
    """Soft neighbourhood density (SND): how many neighbours a prediction has, as the mean entropy of soft nearest neighbours.

    With the rows f_i = p_i / |p_i|_2, the neighbours j != i of i are weighted by the softmax of f_i . f_j / temperature; SND is
    the mean over i of the entropy of these weights. It prefers dense clusters of predictions, and hence most of all the model
    that predicts the same everywhere. Its value grows with the number of rows: compare runs with the same `pixels`.

    At most `pixels` rows are used, drawn without replacement: a matrix of 2,000 x 2,000 takes 32 MB. One seed draws the same
    rows for all runs of the same n, so that their difference is not one of the draw.

    Saito et al., Tune it the right way: unsupervised validation of domain adaptation via soft neighborhood density, ICCV 2021.

    Args:
      probabilities: [n, class], rows sum to 1, n at least 2.
      temperature: > 0.
      pixels: rows used at most, at least 2.
      seed: of the draw.

    Returns:
      float in [0, log(min(n, pixels) - 1)] to rounding, nats.

    Raises:
      ValueError: a probability is NaN, or the shape, a row's sum, the temperature or `pixels` is wrong.

    >>> round(soft_neighbourhood_density([[0.3, 0.7]] * 5), 4)  # log(4): each of the others is as near
    1.3863
    """
    distributions = _distributions(probabilities)
    if len(distributions) < 2 or pixels < 2 or not temperature > 0:
        raise ValueError(f"probabilities of {len(distributions)} rows, pixels={pixels}, temperature={temperature}: must be at"
                         " least 2, at least 2 and above 0")
    if len(distributions) > pixels:
        drawn = np.random.default_rng(seed).choice(len(distributions), pixels, replace=False, shuffle=False)
        distributions = distributions[drawn]
    directions = distributions / np.linalg.norm(distributions, axis=1, keepdims=True)
    similarities = directions @ directions.T / temperature
    np.fill_diagonal(similarities, -np.inf)  # weight 0
    return float(_mean_entropy(softmax(similarities, axis=1)))


def batch_nuclear_norm(probabilities: ArrayLike) -> float:
    """Batch nuclear norm (BNM): sum of the singular values of the predictions [n, class], divided by n.

    It prefers models that are confident and use all classes equally often: for one-hot predictions of n_c voxels each it is
    sum_c sqrt(n_c) / n.

    The whole matrix is one batch: that is exact, needs no draw, and the decomposition takes little time for few classes. The
    1 / n is that of the paper, where n is a constant batch size; here the value falls as 1 / sqrt(n) if predictions are
    repeated, so compare runs on the same number of voxels.

    Cui et al., Towards discriminability and diversity: batch nuclear-norm maximization under label insufficient situations, CVPR
    2020.

    Args:
      probabilities: [n, class], rows sum to 1.

    Returns:
      float in [1 / sqrt(n class), sqrt(min(n, class) / n)] to rounding; the lower bound is that of uniform predictions.

    Raises:
      ValueError: a probability is NaN, or the shape or a row's sum is wrong.

    >>> round(batch_nuclear_norm([[1.0, 0.0], [0.0, 1.0]]), 4)
    1.0
    """
    distributions = _distributions(probabilities)
    return float(np.linalg.norm(distributions, "nuc") / len(distributions))


def _over_runs(columns: Sequence[ArrayLike]) -> np.ndarray:
    """Columns [run] as float64 [column, run]; ValueError if there are none, they differ in length or a value is not finite."""
    arrays = [np.asarray(column, np.float64) for column in columns]
    shapes = [array.shape for array in arrays]
    if not arrays or len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(f"columns of shapes {shapes}: must be one or more of one shape [run], with a run at least")
    values = np.stack(arrays)
    if not np.isfinite(values).all():
        column, run = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"columns: run {run} of column {column} is {values[column, run]}: must be finite, leave out such runs")
    return values


def rank_average(*columns: ArrayLike) -> np.ndarray:
    """Mean of the ranks that several criteria give the runs; combines e.g. source validation IoU and a target criterion.

    Ranks have no scale, so the criteria need no weights. The lowest value has rank 1; ties share their mean rank.

    Args:
      columns: one or more [run], each a criterion's values; higher is better.

    Returns:
      float64 [run] in [1, number of runs]; higher is better.

    Raises:
      ValueError: there is no column, the shapes differ, or a value is not finite.

    >>> rank_average([0.1, 0.5, 0.9], [30, 10, 10]).tolist()
    [2.0, 1.75, 2.25]
    """
    return rankdata(_over_runs(columns), axis=1).mean(axis=0)
