"""Plain Zarr 3 arrays [z, y, x]: what a run keeps for itself, and where an output is collected before it is written."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike

from yseg.files import whole_folder

_CHUNK = 512  # side of the chunks, which are single sections as they are segmented one by one


@contextlib.contextmanager
def create_array(path: str | os.PathLike[str], shape: Sequence[int], dtype: DTypeLike, pixel_size_nm: float, *,
                 section_nm: float | None = None) -> Iterator[ts.TensorStore]:
    """Create an array; a context manager that yields it as a writable TensorStore [z, y, x].

    It is there whole or not at all, see `yseg.files.whole_folder`. The voxel size is stored in the attributes `dimension_units`
    (read by TensorStore and Neuroglancer) and, if section_nm is known, `voxel_size`, `units` and `axis_names`.

    Args:
      path: the folder that is created.
      shape: (z, y, x) in voxels.
      dtype: NumPy type of the voxels.
      pixel_size_nm: size of a pixel in y and x.
      section_nm: distance of two sections; None = unknown.

    Raises:
      OSError: there is something at `path`, or it cannot be written to.
    """
    with whole_folder(path) as folder:
        yield new_array(folder, shape, dtype, pixel_size_nm, section_nm=section_nm)


def new_array(folder: Path, shape: Sequence[int], dtype: DTypeLike, pixel_size_nm: float, *, section_nm: float | None = None,
              lasting: bool = True) -> ts.TensorStore:
    """An empty array in a folder, see `create_array`.

    Args:
      folder: exists and is empty.
      shape, dtype, pixel_size_nm, section_nm: see `create_array`.
      lasting: False = it is soon read and deleted: less compressed, and lost if the machine crashes, for speed.
    """
    dtype = np.dtype(dtype)
    voxel_nm = (section_nm, pixel_size_nm, pixel_size_nm)
    known = [float(size) for size in voxel_nm if size is not None]
    attributes = {"voxel_size": known, "units": ["nm"] * 3, "axis_names": ["z", "y", "x"]} if len(known) == 3 else {}
    metadata = {
        "shape": [int(size) for size in shape],
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *(min(int(size), _CHUNK) for size in shape[1:])]}},
        "codecs": [{"name": "bytes"}, blosc(dtype) if lasting else blosc(dtype, "lz4", 1)],
        "dimension_names": ["z", "y", "x"],
        "attributes": attributes,
    }
    return ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}, "metadata": metadata},
                   dimension_units=[None if size is None else f"{size} nm" for size in voxel_nm], create=True,
                   context=ts.Context({"file_io_sync": lasting})).result()


def blosc(dtype: np.dtype, name: str = "zstd", level: int = 5) -> dict:
    """The codec of Zarr 3 that compresses voxels of a type, by a compressor of that name at a level."""
    return {"name": "blosc", "configuration": {"cname": name, "clevel": level,
                                               "shuffle": "shuffle" if dtype.itemsize > 1 else "noshuffle"}}
