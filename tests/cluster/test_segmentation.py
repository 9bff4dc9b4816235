"""Segmentations under a real SLURM, by the scripts of launch/slurm/, of which processes are killed."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import experiment

import yseg
from yseg.config import Inference
from yseg.volumes.staged import place_of
from yseg.volumes.volume import open_volume

ROOT = Path(yseg.__path__[0]).parent
SCRIPTS = ROOT / "launch" / "slurm"
IMAGE = "phantom://target/image?shape=16,96,128&seed=3"
COUNT = 4 * 3 * 4  # of its blocks
GIVEN = (f"--image={IMAGE}", "--pixel_size_nm=10", "--block=4,32,32")
SLOTS = ("--cpus-per-task=1", "--mem-per-cpu=0", "--time=10")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    yseg.train(experiment(inference=Inference(tile_size=32, overlap=4)), workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    """The classes, by one process."""
    output = tmp_path_factory.mktemp("whole") / "a.zarr"
    yseg.segment(run, IMAGE, output, pixel_size_nm=10.0, block="4,32,32", quiet=True)
    return voxels(output)


def voxels(output):
    return open_volume(f"{output}/0").read().result()


def done(output):
    return list(Path(place_of(str(output)), "done").glob("*"))


def processes_of(job, **variables):
    """The processes of launch.segment of a job in whose environment are such variables of SLURM."""
    wanted = [f"SLURM_{name}={value}".encode() for name, value in {"JOB_ID": job, **variables}.items()]
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes().split(b"\0")
            is_ours = b"launch.segment" in (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if is_ours and all(each in environment for each in wanted):
            found.append(int(path.parent.name))
    return found


def kill_when_some_are_done(output, least, find):
    until = time.monotonic() + 120
    while len(done(output)) < least and time.monotonic() < until:
        time.sleep(0.005)
    killed = find()
    for process in killed:
        os.kill(process, signal.SIGKILL)
    assert len(done(output)) < COUNT, "it ended before something could be killed"
    return killed


def logs(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))


def test_under_dask_one_of_the_workers_is_killed_and_the_output_is_the_same(slurm, run, expected, tmp_path):
    output = tmp_path / "a.zarr"
    job = slurm.sbatch("--nodes=2", "--ntasks=3", *SLOTS, f"--output={tmp_path}/%j.log", SCRIPTS / "segment.sbatch",
                       f"--workdir={run}", f"--output={output}", *GIVEN, cwd=ROOT, YSEG_PYTHON=sys.executable)
    killed = kill_when_some_are_done(output, 2, lambda: processes_of(job, PROCID=2)[:1])
    assert killed
    assert output.exists() or slurm.wait(job), logs(tmp_path)
    assert str(output) in logs(tmp_path).splitlines(), logs(tmp_path)
    np.testing.assert_array_equal(voxels(output), expected)
    assert not list(tmp_path.glob(".*"))
    assert not list(ROOT.glob(".yseg-*.json"))


def test_as_an_array_one_of_the_tasks_is_killed_and_rerun_and_the_output_is_the_same(slurm, run, expected, tmp_path):
    output = tmp_path / "a.zarr"
    given = (SCRIPTS / "segment_array.sbatch", f"--workdir={run}", f"--output={output}", *GIVEN)
    job = slurm.sbatch("--array=0-3", *SLOTS, f"--output={tmp_path}/%A_%a.log", *given, cwd=ROOT, YSEG_PYTHON=sys.executable,
                       YSEG_PARTS="4")
    killed = kill_when_some_are_done(output, 2, lambda: [process for number in range(4) for process in
                                                         processes_of(numbers(slurm, job)[number], ARRAY_TASK_ID=number)][:1])
    assert killed
    states = slurm.wait(job)
    assert sorted(states) == ["COMPLETED"] * 3 + ["FAILED"], logs(tmp_path)
    assert not output.exists()
    assert 0 < len(done(output)) < COUNT
    failed = states.index("FAILED")
    again = slurm.sbatch(f"--array={failed}-{failed}", *SLOTS, f"--output={tmp_path}/%A_%a.log", *given, cwd=ROOT,
                         YSEG_PYTHON=sys.executable)  # an array of one: what is missing, and the output
    assert slurm.wait(again) == ["COMPLETED"], logs(tmp_path)
    np.testing.assert_array_equal(voxels(output), expected)
    assert not list(tmp_path.glob(".*"))


def numbers(slurm, job):
    """The job numbers of the tasks of an array, by their places in it."""
    found = {}
    for line in slurm.run("scontrol", "--oneliner", "show", "job", job).splitlines():
        fields = dict(field.split("=", 1) for field in line.split() if "=" in field)
        if fields.get("ArrayTaskId", "").isdigit():
            found[int(fields["ArrayTaskId"])] = fields["JobId"]
    return [found.get(number, "") for number in range(4)]
