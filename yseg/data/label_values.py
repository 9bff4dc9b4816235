"""Labels that cannot be meant: a rule that finds one class alone, and which label values there are instead."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from yseg.config import InputError
from yseg.data.box import Box, evenly_spaced

_BLOCK_VOXELS = 2**24  # that are looked at together
_SAMPLED = 32  # blocks, evenly spaced, that are looked at first, and whose values are named
_SAMPLED_FOR_MISSING = 8
_MASK_VALUES = 2  # that a mask has
_NAMED = 6  # values, the most frequent ones
_FOREGROUND, _BACKGROUND = 1, 0

Read = Callable[[Box], np.ndarray]  # the voxels of a Box, [z, y, x]


def check_two_classes(classes_of: Read, values_of: Read, boxes: Sequence[Box], *, rule: str, foreground_flag: str,
                      labels_flag: str, unlabelled_flag: str, background_alone: bool = False) -> str:
    """InputError, naming the values that are there, if all labels in some boxes are of one class, or there are none.

    Usually a few blocks show two classes; all are looked at before they are refused.

    Args:
      classes_of: of a Box of voxels, -1 = no label.
      values_of: the label values that these classes were made of.
      boxes: in voxels; none of them = nothing is checked.
      rule: which values are foreground, as it was given.
      foreground_flag, labels_flag, unlabelled_flag: of the rule, of the labels, and for values that are no labels.
      background_alone: whether there may be nothing but background.

    Returns:
      A line about labels that may not be meant, but may be; "" if there are none.
    """
    blocks = [block for box in boxes for block in _blocks(box)]
    sampled = evenly_spaced(0, len(blocks), _SAMPLED)
    found: set[int] = set()
    for number in dict.fromkeys([*sampled, *range(len(blocks))]):
        found |= {int(value) for value in np.unique(classes_of(blocks[number]))} - {-1}
        if len(found) > 1:
            return _note_of_missing(classes_of, values_of, blocks, labels_flag, unlabelled_flag)
    if not blocks:
        return ""
    shares = _shares(values_of(blocks[number]) for number in sampled)
    only = min(found, default=-1)
    what = {_FOREGROUND: "nothing but foreground", _BACKGROUND: "no foreground", -1: "no voxel that is labelled"}.get(
        only, f"nothing but class {only}")
    named = ", ".join(f"{value} ({share:.1%})" for value, share in shares[:_NAMED])
    finding = f"{foreground_flag}={rule!r}: finds {what} in what is used of {labels_flag}"
    values = f"{named}{', ...' if len(shares) > _NAMED else ''}"
    if background_alone and found == {_BACKGROUND}:
        return f"{finding}, whose values are {values}"
    raise InputError(f"{finding}; must fit its values, which are {values}{_hint({value for value, _ in shares})}")


def _note_of_missing(classes_of, values_of, blocks, labels_flag, unlabelled_flag):
    """A line about a label value that often means "not labelled" but is taken for a class; "" if a few blocks hold none.

    It is -1, or the largest whole number, such as 2^64 - 1, beside at least two others, as a mask has no third; 255 only if the
    others are far below it, as those of numbered objects or of a smoothed mask are not.
    """
    found, taken, total, usual = set[int](), 0, 0, 0
    for number in evenly_spaced(0, len(blocks), _SAMPLED_FOR_MISSING):
        values = values_of(blocks[number])
        if values.dtype.kind not in "iu":
            return ""
        usual = -1 if values.dtype.kind == "i" else int(np.iinfo(values.dtype).max)
        total += values.size
        there = np.unique(values)
        found.update(there[:_MASK_VALUES + 1].tolist(), there[-2:].tolist())
        missing = values == usual
        if missing.any():
            taken += int(np.count_nonzero(missing & (classes_of(blocks[number]) >= 0)))
    if not taken or len(found) <= _MASK_VALUES or (usual == np.iinfo(np.uint8).max and max(found - {usual}) > usual // 2):
        return ""
    return (f"{labels_flag}: {usual}, in {taken / total:.1%} of the voxels, is taken for a class; if it means that they are not"
            f" labelled, give {unlabelled_flag}='=={usual}'")


def _blocks(box: Box) -> Iterator[Box]:
    """A box in blocks of rows of one section."""
    rows = max(1, _BLOCK_VOXELS // max(1, box.shape[2]))
    for number in range(box.start[0], box.stop[0]):
        for first in range(box.start[1], box.stop[1], rows) if box.shape[2] else ():
            yield Box((number, first, box.start[2]), (number + 1, min(first + rows, box.stop[1]), box.stop[2]))


def _shares(arrays):
    """(value, share of all) of the values of arrays, the most frequent first."""
    counts: dict[int | float, int] = {}
    for array in arrays:
        for value, count in zip(*np.unique(array, return_counts=True), strict=True):
            known = value.item() if value == value else math.nan  # one object, as NaN is equal to none
            counts[known] = counts.get(known, 0) + int(count)
    total = sum(counts.values())
    return sorted(((value, count / total) for value, count in counts.items()), key=lambda pair: -pair[1])


def _hint(values):
    """What values that are often used usually mean, as the end of a sentence."""
    known = {value for value in values if math.isfinite(value)}
    if known == {1, 2}:
        return "; 1 and 2 are what ilastik writes for background and foreground: '==2'"
    if known == {0, 255}:
        return "; 0 and 255 are a mask's background and foreground: '>0'"
    if known == {0, 1}:
        return "; 0 and 1 are a mask's background and foreground: '>0'"
    if known == {-1, 0}:
        return "; 0 and -1 are a mask's background and foreground, 255, in a signed type: '==-1'"
    if len(known) == 2:
        return f"; of two values the larger usually is foreground: '=={max(known)}'"
    return "" if len(known) > 1 else "; with one value nothing can be learnt: is it the right file?"
