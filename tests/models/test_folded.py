"""The network with batch normalisation in its convolutions: the same logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg.config import Model
from yseg.models import onednn, segmentation_network
from yseg.models.blocks import ACTIVATIONS
from yseg.models.folded import can_fold, fold, folded_logits

MODELS = {
    "batch": Model(levels=2, features=4, sections=3, classes=3), "none": Model(levels=2, features=4, normalization="none"),
    "residual": Model(levels=1, features=4, residual=True, activation="elu"),
    **{name: Model(levels=1, features=4, activation=name) for name in ACTIVATIONS}}
needs_onednn = pytest.mark.skipif(not onednn.available(), reason="this jaxlib or processor has no oneDNN")


def random_variables(model, seed=0):
    """Variables of which none is 0 or 1, the first pixels, and a function of variables and images."""
    network, random = segmentation_network(model), np.random.default_rng(seed)
    images = random.normal(size=(2, 16, 24, model.sections)).astype(np.float32)
    variables = jax.tree.map(np.asarray, network.init(jax.random.key(seed), images))
    moved = {name: jax.tree.map(lambda leaf: leaf + random.normal(0, 0.2, leaf.shape).astype(np.float32), tree)
             for name, tree in variables.items()}
    if "batch_stats" in moved:
        moved["batch_stats"] = jax.tree.map(lambda leaf: np.abs(leaf) + np.float32(0.1), moved["batch_stats"])
    return network, moved, images


@pytest.mark.parametrize("by_onednn", [False, pytest.param(True, marks=needs_onednn)])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_logits_are_those_of_the_network(model, by_onednn):
    network, variables, images = random_variables(model)
    expected = np.asarray(network.apply(variables, images))
    folded = fold(model, variables)
    found = jax.jit(lambda folded, images: folded_logits(model, folded, images, by_onednn=by_onednn))(folded, images)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert expected.std() > 0.1


def test_what_depends_on_a_whole_tile_or_rounds_is_not_folded():
    assert can_fold(Model())
    assert can_fold(Model(normalization="none"))
    assert not any(can_fold(Model(**changed)) for changed in
                   ({"normalization": "instance"}, {"normalization": "group"}, {"compute_dtype": "bfloat16"}))
