"""Statistics of the target in batch normalisation (adaptive batch normalisation, Li et al. 2018).

A network that was trained on the source meets other means and variances in the target. With the parameters as they are, the
target's own take a few passes of unlabelled target patches through the segmentation network. One that was trained on target
patches has met those whose grey levels were augmented, and is given the statistics of these.
"""

from collections.abc import Callable

import jax
import numpy as np

from yseg import parallel
from yseg.config import Augmentation, Model
from yseg.data.augment import augment_intensities
from yseg.data.grey_levels import z_score
from yseg.data.patches import Reader
from yseg.methods.parts import sample_keys
from yseg.models import segmentation_network
from yseg.models.normalization import MOMENTUM
from yseg.training.state import TrainState, inference_parameters

BATCHES = 32


def make_estimate(model: Model, reader: Reader, devices: parallel.Devices | None = None, *, seed: int = 0,
                  augmentation: Augmentation | None = None) -> Callable[[TrainState], TrainState]:
    """`estimate(state) -> state` with `target_stats` renewed; the same state without batch normalisation.

    They are means over batches of target patches, each normalised by its own statistics. So they depend on the parameters and the
    seeds alone.

    Args:
      model: the network.
      reader: of target patches, which nobody else reads from.
      devices: see `yseg.parallel.devices_for`.
      seed: of the augmentation.
      augmentation: whose changes of grey levels the patches get; None = they are taken as they are.
    """
    if model.normalization != "batch":
        return lambda state: state
    network = segmentation_network(model, parallel.AXIS)

    def collect(totals, raw, given):
        params, key = given
        images = z_score(raw["target"], raw["target_statistics"])
        if augmentation is not None:
            images = augment_intensities(sample_keys(key, 0, raw["index"]), images, augmentation)
        _, updated = network.apply({"params": params, "batch_stats": totals}, images, True, mutable=["batch_stats"])
        return updated["batch_stats"], {}

    collect = parallel.map_step(collect, devices)
    # Running means that start at 0 fall short by what of the start is left in them.
    share, key = 1 - MOMENTUM**BATCHES, jax.random.key(seed)

    def estimate(state):
        params = parallel.replicate(inference_parameters(state), devices)
        totals = parallel.replicate(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state.target_stats), devices)
        for number in range(BATCHES):
            totals, _ = collect(totals, reader.batch(number), (params, jax.random.fold_in(key, number)))
        totals = parallel.on_host(totals)
        return state.replace(target_stats=parallel.replicate(jax.tree.map(lambda leaf: leaf / share, totals), devices))

    return estimate
