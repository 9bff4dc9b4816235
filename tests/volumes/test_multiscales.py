"""OME-Zarr, groups and precomputed volumes of several resolutions: which is opened, and what they say of it."""

import json
import struct

import numpy as np
import pytest
import zarr

from yseg.config import InputError
from yseg.volumes.multiscales import nearest
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(0, 255, (3, 32, 48), np.uint8)
UNITS = {"nanometer": 1.0, "micrometer": 1e-3, "angstrom": 10.0, None: 1.0}


def image(folder, version="0.5", axes="zyx", unit="nanometer", levels=3, size=4.0, wrapped=True):
    """An OME-Zarr group of pixels of `size` nm and more, sections of 50 nm."""
    group = zarr.open_group(folder, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        values = VALUES[:, ::2**level, ::2**level].reshape([1] * (len(axes) - 3) + [3, 32 >> level, 48 >> level])
        group.create_array(f"s{level}", shape=values.shape, dtype="u1")[...] = values
        scale = [1.0] * (len(axes) - 3) + [50 * UNITS[unit], *[size * 2**level * UNITS[unit]] * 2]
        datasets.append({"path": f"s{level}", "coordinateTransformations": [{"type": "scale", "scale": scale},
                                                                          {"type": "translation", "translation": scale}]})
    listed = [{"version": version, "datasets": datasets, "axes": [
        {"name": name, **({"unit": unit} if unit and name in "zyx" else {})} for name in axes]}]
    group.attrs.update({"ome": {"version": version, "multiscales": listed}} if wrapped and version == "0.5"
                       else {"multiscales": listed})
    return str(folder)


@pytest.mark.parametrize(("near", "level"), [(None, 0), (1, 0), (4, 0), (7.9, 0), (8, 1), (10, 1), (15.5, 1), (16, 2), (99, 2)])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_level_that_is_nearest_and_not_coarser_is_opened(tmp_path, version, near, level):
    opened = read_volume(image(tmp_path / "a.zarr", version), near_nm=near)
    np.testing.assert_array_equal(opened.store.read().result(), VALUES[:, ::2**level, ::2**level])
    assert opened.voxel_nm == (50, 4 * 2**level, 4 * 2**level)


@pytest.mark.parametrize("options", [{}, {"axes": "tczyx"}, {"axes": "czyx", "unit": "micrometer"}, {"unit": "angstrom"},
                                     {"unit": None}, {"wrapped": False}, {"version": "0.4", "unit": "micrometer"}])
def test_each_level_by_its_path_has_the_size_that_the_group_says(tmp_path, options):
    folder = image(tmp_path / "a.zarr", **options)
    for level in range(3):
        opened = read_volume(f"{folder}/s{level}", near_nm=999)
        assert opened.voxel_nm == (50, 4 * 2**level, 4 * 2**level)
        np.testing.assert_array_equal(opened.store.read().result(), VALUES[:, ::2**level, ::2**level])


def test_pixels_of_size_1_without_a_unit_say_nothing(tmp_path):
    folder = image(tmp_path / "a.zarr", unit=None, size=1.0)
    assert read_volume(folder, near_nm=10).voxel_nm == (50.0, None, None)
    assert read_volume(f"{folder}/s1").voxel_nm == (50.0, None, None)
    assert read_volume(image(tmp_path / "b.zarr", size=1.0)).voxel_nm == (50, 1, 1)


def test_scales_of_the_whole_image_count_and_old_metadata_is_read(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(1, 1, 3, 32, 48), dtype="u1")
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}]}]  # no axes, no sizes
    opened = read_volume(f"{tmp_path}/a.zarr")
    assert (tuple(opened.store.shape), opened.voxel_nm) == ((3, 32, 48), (None, None, None))
    group.attrs["multiscales"] = [{"axes": list("tczyx"), "datasets": [{"path": "0", "coordinateTransformations": [
        {"type": "scale", "scale": [1, 1, 5, 2, 2]}]}], "coordinateTransformations": [
            {"type": "scale", "scale": [1, 1, 10, 2, 2]}]}]
    assert read_volume(f"{tmp_path}/a.zarr").voxel_nm == (50, 4, 4)


