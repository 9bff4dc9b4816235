"""Scores of instances: how well predicted objects with ids are those of the truth, in NumPy and SciPy.

All of them come from one sparse table: how many voxels a true and a predicted id have in common.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage, sparse

AP_AT = {"ap_50": 0.5, "ap_75": 0.75}  # IoU above which objects match
_MATCH = 0.5  # of panoptic quality


class Overlaps(NamedTuple):
    """How many labelled voxels have a true and a predicted id: an entry for each pair that occurs.

    true, predicted: int64 [pair], 0 = background, else an object from 1 on; voxels: int64 [pair]; true_voxels, predicted_voxels:
    int64 [1 + object], of all of its labelled voxels, background's first.
    """

    true: np.ndarray
    predicted: np.ndarray
    voxels: np.ndarray
    true_voxels: np.ndarray
    predicted_voxels: np.ndarray


def overlaps(truth: ArrayLike, prediction: ArrayLike) -> Overlaps:
    """The Overlaps of two volumes of ids. Ids may be any numbers.

    Args:
      truth: [z, y, x] integers; > 0 = an object, 0 = background, < 0 = ignored: the voxel counts nowhere.
      prediction: [z, y, x] integers; > 0 = an object, 0 = background.

    Raises:
      ValueError: shapes that differ or are not 3-D, values that are no integers, or a predicted one below 0.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.ndim != 3 or truth.shape != prediction.shape:
        raise ValueError(f"truth and prediction of shapes {truth.shape} and {prediction.shape}: must be of one shape [z, y, x]")
    if truth.dtype.kind not in "bui" or prediction.dtype.kind not in "bui":
        raise ValueError(f"truth and prediction of types {truth.dtype} and {prediction.dtype}: must be integers")
    if prediction.min(initial=0) < 0:
        raise ValueError(f"prediction: has {prediction.min()}; must be 0 or above")
    known = truth >= 0
    true, found = _numbered(truth[known]), _numbered(prediction[known])
    pairs = sparse.coo_array((np.ones(len(true), np.int64), (true, found)),
                             shape=(true.max(initial=0) + 1, found.max(initial=0) + 1))
    pairs.sum_duplicates()
    return Overlaps(pairs.row.astype(np.int64), pairs.col.astype(np.int64), pairs.data,
                    np.bincount(true, minlength=1), np.bincount(found, minlength=1))


def instance_scores(truth: ArrayLike, prediction: ArrayLike, *, least_voxels: int = 0) -> dict[str, float | None]:
    """Panoptic quality, average precision, variation of information and adapted Rand error of two volumes of ids.

    Panoptic quality, its segmentation quality (mean IoU of matches) and recognition quality (F1), of Kirillov et al., "Panoptic
    Segmentation", CVPR 2019: a true and a predicted object match if their IoU is above 0.5.
    `ap_50`, `ap_75`: matches / (matches + false positives + missed), a match having an IoU above 0.5 or 0.75. This is what
    StarDist, Cellpose and micro-sam call (average) precision; as objects have no confidences it is no area under a curve.
    Variation of information in bits (Meila 2007): `voi_split` = H(prediction | truth), `voi_merge` = H(truth | prediction), over
    all labelled voxels, among which background is one more object, as in skimage.metrics.variation_of_information.
    Adapted Rand error, 1 - F1 of its precision and recall over pairs of voxels in one object, as in SNEMI3D and CREMI
    (Arganda-Carreras et al., Frontiers in Neuroanatomy 2015): what is background in the truth has no part in it, and each voxel
    of the other ones that is predicted as background is an object of its own. A pair has two different voxels.

    Args:
      truth, prediction: [z, y, x], see `overlaps`.
      least_voxels: true and predicted objects of fewer labelled voxels are left out before matching. Variation of information
        and Rand error count every voxel.

    Returns:
      dict with panoptic_quality, segmentation_quality, recognition_quality, ap_50, ap_75, voi_split, voi_merge,
      adapted_rand_error, adapted_rand_precision and adapted_rand_recall: each a float, or None where undefined (0 / 0).

    Raises:
      ValueError: see `overlaps`.

    >>> scores = instance_scores(np.array([[[1, 1, 1, 1, 0, 0]]]), np.array([[[1, 1, 2, 2, 0, 0]]]))
    >>> scores["panoptic_quality"], scores["voi_merge"], round(scores["voi_split"], 3), scores["adapted_rand_precision"]
    (0.0, 0.0, 0.667, 1.0)
    """
    table = overlaps(truth, prediction)
    return {**_matching(table, least_voxels), **_information(table), **_rand(table)}


