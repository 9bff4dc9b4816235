"""Sizes of voxels, as files of each format say them."""

import json

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from yseg.volumes.volume import read_volume
from yseg.volumes.voxel_size import nm_of

VALUES = np.zeros((3, 20, 30), np.uint8)
UNKNOWN = (None, None, None)


def sizes(spec):
    return read_volume(str(spec)).voxel_nm


@pytest.mark.parametrize(("value", "unit", "nm"), [
    (4.6, "nm", 4.6), (0.0046, "micrometer", 4.6), (0.0046, "um", 4.6), (0.0046, "\u00b5m", 4.6), (0.0046, "\u03bcm", 4.6),
    (0.0046, "\\u00B5m", 4.6), (46, "angstrom", 4.6), (4.6e-6, "mm", 4.6), (4.6e-9, "meters", 4.6), (0.0046, "Microns", 4.6),
    (46, "\\u00C5", 4.6), (46, "\\u00e5ngstr\\u00F6m", 4.6), (46, "\u212b", 4.6), (3, "\\u00", None),
    (3, "pixel", None), (3, "", None), (0, "nm", None), (-1, "nm", None), (float("nan"), "nm", None), (None, "nm", None),
    (True, "nm", None)])
def test_lengths_in_nm(value, unit, nm):
    assert nm_of(value, unit) == nm


# --- TIFF ---


@pytest.mark.parametrize(("options", "expected"), [
    ({"imagej": True, "resolution": (1 / 0.004, 1 / 0.005), "metadata": {"axes": "ZYX", "unit": "um", "spacing": 0.05}},
     (50, 5, 4)),
    ({"imagej": True, "resolution": (0.25, 0.25), "metadata": {"axes": "ZYX", "unit": "nm"}}, (None, 4, 4)),
    ({"imagej": True, "resolution": (1, 1), "metadata": {"axes": "ZYX"}}, UNKNOWN),
    ({"imagej": True, "resolution": (2, 2), "metadata": {"axes": "ZYX", "unit": "pixel"}}, UNKNOWN),
    ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.004, "PhysicalSizeY": 0.005, "PhysicalSizeZ": 0.05}},
     (50, 5, 4)),
    ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 40,
                                "PhysicalSizeYUnit": "\u00c5"}}, (None, 4, 4)),
    ({"ome": True, "metadata": {"axes": "ZYX"}}, UNKNOWN),
    ({"resolution": (2e6, 2e6), "resolutionunit": "CENTIMETER"}, (None, 5, 5)),
    ({"resolution": (25.4e6 / 5, 25.4e6 / 5), "resolutionunit": "INCH"}, (None, 5, 5)),
    ({"resolution": (72, 72), "resolutionunit": "INCH"}, UNKNOWN),  # of a printer
    ({"resolution": (2e6, 2e6), "resolutionunit": "NONE"}, UNKNOWN),
    ({"resolution": (0, 0)}, UNKNOWN), ({}, UNKNOWN)])
def test_tiff(tmp_path, options, expected):
    tifffile.imwrite(tmp_path / "a.tif", VALUES, photometric="minisblack", **options)
    assert sizes(tmp_path / "a.tif") == pytest.approx(expected) if expected != UNKNOWN else sizes(tmp_path / "a.tif") == UNKNOWN


def test_a_folder_of_tiffs_has_the_size_of_its_first(tmp_path):
    for number in range(3):
        tifffile.imwrite(tmp_path / f"{number}.tif", VALUES[number], resolution=(2e6, 2e6), resolutionunit="CENTIMETER")
    assert sizes(tmp_path) == pytest.approx((None, 5, 5))


@pytest.mark.parametrize(("text", "expected"), [
    ("images=3\nslices=3\nunit=\\u00B5m\nspacing=0.05", (50, 4, 4)), ("images=3\nunit=micron\nspacing=-0.05", (50, 4, 4)),
    ("images=3\nslices=3\nunit=nm\nyunit=nm\nzunit=micron\nspacing=0.05", (50, 0.004, 0.004)),
    ("images=3\nslices=3\nunit=micron\nyunit=\\u00C5\nzunit=nm\nspacing=50", (50, 0.0004, 4)),
    ("images=3\nslices=3\nunit=inch\nspacing=0.1", UNKNOWN), ("images=3\nslices=3\nunit=cm", UNKNOWN),
    ("images=3\nslices=3\nunit=\"", UNKNOWN), ("images=3\nslices=3\nunit=mm", (None, 4000, 4000)),
    ("images=3\nslices=3", UNKNOWN)])
