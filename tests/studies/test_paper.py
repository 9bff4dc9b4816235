"""The runs of a table and a figure: planned, continued after a kill, and summarised."""

import csv
import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import program
from launch import reproduce as launcher
from yseg.config import (
    JOINT,
    METHODS,
    NONE,
    ONLY,
    Domain,
    Experiment,
    Inference,
    InputError,
    Model,
    Optimizer,
    Record,
    Sampling,
    no_augmentation,
)
from yseg.runs.resolve import resolve
from yseg.studies import paper
from yseg.studies.paper import execute, plan, summarise, with_budget
from yseg.studies.paper_figures import figure3, figure4

DEMO = Path(__file__).parents[2] / "configs" / "demo.py"


def tiny(method):
    def domain(name, **fields):
        image, labels = (f"phantom://{name}/{content}?shape=3,64,96&seed=2" for content in ("image", "labels"))
        return Domain(image=image, labels=labels, foreground=">0", pixel_size_nm=10.0, **fields)

    return resolve(Experiment(
        name=f"tiny, {method}", method=method, source=domain("source", validation_fraction=0.3),
        target=domain("target", test_fraction=0.3), sampling=Sampling(patch_size=16, batch_size=2),
        augmentation=no_augmentation(), model=Model(levels=1, features=4), optimizer=Optimizer(steps=4, warmup_steps=1),
        inference=Inference(tile_size=64, overlap=4), record=Record(validate_every=0, images=0)))


def few(experiment):
    """The runs of a method, and the oracle or its fine-tuning."""
    runs = plan(experiment, {method: tiny(method) for method in METHODS}, seeds=[0], fractions=[0.5])
    return [run for run in runs if run.method in ("coral", "oracle")]


CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
from test_paper import few
from yseg.studies.paper import execute
execute(few("table1"), sys.argv[1], 2, quiet=True)
"""


@pytest.mark.slow
def test_killed_in_the_middle_and_continued_it_writes_the_same_results(tmp_path):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "killed"), str(Path(__file__).parent)]
    results = tmp_path / "killed" / "results.csv"
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while child.poll() is None and not results.exists():
        time.sleep(0.01)
    time.sleep(0.5)  # into the next run
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it ended before it could be killed"
    before = results.stat().st_mtime_ns
    told = []
    rows = execute(few("table1"), tmp_path / "killed", 2, tell=told.append, quiet=True)
    assert told[0] == "1/2 coral_seed0: done before"
    assert results.stat().st_mtime_ns > before
    execute(few("table1"), tmp_path / "whole", 2, tell=told.append, quiet=True)
    assert results.read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()
    with open(results, newline="") as file:
        written = list(csv.DictReader(file))
    assert [(row["method"], row["batch_statistics"]) for row in written] == [
        *[("coral", statistics) for statistics in ("training", "target", "target", "target")], *[("oracle", "training")] * 2]
    assert [row["threshold_rule"] for row in written] == ["fixed", "fixed", "matched", "fixed", "fixed", "fixed"]
    assert [row["views"] for row in written] == ["1", "1", "1", "8", "1", "8"]
    with open(tmp_path / "killed" / "costs.csv", newline="") as file:
        costs = list(csv.DictReader(file))
    assert [row["run"] for row in costs] == ["coral_seed0", "oracle_seed0"]
    assert all(float(row["step_memory_mib"]) > 0 for row in costs)
    table = summarise("table1", few("table1"), rows, tmp_path / "killed")
    assert "CORAL" in table
    assert "paper" not in (tmp_path / "killed" / "table1.md").read_text()  # its figures are those of other volumes

    tuned = execute(few("figure3"), tmp_path / "killed", 2, tell=told.append, quiet=True)  # shares the runs of the table
    with open(results, newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == [*["oracle"] * 2, *["coral"] * 5]
    assert [line.rsplit(": ")[1] for line in told[-2:]] == ["done before", "training"]
    assert [row["fraction"] for row in tuned] == [None] * 4 + [0.5]
    assert figure3(tuned, tmp_path / "figure3.png").read_bytes().startswith(b"\x89PNG")
    assert figure4(few("figure3"), tmp_path / "killed").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"with optimizer\.steps=2, which differs from optimizer\.steps=3"):
        execute(few("figure3"), tmp_path / "killed", 3, tell=told.append, quiet=True)

    judged = plan("criteria", {method: tiny(method) for method in METHODS}, seeds=[0], methods=["coral", "ft"])
    rows = execute(judged, tmp_path / "killed", 2, tell=told.append, quiet=True)
    assert [line.rsplit(": ")[1] for line in told[-2:]] == ["done before", "training"]
    assert "test labels" in summarise("criteria", judged, rows, tmp_path / "killed")
    with open(tmp_path / "killed" / "criteria.csv", newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["coral", "ft"]


def test_the_table_has_every_method_and_the_oracle_for_every_seed():
    configs = {method: tiny(method) for method in METHODS}
    runs = plan("table1", configs, seeds=[3, 5])
    starts = [name for name in METHODS if name != "self_training"]
    names = [*starts, *(f"{name}_adapted" for name in starts), "ynet", "joint", "oracle"]  # ynet once more, fine-tuned
    assert [(run.method, run.seed) for run in runs] == [(name, seed) for seed in (3, 5) for name in names]
    assert [run.name for run in runs if run.fraction] == ["ynet_seed3_0.15", "ynet_seed5_0.15"]
    assert [run.start for run in runs if run.method == "mmd_adapted"] == ["mmd_seed3", "mmd_seed5"]
    runs = [run for run in runs if not run.start]
    assert all(run.config.seed == run.seed for run in runs)
    same = [dataclasses.replace(run.config, name="", method="ft", seed=0, adaptation=configs["ft"].adaptation,
                                target_labels=configs["ft"].target_labels, model=configs["ft"].model) for run in runs]
    assert all(config == same[0] for config in same)  # data, augmentation, steps, ...
    for run in runs:
        assert run.config.target_labels.use == {"joint": JOINT, "oracle": ONLY}.get(run.method, NONE)
        assert run.config.model == dataclasses.replace(
            configs["ft"].model, batch_statistics="training" if run.method == "oracle" else "target")
    assert {run.config.target_labels.fraction for run in runs if run.method == "joint"} == {0.15}
    joint = [run.config.target_labels.boxes for run in runs if run.method == "joint"]
    assert all(joint)
    assert joint[0] != joint[1]  # each seed chooses its own
    with pytest.raises(InputError, match=r"--fractions=1\.5: must be"):
        plan("figure3", configs, [0], fractions=[1.5])
    with pytest.raises(InputError, match=r"^--methods=unet: must be some of ft, mmd"):
        plan("table1", configs, [0], methods=["ft", "unet"])
    with pytest.raises(InputError, match=r"^--methods=ft: must be two at least for criteria"):
        plan("criteria", configs, [0], methods=["ft"])
    few_methods = plan("table1", configs, [0], methods=["ft", "dann"])
    assert [run.method for run in few_methods] == ["ft", "dann", "oracle"]
    unlabelled = plan("table1", configs, [0], methods=["ft", "ynet"], labelled_rows=False)
    assert [(run.method, run.fraction) for run in unlabelled] == [("ft", None), ("ynet", None)]
    adapted = plan("table1", configs, [0], methods=["ft", "self_training"], labelled_rows=False)
    assert [(run.name, run.start) for run in adapted] == [("ft_seed0", None), ("ft_adapted_seed0", "ft_seed0")]
    with pytest.raises(InputError, match="--methods=self_training: must be with those"):
        plan("table1", configs, [0], methods=["self_training"])
    with pytest.raises(InputError, match="--experiment=table2: must be one of table1, figure1, figure3, figure4, criteria"):
        plan("table2", configs, [0])


@pytest.mark.parametrize("budget", ["smoke", "quick", "cpu", "gpu"])
def test_a_budget_is_the_same_for_every_method_and_valid(budget):
    values = program.parse(launcher.PROGRAM, ["reproduce", f"--config={DEMO}", "--out=unused", f"--budget={budget}"])
    assert list(values.config) == list(METHODS)
    configs = [resolve(with_budget(config, budget)) for config in values.config.values()]
    assert len({(str(config.sampling), str(config.optimizer)) for config in configs}) == 1


@pytest.mark.parametrize(("flag", "named"), [
    (f"--config={DEMO}:ynet", "must be FILE.py without a method"),
    ("--budget=huge", "--budget=huge"),
])
def test_wrong_flags_are_named(flag, named):
    argv = ["reproduce", *([] if flag.startswith("--config") else [f"--config={DEMO}"]), "--out=unused", flag]
    with pytest.raises(InputError, match=named):
        program.parse(launcher.PROGRAM, argv)


def test_seeds_that_are_no_numbers_are_named():
    assert program.numbers("seeds", ["0", "7"], int) == [0, 7]
    for texts in (["a"], ["-1"], ["0.5"], []):
        with pytest.raises(InputError, match=f"--seeds={','.join(texts)}: must be whole numbers"):
            program.numbers("seeds", texts, int)
    with pytest.raises(InputError, match="--seeds=1,01: must differ"):
        program.numbers("seeds", ["1", "01"], int)


def test_the_cost_is_told_before(tmp_path):
    runs = few("figure3")
    assert paper.cost(runs, tmp_path) == "2 runs, 2 to do: 1 trainings of 4 steps together, 1 that go on from others"
    assert not list(tmp_path.iterdir())


def test_criteria_are_compared_over_the_unsupervised_runs():
    configs = {method: tiny(method) for method in METHODS}
    assert [(run.method, run.fraction) for run in plan("criteria", configs, [0])] == [(method, None) for method in METHODS]
    strange = {method: dataclasses.replace(config, model=dataclasses.replace(config.model, batch_statistics="mixed"))
               for method, config in configs.items()}
    with pytest.raises(InputError, match=r"^model\.batch_statistics=mixed: must be target"):
        plan("criteria", strange, [0])
