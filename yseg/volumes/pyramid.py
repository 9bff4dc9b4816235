"""Coarser and coarser copies of a volume, for viewers; and how any volume is copied without being held in memory."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import tensorstore as ts

SMALLEST = 64  # the coarsest level has at most this many rows and columns
Method = Literal["mean", "mode"]
MEAN: Method = "mean"
MODE: Method = "mode"


class Reduction(NamedTuple):
    """How a volume becomes coarser: by which whole numbers along z, y, x, and by MEAN, of whole numbers rounded, or by MODE, of
    values that occur equally often the smallest.
    """

    factors: tuple[int, int, int] = (1, 1, 1)
    method: Method = MEAN


SAME = Reduction()
Copy = Callable[[ts.TensorStore, ts.TensorStore, Sequence[int], Reduction], None]  # see `copy`


class Level(NamedTuple):
    """One copy: by which whole numbers it is coarser than the volume along z, y, x, and its shape."""

    factors: tuple[int, int, int]
    shape: tuple[int, int, int]


def levels_of(shape: Sequence[int], pixel_size_nm: float, section_nm: float | None) -> list[Level]:
    """The levels of a volume, itself first: each has half the rows and columns of the one before.

    Sections are halved, too, where they are not much further apart than pixels are, so that voxels become cubes and stay so.

    Args:
      shape: (z, y, x) in voxels.
      pixel_size_nm: size of a pixel in y and x.
      section_nm: distance of two sections; None = unknown: they are never halved.
    """
    factors, levels = (1, 1, 1), []
    while True:
        size = _coarser(shape, factors)
        levels.append(Level(factors, size))
        if max(size[1:]) <= SMALLEST:
            return levels
        deep = section_nm is not None and section_nm * factors[0] <= math.sqrt(2) * pixel_size_nm * factors[1]
        factors = (factors[0] * (2 if deep and size[0] > 1 else 1), factors[1] * 2, factors[2] * 2)


def _coarser(shape, factors):
    z, y, x = (-(-int(size) // factor) for size, factor in zip(shape, factors, strict=True))
    return z, y, x


def downsampled(finer: ts.TensorStore, reduction: Reduction) -> ts.TensorStore:
    """A coarser view [z, y, x] of a volume, computed when it is read; the volume itself if no axis becomes coarser."""
    if all(factor == 1 for factor in reduction.factors):
        return finer
    return ts.downsample(finer, reduction.factors, reduction.method)


def copy(source: ts.TensorStore, target: ts.TensorStore, block: Sequence[int], reduction: Reduction = SAME) -> None:
    """Write a volume [z, y, x], or a coarser view of it, into another of the same shape, block by block.

    Args:
      source: is read.
      target: is written to.
      block: (z, y, x) in voxels; blocks start at its multiples. A few of them are held in memory.
      reduction: by which the source becomes coarser.
    """
    view = downsampled(source, reduction)
    for place in blocks(target.shape, block):
        target[place].write(view[place]).result()


def blocks(shape: Sequence[int], block: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """The blocks that make up a shape, in order."""
    spans = ([slice(start, min(start + step, size)) for start in range(0, size, step)]
             for size, step in zip(shape, block, strict=True))
    return itertools.product(*spans)
