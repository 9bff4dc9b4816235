"""Whether the volumes of a run are those that it began with, wherever they lie now."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yseg.config import NONE, Experiment, InputError, labelled_domain
from yseg.data.box import Box, evenly_spaced, triple
from yseg.volumes.volume import read_volume

VOLUMES = "volumes.json"  # file of a run
SECTIONS, SIDE = 3, 256  # what is looked at: so many sections, this much of the middle of each

Identity = dict[str, str]  # by knob, such as "target.image": the SHA-256 of a volume's shape, type and some of its voxels


def identity_of(config: Experiment) -> Identity:
    """What the volumes are that a resolved config trains on, labels among them."""
    named = {"target.image": config.target}
    if labelled_domain(config) == "source":
        named |= {"source.image": config.source, "source.labels": config.source}
    if config.target_labels.use != NONE:
        named["target.labels"] = config.target
    return {name: _digest(domain, name) for name, domain in named.items() if getattr(domain, name.split(".")[1])}


def _digest(domain, name):
    what = name.split(".")[1]
    labels = what == "labels"
    store = read_volume(getattr(domain, what), name, channel=None if labels else domain.channel, labels=labels).store
    digest = hashlib.sha256(f"{tuple(store.shape)} {store.dtype.name}\n".encode())
    for box in _parts(store.shape):
        digest.update(np.ascontiguousarray(store[box.slices].read().result()).data)
    return digest.hexdigest()


def _parts(shape: Sequence[int]) -> list[Box]:
    """The middle of some sections."""
    sizes = [min(SIDE, size) for size in shape[1:]]
    starts = [(whole - size) // 2 for whole, size in zip(shape[1:], sizes, strict=True)]
    stops = [start + size for start, size in zip(starts, sizes, strict=True)]
    return [Box(triple((number, *starts)), triple((number + 1, *stops)))
            for number in evenly_spaced(0, shape[0], SECTIONS)]


def read_identity(workdir: Path) -> Identity:
    """What the folder of a run says of its volumes; empty if it says nothing, as those of earlier versions."""
    path = workdir / VOLUMES
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {str(name): str(digest) for name, digest in found.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"--workdir={workdir}: {VOLUMES} is damaged; must be as the training wrote it") from error


def check_identity(found: Identity, known: Identity, config: Experiment, where: str) -> None:
    """InputError if a volume is another one than it was.

    Args:
      found: of the config's volumes.
      known: of those that the run began with; what is not in both is not compared.
      config: for messages.
      where: "--workdir=DIR" of that run.
    """
    for name, digest in found.items():
        if known.get(name, digest) != digest:
            domain, what = name.split(".")
            raise InputError(f"{name}={getattr(getattr(config, domain), what)}: is another volume than that with which the run in"
                             f" {where} began; must be the same, wherever it lies, or another workdir")
