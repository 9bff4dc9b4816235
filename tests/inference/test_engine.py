"""Who computes blocks: what fails is tried again, and does not keep the others from being done."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorstore as ts

from yseg.config import InputError
from yseg.inference.engine import BlocksFailedError, check_scheduler, engine, part_of


def refuse(domain, array, parameters):
    raise InputError("section 9: has values that are not finite")


def compute(folder, numbers, scheduler="", told=lambda voxels: None, **more):
    """Have blocks of ten voxels computed; returns their results."""
    results = {}
    with engine(scheduler) as workers:
        workers.compute(work, str(folder), numbers, size=lambda number: 10, tell=told, take=results.__setitem__, **more)
    return results


def work(folder, number, tell):
    """Leave a file; blocks 2 fail on the first try, 3 on every, and 5 ends the process of its worker once."""
    with open(f"{folder}/tries_{number}", "a") as file:
        file.write("x")
    tries = len(Path(f"{folder}/tries_{number}").read_text())
    if number == 3 or (number == 2 and tries == 1):
        raise OSError(f"no answer for block {number}\nmore")
    if number == 5 and tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        ts.virtual_chunked(refuse, dtype=ts.uint8, shape=[9]).read().result()
    Path(f"{folder}/{number}").write_text(str(os.getpid()))
    tell(10)
    return number**2


def done(folder):
    return {int(path.name) for path in folder.iterdir() if path.name.isdigit()}


@pytest.mark.parametrize("scheduler", ["", pytest.param("local:2", marks=pytest.mark.slow)])
def test_a_block_that_fails_is_tried_again_and_the_others_are_done(tmp_path, scheduler):
    told = []
    with pytest.raises(BlocksFailedError, match=r"^1 of the blocks failed, such as the 3rd: no answer for block 3; the same co"):
        compute(tmp_path, [0, 1, 2, 3, 4, 6], scheduler, told.append, name="the {}rd".format)
    assert done(tmp_path) == {0, 1, 2, 4, 6}
    assert [len((tmp_path / f"tries_{number}").read_text()) for number in (0, 2, 3)] == [1, 2, 3]
    assert sum(told) == 50


@pytest.mark.parametrize("scheduler", ["", pytest.param("local:1", marks=pytest.mark.slow)])
def test_what_the_user_has_to_change_is_raised_at_once(tmp_path, scheduler):
    with pytest.raises(InputError, match=r"^section 9: has values"):
        compute(tmp_path, [7, *range(100, 200)], scheduler)
    assert len((tmp_path / "tries_7").read_text()) == 1
    assert len(done(tmp_path)) < 100


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_block_done_by_another(tmp_path):
    assert compute(tmp_path, [0, 5, 6], "local:2") == {0: 0, 5: 25, 6: 36}
    assert done(tmp_path) == {0, 5, 6}
    assert (tmp_path / "5").read_text() not in ("", str(os.getpid()))


@pytest.mark.slow
def test_a_scheduler_that_others_started_is_used_by_its_address_and_by_its_file(tmp_path):
    """As an operator starts it: a scheduler, and workers that come later."""
    file = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host=127.0.0.1", "--port=0", f"--scheduler-file={file}",
            "--dashboard-address=:0"]
    started = [subprocess.Popen(dask, env=environment, stderr=subprocess.DEVNULL)]
    try:
        while not file.exists():
            time.sleep(0.05)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", f"--scheduler-file={file}", "--nthreads=1"]
        started.append(subprocess.Popen(worker, env=environment, stderr=subprocess.DEVNULL))
        compute(tmp_path, [0, 1, 2], str(file))
        address = json.loads(file.read_text())["address"]
        compute(tmp_path, [4, 6], address)
    finally:
        for process in started[::-1]:
            process.terminate()
            process.wait()
    assert done(tmp_path) == {0, 1, 2, 4, 6}
    assert os.getpid() not in {int((tmp_path / str(number)).read_text()) for number in (0, 4)}


def test_shares_of_the_blocks_are_all_of_them_and_do_not_overlap():
    assert part_of(range(7), "") == list(range(7))
    shares = [part_of(range(7), f"{number}/3") for number in range(3)]
    assert sorted(itertools.chain(*shares)) == list(range(7))
    assert {len(share) for share in shares} == {2, 3}


@pytest.mark.parametrize("part", ["3/3", "1", "-1/3", "a/b", "1/0", "1/3/4", "1.0/3", "¹/3"])
def test_a_share_that_there_is_not_is_one_line(part):
    with pytest.raises(InputError, match=r"^--part=.*: must be i/n with i from 0 to n - 1"):
        part_of(range(7), part)


@pytest.mark.parametrize("scheduler", ["local:0", "local:", "local:x", "localhost", "there.json", "slurm", "dask"])
def test_a_scheduler_that_there_is_not_is_one_line(scheduler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(InputError, match=r"^--scheduler=.*: (must be|no such file)"):
        check_scheduler(scheduler)


def test_without_dask_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r'^--scheduler: needs Dask: pip install "\.\[cluster\]" in the folder of yseg$'):
        check_scheduler("local:2")
    check_scheduler("")
