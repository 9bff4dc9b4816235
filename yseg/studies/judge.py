"""What can be said of a trained run without labels of the target, and how well that ranks runs.

`judge` serves the choice of a weight (`yseg.studies.weight_search`); `ranking` says how good such a choice is, for runs whose
test scores are known.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from yseg.config import Experiment, InputError
from yseg.data.domain import open_own_domain
from yseg.files import write_whole
from yseg.metrics import criteria
from yseg.runs.folder import read_config
from yseg.trained.network import TrainedNetwork
from yseg.trained.threshold import foreground_share, sampled_probabilities
from yseg.training.recorder import read_metrics

VOXELS = 20_000  # of the target that are judged
VALIDATION = "validation_iou"
CRITERIA = ("entropy", "information_maximisation", "balanced_information", "neighbourhood_density", "nuclear_norm")
JUDGED = "judged.json"  # in the folder of a run


def check_judged(config: Experiment) -> None:
    """InputError if the runs of a config cannot be judged: no validation box of the source, more than two classes, no step."""
    if not config.source.validation_fraction:
        raise InputError("source.validation_fraction=0: must be above 0, as runs are judged on that part")
    if config.model.classes != 2 or not config.optimizer.steps:
        raise InputError(f"model.classes={config.model.classes}, optimizer.steps={config.optimizer.steps}:"
                         " must be 2 classes and at least 1 step, for runs to be judged")


def judge(workdir: str | os.PathLike) -> dict[str, float | None]:
    """What can be said of a run without labels of the target: dict with VALIDATION and the CRITERIA, higher is better.

    Predictions are those of VOXELS voxels of some sections of the target's training box, the same for every run. The share of
    foreground that `balanced_information` expects is that of the source's labels in its training box. What was found is kept in
    the folder of the run. InputError: see `check_judged`.
    """
    kept = Path(workdir) / JUDGED
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    config = read_config(workdir)
    check_judged(config)
    network = TrainedNetwork.of_run(workdir)
    target = open_own_domain(config, "target", with_labels=False)
    probabilities = sampled_probabilities(network, target, target.split.train, VOXELS)
    found = {
        VALIDATION: read_metrics(workdir)[-1][VALIDATION],
        "entropy": criteria.entropy_score(probabilities),
        "information_maximisation": criteria.information_maximisation(probabilities),
        "balanced_information": criteria.balanced_information(probabilities, foreground_share(config)),
        "neighbourhood_density": criteria.soft_neighbourhood_density(probabilities),
        "nuclear_norm": criteria.batch_nuclear_norm(probabilities)}
    write_whole(kept, json.dumps(found, allow_nan=False) + "\n")
    return found


def ranking(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How well each criterion ranks runs of the same seed, and what is lost by choosing with it.

    Args:
      rows: dicts: seed, iou (on the test box), VALIDATION and the CRITERIA. Two runs of a seed at least. A run whose IoU or
        VALIDATION is undefined (None) is left out, and so is a seed of which less than two runs remain.

    Returns:
      A list of dicts, one for each way to choose. criterion: its name; correlation: Spearman's, of criterion and IoU; iou: of the
      chosen run; lost: against the run with the highest IoU; all are means over seeds. A criterion is taken alone and by its mean
      rank with the source's validation IoU. Then follow the mean of all runs, and the choice by test labels, which nobody has.
    """
    known = [row for row in rows if row["iou"] is not None and row[VALIDATION] is not None]
    groups = [[row for row in known if row["seed"] == seed] for seed in dict.fromkeys(row["seed"] for row in known)]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        raise InputError("no two runs of one seed have a defined IoU and source validation IoU, so that none can be ranked")
    scores = [np.array([row["iou"] for row in group]) for group in groups]
    best = np.mean([score.max() for score in scores])

    def line(name, values):
        """Of a criterion with these values, [run] for each seed."""
        correlations = [spearmanr(value, score).statistic if np.ptp(value) and np.ptp(score) else 0.0
                        for value, score in zip(values, scores, strict=True)]
        chosen = float(np.mean([score[np.argmax(value)] for value, score in zip(values, scores, strict=True)]))
        return {"criterion": name, "correlation": float(np.mean(correlations)), "iou": chosen, "lost": float(best - chosen)}

    def values(name):
        return [np.array([row[name] for row in group]) for group in groups]

    validation = values(VALIDATION)
    lines = [line("source validation IoU", validation)]
    for name in CRITERIA:
        words, alone = name.replace("_", " "), values(name)
        lines.append(line(words, alone))
        lines.append(line(f"{words}, with source validation IoU",
                          [criteria.rank_average(*pair) for pair in zip(validation, alone, strict=True)]))
    mean = float(np.mean([score.mean() for score in scores]))
    return [*lines, {"criterion": "any run", "correlation": None, "iou": mean, "lost": float(best - mean)},
            {"criterion": "test labels", "correlation": 1.0, "iou": float(best), "lost": 0.0}]
