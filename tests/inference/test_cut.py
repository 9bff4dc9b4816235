"""How a region is cut into blocks."""

import itertools
import math

import numpy as np
import pytest

from yseg.config import InputError
from yseg.data.box import Box
from yseg.inference.cut import CHUNK, LARGEST, block_shape, cut, file_shape, given_block

REGION = Box((3, 5, 7), (13, 45, 40))


@pytest.mark.parametrize("block", [(10, 40, 33), (4, 16, 16), (1, 40, 5), (64, 64, 64)])
def test_blocks_make_up_the_region_and_do_not_overlap(block):
    found = np.zeros((15, 50, 50), int)
    for box in cut(REGION, block):
        assert all(size <= most for size, most in zip(box.shape, block, strict=True))
        assert all((first - start) % size == 0 for first, start, size in zip(box.start, REGION.start, block, strict=True))
        found[box.slices] += 1
    assert (found[REGION.slices] == 1).all()
    assert found.sum() == math.prod(REGION.shape)


def files(box, shape):
    """Which files of CHUNK voxels a block of a volume writes."""
    spans = (range(start // chunk, -(-stop // chunk)) for start, stop, chunk in zip(*box, CHUNK, strict=True))
    assert all(start % chunk == 0 and (stop % chunk == 0 or stop == size)
               for start, stop, chunk, size in zip(*box, CHUNK, shape, strict=True))
    return set(itertools.product(*spans))


@pytest.mark.parametrize("shape", [(20, 1024, 1024), (165, 768, 1024), (1000, 3000, 2500), (70, 600, 20000), (1, 1, 1)])
@pytest.mark.parametrize(("ratio", "averaged", "voxel_bytes"), [(1.0, 0, 1), (3.48, 8, 5), (0.5, 1, 4)])
def test_no_two_blocks_write_one_file_and_none_is_larger_than_allowed(shape, ratio, averaged, voxel_bytes):
    block, written = block_shape(shape, ratio, 512, averaged=averaged, voxel_bytes=voxel_bytes), set()
    assert math.prod(block) * voxel_bytes <= 2 * LARGEST
    for box in cut(Box.whole(shape), block):
        own = files(box, shape)
        assert not own & written
        written |= own


def test_what_is_computed_twice_for_averages_is_little():
    sections, *_ = block_shape((10_000, 10_000, 10_000), 1.0, 512, averaged=8)
    assert 2 * 8 / sections <= 0.125


def test_whole_sections_are_not_cut_whatever_their_size():
    assert block_shape((500, 700, 900), 1.0, 512, whole_sections=True) == (64, 700, 900)
    assert block_shape((500, 30_000, 30_000), 1.0, 512, whole_sections=True)[1:] == (30_000, 30_000)


def test_a_small_volume_is_one_block():
    assert block_shape((20, 1024, 1024), 16 / 4.6, 512) == (20, 1024, 1024)


@pytest.mark.parametrize(("text", "expected"), [("4,32,64", (4, 32, 64)), ("64,512,512", (64, 512, 512)),
                                                ("65,513,1", (128, 1024, 1)), ("9999,9999,9999", (200, 2000, 700))])
def test_a_block_that_is_given_is_as_large_or_whole_files(text, expected):
    shape = (200, 2000, 700)
    assert given_block(text, shape) == expected
    for size, file, whole in zip(expected, file_shape(expected), shape, strict=True):
        assert size % file == 0 or size == whole


@pytest.mark.parametrize("text", ["64", "64,512", "64,512,0", "-1,2,3", "a,b,c", "1,2,3,4", "1.5,2,3", "²,2,3"])
def test_a_block_that_is_none_is_one_line(text):
    with pytest.raises(InputError, match=r"^--block=.*: must be the sections, rows and columns of a block"):
        given_block(text, (10, 10, 10))


@pytest.mark.parametrize("ratio", [0.7, 1.0, 2.0, 3.2])
def test_blocks_of_a_large_volume_are_about_whole_tiles(ratio):
    _, rows, columns = block_shape((10_000, 100_000, 100_000), ratio, 512)
    assert rows == columns
    tiles = rows / ratio / 512
    assert -CHUNK[1] / ratio / 512 < tiles - round(tiles + 0.4) <= 0
