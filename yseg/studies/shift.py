"""Where the domain shift sits in a network: the features of source and target at every level (Roels et al. 2019, figure 1)."""

from typing import NamedTuple

import jax
import numpy as np

from yseg import losses
from yseg.data.domain import open_domain, training_region
from yseg.data.grey_levels import z_score
from yseg.data.patches import make_reader
from yseg.models import build_network
from yseg.models.blocks import Block
from yseg.runs.folder import load_state, read_config
from yseg.training.state import inference_variables

BATCHES = 16  # of patches in each sample; fewer differ by their tissue more than by their domain
PIXELS = 512  # features compared at each level


class Shift(NamedTuple):
    """The shift at one level.

    level: such as "encoder 0" (full resolution); mmd: squared MMD between source and target features, with the source's running
    statistics; floor: the same between two samples of the source, what chance alone gives; source, target: mean over the channels
    of the activations of one patch of each domain, [y, x].
    """

    level: str
    mmd: float
    floor: float
    source: np.ndarray
    target: np.ndarray


def level_activations(config, variables, images):
    """The last activation of every encoder and decoder level: dict from "encoder 0" to [batch, y, x, channel], as data flow.

    Args:
      config: `yseg.config.Experiment`.
      variables: of the segmentation network, see `yseg.training.state.inference_variables`.
      images: z-scored float32 [batch, y, x, section].
    """
    network = build_network(config.model, "ft")

    @jax.jit
    def capture(variables, images):
        return network.apply(variables, images, capture_intermediates=lambda module, _: isinstance(module, Block))[1]

    seen = capture(variables, images)["intermediates"]
    levels = range(config.model.levels + 1)
    order = [("encoder", level) for level in levels] + [("decoder", level) for level in reversed(levels[:-1])]
    return {f"{part} {level}": np.asarray(seen[part][f"level_{level}"]["__call__"][0]) for part, level in order}


def domain_shift(workdir):
    """The shift at every level of a run's network, between patches of the training boxes of source and target: list of Shift.

    Raises:
      InputError: no trained run in the workdir, or its volumes cannot be read.
    """
    config = read_config(workdir)
    variables = inference_variables(load_state(workdir, config), "source")
    samples, working = {}, config.sampling.working_pixel_size_nm
    for name, domain, first in (("source", "source", 0), ("again", "source", BATCHES), ("target", "target", 0)):
        volume = open_domain(getattr(config, domain), working, f"--config.{domain}", with_labels=False)
        reader = make_reader(None, training_region(volume, config), config)
        images = np.concatenate([_z_scored(reader.batch(number)) for number in range(first, first + BATCHES)])
        samples[name] = level_activations(config, variables, images)
    random = np.random.default_rng(config.seed)
    multiples = np.array(config.adaptation.bandwidths, np.float32)
    shifts = []
    for level in samples["source"]:
        source, again, target = (_sample(samples[name][level], random) for name in ("source", "again", "target"))
        bandwidths = losses.median_bandwidths(source, target, multiples)
        shifts.append(Shift(level, float(losses.mmd(source, target, bandwidths)), float(losses.mmd(source, again, bandwidths)),
                            *(samples[name][level][0].mean(axis=-1) for name in ("source", "target"))))
    return shifts


def _z_scored(batch):
    """The target patches of a reader's batch, of all devices: float32 [batch, y, x, section]."""
    patches = np.concatenate(np.asarray(batch["target"]))
    return np.asarray(z_score(patches, np.asarray(batch["target_statistics"])[0]))


def _sample(activations, random):
    """PIXELS feature vectors of random pixels, float32 [PIXELS, channel]."""
    flat = activations.reshape(-1, activations.shape[-1])
    return flat[random.integers(0, len(flat), PIXELS)].astype(np.float32)
