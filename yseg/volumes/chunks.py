"""Chunks of arrays on a disk: one that cannot be read is named in one line; those that are missing are counted."""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from yseg.config import InputError
from yseg.volumes.opened import cache_bytes, first_line

_MOST = 100_000  # chunks of a volume up to which they are counted
_CHUNK_FILE = re.compile(r"c?[0-9._-]+")  # such as 0.1.2, and c.0.1.2, 0-64_0-64_0-64
# What CloudVolume adds to the names of the chunks that it compresses on a disk: how they are decompressed.
_COMPRESSED = {".gz": "gunzip -r", ".br": "brotli -d", ".zst": "zstd -d -r", ".xz": "unxz", ".bz2": "bunzip2"}


def checked(store: ts.TensorStore, name: str, threads: int) -> ts.TensorStore:
    """The same array, whose reads raise InputError where TensorStore cannot read or decode a chunk.

    Args:
      store: TensorStore that starts at 0, without a cache of its own.
      name: what messages call it.
      threads: how many chunks are read at once; they are its own, as those that wait must not be those that read.
    """
    def read(domain: ts.IndexDomain, array: np.ndarray, _: ts.VirtualChunkedReadParameters) -> None:
        try:
            array[...] = store[domain].read().result()
        except Exception as error:
            raise InputError(f"{name}: cannot be read ({first_line(error)})") from error

    chunk, kept = read_chunk(store), kept_bytes(store)
    return ts.virtual_chunked(
        read, dtype=store.dtype, shape=store.shape, chunk_layout=ts.ChunkLayout(read_chunk_shape=chunk),
        context=ts.Context({"cache_pool": {"total_bytes_limit": kept}, "data_copy_concurrency": {"limit": threads}}))


def read_chunk(store: ts.TensorStore) -> tuple[int, ...]:
    """The shape of the pieces in which a volume is read."""
    shape = store.chunk_layout.read_chunk.shape or store.shape
    return tuple(size or whole for size, whole in zip(shape, store.shape, strict=True))


def kept_bytes(store: ts.TensorStore) -> int:
    """How much of a volume [z, y, x] that is read is kept in memory."""
    return cache_bytes(store.shape, read_chunk(store), store.dtype.numpy_dtype.itemsize)


def of_array(values: Any) -> ts.TensorStore:
    """The TensorStore of an array that is read in parts, [..., y, x]; a chunk is a section. Parts are read one at a time."""
    shape = values.shape
    chunk = [*(1,) * (len(shape) - 2), *shape[-2:]]

    def read(domain: ts.IndexDomain, array: np.ndarray, _: ts.VirtualChunkedReadParameters) -> None:
        array[...] = values[domain.index_exp]

    return ts.virtual_chunked(
        read, dtype=ts.dtype(values.dtype.newbyteorder("=")), shape=shape,
        chunk_layout=ts.ChunkLayout(read_chunk_shape=chunk),
        context=ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes(shape, chunk, values.dtype.itemsize)},
                            "data_copy_concurrency": {"limit": 1}}))


def check_uncompressed(folder: str | os.PathLike, name: str) -> None:
    """InputError if chunks of a precomputed volume are compressed files, which TensorStore would take for missing.

    Args:
      folder: of a resolution; it need not be there.
      name: what messages call the volume.
    """
    try:
        files = set(os.listdir(folder))
    except OSError:
        return
    for file in files:
        chunk, ending = os.path.splitext(file)
        if ending in _COMPRESSED and chunk not in files:
            place = f"{folder}/*{ending}" if "-r" not in _COMPRESSED[ending] else str(folder)
            raise InputError(f"{name}: its chunks are compressed files, such as {file}; must be decompressed, for example by"
                             f" {_COMPRESSED[ending]} {place}")


def missing_chunks(folder: str | os.PathLike, store: ts.TensorStore) -> int:
    """How many chunks of an array on a disk have no file; 0 if there are too many to count.

    Writers may leave out chunks in which there is nothing; an interrupted copy leaves out others.

    Args:
      folder: of the array.
      store: TensorStore, the array as it is stored.
    """
    sides = store.chunk_layout.write_chunk.shape or store.shape
    expected = math.prod(-(-size // (side or size)) for size, side in zip(store.shape, sides, strict=True))
    if expected > _MOST:
        return 0
    found = sum(bool(_CHUNK_FILE.fullmatch(file)) for _, _, files in os.walk(Path(folder)) for file in files)
    return max(expected - found, 0)


def missing_note(name: str, missing: int) -> tuple[str, ...]:
    """What is said of missing chunks."""
    return (f"{name}: {missing} chunk{'s are' if missing > 1 else ' is'} missing, and read as empty",) if missing else ()
