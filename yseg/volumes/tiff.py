"""TIFF files, which tifffile reads: stacks of pages, ImageJ's hyperstacks, OME-TIFF of one file or several."""

import contextlib
import functools
import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from yseg.config import InputError
from yseg.volumes import palettes
from yseg.volumes.axes import kind_of
from yseg.volumes.opened import OpenedVolume, Request, VoxelSize, first_line
from yseg.volumes.stack import Section, stacked
from yseg.volumes.voxel_size import of_tiff

TIFF = (".tif", ".tiff")
_SERIES = ("ome", "imagej", "shaped", "lsm", "stk")  # kinds of files that say how their pages belong together
_LOSSY = (6, 7, 33007, 34892)  # compressions: JPEG
_REDUCED, _MASK = 1, 4  # bits of a page's NewSubfileType


class _Stack(NamedTuple):
    """The pages of a file."""

    sections: list[Section]
    leading: str  # a letter for each axis along which they follow each other
    counts: list[int]
    voxel_nm: VoxelSize


def open_tiff(request: Request) -> OpenedVolume:
    """A TIFF file; InputError if its page table or the data it points to are incomplete, or its axes make no volume."""
    found = _stack(request.spec, request.name, labels=request.labels, alone=True)
    return stacked(found.sections, request, voxel_nm=found.voxel_nm, leading=found.leading, counts=found.counts)