@pytest.mark.parametrize("listed", [
    [{}], [{"datasets": []}], [{"datasets": [{"path": "0"}], "axes": 3}], "all", [{"datasets": [{}], "axes": ["y", "x"]}],
    [{"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1]}]}], "axes": ["z", "y", "x"]}],
    [{"datasets": [{"path": "gone"}], "axes": ["z", "y", "x"]}], [{"datasets": [{"path": "0"}], "axes": ["y", "x"]}]])
def test_metadata_that_cannot_be_understood_are_one_line(tmp_path, listed):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", shape=(3, 32, 48), dtype="u1")
    group.attrs["ome"] = {"multiscales": listed}
    with pytest.raises(InputError) as caught:
        read_volume(f"{tmp_path}/a.zarr", "--image")
    assert str(caught.value).startswith(f"--image={tmp_path}/a.zarr: ")
    assert "\n" not in str(caught.value)


def test_a_group_with_one_array_or_image_is_that_and_others_name_them(tmp_path):
    for version in (2, 3):
        root = zarr.open_group(tmp_path / f"{version}.zarr", mode="w", zarr_format=version)
        root.create_array("volumes/raw", shape=VALUES.shape, dtype="u1")[...] = VALUES
        np.testing.assert_array_equal(read_volume(f"{tmp_path}/{version}.zarr").store.read().result(), VALUES)
        root.create_array("volumes/labels/all", shape=VALUES.shape, dtype="u1")
        with pytest.raises(InputError, match=r"a group; name the array in it, one of volumes/labels/all, volumes/raw$"):
            read_volume(f"{tmp_path}/{version}.zarr")
    image(tmp_path / "series.zarr" / "0")
    zarr.open_group(tmp_path / "series.zarr", mode="a", attributes={"bioformats2raw.layout": 3})
    assert read_volume(f"{tmp_path}/series.zarr", near_nm=8).voxel_nm == (50, 8, 8)


def test_a_group_of_n5_names_its_arrays(tmp_path):
    for name in ("volumes/raw", "labels"):
        (tmp_path / "a.n5" / name).mkdir(parents=True)
        (tmp_path / "a.n5" / name / "attributes.json").write_text(json.dumps({
            "dimensions": [48, 32, 3], "blockSize": [48, 32, 3], "dataType": "uint8", "compression": {"type": "raw"}}))
        if name == "volumes/raw":
            for spec in ("a.n5", "a.n5/volumes"):
                assert read_volume(f"{tmp_path}/{spec}").store.shape == (3, 32, 48)
    for attributes in (None, {"n5": "2.5.0"}):
        if attributes:
            (tmp_path / "a.n5" / "attributes.json").write_text(json.dumps(attributes))
        with pytest.raises(InputError, match=r"a group; name the array in it, one of labels, volumes/raw$"):
            read_volume(f"{tmp_path}/a.n5")


@pytest.mark.parametrize(("axes", "own"), [("zyx", {}), ("xyz", {}), ("zyx", {"axes": ["x", "y", "z"]}),
                                           ("xyz", {"axes": ["x", "y", "z"]})])
def test_an_image_of_several_resolutions_in_n5(tmp_path, axes, own):
    """N5 has no rule for it: CellMap lists z first, as NumPy sees its arrays, others x first, as they are stored."""
    for level in range(2):
        values, folder = VALUES[:, ::2**level, ::2**level], tmp_path / "a.n5" / f"s{level}" / "0" / "0"
        folder.mkdir(parents=True)
        sizes = values.shape[::-1]
        (folder / "0").write_bytes(struct.pack(">HH3I", 0, 3, *sizes) + values.tobytes())
        (tmp_path / "a.n5" / f"s{level}" / "attributes.json").write_text(json.dumps({
            "dimensions": sizes, "blockSize": sizes, "dataType": "uint8", "compression": {"type": "raw"}, **own}))
    scales = [[{"z": 50, "y": size, "x": size}[axis] for axis in axes] for size in (4, 8)]
    (tmp_path / "a.n5" / "attributes.json").write_text(json.dumps({"multiscales": [{
        "axes": [{"name": axis, "unit": "nanometer"} for axis in axes], "datasets": [
            {"path": f"s{level}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            for level, scale in enumerate(scales)]}]}))
    for spec, level in (("a.n5", 1), ("a.n5/s0", 0), ("a.n5/s1", 1)):
        opened = read_volume(f"{tmp_path}/{spec}", near_nm=8)
        np.testing.assert_array_equal(opened.store.read().result(), VALUES[:, ::2**level, ::2**level])
        assert opened.voxel_nm == (50, 4 << level, 4 << level)


def precomputed(folder, sizes=(8, 16), channels=1):
    folder.mkdir()
    scales = [{"key": f"s{size}", "size": [48, 32, 3], "chunk_sizes": [[48, 32, 3]], "encoding": "raw",
               "resolution": [size, size, 50]} for size in sizes]
    for number, scale in enumerate(scales):
        (folder / scale["key"]).mkdir()
        (folder / scale["key"] / "0-48_0-32_0-3").write_bytes(b"".join((VALUES + number + c).tobytes() for c in range(channels)))
    (folder / "info").write_text(json.dumps({
        "@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": "uint8", "num_channels": channels,
        "scales": scales}))
    return str(folder)


@pytest.mark.parametrize(("near", "number"), [(None, 0), (4, 0), (8, 0), (15, 0), (16, 1), (100, 1)])
def test_the_scale_of_a_precomputed_volume_that_is_nearest_is_opened(tmp_path, near, number):
    opened = read_volume(precomputed(tmp_path / "a", (16, 8)[::-1]), near_nm=near)
    np.testing.assert_array_equal(opened.store.read().result(), VALUES + number)
    assert opened.voxel_nm == (50, 8 << number, 8 << number)


def test_a_channel_of_a_precomputed_volume(tmp_path):
    folder = precomputed(tmp_path / "a.precomputed", channels=2)
    with pytest.raises(InputError, match=r"2 channels.*--channel=0 to 1"):
        read_volume(folder, "--image")
    np.testing.assert_array_equal(read_volume(folder, channel=1).store.read().result(), VALUES + 1)


@pytest.mark.parametrize("info", ['{"scales": []}', '{"scales": [{}]}', '{"scales"', "[]"])
def test_an_info_that_cannot_be_understood_is_one_line(tmp_path, info):
    (tmp_path / "a.precomputed").mkdir()
    (tmp_path / "a.precomputed" / "info").write_text(info)
    with pytest.raises(InputError, match=r"^--image=.*info (cannot be understood|is damaged)"):
        read_volume(f"{tmp_path}/a.precomputed", "--image")


def test_where_nothing_is_finer_the_finest_is_nearest():
    assert nearest([8.0, 16.0], 4.0) == 0
    assert nearest([None, None], 4.0) == 0
    assert nearest([4.0, 8.0, 16.0], 8.02) == 1
