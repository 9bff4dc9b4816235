"""The paper's table and figures as lists of runs: what is missing is trained, what is done is skipped.

    OUT/runs/NAME/                      a run: a method and a seed, and maybe a share of target labels
    OUT/results.csv                     a line for each run and each way it is scored: batch statistics and threshold
    OUT/costs.csv                       what each run took
    OUT/table1.md, OUT/figure1.png, ...     the summaries
    OUT/criteria.csv, OUT/criteria.md       what can be said of each run without target labels, and how well that ranks them

Every method has the same data, augmentation, steps and batch statistics in a row of the table. Labels of the test region are
read by scoring alone.
"""

import csv
import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yseg.config import (
    JOINT,
    MATCHED,
    METHODS,
    SELF_TRAINING,
    Experiment,
    Inference,
    InputError,
    Record,
    ResolvedExperiment,
    TargetLabels,
    quick,
)
from yseg.config_json import to_json
from yseg.experiment import evaluate, train
from yseg.files import write_whole
from yseg.methods import images_per_step
from yseg.report import csv_text, markdown_table
from yseg.runs.folder import check_workdir
from yseg.runs.resolve import resolve
from yseg.runs.stages import adapting, finetuning, last_stage, needs_first_stage, supervised
from yseg.studies.judge import check_judged, judge, ranking
from yseg.studies.paper_figures import figure3, figure4, shift_by_level
from yseg.studies.paper_table import ADAPTED, JOINT_FRACTION, JOINT_METHOD, PLAIN, Scoring, table1, way
from yseg.studies.shift import domain_shift
from yseg.studies.step_memory import step_memory_mib
from yseg.training.recorder import read_metrics

EXPERIMENTS = ("table1", "figure1", "figure3", "figure4", "criteria")
FRACTIONS = (0.05, 0.15, 0.3, 0.6, 1.0)
SHOWN_METHODS, SHOWN_FRACTION = ("ft", "dann", "ynet"), 0.15  # of figure 4
COLUMNS = ("experiment", "method", "seed", "fraction", "batch_statistics", "threshold_rule", "views", "threshold", "iou",
           "precision", "recall", "f1", "object_f1", "validation_iou", "steps", "run")
COST_COLUMNS = ("run", "seconds_per_step", "step_memory_mib")
MEMORY = "step_memory.json"  # in the folder of a run


OWN = (Scoring("training"),)  # of a network that was trained on the target
UNSUPERVISED = (Scoring("training"), Scoring("target"), Scoring("target", MATCHED), Scoring("target", views=8))
SUPERVISED = (Scoring("training"), Scoring("training", views=8))  # of a row that has seen target labels, in the table


class Run(NamedTuple):
    """One training, and how it is scored.

    name: of its folder; method: of METHODS, one of them with ADAPTED, "joint" or "oracle"; seed; fraction: of target labels that
    a fine-tuning of the run `start` uses, None = none, so that the run is adapted; config: what is trained, None if it goes on
    from `start`; scorings.
    """

    name: str
    method: str
    seed: int
    fraction: float | None = None
    start: str | None = None
    config: ResolvedExperiment | None = None
    scorings: tuple[Scoring, ...] = UNSUPERVISED


def with_budget(config: Experiment, budget: str) -> Experiment:
    """The config at a budget: "smoke" = few steps, tiny network; "quick" = fewer steps; "cpu" = as it is; "gpu" = full size.

    Full size is 5 nm, 32 feature maps and 4 poolings as in Roels et al. 2019, with patches of 256 x 256 and 10,000 steps.
    """
    if budget == "smoke":
        return dataclasses.replace(
            config, sampling=dataclasses.replace(config.sampling, patch_size=32, batch_size=2),
            model=dataclasses.replace(config.model, levels=1, features=4), record=Record(validate_every=0, images=0),
            optimizer=dataclasses.replace(config.optimizer, steps=6, warmup_steps=1), inference=Inference(tile_size=128),
            self_training=dataclasses.replace(config.self_training, steps=4, renew_every=2))
    if budget == "gpu":
        return dataclasses.replace(
            config, sampling=dataclasses.replace(config.sampling, working_pixel_size_nm=5.0, patch_size=256),
            model=dataclasses.replace(config.model, levels=4, features=32),
            optimizer=dataclasses.replace(config.optimizer, steps=10000, warmup_steps=200))
    if budget == "quick":
        return quick(config)
    if budget != "cpu":
        raise InputError(f"--budget={budget}: must be one of smoke, quick, cpu, gpu")
    return config


