"""The report of a folder of runs, such as those of several seeds or folds: what they share, how far their scores lie apart."""

import os
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from yseg.report.embedded import Album
from yseg.report.page import Block, Link, Listing, Page, Section, Table, Text
from yseg.report.tables import readable
from yseg.runs.citations import to_cite
from yseg.runs.folder import CONFIG, REPORT, read_config
from yseg.runs.going_on import changed_knobs
from yseg.runs.history import read_history
from yseg.runs.page import curves, method_of, number, read_results, training, volumes
from yseg.training.recorder import read_metrics

PAGE = "report.html"  # in REPORT
_SCORES = ("iou", "f1", "object_f1")
_MOST = 50  # runs whose curves are drawn
_OF_A_MEMBER = ("seed", "name", "target_labels.boxes", "target_labels.start", "self_training.start")  # and else alike


def runs_in(folder: Path) -> list[Path]:
    """The runs that lie in a folder, in the natural order of their names."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if (path / CONFIG).is_file() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def page_of_several(folder: Path, runs: list[Path], output: Path) -> Page:
    """The Page of runs that lie in a folder, to be written to a file.

    Raises:
      InputError: a config of them cannot be read.
    """
    configs = {run.name: read_config(run) for run in runs}
    rows = {run.name: read_metrics(run) for run in runs}
    results = {run.name: read_results(run)[0] for run in runs}
    first = runs[0]
    shared = configs[first.name]
    unfinished = [name for name, found in rows.items() if (found[-1]["step"] if found else 0) < configs[name].optimizer.steps]
    summary: list[Block] = [Text(f"Not finished: {', '.join(unfinished)}.", warning=True)] if unfinished else []
    summary += [_table(output, runs, configs, rows), *_scores(results, _alike(configs))]
    methods = dict.fromkeys(method_of(config) for config in configs.values())
    return Page(f"{folder.absolute().name}: {len(runs)} runs", ", ".join(methods), [
        Section("summary", "The runs", summary),
        Section("curves", "Curves", curves(dict(list(rows.items())[:_MOST]), Album())),
        Section("volumes", f"What they were trained on ({first.name})", list(volumes(shared, read_history(first)))),
        Section("training", f"Training ({first.name})", list(training(shared, first))),
        Section("differences", "What differs", list(_differences(configs))),
        Section("cite", "How to cite", [Listing(list(dict.fromkeys(
            line for config in configs.values() for line in to_cite(config))))])])


def _table(output: Path, runs: list[Path], configs: Mapping[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> Table:
    """The runs, each with a link to its own page if there is one."""
    lines: list[list[str | Link]] = []
    for run in runs:
        config, found = configs[run.name], rows[run.name]
        validation = [row["validation_iou"] for row in found if row.get("validation_iou") is not None]
        done = found[-1]["step"] if found else 0
        page = run / REPORT / PAGE
        name = Link(run.name, f"{quote(os.path.relpath(page, output.parent))}") if page.is_file() else run.name
        lines.append([name, config.name, str(config.seed), f"{done} of {config.optimizer.steps}",
                      number(validation[-1]) if validation else "-"])
    return Table(["run", "name", "seed", "steps", "validation IoU"], lines)


def _scores(results: Mapping[str, Mapping[str, Mapping[str, Any]]], alike: bool) -> Iterator[Block]:
    """A table for each question that was put to one of the runs; of runs that are alike with mean and standard deviation."""
    for question in dict.fromkeys(question for found in results.values() for question in found):
        asked = {run: found[question] for run, found in results.items() if question in found}
        names = [name for name in _SCORES if any(name in found for found in asked.values())]
        lines = [[run, *(number(found.get(name)) for name in names)] for run, found in asked.items()]
        columns = [[found[name] for found in asked.values() if found.get(name) is not None] for name in names]
        if alike and len(asked) > 1:
            lines.append(["mean", *(number(statistics.fmean(values) if values else None) for values in columns)])
            lines.append(["standard deviation", *(number(statistics.stdev(values) if len(values) > 1 else None)
                                                  for values in columns)])
        yield Text(f"Scores: {question}")
        yield Table(["run", *map(readable, names)], lines)


def _changes(configs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of each knob in which the runs are not alike, by run."""
    first = next(iter(configs.values()))
    changes = {run: changed_knobs(first, config) for run, config in configs.items()}
    usual = {knob: before for found in changes.values() for knob, (before, _) in found.items()}
    return {knob: {run: found[knob][1] if knob in found else value for run, found in changes.items()}
            for knob, value in usual.items()}


def _alike(configs: Mapping[str, Any]) -> bool:
    """Whether the runs are one experiment with several seeds, or folds."""
    return set(_changes(configs)) <= {*_OF_A_MEMBER}


def _differences(configs: Mapping[str, Any]) -> Iterator[Block]:
    """The knobs in which the runs are not alike."""
    changes = {knob: values for knob, values in _changes(configs).items() if knob not in ("name", "target_labels.boxes")}
    if changes:
        yield Table(["knob", *configs], [[knob, *map(str, values.values())] for knob, values in changes.items()])
