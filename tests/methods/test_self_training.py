"""Self-training: its step and what it keeps. Its loss is tested with those of the other methods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import experiment

from yseg.config import SelfTraining
from yseg.methods import METHODS, Batch, context_of
from yseg.runs.resolve import resolve
from yseg.training.state import create_state, inference_variables
from yseg.training.step import make_step


def setting(**fields):
    config = resolve(experiment(method="self_training", **fields))
    return config, METHODS["self_training"].network(config.model), create_state(config, jax.random.key(0))


def raw_of(seed=0):
    random = np.random.default_rng(seed)
    image = lambda: random.integers(0, 256, (2, 16, 16, 1), np.uint8)  # noqa: E731
    statistics = np.array([120, 60], np.float32)
    return {"index": np.arange(2, dtype=np.int32), "labelled": image(), "labelled_statistics": statistics, "target": image(),
            "target_statistics": statistics, "labels": random.integers(0, 2, (2, 16, 16), np.int8),
            "target_labels": random.integers(-1, 2, (2, 16, 16), np.int8)}


def test_without_target_patches_and_their_labels_it_is_a_mistake():
    config, network, state = setting()
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    batch = Batch(np.arange(1), jnp.zeros((1, 16, 16, 1)), jnp.zeros((1, 16, 16), jnp.int32), jnp.zeros((1, 16, 16, 1)))
    with pytest.raises(ValueError, match=r"batch\.target_labels: must be given"):
        METHODS["self_training"].loss(variables, batch, jax.random.key(0), progress=jnp.float32(0),
                                      context=context_of(config, network))


def test_the_average_follows_the_parameters_and_is_the_network_that_is_applied():
    config, network, state = setting(self_training=SelfTraining(average=0.75))
    step = jax.jit(make_step(config, network))
    after, _ = step(state, raw_of(), jax.random.key(0))
    expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, state.average, after.params["network"])
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7), after.average, expected)
    jax.tree.map(np.testing.assert_array_equal, inference_variables(after, "training")["params"], after.average)
    moved = jax.tree.map(lambda one, other: np.abs(np.asarray(one - other)).max(), state.average, after.average)
    assert max(jax.tree.leaves(moved)) > 0


def test_other_methods_keep_no_average():
    state = create_state(resolve(experiment(method="coral")), jax.random.key(0))
    assert state.average == {}
    jax.tree.map(np.testing.assert_array_equal, inference_variables(state, "training")["params"], state.params["network"])
