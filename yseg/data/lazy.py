"""Volumes that are computed from others when they are read."""

import functools
import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike

from yseg.data.box import Box, triple

_CHUNK = 512  # rows and columns that are computed at once, where nothing else is said
_THREADS = 8  # own ones: those that read what is computed must not wait for them
_CACHE_BYTES = 2**28

Found = TypeVar("Found")


def computed(read: Callable[[Box], np.ndarray], dtype: DTypeLike, shape: tuple[int, ...], *,
             whole_sections: bool = False) -> ts.TensorStore:
    """A TensorStore [z, y, x] whose voxels `read` returns for Boxes of one section, when they are asked for.

    Args:
      read: it is called from several threads, and may raise InputError, which whoever reads the store gets.
      dtype, shape: of the voxels; what `read` returns is cast.
      whole_sections: whether the boxes are sections; else they are at most 512 x 512.
    """
    chunk = (1, *(size if whole_sections else min(_CHUNK, size) for size in shape[1:]))

    def fill(domain: ts.IndexDomain, array: np.ndarray, _: ts.VirtualChunkedReadParameters) -> None:
        (first, *starts), (last, *stops) = domain.inclusive_min, domain.exclusive_max
        for place, number in enumerate(range(first, last)):
            array[place] = read(Box(triple((number, *starts)), triple((number + 1, *stops))))[0]

    return ts.virtual_chunked(
        fill, dtype=ts.dtype(np.dtype(dtype)), shape=shape, chunk_layout=ts.ChunkLayout(read_chunk_shape=chunk),
        context=ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}, "data_copy_concurrency": {"limit": _THREADS}}))


def once(find: Callable[[], Found]) -> Callable[[], Found]:
    """A function that returns what `find` found when it was first called, by whichever thread."""
    lock, found = threading.Lock(), functools.cache(find)

    def get() -> Found:
        with lock:
            return found()

    return get