def plan(experiment: str, configs: Mapping[str, ResolvedExperiment], seeds: Sequence[int], *,
         fractions: Sequence[float] = FRACTIONS, methods: Sequence[str] | None = None, labelled_rows: bool = True) -> list[Run]:
    """The runs of an experiment, in the order in which they are trained: seed by seed, so that early results compare all methods.

    Args:
      experiment: of EXPERIMENTS.
      configs: dict from each of METHODS to its resolved `yseg.config.Experiment`, at the budget.
      seeds: of the runs; figures 1 and 4 show the first one alone.
      fractions: of target labels, for figure3.
      methods: of METHODS, for table1, criteria and figure3; None = all. In table1 self-training goes on from each of the others.
      labelled_rows: whether table1 has the rows that train with target labels: the oracle, and, if it is among the methods,
        JOINT_METHOD with a share of them.

    Raises:
      InputError: no such experiment; a target without labels or test box; fractions that make no sense.
    """
    if experiment not in EXPERIMENTS:
        raise InputError(f"--experiment={experiment}: must be one of {', '.join(EXPERIMENTS)}")
    target = configs["ft"].target
    if not target.labels or not target.test_fraction:
        raise InputError("target.labels and target.test_fraction must be given: runs are scored on that part")
    if experiment == "criteria":
        check_judged(configs["ft"])
        if configs["ft"].model.batch_statistics != "target":
            raise InputError(f"model.batch_statistics={configs['ft'].model.batch_statistics}: must be target for"
                             " criteria, which are compared with scores of that kind")
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise InputError(f"--fractions={','.join(map(str, fractions))}: must be above 0 and at most 1")
    unknown = [method for method in methods or () if method not in METHODS]
    if unknown:
        raise InputError(f"--methods={','.join(unknown)}: must be some of {', '.join(METHODS)}")
    if experiment == "table1" and methods and set(methods) == {SELF_TRAINING}:
        raise InputError(f"--methods={SELF_TRAINING}: must be with those that it goes on from, such as ft,{SELF_TRAINING}")
    if experiment == "criteria" and methods and len(set(methods)) < 2:
        raise InputError(f"--methods={methods[0]}: must be two at least for criteria, which rank them")
    runs = []
    methods = {"figure1": ("ft",), "figure4": SHOWN_METHODS}.get(experiment, methods or METHODS)
    fractions = (SHOWN_FRACTION,) if experiment == "figure4" else fractions
    for seed in seeds[:1] if experiment in ("figure1", "figure4") else seeds:
        goes_on = experiment == "table1" and SELF_TRAINING in methods
        starts = [method for method in methods if not (goes_on and method == SELF_TRAINING)]
        runs += [Run(f"{method}_seed{seed}", method, seed, config=dataclasses.replace(configs[method], seed=seed))
                 for method in starts]
        if goes_on:
            runs += [Run(f"{method}{ADAPTED}_seed{seed}", method + ADAPTED, seed, start=f"{method}_seed{seed}")
                     for method in starts]
        if experiment == "table1" and labelled_rows:
            if JOINT_METHOD in methods:
                runs += [_tuned(JOINT_METHOD, seed, JOINT_FRACTION)._replace(scorings=SUPERVISED),
                         _joint(configs[JOINT_METHOD], seed)]
            oracle = supervised(dataclasses.replace(configs["ft"], seed=seed, name="oracle"), 1.0)
            runs.append(Run(f"oracle_seed{seed}", "oracle", seed, config=oracle, scorings=SUPERVISED))
        elif experiment in ("figure3", "figure4"):
            runs += [_tuned(method, seed, fraction) for method in methods for fraction in fractions]
    return runs


def _tuned(method, seed, fraction):
    """A run that is fine-tuned on a share of the target labels."""
    return Run(f"{method}_seed{seed}_{fraction:g}", method, seed, fraction, f"{method}_seed{seed}", None, OWN)


