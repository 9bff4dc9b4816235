"""Pseudo-labels: what a network is sure of in the unlabelled target, with the rest left open, to train another on.

Self-training with thresholds on confidence (Lee 2013; Zou et al., Unsupervised domain adaptation for semantic segmentation via
class-balanced self-training, ECCV 2018), where shapes, known from the labels of the source, and the certainty of whole objects
say what is to be believed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from yseg.data.threshold import matching_threshold
from yseg.metrics.shapes import Prior, implausible, of_components, section_shapes

_ANY_NEIGHBOUR = np.ones((3, 3, 3), bool)
UNKNOWN = -1
FACTOR = 2.0  # by which what a network calls foreground may differ from the share of the source before it is not believed


class _Objects(NamedTuple):
    """The components of a mask [z, y, x]; component c is number c + 1 of `numbers`.

    numbers: int32 [z, y, x], 0 = no component; volumes: int64 [component], in voxels; doubts: float64 [component], the mean of
    1 - probability where no hole was filled; depths: int64 [component], in sections.
    """

    numbers: np.ndarray
    volumes: np.ndarray
    doubts: np.ndarray
    depths: np.ndarray


def pseudo_labels(parts: Sequence[np.ndarray], prior: Prior, *, pixel_size_nm: float, threshold: float = 0.5, doubt: float = 2.0,
                  margin: float = 1.5, tissue: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
    """What to believe of predictions, int8 [z, y, x] for each part: 1 = foreground, 0 = background, -1 = left open.

    Foreground is what the network calls so, in components of a section that are large and smooth enough for the source, with
    holes filled. How much of it there is in the source says little of the target, so it is neither added to nor eroded; but if
    objects that are more certain make up as much already, one that is `doubt` times as doubtful as the typical is background, as
    most of these are mistakes, and one from half way there on is left open. So are objects that lie in one section alone, and
    plausible components of the next probable voxels, up to `margin` times as many, that hold no foreground. All else is
    background, such as what surrounds an object that is believed; it would grow if that was left open.

    Args:
      parts: of the volume: probabilities of foreground, [z, y, x] on the working grid, averaged in depth.
      prior: of the source.
      pixel_size_nm: of the working grid.
      threshold: probability from which the network calls a voxel foreground; if that is less than half or more than twice as much
        as in the source, it is that much.
      doubt: multiple of the typical mean of 1 - probability of an object, which is the median over voxels of objects.
      margin: multiple of the foreground.
      tissue: where there is tissue, bool [z, y, x] of each part, of which the shares are; the rest is left open; None =
        everywhere.
    """
    known = tissue_values(parts, tissue)
    least, most = (matching_threshold(known, min(0.5, share)) for share in (prior.share / FACTOR, prior.share * FACTOR))
    edge = max(most, min(threshold, least))
    fringe = matching_threshold(known, min(0.5, margin * np.count_nonzero(known >= edge) / known.size))
    masks = [_plausible(part >= edge, prior, pixel_size_nm) for part in parts]
    objects = [_objects(mask, part, edge) for mask, part in zip(masks, parts, strict=True)]
    refused, doubted = _doubted(objects, (doubt, (1 + doubt) / 2), prior.share * known.size)
    labels = [_labels(mask, found, wrong, unsure, _plausible(part >= fringe, prior, pixel_size_nm))
              for part, mask, found, wrong, unsure in zip(parts, masks, objects, refused, doubted, strict=True)]
    if tissue is not None:
        labels = [np.where(place, each, np.int8(UNKNOWN)) for each, place in zip(labels, tissue, strict=True)]
    return labels


def _labels(foreground, objects, refused, doubted, candidates):
    """The pseudo-labels of a part, int8 [z, y, x]: its foreground, as mask and objects, and what else may be foreground."""
    shapes = section_shapes(candidates)
    with_foreground = ndimage.maximum(foreground, shapes.numbers, np.arange(1, len(shapes.areas) + 1))
    left_open = of_components(~np.asarray(with_foreground, bool), shapes.numbers)
    single = (objects.depths < 2) & (len(foreground) > 1)
    left_open |= of_components((single | doubted) & ~refused, objects.numbers)
    believed = foreground & ~of_components(refused, objects.numbers)
    return np.where(left_open, UNKNOWN, believed).astype(np.int8)


def _objects(mask, values, edge):
    """The _Objects of a mask bool [z, y, x], by probabilities [z, y, x] that are at least `edge` but for filled holes."""
    numbers, count = ndimage.label(mask, _ANY_NEIGHBOUR)
    volumes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    called = np.where(values >= edge, numbers, 0).ravel()
    sums, counts = (np.bincount(called, weights, minlength=count + 1)[1:] for weights in (1.0 - values.ravel(), None))
    depths = np.array([place[0].stop - place[0].start for place in ndimage.find_objects(numbers)], int)
    return _Objects(numbers, volumes, sums / counts, depths)


def _doubted(parts, multiples, expected):
    """For each multiple: which of the _Objects of each part are that many times as doubtful as the typical one, bool.

    They are also beyond the expected number of voxels, the most certain objects first.
    """
    doubts, volumes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("doubts", "volumes"))
    order = np.argsort(doubts, kind="stable")
    sums = volumes[order].cumsum()
    typical = doubts[order][np.searchsorted(sums, sums[-1] / 2)] if len(order) else 0.0
    beyond = np.zeros(len(order), bool)
    beyond[order] = sums > expected
    ends = np.cumsum([len(part.doubts) for part in parts])[:-1]
    return [np.split(beyond & (doubts > multiple * typical), ends) for multiple in multiples]


def tissue_values(parts: Sequence[np.ndarray], tissue: Sequence[np.ndarray] | None) -> np.ndarray:
    """The values of parts [z, y, x] where there is tissue, bool [z, y, x] of each, None = everywhere: [n]."""
    return np.concatenate([part.ravel() for part in parts] if tissue is None else [
        part[place] for part, place in zip(parts, tissue, strict=True)])


def _plausible(mask, prior, pixel_size_nm):
    """The plausible components of the sections of a mask, their holes filled."""
    shapes = section_shapes(np.stack([ndimage.binary_fill_holes(section) for section in mask]))
    return of_components(~implausible(shapes, prior, pixel_size_nm), shapes.numbers)
