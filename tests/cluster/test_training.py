"""Trainings of two processes under a real SLURM, by launch/slurm/train.sbatch, that are killed, preempted and requeued."""

import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import yseg
from yseg.runs.folder import load_state, read_config
from yseg.training.recorder import read_metrics

ROOT = Path(yseg.__path__[0]).parent
SCRIPT = ROOT / "launch" / "slurm" / "train.sbatch"
SLOTS = ("--nodes=2", "--ntasks=2", "--cpus-per-task=1", "--mem=0", "--time=10")
STEPS = 60

pytestmark = pytest.mark.slow

# SGD, as Adam hides a wrong factor.
CONFIG = f"""
import sys
sys.path.append({str(ROOT / "tests")!r})
from tiny import experiment
from yseg.config import Adaptation, Optimizer, Record

def get_config(method):
    return experiment(method="coral", adaptation=Adaptation(weight=1.0, pixels=8),
                      optimizer=Optimizer(name="sgd", steps={STEPS}, warmup_steps=1, learning_rate=0.02),
                      record=Record(log_every=1, validate_every=0, checkpoint_every=20, images=0))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny_sgd.py"
    path.write_text(CONFIG)
    return f"--config={path}:coral"


@pytest.fixture(scope="module")
def submit(slurm, config):
    """Submit a training; (workdir, folder of its log) -> its number."""
    def submit(workdir, *more):
        return slurm.sbatch(*SLOTS, f"--output={workdir.parent}/%j.log", *more, SCRIPT, config, f"--workdir={workdir}",
                            "--heartbeat_timeout=10", cwd=ROOT, YSEG_PYTHON=sys.executable)

    return submit


@pytest.fixture(scope="module")
def whole(slurm, submit, tmp_path_factory):
    """The workdir of two processes that nothing has happened to."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert slurm.wait(submit(workdir)) == ["COMPLETED"], logs(workdir)
    return workdir


def logs(workdir):
    return "\n".join(path.read_text()[-5000:] for path in sorted(workdir.parent.glob("*.log")))


def leaves(workdir):
    return jax.tree.leaves(load_state(workdir, read_config(workdir)))


def assert_same(workdir, other):
    for found, expected in zip(leaves(workdir), leaves(other), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [row["step"] for row in read_metrics(workdir)] == list(range(1, STEPS + 1))


def wait_for_step(workdir, step):
    until = time.monotonic() + 120
    while max((row["step"] for row in read_metrics(workdir)), default=0) < step:
        assert time.monotonic() < until, logs(workdir)
        time.sleep(0.005)


def processes_of(job):
    """The processes of launch.train of a job, by their places in it."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = dict(each.split(b"=", 1) for each in path.read_bytes().split(b"\0") if b"=" in each)
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        is_ours = b"launch.train" in command and not any(other in command for other in (b"srun", b"bash", b"slurmstepd"))
        if is_ours and environment.get(b"SLURM_JOB_ID") == job.encode() and b"SLURM_PROCID" in environment:
            found[int(environment[b"SLURM_PROCID"])] = int(path.parent.name)
    return found


def test_two_processes_are_one_to_rounding(whole, config, tmp_path):
    from launch import program, train

    values = program.parse(train.PROGRAM, ["train", config, f"--workdir={tmp_path / 'run'}"])
    train.main(values)
    for found, expected in zip(leaves(tmp_path / "run"), leaves(whole), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5)


def test_a_job_that_is_told_to_end_saves_is_queued_again_and_ends_to_the_bit(slurm, submit, whole, tmp_path):
    workdir = tmp_path / "run"
    job = submit(workdir)
    wait_for_step(workdir, 25)
    slurm.run("scancel", "--signal=TERM", job)
    slurm.wait(job, ["COMPLETED"])
    assert "Restarts=1" in slurm.run("scontrol", "show", "job", job)
    assert "terminated; the same command continues" in logs(workdir)
    assert_same(workdir, whole)


def test_a_job_of_which_a_process_dies_ends_soon_and_goes_on_when_it_is_queued_again(slurm, submit, whole, tmp_path):
    workdir = tmp_path / "run"
    job = submit(workdir)
    wait_for_step(workdir, 25)
    os.kill(processes_of(job)[1], signal.SIGKILL)
    died = time.monotonic()
    assert slurm.wait(job) == ["FAILED"], logs(workdir)
    assert time.monotonic() - died < 60
    assert "process 1 of the job has ended, see what it said" in logs(workdir)
    slurm.run("scontrol", "requeue", job)
    slurm.wait(job, ["COMPLETED"])
    assert_same(workdir, whole)
