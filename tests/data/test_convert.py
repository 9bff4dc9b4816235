"""yseg.data.convert and its program: the same values in every format."""

import json

import numpy as np
import pytest
import tensorstore as ts
import tifffile
import yaozarrs
import zarr

import yseg
from launch import convert as program_of_convert
from launch import program
from yseg.volumes.volume import open_volume, read_volume

VALUES = np.random.default_rng(0).integers(0, 255, (3, 70, 80)).astype(np.uint8)
PLACES = {"a.zarr": "/0", "a.n5": "/s0", "a.precomputed": "", "a.tif": "", "a.ome.tif": "", "a.h5:raw": ""}


@pytest.fixture
def image(tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", VALUES, photometric="minisblack")
    return str(tmp_path / "image.tif")


@pytest.mark.parametrize("name", PLACES)
def test_a_volume_goes_through_every_format_and_back_to_the_bit(image, tmp_path, name):
    output = yseg.convert(image, f"{tmp_path}/{name}", pixel_size_nm=4.6, section_nm=50.0)
    back = yseg.convert(f"{output}{PLACES[name]}", tmp_path / "back.tif", pixel_size_nm=4.6)
    found = tifffile.imread(back)
    assert found.dtype == VALUES.dtype
    np.testing.assert_array_equal(found, VALUES)


def test_grey_levels_have_means_and_labels_the_most_frequent(image, tmp_path):
    cells = VALUES.reshape(3, 35, 2, 40, 2).transpose(0, 1, 3, 2, 4).reshape(3, 35, 40, 4)
    grey = zarr.open_group(yseg.convert(image, tmp_path / "grey.zarr", pixel_size_nm=5.0), mode="r")
    np.testing.assert_allclose(grey["1"][...], cells.mean(-1), atol=0.5)
    assert "image-label" not in grey.attrs["ome"]
    labels = zarr.open_group(yseg.convert(image, tmp_path / "labels.zarr", pixel_size_nm=5.0, labels=True), mode="r")
    assert (labels["1"][...][..., None] == cells).any(-1).all()
    assert "image-label" in labels.attrs["ome"]


# --- Where it lies ---


def precomputed(folder, offset):
    """The path of a precomputed volume of VALUES that TensorStore has written; offset: (z, y, x) in voxels."""
    scale = {"size": VALUES.shape[::-1], "resolution": [8, 8, 40], "voxel_offset": offset[::-1], "encoding": "raw",
             "chunk_size": [64, 64, 64]}
    store = ts.open({"driver": "neuroglancer_precomputed", "kvstore": f"file://{folder}/", "scale_metadata": scale,
                     "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1}}, create=True).result()
    store[..., 0].T[ts.d[:].translate_to[0]] = VALUES
    return str(folder)


def origin(folder, level=0):
    """Where a precomputed volume starts, (z, y, x), by TensorStore; all of it must be there."""
    store = ts.open({"driver": "neuroglancer_precomputed", "kvstore": f"file://{folder}/", "scale_index": level}).result()
    assert store[..., 0].T.read().result().any()
    return store.domain.origin[2::-1]


def translations(group, version):
    """Those of the levels of an OME-Zarr image or of an N5, by its attributes; None = there is none."""
    image = (group.attrs["ome"] if version == "ome-zarr-0.5" else group.attrs)["multiscales"][0]
    steps = [[step["translation"] for step in level["coordinateTransformations"] if step["type"] == "translation"]
             for level in image["datasets"]]
    return [step[0] if step else None for step in steps]


@pytest.mark.parametrize("labels", [False, True])
def test_a_precomputed_volume_stays_where_it_is(tmp_path, labels):
    image = precomputed(tmp_path / "a.precomputed", (30, 201, -100))
    output = yseg.convert(image, tmp_path / "b.precomputed", labels=labels)
    assert (origin(output), origin(output, 1)) == ((30, 201, -100), (30, 100, -50))
    np.testing.assert_array_equal(open_volume(output).read().result(), VALUES)
    other = yseg.convert(image, tmp_path / "c.precomputed", pixel_size_nm=5.0, metadata="ignored")
    assert origin(other) == (30, 201, -100)


@pytest.mark.parametrize("version", ["ome-zarr-0.5", "ome-zarr-0.4"])
def test_ome_zarr_has_the_place_of_each_level_and_gives_it_back(tmp_path, version):
    image = precomputed(tmp_path / "a.precomputed", (30, 200, 100))
    output = yseg.convert(image, tmp_path / "b.zarr", format=version)
    yaozarrs.validate_zarr_store(output)
    assert translations(zarr.open_group(output, mode="r"), version) == [[1200, 1600, 800], [1200, 1604, 804]]
    for spec in (output, f"{output}/0"):
        assert origin(yseg.convert(spec, tmp_path / "c.precomputed", overwrite=True)) == (30, 200, 100)
    again = yseg.convert(f"{output}/1", tmp_path / "d.zarr", format=version)
    assert translations(zarr.open_group(again, mode="r"), version) == [[1200, 1604, 804]]
    assert origin(yseg.convert(f"{output}/1", tmp_path / "e.precomputed")) == (30, 100, 50)
    plain = yseg.convert(precomputed(tmp_path / "f.precomputed", (0, 0, 0)), tmp_path / "g.zarr", format=version)
    assert translations(zarr.open_group(plain, mode="r"), version) == [None, [0, 4, 4]]


def test_n5_keeps_the_place_beside_its_levels(tmp_path):
    output = yseg.convert(precomputed(tmp_path / "a.precomputed", (30, 200, 100)), tmp_path / "b.n5")
    image = json.loads((tmp_path / "b.n5" / "attributes.json").read_text())["multiscales"][0]
    assert image["datasets"][0]["coordinateTransformations"][1] == {"type": "translation", "translation": [800, 1600, 1200]}
    for spec in (output, f"{output}/s0"):
        assert origin(yseg.convert(spec, tmp_path / "c.precomputed", overwrite=True)) == (30, 200, 100)


def test_the_program_prints_where_the_volume_is(image, tmp_path, capsys):
    output = f"{tmp_path}/a.zarr"
    values = program.parse(program_of_convert.PROGRAM, ["convert", f"--image={image}", f"--output={output}", "--section_nm=50",
                                                        "--pixel_size_nm=4.6", "--format=ome-zarr-0.4"])
    program_of_convert.main(values)
    assert capsys.readouterr().out == f"{output}\n"
    np.testing.assert_array_equal(open_volume(f"{output}/0").read().result(), VALUES)


@pytest.mark.parametrize(("flags", "said"), [
    (["--output=a.zarr"], "--pixel_size_nm is missing"),
    (["--pixel_size_nm=0", "--output=a.zarr"], "--pixel_size_nm=0.0: must be above 0"),
    (["--pixel_size_nm=5", "--section_nm=-1", "--output=a.zarr"], "--section_nm=-1: must be from 0.1 to 2000 nm"),
    (["--pixel_size_nm=5", "--output=a.png"], "--output=a.png: must end in"),
    (["--pixel_size_nm=5", "--output=image.tif", "--overwrite"], "is --image="),
    (["--pixel_size_nm=5", "--output=a.zarr", "--format=n5"], "--format=n5: must be one of"),
    (["--pixel_size_nm=5", "--output=a.precomputed", "--image=wide.tif"],
     "--output=a.precomputed: cannot hold values of type float64"),
    (["--pixel_size_nm=5", "--output=a.zarr", "--labels", "--image=wide.tif"], "--labels: must be without"),
    (["--pixel_size_nm=5", "--output=a.zarr", "--image=none.tif"], "--image=none.tif: no such file"),
])
def test_what_cannot_be_converted_is_one_line_and_writes_nothing(image, tmp_path, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("wide.tif", VALUES.astype(np.float64), photometric="minisblack")
    before = sorted(tmp_path.iterdir())
    values = program.parse(program_of_convert.PROGRAM, ["convert", f"--image={image}", *flags])
    with pytest.raises(yseg.InputError) as caught:
        program_of_convert.main(values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_size_that_contradicts_the_file_is_refused_unless_the_file_is_to_be_ignored(image, tmp_path):
    output = yseg.convert(image, tmp_path / "a.zarr", pixel_size_nm=4.6, section_nm=50.0)
    with pytest.raises(yseg.InputError, match=r"--pixel_size_nm=5: .* says that a pixel measures 4\.6 nm"):
        yseg.convert(output, tmp_path / "b.zarr", pixel_size_nm=5.0)
    other = yseg.convert(output, tmp_path / "b.zarr", pixel_size_nm=5.0, metadata="ignored")
    assert read_volume(other).voxel_nm[1:] == (5.0, 5.0)
    assert read_volume(yseg.convert(output, tmp_path / "c.zarr")).voxel_nm == (50.0, 4.6, 4.6)
