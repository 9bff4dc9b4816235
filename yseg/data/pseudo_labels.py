"""Pseudo-labels: what a network is sure of in the unlabelled target, with the rest left open, to train another on.

Self-training with thresholds on confidence (Lee 2013; Zou et al., Unsupervised domain adaptation for semantic segmentation via
class-balanced self-training, ECCV 2018), where the share of foreground and the shapes of structures, both known from the labels
of the source, say what is to be believed.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from yseg.metrics.shapes import section_shapes

_ANY_NEIGHBOUR = np.ones((3, 3, 3), bool)
UNKNOWN = -1
NEIGHBOUR_WEIGHT = 0.25  # of each neighbouring section in a smoothed probability
SMALLEST, RAGGED = 3.0, 1.0  # percentiles of the source's components below which an area, a solidity is implausible
SPECK = 30  # pixels of the working grid; the solidity of what is smaller says little


class Prior(NamedTuple):
    """What the labels of the source say of the foreground, on the working grid.

    share: of voxels that are foreground, in (0, 1); least_area, in pixels, and least_solidity: of a plausible component of a
    section.
    """

    share: float
    least_area: float
    least_solidity: float


def measure_prior(labels: np.ndarray) -> Prior:
    """The Prior of labels.

    Args:
      labels: [z, y, x] on the working grid: 1 = foreground, < 0 = no label.

    Raises:
      ValueError: there is no foreground or nothing else.
    """
    known = labels >= 0
    share = float((labels == 1).sum() / max(known.sum(), 1))
    if not 0 < share < 1:
        raise ValueError(f"labels with a share of foreground of {share:g}: must be above 0 and below 1")
    found = section_shapes(labels == 1)
    large = found.areas > SPECK
    solidities = found.solidities[large] if large.any() else found.solidities
    return Prior(share, float(np.percentile(found.areas, SMALLEST)), float(np.percentile(solidities, RAGGED)))


def smoothed(probabilities: np.ndarray, weight: float = NEIGHBOUR_WEIGHT) -> np.ndarray:
    """Means [z, y, x] of every section and its two neighbours, which have that weight each; the outermost is its own neighbour.

    A structure of some thickness is in several sections, and a mistake is often in one.
    """
    padded = np.concatenate([probabilities[:1], probabilities, probabilities[-1:]])
    return weight * (padded[:-2] + padded[2:]) + (1 - 2 * weight) * padded[1:-1]


def pseudo_labels(probabilities: np.ndarray, prior: Prior, *, certain: float = 0.7, doubtful: float = 1.5) -> np.ndarray:
    """What to believe of predictions, int8 [z, y, x]: 1 = foreground, 0 = background, -1 = left open.

    The most probable voxels are foreground, as many as the share of the source says, with their holes filled. Further ones up to
    `doubtful` times the share are left open. Components of a section that are too small or too ragged for the source are
    background. Objects in one section alone, or without any voxel among the most probable `certain` times the share, are left
    open.

    Args:
      probabilities: of foreground, [z, y, x] on the working grid.
      prior: of the source.
      certain, doubtful: multiples of the share.
    """
    values = smoothed(np.asarray(probabilities, np.float32))
    core, edge, fringe = (_quantile(values, share) for share in
                          (certain * prior.share, prior.share, min(0.5, doubtful * prior.share)))
    foreground = np.stack([ndimage.binary_fill_holes(section) for section in values >= edge])
    shapes = section_shapes(foreground)
    implausible = (shapes.areas < prior.least_area) | (shapes.solidities < prior.least_solidity)
    rejected = np.concatenate([[False], implausible])[shapes.numbers]
    labels = np.where(foreground, 1, np.where(values >= fringe, UNKNOWN, 0)).astype(np.int8)
    labels[_unsure(foreground & ~rejected, values, core)] = UNKNOWN
    labels[rejected] = 0
    return labels


def _quantile(values, share):
    """The value that a share of the values reach."""
    count = min(max(round(share * values.size), 1), values.size)
    return np.partition(values.ravel(), values.size - count)[values.size - count]


def _unsure(foreground, values, core):
    """The objects of a mask that lie in one section, of several, or nowhere reach `core`: bool [z, y, x]."""
    numbers, count = ndimage.label(foreground, _ANY_NEIGHBOUR)
    if not count:
        return np.zeros_like(foreground)
    highest = ndimage.maximum(values, numbers, np.arange(1, count + 1))
    depth = np.array([place[0].stop - place[0].start for place in ndimage.find_objects(numbers)])
    unsure = (highest < core) | ((depth < 2) & (len(values) > 1))
    return np.concatenate([[False], unsure])[numbers]
