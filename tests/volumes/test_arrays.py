"""yseg.volumes.arrays: what other readers see in the array, and that it is there whole or not at all."""

import json
import os

import numpy as np
import pytest
import tensorstore as ts
import zarr

from yseg.volumes.arrays import create_array
from yseg.volumes.volume import open_volume


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_an_array_is_read_by_zarr_by_tensorstore_and_by_us(tmp_path, dtype):
    values, path = np.random.default_rng(0).integers(0, 255, (3, 600, 40)).astype(dtype), tmp_path / "new" / "a.zarr"
    with create_array(path, values.shape, dtype, 4.6, section_nm=50.0) as store:
        store[1] = values[1]
        store[0], store[2] = values[0], values[2]
    array = zarr.open_array(path, mode="r")
    np.testing.assert_array_equal(array[...], values)
    assert array.metadata.dimension_names == ("z", "y", "x")
    assert array.attrs["voxel_size"] == [50.0, 4.6, 4.6]
    other = ts.open({"driver": "zarr3", "kvstore": f"file://{path}/"}).result()
    np.testing.assert_array_equal(other.read().result(), values)
    assert other.dimension_units == (ts.Unit("50 nm"), ts.Unit("4.6 nm"), ts.Unit("4.6 nm"))
    np.testing.assert_array_equal(open_volume(str(path)).read().result(), values)
    assert os.listdir(path.parent) == ["a.zarr"]


def test_an_unknown_section_distance_stays_unknown(tmp_path):
    with create_array(tmp_path / "a.zarr", (1, 2, 3), np.uint8, 5) as store:
        store[...] = 1
    assert json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())["attributes"]["dimension_units"] == [None, "5 nm", "5 nm"]


def test_nothing_half_written_is_left_and_nothing_is_replaced(tmp_path):
    path = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt), create_array(path, (1, 2, 3), np.uint8, 5) as store:  # noqa: PT012
        store[...] = 1
        assert not path.exists()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    path.mkdir()
    with pytest.raises(FileExistsError), create_array(path, (1, 2, 3), np.uint8, 5):
        pass
    assert os.listdir(path) == []
