"""The locks of yseg.files, and its words for what a disk says."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts

import yseg
from yseg.files import locked, storage_problem, whole_folder

# --- Locks ---


LOCKING = """
import sys
from yseg.files import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_a_second_process_out_and_a_kill_frees_it(tmp_path):
    path = tmp_path / "lock"
    environment = {**os.environ, "PYTHONPATH": str(Path(yseg.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", LOCKING, str(path)], env=environment, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(BlockingIOError, match=f"process {process.pid} on "), locked(path):
        pytest.fail("the lock was taken twice")
    process.kill()
    process.communicate()
    with locked(path) as lacking:
        assert lacking is None
        assert path.read_text().startswith(f"process {os.getpid()} on ")
        with pytest.raises(BlockingIOError), locked(path):  # also within one process
            pytest.fail("the lock was taken twice")
    with locked(path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_where_a_file_system_has_no_locks_that_is_said_and_folders_are_written_without_them(code, tmp_path, monkeypatch):
    def refuses(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuses)  # no such file system is at hand
    (tmp_path / ".a.0123abcd.unfinished").mkdir()
    with locked(tmp_path / "lock") as lacking, whole_folder(tmp_path / "a"):
        assert lacking == "the file system has no locks"
    assert sorted(os.listdir(tmp_path)) == [".a.0123abcd.unfinished", "a", "lock"]  # whose it is cannot be known


# --- What the disk says ---


def zarr_with_a_cut_chunk(folder):
    array = np.random.default_rng(0).integers(0, 255, (4, 64), np.uint8)
    store = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}, "metadata": {
        "shape": [4, 64], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 64]}},
        "codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 3}}]}}, create=True).result()
    store.write(array).result()
    chunk = folder / "c" / "1" / "0"
    os.truncate(chunk, chunk.stat().st_size // 2)
    return store, chunk


def test_a_cut_chunk_is_named_in_one_line(tmp_path):
    store, chunk = zarr_with_a_cut_chunk(tmp_path / "a b#.zarr")
    with pytest.raises(ValueError, match="FAILED_PRECONDITION") as caught:
        store.read().result()
    problem = storage_problem(caught.value)
    assert (problem.errno, problem.filename) == (errno.EIO, str(chunk))
    assert problem.strerror.startswith("cannot be read (Truncated Zstd")
    assert "\n" not in problem.strerror


def test_a_full_disk_is_named_in_one_line(tmp_path):
    text = ('RESOURCE_EXHAUSTED: Error writing "x/0" in OCDBT database at local file "/c/4/default/": Failed writing:'
            ' "/c/4/default/d/eb": Failed to write 99 bytes to file 4: No space left on device [os_error_code=\'28\'')
    problem = storage_problem(ValueError(text))
    assert (problem.errno, problem.strerror, problem.filename) == (errno.ENOSPC, "No space left on device", "/c/4/default/d/eb")
    problem = storage_problem(OSError(errno.ENOSPC, "No space left on device", "/a"))
    assert (problem.errno, problem.filename) == (errno.ENOSPC, "/a")


@pytest.mark.parametrize("error", [ValueError("a wrong value"), RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
                                   OSError(errno.ENOENT, "No such file", "/a"), KeyError("INTERNAL")])
def test_other_errors_are_none_of_the_disk(error):
    assert storage_problem(error) is None
