"""The size of voxels: given, in the file, both, or neither."""

import dataclasses
import json

import numpy as np
import pytest
import tifffile
import zarr

from yseg.config import IGNORED, Domain, Experiment, InputError, Sampling
from yseg.data.convert import convert
from yseg.data.domain import given_domain, open_domain
from yseg.data.voxel_size import pixel_size_nm, section_nm, wanted_nm
from yseg.runs.resolve import resolve
from yseg.volumes.opened import VolumeNotice
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(0, 200, (3, 64, 96), np.uint8)
FLAG = "--config.source"


def domain(**fields):
    return Domain(**{"image": "a.tif"} | fields)


def complaint(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- What is agreed on ---


@pytest.mark.parametrize(("given", "said", "agreed"), [
    (0.0, (None, None, None), 0.0), (4.6, (None, None, None), 4.6), (0.0, (50, 4.6, 4.6), 4.6), (4.6, (50, 4.58, 4.58), 4.6),
    (0.0, (None, None, 8), 8), (4.6, (5000000, 4.6, 4.6), 4.6), (0.1, (None, None, None), 0.1)])
def test_what_is_given_or_else_what_the_file_says(given, said, agreed):
    assert pixel_size_nm(domain(pixel_size_nm=given), said, FLAG) == agreed


def test_a_contradiction_is_named_with_both_sizes_and_can_be_ignored():
    said = complaint(pixel_size_nm, domain(pixel_size_nm=4.0), (50, 8, 8), FLAG)
    assert said == ("--config.source.pixel_size_nm=4: --config.source.image=a.tif says that a pixel measures 8 nm; leave"
                    " --config.source.pixel_size_nm out, or give --config.source.metadata=ignored if the file is wrong")
    assert pixel_size_nm(domain(pixel_size_nm=4.0, metadata=IGNORED), (50, 8, 8), FLAG) == 4
    assert pixel_size_nm(domain(metadata=IGNORED), (50, 8, 8), FLAG) == 0
    assert complaint(section_nm, domain(section_nm=40.0), (50, 8, 8), "-") == (
        "--section_nm=40: --image=a.tif says that neighbouring sections lie apart by 50 nm; leave --section_nm out, or give"
        " --metadata=ignored if the file is wrong")


@pytest.mark.parametrize(("size", "said"), [
    (0.0046, "; 0.0046 micrometres are 4.6 nm"), (4.6e-6, "; 4.6e-06 millimetres are 4.6 nm"),
    (4.6e-9, "; 4.6e-09 metres are 4.6 nm"), (4600, "")])
def test_sizes_that_cannot_be_meant_are_named(size, said):
    given = complaint(pixel_size_nm, domain(pixel_size_nm=size), (None, None, None), FLAG)
    assert given == f"--config.source.pixel_size_nm={size:g}: must be from 0.1 to 2000 nm in electron microscopy{said}"
    found = complaint(pixel_size_nm, domain(), (None, size, size), FLAG)
    assert found == (f"--config.source.image=a.tif says that a pixel measures {size:g} nm; must be from 0.1 to 2000 nm in"
                     f" electron microscopy{said}; if the file is wrong, give --config.source.pixel_size_nm with"
                     " --config.source.metadata=ignored")
    assert f"section_nm={size:g}: must be" in complaint(section_nm, domain(section_nm=size), (None, None, None), FLAG)
    assert "sections lie apart by" in complaint(section_nm, domain(), (size, 5, 5), FLAG)


def test_pixels_must_be_square():
    assert "4 x 5 nm in y and x; must be square" in complaint(pixel_size_nm, domain(), (None, 4, 5), FLAG)
    assert pixel_size_nm(domain(pixel_size_nm=5.0, metadata=IGNORED), (None, 4, 5), FLAG) == 5


def test_which_resolution_is_wanted():
    assert wanted_nm(domain(), 16.0) == 16
    assert wanted_nm(domain(pixel_size_nm=4.0), 16.0) == 4
    assert wanted_nm(domain(pixel_size_nm=4.0, metadata=IGNORED), 16.0) is None


# --- In domains ---


def ome_zarr(folder):
    """Levels of 4, 8 and 16 nm, with labels of the same."""
    for name in ("image", "labels"):
        group = zarr.open_group(folder / f"{name}.zarr", mode="w")
        for level in range(3):
            values = VALUES[:, ::2**level, ::2**level]
            group.create_array(str(level), shape=values.shape, dtype="u1")[...] = values if name == "image" else values > 99
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{
            "axes": [{"name": axis, "unit": "nanometer"} for axis in "zyx"], "datasets": [
                {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [50, 4 * 2**level, 4 * 2**level]}]}
                for level in range(3)]}]}
    return {"image": str(folder / "image.zarr"), "labels": str(folder / "labels.zarr")}


