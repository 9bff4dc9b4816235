"""Writes a released model, see `yseg.model_folder`."""

import dataclasses
import datetime
import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from flax import traverse_util

import yseg
from yseg.config import STATISTICS, InputError
from yseg.runs.folder import load_state, read_config
from yseg.trained.released import DESCRIPTION, FORMAT, NORMALISATION, VERSION, WEIGHTS
from yseg.trained.threshold import chosen_threshold
from yseg.training.recorder import read_metrics
from yseg.training.state import inference_variables
from yseg.volumes.catalog import DATASETS


def export(workdir, output, overwrite=False, threshold=None, batch_statistics=None):
    """Write the network of a run's last checkpoint as a folder of its own, whole or not at all.

    Args:
      workdir: the folder of the run; what only training needs (the optimiser, a reconstruction decoder, domain classifiers) is
        left out.
      output: the folder that is created.
      overwrite: replace the output if it is such a folder.
      threshold: of the foreground probability; None = the config's; "matched" = see `yseg.trained.threshold.matched_threshold`, as a
        number.
      batch_statistics: "source", "target" or "mixed", see `yseg.config.Model`; None = the config's.

    Returns:
      The path of the output.

    Raises:
      InputError: no run or no checkpoint in the workdir; a threshold, statistics or an output that the user has to change.
        Nothing has been written.
    """
    config, output = read_config(workdir), Path(output)
    statistics = batch_statistics or config.model.batch_statistics
    if statistics not in STATISTICS:
        raise InputError(f"--batch_statistics={statistics}: must be one of {', '.join(STATISTICS)}")
    _check_output(output, overwrite)
    state = load_state(workdir, config)
    variables = inference_variables(state, statistics)
    threshold, weights = chosen_threshold(threshold, config, variables), _packed(variables)
    text = json.dumps(_description(config, statistics, threshold, state, workdir, weights), indent=2, allow_nan=False) + "\n"
    _write_folder(output, {WEIGHTS: weights, DESCRIPTION: text.encode()})
    return str(output)


def _check_output(output, overwrite):
    if not output.name:
        raise InputError(f"--output={output}: must be a new folder")
    if not os.path.lexists(output):
        return
    if not (output / DESCRIPTION).is_file():
        raise InputError(f"--output={output}: exists and is no exported model ({DESCRIPTION}); must be a new folder")
    if not overwrite:
        raise InputError(f"--output={output}: exists; must be another folder, or give --overwrite")


def _packed(variables):
    """The bytes of weights.npz, the same for the same variables."""
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(leaf) for name, leaf in traverse_util.flatten_dict(variables, sep="/").items()})
    return file.getvalue()


def _description(config, statistics, threshold, state, workdir, weights):
    validation = [row["validation_iou"] for row in read_metrics(workdir) if row.get("validation_iou") is not None]
    return {
        "format": FORMAT, "format_version": VERSION,
        "architecture": dataclasses.asdict(dataclasses.replace(config.model, batch_statistics=statistics)),
        "working_pixel_size_nm": config.sampling.working_pixel_size_nm,
        "normalisation": NORMALISATION,
        "inference": dataclasses.asdict(dataclasses.replace(config.inference, threshold=threshold)),
        "provenance": {
            "yseg": yseg.__version__, "experiment": config.name, "method": config.method, "seed": config.seed,
            "step": int(state.step), "steps": config.optimizer.steps, "share_of_target_labels": config.finetuning.fraction,
            "validation_iou": validation[-1] if validation else None,
            "data_sets": {name: _data_set(getattr(config, name).dataset) for name in ("source", "target")},
            "date": datetime.datetime.now(datetime.UTC).date().isoformat()},
        "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(weights).hexdigest()},
    }


def _data_set(name):
    """What must be said of a data set of the catalog; None for other volumes."""
    known = DATASETS.get(name)
    return known and {"name": name, "description": known.description, "licence": known.licence, "citation": known.citation}


def _write_folder(output, files):
    """Write a folder beside the output and give it its name at the end."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".unfinished", dir=output.parent))
    except OSError as error:
        raise InputError(f"--output={output}: cannot be created ({error.strerror})") from error
    try:
        new, old = unfinished / "new", unfinished / "old"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)
        if output.exists():
            output.rename(old)
        try:
            new.rename(output)
        except OSError:
            if old.exists():
                old.rename(output)
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
