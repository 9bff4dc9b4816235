"""Statistics of the target in batch normalisation (adaptive batch normalisation, Li et al. 2018).

A network that was trained on the source meets other means and variances in the target. With the parameters as they are, the
target's own take a few passes of unlabelled target patches through the segmentation network.
"""

import jax
import numpy as np

from yseg import parallel
from yseg.data.grey_levels import z_score
from yseg.data.patches import make_reader
from yseg.models import build_network
from yseg.models.blocks import MOMENTUM
from yseg.training.state import segmentation_part

BATCHES = 32


def make_estimate(config, target, reader=None):
    """`estimate(state) -> state` with `target_stats` renewed; the same state without batch normalisation.

    They are means over batches of target patches, as they are (not augmented), each normalised by its own statistics. So they
    depend on the parameters and the config's seed alone.

    Args:
      config: `yseg.config.Experiment`.
      target: the `yseg.data.patches.Region` that the target is trained on.
      reader: the training's, if it reads target patches; None = make one for them.
    """
    if config.model.normalization != "batch":
        return lambda state: state
    reader = reader or make_reader(None, target, config)
    network = build_network(config.model, "ft", parallel.AXIS)

    def collect(totals, raw, params):
        images = z_score(raw["target"], raw["target_statistics"])
        _, updated = network.apply({"params": params, "batch_stats": totals}, images, True, mutable=["batch_stats"])
        return updated["batch_stats"], {}

    collect = parallel.map_step(collect)
    # Running means that start at 0 fall short by what of the start is left in them.
    share = 1 - MOMENTUM**BATCHES

    def estimate(state):
        params = parallel.replicate(segmentation_part(state.params["network"]))
        totals = parallel.replicate(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state.target_stats))
        for number in range(BATCHES):
            totals, _ = collect(totals, reader.batch(number), params)
        totals = parallel.on_host(totals)
        return state.replace(target_stats=parallel.replicate(jax.tree.map(lambda leaf: leaf / share, totals)))

    return estimate
