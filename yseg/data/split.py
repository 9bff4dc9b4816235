"""Train / validation / test boxes along an axis, and regions given on the command line."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from yseg.config import InputError
from yseg.data.box import Box

AXES = ("z", "y", "x")


class Split(NamedTuple):
    """The parts of a volume; they share no voxel and together are the volume. Validation and test may be empty."""

    train: Box
    validation: Box
    test: Box


def split(shape: Sequence[int], axis: str, validation_fraction: float, test_fraction: float, *, flag: str = "domain") -> Split:
    """Cut a volume into train | validation | test, in this order along an axis.

    Args:
      shape: (z, y, x) of the volume, in voxels.
      axis: "z", "y" or "x".
      validation_fraction, test_fraction: shares of the axis, rounded to whole voxels, at least one if not 0.
      flag: the flag of the domain, for messages.

    Raises:
      InputError: nothing is left to train on, or another axis.
    """
    if axis not in AXES:
        raise InputError(f"{flag}.split_axis={axis!r}: must be one of {', '.join(AXES)}")
    along = AXES.index(axis)
    size = shape[along]
    counts = [max(1, math.floor(fraction * size + 0.5)) if fraction else 0 for fraction in (validation_fraction, test_fraction)]
    borders = (0, size - sum(counts), size - counts[1], size)
    if borders[1] <= 0:
        raise InputError(f"{flag}.test_fraction={test_fraction}: with {flag}.validation_fraction={validation_fraction} nothing is"
                         f" left to train on, as {flag}.split_axis={axis} has {size} voxels")
    return Split(*(Box(_replaced((0, 0, 0), along, start), _replaced(tuple(shape), along, stop))
                   for start, stop in itertools.pairwise(borders)))


def share_of(box: Box, fraction: float, seed: int, *, least_rows: int = 1,
             sections: Sequence[int] | None = None) -> tuple[Box, ...]:
    """Boxes that hold a share of a box: whole sections in a random order, and of the next one its first rows.

    A smaller fraction of the same seed lies inside a larger one.

    Args:
      box: Box in voxels.
      fraction: in [0, 1].
      seed: of the order of the sections.
      least_rows: a section of which fewer rows are due gives this many, so that a patch fits.
      sections: numbers of those to choose from, of which the fraction is meant; None = all of the box.

    Returns:
      Tuple of boxes, sorted by section; empty for the fraction 0.
    """
    chosen = np.arange(box.start[0], box.stop[0]) if sections is None else np.asarray(sections)
    order = np.random.default_rng(seed).permutation(chosen)
    due = max(round(fraction * len(chosen) * box.shape[1]), int(fraction > 0))  # rows of all sections together
    whole, rest = divmod(due, box.shape[1])
    rows = [box.shape[1]] * whole + ([min(max(rest, least_rows), box.shape[1])] if rest else [])
    return tuple(Box((int(section), *box.start[1:]), (int(section) + 1, box.start[1] + count, box.stop[2]))
                 for section, count in sorted(zip(order, rows, strict=False)))


def _replaced(values, index, value):
    return (*values[:index], value, *values[index + 1:])
