"""Pseudo-labels: what a network is sure of in the unlabelled target, with the rest left open, to train another on.

Self-training with thresholds on confidence (Lee 2013; Zou et al., Unsupervised domain adaptation for semantic segmentation via
class-balanced self-training, ECCV 2018), where the share of foreground and the shapes of structures, both known from the labels
of the source, say what is to be believed.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from yseg.metrics.shapes import Prior, implausible, of_components, section_shapes

_ANY_NEIGHBOUR = np.ones((3, 3, 3), bool)
UNKNOWN = -1
THRESHOLDS = 21  # that are compared
_LEAST = 0.5  # part of the source's share that is foreground even if a network calls less so, as one does that knows little


def pseudo_labels(parts: Sequence[np.ndarray], prior: Prior, *, pixel_size_nm: float, threshold: float = 0.5,
                  certain: float = 0.7, doubtful: float = 1.5, tissue: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
    """What to believe of predictions, int8 [z, y, x] for each part: 1 = foreground, 0 = background, -1 = left open.

    How much is foreground is said by the share of the source and by the network itself, with its threshold, and neither is to be
    trusted alone: the target may have more or less of it than the source, and the network may call too much or too little. So
    the most probable voxels of which both say so are foreground, and those of which one does are left open, as long as it is
    between half and `doubtful` times the share. Both hold in components of a section that are large and smooth enough for the
    source, with holes filled. Left open are also objects that lie in one section alone, or that have no voxel among the most
    probable `certain` times the share, and plausible components of the most probable voxels up to `doubtful` times the share that
    hold no foreground. All else is background, such as what surrounds an object that is believed; it would grow if that was left
    open.

    Args:
      parts: of the volume: probabilities of foreground, [z, y, x] on the working grid, averaged in depth.
      prior: of the source.
      pixel_size_nm: of the working grid.
      threshold: probability from which the network calls a voxel foreground.
      certain, doubtful: multiples of the share.
      tissue: where there is tissue, bool [z, y, x] of each part, of which the shares are; the rest is left open; None =
        everywhere.
    """
    known = [part.ravel() for part in parts] if tissue is None else [
        part[place] for part, place in zip(parts, tissue, strict=True)]
    core, few, edge, many = _quantiles(
        np.concatenate(known), (certain * prior.share, _LEAST * prior.share, prior.share, min(0.5, doubtful * prior.share)))
    high, low = max(edge, min(threshold, few)), min(edge, max(threshold, many))
    labels = [_labels(part, prior, pixel_size_nm, core, high, low, many) for part in parts]
    if tissue is not None:
        labels = [np.where(place, each, np.int8(UNKNOWN)) for each, place in zip(labels, tissue, strict=True)]
    return labels


def _labels(values, prior, pixel_size_nm, core, high, low, fringe):
    """The pseudo-labels of a part, by the probabilities that count as core, high, low and fringe."""
    foreground = _plausible(values >= high, prior, pixel_size_nm)
    candidates = section_shapes(_plausible(values >= fringe, prior, pixel_size_nm))
    with_foreground = ndimage.maximum(foreground, candidates.numbers, np.arange(1, len(candidates.areas) + 1))
    doubted = of_components(~np.asarray(with_foreground, bool), candidates.numbers)
    doubted |= _plausible(values >= low, prior, pixel_size_nm)
    labels = np.where(foreground, 1, np.where(doubted, UNKNOWN, 0)).astype(np.int8)
    labels[_unsure(foreground, values, core)] = UNKNOWN
    return labels


def agreeing_threshold(parts: Sequence[np.ndarray], labels: Sequence[np.ndarray], lowest: float, highest: float) -> float:
    """The threshold in a range at which the foreground of predictions agrees best with pseudo-labels: has the largest IoU.

    A network need not call as much foreground as it was trained to: an overlap loss, for one, makes it call what it is unsure of,
    such as the rims of structures.

    Args:
      parts: of the volume: probabilities of foreground, [z, y, x].
      labels: their pseudo-labels int8 [z, y, x]; what is open does not count.
      lowest, highest: of the range; of those that agree alike, it is the lowest.
    """
    thresholds = np.linspace(lowest, highest, THRESHOLDS)
    reached = np.zeros((2, THRESHOLDS + 1), np.int64)  # of background and foreground, how many reach so many of the thresholds
    pairs = itertools.chain.from_iterable(zip(part, known, strict=True) for part, known in zip(parts, labels, strict=True))
    for (section, known), label in itertools.product(pairs, (0, 1)):
        reached[label] += np.bincount(np.searchsorted(thresholds, section[known == label], "right"), minlength=THRESHOLDS + 1)
    wrong, right = reached[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    iou = right / np.maximum(wrong + reached[1].sum(), 1)
    return float(thresholds[np.argmax(iou)])


def _plausible(mask, prior, pixel_size_nm):
    """The plausible components of the sections of a mask, their holes filled."""
    shapes = section_shapes(np.stack([ndimage.binary_fill_holes(section) for section in mask]))
    return of_components(~implausible(shapes, prior, pixel_size_nm), shapes.numbers)


def _quantiles(values, shares):
    """The values [share] that these shares of the values [n] reach."""
    places = [values.size - min(max(round(share * values.size), 1), values.size) for share in shares]
    return np.partition(values, places)[places]


def _unsure(foreground, values, core):
    """The objects of a mask that lie in one section, of several, or nowhere reach `core`: bool [z, y, x]."""
    numbers, count = ndimage.label(foreground, _ANY_NEIGHBOUR)
    if not count:
        return np.zeros_like(foreground)
    highest = ndimage.maximum(values, numbers, np.arange(1, count + 1))
    depth = np.array([place[0].stop - place[0].start for place in ndimage.find_objects(numbers)])
    unsure = (highest < core) | ((depth < 2) & (len(values) > 1))
    return of_components(unsure, numbers)
