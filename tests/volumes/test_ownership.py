"""yseg.volumes.ownership: what may be replaced, and that inputs never are."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from yseg.config import InputError
from yseg.volumes.create import check_output, create_volume

NAMES = ("a.zarr", "a.n5", "a.precomputed", "a.tif", "a.h5")


def write(path, value=1):
    with create_volume(str(path), (2, 8, 9), np.uint8, 5.0, kind="image") as store:
        store[...] = value


def write_by_another(path):
    """An OME-Zarr group, as other programs write it."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for level in range(2):
        group.create_array(str(level), shape=(2, 8, 9), dtype="uint8")[...] = 7
    group.attrs["multiscales"] = [{"version": "0.4", "axes": [{"name": name, "type": "space"} for name in "zyx"],
                                   "datasets": [{"path": str(level)} for level in range(2)]}]


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(spec, inputs=None):
    """The one line that says why an output is refused, with --overwrite too."""
    with pytest.raises(InputError) as caught:
        check_output(str(spec), overwrite=True, inputs=inputs)
    assert str(caught.value).startswith(f"--output={spec}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("image", ["g.zarr/0", "g.zarr/1", "g.zarr", "g.zarr/../g.zarr/0/"])
def test_the_group_of_an_input_stays(tmp_path, image):
    write_by_another(tmp_path / "g.zarr")
    before = content(tmp_path)
    assert "--image=" in refused(tmp_path / "g.zarr", {"--image": str(tmp_path / image)})
    with pytest.raises(InputError), create_volume(str(tmp_path / "g.zarr"), (2, 8, 9), np.uint8, 5.0, overwrite=True,
                                                  inputs={"--image": str(tmp_path / image)}):
        pass
    assert content(tmp_path) == before


@pytest.mark.parametrize("ours", [False, True])
def test_an_output_is_never_an_input_nor_above_nor_inside_one(tmp_path, ours):
    (write if ours else write_by_another)(tmp_path / "g.zarr")
    for output, image, word in (("g.zarr", "g.zarr/0", "holds"), ("g.zarr", "g.zarr", "is"),
                                ("g.zarr/0/new.zarr", "g.zarr", "lies in"),
                                ("g.zarr/new.n5", "g.zarr", "lies in")):
        said = refused(tmp_path / output, {"--image": str(tmp_path / image)})
        assert f": {word} --image={tmp_path / image}, which is read" in said
    check_output(str(tmp_path / "h.zarr"), inputs={"--image": str(tmp_path / "g.zarr"), "--labels": "", "a": "phantom://source/image"})


def test_neither_by_links_nor_by_other_names(tmp_path):
    write(tmp_path / "g.zarr")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "raw.zarr").symlink_to(tmp_path / "g.zarr" / "0")
    (tmp_path / "folder").symlink_to(tmp_path)
    for output, image in (("g.zarr", "other/raw.zarr"), ("folder/g.zarr", "g.zarr/0"), ("g.zarr", "folder/g.zarr"),
                          ("folder/g.zarr", "other/raw.zarr"), ("folder/folder/g.zarr/0/b.n5", "g.zarr")):
        assert "--image=" in refused(tmp_path / output, {"--image": str(tmp_path / image)})
    (tmp_path / "g.zarr" / "1").symlink_to(tmp_path / "other")  # what is reached through the output is lost with it, too
    assert "holds --image=" in refused(tmp_path / "g.zarr", {"--image": str(tmp_path / "g.zarr" / "1" / "x.zarr")})


def test_neither_are_sections_and_levels_that_an_input_has_by_links(tmp_path):
    write(tmp_path / "ours.zarr")
    write(tmp_path / "ours.tif")
    write_by_another(tmp_path / "g.zarr")
    (tmp_path / "g.zarr" / "2").symlink_to(tmp_path / "ours.zarr" / "0")
    (tmp_path / "sections").mkdir()
    (tmp_path / "sections" / "1.tif").symlink_to(tmp_path / "ours.tif")
    (tmp_path / "sections" / "2.tif").symlink_to("nowhere.tif")
    for output, image in (("ours.zarr", "g.zarr"), ("ours.tif", "sections")):
        assert f"holds --image={tmp_path / image}" in refused(tmp_path / output, {"--image": str(tmp_path / image)})
    check_output(str(tmp_path / "ours.tif"), overwrite=True, inputs={"--image": str(tmp_path / "g.zarr")})