def test_what_imagej_itself_writes(tmp_path, text, expected):
    tifffile.imwrite(tmp_path / "a.tif", VALUES, photometric="minisblack", description=f"ImageJ=1.53t\n{text}\n", metadata=None,
                     resolution=(250, 250), resolutionunit="NONE")
    opened = read_volume(str(tmp_path / "a.tif"))
    assert (tuple(opened.store.shape), opened.voxel_nm) == (VALUES.shape, expected)


# --- Chunked arrays ---


@pytest.mark.parametrize("attributes", [
    {"resolution": [50, 5, 4]}, {"voxel_size": [50.0, 5, 4]}, {"voxel_size": [0.05, 0.005, 0.004], "units": ["um"] * 3},
    {"resolution": [500, 50, 40], "units": "angstrom"}, {"element_size_um": [0.05, 0.005, 0.004]},
    {"transform": {"axes": ["x", "z", "y"], "scale": [4.0, 50, 5], "units": ["nm", "nm", "nm"]}}])
def test_attributes_of_hdf5_and_zarr_have_z_first(tmp_path, attributes):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", data=VALUES)
        dataset.attrs.update({name: value for name, value in attributes.items() if not isinstance(value, dict)})
    if "transform" not in attributes:
        assert sizes(f"{tmp_path}/a.h5:a") == (50, 5, 4)
    for version in (2, 3):
        zarr.create_array(tmp_path / f"{version}.zarr", shape=VALUES.shape, dtype="u1", zarr_format=version,
                          attributes=attributes)
        assert sizes(f"{tmp_path}/{version}.zarr") == (50, 5, 4)


@pytest.mark.parametrize("attributes", [
    {"pixelResolution": {"dimensions": [4.0, 5, 50], "unit": "nm"}}, {"pixelResolution": [4.0, 5, 50]},
    {"pixelResolution": {"dimensions": [0.002, 0.0025, 0.05], "unit": "um"}, "downsamplingFactors": [2, 2, 1]},
    {"resolution": [4.0, 5, 50]}, {"resolution": [4.0, 5, 50], "units": ["nm"] * 3, "axes": ["x", "y", "z"]},
    {"resolution": [50.0, 5, 4], "units": ["nm"] * 3, "axes": ["z", "y", "x"]},
    {"transform": {"axes": ["z", "y", "x"], "scale": [50.0, 5, 4], "units": ["nm", "nm", "nm"]}}])
def test_attributes_of_n5_have_x_first_but_for_names(tmp_path, attributes):
    (tmp_path / "a.n5").mkdir()
    shape = VALUES.shape if attributes.get("axes") == ["z", "y", "x"] else VALUES.shape[::-1]
    (tmp_path / "a.n5" / "attributes.json").write_text(json.dumps({
        "dimensions": shape, "blockSize": shape, "dataType": "uint8", "compression": {"type": "raw"}, **attributes}))
    opened = read_volume(f"{tmp_path}/a.n5")
    assert (tuple(opened.store.shape), opened.voxel_nm) == (VALUES.shape, (50, 5, 4))


@pytest.mark.parametrize("attributes", [
    {}, {"resolution": "high"}, {"resolution": [1, 2]}, {"voxel_size": [0, 0, 0]}, {"transform": {"axes": ["z"]}},
    {"resolution": {"x": 3}}, {"axes": 3}, {"units": ["nm"]}, {"voxel_size": [50, 5, 4], "units": {}},
    {"transform": {"axes": [["z"], "y", {}], "scale": 3}},
    {"transform": {"axes": list("zyx"), "scale": [50, 5, 4], "units": 3}},
    {"pixelResolution": {"dimensions": [50, 5, 4], "unit": 3}},
    {"voxel_size": [50, 5, 4], "units": 3}, {"voxel_size": [50, 5, 4], "units": True}])
def test_attributes_that_make_no_sense_say_nothing(tmp_path, attributes):
    zarr.create_array(tmp_path / "a.zarr", shape=VALUES.shape, dtype="u1", attributes=attributes)
    assert sizes(tmp_path / "a.zarr") == UNKNOWN
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plain = {name: value for name, value in attributes.items() if isinstance(value, (int, str)) or name == "voxel_size"}
        file.create_dataset("a", data=VALUES).attrs.update(plain)
    if plain == attributes:
        assert sizes(f"{tmp_path}/a.h5") == UNKNOWN


def test_dimension_units_of_zarr(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=VALUES.T.shape, dtype="u1", dimension_names=["x", "y", "z"],
                      attributes={"dimension_units": ["4 nm", "0.005 um", None]})
    assert sizes(tmp_path / "a.zarr") == (None, 5, 4)
