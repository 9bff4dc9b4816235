"""Voxels on their way: blocks that are done stay so, another job is not mixed with them."""

import os

import numpy as np
import pytest

from yseg.config import InputError
from yseg.volumes.staged import Staged, place_of

SHAPE, CHUNK = (10, 40, 50), (4, 16, 16)


def begin(place, discard=False, **job):
    staged = Staged(place)
    staged.begin({"threshold": 0.5} | job, {"classes": np.uint8, "probability": np.float32}, SHAPE, CHUNK, discard=discard,
                 name="--output=out.zarr")
    return staged


def test_the_place_is_hidden_beside_the_output(tmp_path):
    assert place_of(f"{tmp_path}/a.zarr") == place_of(f"{tmp_path}/a.zarr/") == f"{tmp_path}/.a.zarr.blocks"
    assert place_of(f"{tmp_path}/a.h5:b/c") == f"{tmp_path}/.a.h5.b.c.blocks"
    assert place_of("s3://em-data/a.zarr") == "s3://em-data/.a.zarr.blocks"
    assert place_of("a.tif") == f"{os.getcwd()}/.a.tif.blocks"


def test_what_is_done_stays_and_is_gone_on_with(tmp_path):
    staged, values = begin(str(tmp_path / "a")), np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
    assert staged.done() == set()
    staged.voxels("classes")[...].write(values).result()
    staged.mark(3)
    staged.mark(12)
    again = begin(str(tmp_path / "a"))
    assert again.done() == {3, 12}
    np.testing.assert_array_equal(again.voxels("classes").read().result(), values)
    assert again.voxels("probability").dtype.name == "float32"
    assert not again.voxels("probability").read().result().any()


def test_blocks_of_another_job_are_named_and_deleted_only_if_asked_to(tmp_path):
    begin(str(tmp_path / "a")).mark(3)
    with pytest.raises(InputError, match=r"^--output=out\.zarr: .* holds blocks of another .* \(threshold 0\.5, now 0\.4\)"):
        begin(str(tmp_path / "a"), threshold=0.4)
    assert begin(str(tmp_path / "a")).done() == {3}
    assert begin(str(tmp_path / "a"), threshold=0.4, discard=True).done() == set()


def test_a_block_of_whole_files_leaves_those_of_others(tmp_path):
    staged = begin(str(tmp_path / "a"))
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    staged.voxels("classes")[4:8, 16:32, :16].write(np.ones((4, 16, 16), np.uint8)).result()
    after = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 1


def test_nothing_is_left_when_it_is_removed(tmp_path):
    staged = begin(str(tmp_path / "a"))
    staged.mark(1)
    staged.remove()
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^--output=out\.zarr: cannot be created \(") as raised:
        begin(str(tmp_path / "file" / "a"))
    assert "\n" not in str(raised.value)
