"""Networks, images and blocks for the tests of tiled inference."""

import jax
import numpy as np

from yseg.models import segmentation_network

STATISTICS = (120.0, 40.0)


def random_network(model, seed=0):
    """(network, variables): parameters and running statistics are random, all different from how they are initialised."""
    network = segmentation_network(model)
    shape = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 16, 16, model.sections), np.float32))
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("var", "scale"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = np.sqrt(1 / np.prod(leaf.shape[:-1])) if name == "kernel" else 0.1
        return random.normal(0, spread, leaf.shape).astype(np.float32)

    return network, jax.tree_util.tree_map_with_path(draw, shape)


def random_image(shape, seed=1):
    """Grey levels of 8 bits."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def assemble(blocks, region, classes=2):
    """All blocks in one array [z, y, x, class]; every voxel must come exactly once."""
    result, times = np.zeros((*region.shape, classes), np.float32), np.zeros(region.shape, int)
    for box, probabilities in blocks:
        assert probabilities.shape == (*box.shape, classes)
        assert probabilities.dtype == np.float32
        place = tuple(slice(first - origin, last - origin)
                      for first, last, origin in zip(box.start, box.stop, region.start, strict=True))
        result[place] = probabilities
        times[place] += 1
    assert (times == 1).all()
    return result