@pytest.mark.parametrize(("working", "given", "size"), [
    (10.0, 0.0, 8), (16.0, 0.0, 16), (3.0, 0.0, 4), (16.0, 4.0, 4), (10.0, 16.0, 16)])
def test_the_resolution_that_fits_is_opened_with_labels_of_the_same(tmp_path, working, given, size):
    found = ome_zarr(tmp_path)
    config = resolve(Experiment(source=Domain(**found, pixel_size_nm=given), target=Domain(**found),
                                sampling=Sampling(working_pixel_size_nm=working)))
    assert config.source.pixel_size_nm == size
    volume = open_domain(config.source, config.sampling, FLAG, with_labels=True)
    np.testing.assert_array_equal(volume.image.read().result(), VALUES[:, ::size // 4, ::size // 4])
    np.testing.assert_array_equal(volume.labels.read().result(), VALUES[:, ::size // 4, ::size // 4] > 99)
    assert (volume.pixel_size_nm, volume.grid.pixel_size_nm, volume.section_nm, volume.spacing_nm) == (size, size, 50, 50)


def test_a_size_that_no_resolution_has_is_a_contradiction(tmp_path):
    found = ome_zarr(tmp_path)
    with pytest.raises(InputError, match=r"^--config\.source\.pixel_size_nm=5: .*says that a pixel measures 4 nm"):
        open_domain(Domain(**found, pixel_size_nm=5.0), Sampling(), FLAG, with_labels=False)
    ignored = open_domain(Domain(**found, pixel_size_nm=5.0, metadata=IGNORED), Sampling(), FLAG, with_labels=True)
    assert (ignored.image.shape, ignored.pixel_size_nm, ignored.section_nm) == (VALUES.shape, 5, 0)


def test_a_config_without_a_size_takes_that_of_the_file_and_says_it_if_there_is_none(tmp_path):
    for name, options in (("said", {"resolution": (2e6, 2e6), "resolutionunit": "CENTIMETER"}), ("silent", {})):
        tifffile.imwrite(tmp_path / f"{name}.tif", VALUES, photometric="minisblack", **options)
    said, silent = (Domain(image=str(tmp_path / f"{name}.tif")) for name in ("said", "silent"))
    config = resolve(Experiment(source=said, target=said))
    assert config.source.pixel_size_nm == pytest.approx(5)
    assert resolve(config) == config
    with pytest.raises(InputError, match=r"^--config\.target\.pixel_size_nm=0\.0: must be given for .*silent\.tif"):
        resolve(Experiment(source=said, target=silent))
    assert given_domain(config, silent.image, pixel_size_nm=7.0).pixel_size_nm == 7
    with pytest.raises(InputError, match=r"^--pixel_size_nm is missing"):
        given_domain(config, silent.image)


def test_a_volume_of_the_command_line_has_the_size_of_its_file(tmp_path):
    found, other = ome_zarr(tmp_path), Domain(image="phantom://source/image")
    config = resolve(Experiment(source=other, target=other, sampling=Sampling(working_pixel_size_nm=10.0)))
    known = given_domain(config, found["image"])
    assert (known.pixel_size_nm, known.image) == (8, found["image"])
    assert given_domain(config, found["image"], pixel_size_nm=16.0).pixel_size_nm == 16
    with pytest.raises(InputError, match=r"^--pixel_size_nm=5: --image=.*says that a pixel measures 4 nm"):
        open_domain(given_domain(config, found["image"], pixel_size_nm=5.0), config.sampling, "-", with_labels=False)
    given = given_domain(config, found["image"], pixel_size_nm=5.0, metadata=IGNORED, section_nm=30.0, channel=0)
    assert (given.metadata, given.section_nm, given.channel) == (IGNORED, 30, 0)
    assert open_domain(given, config.sampling, "-", with_labels=False).spacing_nm == 30


def test_a_channel_is_that_of_the_image_alone(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([VALUES, 255 - VALUES], 1), imagej=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite(tmp_path / "m.tif", (VALUES > 99).astype(np.uint8), photometric="minisblack")
    given = Domain(image=str(tmp_path / "a.tif"), labels=str(tmp_path / "m.tif"), pixel_size_nm=5.0)
    with pytest.raises(InputError, match=r"2 channels.*--config\.source\.channel=0 to 1"):
        open_domain(given, Sampling(), FLAG, with_labels=True)
    volume = open_domain(dataclasses.replace(given, channel=1), Sampling(), FLAG, with_labels=True)
    np.testing.assert_array_equal(volume.image.read().result(), 255 - VALUES)
    with pytest.raises(InputError, match=r"^--config\.source\.labels=.*2 channels, which are not sections; must be one"):
        open_domain(dataclasses.replace(given, channel=1, labels=given.image), Sampling(), FLAG, with_labels=True)


def test_what_is_to_be_known_of_an_image_is_said(tmp_path):
    (tmp_path / "a.n5").mkdir()
    (tmp_path / "a.n5" / "attributes.json").write_text(json.dumps({
        "dimensions": [64, 64, 4], "blockSize": [32, 32, 4], "dataType": "uint8", "compression": {"type": "raw"}}))
    with pytest.warns(VolumeNotice, match=r"^--config\.source\.image=.*: 4 chunks are missing"):
        open_domain(Domain(image=str(tmp_path / "a.n5"), pixel_size_nm=5.0), Sampling(), FLAG, with_labels=False)
    with pytest.warns(VolumeNotice, match=r"^--image=.*: 4 chunks are missing"):
        convert(str(tmp_path / "a.n5"), tmp_path / "b.zarr", pixel_size_nm=5.0)


def test_what_is_to_be_known_of_labels_is_said_and_what_is_converted(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VALUES, photometric="minisblack")
    (tmp_path / "masks").mkdir()
    for name, values in zip("xyz", VALUES, strict=True):
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", (values > 99).astype(np.uint8))
    given = Domain(image=str(tmp_path / "a.tif"), labels=str(tmp_path / "masks"), pixel_size_nm=5.0)
    with pytest.warns(VolumeNotice, match=r"^--config\.source\.labels=.*: no numbers in the names of its files"):
        open_domain(given, Sampling(), FLAG, with_labels=True)
    with pytest.warns(VolumeNotice, match=r"^--image=.*: no numbers in the names of its files"):
        convert(given.labels, tmp_path / "b.zarr", pixel_size_nm=5.0, labels=True)


# --- Folders whose files say different sizes ---


def sized(path, *sizes_nm):
    path.mkdir()
    for number, nm in enumerate(sizes_nm):
        options = {"resolution": (1e7 / nm, 1e7 / nm), "resolutionunit": "CENTIMETER"} if nm else {}
        tifffile.imwrite(path / f"{number}.tif", np.zeros((20, 30), np.uint8), **options)
    return str(path)


def test_sections_that_say_different_sizes_are_refused_unless_they_are_ignored(tmp_path):
    path = sized(tmp_path / "a", None, 5, 5.001, 8)
    said = complaint(convert, path, tmp_path / "b.zarr")
    assert said == (f"--image={path}: its files say different sizes of a voxel, in y 5 nm in 1.tif and 8 nm in 3.tif; all"
                    " sections must be alike; if the file is wrong, give --pixel_size_nm with --metadata=ignored")
    with pytest.raises(InputError, match=r"^--config\.source\.image=.*: its files say different sizes"):
        open_domain(Domain(image=path, pixel_size_nm=5.0), Sampling(), "--config.source", with_labels=False)
    convert(path, tmp_path / "b.zarr", pixel_size_nm=5.0, metadata=IGNORED)
    read_volume(path)  # where nobody asks for the size


def test_sections_that_say_nothing_have_the_size_of_the_others(tmp_path):
    assert read_volume(sized(tmp_path / "a", None, 5, 5)).voxel_nm == pytest.approx((None, 5, 5))


@pytest.mark.parametrize("field", ["labels", "mask"])
def test_what_is_to_be_known_of_labels_and_masks_is_said(tmp_path, field):
    tifffile.imwrite(tmp_path / "a.tif", VALUES, photometric="minisblack")
    tifffile.imwrite(tmp_path / "m.tif", (VALUES > 99) * np.uint8(255), photometric="minisblack", compression="jpeg")
    given = {"image": str(tmp_path / "a.tif"), "labels": str(tmp_path / "m.tif"), field: str(tmp_path / "m.tif")}
    with pytest.warns(VolumeNotice, match=rf"^--config\.source\.{field}=.*m\.tif: is compressed as JPEG"):
        open_domain(Domain(**given, pixel_size_nm=5.0), Sampling(), FLAG, with_labels=field == "labels")
