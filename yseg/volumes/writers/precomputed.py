"""Neuroglancer precomputed volumes, https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed."""

import json
from typing import Any

import numpy as np
import tensorstore as ts

from yseg.volumes.header import MARK, Header
from yseg.volumes.prefix import Prefix
from yseg.volumes.pyramid import Copy, Level
from yseg.volumes.writers.multiscale import CHUNK, new_store, write_levels

FILE = "info"
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float32")


def write_precomputed(volume: ts.TensorStore, folder: Prefix, header: Header, name: str, *, copy: Copy) -> None:
    """Write a volume [z, y, x] as a precomputed one: a segmentation if it is of labels, else an image.

    Whole numbers of a segmentation that are not negative become uint32 or stay uint64, as those alone are compressed. It starts
    at whole voxels of each level, rounded down in the coarser ones, as CloudVolume has it.

    Args:
      volume: is read once, of one of DTYPES.
      folder: is empty.
      header: what is stored beside the voxels.
      name: of the volume; the format has no place for it.
      copy: see `yseg.volumes.writers.multiscale.write_levels`.
    """
    del name
    dtype = volume.dtype.numpy_dtype
    encoding: dict[str, Any] = {"encoding": "raw"}
    if header.is_labels and dtype.kind == "u":
        dtype = np.dtype(np.uint64 if dtype == np.uint64 else np.uint32)
        encoding = {"encoding": "compressed_segmentation", "compressed_segmentation_block_size": [8, 8, 8]}
    multiscale = {"type": "segmentation" if header.is_labels else "image", "data_type": dtype.name, "num_channels": 1}

    start = [round(first) for first in header.start]

    def create(number: int, level: Level) -> ts.TensorStore:
        sizes = [round(size * factor, 9) for size, factor in zip(header.voxel_nm, level.factors, strict=True)]
        offset = [first // factor for first, factor in zip(start, level.factors, strict=True)]
        scale = {"key": str(number), "size": level.shape[::-1], "voxel_offset": offset[::-1], "resolution": sizes[::-1],
                 "chunk_size": CHUNK[::-1], **encoding}
        store = new_store("neuroglancer_precomputed", folder, multiscale_metadata=multiscale, scale_metadata=scale)
        return store[..., 0].T[ts.d[:].translate_to[0]]

    levels = write_levels(ts.cast(volume, dtype), header, create, copy)
    info = json.loads(folder.read(FILE)) | {MARK: header.mark([FILE, *map(str, range(len(levels)))])}
    folder.write(FILE, (json.dumps(info, indent=2, allow_nan=False) + "\n").encode())
