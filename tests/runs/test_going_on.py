"""yseg.runs.going_on: what may be other when a run goes on; and runs that do."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import domain, experiment

import yseg
from yseg.config import METHODS, InputError, Optimizer, Record, Sampling, SelfTraining, TargetLabels, knobs
from yseg.runs.folder import CHANGES, load_state, read_config
from yseg.runs.going_on import changed_knobs, check_going_on, depends_on_length, how_it_goes_on
from yseg.runs.resolve import resolve

WORKDIR = Path("runs/a")
ALLOWED = {"name", "data_dir", "source.dataset", "source.image", "source.labels", "target.dataset", "target.image",
           "target.labels", "target.foreground", "target.unlabelled", "target_labels.start", "self_training.start",
           "sampling.reader", "sampling.resident_limit_gib", "record.log_every", "record.validate_every",
           "record.checkpoint_every", "record.keep_checkpoints", "record.images"}


def changed(config, knob, value):
    """A config with another value of a knob, such as "optimizer.steps"."""
    group, _, name = knob.rpartition(".")
    if not group:
        return dataclasses.replace(config, **{name: value})
    return dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **{name: value})})


def other(value):
    """A value of the same type that differs."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, (int, float)) else (*value, 1.0) if isinstance(value, tuple) else f"{value}x"


@pytest.mark.parametrize("knob", [flag.lstrip(".") for flag, *_ in knobs(experiment(), "")])
def test_what_changes_what_is_learnt_is_refused_and_what_does_not_is_allowed(knob):
    before = dataclasses.replace(resolve(experiment()), method="self_training")
    value = next(value for flag, _, _, value in knobs(before, "") if flag.lstrip(".") == knob)
    now = changed(before, knob, 1.5 if value is None else other(value))
    assert list(changed_knobs(before, now)) == [knob]
    if knob in ALLOWED:
        check_going_on(before, now, WORKDIR, more_steps=False)
        return
    with pytest.raises(InputError, match=rf"^--workdir=runs/a: holds a run with {knob}=.*, which differs from {knob}="):
        check_going_on(before, now, WORKDIR, more_steps=False)


def test_knobs_of_a_second_stage_are_none_of_a_run_that_is_no_such_one():
    before = resolve(experiment())
    check_going_on(before, changed(before, "self_training.memory", 0.25), WORKDIR, more_steps=False)


@pytest.mark.parametrize(("steps", "allowed"), [(5, True), (4, True), (3, False)])
def test_more_steps_are_allowed_on_demand_and_fewer_never(steps, allowed):
    before = resolve(experiment())
    now = changed(before, "optimizer.steps", steps)
    if allowed:
        check_going_on(before, now, WORKDIR, more_steps=True)
    else:
        with pytest.raises(InputError, match=r"optimizer\.steps=4, which differs from optimizer\.steps=3; must be at least that"):
            check_going_on(before, now, WORKDIR, more_steps=True)
    if steps != 4:
        with pytest.raises(InputError, match=f"optimizer.steps=4, which differs from optimizer.steps={steps}; must be that"):
            check_going_on(before, now, WORKDIR, more_steps=False)


def test_a_warm_up_may_change_with_the_number_of_steps_only():
    before = resolve(experiment())
    longer = changed(changed(before, "optimizer.steps", 40), "optimizer.warmup_steps", 4)
    check_going_on(before, longer, WORKDIR, more_steps=True)
    with pytest.raises(InputError, match=r"optimizer\.warmup_steps"):
        check_going_on(before, changed(before, "optimizer.warmup_steps", 4), WORKDIR, more_steps=True)


def test_labels_of_the_target_that_are_trained_on_mean_the_same_as_before():
    before = resolve(experiment(target_labels=TargetLabels("joint", 0.5)))
    check_going_on(before, changed(before, "target.labels", "/moved.tif"), WORKDIR, more_steps=False)
    for knob in ("target.foreground", "target.unlabelled"):
        with pytest.raises(InputError, match=knob):
            check_going_on(before, changed(before, knob, "==2"), WORKDIR, more_steps=False)


