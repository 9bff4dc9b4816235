"""The memory of a training step."""

import dataclasses

import jax
import numpy as np
import pytest

from yseg.config import Experiment, Model, Sampling, uses_target
from yseg.models import build_network
from yseg.studies.step_memory import _raw, step_memory_mib
from yseg.training.state import create_state
from yseg.training.step import make_step

TINY = Experiment(method="ft", sampling=Sampling(patch_size=16, batch_size=2), model=Model(levels=1, features=4))


def test_it_holds_at_least_the_state_and_grows_with_the_batch():
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(create_state(TINY, jax.random.key(0)))) / 2**20
    small = step_memory_mib(TINY)
    large = step_memory_mib(dataclasses.replace(TINY, sampling=Sampling(patch_size=16, batch_size=8)))
    assert state < small < large


@pytest.mark.parametrize("how", ["finetune", "joint"])
def test_its_patches_are_those_that_a_step_takes(how):
    """The step runs on arrays of just these shapes and types."""
    config = dataclasses.replace(TINY, method="coral", semi_supervised=how)
    raw = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), _raw(config))
    assert ("labelled_labels" in raw) == (how == "joint")
    assert ("target" in raw) == uses_target(config.method)
    step = make_step(config, build_network(config.model, config.method))
    state = jax.eval_shape(lambda key: create_state(config, key), jax.random.key(0))
    after, metrics = jax.eval_shape(step, state, raw, jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)
    assert ("segmentation_target" in metrics) == (how == "joint")