def test_a_link_is_never_replaced(tmp_path):
    write(tmp_path / "a.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "a.zarr")
    (tmp_path / "dangling.tif").symlink_to(tmp_path / "nowhere.tif")
    for name in ("link.zarr", "dangling.tif"):
        assert "is a link to" in refused(tmp_path / name)


def test_files_of_one_volume_are_one_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file["raw"] = np.zeros((2, 8, 9), np.uint8)
    assert "is --image=a.h5:raw" in refused("a.h5:segmentation", {"--image": "a.h5:raw"})
    assert "is --image=" in refused("a.tif", {"--image": str(tmp_path / "a.tif")})
    os.makedirs("sections")
    assert "lies in --image=sections" in refused("sections/b.tif", {"--image": "sections"})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "is --image=~/b.tif" in refused("b.tif", {"--image": "~/b.tif"})
    assert "holds --labels=s3://bucket/a.zarr/0" in refused("s3://bucket/a.zarr", {"--labels": "s3://bucket/a.zarr/0"})


@pytest.mark.parametrize("name", NAMES)
def test_what_another_program_wrote_is_never_replaced(tmp_path, name):
    path = tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, np.zeros((2, 8, 9), np.uint8), photometric="minisblack")
    elif name == "a.h5":
        with h5py.File(path, "w") as file:
            file["exported_data"] = np.zeros((2, 8, 9), np.uint8)
    elif name == "a.zarr":
        write_by_another(path)
    else:
        path.mkdir()
        (path / ("info" if name == "a.precomputed" else "attributes.json")).write_text(json.dumps({"dimensions": [9, 8, 2]}))
    assert "it will not be replaced" in refused(path)


@pytest.mark.parametrize("name", NAMES)
def test_neither_is_what_is_no_volume(tmp_path, name):
    (tmp_path / name).mkdir()
    assert "it will not be replaced" in refused(tmp_path / name)
    (tmp_path / name).rmdir()
    for text in ("", "thesis", '{"yseg": 3}', '{"attributes": []}', "[]"):
        (tmp_path / name).write_text(text)
        assert "it will not be replaced" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.zarr", "a.n5", "a.precomputed"])
def test_nor_a_folder_of_ours_to_which_something_was_added(tmp_path, name):
    path = tmp_path / name
    write(path)
    check_output(str(path), overwrite=True)
    (path / "labels").mkdir()
    assert "it will not be replaced" in refused(path)
    (path / "labels").rmdir()
    (path / "thesis.tex").write_text("x")
    assert "it will not be replaced" in refused(path)
    (path / "thesis.tex").unlink()
    check_output(str(path), overwrite=True)


def test_nor_a_folder_that_holds_one_of_ours(tmp_path):
    write_by_another(tmp_path / "a.zarr")
    shutil.rmtree(tmp_path / "a.zarr" / "1")
    write(tmp_path / "b.zarr")
    (tmp_path / "b.zarr").rename(tmp_path / "a.zarr" / "1")
    assert "it will not be replaced" in refused(tmp_path / "a.zarr")
    check_output(str(tmp_path / "a.zarr" / "c.zarr"))


def test_nor_a_file_of_ours_that_was_changed(tmp_path):
    write(tmp_path / "a.h5")
    check_output(str(tmp_path / "a.h5"), overwrite=True)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["raw"] = np.zeros((2, 8, 9), np.uint8)
    assert "it will not be replaced" in refused(tmp_path / "a.h5")
    write(tmp_path / "a.tif")
    check_output(str(tmp_path / "a.tif"), overwrite=True)
    tifffile.imwrite(tmp_path / "a.tif", tifffile.imread(tmp_path / "a.tif"), imagej=True)
    assert "it will not be replaced" in refused(tmp_path / "a.tif")


def test_another_format_may_take_the_place_of_ours(tmp_path):
    write(tmp_path / "a.zarr")
    with create_volume(str(tmp_path / "a.zarr"), (2, 8, 9), np.uint8, 5.0, format="ome-zarr-0.4", overwrite=True) as store:
        store[...] = 3
    assert (zarr.open_array(tmp_path / "a.zarr" / "0", mode="r", zarr_format=2)[...] == 3).all()
    assert not (tmp_path / "a.zarr" / "zarr.json").exists()


def test_a_dataset_of_a_group_is_ours_too(tmp_path):
    for _ in range(2):
        with create_volume(f"{tmp_path / 'a.h5'}:volumes/labels", (2, 8, 9), np.uint8, 5.0, overwrite=True) as store:
            store[...] = 3
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert (file["volumes/labels"][...] == 3).all()
