"""Volumes that are stacks of images: TIFF files, PNG files, folders of either. Each section is decoded when it is read."""

import contextlib
import functools
import logging
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore as ts
import tifffile
from PIL import ImageMode
from PIL.PngImagePlugin import PngImageFile

from yseg.config import InputError
from yseg.volumes.stores import CACHE_BYTES, NUMBERS, first_line, times

TIFF, PNG = (".tif", ".tiff"), (".png",)


class _Section(NamedTuple):
    """One section of a stack: what is known before it is decoded, and how to decode it."""

    shape: tuple[int, ...]  # rows, columns
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    label: str  # what messages call it


def _stack(sections: list[_Section], name: str) -> ts.TensorStore:
    """The TensorStore of a list of sections: each is a chunk, decoded when it is read, by TensorStore's threads."""
    first = sections[0]
    for section in sections:
        if section.dtype.kind not in NUMBERS + "b" or len(section.shape) != 2 or 0 in section.shape:
            raise InputError(f"{name}: {section.label} is no grey-level image of one channel (shape {times(section.shape)},"
                             f" type {section.dtype})")
        if section.shape != first.shape:
            raise InputError(f"{name}: {section.label} has {times(section.shape)} pixels, but {first.label} has"
                             f" {times(first.shape)}; all sections must be alike")
        if _stored(section.dtype) != _stored(first.dtype):
            raise InputError(f"{name}: {section.label} is of type {section.dtype}, but {first.label} of {first.dtype};"
                             " all sections must be alike")

    def read(domain: ts.IndexDomain, array: np.ndarray, _: ts.VirtualChunkedReadParameters) -> None:
        array[0] = _decode(sections[domain[0].inclusive_min], name)

    _decode(first, name)  # what holds for all sections, such as a compression that cannot be read, is found now
    dtype = _stored(first.dtype)
    cache_bytes = max(CACHE_BYTES, 4 * first.shape[0] * first.shape[1] * dtype.itemsize)
    return ts.virtual_chunked(
        read, dtype=ts.dtype(dtype), shape=[len(sections), *first.shape],
        chunk_layout=ts.ChunkLayout(read_chunk_shape=[1, *first.shape]),
        context=ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}}))


def _decode(section: _Section, name: str) -> np.ndarray:
    """The pixels [y, x] of a section; 1-bit becomes 0 and 255."""
    try:
        values = section.read()
        if values.shape != section.shape:
            raise ValueError(f"{times(values.shape)} pixels instead of {times(section.shape)}")
    except Exception as error:
        raise InputError(f"{name}: {section.label} cannot be decoded ({first_line(error)})") from error
    return values * np.uint8(255) if values.dtype == bool else values


def _stored(dtype: np.dtype) -> np.dtype:
    """The type of a stack whose files have `dtype`: 1-bit becomes uint8."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


# --- TIFF ---


def open_tiff(spec: str, name: str) -> ts.TensorStore:
    """The TensorStore of a TIFF file, see `yseg.volumes.volume.open_volume`; `name` is what messages call it."""
    return _stack(_tiff_sections(spec, name), name)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep tifffile from logging what is raised in one line anyway."""
    logger, reject = logging.getLogger("tifffile"), lambda _: False
    logger.addFilter(reject)
    try:
        yield
    finally:
        logger.removeFilter(reject)


def _tiff_sections(path: str | Path, name: str) -> list[_Section]:
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
        raise InputError(f"{name}: cannot be read as TIFF ({first_line(error)})") from error
    return [_Section(page.shape, np.dtype(page.dtype), functools.partial(_read_page, path, page.offset), f"page {number}")
            for number, page in enumerate(pages)]


def _read_page(path: str | Path, offset: int) -> np.ndarray:
    """Decode the page whose table is at `offset`. The file is opened anew: nothing is shared between threads, or left open."""
    with _without_log(), tifffile.TiffFile(path) as file:
        file.filehandle.seek(offset)
        return tifffile.TiffPage(file, index=0).asarray(maxworkers=1)


