"""The trained network as a function of raw tiles, on all local devices."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from yseg import parallel
from yseg.config import Inference, Model
from yseg.data.grey_levels import z_score
from yseg.inference.blocks import Predict
from yseg.models import onednn, segmentation_network
from yseg.models.folded import can_fold, fold, folded_logits


def make_predictor(model: Model, inference: Inference, variables: dict[str, Any]) -> Predict:
    """The trained network as a function of raw tiles, on all local devices; compiled once for each shape of a tile.

    Args:
      model, inference: what the config says of the network and of tiles.
      variables: {"params": {"encoder", "decoder"}, "batch_stats"} of the segmentation network, a U-Net.

    Returns:
      `predict(tiles, statistics)`: raw grey levels [tile, y, x, section] and their volume's, see `z_score` -> float32
      probabilities [tile, y, x, class] on the host. Any number of tiles; they are computed local devices x
      `inference.batch_size` at a time.
    """
    return make_predictors(model, inference)(variables)


def make_predictors(model: Model, inference: Inference) -> Callable[[dict[str, Any]], Predict]:
    """`variables -> predict`, see `make_predictor`; all of them share what is compiled."""
    folds, network = can_fold(model), segmentation_network(model)
    by_onednn = folds and onednn.available()
    share = (parallel.local_device_count(), inference.batch_size)
    at_once = math.prod(share)

    def probabilities(variables, tiles, statistics):
        images = z_score(tiles, statistics)
        logits: Any = folded_logits(model, variables, images, by_onednn=by_onednn) if folds else network.apply(variables, images)
        return jax.nn.softmax(logits, axis=-1)

    compiled = parallel.map_shares(probabilities)

    def predict(variables, tiles, statistics):
        statistics = np.asarray(statistics, np.float32)
        results = []
        for first in range(0, len(tiles), at_once):
            part = tiles[first:first + at_once]
            padded = np.zeros((at_once, *tiles.shape[1:]), tiles.dtype)
            padded[:len(part)] = part
            result = np.asarray(compiled(variables, padded.reshape(*share, *tiles.shape[1:]), statistics))
            results.append(result.reshape(at_once, *result.shape[2:])[:len(part)])
        return results[0] if len(results) == 1 else np.concatenate(results)

    chosen = functools.partial(_over_symmetries, predict) if inference.test_time_augmentation else predict
    prepared = functools.partial(fold, model) if folds else lambda variables: variables
    return lambda variables: functools.partial(chosen, parallel.replicate(prepared(variables)))


def _over_symmetries(predict, variables, tiles, statistics):
    """`predict`, averaged over the eight symmetries of the square: each is applied to the tiles and undone in the result."""
    total: Any = None
    for transposed, mirrored_y, mirrored_x in itertools.product((False, True), repeat=3):
        step = np.s_[:, ::-1 if mirrored_y else 1, ::-1 if mirrored_x else 1]
        moved = (tiles.swapaxes(1, 2) if transposed else tiles)[step]
        found = predict(variables, moved, statistics)[step]
        found = found.swapaxes(1, 2) if transposed else found
        total = found.copy() if total is None else np.add(total, found, out=total)
    return total / np.float32(8)
