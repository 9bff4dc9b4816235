"""What every reader of volumes shares: what it is asked for, what it gives, and words for messages."""

import math
import os
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import tensorstore as ts

from yseg.config import InputError

LEAST_CACHE, MOST_CACHE = 2**25, 2**30  # bytes of decoded chunks that are kept of a volume
_SECTIONS_AGAIN = 3  # that a section's neighbours need again soon: those before it
NUMBERS = "uif"  # kinds of NumPy types that a volume may have
VoxelSize = tuple[float | None, float | None, float | None]  # of (z, y, x) in nm; None where a file says nothing
Start = tuple[float | None, float | None, float | None]  # of (z, y, x) in voxels; None where a file says nothing


class VolumeNotice(UserWarning):
    """What the user should know of a volume that is read all the same; one line."""


def tell(*notes: str) -> None:
    """Warn of VolumeNotices; all from one place, so that each text is said once. Empty ones are none."""
    for note in filter(None, notes):
        warnings.warn(note, VolumeNotice, stacklevel=1)


def cache_bytes(store_shape: Sequence[int], chunk: Sequence[int], item_bytes: int) -> int:
    """How much of a volume's decoded chunks is kept: the layers that its next sections need again, of [..., z, y, x]."""
    depth = chunk[-3] if len(chunk) > 2 else 1
    layers = 1 + math.ceil(_SECTIONS_AGAIN / depth)
    return min(max(layers * depth * math.prod(store_shape[-2:]) * item_bytes, LEAST_CACHE), MOST_CACHE)


class Request(NamedTuple):
    """What is to be opened."""

    spec: str
    name: str  # what messages call it
    channel: int | None = None  # which one, if there are several; None = there must be one
    channel_flag: str = ""  # the flag that chooses it, for messages; "" = it cannot be chosen
    near_nm: float | None = None  # of several resolutions: the pixel size that is wanted; None = the finest
    labels: bool = False  # whether values are indices, which are never scaled


class OpenedVolume(NamedTuple):
    """A volume, and what its file says of it."""

    store: ts.TensorStore  # [z, y, x]
    voxel_nm: VoxelSize = (None, None, None)
    numbers: tuple[int, ...] | None = None  # of the sections, from the names of their files; None = they have none
    stems: tuple[str, ...] = ()  # of files without numbers: in what their names differ
    unlike_sizes: str = ""  # what two sections say of their voxels that cannot both hold, in words
    notes: tuple[str, ...] = ()  # what the user should know, such as chunks that are missing; one line each
    start: Start = (None, None, None)  # where its first voxel lies in the space of its file; in voxels, as sizes may be unknown
    directions: tuple[str, str, str] = ("", "", "")  # what (z, y, x) run to, in the file's words; "" = it says nothing

    def noting(self, *notes: str) -> "OpenedVolume":
        """The same, with more notes."""
        return self._replace(notes=(*self.notes, *notes))


def check_slashes(path: str | os.PathLike, name: str) -> None:
    r"""InputError if a path has a backslash, which TensorStore takes for a slash: files would go to another place, or be none.

    Args:
      path: on a disk, whole.
      name: what messages call it.
    """
    if "\\" in str(path):
        raise InputError(f"{name}: lies in {path}; must be a path with / and without \\")


def times(shape: Sequence[int]) -> str:
    """A shape for messages."""
    return " x ".join(str(size) for size in shape)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, without TensorStore's machine-readable appendix."""
    lines = str(error).split(" [tensorstore_spec=")[0].split(" [source locations=")[0].splitlines()
    return lines[0].strip() if lines else type(error).__name__


def as_volume(store: ts.TensorStore, name: str) -> ts.TensorStore:
    """A TensorStore [z, y, x] or [y, x] as [z, y, x] that starts at 0, without labels; truth values become 0 and 1.

    Raises:
      InputError: it is empty, has another number of axes, or no numbers.
    """
    if store.rank not in (2, 3) or 0 in store.shape:
        raise InputError(f"{name}: shape {times(store.shape)}; must be [z, y, x] or [y, x] and not empty")
    store = ts.cast(store, ts.uint8) if store.dtype == ts.bool else store
    if store.dtype.numpy_dtype.kind not in NUMBERS:
        raise InputError(f"{name}: type {store.dtype.name}; must be integers or floats")
    store = store[ts.d[:].translate_to[0]][ts.d[:].label[("",) * store.rank]]
    return store if store.rank == 3 else store[ts.newaxis]