def _joint(config, seed):
    """A run that learns from a share of the target labels from its first step on."""
    labels = TargetLabels(JOINT, JOINT_FRACTION)
    joint = resolve(dataclasses.replace(config, seed=seed, name="joint", target_labels=labels))
    return Run(f"joint_seed{seed}", "joint", seed, config=joint, scorings=(Scoring("target"), Scoring("target", views=8)))


def execute(runs: Sequence[Run], out: str | os.PathLike, tuning_steps: int, *, tell: Callable[[str], Any] = print,
            quiet: bool = False) -> list[dict[str, Any]]:
    """Train and score what is missing; after every run results.csv is written anew.

    Args:
      runs: see `plan`.
      out: the folder of the experiment.
      tuning_steps: of a fine-tuning.
      tell: called with a line about every run.
      quiet: show no progress.

    Returns:
      The rows of results.csv and costs.csv, dicts with COLUMNS, COST_COLUMNS and "counts", [section][tp, fp, fn].
    """
    out = Path(out)
    for run in runs:  # before hours of training: a folder of another config
        workdir = out / "runs" / run.name
        if run.config or workdir.exists():
            check_workdir(_config(run, out, tuning_steps), workdir)
    rows: list[dict[str, Any]] = []
    memories: dict[str, float | None] = {}
    for number, run in enumerate(runs, 1):
        workdir = out / "runs" / run.name
        missing = _missing(run, out)
        done = not missing
        tell(f"{number}/{len(runs)} {run.name}: "
             f"{'done before' if done else 'scoring' if len(missing) < len(run.scorings) else 'training'}")
        if not done:
            train(run.config or _config(run, out, tuning_steps), workdir, quiet)
            for scoring in missing:
                threshold = MATCHED if scoring.threshold == MATCHED else None
                results = evaluate(workdir, threshold=threshold, batch_statistics=scoring.statistics,
                                   test_time_augmentation=scoring.views > 1, quiet=quiet)
                write_whole(scoring.path(workdir), json.dumps(results, allow_nan=False) + "\n")
        if run.config:
            _write_memory(run.config, workdir / MEMORY, memories)
        rows += [_row(run, workdir, scoring) for scoring in run.scorings]
        costs = list({row["run"]: row for row in rows}.values())
        for name, lines, columns in (("results.csv", rows, COLUMNS), ("costs.csv", costs, COST_COLUMNS)):
            write_whole(out / name, _merged(out / name, lines, columns))
    return rows


def _config(run, out, tuning_steps):
    """What a run trains; if it goes on from another run of the folder, once that has been trained."""
    if run.config:
        return last_stage(run.config, out / "runs" / run.name)
    start = out / "runs" / run.start
    return adapting(start) if run.fraction is None else finetuning(start, run.fraction, steps=tuning_steps)


def _missing(run, out):
    """The ways in which a run has not been scored yet; all of them if it has not been trained."""
    return [scoring for scoring in run.scorings if not scoring.path(out / "runs" / run.name).exists()]


def cost(runs: Sequence[Run], out: str | os.PathLike) -> str:
    """A line that says how much is to do: trainings, steps, and hours if some runs are done by whose pace they can be told."""
    out = Path(out)
    untrained = [run for run in runs if len(_missing(run, out)) == len(run.scorings)]
    unscored = [run for run in runs if run not in untrained and _missing(run, out)]
    steps = [(run.method, run.config.optimizer.steps + needs_first_stage(run.config) * run.config.self_training.steps)
             for run in untrained if run.config]
    line = f"{len(runs)} runs, {len(untrained) + len(unscored)} to do: {len(steps)} trainings of" \
           f" {sum(count for _, count in steps)} steps together, {len(untrained) - len(steps)} that go on from others" \
           + (f", {len(unscored)} to score only" if unscored else "")
    paces = {run.method: _pace(run, out / "runs" / run.name) for run in runs if run not in untrained and run.config}
    known = [pace for pace in paces.values() if pace]
    if steps and known:
        seconds = sum(count * (paces.get(method) or max(known)) for method, count in steps)
        line += f"; about {seconds / 3600:.1f} h for the trainings at the pace of the runs that are done"
    return line


