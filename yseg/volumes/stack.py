"""Stacks of images, each of which is decoded when it is read."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorstore as ts

from yseg.config import InputError
from yseg.volumes import palettes
from yseg.volumes.axes import Axis, arranged
from yseg.volumes.opened import LEAST_CACHE, NUMBERS, OpenedVolume, Request, VoxelSize, first_line, times


class Section(NamedTuple):
    """One image of a stack: what is known before it is decoded, and how to decode it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    label: str  # what messages call it
    axes: str = "yx"  # a letter for each, s = samples of a pixel
    is_lossy: bool = False  # whether values are not quite what they were before they were compressed
    orientation: int = 1  # where the first row and column are shown, as TIFF numbers it; 1 = at the top and on the left


def stacked(sections: Sequence[Section], request: Request, *, voxel_nm: VoxelSize = (None, None, None), leading: str = "z",
            counts: Sequence[int] | None = None) -> OpenedVolume:
    """The volume of a list of images: each is a chunk, decoded when it is read, by TensorStore's threads.

    Args:
      sections: Section, all alike.
      request: what is wanted.
      voxel_nm: (z, y, x).
      leading: a letter for each axis along which they follow each other.
      counts: how many of them there are along each of these axes; None = one axis.

    Raises:
      InputError: images that differ, or make no volume.
    """
    name, first = request.name, sections[0]
    lengths = [len(sections)] if counts is None else list(counts)
    for section in sections:
        if section.dtype.kind not in NUMBERS + "b" or len(section.shape) < 2 or 0 in section.shape:
            raise InputError(f"{name}: {section.label} is no image of numbers (shape {times(section.shape)}, type"
                             f" {section.dtype})")
        if section.shape != first.shape or section.axes != first.axes:
            raise InputError(f"{name}: {section.label} has {times(section.shape)} pixels, but {first.label} has"
                             f" {times(first.shape)}; all sections must be alike")
        if _stored(section.dtype) != _stored(first.dtype):
            raise InputError(f"{name}: {section.label} is of type {section.dtype}, but {first.label} of {first.dtype};"
                             " all sections must be alike")

    def read(domain: ts.IndexDomain, array: np.ndarray, _: ts.VirtualChunkedReadParameters) -> None:
        number = int(np.ravel_multi_index(domain.inclusive_min[:len(lengths)], lengths))
        array[...] = decoded(sections[number], name)

    dtype = _stored(first.dtype)
    kept = max(LEAST_CACHE, 4 * int(np.prod(first.shape)) * dtype.itemsize)
    store = ts.virtual_chunked(
        read, dtype=ts.dtype(dtype), shape=[*lengths, *first.shape],
        chunk_layout=ts.ChunkLayout(read_chunk_shape=[*(1,) * len(lengths), *first.shape]),
        context=ts.Context({"cache_pool": {"total_bytes_limit": kept}}))
    sizes = dict(zip("zyx", voxel_nm, strict=True))
    opened = arranged(store, [Axis(letter, sizes.get(letter)) for letter in (leading + first.axes).lower()], request)
    decoded(first, name)  # what holds for all sections, such as a compression that cannot be read, is found now
    if request.labels and any(section.is_lossy for section in sections):
        opened = opened.noting(palettes.lossy_note(name))
    turned = [section for section in sections if section.orientation != 1]
    if turned:
        opened = opened.noting(f"{name}: {turned[0].label} is to be shown turned or mirrored (orientation"
                               f" {turned[0].orientation}); it is read as it is stored, as ImageJ does")
    return opened


def decoded(section: Section, name: str) -> np.ndarray:
    """The pixels of a section; 1-bit becomes 0 and 255."""
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
