"""What outputs say beside their voxels, by readers that are not ours."""

import json
import shutil
import xml.etree.ElementTree as ElementTree

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile
import yaozarrs
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from yseg.volumes.create import create_volume
from yseg.volumes.header import Header
from yseg.volumes.volume import read_volume
from yseg.volumes.writers import tiff

SHAPE = (5, 150, 140)
both_versions = pytest.mark.parametrize("format", ["ome-zarr-0.5", "ome-zarr-0.4"])


def write(path, kind, section_nm=50.0, classes=2, **options):
    values = np.random.default_rng(0).integers(0, classes, SHAPE)
    values = values.astype(np.float32) / 3 if kind == "probability" else values.astype(np.uint8)
    with create_volume(str(path), SHAPE, values.dtype, 4.6, section_nm=section_nm, kind=kind, classes=classes,
                       **options) as store:
        store[...] = values
    return values


@both_versions
@pytest.mark.parametrize("kind", ["classes", "probability", "image", "labels"])
@pytest.mark.parametrize("section_nm", [50.0, None])
def test_ome_zarr_is_valid(tmp_path, format, kind, section_nm):
    write(tmp_path / "a.zarr", kind, section_nm, classes=3, format=format)
    yaozarrs.validate_zarr_store(tmp_path / "a.zarr")


@both_versions
def test_the_reader_of_napari_sees_levels_sizes_and_labels(tmp_path, format):
    for kind, what in (("classes", "Label"), ("image", "Multiscales")):
        values = write(tmp_path / f"{kind}.zarr", kind, format=format)
        (node,) = Reader(parse_url(str(tmp_path / f"{kind}.zarr")))()
        assert what in [type(spec).__name__ for spec in node.specs]
        assert [level.shape for level in node.data] == [(5, 150, 140), (5, 75, 70), (5, 38, 35)]
        np.testing.assert_array_equal(node.data[0].compute(), values)
        assert [(axis["name"], axis["type"], axis["unit"]) for axis in node.metadata["axes"]] == [
            (name, "space", "nanometer") for name in "zyx"]
        assert node.metadata["coordinateTransformations"][1] == [
            {"type": "scale", "scale": [50, 9.2, 9.2]}, {"type": "translation", "translation": [0, 2.3, 2.3]}]
        if kind == "classes":
            assert node.metadata["properties"] == {1: {"class": "foreground"}}
            assert len(node.metadata["color"][1]) == 4


def test_levels_of_labels_are_modes_and_those_of_amounts_means(tmp_path):
    for kind, dtype in (("classes", np.uint8), ("probability", np.float32)):
        values = write(tmp_path / f"{kind}.zarr", kind, classes=4)
        cells = values.reshape(5, 75, 2, 70, 2).transpose(0, 1, 3, 2, 4).reshape(5, 75, 70, 4)
        found = zarr.open_array(tmp_path / f"{kind}.zarr" / "1", mode="r")[...]
        assert found.dtype == dtype
        if kind == "probability":
            np.testing.assert_allclose(found, cells.mean(-1), rtol=1e-6)
        else:
            np.testing.assert_array_equal(found, np.stack([(cells == value).sum(-1) for value in range(4)]).argmax(0))


def test_the_voxels_of_ome_zarr_0_5_are_in_few_files(tmp_path):
    write(tmp_path / "a.zarr", "classes")
    assert len([path for path in (tmp_path / "a.zarr" / "0" / "c").rglob("*") if path.is_file()]) == 1
    assert zarr.open_array(tmp_path / "a.zarr" / "0", mode="r").chunks == (5, 128, 128)


def test_an_unknown_section_distance_has_no_unit(tmp_path):
    write(tmp_path / "a.zarr", "image", section_nm=None)
    (multiscale,) = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs["ome"]["multiscales"]
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None, "nanometer", "nanometer"]
    assert [level["coordinateTransformations"][0]["scale"] for level in multiscale["datasets"]] == [
        [1, 4.6, 4.6], [1, 9.2, 9.2], [1, 18.4, 18.4]]
    write(tmp_path / "a.h5", "image", section_nm=None)
    with h5py.File(tmp_path / "a.h5") as file:
        assert "element_size_um" not in file["exported_data"].attrs
    for name in ("a.tif", "a.ome.tif"):
        write(tmp_path / name, "image", section_nm=None)
        with tifffile.TiffFile(tmp_path / name) as file:
            assert "spacing" not in (file.imagej_metadata or {})
            assert "PhysicalSizeZ" not in (file.ome_metadata or "")


@pytest.mark.parametrize("name", ["a.zarr", "a.n5", "a.precomputed", "a.tif", "a.ome.tif", "a.h5:b/c"])
@pytest.mark.parametrize("section_nm", [50.0, 4.6, None])
def test_what_is_written_says_its_voxel_size_when_it_is_read_again(tmp_path, name, section_nm):
    write(f"{tmp_path}/{name}", "image", section_nm)
    assert read_volume(f"{tmp_path}/{name}").voxel_nm == pytest.approx((section_nm, 4.6, 4.6))
    if name in ("a.zarr", "a.n5", "a.precomputed"):
        assert read_volume(f"{tmp_path}/{name}", near_nm=9.2).voxel_nm[1:] == (9.2, 9.2)


