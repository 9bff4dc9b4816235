"""A threshold for the target that needs no label of it.

A network that was trained on the source is less sure of the target: fewer voxels reach a probability of one half than are
foreground. If target and source have about the same share of foreground, the threshold at which the prediction has that share is
the better one, see `yseg.data.threshold`.
"""

import numpy as np

from yseg.config import MATCHED, Experiment, InputError
from yseg.data.box import Box, evenly_spaced, sections_of
from yseg.data.domain import Volume, open_own_domain
from yseg.data.threshold import matching_threshold
from yseg.trained.network import TrainedNetwork

SECTIONS = 8  # of a volume that are looked at
VOXELS = 200_000  # of them that are sampled, evenly


def sampled_probabilities(network: TrainedNetwork, volume: Volume, box: Box, voxels: int = VOXELS) -> np.ndarray:
    """Class probabilities of evenly spaced voxels of tissue in some sections of a box: float32 [n, class], alike for every run.

    Args:
      network: with the batch statistics that are meant.
      volume: its labels have no part in it.
      box: in voxels.
      voxels: how many at most.
    """
    numbers = evenly_spaced(box.start[0], box.stop[0], SECTIONS)
    stride = max(1, len(numbers) * box.shape[1] * box.shape[2] // voxels)
    blocks = network.predict(volume, [sections_of(box, number, number + 1) for number in numbers])
    return np.concatenate([_in_tissue(volume, place, probabilities)[::stride] for place, probabilities in blocks])


def _in_tissue(volume, box, probabilities):
    """The probabilities [n, class] of the voxels of a Box that are tissue."""
    if volume.mask is None:
        return probabilities.reshape(-1, probabilities.shape[-1])
    return probabilities[volume.mask[box.slices].read().result() != 0]


def foreground_share(config: Experiment) -> float:
    """Share of class 1 among the labelled voxels of some sections of the source's training box.

    Raises:
      InputError: the source cannot be read, or has no label or one class alone there.
    """
    source = open_own_domain(config, "source", with_labels=True)
    box = source.split.train
    labels = [source.classes(sections_of(box, number, number + 1))
              for number in evenly_spaced(box.start[0], box.stop[0], SECTIONS)]
    known = np.concatenate([each[each >= 0] for each in labels])
    share = float(np.mean(known == 1)) if known.size else 0.0
    if not 0 < share < 1:
        raise InputError(f"source.labels={config.source.labels}: foreground share {share:g} in its training part; must be above 0"
                         " and below 1 for a matched threshold")
    return share


def matched_threshold(network: TrainedNetwork) -> float:
    """The threshold at which the target's training box has the source's share of foreground; no target label is read.

    Raises:
      InputError: the volumes cannot be read, or there are more than two classes.
    """
    config = network.config
    if config.model.classes != 2:
        raise InputError(f"--threshold={MATCHED}: must be with model.classes=2, not {config.model.classes}")
    if not config.target.image:
        raise InputError(f"--threshold={MATCHED}: must be a number with a released model, which has no volumes of its own")
    target = open_own_domain(config, "target", with_labels=False)
    probabilities = sampled_probabilities(network, target, target.split.train)
    return matching_threshold(probabilities[:, 1], foreground_share(config))


def chosen_threshold(threshold: float | str | None, network: TrainedNetwork) -> float:
    """A threshold as a number: that given, the config's for None, or `matched_threshold` for "matched".

    Raises:
      InputError: it is neither of them nor in [0, 1], or see `matched_threshold`.
    """
    if threshold is None:
        return network.config.inference.threshold
    if threshold == MATCHED:
        return matched_threshold(network)
    if not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
        raise InputError(f"--threshold={threshold}: must be at least 0 and at most 1, or {MATCHED}")
    return float(threshold)
