"""The config of a run whose volumes have moved since it was trained."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from yseg.config import Domain, Experiment, InputError
from yseg.data.domain import absolute_path
from yseg.volumes.places import file_of, is_url

Moved = Mapping[str, str]  # where they are now: of DATA_DIR, and of each of MOVABLE that is somewhere else, its path or URL
DATA_DIR = "data_dir"
MOVABLE = tuple(f"{domain}.{what}" for domain in ("source", "target") for what in ("image", "labels"))

AnExperiment = TypeVar("AnExperiment", bound=Experiment)


def relocated(config: AnExperiment, moved: Moved | None) -> AnExperiment:
    """A resolved config with its volumes where they are now.

    In a data folder a volume is looked for under the last parts of its path, as many as are found there: of /old/em/b/raw.tif in
    /new it is /new/old/em/b/raw.tif, else /new/em/b/raw.tif, and so on.

    Args:
      config: of a run.
      moved: see `Moved`; what is empty or None says nothing.

    Raises:
      InputError: none of the volumes is in the data folder, and no path is given.
      ValueError: a name is neither DATA_DIR nor one of MOVABLE.
    """
    given = {name: place for name, place in (moved or {}).items() if place}
    for name in given:
        if name != DATA_DIR and name not in MOVABLE:
            raise ValueError(f"moved={name}: must be {DATA_DIR} or one of {', '.join(MOVABLE)}")
    if not given:
        return config
    data_dir = absolute_path(given.get(DATA_DIR, ""))
    places = {}
    for name in MOVABLE:
        domain, what = name.split(".")
        before = getattr(getattr(config, domain), what)
        found = absolute_path(given[name]) if name in given else _below(data_dir, before)
        if found:
            places[name] = found
    if not places:
        raise InputError(f"--data_dir={data_dir}: must be a folder with the volumes of the run, such as {config.target.image}")
    domains = {domain: dataclasses.replace(getattr(config, domain), **{
        name.split(".")[1]: place for name, place in places.items() if name.startswith(f"{domain}.")})
        for domain in ("source", "target")}
    return dataclasses.replace(config, data_dir=data_dir or config.data_dir, **domains)


def check_there(domain: Domain, name: str) -> None:
    """InputError, with what to do about it, if a local volume of a run is not where it was; `name` is "source" or "target"."""
    for what in ("image", "labels"):
        spec = getattr(domain, what)
        if spec and not _is_there(spec):
            raise InputError(f"{spec}: no such file or folder; it was the run's {name} {what}: give --data_dir or"
                             f" --{name}_{what} if it has moved")


def _is_there(spec):
    return is_url(spec) or os.path.exists(file_of(spec))


def _below(folder, spec):
    """Where a volume is in a folder that it was moved to; "" if it is not there."""
    if not folder or not spec or "://" in spec:
        return ""
    parts = Path(spec).parts[1:]
    for first in range(len(parts)):
        place = os.path.join(folder, *parts[first:])
        if _is_there(place):
            return place
    return ""
