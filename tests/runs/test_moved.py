"""yseg.runs.moved: where the volumes of a run are now."""

import dataclasses

import pytest
from tiny import experiment

from yseg.config import Domain, InputError
from yseg.runs.moved import check_there, relocated

OLD = Domain(image="/old/em/b/raw.tif", labels="/old/em/b/labels.h5:mito", pixel_size_nm=5.0)


def config(**fields):
    return experiment(**{"source": dataclasses.replace(OLD, image="/old/em/a/raw.tif", labels=""), "target": OLD,
                         "data_dir": "/old/em"} | fields)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_volumes_are_found_by_the_last_parts_of_their_paths(tmp_path):
    touch(tmp_path, "a/raw.tif", "b/raw.tif", "b/labels.h5", "raw.tif")
    found = relocated(config(), {"data_dir": str(tmp_path)})
    assert found.source.image == str(tmp_path / "a/raw.tif")
    assert (found.target.image, found.target.labels) == (str(tmp_path / "b/raw.tif"), f"{tmp_path / 'b/labels.h5'}:mito")
    assert (found.data_dir, found.source.labels) == (str(tmp_path), "")
    assert found.target.pixel_size_nm == 5.0


def test_what_is_not_in_the_folder_stays_where_it_was(tmp_path):
    touch(tmp_path, "raw.tif")
    found = relocated(config(), {"data_dir": str(tmp_path)})
    assert found.target.image == str(tmp_path / "raw.tif")
    assert found.target.labels == OLD.labels
    phantom = relocated(config(source=Domain(image="phantom://source/image")), {"data_dir": str(tmp_path)})
    assert phantom.source.image == "phantom://source/image"


def test_paths_of_their_own_come_first_and_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "raw.tif")
    found = relocated(config(), {"data_dir": str(tmp_path), "target.image": "mine.zarr", "target.labels": "s3://b/l.zarr",
                                 "source.image": ""})
    assert (found.target.image, found.target.labels) == (str(tmp_path / "mine.zarr"), "s3://b/l.zarr")
    assert found.source.image == str(tmp_path / "raw.tif")


def test_nothing_moved_is_nothing_changed():
    assert relocated(config(), None) == relocated(config(), {"data_dir": ""}) == config()


def test_a_folder_without_any_of_them_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"--data_dir={tmp_path}: must be a folder with the volumes of the run, such as /old"):
        relocated(config(), {"data_dir": str(tmp_path)})
    with pytest.raises(ValueError, match=r"moved=target\.colour"):
        relocated(config(), {"target.colour": "red"})


def test_what_has_moved_is_named_with_the_flags_that_help(tmp_path):
    touch(tmp_path, "raw.tif", "labels.h5")
    there = Domain(image=str(tmp_path / "raw.tif"), labels=f"{tmp_path / 'labels.h5'}:mito")
    check_there(there, "target")
    check_there(Domain(image="phantom://source/image"), "source")
    with pytest.raises(InputError, match=r"^/old/em/b/labels.h5:mito: no such file .* give --data_dir or --target_labels"):
        check_there(dataclasses.replace(there, labels=OLD.labels), "target")