def test_a_mark_counts_for_what_it_was_written_for_alone(tmp_path):
    write(tmp_path / "a.h5", "image", None)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["other"] = file["exported_data"][...]
        file["exported_data"].attrs["element_size_um"] = [0.03, 0.005, 0.005]
    assert read_volume(f"{tmp_path}/a.h5:other").voxel_nm == (None, None, None)
    assert read_volume(f"{tmp_path}/a.h5:exported_data").voxel_nm == (30, 5, 5)
    write(tmp_path / "a.precomputed", "image", None)
    info = json.loads((tmp_path / "a.precomputed" / "info").read_text())
    info["scales"][0]["resolution"][2] = 40  # as the user knows it
    (tmp_path / "a.precomputed" / "info").write_text(json.dumps(info))
    assert read_volume(f"{tmp_path}/a.precomputed").voxel_nm == (40, 4.6, 4.6)
    for mark in (3, [], {}, {"section_nm": None}, {"section_nm": "x", "pixel_size_nm": []}):
        (tmp_path / "a.precomputed" / "info").write_text(json.dumps({**info, "yseg": mark}))
        assert read_volume(f"{tmp_path}/a.precomputed").voxel_nm == (40, 4.6, 4.6)
        with h5py.File(tmp_path / "a.h5", "a") as file:
            file.attrs["yseg"] = json.dumps(mark)
        assert read_volume(f"{tmp_path}/a.h5:other").voxel_nm == (None, None, None)


@pytest.mark.parametrize(("kind", "type_", "dtype"), [("classes", "segmentation", "uint32"), ("labels", "segmentation", "uint32"),
                                                      ("probability", "image", "float32"), ("image", "image", "uint8")])
