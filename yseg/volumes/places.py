"""Where volumes lie: the file, folder or prefix of a bucket that a spec names, and whether one lies in another."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from yseg.volumes.stores import CLOUDS

HDF5 = (".h5", ".hdf5", ".hdf")  # the endings of files in which a spec names a dataset, FILE.h5:DATASET


def is_url(spec: str) -> bool:
    """Whether a spec is a URL, and not a path."""
    return "://" in spec


def is_bucket(spec: str) -> bool:
    """Whether a spec lies in a bucket, s3:// or gs://."""
    return is_url(spec) and urlsplit(spec).scheme in CLOUDS


def file_of(spec: str) -> str:
    """The file or folder of a path: of FILE.h5:DATASET the file; ~ is the user's home."""
    return os.path.expanduser(dataset_of(spec)[0])


def dataset_of(spec: str) -> tuple[str, str]:
    """(file, dataset) of FILE.h5:DATASET, and (spec, "") of every other.

    The name of a dataset may have colons, and so may those of folders: of several ways to part a spec that of a file that is
    there counts, else the first that does not part the name of a folder that is there.
    """
    if ":" not in spec or os.path.exists(os.path.expanduser(spec)):
        return spec, ""
    ways = [place for place, sign in enumerate(spec) if sign == ":" and Path(spec[:place]).suffix.lower() in HDF5]
    files = [place for place in ways if os.path.isfile(os.path.expanduser(spec[:place]))]
    others = [place for place in ways if not _parts_a_folder(spec, place)]
    place = next(iter(files + others), None)
    return (spec, "") if place is None else (spec[:place], spec[place + 1:].strip("/"))


def _parts_a_folder(spec: str, place: int) -> bool:
    """Whether a place in a spec lies in the name of a folder that is there."""
    end = spec.find("/", place)
    return end >= 0 and os.path.isdir(os.path.expanduser(spec[:end]))


def relation(place: str, other: str) -> str:
    """How the place of a spec lies to that of another: "is", "lies in", "holds", or "" if they have nothing in common.

    Links are followed, and are places of their own, too: what lies behind a link in a folder also lies in that folder. So do
    links in the other folder, such as those to sections or to the levels of an image, whose places are then held.
    """
    if is_url(place) != is_url(other):
        return ""
    ours, theirs = (_in_bucket if is_url(spec) else _on_disk for spec in (place, other))
    if _any_in(ours(place), theirs(other)):
        return "is" if _any_in(theirs(other), ours(place)) else "lies in"
    linked = [] if is_url(other) else _linked(file_of(other))
    return "holds" if _any_in([*theirs(other), *linked], ours(place)) else ""


def _in_bucket(spec: str) -> list[Path]:
    parts = urlsplit(spec)
    return [Path("/", parts.scheme, parts.netloc, parts.path.strip("/"))]


def _on_disk(spec: str) -> list[Path]:
    path = file_of(spec)
    return [Path(os.path.abspath(path)), Path(os.path.realpath(path))]


def _linked(folder: str) -> list[Path]:
    """What the links in a folder lead to."""
    try:
        with os.scandir(folder) as entries:
            return [Path(os.path.realpath(entry.path)) for entry in entries if entry.is_symlink()]
    except OSError:
        return []


def _any_in(inner: list[Path], outer: list[Path]) -> bool:
    return any(_is_same(folder, there) for there in outer for folder in _upwards(inner))


def _upwards(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        yield path
        yield from path.parents


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths are one place; by another name, too, as where the case of letters makes no difference."""
    if path == other:
        return True
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
