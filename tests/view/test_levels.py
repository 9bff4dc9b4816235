"""yseg.view.levels: what is read, and what is computed, and from how much."""

import math

import numpy as np
import pytest
import tensorstore as ts
import tiny

from yseg.view.levels import Levels, grey_range, stored_levels
from yseg.volumes.create import create_volume
from yseg.volumes.pyramid import levels_of
from yseg.volumes.volume import read_volume


def huge(shape, dtype=np.uint8):
    """A store of any size, and the shapes that were read of it."""
    read = []

    def fill(place, values, _):
        read.append(place.shape)
        values[...] = 7

    return ts.virtual_chunked(fill, dtype=ts.dtype(dtype), shape=shape,
                              chunk_layout=ts.ChunkLayout(read_chunk_shape=(1, 256, 256))), read


def test_each_chunk_of_a_file_is_read_once_for_all_levels():
    values = np.random.default_rng(0).integers(0, 255, (20, 300, 270)).astype(np.uint8)
    store, reads = tiny.counted(values, (16, 128, 128))
    levels = Levels(levels_of(values.shape, 5, None), {0: store}, labels=False)
    assert [level.shape for level in levels.levels] == [(20, 300, 270), (20, 150, 135), (20, 75, 68), (20, 38, 34)]
    for number in (3, 2, 3):
        for z in (0, 1):
            assert levels.chunk(number, (z, 0, 0)).shape == (4 if z else 16, *levels.levels[number].shape[1:])
    assert len(reads) == len(set(map(str, reads))) == 2 * 3 * 3


def test_levels_that_the_file_has_are_read_and_not_computed(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (5, 300, 140)).astype(np.uint8)
    spec = str(tmp_path / "a.n5")
    with create_volume(spec, values.shape, values.dtype, 4.6, kind="image") as store:
        store[...] = values
    found = read_volume(spec)
    stored = stored_levels(levels_of(values.shape, 4.6, None), found, lambda near: read_volume(spec, near_nm=near))
    assert sorted(stored) == [0, 1, 2, 3]
    expected = [store.read().result() for store in stored.values()]
    for file in (tmp_path / "a.n5" / "s0").rglob("[0-9]*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    reopened = read_volume(spec)
    levels = Levels(levels_of(values.shape, 4.6, None), stored_levels(
        levels_of(values.shape, 4.6, None), reopened, lambda near: read_volume(spec, near_nm=near)), labels=False)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(levels.chunk(number, (0, 0, 0)), expected[number][:16, :128, :128])
    with pytest.raises(ValueError, match=r"a\.n5/s0"):
        levels.chunk(0, (0, 0, 0))


def test_levels_for_which_too_much_would_be_read_are_left_out():
    shape = (3000, 200_000, 200_000)
    store, read = huge(shape)
    levels = Levels(levels_of(shape, 5, 5), {0: store}, labels=False)
    coarsest = levels.levels[-1]
    assert 2**21 <= math.prod(coarsest.factors) * 16 * 128 * 128 <= 2**28
    assert not read
    every = levels_of(shape, 5, 5)
    assert len(Levels(every, dict.fromkeys(range(0, len(every), 2), store), labels=False).levels) == len(every)
    assert len(Levels(levels_of((4, 900, 900), 5, None), {0: store}, labels=False).levels) == 5


def test_a_meaning_is_applied_before_levels_are_made():
    values = np.random.default_rng(0).integers(0, 9, (2, 130, 140)).astype(np.uint8)
    levels = Levels(levels_of(values.shape, 5, None), {0: ts.array(values)}, labels=True,
                    meaning=lambda labels: np.where(labels == 3, -1, labels > 5).astype(np.int8))
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(levels.chunk(0, (0, 0, 0)), values[:, :128, :128] > 5)
    cells = (values > 5).reshape(2, 65, 2, 70, 2).sum((2, 4))
    np.testing.assert_array_equal(levels.chunk(1, (0, 0, 0)), cells > 2)


def test_grey_levels_are_told_apart_without_the_extremes_and_from_little():
    random = np.random.default_rng(0)
    values = random.normal(100, 10, (9, 200, 200)).astype(np.float32)
    values[:, :1] = 1e6
    values[0, 3:9] = np.nan
    low, high = grey_range(ts.array(values))
    assert (low, high) == pytest.approx((100 - 23.3, 100 + 23.3), abs=3)
    store, read = huge((1000, 100_000, 100_000))
    assert grey_range(store) == (7.0, 8.0)
    assert sum(map(math.prod, read)) <= 27 * 4 * 256 * 256
    assert grey_range(ts.array(np.full((1, 3, 3), np.nan, np.float32))) == (0.0, 1.0)
