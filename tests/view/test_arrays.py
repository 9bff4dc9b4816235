"""yseg.view.arrays: types and chunks as they are served. Their readers are in test_server.py."""

import numpy as np
import pytest

from yseg.view.arrays import as_served, chunk_box, chunk_shape, encoded, served_type
from yseg.volumes.pyramid import Level


@pytest.mark.parametrize(("stored", "image", "labels"), [
    ("uint8", "uint8", "uint8"), ("uint16", "uint16", "uint16"), ("int16", "int16", "uint16"), ("int32", "int32", "uint32"),
    ("uint64", "float32", "uint64"), ("int64", "float32", "uint64"), ("float32", "float32", "uint32"),
    ("float64", "float32", "uint32"), (">u2", "uint16", "uint16")])
def test_types_are_those_that_neuroglancer_shows(stored, image, labels):
    assert (served_type(np.dtype(stored), labels=False), served_type(np.dtype(stored), labels=True)) == (image, labels)


def test_labels_below_0_and_without_a_value_become_background():
    found = as_served(np.array([-1, 0, 2**62 + 1]), np.dtype(np.uint64), labels=True)
    assert found.tolist() == [0, 0, 2**62 + 1]
    floats = np.array([np.nan, -3.0, np.inf, 2.0**31, 7.0])
    assert as_served(floats, np.dtype(np.uint32), labels=True).tolist() == [0, 0, 0, 2**31, 7]


def test_chunks_make_up_the_volume_and_there_are_no_others():
    level, covered = Level((1, 1, 1), (20, 130, 40)), np.zeros((20, 130, 40), int)
    assert chunk_shape(level) == (16, 128, 40)
    for index in np.ndindex(3, 3, 2):
        box = chunk_box(level, index)
        assert (box is None) == (index[0] > 1 or index[1] > 1 or index[2] > 0)
        if box:
            covered[box] += 1
    assert (covered == 1).all()
    assert chunk_box(level, (0, -1, 0)) is None


def test_a_cut_chunk_is_filled_up_with_0():
    level, values = Level((1, 1, 1), (1, 3, 130)), np.array([[[1, 2], [3, 4], [5, 256]]], ">u2")
    whole = np.frombuffer(encoded(values, level), "<u2").reshape(1, 3, 128)
    np.testing.assert_array_equal(whole[:, :, :2], values)
    assert not whole[:, :, 2:].any()
