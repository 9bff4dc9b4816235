"""A segmentation in blocks: the same whoever computes them, in whatever order, and however often they are killed."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from killing import workers_below

import yseg
from yseg.inference.engine import BlocksFailedError
from yseg.trained import applied, segmentation
from yseg.volumes.arrays import create_array
from yseg.volumes.staged import place_of
from yseg.volumes.volume import open_volume

IMAGE = "phantom://target/image?shape=7,70,100&seed=3"
SIZE_NM, BLOCK = 10.0, "4,32,64"
COUNT = 2 * 3 * 2  # of the blocks of IMAGE


def segment(run, output, **more):
    yseg.segment(run, IMAGE, output, **{"pixel_size_nm": SIZE_NM, "what": "both", "block": BLOCK, "quiet": True} | more)


def voxels(output):
    path = str(output)
    return [open_volume(f"{each}/0").read().result() for each in (path, path.replace(".zarr", "_probability.zarr"))]


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """Classes and probabilities in one block."""
    output = tmp_path_factory.mktemp("whole") / "a.zarr"
    segment(run, output, block="")
    return voxels(output)


@pytest.fixture(scope="module")
def in_blocks(run, tmp_path_factory):
    """Classes and probabilities in many."""
    output = tmp_path_factory.mktemp("blocks") / "a.zarr"
    segment(run, output)
    assert sorted(path.name for path in output.parent.iterdir()) == ["a.zarr", "a_probability.zarr"]
    return voxels(output)


def assert_same(output, expected):
    for found, other in zip(voxels(output), expected, strict=True):
        np.testing.assert_array_equal(found, other)
    assert not list(Path(output).parent.glob(".*"))


def test_blocks_are_what_the_whole_is(whole, in_blocks):
    np.testing.assert_allclose(in_blocks[1], whole[1], atol=1e-6)
    clear = np.abs(whole[1] - 0.5) > 1e-6
    np.testing.assert_array_equal(in_blocks[0][clear], whole[0][clear])
    assert 0 < whole[0].mean() < 1


CHILD = """
import sys
from test_segmentation import segment
if __name__ == "__main__":
    segment(*sys.argv[1:3], scheduler=sys.argv[3], overwrite=True)
