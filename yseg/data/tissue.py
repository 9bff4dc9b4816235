"""Where a volume has tissue: what lies outside is neither trained on nor scored, and segmented as background.

A mask [z, y, x] of uint8, not 0 in tissue, is computed when it is read, from another volume, from a grey level that means
nothing, or from the image's own frame. The box around all tissue is what is opened in place of the volume: the same tissue with
and without a frame is the same volume.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorstore as ts
from scipy import ndimage

from yseg.config import InputError
from yseg.data.box import Box, evenly_spaced, triple
from yseg.data.labels import parse_rule
from yseg.data.lazy import computed
from yseg.volumes.opened import OpenedVolume, tell
from yseg.volumes.pairs import check_pair
from yseg.volumes.volume import read_volume

BORDER, NODATA = "border", "nodata="  # see `yseg.config.Domain.mask`
UNLABELLED = "unlabelled"  # see `yseg.config.Domain.nan`
LARGEST = 2**31  # voxels of a volume that are looked at to find the box around tissue; of a larger one it is the whole
_SECTIONS, _LOOKED_AT = 4, 512  # sections, and rows and columns of them, by which a frame is noticed
_OF_A_SIDE = 8  # a frame is a piece of the border that is longer than this part of the shorter side, and what goes on from it


class Tissue(NamedTuple):
    """The part of a volume that has tissue.

    box: around it, in voxels; mask: TensorStore uint8 [z, y, x] of this box, not 0 in tissue, None = everywhere in it;
    whole_mask: of the volume, None = there is tissue everywhere.
    """

    box: Box
    mask: ts.TensorStore | None
    whole_mask: ts.TensorStore | None


def is_found(mask: str) -> bool:
    """Whether a mask, see `yseg.config.Domain`, is found in the image, and is no volume of its own."""
    return not mask or mask == BORDER or mask.startswith(NODATA)


def find_tissue(opened: OpenedVolume, mask: str, nan: str, *, image_flag: str, mask_flag: str) -> Tissue:
    """The Tissue of an image volume.

    Args:
      opened: the image.
      mask, nan: see `yseg.config.Domain`.
      image_flag, mask_flag: for messages.

    Raises:
      InputError: the mask cannot be read, has another shape, is no grey level, or leaves nothing.
    """
    image, whole = opened.store, Box.whole(opened.store.shape)
    store = _mask(opened, mask, nan, image_flag, mask_flag)
    if store is None or math.prod(image.shape) > LARGEST:
        return Tissue(whole, store, store)
    box, everywhere = _surrounding(store)
    if box.is_empty:
        given = f"{mask_flag}={mask}: leaves" if mask else f"{image_flag}: has"
        raise InputError(f"{given} no voxel of tissue; must leave some of {image_flag}")
    return Tissue(box, None if everywhere else part_of(store, box), store)


def part_of(store: ts.TensorStore, box: Box) -> ts.TensorStore:
    """A Box of a TensorStore, as one that starts at 0."""
    return store if box == Box.whole(store.shape) else store[box.slices][ts.d[:].translate_to[0]]


def part_of_region(region: Box, place: Box | None) -> Box:
    """The part of a region of files that lies in a Volume's place, in its voxels; it may be empty. None = they are the same."""
    return region if place is None else region.intersect(place).relative_to(place)


def finite(image: ts.TensorStore, mask: ts.TensorStore | None, name: str, nan_flag: str) -> ts.TensorStore:
    """The image, of which reading raises InputError where it is not finite in tissue; integers are returned as they are.

    Args:
      image: TensorStore [z, y, x].
      mask: of the same shape, not 0 in tissue; None = everywhere.
      name: what messages call the image.
      nan_flag: how such values can be allowed.
    """
    if image.dtype.numpy_dtype.kind in "ui":
        return image

    def read(box):
        values = image[box.slices].read().result()
        wrong = ~np.isfinite(values)
        if wrong.any() and mask is not None:
            wrong &= mask[box.slices].read().result() != 0
        if wrong.any():
            raise InputError(f"{name}: has values that are not finite in section {box.start[0]}; must be numbers, or give"
                             f" {nan_flag}={UNLABELLED}, which takes them for places without tissue")
        return values

    return computed(read, image.dtype.numpy_dtype, image.shape)


