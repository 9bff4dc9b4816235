"""What may be replaced: only what yseg wrote, which a mark in its metadata tells, and to which nothing has been added since."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yseg.config import InputError
from yseg.volumes import bucket
from yseg.volumes.header import MARK
from yseg.volumes.places import file_of, is_bucket, relation
from yseg.volumes.writers import hdf5, tiff

# The files of folders that may hold the mark, and the keys on the way to it.
ROOTS = {"zarr.json": ("attributes",), ".zattrs": (), "attributes.json": (), "info": ()}


def check_apart(spec: str, inputs: Mapping[str, str], name: str) -> None:
    """InputError if an output is, holds, or lies in something that is read.

    Args:
      spec: of the output.
      inputs: their specs, or paths, by what messages call them. Empty ones do not count.
      name: what messages call the output.
    """
    for flag, other in inputs.items():
        found = relation(spec, other) if other else ""
        if found:
            raise InputError(f"{name}: {found} {flag}={other}, which is read; must be a place apart from it")


def check_free(spec: str, overwrite: bool, name: str) -> None:
    """InputError unless there is nothing at the place of an output, or what yseg wrote and may be overwritten.

    A link is never replaced, nor what it leads to. What a writing to a bucket left that was broken off counts as nothing.
    """
    if is_bucket(spec):
        names = bucket.names(spec, name)
        exists = bool(names & set(ROOTS)) or bool(names and bucket.UNFINISHED not in names)
        ours = _is_our_prefix(spec, names, name)
    else:
        path = Path(file_of(spec))
        if path.is_symlink():
            raise InputError(f"{name}: is a link to {os.path.realpath(path)}; must be a place of its own")
        exists, ours = os.path.lexists(path), _is_our_path(path)
    if exists and not ours:
        raise InputError(f"{name}: exists and is not what yseg wrote there, or more than that; it will not be replaced")
    if exists and not overwrite:
        raise InputError(f"{name}: exists already; give --overwrite to replace it")


def _is_our_path(path: Path) -> bool:
    if path.is_file():
        return tiff.is_marked(path) or hdf5.is_marked(path)
    if not path.is_dir():
        return False
    texts = {root: (path / root).read_bytes() for root in ROOTS if (path / root).is_file()}
    return _holds_only_ours(texts, set(os.listdir(path)))


def _is_our_prefix(spec: str, names: set[str], name: str) -> bool:
    return _holds_only_ours({root: bucket.read(spec, root, name) for root in names & set(ROOTS)}, names - {bucket.UNFINISHED})


def _holds_only_ours(texts: Mapping[str, bytes], names: set[str]) -> bool:
    """Whether the metadata of a folder have a mark that lists all names in it."""
    for root, text in texts.items():
        try:
            found: Any = json.loads(text)
            for key in (*ROOTS[root], MARK, "holds"):
                found = found[key]
            return names <= set(found)
        except (ValueError, KeyError, TypeError):
            continue
    return False
