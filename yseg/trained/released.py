"""A released model: one self-contained folder of a trained run, for whoever has neither its config nor its data.

    model.json      what the network is, how images are prepared for it, where it comes from, the checksum of its weights
    weights.npz     the segmentation network alone, float32 arrays by their flax names joined with "/"; read without pickle

Reading one executes nothing that is in it.
"""

import dataclasses
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import dacite
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from yseg.config import LOCAL, SECTION, VOLUME, Experiment, Inference, InputError, Model, Sampling, check, statistics_name
from yseg.metrics.shapes import Prior, prior_from
from yseg.models import segmentation_network

DESCRIPTION, WEIGHTS = "model.json", "weights.npz"
FORMAT, VERSION = "yseg model", 2  # version 1 had no prior, and every section was segmented by itself
# Whose mean and standard deviation grey levels are z-scored by. A reader refuses any other way.
STATISTICS_OF = {
    VOLUME: "mean and standard deviation of the whole volume that is segmented",
    SECTION: "mean and standard deviation of each section that is segmented",
    LOCAL: "mean and standard deviation in a Gaussian window of the section that is segmented"}


def read_released(folder: str | os.PathLike, flag: str) -> tuple[Experiment, dict[str, Any], dict[str, Any], Prior | None]:
    """What a folder holds that `yseg.trained.export` wrote.

    Returns:
      The Experiment with the network's architecture, working pixel size, tiling and threshold, and empty domains; the variables
      of the segmentation network, NumPy arrays; the provenance; and what the labels of its training look like, if that is known.

    Raises:
      InputError: no such folder, another format or version, or weights that are damaged or do not fit the architecture.
    """
    path, where = Path(folder) / DESCRIPTION, f"{flag}={folder}"
    if not path.is_file():
        raise InputError(f"{where}: must be a folder written by launch.export, with {DESCRIPTION}")
    try:
        found = json.loads(path.read_bytes())
        format_, version = found["format"], found["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where}: {DESCRIPTION} is damaged; must be as launch.export wrote it") from error
    if format_ != FORMAT or version not in (1, VERSION):
        raise InputError(f"{where}: {DESCRIPTION} has format {format_!r}, version {version!r}; must be {FORMAT!r},"
                         f" at most version {VERSION}, for this version of yseg")
    try:
        found = _from_version_1(found) if version == 1 else found
        config = _config(found, f"{where}: {DESCRIPTION}")
        expected, provenance = found["weights"]["sha256"], dict(found["provenance"])
        prior = None if found["prior"] is None else prior_from(found["prior"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: {DESCRIPTION} is damaged; must be as launch.export wrote it") from error
    return config, _read_weights(Path(folder) / WEIGHTS, expected, config.model, where), provenance, prior


def normalisation(sampling: Sampling) -> dict[str, Any]:
    """How grey levels are prepared for a network, as model.json says it."""
    window = {"window_nm": sampling.local_nm} if sampling.normalization == LOCAL else {}
    return {"method": "z-score", "statistics": STATISTICS_OF[sampling.normalization], **window}


def _sampling(found, **fields):
    """The Sampling that has a normalisation of model.json, and other fields."""
    for name in STATISTICS_OF:
        sampling = Sampling(normalization=name, local_nm=found.get("window_nm", Sampling().local_nm), **fields)
        if normalisation(sampling) == found:
            return sampling
    raise InputError(f"normalisation {found!r}; must be a z-score by {' or '.join(STATISTICS_OF.values())}")


def _from_version_1(found):
    """The content of a model.json of version 1."""
    inference = {**found["inference"], "depth_nm": 0.0, "plausible_objects": False}
    return {**found, "inference": inference, "prior": None}


def _config(found, name):
    """The Experiment that segments like the exported run."""
    strict = dacite.Config(strict=True)
    try:
        model = dacite.from_dict(Model, found["architecture"], strict)
        inference = dacite.from_dict(Inference, found["inference"], strict)
        # No patch is cut, but a config has a size of patches that fits its network.
        sampling = _sampling(found["normalisation"], working_pixel_size_nm=found["working_pixel_size_nm"],
                             patch_size=2**model.levels)
        model = dataclasses.replace(model, batch_statistics=statistics_name(model.batch_statistics))
        config = Experiment(name=found["provenance"]["experiment"], model=model, sampling=sampling, inference=inference)
        check(config)
    except dacite.DaciteError as error:
        raise InputError(f"{name}: not a network of this version of yseg ({str(error).splitlines()[0]})") from error
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return config


def _read_weights(path, sha256, model, where):
    """The variables in a file, which must be those of the architecture."""
    where = f"{where}: {path.name}"
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
    network = segmentation_network(model)
    images = jnp.zeros((1, network.multiple, network.multiple, model.sections), jnp.float32)
    expected = traverse_util.flatten_dict(jax.eval_shape(network.init, jax.random.key(0), images), sep="/")
    wrong = sorted({*arrays} ^ {*expected}) or sorted(name for name, leaf in expected.items() if arrays[name].shape != leaf.shape
                                                      or arrays[name].dtype != leaf.dtype)
    if wrong:
        raise InputError(f"{where} does not fit the architecture in {DESCRIPTION}: {wrong[0]} differs")
    variables = traverse_util.unflatten_dict(arrays, sep="/")
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
