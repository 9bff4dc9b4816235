"""What is kept of a volume that is read."""

import pytest

from yseg.volumes.opened import LEAST_CACHE, MOST_CACHE, cache_bytes

LAYER = 4096 * 4096  # voxels of a section


@pytest.mark.parametrize(("chunk", "sections"), [((1, 256, 256), 4), ((2, 256, 256), 6), ((3, 64, 64), 6), ((16, 64, 64), 32)])
def test_the_layers_of_chunks_that_hold_a_section_and_three_before_it_are_kept(chunk, sections):
    assert cache_bytes((500, 4096, 4096), chunk, 1) == sections * LAYER
    assert cache_bytes((2, 500, 4096, 4096), (1, *chunk), 1) == sections * LAYER


def test_it_is_bounded_for_small_and_for_huge_volumes():
    assert cache_bytes((10, 64, 64), (1, 64, 64), 1) == LEAST_CACHE
    assert cache_bytes((500, 40960, 40960), (64, 64, 64), 2) == MOST_CACHE
    assert cache_bytes((64, 64), (64, 64), 1) == LEAST_CACHE
