"""Networks whose every weight matters, for tests of what other programs compute with them."""

import dataclasses

import jax
import numpy as np

from yseg.config import Model
from yseg.models import segmentation_network

CHOICES = {field.name: field.metadata["choices"] for field in dataclasses.fields(Model) if field.metadata["choices"]}


def variables_of(model, seed=0):
    """Variables of a network in which nothing is 0 or 1: every weight, offset and statistic has its part in the result."""
    network, draw = segmentation_network(model), np.random.default_rng(seed)
    images = np.zeros((1, network.multiple, network.multiple, model.sections), np.float32)
    found = jax.tree.map(np.asarray, network.init(jax.random.key(seed), images))
    changed = jax.tree.map(lambda leaf: (leaf + draw.normal(0, 0.1, leaf.shape) * (leaf.std() or 1)).astype(np.float32), found)
    statistics = jax.tree.map(lambda leaf: np.abs(leaf) + np.float32(0.2), changed.get("batch_stats", {}))
    return {"params": changed["params"], "batch_stats": statistics}