def in_tissue(labels: ts.TensorStore, mask: ts.TensorStore, apply: Callable[[np.ndarray], np.ndarray]) -> ts.TensorStore:
    """Classes int8 [z, y, x] of labels, by `apply` of label values; -1 outside of tissue."""
    def read(box):
        return np.where(mask[box.slices].read().result(), apply(labels[box.slices].read().result()), -1)

    return computed(read, np.int8, labels.shape)


def _mask(opened, mask, nan, image_flag, mask_flag):
    """Where there is tissue, lazily; None = everywhere."""
    image = opened.store
    may_be_nan = nan == UNLABELLED and image.dtype.numpy_dtype.kind == "f"
    given, nothing = None, None
    if mask.startswith(NODATA):
        nothing = _grey_level(mask, mask_flag)
    elif mask and mask != BORDER:
        found = read_volume(mask, mask_flag, labels=True)
        tell(*found.notes, check_pair(opened, found, image_flag, mask_flag))
        given = found.store
    if not (mask or may_be_nan):
        return None

    def read(box):
        if given is not None:
            present = np.nan_to_num(given[box.slices].read().result()) != 0
            if not may_be_nan:
                return present
        values = image[box.slices].read().result()
        if mask == BORDER:
            present = ~frame_of(values[0])[None]
        elif nothing is not None:
            present = ~nothing(values)
        elif given is None:
            present = np.ones(values.shape, bool)
        return present & np.isfinite(values) if may_be_nan else present

    return computed(read, np.uint8, image.shape, whole_sections=mask == BORDER)


def _grey_level(mask, mask_flag):
    """Of "nodata=VALUE", whether values are that: array -> bool; InputError if it is no number."""
    value = mask.removeprefix(NODATA).strip()
    if value.lower() == "nan":
        return np.isnan
    if not re.fullmatch(r"[-+]?\d+(\.\d+)?", value):
        raise InputError(f"{mask_flag}={mask}: must be {NODATA} and a grey level, such as {NODATA}0 or {NODATA}nan")
    return parse_rule(f"=={value.removeprefix('+')}", mask_flag).holds


def frame_of(section: np.ndarray) -> np.ndarray:
    """Where a section [y, x] is frame, bool: pieces of one grey level (or NaN) at its border, and what is joined to them."""
    nothing = np.isnan(section) if section.dtype.kind == "f" else np.zeros(section.shape, bool)
    edges = (section[0], section[-1], section[:, 0], section[:, -1])
    values, counts = np.unique(np.concatenate(edges), return_counts=True)
    least = max(2, min(section.shape) // _OF_A_SIDE)
    frame = np.zeros(section.shape, bool)
    for value in values[counts >= least]:
        numbers, count = ndimage.label(nothing if np.isnan(value) else section == value)
        touching = sum(np.bincount(edge, minlength=count + 1) for edge in
                       (numbers[0], numbers[-1], numbers[1:-1, 0], numbers[1:-1, -1]))
        large = touching >= least
        large[0] = False
        frame |= large[numbers]
    return frame


def frame_share(image: ts.TensorStore) -> float:
    """The share of an image volume that is frame, see `frame_of`, by what some pixels of some of its sections show."""
    steps = [max(1, size // _LOOKED_AT) for size in image.shape[1:]]
    return float(np.mean([frame_of(image[number, ::steps[0], ::steps[1]].read().result()).mean()
                          for number in evenly_spaced(0, image.shape[0], _SECTIONS)]))


def _surrounding(mask):
    """The Box around what is not 0 in a mask, and whether all of it is not."""
    sides = [np.zeros(size, bool) for size in mask.shape]
    count = 0
    for number in range(mask.shape[0]):
        section = mask[number].read().result() != 0
        count += int(np.count_nonzero(section))
        sides[0][number] = section.any()
        sides[1] |= section.any(axis=1)
        sides[2] |= section.any(axis=0)
    if not count:
        return Box((0, 0, 0), (0, 0, 0)), False
    found = [np.flatnonzero(side) for side in sides]
    box = Box(triple(int(each[0]) for each in found), triple(int(each[-1]) + 1 for each in found))
    return box, count == math.prod(box.shape)
