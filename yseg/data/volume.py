"""Open and create volumes: everything is one lazy TensorStore [z, y, x]; a 2-D image is a volume of one section.

This is the only module that touches volume files. A format is a function and a line in `_FORMATS`. Formats that TensorStore
does not read are stacks of sections, each decoded on demand; what can be found wrong without that is found on opening.
"""

import contextlib
import functools
import logging
import os
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import tensorstore as ts
import tifffile
from PIL import ImageMode
from PIL.PngImagePlugin import PngImageFile

from yseg.config import InputError
from yseg.data.phantom import phantom

_CACHE_BYTES = 2**28  # decoded data kept for each volume, so that patches of one section do not decode it again and again
_CHUNK = 512  # side of a created volume's chunks, which are single sections as they are segmented one by one
_NUMBERS = "uif"  # kinds of NumPy types that a volume may have
_TIFF, _PNG = (".tif", ".tiff"), (".png",)


def open_volume(spec, flag=""):
    """Open a volume for reading, lazily.

    Args:
      spec: a multi-page .tif, a .png, a folder of .tif or .png sections in natural order (2.png before 10.png), a Zarr array
        (v2 or v3), or phantom://DOMAIN/image?shape=z,y,x&seed=0 (DOMAIN source or target, image or labels).
      flag: the flag that gave the spec, for messages.

    Returns:
      TensorStore [z, y, x] that starts at 0 and has no dimension labels; integers or floats. Values are as stored, but 1-bit
      TIFF and PNG become 0 and 255 (masks of one stack are often 1-bit in some sections and 8-bit in others). It may be read
      from many threads.

    Raises:
      InputError: the volume is missing, damaged, not 2-D or 3-D, in colour, or of an unknown format. Data that cannot be
        decoded raise it later, when they are read.
    """
    name = f"{flag}={spec}" if flag else spec
    opened = next((opened for _, matches, opened in _FORMATS if matches(spec)), None)
    if "://" not in spec and not os.path.exists(spec) and (opened or not Path(spec).suffix):
        raise InputError(f"{name}: no such file or folder")
    if opened is None:
        raise InputError(f"{name}: not a volume that can be read: must be {', '.join(form for form, _, _ in _FORMATS)}")
    return opened(spec, name)


def check_pair(image, labels, image_flag, labels_flag):
    """InputError, naming both flags and shapes, unless an image volume and its label volume have the same shape."""
    if tuple(image.shape) != tuple(labels.shape):
        raise InputError(f"{labels_flag}: shape {_times(labels.shape)} differs from {_times(image.shape)} of {image_flag}"
                         " (sections x rows x columns)")


def _times(shape):
    return " x ".join(str(size) for size in shape)


# --- Stacks of sections ---


class _Section(NamedTuple):
    """One section of a stack: what is known before it is decoded, and how to decode it."""

    shape: tuple[int, int]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    label: str  # what messages call it


def _stack(sections, name):
    """The TensorStore of a list of sections: each is a chunk, decoded when it is read, by TensorStore's threads."""
    first = sections[0]
    for section in sections:
        if section.dtype.kind not in _NUMBERS + "b" or len(section.shape) != 2 or 0 in section.shape:
            raise InputError(f"{name}: {section.label} is no grey-level image of one channel (shape {_times(section.shape)},"
                             f" type {section.dtype})")
        if section.shape != first.shape:
            raise InputError(f"{name}: {section.label} has {_times(section.shape)} pixels, but {first.label} has"
                             f" {_times(first.shape)}; all sections must be alike")
        if _stored(section.dtype) != _stored(first.dtype):
            raise InputError(f"{name}: {section.label} is of type {section.dtype}, but {first.label} of {first.dtype};"
                             " all sections must be alike")

    def read(domain, array, _):
        array[0] = _decode(sections[domain[0].inclusive_min], name)

    _decode(first, name)  # what holds for all sections, such as a compression that cannot be read, is found now
    dtype = _stored(first.dtype)
    cache_bytes = max(_CACHE_BYTES, 4 * first.shape[0] * first.shape[1] * dtype.itemsize)
    return ts.virtual_chunked(
        read, dtype=ts.dtype(dtype), shape=[len(sections), *first.shape],
        chunk_layout=ts.ChunkLayout(read_chunk_shape=[1, *first.shape]),
        context=ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}}))