"""


def start(tmp_path, run, output, scheduler="", **options):
    """A process that segments."""
    script, tests = tmp_path / "child.py", Path(__file__).parents[1]
    script.write_text(CHILD)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests, Path(__file__).parent)))}
    return subprocess.Popen([sys.executable, str(script), str(run), str(output), scheduler], env=environment, **options)


def done(output):
    return {path.name: path.stat().st_mtime_ns for path in Path(place_of(str(output)), "done").glob("*")}


def kill_between(child, output, least):
    """Kill a process once it has done so many blocks, and before it has done all."""
    while child.poll() is None and len(done(output)) < least:
        time.sleep(0.002)
    time.sleep(random.Random().random() * 0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.mark.slow
def test_killed_and_started_again_with_other_workers_it_does_what_is_missing_and_ends_the_same(run, in_blocks, tmp_path):
    output = tmp_path / "out" / "a.zarr"
    output.parent.mkdir()
    kill_between(start(tmp_path, run, output, "local:3"), output, 2)
    before = done(output)
    assert 2 <= len(before) < COUNT, "it ended before it could be killed"
    kill_between(start(tmp_path, run, output), output, len(before) + 2)
    assert {name: time for name, time in done(output).items() if name in before} == before  # these were not done again
    assert start(tmp_path, run, output, "local:1").wait() == 0
    assert_same(output, in_blocks)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(run, in_blocks, tmp_path):
    output = tmp_path / "out" / "a.zarr"
    output.parent.mkdir()
    child, killed = start(tmp_path, run, output, "local:2"), []
    while child.poll() is None:
        if not killed and done(output):
            killed = workers_below(child.pid)[:1]
            os.kill(killed[0], signal.SIGKILL)
        time.sleep(0.002)
    assert child.returncode == 0
    assert killed
    assert_same(output, in_blocks)


@pytest.mark.slow
def test_a_scheduler_that_is_killed_ends_the_command_which_then_goes_on(run, in_blocks, tmp_path):
    output, file = tmp_path / "out" / "a.zarr", tmp_path / "scheduler.json"
    output.parent.mkdir()
    paths = os.pathsep.join(map(str, (Path(__file__).parents[2], Path(__file__).parents[1], Path(__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": paths}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0", f"--scheduler-file={file}",
            "--dashboard-address=:0"]
    scheduler = subprocess.Popen(dask, env=environment, stderr=subprocess.DEVNULL)
    while not file.exists():
        time.sleep(0.05)
    worker = subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", f"--scheduler-file={file}", "--nthreads=1",
                               "--death-timeout=5"], env=environment, stderr=subprocess.DEVNULL)
    try:
        child = start(tmp_path, run, output, str(file), stderr=subprocess.PIPE)
        while child.poll() is None and len(done(output)) < 2:
            time.sleep(0.002)
        scheduler.kill()
        said = child.communicate(timeout=120)[1].decode()
        assert child.returncode == 1
        assert "the scheduler is gone; give the same command again" in said.splitlines()[-1]
        assert 2 <= len(done(output)) < COUNT
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
    assert start(tmp_path, run, output).wait() == 0
    assert_same(output, in_blocks)


def test_parts_leave_no_output_until_the_command_without_them(run, in_blocks, tmp_path):
    output = tmp_path / "a.zarr"
    for number in (2, 0):
        segment(run, output, part=f"{number}/3")
    assert len(done(output)) == COUNT * 2 / 3
    assert [path.name for path in tmp_path.iterdir()] == [".a.zarr.blocks"]
    before = done(output)
    segment(run, output, part="2/3")
    assert done(output) == before
    segment(run, output)
    assert_same(output, in_blocks)


def test_blocks_of_another_segmentation_are_not_mixed_in(run, tmp_path):
    output = tmp_path / "a.zarr"
    segment(run, output, part="0/2")
    for changed, said in (({"threshold": 0.3}, "threshold 0.5, now 0.3"), ({"region": ":,:,5:"}, "region"),
                          ({"batch_statistics": "training"}, "network"), ({"what": "classes"}, "outputs")):
        with pytest.raises(yseg.InputError, match=rf"^--output=.*{re.escape('(')}.*{said}.*give --overwrite to delete them"):
            segment(run, output, **changed)
    assert len(done(output)) == COUNT / 2
    segment(run, output, threshold=0.3, overwrite=True)
    np.testing.assert_array_equal(voxels(output)[0], voxels(output)[1] >= 0.3)


def test_blocks_without_tissue_are_not_computed(run, tmp_path, monkeypatch):
    mask, values = str(tmp_path / "mask.zarr"), np.zeros((7, 70, 100), np.uint8)
    values[0, 0, 0] = values[6, 69, 99] = 1  # the box around tissue is the whole
    with create_array(mask, values.shape, np.uint8, SIZE_NM) as store:
        store.write(values).result()
    predicted = []
    usual = applied.in_files
    monkeypatch.setattr(applied, "in_files", lambda blocks, place, box, classes: predicted.append(box)
                        or usual(blocks, place, box, classes))
    segment(run, tmp_path / "a.zarr", mask=mask)
    assert [(box.start, box.stop) for box in predicted] == [((0, 0, 0), (4, 32, 64)), ((4, 64, 64), (7, 70, 100))]
    classes, probabilities = voxels(tmp_path / "a.zarr")
    assert not classes[values == 0].any()
    assert not probabilities[values == 0].any()


def test_what_the_user_has_to_change_leaves_nothing(run, tmp_path):
    path, values = str(tmp_path / "nan.zarr"), open_volume(IMAGE).read().result().astype(np.float32)
    values[5, 40, 40] = np.nan
    with create_array(path, values.shape, np.float32, SIZE_NM) as store:
        store.write(values).result()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(yseg.InputError, match="not finite"):
        yseg.segment(run, path, tmp_path / "a.zarr", pixel_size_nm=SIZE_NM, block=BLOCK, quiet=True)
    assert sorted(tmp_path.iterdir()) == before


def test_blocks_that_cut_sections_are_refused_where_components_are_judged_whole(run, tmp_path):
    with pytest.raises(yseg.InputError, match=r"^--block=4,32,64: must have all 70 rows and 100 columns"):
        segment(run, tmp_path / "a.zarr", plausible_objects=True)
    assert not list(tmp_path.iterdir())
    for name, block in (("a.zarr", "4,70,100"), ("b.zarr", "")):
        segment(run, tmp_path / name, plausible_objects=True, block=block)
    np.testing.assert_allclose(voxels(tmp_path / "a.zarr")[1], voxels(tmp_path / "b.zarr")[1], atol=1e-6)


def test_what_is_to_be_done_and_the_memory_are_said_before(run, tmp_path, capsys):
    segment(run, tmp_path / "a.zarr", part="0/4")
    segment(run, tmp_path / "a.zarr", quiet=False)
    line = capsys.readouterr().err.splitlines()[0]
    found = re.fullmatch(r"9 of 12 blocks to do, of 4 x 32 x 64 voxels; each process that computes takes about ([\d.]+) GiB of"
                         " memory", line)
    assert found
    assert 0.6 < float(found[1]) < 1


# --- In a bucket ---


def bucket_keys(client):
    return [found["Key"] for found in client.list_objects_v2(Bucket="em-data").get("Contents", ())]


def downloaded(client, folder):
    """Classes and probabilities, whose objects are copied into a folder by Amazon's own client."""
    for key in bucket_keys(client):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        client.download_file("em-data", key, str(folder / key))
    return voxels(folder / "a.zarr")


