"""A threshold for the target that needs no label of it.

A network that was trained on the source is less sure of the target: fewer voxels reach a probability of one half than are
foreground. If target and source have about the same share of foreground, the threshold at which the prediction has that share is
the better one (prior matching, as in Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori
probabilities, Neural Computation 2002, with a known prior).
"""

import numpy as np

from yseg.config import MATCHED, InputError
from yseg.data.box import evenly_spaced, sections_of
from yseg.data.domain import open_domain
from yseg.data.labels import apply_rule
from yseg.trained.network import predict_with

SECTIONS = 8  # of a volume that are looked at
VOXELS = 200_000  # of them that are sampled, evenly


def matching_threshold(probabilities, share):
    """The threshold that a share of the voxels reach.

    Args:
      probabilities: [n], of foreground.
      share: of foreground voxels, in (0, 1).

    Returns:
      float in [0, 1]: `mean(probabilities >= threshold)` is `share` to the nearest voxel, if no two are equal.

    >>> matching_threshold([0.1, 0.2, 0.3, 0.4], 0.25)
    0.4
    """
    probabilities = np.sort(np.asarray(probabilities, np.float64).ravel())
    count = min(max(round(share * probabilities.size), 1), probabilities.size)
    return float(probabilities[-count])


def sampled_probabilities(config, variables, volume, box, voxels=VOXELS):
    """Class probabilities of evenly spaced voxels in some sections of a box: float32 [n, class], the same voxels for every run.

    Args:
      config: `yseg.config.Experiment`.
      variables: of the segmentation network, see `yseg.training.state.inference_variables`.
      volume: `yseg.data.domain.Volume`; its labels have no part in it.
      box: Box in voxels.
      voxels: how many at most.
    """
    numbers = evenly_spaced(box.start[0], box.stop[0], SECTIONS)
    stride = max(1, len(numbers) * box.shape[1] * box.shape[2] // voxels)
    found = [probabilities.reshape(-1, probabilities.shape[-1])[::stride]
             for number in numbers
             for _, probabilities in predict_with(config, variables, volume, sections_of(box, number, number + 1))]
    return np.concatenate(found)


def foreground_share(config):
    """Share of class 1 among the labelled voxels of some sections of the source's training box.

    Raises:
      InputError: the source cannot be read, or has no label or one class alone there.
    """
    source = open_domain(config.source, config.sampling.working_pixel_size_nm, "--config.source", with_labels=True)
    box = source.split.train
    labels = [apply_rule(source.labels[sections_of(box, number, number + 1).slices].read().result(), source.rule)
              for number in evenly_spaced(box.start[0], box.stop[0], SECTIONS)]
    labels = np.concatenate([each[each >= 0] for each in labels])
    share = float(np.mean(labels == 1)) if labels.size else 0.0
    if not 0 < share < 1:
        raise InputError(f"--config.source.labels={config.source.labels}: foreground share {share:g} in its training part; must"
                         " be above 0 and below 1 for a matched threshold")
    return share


def matched_threshold(config, variables):
    """The threshold at which the target's training box has the source's share of foreground; no target label is read.

    Raises:
      InputError: the volumes cannot be read, or there are more than two classes.
    """
    if config.model.classes != 2:
        raise InputError(f"--threshold={MATCHED}: must be with --config.model.classes=2, not {config.model.classes}")
    if not config.target.image:
        raise InputError(f"--threshold={MATCHED}: must be a number with a released model, which has no volumes of its own")
    target = open_domain(config.target, config.sampling.working_pixel_size_nm, "--config.target", with_labels=False)
    probabilities = sampled_probabilities(config, variables, target, target.split.train)
    return matching_threshold(probabilities[:, 1], foreground_share(config))


def chosen_threshold(threshold, config, variables):
    """A threshold as a number: that given, the config's for None, or `matched_threshold` for "matched".

    Raises:
      InputError: it is neither of them nor in [0, 1], or see `matched_threshold`.
    """
    if threshold is None:
        return config.inference.threshold
    if threshold == MATCHED:
        return matched_threshold(config, variables)
    if not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
        raise InputError(f"--threshold={threshold}: must be at least 0 and at most 1, or {MATCHED}")
    return float(threshold)