def test_precomputed_is_a_segmentation_or_an_image_of_several_scales(tmp_path, kind, type_, dtype):
    write(tmp_path / "a.precomputed", kind)
    info = json.loads((tmp_path / "a.precomputed" / "info").read_text())
    assert (info["@type"], info["type"], info["data_type"], info["num_channels"]) == (
        "neuroglancer_multiscale_volume", type_, dtype, 1)
    assert [scale["resolution"] for scale in info["scales"]] == [[4.6, 4.6, 50], [9.2, 9.2, 50], [18.4, 18.4, 50]]
    assert [scale["size"] for scale in info["scales"]] == [[140, 150, 5], [70, 75, 5], [35, 38, 5]]
    for scale in info["scales"]:
        assert scale["voxel_offset"] == [0, 0, 0]
        assert scale["encoding"] == ("compressed_segmentation" if type_ == "segmentation" else "raw")
        (chunk,) = scale["chunk_sizes"]
        chunks = [-(-size // side) for size, side in zip(scale["size"], chunk, strict=True)]
        assert len(list((tmp_path / "a.precomputed" / scale["key"]).iterdir())) == np.prod(chunks)  # those of zeros too


@pytest.mark.parametrize("dtype", ["int16", "uint64"])
def test_a_precomputed_segmentation_keeps_negative_and_large_labels(tmp_path, dtype):
    values = np.array([[[0, 1, np.iinfo(dtype).max], [np.iinfo(dtype).min, 2, 3]]], dtype)
    with create_volume(str(tmp_path / "a.precomputed"), values.shape, dtype, 5, kind="labels") as store:
        store[...] = values
    store = ts.open({"driver": "neuroglancer_precomputed", "kvstore": f"file://{tmp_path}/a.precomputed/"}).result()
    assert store.dtype.name == dtype
    np.testing.assert_array_equal(store[..., 0].T.read().result(), values)


def test_n5_has_units_and_factors_of_its_levels(tmp_path):
    write(tmp_path / "a.n5", "image")
    store = ts.open({"driver": "n5", "kvstore": f"file://{tmp_path}/a.n5/s1/"}).result()
    assert store.dimension_units == (ts.Unit("9.2 nm"), ts.Unit("9.2 nm"), ts.Unit("50 nm"))
    assert store.domain.labels == ("x", "y", "z")
    level = json.loads((tmp_path / "a.n5" / "s1" / "attributes.json").read_text())
    assert (level["downsamplingFactors"], level["dimensions"]) == ([2, 2, 1], [70, 75, 5])
    group = json.loads((tmp_path / "a.n5" / "attributes.json").read_text())
    assert group["n5"]
    assert group["pixelResolution"] == {"dimensions": [4.6, 4.6, 50], "unit": "nm"}
    assert group["scales"] == [[1, 1, 1], [2, 2, 1], [4, 4, 1]]
    (multiscale,) = group["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["x", "y", "z"]
    assert [(level["path"], level["coordinateTransformations"][0]["scale"]) for level in multiscale["datasets"]] == [
        ("s0", [4.6, 4.6, 50]), ("s1", [9.2, 9.2, 50]), ("s2", [18.4, 18.4, 50])]


@pytest.mark.parametrize("section_nm", [50.0, None])
def test_the_levels_of_n5_have_their_sizes_by_every_way_to_read_them(tmp_path, section_nm):
    write(tmp_path / "a.n5", "image", section_nm=section_nm)
    for number in range(3):
        folder = tmp_path / "a.n5" / f"s{number}"
        level = json.loads((folder / "attributes.json").read_text())
        assert level["pixelResolution"] == {"dimensions": [4.6, 4.6, section_nm or 4.6], "unit": "nm"}
        fiji = np.multiply(level["pixelResolution"]["dimensions"], level["downsamplingFactors"])  # as its reader n5-ij does
        np.testing.assert_allclose(fiji[:2], 4.6 * 2**number)
        assert read_volume(str(folder)).voxel_nm == (section_nm, 4.6 * 2**number, 4.6 * 2**number)
        assert read_volume(str(tmp_path / "a.n5"), near_nm=4.6 * 2**number).voxel_nm == read_volume(str(folder)).voxel_nm
        alone = shutil.copytree(folder, tmp_path / f"alone{number}.n5")
        assert read_volume(str(alone)).voxel_nm == read_volume(str(folder)).voxel_nm
        del level["units"], level["resolution"]
        (alone / "attributes.json").write_text(json.dumps(level))
        assert read_volume(str(alone)).voxel_nm == (section_nm or 4.6, 4.6 * 2**number, 4.6 * 2**number)


def test_hdf5_has_what_ilastik_reads(tmp_path):
    write(tmp_path / "a.h5", "image")
    with h5py.File(tmp_path / "a.h5") as file:
        data = file["exported_data"]
        np.testing.assert_allclose(data.attrs["element_size_um"], [0.05, 0.0046, 0.0046])
        assert [axis["key"] for axis in json.loads(data.attrs["axistags"])["axes"]] == ["z", "y", "x"]
        assert (data.chunks, data.compression) == ((5, 128, 128), "gzip")


def test_a_tiff_has_the_sizes_that_imagej_reads(tmp_path):
    write(tmp_path / "a.tif", "classes")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert not file.is_bigtiff
        assert file.series[0].axes == "ZYX"
        metadata = file.imagej_metadata
        assert (metadata["slices"], metadata["unit"], metadata["spacing"]) == (5, "micron", 0.05)
        assert (metadata["min"], metadata["max"]) == (0, 1)
        pixels, per = file.pages.first.tags["XResolution"].value
        assert pixels / per == pytest.approx(1 / 0.0046)


def test_an_ome_tiff_has_the_sizes_that_bio_formats_reads(tmp_path):
    values = write(tmp_path / "a.ome.tif", "probability")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_ome
        pixels = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels").attrib
        assert [(float(pixels[f"PhysicalSize{axis}"]), pixels[f"PhysicalSize{axis}Unit"]) for axis in "XYZ"] == [
            (4.6, "nm"), (4.6, "nm"), (50.0, "nm")]
        assert [pixels[f"Size{axis}"] for axis in "XYZCT"] == ["140", "150", "5", "1", "1"]
        np.testing.assert_array_equal(file.asarray(), values)


@pytest.mark.parametrize("dtype", ["uint8", "uint32"])
def test_a_tiff_that_imagej_cannot_hold_is_ome_and_a_bigtiff_where_it_is_large(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(tiff, "_LARGEST", 1000 if dtype == "uint8" else 10**6)
    values = np.random.default_rng(0).integers(0, 99, (2, 30, 40)).astype(dtype)
    tiff.write_tiff(ts.array(values), tmp_path / "a.tif", Header("labels", 5.0), "a")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.is_ome, file.is_imagej, file.is_bigtiff) == (True, False, dtype == "uint8")
        np.testing.assert_array_equal(file.asarray(), values)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_every_type_of_number_is_kept_where_it_can_be(tmp_path, dtype):
    values = np.array([[[0, 1], [99, 2]]], dtype)
    if np.dtype(dtype).kind in "iu":
        values[0, 1] = np.iinfo(dtype).min, np.iinfo(dtype).max
    for name, read in (("a.zarr", lambda path: zarr.open_array(path / "0", mode="r")[...]),
                       ("a.h5", lambda path: h5py.File(path)["exported_data"][...]), ("a.tif", tifffile.imread)):
        if (name, dtype[-2:]) == ("a.tif", "64") and dtype != "float64":
            continue  # OME has no such type; it is refused, see test_create.py
        with create_volume(str(tmp_path / name), values.shape, dtype, 5, kind="image") as store:
            store[...] = values
        found = read(tmp_path / name)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.reshape(values.shape), values)
