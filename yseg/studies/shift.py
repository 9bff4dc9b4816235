"""Where the domain shift sits in a network: the features of source and target at every level (Roels et al. 2019, figure 1)."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from yseg import losses
from yseg.config import Model
from yseg.data.domain import open_own_domain, training_region
from yseg.data.grey_levels import z_score
from yseg.data.patches import make_reader
from yseg.models import segmentation_network
from yseg.models.blocks import Block
from yseg.trained.network import TrainedNetwork

BATCHES = 16  # of patches in each sample; fewer differ by their tissue more than by their domain
PIXELS = 512  # features compared at each level


class Shift(NamedTuple):
    """The shift at one level.

    level: such as "encoder 0" (full resolution); mmd: squared MMD between source and target features, with the training's running
    statistics; floor: the same between two samples of the source, what chance alone gives; source, target: mean over the channels
    of the activations of one patch of each domain, [y, x].
    """

    level: str
    mmd: float
    floor: float
    source: np.ndarray
    target: np.ndarray


def level_activations(model: Model, variables: dict[str, Any], images: np.ndarray) -> dict[str, np.ndarray]:
    """The last activation of every encoder and decoder level: dict from "encoder 0" to [batch, y, x, channel], as data flow.

    Args:
      model: the network.
      variables: of the segmentation network, see `yseg.training.state.inference_variables`.
      images: z-scored float32 [batch, y, x, section].
    """
    network = segmentation_network(model)

    @jax.jit
    def capture(variables, images):
        return network.apply(variables, images, capture_intermediates=lambda module, _: isinstance(module, Block))[1]

    seen = capture(variables, images)["intermediates"]
    levels = range(model.levels + 1)
    order = [("encoder", level) for level in levels] + [("decoder", level) for level in reversed(levels[:-1])]
    return {f"{part} {level}": np.asarray(seen[part][f"level_{level}"]["__call__"][0]) for part, level in order}


def domain_shift(workdir: str | os.PathLike) -> list[Shift]:
    """The shift at every level of a run's network, between patches of the training boxes of source and target.

    Raises:
      InputError: no trained run in the workdir, or its volumes cannot be read.
    """
    network = TrainedNetwork.of_run(workdir)
    config, variables = network.config, network.variables["training"]
    samples, sampling = {}, config.sampling
    for name, domain, first in (("source", "source", 0), ("again", "source", BATCHES), ("target", "target", 0)):
        volume = open_own_domain(config, domain, with_labels=False)
        reader = make_reader({"target": training_region(volume, sampling.patch_size)}, sampling=sampling,
                             sections=config.model.sections, seed=config.seed)
        images = np.concatenate([_z_scored(reader.batch(number)) for number in range(first, first + BATCHES)])
        samples[name] = level_activations(config.model, variables, images)
    random = np.random.default_rng(config.seed)
    multiples = config.adaptation.bandwidths
    shifts = []
    for level in samples["source"]:
        source, again, target = (_sample(samples[name][level], random) for name in ("source", "again", "target"))
        bandwidths = losses.median_bandwidths(source, target, multiples)
        shifts.append(Shift(level, float(losses.mmd(source, target, bandwidths)), float(losses.mmd(source, again, bandwidths)),
                            *(samples[name][level][0].mean(axis=-1) for name in ("source", "target"))))
    return shifts


def _z_scored(batch):
    """The patches of a reader's batch, of all devices: float32 [batch, y, x, section]."""
    patches = jnp.concatenate(list(batch["target"]))
    return np.asarray(z_score(patches, batch["target_statistics"][0]))


def _sample(activations, random):
    """PIXELS feature vectors of random pixels, float32 [PIXELS, channel]."""
    flat = activations.reshape(-1, activations.shape[-1])
    return flat[random.integers(0, len(flat), PIXELS)].astype(np.float32)
