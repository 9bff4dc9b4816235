"""A released model: one self-contained folder of a trained run, for whoever has neither its config nor its data.

    model.json      what the network is, how images are prepared for it, where it comes from, the checksum of its weights
    weights.npz     the segmentation network alone, float32 arrays by their flax names joined with "/"; read without pickle

Reading one executes nothing that is in it.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

import yseg
from yseg.config import Experiment, InputError, check, from_json
from yseg.models import build_network

DESCRIPTION, WEIGHTS = "model.json", "weights.npz"
FORMAT, VERSION = "yseg model", 1
# How grey levels are prepared. A reader refuses any other way; `yseg.release` does not export a run that has one.
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