def test_what_a_call_holds_stays_where_several_steps_share_one():
    before = resolve(experiment(sampling=Sampling(patch_size=16, batch_size=2, steps_at_once=2)))
    with pytest.raises(InputError, match=r"record\.log_every"):
        check_going_on(before, changed(before, "record.log_every", 10), WORKDIR, more_steps=False)
    check_going_on(before, changed(before, "record.images", 1), WORKDIR, more_steps=False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schedule", ["constant", "exponential", "cosine"])
def test_the_line_says_whether_more_steps_are_worth_as_many_in_one_go(method, schedule):
    config = experiment(method=method, optimizer=Optimizer(steps=9, schedule=schedule))
    said = how_it_goes_on({"optimizer.steps": (4, 9)}, config, 4)
    assert said.startswith("goes on with optimizer.steps=9 (before: 4); ")
    honest = schedule != "cosine" and method != "dann"
    assert said.endswith("the result is that of 9 steps in one go") == honest
    assert said.endswith("the result is not that of 9 steps in one go") == (not honest) == depends_on_length(config)


# --- Runs ---


def state_bytes(workdir):
    return [leaf.tobytes() for leaf in jax.tree.leaves(load_state(workdir, read_config(workdir)))]


@pytest.mark.slow
def test_a_run_goes_on_with_more_steps_another_name_and_record_and_moved_data(tmp_path, capfd):
    def config(steps, **fields):
        return experiment(**{"optimizer": Optimizer(steps=steps, warmup_steps=1, schedule="constant")} | fields)

    yseg.train(config(3), tmp_path / "run", quiet=True)
    record = Record(log_every=1, validate_every=0, checkpoint_every=2, images=0)
    longer = config(6, name="longer", record=record, target=domain("target", labels="", foreground="", test_fraction=0.3))
    with pytest.raises(InputError, match=r"optimizer\.steps=3, which differs"):
        yseg.train(longer, tmp_path / "run", quiet=True)
    yseg.train(longer, tmp_path / "run", more_steps=True)
    assert "goes on with name=longer (before: experiment)" in capfd.readouterr().err
    yseg.train(config(6), tmp_path / "whole", quiet=True)
    assert state_bytes(tmp_path / "run") == state_bytes(tmp_path / "whole")
    (change,) = map(json.loads, (tmp_path / "run" / CHANGES).read_text().splitlines())
    assert (change["step"], change["optimizer.steps"], change["record.log_every"]) == (3, [3, 6], [20, 1])
    assert read_config(tmp_path / "run").name == "longer"


@pytest.mark.slow
def test_more_steps_of_a_self_training_are_chosen_anew_and_its_first_stage_stays(tmp_path):
    def config(first, second):
        return experiment(method="self_training", optimizer=Optimizer(steps=first, warmup_steps=0),
                          self_training=SelfTraining(steps=second, renew_every=2))

    yseg.train(config(2, 2), tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "choice.json").read_bytes()
    first = state_bytes(tmp_path / "run" / "first_stage")
    with pytest.raises(InputError, match=r"first_stage: holds a run with optimizer\.steps=2, .* must be that to continue"):
        yseg.train(config(3, 2), tmp_path / "run", quiet=True, more_steps=True)
    last = yseg.train(config(2, 4), tmp_path / "run", quiet=True, more_steps=True)
    assert last["step"] == 4
    assert "choice" in last
    assert (tmp_path / "run" / "choice.json").read_bytes() != before
    assert state_bytes(tmp_path / "run" / "first_stage") == first
    assert not np.array_equal(state_bytes(tmp_path / "run"), first)
    (tmp_path / "run").rename(tmp_path / "moved")  # with the first stage in it
    assert yseg.evaluate(tmp_path / "moved", adapted=False, quiet=True)["step"] == 2
