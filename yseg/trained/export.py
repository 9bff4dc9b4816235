"""Writes a trained network to be given away: as a released model, see `yseg.trained.released`, or as a package of bioimage.io."""

import dataclasses
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

import yseg
from yseg.config import InputError
from yseg.files import whole_folder
from yseg.runs.moved import Moved
from yseg.trained.bioimage import check_packable, is_package, write_package
from yseg.trained.network import TrainedNetwork, network_of
from yseg.trained.released import DESCRIPTION, FORMAT, VERSION, WEIGHTS, normalisation
from yseg.trained.threshold import chosen_threshold

YSEG, BIOIMAGEIO = FORMATS = ("yseg", "bioimageio")


def export(workdir: str | os.PathLike | TrainedNetwork, output: str | os.PathLike, *, overwrite: bool = False,
           threshold: float | str | None = None, batch_statistics: str | None = None,
           plausible_objects: bool | None = None, adapted: bool | None = None, moved: Moved | None = None,
           format: str = YSEG) -> str:
    """Write a trained network as a folder of its own, whole or not at all.

    Args:
      workdir: the folder of the run, or a network that was loaded; what only training needs (the optimiser, a reconstruction
        decoder, domain classifiers) is left out.
      output: the folder that is created.
      overwrite: replace the output if it is such a folder, to which nothing was added.
      threshold: of the foreground probability; None = the config's; "matched" = see `yseg.trained.threshold.matched_threshold`,
        as a number.
      batch_statistics: "training", "target" or "mixed", see `yseg.config.Model`; None = the config's.
      plausible_objects: see `yseg.config.Inference`; None = the config's.
      adapted, moved: see `yseg.evaluate`.
      format: "yseg", which `yseg.load_model` reads, or "bioimageio", for other programs, see `yseg.trained.bioimage`; this is
        one file if the output ends with .zip.

    Returns:
      The path of the output.

    Raises:
      InputError: no run or no checkpoint in the workdir; a threshold, statistics or an output that the user has to change.
        Nothing has been written.
    """
    output = Path(output)
    network = network_of(workdir, adapted, moved).with_statistics(batch_statistics).with_plausible_objects(plausible_objects)
    if format not in FORMATS:
        raise InputError(f"--format={format}: must be one of {', '.join(FORMATS)}")
    _check_output(output, overwrite, format)
    if format == BIOIMAGEIO:
        check_packable(network)
    description = _description(network, chosen_threshold(threshold, network))
    try:
        if format == BIOIMAGEIO:
            write_package(network, output, description, replace=overwrite)
        else:
            _write_released(network, output, description, replace=overwrite)
    except OSError as error:
        raise InputError(f"--output={output}: cannot be created ({error.strerror})") from error
    return str(output)


def _write_released(network, output, description, replace):
    weights = _packed(network.variables[network.statistics])
    description = {**description, "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(weights).hexdigest()}}
    with whole_folder(output, replace=replace) as folder:
        (folder / WEIGHTS).write_bytes(weights)
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _check_output(output, overwrite, format):
    if not output.name:
        raise InputError(f"--output={output}: must be a new folder")
    if not os.path.lexists(output):
        return
    is_ours, what = (is_package, "package of bioimage.io") if format == BIOIMAGEIO else (
        _is_model, f"exported model ({DESCRIPTION} and {WEIGHTS})")
    if output.is_symlink() or not is_ours(output):
        raise InputError(f"--output={output}: exists and is no {what}, or more than that; must be a new folder")
    if not overwrite:
        raise InputError(f"--output={output}: exists; must be another folder, or give --overwrite")


def _is_model(folder):
    """Whether a folder holds an exported model and nothing else."""
    try:
        return json.loads((folder / DESCRIPTION).read_bytes())["format"] == FORMAT and set(os.listdir(folder)) <= {
            DESCRIPTION, WEIGHTS}
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _packed(variables):
    """The bytes of weights.npz, the same for the same variables."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in traverse_util.flatten_dict(variables, sep="/").items()}
    np.savez(file, **arrays)
    return file.getvalue()


def _description(network, threshold):
    """The content of model.json, but for its weights."""
    config = network.config
    return {
        "format": FORMAT, "format_version": VERSION,
        "architecture": dataclasses.asdict(dataclasses.replace(config.model, batch_statistics=network.statistics)),
        "working_pixel_size_nm": config.sampling.working_pixel_size_nm,
        "normalisation": normalisation(config.sampling),
        "prior": None if network.prior is None else network.prior._asdict(),
        "inference": dataclasses.asdict(dataclasses.replace(config.inference, threshold=threshold)),
        "provenance": {"yseg": yseg.__version__, **network.provenance},
    }
