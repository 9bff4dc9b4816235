"""Several trainings at once end as each would alone."""

import dataclasses
import gc
import shutil

import jax
import numpy as np
import pytest
from tiny import experiment

import yseg
from yseg.config import Adaptation, Optimizer, Record, Sampling, no_augmentation
from yseg.data import domain
from yseg.runs.folder import load_state
from yseg.runs.population import differing, train_population
from yseg.runs.session import prepare
from yseg.training.checkpoint import Checkpoints
from yseg.training.recorder import read_metrics


def members():
    """Runs that differ in seed, learning rate and weight, by SGD, which hides no wrong factor."""
    base = experiment(method="coral", augmentation=no_augmentation(),
                      record=Record(log_every=1, validate_every=3, checkpoint_every=3, images=0),
                      optimizer=Optimizer(name="sgd", momentum=0.9, steps=5, warmup_steps=1, learning_rate=0.05))
    return [dataclasses.replace(base, seed=seed, adaptation=Adaptation(weight=weight),
                                optimizer=dataclasses.replace(base.optimizer, learning_rate=rate))
            for seed, rate, weight in ((0, 0.05, 1.0), (1, 0.02, 30.0))]


def numbers_of(workdir):
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in read_metrics(workdir)]


def assert_close(rows, others):
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        np.testing.assert_allclose([*row.values()], [*other.values()], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The folder of two members that were trained together, 0 and 1 in it."""
    folder = tmp_path_factory.mktemp("together")
    list(train_population(members(), [folder / "0", folder / "1"], together=True, quiet=True))
    return folder


@pytest.mark.slow
def test_each_member_ends_as_its_own_training_also_after_an_interruption(together, tmp_path):
    configs = members()
    assert set(differing(configs)) == {"seed", "optimizer.learning_rate", "adaptation.weight"}
    workdirs = [shutil.copytree(together / str(number), tmp_path / "together" / str(number)) for number in range(2)]
    # As if it had been killed while the members wrote their last checkpoints: one has it, the others have not.
    for workdir in workdirs[1:]:
        with Checkpoints(workdir / "checkpoints", keep=2) as checkpoints:
            checkpoints.discard_after(3)
    before = [numbers_of(workdir) for workdir in workdirs]
    list(train_population(configs, workdirs, together=True, quiet=True))
    assert numbers_of(workdirs[0]) == before[0]  # it had come to its end
    for workdir, rows in zip(workdirs, before, strict=True):
        assert_close(numbers_of(workdir), rows)
    alone = list(train_population(configs, [tmp_path / "alone" / str(number) for number in range(2)], together=False, quiet=True))
    for config, workdir, single in zip(configs, workdirs, alone, strict=True):
        mine, reference = (load_state(each, config) for each in (workdir, single["workdir"]))
        for leaf, other in zip(jax.tree.leaves(mine), jax.tree.leaves(reference), strict=True):
            np.testing.assert_allclose(leaf, other, rtol=1e-3, atol=1e-5)
        assert_close(numbers_of(workdir), numbers_of(single["workdir"]))
    first, *others = (jax.tree.leaves(load_state(workdir, configs[0]).params) for workdir in workdirs)
    assert all(np.abs(np.concatenate([np.ravel(a - b) for a, b in zip(first, other, strict=True)])).max() > 1e-3
               for other in others)


@pytest.mark.slow
def test_members_that_were_interrupted_at_different_steps_go_on_from_the_last_that_they_share(together, tmp_path):
    configs, workdirs = members(), [shutil.copytree(together / str(number), tmp_path / str(number)) for number in range(2)]
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
    with pytest.raises(yseg.InputError, match=r"^method: must be the same for all runs"):
        train_population(configs, [tmp_path / "a", tmp_path / "b"], together=True)
    assert not list(tmp_path.iterdir())


def test_several_steps_at_once_are_refused_for_members_that_step_together(tmp_path):
    configs = [experiment(seed=seed, sampling=Sampling(patch_size=16, batch_size=2, steps_at_once=2)) for seed in (0, 1)]
    with pytest.raises(yseg.InputError, match=r"^sampling\.steps_at_once=2: must be 1 for runs that are trained at once$"):
        train_population(configs, [tmp_path / "a", tmp_path / "b"], together=True)
    assert not list(tmp_path.iterdir())


def images_on_devices():
    """How many volumes of grey levels are on the devices; labels are of another type."""
    gc.collect()
    return sum(array.ndim == 3 and array.dtype == np.uint8 for array in jax.live_arrays())


@pytest.mark.parametrize("method", ["ft", "coral"])
def test_members_that_step_together_share_the_volumes_and_the_images_on_the_devices(method, tmp_path):
    before = images_on_devices()
    members = [prepare(experiment(method=method), tmp_path / "0")]
    assert images_on_devices() == before + 2  # one of each domain
    members += [prepare(experiment(method=method, seed=seed), tmp_path / str(seed), beside=members[0]) for seed in (1, 2)]
    for member in members:
        assert member.domains is members[0].domains
        assert all(member.reader.volumes[name] is image for name, image in members[0].reader.images.items())
    assert images_on_devices() == before + 2
    first, second = (member.reader.batch(0)["labelled"] for member in members[:2])
    assert (np.asarray(first) != np.asarray(second)).any()  # each cuts its own patches


def test_members_that_step_together_open_every_volume_once(tmp_path, monkeypatch):
    opened, read_volume = [], domain.read_volume
    monkeypatch.setattr(domain, "read_volume", lambda spec, *more, **how: opened.append(spec) or read_volume(spec, *more, **how))
    configs = [experiment(seed=seed, optimizer=Optimizer(steps=0)) for seed in range(3)]
    runs = list(train_population(configs, [tmp_path / str(seed) for seed in range(3)], together=True, quiet=True))
    assert [run["step"] for run in runs] == [0, 0, 0]
    assert sorted(opened) == sorted(getattr(domain, what) for domain in (configs[0].source, configs[0].target)
                                    for what in ("image", "labels"))
