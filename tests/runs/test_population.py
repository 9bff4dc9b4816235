"""Several trainings at once end as each would alone."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import experiment

import yseg
from yseg.config import Adaptation, Optimizer, Record, no_augmentation
from yseg.runs.folder import load_state
from yseg.runs.population import differing, train_population
from yseg.training.checkpoint import Checkpoints
from yseg.training.recorder import read_metrics


def members():
    """Runs that differ in seed, learning rate and weight, by SGD, which hides no wrong factor."""
    base = experiment(method="coral", augmentation=no_augmentation(),
                      record=Record(log_every=1, validate_every=3, checkpoint_every=3, images=0),
                      optimizer=Optimizer(name="sgd", momentum=0.9, steps=5, warmup_steps=1, learning_rate=0.05))
    return [dataclasses.replace(base, seed=seed, adaptation=Adaptation(weight=weight),
                                optimizer=dataclasses.replace(base.optimizer, learning_rate=rate))
            for seed, rate, weight in ((0, 0.05, 1.0), (1, 0.02, 1.0), (0, 0.05, 30.0))]


def numbers_of(workdir):
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in read_metrics(workdir)]


def assert_close(rows, others):
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        np.testing.assert_allclose([*row.values()], [*other.values()], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_each_member_ends_as_its_own_training_also_after_an_interruption(tmp_path):
    configs = members()
    assert set(differing(configs)) == {"--config.seed", "--config.optimizer.learning_rate", "--config.adaptation.weight"}
    workdirs = [tmp_path / "together" / str(number) for number in range(3)]
    list(train_population(configs, workdirs, together=True, quiet=True))
    # As if it had been killed while the members wrote their last checkpoints: one has it, the others have not.
    for workdir in workdirs[1:]:
        with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
            checkpoints.discard_after(3)
    before = [numbers_of(workdir) for workdir in workdirs]
    list(train_population(configs, workdirs, together=True, quiet=True))
    assert numbers_of(workdirs[0]) == before[0]  # it had come to its end
    for workdir, rows in zip(workdirs, before, strict=True):
        assert_close(numbers_of(workdir), rows)
    alone = list(train_population(configs, [tmp_path / "alone" / str(number) for number in range(3)], together=False, quiet=True))
    for config, workdir, single in zip(configs, workdirs, alone, strict=True):
        mine, reference = (load_state(each, config) for each in (workdir, single["workdir"]))
        for leaf, other in zip(jax.tree.leaves(mine), jax.tree.leaves(reference), strict=True):
            np.testing.assert_allclose(leaf, other, rtol=1e-3, atol=1e-5)
        assert_close(numbers_of(workdir), numbers_of(single["workdir"]))
    first, *others = (jax.tree.leaves(load_state(workdir, configs[0]).params) for workdir in workdirs)
    assert all(np.abs(np.concatenate([np.ravel(a - b) for a, b in zip(first, other, strict=True)])).max() > 1e-3
               for other in others)


@pytest.mark.slow
def test_members_that_were_interrupted_at_different_steps_go_on_from_the_last_that_they_share(tmp_path):
    configs, workdirs = members()[:2], [tmp_path / "a", tmp_path / "b"]
    list(train_population(configs, workdirs, together=True, quiet=True))
    whole = [numbers_of(workdir) for workdir in workdirs]
    for workdir, last in zip(workdirs, (3, None), strict=True):
        with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
            checkpoints.discard_after(last)
    list(train_population(configs, workdirs, together=True, quiet=True))
    for workdir, rows in zip(workdirs, whole, strict=True):
        assert_close(numbers_of(workdir), rows)
    for workdir in workdirs:
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            assert checkpoints.steps == {3, 5}


def test_what_cannot_differ_is_named_before_anything_is_written(tmp_path):
    configs = [experiment(), experiment(seed=1, method="coral")]
    with pytest.raises(yseg.InputError, match=r"--config\.method: must be the same for all runs"):
        train_population(configs, [tmp_path / "a", tmp_path / "b"], together=True)
    assert not list(tmp_path.iterdir())
