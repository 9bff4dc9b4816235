"""The calls of the training loop: which steps share one, without a difference. Whole runs are in tests/test_experiment.py."""

import jax
import numpy as np
import pytest
from tiny import experiment

import yseg
from yseg import parallel
from yseg.config import Experiment, Optimizer, Record, Sampling
from yseg.data.patches import ResidentReader
from yseg.runs.folder import load_state
from yseg.training.checkpoint import Checkpoints
from yseg.training.loop import _due, _next_call
from yseg.training.recorder import read_metrics


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("first", [0, 6, 21])
def test_calls_take_every_step_once_and_end_where_something_is_due(at_once, first):
    config = Experiment(sampling=Sampling(steps_at_once=at_once), optimizer=Optimizer(steps=31),
                        record=Record(log_every=10, validate_every=0, checkpoint_every=6))
    ends, done = [], first
    while done < 31:
        count = _next_call(done, config)
        assert count in (1, at_once)
        assert count == 1 or done % count == 0  # as in a run that was not interrupted
        done += count
        ends.append(done)
    assert ends[-1] == 31
    assert {step for step in range(first + 1, 32) if any(_due(step, config))} <= set(ends)
    assert len(ends) == len(range(first, 31)) if at_once in (1, 40) else len(ends) < len(range(first, 31))


@pytest.mark.slow
def test_several_steps_in_one_call_end_as_one_after_the_other_also_after_an_interruption(tmp_path, monkeypatch):
    runs, calls, map_steps = {}, [], parallel.map_steps

    def counted(*arguments):
        steps = map_steps(*arguments)
        return lambda state, *rest: (calls.append(int(state.step)), steps(state, *rest))[1]

    monkeypatch.setattr(parallel, "map_steps", counted)
    for at_once in (1, 2):
        config = experiment(
            sampling=Sampling(patch_size=16, batch_size=2, steps_at_once=at_once),
            optimizer=Optimizer(name="sgd", steps=7, warmup_steps=1, learning_rate=0.05),
            record=Record(log_every=2, validate_every=0, checkpoint_every=3, images=0))
        workdir = tmp_path / str(at_once)
        yseg.train(config, workdir, quiet=True)
        assert calls == ([0, 4] if at_once == 2 else [])  # 3, 6 and 7 are due besides
        runs[at_once] = load_state(workdir, config), numbers_of(workdir)
    for leaf, other in zip(*(jax.tree.leaves(state) for state, _ in runs.values()), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-6)
    for row, other in zip(*(rows for _, rows in runs.values()), strict=True):
        assert row.keys() == other.keys()
        np.testing.assert_allclose([*row.values()], [*other.values()], rtol=1e-4)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.discard_after(3)
    yseg.train(config, workdir, quiet=True)
    assert numbers_of(workdir) == runs[2][1]
    for leaf, other in zip(jax.tree.leaves(load_state(workdir, config)), jax.tree.leaves(runs[2][0]), strict=True):
        np.testing.assert_array_equal(leaf, other)


@pytest.mark.parametrize(("reader", "at_once"), [("resident", 1), ("resident", 2), ("streaming", 1)])
def test_no_step_takes_anything_from_the_host_but_what_is_sent_ahead(tmp_path, monkeypatch, reader, at_once):
    """On an accelerator it would be waited for. What batches send is asked for explicitly, and goes while a step is computed."""
    calls = []

    def guarded(make):
        def made(*arguments):
            function = make(*arguments)

            def call(*given):
                calls.append(make.__name__)
                with jax.transfer_guard("disallow"):
                    return function(*given)

            return call

        return made

    def guarded_batch(self, step):
        with jax.transfer_guard_host_to_device("disallow"):
            return batch(self, step)

    batch = ResidentReader.batch
    monkeypatch.setattr(ResidentReader, "batch", guarded_batch)  # the other draws on the CPU, from the host
    for make in (parallel.map_step, parallel.map_steps):
        monkeypatch.setattr(parallel, make.__name__, guarded(make))
    config = experiment(method="dann", sampling=Sampling(patch_size=16, batch_size=2, reader=reader, steps_at_once=at_once),
                        optimizer=Optimizer(steps=5, warmup_steps=1), record=Record(log_every=5, validate_every=0, images=0))
    yseg.train(config, tmp_path, quiet=True)
    assert calls.count("map_steps") == (2 if at_once == 2 else 0)
    assert calls.count("map_step") >= (1 if at_once == 2 else 5)  # the target's statistics are steps, too


def numbers_of(workdir):
    return [{name: value for name, value in row.items() if name not in ("images_per_second", "validation_iou")}
            for row in read_metrics(workdir)]
