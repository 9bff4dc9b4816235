"""Choosing the weight of a method's added term without labels of the target.

Each candidate is trained and judged by what needs no target labels (`yseg.studies.judge`): the IoU on the source's validation
box, and criteria of its predictions on the target's training box. Of those that do well on the source the one with the highest
CRITERION is chosen.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yseg.config import Experiment, InputError
from yseg.files import write_whole
from yseg.methods import METHODS
from yseg.report import csv_text
from yseg.runs.folder import check_workdir
from yseg.runs.population import train_population
from yseg.runs.resolve import resolve
from yseg.studies.judge import CRITERIA, JUDGED, VALIDATION, check_judged, judge

CRITERION = "balanced_information"  # ranked the methods of EPFL to VNC best: `python -m launch.reproduce --experiment=criteria`
TOLERANCE = 0.05  # of the source's validation IoU: a network that fails there may be confident and wrong
COLUMNS = ("weight", VALIDATION, *CRITERIA, "good_on_source", "run")


def with_weight(config: Experiment, weight: float) -> Experiment:
    """The config with that weight of what its method adds, such as lambda, or both of Y-Net's reconstruction weights."""
    names = METHODS[config.method].weights
    if not names:
        raise InputError(f"method={config.method}: must be a method with a weight, such as ynet")
    changed: dict[str, Any] = dict.fromkeys(names, weight)
    return dataclasses.replace(config, adaptation=dataclasses.replace(config.adaptation, **changed))


def sweep(config: Experiment, weights: Sequence[float], out: str | os.PathLike, *, tell: Callable[[str], Any] = print,
          quiet: bool = False) -> list[dict[str, Any]]:
    """Train and judge a candidate for each weight; what is done is skipped.

    Args:
      config: `yseg.config.Experiment`; its source has a validation box.
      weights: of the candidates.
      out: the folder of the sweep: runs/, sweep.csv.
      tell: called with a line about every run.
      quiet: show no progress.

    Returns:
      The rows of sweep.csv, dicts with COLUMNS, the chosen one first.

    Raises:
      InputError: a method without a weight, a source without a validation box, what `yseg.experiment.train` raises.
    """
    out = Path(out)
    check_judged(config)
    candidates = {weight: resolve(with_weight(config, weight)) for weight in weights}
    folders = {weight: out / "runs" / f"{weight:g}" for weight in candidates}
    for weight, candidate in candidates.items():
        check_workdir(candidate, folders[weight])
    missing = [weight for weight in candidates if not (folders[weight] / JUDGED).exists()]
    trained = train_population([candidates[weight] for weight in missing], [folders[weight] for weight in missing], quiet=quiet)
    for number, weight in enumerate(candidates, 1):
        tell(f"{number}/{len(candidates)} weight {weight:g}: {'training' if weight in missing else 'done before'}")
        if weight in missing:
            next(trained)
            judge(folders[weight])
    rows = [{"weight": weight, "run": str(folder), **judge(folder)} for weight, folder in folders.items()]
    rows = in_order(rows)
    write_whole(out / "sweep.csv", csv_text(rows, COLUMNS))
    return rows


def in_order(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of candidates, dicts with VALIDATION and CRITERION, the best first, and with "good_on_source" besides.

    That is whether the source's validation IoU is at most TOLERANCE below the highest; one that is undefined (None), of a network
    that finds nothing where there is nothing, is not good. Those that are come first; then CRITERION decides.
    """
    least = max((row[VALIDATION] for row in rows if row[VALIDATION] is not None), default=0.0) - TOLERANCE
    rows = [{**row, "good_on_source": row[VALIDATION] is not None and row[VALIDATION] >= least} for row in rows]
    return sorted(rows, key=lambda row: (row["good_on_source"], row[CRITERION]), reverse=True)

