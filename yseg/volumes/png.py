"""PNG files, which Pillow reads (imagecodecs those of 16 bits in several channels, which Pillow cuts to 8)."""

import functools
import os
import struct
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from yseg.config import InputError
from yseg.volumes import palettes
from yseg.volumes.opened import OpenedVolume, Request, first_line
from yseg.volumes.stack import Section, stacked

PNG = (".png",)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6  # colour types


class _Header(NamedTuple):
    columns: int
    rows: int
    bits: int  # of a sample
    colour: int  # type


def open_png(request: Request) -> OpenedVolume:
    """A PNG file, a volume of one section."""
    return stacked([png_section(Path(request.spec), request)], request)


def png_section(path: Path, request: Request) -> Section:
    """A PNG file as a section; InputError if it does not end as a PNG file ends, or its values mean nothing certain."""
    try:
        header = _header(path)
        shape: tuple[int, ...] = (header.rows, header.columns)
        axes, dtype = "yx", np.dtype(np.uint16 if header.bits == 16 else bool if header.bits == 1 else np.uint8)
        if header.colour in (_RGB, _RGB_ALPHA):
            axes, shape = "yxs", (*shape, 3)
        if header.colour == _PALETTE:
            with PngImageFile(path) as image:
                dtype = np.dtype(np.uint8)
                palettes.of_palette(_palette(image), labels=request.labels)
    except Exception as error:
        raise InputError(f"{request.name}: {path.name} cannot be read as PNG ({first_line(error)})") from error
    return Section(shape, dtype, functools.partial(_read, path, header, request.labels), path.name, axes)


def _header(path: Path) -> _Header:
    with open(path, "rb") as file:
        start = file.read(26)
        file.seek(-min(64, path.stat().st_size), os.SEEK_END)
        if len(start) < 26 or not start.startswith(_SIGNATURE):
            raise ValueError("it does not begin as a PNG file")
        if b"IEND" not in file.read():
            raise ValueError("its end is missing")
    return _Header(*struct.unpack(">IIBB", start[16:]))


def _palette(image: PngImageFile) -> np.ndarray:
    """The colours of a palette, uint8 [n, 3]."""
    return np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _read(path: Path, header: _Header, labels: bool) -> np.ndarray:
    if header.bits == 16 and header.colour != _GREY:
        values = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    else:
        with PngImageFile(path) as image:  # and not Image.open, which refuses large sections as "decompression bombs"
            values, transparent = np.asarray(image), image.info.get("transparency")
            # A grey level or an index, or how opaque each index is.
            see_through = (np.flatnonzero(np.frombuffer(transparent, np.uint8) < 255) if isinstance(transparent, bytes)
                           else [] if transparent is None or header.colour == _RGB else [transparent])
            if not labels and np.isin(values, see_through).any():
                raise ValueError("some of its pixels are transparent; must be opaque")
            if header.colour == _PALETTE:
                meaning = palettes.of_palette(_palette(image), labels=labels)
                return values if meaning is None else meaning(values)
    if header.colour in (_GREY_ALPHA, _RGB_ALPHA):
        values = palettes.without_alpha(values)
    if header.colour == _GREY and header.bits in (2, 4) and labels:
        values = values // (255 // (2**header.bits - 1))  # Pillow has made 8 bits of them
    return values.astype(np.uint16) if header.bits == 16 else values