def _raw_sections(path: str | Path, series: Any, file_size: int) -> list[_Section]:
    """The sections of an uncompressed 3-D series behind a single page table."""
    count, *shape = series.shape
    size = int(np.prod(shape)) * series.dtype.itemsize
    if series.dataoffset + count * size > file_size:
        raise ValueError(f"its {count} sections reach beyond the end of the file")
    dtype = series.dtype.newbyteorder(series.parent.byteorder)

    def read(number: int) -> np.ndarray:
        return np.fromfile(path, dtype, int(np.prod(shape)), offset=series.dataoffset + number * size).reshape(shape)

    return [_Section(tuple(shape), dtype, functools.partial(read, number), f"section {number}") for number in range(count)]


def _chain_ends(file: tifffile.TiffFile) -> bool:
    """Whether the list of pages ends as it should: the last page says that there is no next one."""
    if file.pages.next_page_offset is None:
        return False
    file.filehandle.seek(file.pages.next_page_offset)
    link = file.filehandle.read(file.tiff.offsetsize)
    return len(link) == file.tiff.offsetsize and struct.unpack(file.tiff.offsetformat, link)[0] == 0


def _check_page(page: Any, number: int, file_size: int) -> None:
    """ValueError unless all data of a page lie inside the file."""
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if len(parts) != np.prod(page.chunked):
        raise ValueError(f"page {number} lists {len(parts)} of its {np.prod(page.chunked)} strips or tiles")
    if any(count <= 0 or offset + count > file_size for offset, count in parts):
        raise ValueError(f"data of page {number} lie beyond the end of the file")
    if page.dtype is None or (page.compression == 1 and page.bitspersample % 8 == 0 and sum(page.databytecounts) < page.nbytes):
        raise ValueError(f"data of page {number} are too short or of an unknown type")


# --- PNG, folders ---


def open_png(spec: str, name: str) -> ts.TensorStore:
    """The TensorStore of a PNG file, a volume of one section."""
    return _stack([_png_section(Path(spec), name)], name)


def open_folder(spec: str, name: str) -> ts.TensorStore:
    """The TensorStore of a folder of .tif or .png sections in natural order."""
    files = sorted((path for path in Path(spec).iterdir()
                    if path.suffix.lower() in TIFF + PNG and not path.name.startswith(".")), key=_natural)
    if not files:
        raise InputError(f"{name}: a folder without .tif or .png sections")
    if len({path.suffix.lower() in PNG for path in files}) > 1:
        raise InputError(f"{name}: a folder with both .tif and .png files; a volume is a folder with one kind of sections")
    return _stack([_png_section(path, name) if path.suffix.lower() in PNG else _single_page(path, name) for path in files], name)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key that compares the numbers in a file name as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name)], path.name


def _single_page(path: Path, name: str) -> _Section:
    sections = _tiff_sections(path, f"{name}: {path.name}")
    if len(sections) != 1:
        raise InputError(f"{name}: {path.name} has {len(sections)} pages; each file of a folder must be one section")
    return sections[0]._replace(label=path.name)


def _png_section(path: Path, name: str) -> _Section:
    """A PNG file as a section; InputError if it does not end as a PNG file ends."""
    try:
        with PngImageFile(path) as image:  # and not Image.open, which refuses large sections as "decompression bombs"
            (columns, rows), mode = image.size, ImageMode.getmode(image.mode)
        with open(path, "rb") as file:
            file.seek(-min(64, path.stat().st_size), os.SEEK_END)
            if b"IEND" not in file.read():
                raise ValueError("its end is missing")
    except Exception as error:
        raise InputError(f"{name}: {path.name} cannot be read as PNG ({first_line(error)})") from error
    if len(mode.bands) != 1:
        raise InputError(f"{name}: {path.name} is no grey-level image of one channel ({mode.mode})")
    return _Section((rows, columns), np.dtype(mode.typestr), functools.partial(_read_png, path), path.name)


def _read_png(path: Path) -> np.ndarray:
    with PngImageFile(path) as image:
        return np.asarray(image)
