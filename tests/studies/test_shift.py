"""The domain shift by level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import domain, experiment

import yseg
from yseg.config import Inference, Model, Optimizer, Sampling
from yseg.models import segmentation_network
from yseg.studies.paper_figures import shift_by_level
from yseg.studies.shift import domain_shift, level_activations


def tiny(target):
    return experiment(
        target=domain(target, test_fraction=0.3), sampling=Sampling(patch_size=16, batch_size=16),
        model=Model(levels=2, features=4), optimizer=Optimizer(steps=0),
        inference=Inference(tile_size=96, overlap=4))


def test_activations_are_those_of_encode_and_lead_to_the_logits():
    config = tiny("target")
    network = segmentation_network(config.model)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 1)), jnp.float32)
    variables = network.init(jax.random.key(0), images)
    seen = level_activations(config.model, variables, images)
    assert list(seen) == ["encoder 0", "encoder 1", "encoder 2", "decoder 1", "decoder 0"]
    for level, expected in enumerate(network.apply(variables, images, method="encode")):
        np.testing.assert_allclose(seen[f"encoder {level}"], expected, atol=1e-5)
    output = variables["params"]["decoder"]["output"]
    logits = seen["decoder 0"] @ np.asarray(output["kernel"]) + np.asarray(output["bias"])
    np.testing.assert_allclose(logits, network.apply(variables, images), atol=1e-4)


@pytest.mark.slow
def test_the_shift_is_above_chance_between_domains_and_at_chance_within_one(tmp_path):
    found = {}
    for target in ("target", "source"):
        yseg.train(tiny(target), tmp_path / target, quiet=True)
        found[target] = domain_shift(tmp_path / target)
    assert all(shift.mmd > 2 * shift.floor for shift in found["target"][:2])
    assert all(shift.mmd < 3 * shift.floor for shift in found["source"])
    assert [shift.source.shape for shift in found["target"]] == [(16, 16), (8, 8), (4, 4), (8, 8), (16, 16)]
    path = shift_by_level(found["target"], tmp_path / "shift.png", "shift")
    assert path.read_bytes().startswith(b"\x89PNG")
