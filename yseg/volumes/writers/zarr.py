"""OME-Zarr 0.5 (Zarr 3) and 0.4 (Zarr 2), https://ngff.openmicroscopy.org: a group with the levels 0, 1, ..."""

import colorsys
import functools
import json
from typing import Any

import numpy as np
import tensorstore as ts

from yseg.volumes.arrays import blosc
from yseg.volumes.header import CLASSES, MARK, Header
from yseg.volumes.prefix import Prefix
from yseg.volumes.pyramid import Copy, Level
from yseg.volumes.writers.multiscale import BLOCK, CHUNK, new_store, write_levels
from yseg.volumes.writers.ome import AXES, multiscale


def write_ome_zarr_05(volume: ts.TensorStore, folder: Prefix, header: Header, name: str, *, copy: Copy) -> None:
    """Write a volume [z, y, x] as OME-Zarr 0.5, with many chunks in a file (sharded).

    Args:
      volume: is read once.
      folder: is empty.
      header: what is stored beside the voxels.
      name: of the image.
      copy: see `yseg.volumes.writers.multiscale.write_levels`.
    """
    dtype = volume.dtype.numpy_dtype
    levels = write_levels(volume, header, functools.partial(_create_v3, folder, dtype), copy)
    named = _named(levels)
    ome = {"version": "0.5", "multiscales": [multiscale(header, named, name)], **_image_label(header, {})}
    attributes = {"ome": ome, MARK: header.mark(["zarr.json", *dict(named)])}
    _write_json(folder, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes})


def write_ome_zarr_04(volume: ts.TensorStore, folder: Prefix, header: Header, name: str, *, copy: Copy) -> None:
    """Write a volume [z, y, x] as OME-Zarr 0.4, see `write_ome_zarr_05`."""
    dtype = volume.dtype.numpy_dtype
    levels = write_levels(volume, header, functools.partial(_create_v2, folder, dtype), copy)
    named, version = _named(levels), {"version": "0.4"}
    attributes = {"multiscales": [version | multiscale(header, named, name)], **_image_label(header, version),
                  MARK: header.mark([".zgroup", ".zattrs", *dict(named)])}
    _write_json(folder, ".zattrs", attributes)
    _write_json(folder, ".zgroup", {"zarr_format": 2})


def _named(levels: list[Level]) -> list[tuple[str, Level]]:
    """(path, level) of each."""
    return [(str(number), level) for number, level in enumerate(levels)]


def _create_v3(folder: Prefix, dtype: np.dtype, number: int, level: Level) -> ts.TensorStore:
    chunk = [min(size, side) for size, side in zip(level.shape, CHUNK, strict=True)]
    shard = [min(block, -(-size // side) * side) for size, side, block in zip(level.shape, chunk, BLOCK, strict=True)]
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    inner = {"chunk_shape": chunk, "codecs": [little, blosc(dtype)], "index_codecs": [little, {"name": "crc32c"}]}
    metadata = {"shape": level.shape, "data_type": dtype.name, "dimension_names": list(AXES),
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
                "codecs": [{"name": "sharding_indexed", "configuration": inner}]}
    return new_store("zarr3", folder.below(str(number)), metadata=metadata)


def _create_v2(folder: Prefix, dtype: np.dtype, number: int, level: Level) -> ts.TensorStore:
    compressor = {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": int(dtype.itemsize > 1)}
    metadata = {"shape": level.shape, "dtype": dtype.newbyteorder("<").str, "dimension_separator": "/", "compressor": compressor,
                "chunks": [min(size, side) for size, side in zip(level.shape, CHUNK, strict=True)], "fill_value": 0}
    return new_store("zarr", folder.below(str(number)), metadata=metadata)


def _image_label(header: Header, version: dict[str, str]) -> dict[str, Any]:
    """That the values are labels, and of classes their colours and names."""
    if not header.is_labels:
        return {}
    values = range(1, header.classes) if header.kind == CLASSES else ()
    colors = [{"label-value": value, "rgba": [*(round(255 * part) for part in colorsys.hsv_to_rgb(value / header.classes, 1, 1)),
                                              255]} for value in values]
    names = ["background", "foreground"] if header.classes == 2 else [f"class {value}" for value in range(header.classes)]
    properties = [{"label-value": value, "class": names[value]} for value in values]
    return {"image-label": version | ({"colors": colors, "properties": properties} if colors else {})}


def _write_json(folder: Prefix, name: str, content: dict[str, Any]) -> None:
    folder.write(name, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
