"""Cross-validation of a fine-tuning over sections of the target's training labels.

    DIR/fold0/ ...      a fine-tuning on all sections but those of fold 0; fold.json in it holds its scores
    DIR/folds.csv, DIR/folds.json

Sections are dealt at random. Where they are close to each other, as in FIB-SEM, a section has neighbours in other folds that look
almost like it, so that the scores are too good for tissue far from any label; the test box says more about that.
"""

import itertools
import json
from pathlib import Path

import numpy as np

from yseg.config import TUNING_RATE, TUNING_STEPS, InputError
from yseg.data.box import sections_of
from yseg.data.domain import open_domain
from yseg.experiment import finetune, finetuning
from yseg.files import write_whole
from yseg.inference.outputs import score
from yseg.metrics.counts import scores
from yseg.metrics.intervals import mean_and_spread
from yseg.report import csv_text
from yseg.runs.folder import check_workdir, read_config
from yseg.trained.network import predict_with, variables_of

COLUMNS = ("fold", "sections", "iou", "precision", "recall", "f1", "run")
SCORES = COLUMNS[2:-1]
FOLDS = 1  # branch of the seed: `share_of` draws from the seed itself


def deal(start, stop, folds, seed):
    """The sections [start, stop) in `folds` sorted lists whose lengths differ by at most one; each section is in one of them."""
    order = np.random.default_rng((seed, FOLDS)).permutation(np.arange(start, stop))
    return [sorted(order[first::folds].tolist()) for first in range(folds)]


def cross_validate(start, workdir, folds, fraction=1.0, steps=TUNING_STEPS, learning_rate=TUNING_RATE, seed=None, tell=print,
                   quiet=False):
    """Fine-tune a run on all folds but one, score it on that one, for each of them; what is done is skipped.

    Args:
      start: the folder of a trained run.
      workdir: the folder of the cross-validation.
      folds: how many, from 2 to the number of sections of the target's training box.
      fraction: share of the other folds' labels that is trained on, above 0.
      steps, learning_rate, seed: see `yseg.experiment.finetune`; the seed also deals the sections.
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
    config = read_config(start, "--from")
    target = open_domain(config.target, config.sampling.working_pixel_size_nm, "--config.target", with_labels=True)
    seed, box = config.seed if seed is None else seed, target.split.train
    if not 2 <= folds <= box.shape[0]:
        raise InputError(f"--folds={folds}: must be at least 2 and at most {box.shape[0]}, the sections of {box}, the training"
                         f" box of {target.flag}")
    dealt = deal(box.start[0], box.stop[0], folds, seed)
    others = [sorted(set(range(box.start[0], box.stop[0])) - set(mine)) for mine in dealt]
    how = [{"fraction": fraction, "steps": steps, "learning_rate": learning_rate, "seed": seed, "sections": each}
           for each in others]
    for number, each in enumerate(how):  # before the first training: a folder of another fine-tuning
        check_workdir(finetuning(start, **each), workdir / f"fold{number}")
    rows = []
    for number, (mine, each) in enumerate(zip(dealt, how, strict=True)):
        run = workdir / f"fold{number}"
        done = run / "fold.json"
        tell(f"fold {number}, {len(mine)} of {box.shape[0]} sections: {'done before' if done.exists() else 'training'}")
        if not done.exists():
            finetune(start, run, **each, quiet=quiet)
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
    config = read_config(run)
    variables, box = variables_of(run, config, config.model.batch_statistics)[0], target.split.train
    blocks = itertools.chain.from_iterable(
        predict_with(config, variables, target, sections_of(box, section, section + 1)) for section in sections)
    found = scores(score(blocks, target.labels, target.rule, box, (config.inference.threshold,), config.model.classes))
    return {name: found[name] for name in SCORES}