def _decode(section, name):
    """The pixels [y, x] of a section; 1-bit becomes 0 and 255."""
    try:
        values = section.read()
        if values.shape != section.shape:
            raise ValueError(f"{_times(values.shape)} pixels instead of {_times(section.shape)}")
    except Exception as error:
        raise InputError(f"{name}: {section.label} cannot be decoded ({_line(error)})") from error
    return values * np.uint8(255) if values.dtype == bool else values


def _stored(dtype):
    """The type of a stack whose files have `dtype`: 1-bit becomes uint8."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def _line(error):
    """The first line of an exception's message, without TensorStore's machine-readable appendix."""
    lines = str(error).split(" [tensorstore_spec=")[0].split(" [source locations=")[0].splitlines()
    return lines[0].strip() if lines else type(error).__name__


# --- TIFF ---


def _open_tiff(spec, name):
    return _stack(_tiff_sections(spec, name), name)


@contextlib.contextmanager
def _without_log():
    """Keep tifffile from logging what is raised in one line anyway."""
    logger, reject = logging.getLogger("tifffile"), lambda _: False
    logger.addFilter(reject)
    try:
        yield
    finally:
        logger.removeFilter(reject)


def _tiff_sections(path, name):
    """The sections of a TIFF file; InputError if its page table or the data it points to are incomplete."""
    try:
        with _without_log(), tifffile.TiffFile(path) as file:
            file.pages.useframes = False
            pages = list(file.pages)
            if not _chain_ends(file):
                raise ValueError(f"the list of pages breaks off after page {len(pages)}")
            for number, page in enumerate(pages):
                _check_page(page, number, file.filehandle.size)
            for series in file.series[:1] if file.is_imagej or file.is_ome or file.is_shaped else []:
                if series.ndim > 3:
                    raise ValueError(f"it has the axes {series.axes}, and not sections, rows and columns only")
                # ImageJ stores stacks above 4 GiB as a single page followed by the raw data of the others.
                if len(pages) == 1 and series.ndim == 3 and series.axes.endswith("YX") and series.dataoffset is not None:
                    return _raw_sections(path, series, file.filehandle.size)
    except Exception as error:
        raise InputError(f"{name}: cannot be read as TIFF ({_line(error)})") from error
    return [_Section(page.shape, np.dtype(page.dtype), functools.partial(_read_page, path, page.offset), f"page {number}")
            for number, page in enumerate(pages)]


def _read_page(path, offset):
    """Decode the page whose table is at `offset`. The file is opened anew: nothing is shared between threads, or left open."""
    with _without_log(), tifffile.TiffFile(path) as file:
        file.filehandle.seek(offset)
        return tifffile.TiffPage(file, index=0).asarray(maxworkers=1)


def _raw_sections(path, series, file_size):
    """The sections of an uncompressed 3-D series behind a single page table."""
    count, *shape = series.shape
    size = int(np.prod(shape)) * series.dtype.itemsize
    if series.dataoffset + count * size > file_size:
        raise ValueError(f"its {count} sections reach beyond the end of the file")
    dtype = series.dtype.newbyteorder(series.parent.byteorder)

    def read(number):
        return np.fromfile(path, dtype, int(np.prod(shape)), offset=series.dataoffset + number * size).reshape(shape)

    return [_Section(tuple(shape), dtype, functools.partial(read, number), f"section {number}") for number in range(count)]


def _chain_ends(file):
    """Whether the list of pages ends as it should: the last page says that there is no next one."""
    file.filehandle.seek(file.pages.next_page_offset)
    link = file.filehandle.read(file.tiff.offsetsize)
    return len(link) == file.tiff.offsetsize and struct.unpack(file.tiff.offsetformat, link)[0] == 0


def _check_page(page, number, file_size):
    """ValueError unless all data of a page lie inside the file."""
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if len(parts) != np.prod(page.chunked):
        raise ValueError(f"page {number} lists {len(parts)} of its {np.prod(page.chunked)} strips or tiles")
    if any(count <= 0 or offset + count > file_size for offset, count in parts):
        raise ValueError(f"data of page {number} lie beyond the end of the file")
    if page.dtype is None or (page.compression == 1 and page.bitspersample % 8 == 0 and sum(page.databytecounts) < page.nbytes):
        raise ValueError(f"data of page {number} are too short or of an unknown type")


# --- PNG, folders ---


def _open_png(spec, name):
    return _stack([_png_section(Path(spec), name)], name)


def _open_folder(spec, name):
    files = sorted((path for path in Path(spec).iterdir()
                    if path.suffix.lower() in _TIFF + _PNG and not path.name.startswith(".")), key=_natural)
    if not files:
        raise InputError(f"{name}: a folder without .tif or .png sections")
    if len({path.suffix.lower() in _PNG for path in files}) > 1:
        raise InputError(f"{name}: a folder with both .tif and .png files; a volume is a folder with one kind of sections")
    return _stack([_png_section(path, name) if path.suffix.lower() in _PNG else _single_page(path, name) for path in files], name)


def _natural(path):
    """Sort key that compares the numbers in a file name as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name)], path.name


