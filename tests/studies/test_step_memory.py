"""The memory of a training step."""

import dataclasses

import jax
import numpy as np
import pytest
import tensorstore as ts
from tiny import experiment

from yseg.config import JOINT, METHODS, NONE, Sampling, TargetLabels
from yseg.data.domain import training_regions
from yseg.methods import METHODS as RECORDS
from yseg.runs.resolve import resolve
from yseg.runs.session import prepare
from yseg.studies.step_memory import _raw, step_memory_mib
from yseg.training.state import create_state
from yseg.training.step import make_step


def test_it_holds_at_least_the_state_and_grows_with_the_batch():
    config = resolve(experiment())
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(create_state(config, jax.random.key(0)))) / 2**20
    small = step_memory_mib(config)
    large = step_memory_mib(dataclasses.replace(config, sampling=Sampling(patch_size=16, batch_size=8)))
    assert state < small < large


@pytest.mark.parametrize(("method", "use"), [*((method, NONE) for method in METHODS), ("coral", JOINT), ("ft", JOINT)])
def test_its_patches_are_those_that_the_reader_cuts_and_a_step_takes(method, use, tmp_path):
    config = resolve(experiment(method=method, target_labels=TargetLabels(use=use, fraction=0.5)))
    prepared = prepare(config, tmp_path / "run")
    if RECORDS[method].teaches_itself:
        box = training_regions(config, prepared.domains)["target"].box
        prepared.reader.relabel(ts.array(np.zeros(box.shape, np.int8)))
    raw, read = _raw(config), prepared.reader.batch(0)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in raw.items()} == {
        name: (leaf.shape[1:], np.dtype(leaf.dtype)) for name, leaf in read.items()}
    assert ("joint_labels" in raw) == (use == JOINT)
    assert ("target" in raw) == RECORDS[method].sees_target
    step = make_step(config, RECORDS[method].network(config.model))
    state = jax.eval_shape(lambda key: create_state(config, key), jax.random.key(0))
    after, metrics = jax.eval_shape(step, state, raw, jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda leaf: leaf.shape, state)
    assert ("segmentation_target" in metrics) == (use == JOINT)