def single_page(path: Path, request: Request) -> tuple[Section, VoxelSize]:
    """The section that a TIFF file of a folder is, and its voxel size; InputError if it has several."""
    found = _stack(path, f"{request.name}: {path.name}", labels=request.labels, alone=False)
    if len(found.sections) != 1:
        raise InputError(f"{request.name}: {path.name} has {len(found.sections)} pages; each file of a folder must be one"
                         " section")
    return found.sections[0]._replace(label=path.name), found.voxel_nm


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep tifffile from logging what is raised in one line anyway."""
    logger, reject = logging.getLogger("tifffile"), lambda _: False
    logger.addFilter(reject)
    try:
        yield
    finally:
        logger.removeFilter(reject)


def _stack(path: str | Path, name: str, *, labels: bool, alone: bool) -> _Stack:
    """The pages of a TIFF file. alone: whether it may name other files that belong to it (OME)."""
    try:
        with _without_log(), tifffile.TiffFile(path, _multifile=alone) as file:
            file.pages.useframes = False
            pages: list[Any] = list(file.pages)
            if not _chain_ends(file):
                raise ValueError(f"the list of pages breaks off after page {len(pages)}")
            for number, page in enumerate(pages):
                _check_page(page, f"page {number}", file.filehandle.size)
            voxel_nm = of_tiff(file)
            if (alone or len(pages) > 1 or (file.is_shaped and not file.is_ome)) and _says_axes(file):
                return _of_series(file, pages, voxel_nm, labels)
            shown = [page for page in pages if _is_shown(page)] or pages
            sections = [_section(page, path, f"page {page.index}", labels) for page in shown]
    except Exception as error:
        raise InputError(f"{name}: cannot be read as TIFF ({first_line(error)})") from error
    return _Stack(sections, "z", [len(sections)], voxel_nm)


def _is_shown(page: Any) -> bool:
    """Whether a page is an image of its own, and neither a smaller copy of another nor a mask."""
    return not int(page.subfiletype) & (_REDUCED | _MASK)


def _says_axes(file: tifffile.TiffFile) -> bool:
    """Whether a file says how its pages belong together; not if tifffile has written each of them by itself."""
    if file.is_shaped and not (file.is_ome or file.is_imagej) and all(len(series.pages) == 1 for series in file.series):
        return len(file.series) == 1
    return any(getattr(file, f"is_{kind}") for kind in _SERIES)


def _of_series(file: tifffile.TiffFile, pages: list[Any], voxel_nm: VoxelSize, labels: bool) -> _Stack:
    """The pages of a file that says how they belong together. pages: all of its own."""
    path = file.filehandle.path
    if len(file.series) != 1:
        shapes = ", ".join(str(series.shape) for series in file.series[:4])
        raise ValueError(f"it holds {len(file.series)} images, of shapes {shapes}; must hold one")
    series, first = file.series[0], pages[0]
    # ImageJ stores stacks above 4 GiB as a single page followed by the raw data of the others.
    if len(pages) == 1 and len(series.pages) <= 1 and series.ndim > first.ndim and series.dataoffset is not None:
        leading = series.ndim - first.ndim
        return _Stack(_raw_sections(path, series, leading, file.filehandle.size, labels), series.axes[:leading],
                      list(series.shape[:leading]), voxel_nm)
    listed: list[Any] = list(series.pages)
    missing = [number for number, page in enumerate(listed) if page is None]
    if missing:
        raise ValueError(f"section {missing[0]} lies in another file, which is not beside it ({len(missing)} of {len(listed)} are"
                         " not there)")
    sections, known = [], set()
    for number, page in enumerate(listed):
        owner = page.parent.filehandle.path
        if os.path.dirname(os.path.realpath(owner)) != os.path.dirname(os.path.realpath(path)):
            raise ValueError(f"section {number} lies in {owner}, another folder")
        if own := os.path.samefile(owner, path):
            known.add(page.index)
        label = f"page {page.index}" if own else os.path.basename(owner)
        _check_page(page, label, os.path.getsize(owner))
        sections.append(_section(page, owner, label, labels))
    unknown = [page.index for page in pages if page.index not in known and page.shape == first.shape and _is_shown(page)]
    if unknown:  # such as pages that were appended later
        raise ValueError(f"its metadata name {len(known)} pages of its {len(known) + len(unknown)}, without page {unknown[0]}; it"
                         " must be written anew, with all or without those")
    letters = series.axes[:max(series.ndim - listed[0].ndim, 0)]
    counts = list(series.shape[:len(letters)])
    nameless = [letter for letter in letters if not kind_of(letter)]
    if len(nameless) == 1 and "Z" not in letters:
        letters = letters.replace(nameless[0], "Z")
    in_page = series.axes[-2:].lower()
    spatial = sorted(map(kind_of, in_page)) in (["x", "y"], ["x", "z"], ["y", "z"])
    if spatial and all(section.axes == "yx" for section in sections):
        sections = [section._replace(axes=in_page) for section in sections]  # rows may be x, where a program names them so
        by_name = {**dict(zip("zyx", voxel_nm, strict=True)), **dict(zip(in_page, voxel_nm[1:], strict=True))}
        voxel_nm = (by_name["z"], by_name["y"], by_name["x"])
    if int(np.prod(counts, dtype=int)) != len(sections):
        raise ValueError(f"its {len(sections)} pages do not make up its axes {series.axes}, {series.shape}")
    return _Stack(sections, letters, counts, voxel_nm)


def _section(page: Any, path: str | Path, label: str, labels: bool) -> Section:
    """A page as a section, whose values are as they are meant."""
    meaning = _meaning(page.keyframe, labels)
    axes, shape, dtype = page.axes.lower(), tuple(page.shape), np.dtype(page.dtype)
    if _has_alpha(page.keyframe):
        axes, shape = (axes[:-1], shape[:-1]) if shape[-1] == 2 else (axes, (*shape[:-1], shape[-1] - 1))
    if meaning is not None:
        dtype = meaning(np.zeros(1, dtype)).dtype
    return Section(shape, dtype, functools.partial(_read_page, path, page.offset, meaning), label, axes,
                   int(page.keyframe.compression) in _LOSSY, _orientation(page.keyframe))


def _orientation(page: Any) -> int:
    """Where a page says that its first row and column are shown; 1, as usual, where it says nothing."""
    return int(page.tags.valueof("Orientation", 1))


def _has_alpha(page: Any) -> bool:
    """Whether the last sample of a pixel says how transparent it is."""
    return bool(page.extrasamples) and int(page.extrasamples[-1]) in (1, 2) and page.axes.endswith("S") and page.shape[-1] > 1


def _meaning(page: Any, labels: bool) -> palettes.Meaning | None:
    """How the stored values of a page are turned into what they mean; None = they stay."""
    bits = page.bitspersample if isinstance(page.bitspersample, int) else page.bitspersample[0]
    if int(page.photometric) == 3 and page.colormap is not None:
        return palettes.of_palette(np.ascontiguousarray(page.colormap.T), labels=labels)
    if int(page.photometric) == 0:
        inverted, scaled = palettes.of_white_as_0(page.dtype, bits, labels=labels), palettes.of_few_bits(bits, labels=labels)
        return (lambda values: scaled(inverted(values))) if scaled else inverted
    return palettes.of_few_bits(bits, labels=labels)


def _read_page(path: str | Path, offset: int, meaning: palettes.Meaning | None) -> np.ndarray:
    """Decode the page whose table is at `offset`. The file is opened anew: nothing is shared between threads, or left open."""
    with _without_log(), tifffile.TiffFile(path, _multifile=False) as file:
        file.filehandle.seek(offset)
        page = tifffile.TiffPage(file, index=0)
        values = page.asarray(maxworkers=1)
    if _has_alpha(page):
        values = palettes.without_alpha(values)
    return values if meaning is None else meaning(values)


def _raw_sections(path: str | Path, series: Any, leading: int, file_size: int, labels: bool) -> list[Section]:
    """The sections of an uncompressed series behind a single page table."""
    shape = tuple(series.shape[leading:])
    count, size = int(np.prod(series.shape[:leading])), int(np.prod(shape)) * series.dtype.itemsize
    if series.dataoffset + count * size > file_size:
        raise ValueError(f"its {count} sections reach beyond the end of the file")
    dtype, meaning = series.dtype.newbyteorder(series.parent.byteorder), _meaning(series.keyframe, labels)

    def read(number: int) -> np.ndarray:
        values = np.fromfile(path, dtype, int(np.prod(shape)), offset=series.dataoffset + number * size).reshape(shape)
        return values if meaning is None else meaning(values.astype(dtype.newbyteorder("=")))

    kind = dtype if meaning is None else meaning(np.zeros(1, series.dtype)).dtype
    return [Section(shape, kind, functools.partial(read, number), f"section {number}", series.axes[leading:].lower())
            for number in range(count)]


def _chain_ends(file: tifffile.TiffFile) -> bool:
    """Whether the list of pages ends as it should: the last page says that there is no next one."""
    if file.pages.next_page_offset is None:
        return False
    file.filehandle.seek(file.pages.next_page_offset)
    link = file.filehandle.read(file.tiff.offsetsize)
    return len(link) == file.tiff.offsetsize and struct.unpack(file.tiff.offsetformat, link)[0] == 0


def _check_page(page: Any, label: str, file_size: int) -> None:
    """ValueError unless all data of a page lie inside the file."""
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    keyframe = page.keyframe
    if len(parts) != np.prod(keyframe.chunked):
        raise ValueError(f"{label} lists {len(parts)} of its {np.prod(keyframe.chunked)} strips or tiles")
    if any(count <= 0 or offset + count > file_size for offset, count in parts):
        raise ValueError(f"data of {label} lie beyond the end of the file")
    if keyframe.dtype is None or (keyframe.compression == 1 and keyframe.bitspersample % 8 == 0
                                  and sum(page.databytecounts) < keyframe.nbytes):
        raise ValueError(f"data of {label} are too short or of an unknown type")
