"""Cross-validation of a fine-tuning over sections of the target's training labels.

    DIR/fold0/ ...      a fine-tuning on all sections but those of fold 0; fold.json in it holds its scores
    DIR/folds.csv, DIR/folds.json

Sections are dealt at random. Where they are close to each other, as in FIB-SEM, a section has neighbours in other folds that look
almost like it, so that the scores are too good for tissue far from any label; the test box says more about that.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from yseg.config import TUNING_RATE, TUNING_STEPS, InputError
from yseg.data.box import sections_of
from yseg.data.domain import open_own_domain
from yseg.experiment import train
from yseg.files import write_whole
from yseg.inference.outputs import score
from yseg.metrics.counts import scores
from yseg.metrics.intervals import mean_and_spread
from yseg.report import csv_text
from yseg.runs.folder import check_workdir, read_config
from yseg.runs.moved import Moved
from yseg.runs.stages import check_unseen, finetuning
from yseg.trained.network import TrainedNetwork

COLUMNS = ("fold", "sections", "iou", "precision", "recall", "f1", "run")
SCORES = COLUMNS[2:-1]
FOLDS = 1  # branch of the seed: `share_of` draws from the seed itself


def deal(start: int, stop: int, folds: int, seed: int) -> list[list[int]]:
    """The sections [start, stop) in `folds` sorted lists whose lengths differ by at most one; each section is in one of them."""
    order = np.random.default_rng((seed, FOLDS)).permutation(np.arange(start, stop))
    return [sorted(order[first::folds].tolist()) for first in range(folds)]


def cross_validate(start: str | os.PathLike, workdir: str | os.PathLike, folds: int, *, fraction: float = 1.0,
                   steps: int = TUNING_STEPS, learning_rate: float = TUNING_RATE, seed: int | None = None,
                   moved: Moved | None = None, tell: Callable[[str], Any] = print, quiet: bool = False) -> dict[str, Any]:
    """Fine-tune a run on all folds but one, score it on that one, for each of them; what is done is skipped.

    Args:
      start: the folder of a trained run that has seen no label of the target: else held-out sections might be in its weights.
      workdir: the folder of the cross-validation.
      folds: how many, from 2 to the number of sections of the target's training box.
      fraction: share of the other folds' labels that is trained on, above 0.
      steps, learning_rate, seed: see `yseg.experiment.finetune`; the seed also deals the sections.
      moved: where the volumes of the trained run are now, see `yseg.load_run`.
      tell: called with a line about every fold.
      quiet: show no progress.

    Returns:
      dict, also written as folds.json: folds (list of dicts with COLUMNS), mean_iou, deviation_iou (None for fewer than two
      folds with an IoU), fraction, seed, steps, from.

    Raises:
      InputError: no trained run in `start`; folds, a fraction, labels or a workdir that the user has to change.
    """
    workdir = Path(workdir)
    if not 0 < fraction <= 1:
        raise InputError(f"--fraction={fraction}: must be above 0 and at most 1 with --folds")
    config = read_config(start, "--from", moved)
    check_unseen(config, start)  # held-out sections would else be in the weights
    target = open_own_domain(config, "target", with_labels=True)
    seed, box = config.seed if seed is None else seed, target.split.train
    if not 2 <= folds <= box.shape[0]:
        raise InputError(f"--folds={folds}: must be at least 2 and at most {box.shape[0]}, the sections of {box}, the training"
                         f" box of {target.flag}")
    dealt = deal(box.start[0], box.stop[0], folds, seed)
    others = [sorted(set(range(box.start[0], box.stop[0])) - set(mine)) for mine in dealt]
    configs = [finetuning(start, fraction, steps=steps, learning_rate=learning_rate, seed=seed, sections=each,
                          moved=moved) for each in others]
    for number, each in enumerate(configs):  # before the first training: a folder of another fine-tuning
        check_workdir(each, workdir / f"fold{number}")
    rows: list[dict[str, Any]] = []
    for number, (mine, each) in enumerate(zip(dealt, configs, strict=True)):
        run = workdir / f"fold{number}"
        done = run / "fold.json"
        tell(f"fold {number}, {len(mine)} of {box.shape[0]} sections: {'done before' if done.exists() else 'training'}")
        if not done.exists():
            train(each, run, quiet)
            write_whole(done, json.dumps(_score(run, target, mine), allow_nan=False) + "\n")
        rows.append({"fold": number, "sections": " ".join(map(str, mine)), "run": run.name,
                     **json.loads(done.read_text(encoding="utf-8"))})
    mean, deviation = mean_and_spread([row["iou"] for row in rows])
    results = {"folds": rows, "mean_iou": mean, "deviation_iou": deviation, "fraction": fraction, "seed": seed, "steps": steps,
               "from": str(Path(start).absolute())}
    write_whole(workdir / "folds.csv", csv_text(rows, COLUMNS))
    write_whole(workdir / "folds.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def _score(run, target, sections):
    """Scores of a fine-tuned run on some sections of the target's training box."""
    network, box = TrainedNetwork.of_run(run), target.split.train
    blocks = network.predict(target, [sections_of(box, section, section + 1) for section in sections])
    inference, classes = network.config.inference, network.config.model.classes
    found = scores(score(blocks, target.classes, box, thresholds=(inference.threshold,), classes=classes))
    return {name: found[name] for name in SCORES}
