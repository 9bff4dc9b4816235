"""What is served of a volume: an OME-Zarr 0.5 image with several levels, whose chunks are not compressed.

The layout: https://ngff.openmicroscopy.org/0.5 and https://zarr-specs.readthedocs.io/en/latest/v3/core.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from yseg.volumes.header import Header
from yseg.volumes.pyramid import Level
from yseg.volumes.writers.multiscale import CHUNK
from yseg.volumes.writers.ome import AXES, multiscale

ENDING = ".zarr"  # of the image's name
METADATA = "zarr.json"  # of the group, and in the folder of each level
CHUNKS = "c"  # the folder of a level's chunks: c/z/y/x
# The types that Neuroglancer shows, see DataType of its source. Of float64 and whole numbers of 64 bits images become float32.
_SHOWN = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
_LABELS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}  # by the bytes of a whole number


def served_type(dtype: np.dtype, *, labels: bool) -> np.dtype:
    """The type in which voxels of a type are served: of labels one without a sign, of images one that Neuroglancer shows."""
    if labels:
        return np.dtype(np.uint32 if dtype.kind == "f" else _LABELS[dtype.itemsize])
    return dtype.newbyteorder("=") if dtype.name in _SHOWN else np.dtype(np.float32)


def as_served(values: np.ndarray, dtype: np.dtype, *, labels: bool) -> np.ndarray:
    """Voxels in the type in which they are served; labels below 0 and those that are not finite, which mean none, become 0."""
    if labels and values.dtype.kind == "f":
        values = np.where(np.isfinite(values) & (values > 0), np.round(values), 0)
    elif labels and values.dtype.kind == "i":
        values = np.maximum(values, 0)
    return values.astype(dtype, copy=False)


def chunk_shape(level: Level) -> tuple[int, int, int]:
    """The sides (z, y, x) of a level's chunks, in its voxels."""
    z, y, x = (min(size, side) for size, side in zip(level.shape, CHUNK, strict=True))
    return z, y, x


def chunk_box(level: Level, index: Sequence[int]) -> tuple[slice, ...] | None:
    """The voxels of a level that the chunk (z, y, x) of that number along each axis has; None if there is no such chunk."""
    starts = [number * side for number, side in zip(index, chunk_shape(level), strict=True)]
    if any(not 0 <= start < size for start, size in zip(starts, level.shape, strict=True)):
        return None
    return tuple(slice(start, min(start + side, size))
                 for start, side, size in zip(starts, chunk_shape(level), level.shape, strict=True))


def encoded(values: np.ndarray, level: Level) -> bytes:
    """The bytes of a chunk [z, y, x]: little-endian, x fastest; one that is cut by the volume's end is filled up with 0."""
    whole = np.zeros(chunk_shape(level), values.dtype.newbyteorder("<"))
    whole[tuple(slice(size) for size in values.shape)] = values
    return whole.tobytes()


def group_metadata(header: Header, levels: Sequence[Level], name: str) -> bytes:
    """The zarr.json of the image: its levels, their sizes and places."""
    named = [(str(number), level) for number, level in enumerate(levels)]
    ome = {"version": "0.5", "multiscales": [multiscale(header, named, name)],
           **({"image-label": {"version": "0.5"}} if header.is_labels else {})}
    return _json({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})


def level_metadata(level: Level, dtype: np.dtype) -> bytes:
    """The zarr.json of a level."""
    codec: dict[str, Any] = {"name": "bytes", **({"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {})}
    return _json({
        "zarr_format": 3, "node_type": "array", "shape": level.shape, "data_type": dtype.name, "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape(level)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [codec], "dimension_names": list(AXES), "attributes": {}})


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode()
