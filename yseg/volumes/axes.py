"""From the axes of a file to [z, y, x]: names are obeyed, axes of length 1 are dropped, and channels are never sections."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import tensorstore as ts

from yseg.config import InputError
from yseg.volumes.opened import OpenedVolume, Request, as_volume, times

_NAMES = {
    "z": ("z", "depth", "section", "sections", "slice", "slices", "plane", "planes"),
    "y": ("y", "row", "rows", "height"),
    "x": ("x", "col", "cols", "column", "columns", "width"),
    "c": ("c", "ch", "channel", "channels", "s", "sample", "samples", "rgb", "rgba", "band", "bands"),
    "t": ("t", "time", "timepoint", "timepoints", "frame", "frames"),
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names}
_UNIT = re.compile(r"\s*(\(.*\)|\[.*\])$")  # behind a name, such as x (nm)
_BESIDE = ("axis", "dim", "dimension", "coord", "coordinate")  # words beside a name, such as x_axis
# Names that libraries give to axes that have none: dim_0 (xarray), phony_dim_0 (netCDF), q and i (tifffile).
_NO_NAME = re.compile(r"((phony[ _-]?)?(dim|dimension|axis|d)?[ _-]?[0-9]+|q|i|)", re.IGNORECASE)
_DROPPED = "t"  # what an axis of length 1 is taken for
_COLOURS = (3, 4)  # values of a pixel in colour, without and with transparency
_LEAST_SIDE = 16  # of a section of which three or four columns are taken for colours, where nothing is said
_FARTHEST = 2**40  # voxels from 0 at which a volume may start, so that every format can hold it; what is not finite is beyond


class Axis(NamedTuple):
    """One axis of a stored array."""

    name: str = ""  # as in the file; "" = it has none
    nm: float | None = None  # size of a voxel along it; None = unknown
    start: float | None = None  # where its first voxel lies, in voxels; None = the file says nothing
    direction: str = ""  # what it runs to, in the file's words; "" = it says nothing


def kind_of(name: str) -> str:
    """Of an axis: z, y, x, c (channels) or t (time); "" for a name that says nothing. Units do not count: x (nm) is x."""
    words = re.split(r"[ _-]", _UNIT.sub("", name.strip()).lower())
    left = [word for word in words if word not in _BESIDE]
    return _KINDS.get(left[0], "") if len(left) == 1 else ""


def arranged(store: ts.TensorStore, axes: Sequence[Axis], request: Request) -> OpenedVolume:
    """The volume [z, y, x] of an array whose axes have names; where no name says anything they are taken for z, y, x.

    Args:
      store: TensorStore, the array as it is stored.
      axes: Axis of each of its dimensions.
      request: which of several channels is wanted.

    Raises:
      InputError: axes that make no volume; several channels of which none is chosen; a channel that is not there; several
        points in time.
    """
    if store.rank != len(axes):
        raise InputError(f"{request.name}: {store.rank} axes ({times(store.shape)}), but {len(axes)} in its metadata")
    said = any(kind_of(axis.name) for axis in axes)
    kinds = _in_words(axes, store.shape) if said else _guessed(store.shape, request)
    moments, channels = ([size for kind, size in zip(kinds, store.shape, strict=True) if kind == wanted and size > 1]
                         for wanted in "tc")
    if moments or len(channels) > 1:
        raise InputError(f"{request.name}: shape {times(store.shape)}, axes {_listed(axes)}; must have one point in time and"
                         " at most one axis of channels; if an axis holds the sections, name it z")
    if request.channel and not channels:
        raise InputError(f"{request.channel_flag or 'channel'}={request.channel}: must be 0, as {request.name} has one channel")
    spatial = [kind for kind in kinds if kind in ("z", "y", "x")]
    if sorted(spatial) not in (["x", "y", "z"], ["x", "y"]) or "" in kinds:
        channel = f", or [c, z, y, x] with {request.channel_flag}" if request.channel_flag and not said else ""
        names = f", axes {_listed(axes)}" if said else ""
        raise InputError(f"{request.name}: shape {times(store.shape)}{names}; must be [z, y, x] or [y, x]{channel}")
    place = tuple(slice(None) if kind in spatial else _index(kind, size, request)
                  for kind, size in zip(kinds, store.shape, strict=True))
    store = store[ts.d[:].translate_to[0]][place]
    store = store[ts.d[[spatial.index(kind) for kind in "zyx" if kind in spatial]].transpose[:]]
    by_kind = dict(zip(kinds, axes, strict=True))
    z, y, x = (by_kind.get(kind, Axis()) for kind in "zyx")
    opened = OpenedVolume(as_volume(store, request.name), (z.nm, y.nm, x.nm), start=(_near(z), _near(y), _near(x)),
                          directions=(z.direction, y.direction, x.direction))
    unknown = [(axis.name, kind) for axis, kind in zip(axes, kinds, strict=True)
               if kind in spatial and not kind_of(axis.name) and not _NO_NAME.fullmatch(axis.name)]
    if len(unknown) < 2:  # of a single one it is clear what it must be
        return opened
    names, taken = (", ".join(listed) for listed in zip(*unknown, strict=True))
    return opened.noting(f"{request.name}: its axes {names} are not understood, and are taken for {taken}; must be named z, y and"
                         " x if they are others")


def _near(axis: Axis) -> float | None:
    return axis.start if axis.start is not None and abs(axis.start) <= _FARTHEST else None


def _index(kind: str, size: int, request: Request) -> int:
    """Which index of an axis that is no axis of a volume is taken."""
    if kind != "c" or size == 1:
        return 0
    flag = request.channel_flag
    if request.channel is None:
        choose = f"; choose one by {flag}=0 to {size - 1}" if flag else "; must be one"
        raise InputError(f"{request.name}: {size} channels, which are not sections{choose}; if they are sections,"
                         " name their axis z")
    if request.channel >= size:
        raise InputError(f"{flag or 'channel'}={request.channel}: must be below {size}, the number of channels of {request.name}")
    return request.channel


def _in_words(axes: Sequence[Axis], shape: Sequence[int]) -> list[str]:
    """The kinds of axes of which some are named: the others are what is missing of z, y, x, or dropped if they have length 1."""
    kinds = [kind_of(axis.name) for axis in axes]
    missing = [kind for kind in "zyx" if kind not in kinds]
    nameless = [number for number, kind in enumerate(kinds) if not kind]
    for number in list(nameless):
        if len(nameless) > len(missing) and shape[number] == 1:
            nameless.remove(number)
            kinds[number] = _DROPPED
    for number, kind in zip(nameless, missing[len(missing) - len(nameless):], strict=False):
        kinds[number] = kind
    return kinds


def _guessed(shape: Sequence[int], request: Request) -> list[str]:
    """The kinds of axes of which nothing is said."""
    kinds, rank = [""] * len(shape), len(shape)
    for number, size in enumerate(shape):
        if rank > 3 and size == 1:
            kinds[number], rank = _DROPPED, rank - 1
    left = [number for number, kind in enumerate(kinds) if not kind]
    if rank == 4 and request.channel is not None:
        kinds[left.pop(0)] = "c"
    elif rank == 3 and shape[left[2]] in _COLOURS and min(shape[number] for number in left[:2]) >= _LEAST_SIDE:
        kinds[left.pop(2)] = "c"
    if len(left) in (2, 3):
        for number, kind in zip(left, "zyx"[-len(left):], strict=True):
            kinds[number] = kind
    return kinds


def _listed(axes: Sequence[Axis]) -> str:
    return ", ".join(axis.name or "?" for axis in axes)
