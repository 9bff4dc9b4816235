"""Which labels of the target a training may read: a share of its training box, chosen by the seed and listed in the config."""

import dataclasses
import math

from yseg.data.box import Box, parse_region
from yseg.data.domain import open_domain, training_region
from yseg.data.split import share_of


def label_boxes(config, target, fraction, sections=None):
    """The boxes of a share of the target's training box, as text; each holds a patch.

    Args:
      config: `yseg.config.Experiment`; its seed chooses.
      target: `yseg.data.domain.Volume`.
      fraction, sections: see `yseg.data.split.share_of`.
    """
    least_rows = math.ceil((config.sampling.patch_size + 1) * target.grid.ratio)
    return tuple(map(str, share_of(target.split.train, fraction, config.seed, least_rows, sections)))


def choose_labels(config):
    """A resolved config that lists the labels of a joint training; the config itself if there is none, or they are listed.

    Raises:
      InputError: the target cannot be read or has no labels.
    """
    if config.semi_supervised != "joint" or config.labelled_boxes:
        return config
    target = open_domain(config.target, config.sampling.working_pixel_size_nm, "--config.target", with_labels=True)
    return dataclasses.replace(config, labelled_boxes=label_boxes(config, target, config.labelled_fraction))


def labelled_region(config):
    """The `yseg.data.patches.Region` of the target with the labels that are listed, for a joint training; None for another.

    Raises:
      InputError: the target cannot be read, has no labels, or a box is not in its training box.
    """
    if config.semi_supervised != "joint":
        return None
    target = open_domain(config.target, config.sampling.working_pixel_size_nm, "--config.target", with_labels=True)
    # Labels of a validation box are not read, not even to see what values they have.
    target = target._replace(split=target.split._replace(validation=Box((0, 0, 0), (0, 0, 0))))
    flag = "--config.labelled_boxes"
    parts = [parse_region(text, target.image.shape, flag) for text in config.labelled_boxes]
    return training_region(target, config, parts, flag)