def component_scores(truth: ArrayLike, prediction: ArrayLike, *, least_voxels: int = 0) -> dict[str, float | None]:
    """`instance_scores` of the objects of two masks: the connected components, in 3-D, of what is labelled, joined by faces.

    Args:
      truth: [z, y, x] integers; 1 = foreground, 0 = background, < 0 = ignored, as if there were holes, in both.
      prediction: bool or integers 0 and 1, of the same shape.
      least_voxels: see `instance_scores`.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    true, _ = ndimage.label(truth == 1)
    found, _ = ndimage.label((prediction == 1) & (truth >= 0))
    return instance_scores(np.where(truth < 0, -1, true), found, least_voxels=least_voxels)


def _numbered(ids: np.ndarray) -> np.ndarray:
    """Ids as 0 for 0 and else 1, 2, ... in their order; those that are so nearly already stay."""
    if ids.dtype.kind != "b" and 0 <= ids.max(initial=0) <= ids.size:
        return ids.astype(np.int64)
    values, numbers = np.unique(ids, return_inverse=True)
    return numbers + (0 if len(values) and values[0] == 0 else 1)


def _ratio(numerator: float, denominator: float) -> float | None:
    """A Python float; None for 0 / 0."""
    return float(numerator / denominator) if denominator else None


def _matching(table: Overlaps, least_voxels: int) -> dict[str, float | None]:
    least = max(1, least_voxels)  # an id that does not occur is no object
    true_kept, found_kept = table.true_voxels >= least, table.predicted_voxels >= least
    true_kept[0] = found_kept[0] = False
    union = table.true_voxels[table.true] + table.predicted_voxels[table.predicted] - table.voxels
    iou = (table.voxels / union)[true_kept[table.true] & found_kept[table.predicted]]
    objects = int(true_kept.sum() + found_kept.sum())
    matched = iou[iou > _MATCH]  # above 0.5 no object has two matches
    average_precision = {}
    for name, bound in AP_AT.items():
        matches = int(np.count_nonzero(iou > bound))
        average_precision[name] = _ratio(matches, objects - matches)
    return {"panoptic_quality": _ratio(2 * matched.sum(), objects),
            "segmentation_quality": _ratio(matched.sum(), len(matched)),
            "recognition_quality": _ratio(2 * len(matched), objects), **average_precision}


def _information(table: Overlaps) -> dict[str, float | None]:
    total = table.voxels.sum()
    if not total:
        return {"voi_split": None, "voi_merge": None}

    def given(whole: np.ndarray) -> float:  # -sum p(pair) log2 p(pair | whole); + 0.0 as there is no -0 of information
        return float(-np.sum(table.voxels / total * np.log2(table.voxels / whole)) + 0.0)

    return {"voi_split": given(table.true_voxels[table.true]), "voi_merge": given(table.predicted_voxels[table.predicted])}


def _rand(table: Overlaps) -> dict[str, float | None]:
    inside = table.true > 0
    found = inside & (table.predicted > 0)
    of_found = np.bincount(table.predicted[found], table.voxels[found])
    both, true, predicted = (float(np.sum(voxels * (voxels - 1.0))) for voxels in (
        table.voxels[found], table.true_voxels[1:], of_found))
    score = _ratio(2 * both, true + predicted)
    return {"adapted_rand_error": None if score is None else 1 - score,
            "adapted_rand_precision": _ratio(both, predicted), "adapted_rand_recall": _ratio(both, true)}