def _single_page(path, name):
    sections = _tiff_sections(path, f"{name}: {path.name}")
    if len(sections) != 1:
        raise InputError(f"{name}: {path.name} has {len(sections)} pages; each file of a folder must be one section")
    return sections[0]._replace(label=path.name)


def _png_section(path, name):
    """A PNG file as a section; InputError if it does not end as a PNG file ends."""
    try:
        with PngImageFile(path) as image:  # and not Image.open, which refuses large sections as "decompression bombs"
            (columns, rows), mode = image.size, ImageMode.getmode(image.mode)
        with open(path, "rb") as file:
            file.seek(-min(64, path.stat().st_size), os.SEEK_END)
            if b"IEND" not in file.read():
                raise ValueError("its end is missing")
    except Exception as error:
        raise InputError(f"{name}: {path.name} cannot be read as PNG ({_line(error)})") from error
    if len(mode.bands) != 1:
        raise InputError(f"{name}: {path.name} is no grey-level image of one channel ({mode.mode})")
    return _Section((rows, columns), np.dtype(mode.typestr), functools.partial(_read_png, path), path.name)


def _read_png(path):
    with PngImageFile(path) as image:
        return np.asarray(image)


# --- Zarr ---


def _is_zarr(spec):
    return "://" not in spec and (any(part.endswith(".zarr") for part in Path(spec).parts) or _has_zarr_metadata(spec))


def _has_zarr_metadata(path):
    return any(os.path.isfile(os.path.join(path, file)) for file in ("zarr.json", ".zarray", ".zgroup"))


def _open_zarr(spec, name):
    zarr = {"driver": "auto", "kvstore": {"driver": "file", "path": os.path.join(spec, "")}}
    cache = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
    try:
        store = ts.open(zarr, read=True, context=cache, recheck_cached_data="open").result()
    except ValueError as error:
        if os.path.isfile(os.path.join(spec, ".zgroup")) or '"group"' in str(error):
            raise InputError(f"{name}: a Zarr group; name the array in it, for example {os.path.join(spec, '0')}") from error
        raise InputError(f"{name}: not a Zarr array ({_line(error)})") from error
    return _as_volume(store, name)


def _as_volume(store, name):
    """A native TensorStore as [z, y, x] that starts at 0, without labels; truth values become 0 and 1."""
    if store.rank not in (2, 3) or 0 in store.shape:
        raise InputError(f"{name}: shape {_times(store.shape)}; must be [z, y, x] or [y, x] and not empty")
    store = ts.cast(store, ts.uint8) if store.dtype == ts.bool else store
    if store.dtype.numpy_dtype.kind not in _NUMBERS:
        raise InputError(f"{name}: type {store.dtype.name}; must be integers or floats")
    store = store[ts.d[:].translate_to[0]][ts.d[:].label[("",) * store.rank]]
    return store if store.rank == 3 else store[ts.newaxis]


# --- Phantoms ---


