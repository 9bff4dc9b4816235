"""Create volumes in every format that is written: `--output` of the programs.

An output is collected in a scratch array beside its place, in any order, and written from that in the order that its format
likes, with coarser levels; it gets its name when it is whole. A format is a line in `_FORMATS` and a module of `writers/`.
"""

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike

from yseg.config import InputError
from yseg.files import whole_folder
from yseg.volumes import bucket
from yseg.volumes.arrays import new_array
from yseg.volumes.header import BOTH, CLASSES, FORMATS, PROBABILITY, WHAT, Header
from yseg.volumes.opened import NUMBERS, check_slashes
from yseg.volumes.ownership import check_apart, check_free
from yseg.volumes.places import HDF5, dataset_of, file_of, is_bucket, is_url
from yseg.volumes.prefix import Prefix
from yseg.volumes.pyramid import Copy, copy
from yseg.volumes.writers import hdf5, n5, precomputed, tiff, zarr

_TRIES, _PAUSE_SECONDS = 100, 0.02
_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Format(NamedTuple):
    """A way to write a volume."""

    endings: tuple[str, ...]  # of its names
    write: Callable[..., None]  # (voxels, place, header, title), and of folders how levels are copied
    is_folder: bool  # else a file; folders may be in a bucket, and their place is a Prefix
    dtypes: tuple[str, ...] = ()  # that it can hold; empty = all


_FORMATS = dict(zip(FORMATS, (
    _Format((".zarr",), zarr.write_ome_zarr_05, True),
    _Format((".zarr",), zarr.write_ome_zarr_04, True),
    _Format((".n5",), n5.write_n5, True, n5.DTYPES),
    _Format((".precomputed",), precomputed.write_precomputed, True, precomputed.DTYPES),
    _Format((".tif", ".tiff"), tiff.write_tiff, False, tiff.DTYPES),
    _Format((".tif", ".tiff"), tiff.write_ome_tiff, False, tiff.DTYPES),
    _Format(HDF5, hdf5.write_hdf5, False)), strict=True))


def outputs_of(output: str, what: str) -> dict[str, str]:
    """The specs of what a segmentation gives, by kind: `output`, and of BOTH a second beside it for the probability.

    That of b.zarr is b_probability.zarr, that of b.h5:DATASET is b_probability.h5:DATASET.

    Args:
      output: a spec.
      what: one of WHAT.

    Raises:
      InputError: `what` is none of them.
    """
    if what not in WHAT:
        raise InputError(f"--what={what}: must be one of {', '.join(WHAT)}")
    if what != BOTH:
        return {what: output}
    file, dataset = dataset_of(output.rstrip("/"))
    stem, ending = next(((file[:-len(end)], end) for end in (".ome.tif", ".ome.tiff") if file.lower().endswith(end)),
                        os.path.splitext(file))
    return {CLASSES: output, PROBABILITY: f"{stem}_{PROBABILITY}{ending}" + (f":{dataset}" if dataset else "")}


def check_output(spec: str, overwrite: bool = False, flag: str = "--output", *, format: str | None = None,
                 inputs: Mapping[str, str] | None = None, dtype: DTypeLike | None = None) -> None:
    """InputError unless a volume can be created at `spec`; nothing is written.

    Args:
      spec: a path, or an URL of a bucket, whose ending is one of FORMATS.
      overwrite: whether what yseg wrote there may be replaced. Nothing else ever is.
      flag: the flag that gave the spec, for messages.
      format: one of FORMATS; None = by the ending.
      inputs: what is read, by the flags that say so: the output must lie apart from it.
      dtype: NumPy type of the voxels, if it is known already.
    """
    name = f"{flag}={spec}"
    found = _format_of(spec, format, name)
    if dtype is not None and (np.dtype(dtype).kind not in NUMBERS or (found.dtypes and np.dtype(dtype).name not in found.dtypes)):
        raise InputError(f"{name}: cannot hold values of type {np.dtype(dtype).name}; must be"
                         f" {', '.join(found.dtypes or ('numbers',))}, or another format")
    if not is_url(spec):
        check_slashes(os.path.realpath(file_of(spec)), name)
    check_apart(spec, inputs or {}, name)
    check_free(spec, overwrite, name)
    if not is_url(spec):
        above = next(path for path in Path(os.path.realpath(file_of(spec))).parents if os.path.lexists(path))
        if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            raise InputError(f"{name}: cannot be created, as {above} is no folder that can be written to")


