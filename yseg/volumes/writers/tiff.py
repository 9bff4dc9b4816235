"""TIFF stacks: as ImageJ writes them where they are small enough for it, else OME-TIFF in a BigTIFF."""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
import tifffile

from yseg import __version__
from yseg.volumes.header import Header

SOFTWARE = "yseg"  # the tag Software of what is written here starts with it
IMAGEJ = ("uint8", "uint16", "float32")
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
_IS_SHORT = re.compile(r"\d+ requested and \d+ written")  # what NumPy says of a full disk
_LARGEST = 2**32 - 2**26  # bytes in a file of ImageJ: offsets have 32 bits, and there are tables beside the voxels


def write_tiff(volume: ts.TensorStore, path: Path, header: Header, name: str) -> None:
    """Write a volume [z, y, x] as a TIFF stack that ImageJ reads with its voxel size; as `write_ome_tiff` if it cannot be one.

    Args:
      volume: is read section by section, of one of DTYPES.
      path: the file that is created.
      header: what is stored beside the voxels.
      name: of the image.
    """
    dtype = volume.dtype.numpy_dtype
    if dtype.name not in IMAGEJ or volume.size * dtype.itemsize > _LARGEST:
        write_ome_tiff(volume, path, header, name)
        return
    micron = 1000 / header.pixel_size_nm
    metadata: dict[str, Any] = {"axes": "ZYX", "unit": "micron"}
    if header.section_nm:
        metadata["spacing"] = header.section_nm / 1000
    if header.value_range:
        metadata["min"], metadata["max"] = header.value_range  # else classes are shown as black and nearly black
    _write(volume, path, imagej=True, resolution=(micron, micron), resolutionunit="NONE", metadata=metadata)


def write_ome_tiff(volume: ts.TensorStore, path: Path, header: Header, name: str) -> None:
    """Write a volume as OME-TIFF, see `write_tiff`; sections are compressed, in a BigTIFF where they may be too large."""
    sizes = {"PhysicalSizeX": header.pixel_size_nm, "PhysicalSizeY": header.pixel_size_nm, "PhysicalSizeZ": header.section_nm}
    metadata: dict[str, Any] = {"axes": "ZYX", "Name": name}
    for key, size in sizes.items():
        if size:
            metadata |= {key: size, f"{key}Unit": "nm"}
    centimetre = 1e7 / header.pixel_size_nm
    _write(volume, path, ome=True, bigtiff=volume.size * volume.dtype.numpy_dtype.itemsize > _LARGEST, compression="zlib",
           resolution=(centimetre, centimetre), resolutionunit="CENTIMETER", metadata=metadata)


def _write(volume: ts.TensorStore, path: Path, **options: Any) -> None:
    try:
        tifffile.imwrite(path, _sections(volume), shape=tuple(volume.shape), dtype=volume.dtype.numpy_dtype,
                         photometric="minisblack", software=f"{SOFTWARE} {__version__}", **options)
    except OSError as error:
        if _IS_SHORT.search(str(error)) is None:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _sections(volume: ts.TensorStore) -> Iterator[np.ndarray]:
    for section in range(volume.shape[0]):
        yield volume[section].read().result()


def is_marked(path: Path) -> bool:
    """Whether a file is a TIFF that was written here, and by no other program since."""
    try:
        with tifffile.TiffFile(path) as file:
            return str(file.pages.first.software).startswith(f"{SOFTWARE} ")
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):
        return False