def test_in_a_bucket_an_outage_is_waited_for(run, in_blocks, s3, s3_server, tmp_path, monkeypatch):
    outages, mark = [], segmentation.Staged.mark

    def mark_and_fail(self, number):
        mark(self, number)
        if number == 3 and not outages:
            s3_server.stop()
            outages.append(threading.Timer(1.0, s3_server.start))
            outages[0].start()

    monkeypatch.setattr(segmentation.Staged, "mark", mark_and_fail)
    segment(run, "s3://em-data/a.zarr")
    assert outages
    for found, other in zip(downloaded(s3, tmp_path), in_blocks, strict=True):
        np.testing.assert_array_equal(found, other)
    assert not [key for key in bucket_keys(s3) if key.startswith(".")]


def test_in_a_bucket_what_is_missing_is_done_by_the_next(run, in_blocks, s3, tmp_path):
    for number in (1, 0):
        segment(run, "s3://em-data/a.zarr", part=f"{number}/3")
    keys = bucket_keys(s3)
    assert {key.split("/")[0] for key in keys} == {".a.zarr.blocks"}
    assert len([key for key in keys if key.startswith(".a.zarr.blocks/done/")]) == COUNT * 2 / 3
    segment(run, "s3://em-data/a.zarr")
    for found, other in zip(downloaded(s3, tmp_path), in_blocks, strict=True):
        np.testing.assert_array_equal(found, other)


def test_a_bucket_without_permission_is_one_line(run, in_blocks, s3, s3_server, monkeypatch, tmp_path):
    """Lost on the way, missing from the beginning, and given again."""
    with monkeypatch.context() as changed:
        mark = segmentation.Staged.mark
        changed.setattr(segmentation.Staged, "mark", lambda self, number: (mark(self, number), s3_server.permit(number != 3)))
        said = r"^8 of the blocks failed, such as block 4 at 0:4,64:70,0:64: PERMISSION_DENIED: .*; the same command [^\n]*$"
        try:
            with pytest.raises(BlocksFailedError, match=said):
                segment(run, "s3://em-data/a.zarr")
            with pytest.raises(yseg.InputError, match=r"^--output=s3://em-data/a.zarr: cannot be reached [^\n]*$"):
                segment(run, "s3://em-data/a.zarr")
        finally:
            s3_server.permit(True)
    segment(run, "s3://em-data/a.zarr")
    for found, other in zip(downloaded(s3, tmp_path), in_blocks, strict=True):
        np.testing.assert_array_equal(found, other)
