"""yseg.data.convert and its program: the same values in every format."""

import numpy as np
import pytest
import tifffile
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
