"""Choosing the weight of a method's added term without labels of the target.

Each candidate is trained and judged by what needs no target labels: the IoU on the source's validation box, and criteria of its
predictions on the target's training box (`yseg.criteria`). The one with the best mean rank of the two is chosen.
"""

import dataclasses
import json
from pathlib import Path

from yseg import criteria
from yseg.calibration import foreground_share, sampled_probabilities
from yseg.config import InputError
from yseg.data.prepare import open_domain, resolve
from yseg.experiment import train
from yseg.report import csv_text
from yseg.runs import check_workdir, load_state, read_config
from yseg.semi_supervised import choose_labels
from yseg.training.recorder import read_metrics, write_whole
from yseg.training.state import inference_variables

VOXELS = 20_000  # of the target that are judged
CRITERION = "balanced_information"  # that is combined with the source's validation IoU
COLUMNS = ("weight", "validation_iou", "entropy", "information_maximisation", "balanced_information", "neighbourhood_density",
           "nuclear_norm", "rank", "run")


def with_weight(config, weight):
    """The config with that weight of what its method adds: lambda, both of Y-Net's reconstruction weights, or FDA's beta."""
    if config.method == "ft":
        raise InputError("--config=...:ft: must be a method with a weight, such as ynet")
    named = {"ynet": ("reconstruction_source", "reconstruction_target"), "fda": ("fourier_share",)}
    names = named.get(config.method, ("weight",))
    return dataclasses.replace(config, adaptation=dataclasses.replace(config.adaptation, **dict.fromkeys(names, weight)))


def sweep(config, weights, out, tell=print, quiet=False):
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
    if not config.source.validation_fraction:
        raise InputError("--config.source.validation_fraction=0: must be above 0, as candidates are judged on that part")
    if config.model.classes != 2 or not config.optimizer.steps:
        raise InputError(f"--config.model.classes={config.model.classes}, --config.optimizer.steps={config.optimizer.steps}:"
                         " must be 2 classes and at least 1 step in a sweep")
    candidates = {weight: choose_labels(resolve(with_weight(config, weight))) for weight in weights}
    for weight, candidate in candidates.items():
        check_workdir(candidate, out / "runs" / f"{weight:g}")
    rows = []
    for number, (weight, candidate) in enumerate(candidates.items(), 1):
        workdir = out / "runs" / f"{weight:g}"
        judged = workdir / "judged.json"
        tell(f"{number}/{len(candidates)} weight {weight:g}: {'done before' if judged.exists() else 'training'}")
        if not judged.exists():
            train(candidate, workdir, quiet)
            write_whole(judged, json.dumps(judge(workdir), allow_nan=False) + "\n")
        rows.append({"weight": weight, "run": str(workdir), **json.loads(judged.read_text(encoding="utf-8"))})
    for row, rank in zip(rows, criteria.rank_average(*([row[name] for row in rows] for name in ("validation_iou", CRITERION))),
                         strict=True):
        row["rank"] = float(rank)
    rows.sort(key=lambda row: -row["rank"])
    write_whole(out / "sweep.csv", csv_text(rows, COLUMNS))
    return rows


def judge(workdir):
    """What can be said of a run without labels of the target: dict with the criteria of COLUMNS, higher is better.

    Predictions are those of VOXELS voxels of some sections of the target's training box, the same for every run. The share of
    foreground that `balanced_information` expects is that of the source's labels in its training box.
    """
    config = read_config(workdir)
    state = load_state(workdir, config)
    target = open_domain(config.target, config.sampling.working_pixel_size_nm, "--config.target", with_labels=False)
    variables = inference_variables(state, config.model.batch_statistics)
    probabilities = sampled_probabilities(config, variables, target, target.split.train, VOXELS)
    return {
        "validation_iou": read_metrics(workdir)[-1]["validation_iou"],
        "entropy": criteria.entropy_score(probabilities),
        "information_maximisation": criteria.information_maximisation(probabilities),
        "balanced_information": criteria.balanced_information(probabilities, foreground_share(config)),
        "neighbourhood_density": criteria.soft_neighbourhood_density(probabilities),
        "nuclear_norm": criteria.batch_nuclear_norm(probabilities)}
