import functools

import jax
import numpy as np
import pytest

from yseg import parallel
from yseg.config import Experiment, Model
from yseg.training.checkpoint import Checkpoints
from yseg.training.state import create_state

CONFIG = Experiment(method="dann", model=Model(levels=1, features=4))


@functools.cache
def created_state():
    return parallel.on_host(create_state(CONFIG, jax.random.key(0)))


def drawn_state(step, seed=0):
    """A state of random bits: NaN and subnormal numbers are among them."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        if leaf.dtype != np.float32:
            return np.full(leaf.shape, step, leaf.dtype)
        return random.integers(0, 2**32, leaf.shape, np.uint32).view(np.float32)

    return jax.tree.map(draw, created_state())


def assert_identical(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for leaf, same in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        assert (leaf.dtype, leaf.shape) == (same.dtype, same.shape)
        assert leaf.tobytes() == same.tobytes()


@pytest.fixture(scope="module")
def state():
    return drawn_state(7)


def test_a_state_comes_back_to_the_bit_with_its_types_and_structure(state, tmp_path):
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        checkpoints.save(state)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.last_step == 7
        assert_identical(checkpoints.restore(state), state)


def test_a_saved_state_is_a_copy_that_later_changes_do_not_reach(state, tmp_path):
    changing = jax.tree.map(np.array, state)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(changing)
        for leaf in jax.tree.leaves(changing):
            leaf[...] = 0
    with Checkpoints(tmp_path) as checkpoints:
        assert_identical(checkpoints.restore(state), state)


def test_a_replicated_state_is_saved_as_it_is_on_the_host(tmp_path):
    state = created_state()
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(parallel.replicate(state))
    with Checkpoints(tmp_path) as checkpoints:
        assert_identical(checkpoints.restore(state), state)


def test_the_last_ones_are_kept_and_the_last_is_restored(state, tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (2, 9, 10):
            checkpoints.save(drawn_state(step, seed=step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "9"]
    with Checkpoints(tmp_path) as checkpoints:
        assert_identical(checkpoints.restore(state), drawn_state(10, seed=10))


def test_without_a_checkpoint_there_is_nothing_to_restore(state, tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.last_step is None
        assert checkpoints.restore(state) is None


def test_an_unfinished_checkpoint_is_ignored_and_removed_by_the_next_run(state, tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(state)
    unfinished = tmp_path / "8.orbax-checkpoint-tmp"  # as a killed run leaves it
    (unfinished / "default").mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_step == 7
    assert unfinished.exists()  # a reader may come while another process is writing
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert_identical(checkpoints.restore(state), state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7"]
