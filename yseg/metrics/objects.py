"""Scores of objects rather than voxels: how many mitochondria are found, missed and made up, in NumPy and SciPy."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage, sparse


def _components(foreground: np.ndarray, structure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Component of every voxel, [z, y, x], 0 = none; and voxels of every component, [1 + component], 0 for none."""
    components, number = ndimage.label(foreground, structure)
    return components, np.bincount(components[components > 0], minlength=number + 1)


def _ratio(numerator: int, denominator: int) -> float | None:
    """A Python float; None for 0 / 0."""
    return numerator / denominator if denominator else None


def object_scores(truth: ArrayLike, prediction: ArrayLike, *, iou: float = 0.5, least_voxels: int = 0,
                  connectivity: int = 1) -> dict[str, int | float | None]:
    """Precision, recall and F1 of the objects: the connected components, in 3-D, of the foreground.

    A true and a predicted object match if their IoU, intersection / union in voxels, is at least `iou`. For an IoU above 0.5
    no object can have two matches (Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4.1). Nor at exactly 0.5
    here: two matches of one object would each be half of it and together all of it; so they would touch, as the object is
    connected, and be one component. So every object is matched at most once and no tie is left to be broken.

    Ignored voxels belong to no object, true or predicted, as if the volume had holes there. So an object that they cut
    through counts as its parts.

    Args:
      truth: [z, y, x] integers; 1 = foreground, 0 = background, < 0 = ignored.
      prediction: bool or integers 0 and 1, of the same shape.
      iou: bound of the IoU of a match, from 0.5 to 1.
      least_voxels: objects of fewer voxels are left out on both sides before matching: a true one is not missed and a
        predicted one is no false positive. A large object whose only counterpart is left out has no match.
      connectivity: voxels touch by their faces (1), also by edges (2), also by corners (3).

    Returns:
      dict with objects_true, objects_predicted and objects_matched, int; object_precision = matched / predicted,
      object_recall = matched / true and object_f1 = 2 matched / (true + predicted), each a float, or None for 0 / 0.

    Raises:
      ValueError: `iou` or `connectivity` out of range, shapes that differ or are not 3-D, values other than those above.

    >>> truth, prediction = np.array([[[1, 1, 0, 1, 1, 0, -1]]]), np.array([[[1, 0, 0, 0, 0, 0, 1]]])
    >>> [object_scores(truth, prediction)[name] for name in ("objects_true", "objects_predicted", "objects_matched")]
    [2, 1, 1]
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if not 0.5 <= iou <= 1:
        raise ValueError(f"iou={iou}: must be in [0.5, 1]; below 0.5, an object could have several matches")
    if connectivity not in (1, 2, 3):
        raise ValueError(f"connectivity={connectivity}: must be 1, 2 or 3")
    if truth.ndim != 3 or truth.shape != prediction.shape:
        raise ValueError(f"truth and prediction of shapes {truth.shape} and {prediction.shape}: must be of one shape [z, y, x]")
    if truth.dtype.kind not in "bui" or truth.max(initial=0) > 1:
        raise ValueError("truth: must be integers of at most 1; 1 = foreground, 0 = background, < 0 = ignored")
    if prediction.dtype.kind not in "bui" or prediction.min(initial=0) < 0 or prediction.max(initial=0) > 1:
        raise ValueError("prediction: must be bool, or integers 0 and 1")

    structure = ndimage.generate_binary_structure(3, connectivity)
    true, true_voxels = _components(truth == 1, structure)
    found, found_voxels = _components((prediction == 1) & (truth >= 0), structure)
    least = max(least_voxels, 1)  # index 0, of no object, has no voxels
    true_kept, found_kept = true_voxels >= least, found_voxels >= least

    both = (true > 0) & (found > 0)
    pairs = sparse.coo_array((np.ones(np.count_nonzero(both), np.int64), (true[both], found[both])),
                             shape=(len(true_voxels), len(found_voxels)))
    pairs.sum_duplicates()  # now one entry, the intersection, for every pair of objects that overlap
    union = true_voxels[pairs.row] + found_voxels[pairs.col] - pairs.data
    matches = true_kept[pairs.row] & found_kept[pairs.col] & (pairs.data / union >= iou)

    objects_true, objects_predicted, matched = (int(np.count_nonzero(x)) for x in (true_kept, found_kept, matches))
    return {
        "objects_true": objects_true,
        "objects_predicted": objects_predicted,
        "objects_matched": matched,
        "object_precision": _ratio(matched, objects_predicted),
        "object_recall": _ratio(matched, objects_true),
        "object_f1": _ratio(2 * matched, objects_true + objects_predicted),
    }
