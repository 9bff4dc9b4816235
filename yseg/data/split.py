"""Train / validation / test boxes along an axis, and regions given on the command line."""

import itertools
import math
import re
from typing import NamedTuple

import numpy as np

from yseg.config import InputError

AXES = ("z", "y", "x")


class Box(NamedTuple):
    """A half-open box [start, stop) of voxels, z, y, x."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @classmethod
    def whole(cls, shape):
        """The box of a whole volume of this shape."""
        return cls((0, 0, 0), tuple(int(size) for size in shape))

    @property
    def shape(self):
        """Number of sections, rows and columns."""
        return tuple(max(stop - start, 0) for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def slices(self):
        """The index that cuts this box out of an array [z, y, x]."""
        return tuple(slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def is_empty(self):
        """Whether there is no voxel in it."""
        return 0 in self.shape

    def contains(self, other):
        """Whether every voxel of the other box is in this one."""
        return other.is_empty or self.intersect(other) == other

    def intersect(self, other):
        """The voxels in both boxes."""
        start = tuple(map(max, self.start, other.start))
        return Box(start, tuple(map(max, start, map(min, self.stop, other.stop))))


    def relative_to(self, other):
        """This box in the coordinates of another: its distance from the other's first voxel."""
        return Box(*(tuple(at - first for at, first in zip(corner, other.start, strict=True)) for corner in self))

    def __str__(self):
        """As `parse_region` reads it: "z0:z1,y0:y1,x0:x1"."""
        return ",".join(f"{start}:{stop}" for start, stop in zip(*self, strict=True))


class Split(NamedTuple):
    """The parts of a volume; they share no voxel and together are the volume. Validation and test may be empty."""

    train: Box
    validation: Box
    test: Box


def split(shape, axis, validation_fraction, test_fraction, flag="--config.source"):
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


def share_of(box, fraction, seed, least_rows=1, sections=None):
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
    sections = np.arange(box.start[0], box.stop[0]) if sections is None else np.asarray(sections)
    order = np.random.default_rng(seed).permutation(sections)
    due = max(round(fraction * len(sections) * box.shape[1]), int(fraction > 0))  # rows of all sections together
    whole, rest = divmod(due, box.shape[1])
    rows = [box.shape[1]] * whole + ([min(max(rest, least_rows), box.shape[1])] if rest else [])
    return tuple(Box((int(section), *box.start[1:]), (int(section) + 1, box.start[1] + count, box.stop[2]))
                 for section, count in sorted(zip(order, rows, strict=False)))


def _replaced(values, index, value):
    return (*values[:index], value, *values[index + 1:])


def parse_region(text, shape, flag="--region"):
    """The box that "z0:z1,y0:y1,x0:x1" means in a volume of this shape (z, y, x), in voxels.

    A bound left out is the volume's own, as in a slice; an empty text is the whole volume.

    Raises:
      InputError: the text is not three ranges, or the box is empty or reaches outside the volume.
    """
    if not text.strip():
        return Box.whole(shape)
    ranges = [re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", part) for part in text.split(",")]
    if len(ranges) != 3 or not all(ranges):
        raise InputError(f"{flag}={text}: must be z0:z1,y0:y1,x0:x1 in voxels, for example :,0:512,100:")
    start = tuple(int(found[1] or 0) for found in ranges)
    stop = tuple(int(found[2] or size) for found, size in zip(ranges, shape, strict=True))
    box = Box(start, stop)
    if box.is_empty or not Box.whole(shape).contains(box):
        raise InputError(f"{flag}={text}: must be a box that is not empty, inside the volume"
                         f" {','.join(f'0:{size}' for size in shape)}")
    return box
