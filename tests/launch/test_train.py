"""Training with several seeds."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from tiny import experiment

import yseg
from launch import train
from launch.train import members
from yseg.runs.folder import load_state


def test_without_seeds_there_is_one_run_in_the_workdir_itself():
    config = experiment(seed=7)
    assert members(config, "runs/a", []) == [(config, "runs/a")]


@pytest.mark.parametrize("seeds", [["0", "0"], ["a"], ["-1"], ["1.5"]])
def test_seeds_that_make_no_sense_are_named(seeds):
    with pytest.raises(yseg.InputError, match=f"--seeds={','.join(seeds)}: must"):
        members(experiment(), "runs/a", seeds)


@pytest.mark.slow
def test_each_seed_has_a_run_that_equals_its_own_training(tmp_path):
    config = experiment()
    given = {"config": config, "workdir": tmp_path / "all", "multihost": False, "together": None, "budget": "full",
             "tracker": None, "coordinator": None, "processes": None, "process": None}
    train.main(types.SimpleNamespace(**given, seeds=["1", "2"]))
    yseg.train(dataclasses.replace(config, seed=2), tmp_path / "alone", quiet=True)
    first, second, alone = (load_state(tmp_path / name, config).params for name in ("all/seed1", "all/seed2", "alone"))
    jax.tree.map(np.testing.assert_array_equal, second, alone)
    assert not np.array_equal(*(jax.tree.leaves(params)[-1] for params in (first, second)))
    (tmp_path / "all" / "seed4").mkdir()
    (tmp_path / "all" / "seed4" / "notes.txt").touch()
    with pytest.raises(yseg.InputError, match="seed4: is not empty"):
        train.main(types.SimpleNamespace(**given, seeds=["3", "4"]))
    assert not (tmp_path / "all" / "seed3").exists()
