"""N5, https://github.com/saalfeldlab/n5: a group with the levels s0, s1, ... as Fiji, Paintera and Neuroglancer look for them."""

import json
from typing import Any

import tensorstore as ts

from yseg.volumes.header import MARK, Header
from yseg.volumes.prefix import Prefix
from yseg.volumes.pyramid import Copy, Level
from yseg.volumes.writers.multiscale import CHUNK, new_store, write_levels
from yseg.volumes.writers.ome import multiscale

FILE = "attributes.json"
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


def write_n5(volume: ts.TensorStore, folder: Prefix, header: Header, name: str, *, copy: Copy) -> None:
    """Write a volume [z, y, x] as N5, whose axes are x, y, z.

    Args:
      volume: is read once, of one of DTYPES.
      folder: is empty.
      header: what is stored beside the voxels.
      name: of the volume.
      copy: see `yseg.volumes.writers.multiscale.write_levels`.
    """
    def create(number: int, level: Level) -> ts.TensorStore:
        sizes = [round(size * factor, 9) for size, factor in zip(header.voxel_nm, level.factors, strict=True)]
        metadata = {"dimensions": level.shape[::-1], "dataType": volume.dtype.name, "compression": {"type": "gzip"},
                    "blockSize": [min(size, side) for size, side in zip(level.shape, CHUNK, strict=True)][::-1],
                    "downsamplingFactors": level.factors[::-1], **_units(header, sizes)}
        return new_store("n5", folder.below(f"s{number}"), metadata=metadata).T

    levels = write_levels(volume, header, create, copy)
    named = [(f"s{number}", level) for number, level in enumerate(levels)]
    group = {"n5": "2.0.0", "name": name, **_units(header, header.voxel_nm), "scales": [level.factors[::-1] for level in levels],
             "multiscales": [{"version": "0.4", **multiscale(header, named, name, axes="xyz")}],  # as n5-universe of Fiji has it
             MARK: header.mark([FILE, *dict(named)])}
    folder.write(FILE, (json.dumps(group, indent=2, allow_nan=False) + "\n").encode())


def _units(header: Header, sizes: Any) -> dict[str, Any]:
    """The size of a voxel z, y, x: a level's own for Neuroglancer and TensorStore; Fiji multiplies the finest by the factors."""
    units = ["nm" if header.section_nm else "", "nm", "nm"]
    return {"axes": ["x", "y", "z"], "units": units[::-1], "resolution": list(sizes)[::-1],
            "pixelResolution": {"dimensions": list(header.voxel_nm)[::-1], "unit": "nm"}}
