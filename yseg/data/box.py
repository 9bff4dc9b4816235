"""Boxes of voxels, and regions given on the command line."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from yseg.config import InputError


def triple(values: Iterable[int]) -> tuple[int, int, int]:
    """Three whole numbers, for z, y and x."""
    z, y, x = values
    return int(z), int(y), int(x)


class Box(NamedTuple):
    """A half-open box [start, stop) of voxels, z, y, x."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> "Box":
        """The box of a whole volume of this shape."""
        return cls((0, 0, 0), triple(shape))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of sections, rows and columns."""
        return triple(max(stop - start, 0) for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The index that cuts this box out of an array [z, y, x]."""
        z, y, x = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def is_empty(self) -> bool:
        """Whether there is no voxel in it."""
        return 0 in self.shape

    def contains(self, other: "Box") -> bool:
        """Whether every voxel of the other box is in this one."""
        return other.is_empty or self.intersect(other) == other

    def intersect(self, other: "Box") -> "Box":
        """The voxels in both boxes."""
        start = triple(map(max, self.start, other.start))
        return Box(start, triple(map(max, start, map(min, self.stop, other.stop))))

    def relative_to(self, other: "Box") -> "Box":
        """This box in the coordinates of another: its distance from the other's first voxel."""
        start, stop = (triple(at - first for at, first in zip(corner, other.start, strict=True)) for corner in self)
        return Box(start, stop)

    def moved(self, offset: Sequence[int]) -> "Box":
        """This box, which is one in the coordinates of a box that starts at `offset`, in those of what that one lies in."""
        start, stop = (triple(at + first for at, first in zip(corner, offset, strict=True)) for corner in self)
        return Box(start, stop)

    def __str__(self):
        """As `parse_region` reads it: "z0:z1,y0:y1,x0:x1"."""
        return ",".join(f"{start}:{stop}" for start, stop in zip(*self, strict=True))


def parse_region(text: str, shape: Sequence[int], flag: str = "--region") -> Box:
    """The box that "z0:z1,y0:y1,x0:x1" means in a volume of this shape (z, y, x), in voxels.

    A bound left out is the volume's own, as in a slice; an empty text is the whole volume.

    Raises:
      InputError: the text is not three ranges, or the box is empty or reaches outside the volume.
    """
    if not text.strip():
        return Box.whole(shape)
    parts = text.split(",")
    ranges = [found for found in (re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", part) for part in parts) if found]
    if len(parts) != 3 or len(ranges) != 3:
        raise InputError(f"{flag}={text}: must be z0:z1,y0:y1,x0:x1 in voxels, for example :,0:512,100:")
    box = Box(triple(int(found[1] or 0) for found in ranges),
              triple(int(found[2] or size) for found, size in zip(ranges, shape, strict=True)))
    if box.is_empty or not Box.whole(shape).contains(box):
        raise InputError(f"{flag}={text}: must be a box that is not empty, inside the volume"
                         f" {','.join(f'0:{size}' for size in shape)}")
    return box


def evenly_spaced(start: int, stop: int, count: int) -> list[int]:
    """At most `count` different whole numbers in [start, stop), evenly spaced, as a list."""
    if stop - start <= count:
        return list(range(start, stop))
    return [int(start + (number + 0.5) * (stop - start) / count) for number in np.arange(count)]


def sections_of(box: Box, start: int, stop: int) -> Box:
    """Some sections of a Box."""
    return Box((start, *box.start[1:]), (stop, *box.stop[1:]))