def _format_of(spec: str, format: str | None, name: str) -> _Format:
    """The format of a spec; InputError if it is none, or not that which is asked for."""
    if format is not None and format not in FORMATS:
        raise InputError(f"--format={format}: must be one of {', '.join(FORMATS)}")
    ending = Path(dataset_of(spec)[0]).suffix.lower()
    there = [key for key, known in _FORMATS.items() if ending in known.endings and (known.is_folder or not is_url(spec))]
    if not there or (is_url(spec) and not (is_bucket(spec) and _key(spec))):
        folders = [end for known in _FORMATS.values() if known.is_folder for end in known.endings]
        files = [end for known in _FORMATS.values() if not known.is_folder for end in known.endings]
        raise InputError(f"{name}: must end in one of {', '.join(dict.fromkeys(folders))} (a path, or in a bucket:"
                         f" s3://BUCKET/NAME or gs://BUCKET/NAME) or {', '.join(dict.fromkeys(files))} (a path; FILE.h5:DATASET)")
    if format is not None and format not in there:
        raise InputError(f"--format={format}: must be one of {', '.join(there)} for {name}")
    if format is None and Path(spec).stem.lower().endswith(".ome") and "ome-tiff" in there:
        format = "ome-tiff"
    return _FORMATS[format or there[0]]


def _key(spec):
    return spec.split("://", 1)[1].partition("/")[2].strip("/")


@contextlib.contextmanager
def create_volume(spec: str, shape: Sequence[int], dtype: DTypeLike, pixel_size_nm: float, *, section_nm: float | None = None,
                  kind: str = CLASSES, classes: int = 2, start: Sequence[float] = (0.0, 0.0, 0.0), overwrite: bool = False,
                  flag: str = "--output", format: str | None = None,
                  inputs: Mapping[str, str] | None = None) -> Iterator[ts.TensorStore]:
    """Create a volume; a context manager that yields a writable TensorStore [z, y, x], to be filled in any order.

    It is there whole or not at all, see `yseg.files`: it is written, and gets its name, when the block is left without an
    exception, and after one nothing is left. In a bucket it is whole as soon as it has metadata, see `yseg.volumes.bucket`.
    Meanwhile the voxels take room beside it, or in the folder for temporary files if it is in a bucket.

    Args:
      spec: see `check_output`.
      shape: (z, y, x) in voxels.
      dtype: NumPy type of the voxels.
      pixel_size_nm: size of a pixel in y and x.
      section_nm: distance of two sections; None = unknown.
      kind: what the voxels mean, see `yseg.volumes.header.Header`.
      classes: how many there are, of CLASSES.
      start: where its first voxel lies (z, y, x), in voxels; TIFF and HDF5 have no place for it.
      overwrite, flag, format, inputs: see `check_output`.

    Raises:
      InputError: see `check_output`; or the place cannot be written to.
      OSError: the disk is full, or the finished volume cannot get its name; it is kept then, and the message says where.
    """
    header = Header(kind, pixel_size_nm, section_nm, classes, start)
    check_output(spec, overwrite, flag, format=format, inputs=inputs, dtype=dtype)
    with _new(spec, overwrite, flag, format, inputs) as (folder, write), _scratch(folder) as scratch:
        store = new_array(scratch, shape, dtype, pixel_size_nm, section_nm=section_nm, lasting=False)
        yield store
        write(store, header, copy)


