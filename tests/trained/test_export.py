"""What an exported network says of the target labels that it was trained on."""

import json

import pytest
from tiny import domain, experiment

import yseg
from yseg.config import JOINT, Optimizer, TargetLabels
from yseg.data.target_labels import fraction_seen
from yseg.runs.resolve import resolve
from yseg.runs.stages import finetuning, supervised


def short(**fields):
    """A run of one step; its target has ten sections, so that shares are whole sections."""
    return experiment(**{"target": domain("target", sections=10, test_fraction=0.3),
                         "optimizer": Optimizer(steps=1, warmup_steps=0)} | fields)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs: joint, with 15 % of the target's labels; tuned from it, on 10 % of another seed."""
    folder = tmp_path_factory.mktemp("runs")
    yseg.train(short(target_labels=TargetLabels(use=JOINT, fraction=0.15)), folder / "joint", quiet=True)
    yseg.finetune(folder / "joint", folder / "tuned", 0.1, steps=1, seed=1, quiet=True)
    return folder


def exported_share(workdir, folder):
    """share_of_target_labels of the model.json of a run; it is what the loaded network says."""
    model = yseg.export(workdir, folder / "model")
    share = json.loads((folder / "model" / "model.json").read_text())["provenance"]["share_of_target_labels"]
    assert yseg.load_model(model).provenance["share_of_target_labels"] == share
    return share


def test_of_a_joint_training_it_is_its_share(runs, tmp_path):
    assert exported_share(runs / "joint", tmp_path) == 0.15


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_of_a_fine_tuning_it_is_its_own(tmp_path, fraction):
    yseg.train(short(), tmp_path / "start", quiet=True)
    assert exported_share(tmp_path / "start", tmp_path / "before") == 0
    yseg.finetune(tmp_path / "start", tmp_path / "run", fraction, steps=1, quiet=True)
    assert exported_share(tmp_path / "run", tmp_path) == fraction


def test_of_an_oracle_it_is_what_it_was_given(tmp_path):
    yseg.train(supervised(resolve(short()), 0.6), tmp_path / "run", quiet=True)
    assert exported_share(tmp_path / "run", tmp_path) == 0.6


def test_of_a_joint_training_that_was_fine_tuned_on_another_seed_it_is_the_sum(runs, tmp_path):
    assert exported_share(runs / "tuned", tmp_path) == pytest.approx(0.25)


@pytest.mark.parametrize(("start", "fraction", "seed", "share"), [
    ("joint", 0.1, 0, 0.15),  # of one seed a smaller share lies in a larger one
    ("joint", 0.4, 0, 0.4),
    ("joint", 0.4, 1, 0.55),  # of another seed they may have nothing in common
    ("joint", 0.9, 1, 1.0),
    ("tuned", 0.1, 1, 0.25),
    ("tuned", 0.2, 1, 0.35),  # 15 % of seed 0, and 20 % of seed 1
    ("tuned", 0.2, 2, 0.45),
])
def test_of_one_run_after_another_it_is_all_that_they_may_have_seen(runs, start, fraction, seed, share):
    config = finetuning(runs / start, fraction, seed=seed)
    assert fraction_seen(config.target_labels) == pytest.approx(share)
