"""How a region is cut into blocks, each of which is computed by itself, in any order, again if need be, and by anyone.

The voxels of a segmentation on their way, see `yseg.volumes.staged`, lie in files of CHUNK voxels. A block is whole files, so
that no two blocks write into one.
"""

import itertools
import math

from yseg.config import InputError
from yseg.data.box import Box, triple
from yseg.inference.tiling import rounded_up

CHUNK = (64, 512, 512)  # voxels of a file
LARGEST = 2**29  # bytes of a block: bounds the memory; twice as many where a voxel has several
_SIDE = 1024  # of a block, in working pixels, about
_PER_AVERAGED = 16  # sections of a block for each on either side that is averaged, as these are computed once more for the next


def block_shape(shape: tuple[int, int, int], ratio: float, stride: int, *, averaged: int = 0, whole_sections: bool = False,
                voxel_bytes: int = 1) -> tuple[int, int, int]:
    """The shape of the blocks of a region, in voxels: multiples of CHUNK, or as large as the region.

    Args:
      shape: of the region, in voxels.
      ratio: working pixel size / pixel size.
      stride: of the largest tiles, in working pixels, which blocks are about multiples of: then fewest pixels are seen twice.
      averaged: sections on either side of one that is averaged with them.
      whole_sections: whether sections must not be cut, as their components are judged whole.
      voxel_bytes: what is kept of a voxel.
    """
    wanted = max(CHUNK[0], rounded_up(_PER_AVERAGED * averaged, CHUNK[0]))
    sections = shape[0] if shape[0] <= 1.5 * wanted else wanted
    voxels = 2 * LARGEST // (voxel_bytes + 1)
    if whole_sections:
        room = max(1, voxels // (shape[1] * shape[2]))
        return min(sections, room // CHUNK[0] * CHUNK[0] or room), shape[1], shape[2]
    largest = max(CHUNK[1], math.isqrt(voxels // sections) // CHUNK[1] * CHUNK[1])
    tiles = max(1, min(round(_SIDE / stride), int(largest / (stride * ratio))))
    side = min(max(CHUNK[1], int(tiles * stride * ratio) // CHUNK[1] * CHUNK[1]), largest)
    return triple((sections, *(_of_axis(size, side) for size in shape[1:])))


def given_block(text: str, shape: tuple[int, int, int], flag: str = "--block") -> tuple[int, int, int]:
    """The shape of the blocks that "z,y,x" means: as large, or larger where it is no multiple of CHUNK and above it.

    Raises:
      InputError: the text is not three numbers above 0.
    """
    sizes = text.split(",")
    if len(sizes) != 3 or not all(size.strip().isascii() and size.strip().isdigit() and int(size) for size in sizes):
        raise InputError(f"{flag}={text}: must be the sections, rows and columns of a block, for example"
                         f" {','.join(map(str, CHUNK))}")
    whole = (int(size) if int(size) <= chunk else rounded_up(int(size), chunk) for size, chunk in zip(sizes, CHUNK, strict=True))
    return triple(map(min, shape, whole))


def file_shape(block: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape of the files that blocks consist of."""
    return triple(map(min, block, CHUNK))


def _of_axis(size: int, side: int) -> int:
    """The size along an axis of blocks of about the same size, of which none is larger than `side`."""
    return min(size, rounded_up(math.ceil(size / math.ceil(size / side)), CHUNK[1]))


def cut(region: Box, block: tuple[int, int, int]) -> list[Box]:
    """The blocks of a region, of a shape, in the order of their places z, y, x; the last along an axis may be smaller."""
    spans = [[(first, min(first + size, stop)) for first in range(start, stop, size)]
             for start, stop, size in zip(*region, block, strict=True)]
    return [Box(triple(start for start, _ in each), triple(stop for _, stop in each)) for each in itertools.product(*spans)]