def write_volume(spec: str, voxels: ts.TensorStore, header: Header, *, overwrite: bool = False, flag: str = "--output",
                 format: str | None = None, inputs: Mapping[str, str] | None = None, copy: Copy = copy,
                 within: Prefix | None = None) -> None:
    """Write a volume whose voxels are all there, in an array that can be read; whole or not at all, see `create_volume`.

    Args:
      spec, overwrite, flag, format, inputs: see `check_output`.
      voxels: TensorStore [z, y, x].
      header: what they mean.
      copy: writes levels of formats that are folders, see `yseg.volumes.pyramid.copy`.
      within: where an output in a bucket is assembled, a place without files; None = on this machine.

    Raises:
      InputError, OSError: see `create_volume`.
    """
    check_output(spec, overwrite, flag, format=format, inputs=inputs, dtype=voxels.dtype.numpy_dtype)
    if within is not None and is_bucket(spec):
        name = f"{flag}={spec}"
        bucket.announce(spec, name)
        _format_of(spec, format, name).write(voxels, within, header, _title(spec), copy=copy)
        check_free(spec, overwrite, name)  # something else may be there by now
        bucket.upload(within, spec, name)
        return
    with _new(spec, overwrite, flag, format, inputs) as (_, write):
        write(voxels, header, copy)


@contextlib.contextmanager
def _new(spec: str, overwrite: bool, flag: str, format: str | None,
         inputs: Mapping[str, str] | None) -> Iterator[tuple[Path, Callable[[ts.TensorStore, Header, Copy], None]]]:
    """A new output that gets its name when the block ends well: (a folder for it, a function that writes it of its voxels)."""
    name, title = f"{flag}={spec}", _title(spec)
    found = _format_of(spec, format, name)
    with _full_disk(tempfile.gettempdir() if is_bucket(spec) else spec), contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(_place(spec, found, overwrite, name))
            folder = place if found.is_folder else place.parent
            stack.enter_context(_removed_on_error(folder))
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise InputError(f"{name}: cannot be created ({error.strerror})") from error

        def write(voxels: ts.TensorStore, header: Header, copy: Copy) -> None:
            if found.is_folder:
                found.write(voxels, Prefix.of(place), header, title, copy=copy)
            else:
                found.write(voxels, place, header, title)
            if not is_bucket(spec) and (overwrite or not found.is_folder):  # something else may have taken its place meanwhile
                check_output(spec, overwrite, flag, format=format, inputs=inputs)

        yield folder, write


def _title(spec):
    """What the volume is called in its metadata; of HDF5 the name of the dataset."""
    file, dataset = dataset_of(spec)
    is_hdf5 = Path(file).suffix.lower() in HDF5
    return (dataset or hdf5.DATASET) if is_hdf5 else Path(file.rstrip("/")).stem


def _place(spec: str, found: _Format, overwrite: bool, name: str) -> contextlib.AbstractContextManager[Path]:
    """Where an output is written; when that is left it gets its name."""
    if is_bucket(spec):
        return _uploaded(spec, overwrite, name)
    path = Path(os.path.realpath(file_of(spec)))
    return whole_folder(path, replace=overwrite) if found.is_folder else _moved(path)


@contextlib.contextmanager
def _moved(path: Path) -> Iterator[Path]:
    """A file in a folder of its own beside its place, to which it is moved."""
    beside = path.with_name(f".{path.name}.work")
    with whole_folder(beside, replace=True) as folder:
        yield folder / path.name
        os.replace(folder / path.name, path)
    shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def _uploaded(spec: str, overwrite: bool, name: str) -> Iterator[Path]:
    """A folder on this machine, which is copied to a bucket. If only that fails, it stays."""
    bucket.announce(spec, name)
    folder = Path(tempfile.mkdtemp(prefix="yseg-"))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        check_free(spec, overwrite, name)  # something else may be there by now
        bucket.upload(Prefix.of(folder), spec, name)
    except InputError as error:
        raise InputError(f"{error}; the volume is whole and stays in {folder}") from error
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _scratch(above: Path) -> Iterator[Path]:
    """A new folder in another, for voxels on their way; it is deleted at the end."""
    folder = above / ".scratch"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    """After an exception a folder is deleted, when nothing writes there any more.

    TensorStore goes on with the other chunks of a write when one has failed, and makes folders that are missing.
    """
    try:
        yield
    except BaseException:
        for _ in range(_TRIES):
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(_PAUSE_SECONDS)
            if not folder.exists():
                break
        raise


@contextlib.contextmanager
def _full_disk(place: str) -> Iterator[None]:
    """A full disk is one OSError that names the place, whichever library meets it and however it says so."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        number = next((number for number in _FULL if os.strerror(number) in str(error)), None)
        if number is None:
            raise
        raise OSError(number, f"{os.strerror(number)}; nothing has been written", place) from error