def _pace(run, workdir):
    """Median seconds of a training step; None if unknown."""
    speeds = sorted(row["images_per_second"] for row in read_metrics(workdir) if row.get("images_per_second"))
    return images_per_step(run.config) / speeds[len(speeds) // 2] if speeds and run.config else None


def summarise(experiment: str, runs: Sequence[Run], rows: Sequence[dict[str, Any]], out: str | os.PathLike) -> str:
    """Write table1.md, criteria.md, or the PNG of a figure; returns what to print: the table, and the path."""
    out = Path(out)
    if experiment == "figure1":
        title = f"Activations of a network trained on the source alone, seed {runs[0].seed}, and the shift by level"
        return str(shift_by_level(domain_shift(out / "runs" / runs[0].name), out / "figure1.png", title))
    if experiment == "figure4":
        return str(figure4(runs, out))
    if experiment == "criteria":
        return str(_criteria(runs, rows, out))
    if experiment == "table1":
        table = table1(rows, _target_of_the_paper(runs[0].config))
        write_whole(out / "table1.md", table)
        return f"{table}\n{out / 'table1.md'}"
    return str(figure3(rows, out / "figure3.png"))


def _criteria(runs, rows, out):
    """Write criteria.csv and criteria.md; returns what to print, see `summarise`."""
    scored = {row["run"]: row for row in rows if way(row) == PLAIN}
    judged = [{"method": run.method, "seed": run.seed, "iou": scored[run.name]["iou"], **judge(out / "runs" / run.name)}
              for run in runs]
    write_whole(out / "criteria.csv", csv_text(judged, list(judged[0])))
    lines = ranking(judged)
    table = markdown_table(lines, list(lines[0]))
    write_whole(out / "criteria.md", table)
    return f"{table}\n{out / 'criteria.md'}"


def _write_memory(config, path, known):
    """Write `step_memory_mib` of a run, unless it is there; `known` holds it for other seeds of the same config."""
    if path.exists():
        return
    key = to_json(dataclasses.replace(config, seed=0, target_labels=dataclasses.replace(config.target_labels, boxes=())))
    if key not in known:
        known[key] = step_memory_mib(config)
    write_whole(path, json.dumps({"step_memory_mib": known[key]}) + "\n")


def _row(run, workdir, scoring):
    """The line of results.csv of a run, from its files."""
    results = json.loads(scoring.path(workdir).read_text(encoding="utf-8"))
    metrics = read_metrics(workdir)
    memory = json.loads((workdir / MEMORY).read_text(encoding="utf-8")) if (workdir / MEMORY).exists() else {}
    validation = [row["validation_iou"] for row in metrics if row.get("validation_iou") is not None]
    return {
        "experiment": results["experiment"], "method": run.method, "seed": run.seed, "fraction": run.fraction,
        "batch_statistics": scoring.statistics, "threshold_rule": scoring.threshold, "views": scoring.views,
        "threshold": results["threshold"],
        "validation_iou": validation[-1] if validation else None, "steps": results["step"],
        "seconds_per_step": _pace(run, workdir),
        "step_memory_mib": memory.get("step_memory_mib"), "run": run.name,
        **{name: results.get(name) for name in ("iou", "precision", "recall", "f1", "object_f1")},
        "counts": results["per_section_counts"]}


def _merged(path, rows, columns):
    """The text of a CSV file with these rows in place of those of the same runs, scored in the same way; experiments share it."""
    before = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    before = [{"views": "1", **row} for row in before]  # files from before there were others
    key = [column for column in ("run", "batch_statistics", "threshold_rule", "views") if column in columns]
    mine = {tuple(str(row[column]) for column in key) for row in rows}
    return csv_text([*(row for row in before if tuple(row.get(column) for column in key) not in mine), *rows], columns)


def _target_of_the_paper(config):
    """Which target of the paper's table 1 the experiment has: "VNC", "HeLa" (whose volume has no name), or None."""
    if config.source.dataset != "epfl":
        return None
    return "VNC" if config.target.dataset == "vnc" else "HeLa" if config.name.startswith("EPFL to HeLa") else None
