"""What makes a training ready to begin, and what stops it before anything is written."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import domain, experiment

import yseg
from yseg.config import METHODS, Inference, InputError, Model, Optimizer, Sampling
from yseg.data.patches import ResidentReader, StreamingReader
from yseg.runs.folder import load_state, read_config
from yseg.runs.resolve import resolve
from yseg.runs.session import initial_state, prepare, several_steps
from yseg.runs.stages import finetuning


def at_once(count, **fields):
    """Sampling with several steps in one call."""
    return Sampling(patch_size=16, batch_size=2, steps_at_once=count, **fields)


def test_several_steps_at_once_are_refused_where_volumes_are_too_large_to_be_resident(tmp_path):
    config = experiment(sampling=at_once(2, resident_limit_gib=1e-6))
    for begin in (prepare, yseg.train):
        with pytest.raises(InputError, match=r"^sampling\.steps_at_once=2: must be 1, as the volumes are larger than"
                           r" sampling\.resident_limit_gib=1e-06 and are read as needed$"):
            begin(config, tmp_path / "run")
    assert not list(tmp_path.iterdir())
    assert isinstance(prepare(experiment(sampling=at_once(1, resident_limit_gib=1e-6)), tmp_path / "run").reader, StreamingReader)
    assert isinstance(prepare(experiment(sampling=at_once(2)), tmp_path / "run").reader, ResidentReader)


@pytest.mark.parametrize("method", METHODS)
def test_to_prepare_a_training_writes_nothing_and_reads_what_the_method_is_entitled_to(method, tmp_path):
    prepared = prepare(experiment(method=method), tmp_path / "run")
    assert not list(tmp_path.iterdir())
    assert prepared.config == resolve(experiment(method=method))
    raw = prepared.reader.batch(0)
    assert ("target" in raw) == (method != "ft")
    assert not {"joint", "joint_labels"} & set(raw)
    assert prepared.domains.target.labels is None


def test_only_a_joint_training_reads_labels_of_the_target_beside_those_of_the_source(tmp_path):
    labels = yseg.TargetLabels(use="joint", fraction=0.4)
    prepared = prepare(experiment(method="coral", target_labels=labels), tmp_path / "run")
    raw = prepared.reader.batch(0)
    assert {"labelled", "labels", "target", "joint", "joint_labels"} <= set(raw)
    assert prepared.domains.target.labels is None
    assert prepared.domains.joint.labels is not None


def test_a_tile_that_is_too_small_is_found_before_the_training(tmp_path):
    with pytest.raises(InputError, match=r"^inference\.tile_size=16: must be at least"):
        prepare(experiment(inference=Inference(tile_size=16, overlap=4)), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_one_step_in_a_call_needs_no_program_of_its_own(tmp_path):
    config = resolve(experiment())
    assert several_steps(config, prepare(config, tmp_path / "run").reader) is None


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The workdir of a run with what only its method needs."""
    workdir = tmp_path_factory.mktemp("runs") / "dann"
    yseg.train(experiment(method="dann", optimizer=Optimizer(steps=1, warmup_steps=0)), workdir, quiet=True)
    return workdir


def test_a_fine_tuning_starts_with_the_network_and_the_statistics_that_the_run_uses_on_the_target(start):
    config = finetuning(start, 0.5, steps=2)
    state, trained = initial_state(config, jax.random.key(5)), load_state(start, read_config(start))
    assert set(state.params) == {"network"}
    np.testing.assert_equal(state.params["network"], trained.params["network"])
    np.testing.assert_equal(state.batch_stats, trained.target_stats)
    assert state.step == 0


def test_a_start_with_another_network_or_before_its_end_is_refused(start, tmp_path):
    config = finetuning(start, 0.5, steps=2)
    other = dataclasses.replace(config, model=Model(levels=1, features=8))
    with pytest.raises(InputError, match=f"^--from={start}: must hold a network with the same model$"):
        initial_state(other, jax.random.key(0))
    text = (start / "config.json").read_text()
    (tmp_path / "checkpoints").symlink_to(start / "checkpoints")
    (tmp_path / "config.json").write_text(text.replace('"steps": 1,', '"steps": 9,'))
    with pytest.raises(InputError, match="is at step 1 of 9; must be a run that was trained to its end"):
        initial_state(dataclasses.replace(config, target_labels=dataclasses.replace(config.target_labels, start=str(tmp_path))),
                      jax.random.key(0))


def test_a_training_beside_another_has_its_own_draws_and_start_and_the_same_volumes(tmp_path):
    first = prepare(experiment(), tmp_path / "a")
    second, alone = (prepare(experiment(seed=1), tmp_path / "b", beside=beside) for beside in (first, None))
    assert second.domains is first.domains is not alone.domains
    for prepared in (second, alone):
        assert (np.asarray(prepared.reader.batch(0)["labelled"]) != np.asarray(first.reader.batch(0)["labelled"])).any()
    for name, values in second.reader.batch(3).items():
        np.testing.assert_array_equal(values, alone.reader.batch(3)[name])
    np.testing.assert_equal(second.start.params, alone.start.params)


def test_a_workdir_of_another_run_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="is not empty and holds no run"):
        prepare(experiment(source=domain("source")), tmp_path)
