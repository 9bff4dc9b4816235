"""yseg.inference.outside: background where there is no tissue, and blocks of files from those of a part of them."""

import numpy as np
import pytest
import tensorstore as ts

from yseg.data.box import Box
from yseg.inference.outside import in_files, only_tissue

RANDOM = np.random.default_rng(0)


def blocks_of(values, rows):
    """Blocks of `rows` rows of each section of probabilities [z, y, x, class]."""
    for z in range(len(values)):
        for y in range(0, values.shape[1], rows):
            box = Box((z, y, 0), (z + 1, min(y + rows, values.shape[1]), values.shape[2]))
            yield box, values[box.slices]


def test_without_tissue_the_probability_of_background_is_1():
    values, mask = RANDOM.random((2, 5, 6, 3), np.float32), (RANDOM.random((2, 5, 6)) < 0.5).astype(np.uint8)
    expected = np.where(mask[..., None], values, [1, 0, 0])
    for box, found in only_tissue(blocks_of(values, 2), ts.array(mask)):
        np.testing.assert_array_equal(found, expected[box.slices])
    same = blocks_of(values, 2)
    assert only_tissue(same, None) is same


@pytest.mark.parametrize("region", [Box((0, 0, 0), (5, 9, 9)), Box((1, 0, 4), (3, 9, 9)), Box((2, 3, 3), (3, 5, 8)),
                                    Box((2, 0, 3), (3, 2, 8))])
def test_what_lies_around_a_part_of_files_is_background_and_every_voxel_is_in_one_block(region):
    place = Box((1, 1, 2), (4, 8, 7))
    whole = np.zeros((5, 9, 9, 2), np.float32)
    whole[..., 0] = 1
    whole[place.slices] = RANDOM.random((3, 7, 5, 2))
    part = region.intersect(place).relative_to(place)

    def of_part():
        for box, values in blocks_of(whole[part.moved(place.start).slices], 3):
            yield box.moved(part.start), values

    found, seen = np.zeros((*region.shape, 2), np.float32), np.zeros(region.shape, int)
    last = 0
    for box, values in in_files(of_part(), place, region, 2):
        inside = box.relative_to(region).slices
        found[inside] = values
        seen[inside] += 1
        assert box.start[0] >= last  # section by section
        last = box.start[0]
    assert (seen == 1).all()
    np.testing.assert_array_equal(found, whole[region.slices])
    given = list(blocks_of(whole, 4))
    assert [box for box, _ in in_files(iter(given), None, region, 2)] == [box for box, _ in given]
