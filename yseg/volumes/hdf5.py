"""Volumes in HDF5 files, which h5py reads, with the compressions of hdf5plugin."""

import contextlib
import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers its compressions)
import numpy as np
import tensorstore as ts

from yseg.config import InputError
from yseg.volumes.axes import Axis, arranged, kind_of
from yseg.volumes.chunks import missing_note
from yseg.volumes.header import MARK, marked_nm
from yseg.volumes.opened import NUMBERS, OpenedVolume, Request, cache_bytes, first_line, times
from yseg.volumes.places import HDF5, dataset_of
from yseg.volumes.voxel_size import with_sizes

_MOST_BYTES = 8  # of a number: TensorStore has no long double
_ONE_AT_A_TIME = threading.Lock()  # the HDF5 library lets one thread in, whatever the file


def is_hdf5(spec: str) -> bool:
    """Whether a spec is FILE.h5:DATASET, or the file alone."""
    file = dataset_of(spec)[0]
    return "://" not in spec and Path(file).suffix.lower() in HDF5 and not os.path.isdir(file)


def open_hdf5(request: Request) -> OpenedVolume:
    """A dataset in an HDF5 file, FILE.h5:DATASET, or FILE.h5 if it has one alone. The file is open only while a chunk is read.

    Axes and sizes are those of `axistags` (ilastik), of the dataset's dimension labels, and of the attributes that
    `yseg.volumes.voxel_size.with_sizes` knows.

    Raises:
      InputError: no such file or dataset, or the dataset is no volume; while reading, the same, a dataset of another shape or
        type than before, or data that cannot be decoded.
    """
    name = request.name
    file, dataset = dataset_of(request.spec)
    if not os.path.isfile(file):
        raise InputError(f"{name}: no such file or folder")
    file = os.path.abspath(file)  # the working folder may be another when it is read
    with _dataset(file, dataset, name) as found:
        shape, dtype = found.shape, found.dtype
        chunks = found.chunks or (*(1,) * (found.ndim - 2), *shape[-2:])
        axes, missing = _axes(found), 0 if request.labels and _mark(found) is None else _missing(found)

    def read(domain: ts.IndexDomain, array: np.ndarray, _: ts.VirtualChunkedReadParameters) -> None:
        with _dataset(file, dataset, name) as found:
            if (found.shape, found.dtype) != (shape, dtype):
                raise InputError(f"{name}: is no longer what it was when it was opened ({times(shape)}, {dtype}), but"
                                 f" {times(found.shape)}, {found.dtype}")
            try:
                array[...] = found[domain.index_exp]
            except OSError as error:
                raise InputError(f"{name}: cannot be read ({first_line(error)})") from error

    store = ts.virtual_chunked(
        read, dtype=ts.dtype(np.dtype(dtype).newbyteorder("=")), shape=shape,
        chunk_layout=ts.ChunkLayout(read_chunk_shape=chunks),
        context=ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes(shape, chunks, dtype.itemsize)}}))
    return arranged(store, axes, request).noting(*missing_note(name, missing))


@contextlib.contextmanager
def _dataset(path: str, dataset: str, name: str) -> Iterator[h5py.Dataset]:
    """A context manager that opens an HDF5 file and yields a dataset of it; InputError if that is no volume."""
    with _ONE_AT_A_TIME:
        try:
            file = h5py.File(path, "r", locking="best-effort")
        except OSError as error:
            raise InputError(f"{name}: cannot be read as HDF5 ({first_line(error)})") from error
        with file:
            found = _found(file, dataset)
            if not isinstance(found, h5py.Dataset):
                allowed = ", ".join(_datasets(file)) or "none, as it is empty"
                raise InputError(f"{name}: must be {path}:DATASET, with one of {allowed}")
            if (found.shape is None or found.ndim < 2 or 0 in found.shape or found.dtype.kind not in NUMBERS + "b"
                    or found.dtype.itemsize > _MOST_BYTES):
                raise InputError(f"{name}: shape {times(found.shape or ())}, type {found.dtype}; must be [z, y, x] or [y, x] of"
                                 " numbers")
            _check_storage(found, name)
            yield found


def _found(file: h5py.File, dataset: str) -> Any:
    names = [dataset] if dataset else _datasets(file)
    try:
        return file.get(names[0]) if len(names) == 1 else None
    except (KeyError, OSError):  # such as a link to a file that is not there
        return None


def _datasets(file: h5py.File) -> list[str]:
    """The names of all datasets in an HDF5 file."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names


def _check_storage(found: h5py.Dataset, name: str) -> None:
    """InputError if data are compressed in a way that is not known, or lie in other files, which may not be there."""
    plan = found.id.get_create_plist()
    for number in range(plan.get_nfilters()):
        code, _, _, title = plan.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            called = title.decode(errors="replace") or "without a name"
            raise InputError(f"{name}: is compressed by the HDF5 filter {code} ({called}), which neither h5py nor hdf5plugin has")
    folder = os.path.dirname(found.file.filename)
    others = [source.file_name for source in found.virtual_sources()] if found.is_virtual else []
    for other in [*others, *(entry[0] for entry in found.external or ())]:
        if other != "." and not os.path.isfile(os.path.join(folder, other)):
            raise InputError(f"{name}: its data lie in {other}, which is not there")


def _missing(found: h5py.Dataset) -> int:
    """How many chunks have never been written."""
    if found.chunks is None or found.is_virtual:
        return 0
    expected = math.prod(math.ceil(size / side) for size, side in zip(found.shape, found.chunks, strict=True))
    return expected - found.id.get_num_chunks()


def _axes(found: h5py.Dataset) -> list[Axis]:
    """The axes of a dataset, as far as it names them."""
    names = _axistags(found.attrs.get("axistags")) or [dimension.label for dimension in found.dims]
    attributes = {key: _plain(found.attrs[key]) for key in found.attrs if key != "axistags"}
    named = [Axis(name) for name in names] if len(names) == found.ndim else [Axis()] * found.ndim
    axes = with_sizes(named, attributes, x_first=False)
    if not any(axis.nm for axis in axes):
        sizes = dict(zip("zyx", marked_nm(_mark(found)) or (), strict=False))
        axes = [Axis(axis.name, sizes.get(kind_of(axis.name))) for axis in axes]
    return axes


def _mark(found: h5py.Dataset) -> Any:
    """What yseg says of a dataset that it has written."""
    try:
        mark = json.loads(found.file.attrs[MARK])
        return mark if found.name.strip("/") in mark["holds"] else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _axistags(text: Any) -> list[str]:
    """The names of the axes in vigra's JSON; none if it is something else."""
    try:
        return [axis["key"] for axis in json.loads(text)["axes"]]
    except (TypeError, ValueError, KeyError):
        return []


def _plain(value: Any) -> Any:
    """An attribute as Python's own type."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    if isinstance(value, list):
        return [part.decode(errors="replace") if isinstance(part, bytes) else part for part in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value
