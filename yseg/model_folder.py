"""A released model: one self-contained folder of a trained run, for whoever has neither its config nor its data.

    model.json      what the network is, how images are prepared for it, where it comes from, the checksum of its weights
    weights.npz     the segmentation network alone, float32 arrays by their flax names joined with "/"; read without pickle

Reading one executes nothing that is in it.
"""

import dataclasses
import datetime
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

import yseg
from yseg.config import STATISTICS, Experiment, InputError, check, from_json
from yseg.data.catalog import DATASETS
from yseg.models import build_network
from yseg.runs import load_state, read_config
from yseg.training.recorder import read_metrics
from yseg.training.state import inference_variables

DESCRIPTION, WEIGHTS = "model.json", "weights.npz"
FORMAT, VERSION = "yseg model", 1
# How grey levels are prepared. There is no other way yet; a reader that does not know a way refuses it.
NORMALISATION = {"method": "z-score", "statistics": "mean and standard deviation of the whole volume that is segmented"}


class ReleasedModel(NamedTuple):
    """A network that can be applied, and what is known of it.

    config: `yseg.config.Experiment` with its architecture, working pixel size, tiling and threshold; its domains are empty.
    variables: {"params", "batch_stats"} of the segmentation network, NumPy arrays. description: the content of model.json.
    """

    config: Experiment
    variables: Any
    description: dict

    @property
    def step(self):
        """How many training steps it took."""
        return self.description["provenance"].get("step")


# --- Writing ---


def export(workdir, output, overwrite=False, threshold=None, batch_statistics=None):
    """Write the network of a run's last checkpoint as a folder of its own, whole or not at all.

    Args:
      workdir: the folder of the run; what only training needs (the optimiser, a reconstruction decoder, domain classifiers) is
        left out.
      output: the folder that is created.
      overwrite: replace the output if it is such a folder.
      threshold: of the foreground probability; None = the config's.
      batch_statistics: "source", "target" or "mixed", see `yseg.config.Model`; None = the config's.

    Returns:
      The path of the output.

    Raises:
      InputError: no run or no checkpoint in the workdir; a threshold, statistics or an output that the user has to change.
        Nothing has been written.
    """
    config, output = read_config(workdir), Path(output)
    threshold = config.inference.threshold if threshold is None else float(threshold)
    if not 0 <= threshold <= 1:
        raise InputError(f"--threshold={threshold}: must be at least 0 and at most 1")
    statistics = batch_statistics or config.model.batch_statistics
    if statistics not in STATISTICS:
        raise InputError(f"--batch_statistics={statistics}: must be one of {', '.join(STATISTICS)}")
    _check_output(output, overwrite)
    state = load_state(workdir, config)
    weights = _packed(inference_variables(state, statistics))
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


# --- Reading ---


def load_model(folder, flag="--model"):
    """The `ReleasedModel` of a folder that `export` wrote.

    Raises:
      InputError: no such folder, another format or version, or weights that are damaged or do not fit the architecture.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise InputError(f"{flag}={folder}: must be a folder written by launch.export, with {DESCRIPTION}")
    try:
        found = json.loads(path.read_bytes())
        format_, version = found["format"], found["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{flag}={folder}: {DESCRIPTION} is damaged; must be as launch.export wrote it") from error
    if (format_, version) != (FORMAT, VERSION):
        raise InputError(f"{flag}={folder}: {DESCRIPTION} has format {format_!r}, version {version!r}; must be {FORMAT!r},"
                         f" version {VERSION}, for this version of yseg ({yseg.__version__})")
    try:
        config = _config(found, f"{flag}={folder}: {DESCRIPTION}")
        normalisation, expected, _ = found["normalisation"], found["weights"]["sha256"], found["provenance"].get("step")
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{flag}={folder}: {DESCRIPTION} is damaged; must be as launch.export wrote it") from error
    if normalisation != NORMALISATION:
        raise InputError(f"{flag}={folder}: {DESCRIPTION} has normalisation {normalisation!r}; must be {NORMALISATION!r}")
    return ReleasedModel(config, _read_weights(Path(folder) / WEIGHTS, expected, config, flag), found)


def _config(found, name):
    """The Experiment that segments like the exported run."""
    # No patch is cut, but a config has a size of patches that fits its network.
    sampling = {"working_pixel_size_nm": found["working_pixel_size_nm"], "patch_size": 2**found["architecture"]["levels"]}
    config = from_json(json.dumps({
        "name": found["provenance"]["experiment"], "method": "ft", "model": found["architecture"], "sampling": sampling,
        "inference": found["inference"]}), name)
    try:
        check(config)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return config


def _read_weights(path, sha256, config, flag):
    """The variables in a file, which must be those of the architecture."""
    where = f"{flag}={path.parent}: {path.name}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{where} cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{where} is damaged: its sha256 must be {sha256}, as {DESCRIPTION} says")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{where} cannot be read ({str(error).splitlines()[0]})") from error
    network = build_network(config.model, "ft")
    images = jnp.zeros((1, network.multiple, network.multiple, config.model.sections), jnp.float32)
    expected = traverse_util.flatten_dict(jax.eval_shape(network.init, jax.random.key(0), images), sep="/")
    wrong = sorted({*arrays} ^ {*expected}) or sorted(name for name, leaf in expected.items() if arrays[name].shape != leaf.shape
                                                      or arrays[name].dtype != leaf.dtype)
    if wrong:
        raise InputError(f"{where} does not fit the architecture in {DESCRIPTION}: {wrong[0]} differs")
    variables = traverse_util.unflatten_dict(arrays, sep="/")
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