def _open_phantom(spec, name):
    parts = urlsplit(spec)
    options = {"shape": "24,384,384", "seed": "0"} | dict(parse_qsl(parts.query))
    form = "must be phantom://DOMAIN/image or phantom://DOMAIN/labels, with ?shape=z,y,x&seed=0"
    if parts.path not in ("/image", "/labels") or set(options) != {"shape", "seed"}:
        raise InputError(f"{name}: {form}")
    try:
        shape = tuple(int(size) for size in options["shape"].split(","))
        image, labels = phantom(parts.netloc, shape, int(options["seed"]))
    except ValueError as error:
        raise InputError(f"{name}: {error}; {form}") from error
    return ts.array(image if parts.path == "/image" else labels)


_FORMATS = (
    # What messages call it, whether a spec is one, and how it is opened: (spec, what messages call the volume) -> TensorStore.
    ("phantom://...", lambda spec: spec.startswith("phantom://"), _open_phantom),
    ("a .zarr array", _is_zarr, _open_zarr),
    ("a .tif file", lambda spec: _has_suffix(spec, _TIFF), _open_tiff),
    ("a .png file", lambda spec: _has_suffix(spec, _PNG), _open_png),
    ("a folder of .tif or .png sections", os.path.isdir, _open_folder),
)


def _has_suffix(spec, suffixes):
    return "://" not in spec and Path(spec).suffix.lower() in suffixes and not os.path.isdir(spec)


# --- Writing ---


def check_output(spec, overwrite=False, flag="--output"):
    """InputError unless a volume can be created at `spec`: a path that ends in .zarr and is free or may be overwritten."""
    name = f"{flag}={spec}"
    if "://" in spec or Path(spec).suffix != ".zarr":
        raise InputError(f"{name}: must be a path that ends in .zarr")
    if os.path.lexists(spec) and not _has_zarr_metadata(spec):
        raise InputError(f"{name}: exists and is not a Zarr array; it will not be replaced")
    if os.path.exists(spec) and not overwrite:
        raise InputError(f"{name}: exists already; give --overwrite to replace it")


@contextlib.contextmanager
def create_volume(spec, shape, dtype, pixel_size_nm, section_nm=None, overwrite=False, flag="--output"):
    """Create a Zarr v3 array; a context manager that yields it as a writable TensorStore [z, y, x].

    It is written under another name beside `spec` and gets its own when the block is left without an exception, so that
    nothing half-written is taken for whole; after an exception nothing is left. The voxel size is stored in the attributes
    `dimension_units` (read by TensorStore and Neuroglancer) and, if section_nm is known, `voxel_size`, `units` and `axis_names`.

    Args:
      spec: a path that ends in .zarr.
      shape: (z, y, x) in voxels.
      dtype: NumPy type of the voxels.
      pixel_size_nm: size of a pixel in y and x.
      section_nm: distance of two sections; None = unknown.
      overwrite: replace an existing Zarr array.
      flag: the flag that gave the spec, for messages.

    Raises:
      InputError: see `check_output`; or the folder cannot be written to.
    """
    check_output(spec, overwrite, flag)
    target = Path(spec).absolute()
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{flag}={spec}: cannot be created ({error.strerror})") from error
    try:
        yield _create_zarr(partial, shape, np.dtype(dtype), (section_nm, pixel_size_nm, pixel_size_nm))
        check_output(spec, overwrite, flag)  # another may have appeared in the meantime
        _move_into_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _create_zarr(path, shape, dtype, voxel_nm):
    attributes = {}
    if None not in voxel_nm:
        attributes = {"voxel_size": [float(size) for size in voxel_nm], "units": ["nm"] * 3, "axis_names": ["z", "y", "x"]}
    blosc = {"cname": "zstd", "clevel": 5, "shuffle": "shuffle" if dtype.itemsize > 1 else "noshuffle"}
    metadata = {
        "shape": [int(size) for size in shape],
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *(min(int(size), _CHUNK) for size in shape[1:])]}},
        "codecs": [{"name": "bytes"}, {"name": "blosc", "configuration": blosc}],
        "dimension_names": ["z", "y", "x"],
        "attributes": attributes,
    }
    return ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata},
                   dimension_units=[size and (size, "nm") for size in voxel_nm], create=True, delete_existing=True).result()


def _move_into_place(partial, target):
    """Give the finished volume its name; an old one is kept until then."""
    old = target.with_name(f"{partial.name}.old")
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
