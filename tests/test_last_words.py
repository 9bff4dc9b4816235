"""What a program says and leaves when something is in its way at last: signals, disks, other processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile
from tiny import experiment

import yseg
from launch.complaints import BAD_INPUT, DONE, TERMINATED
from yseg.config import Optimizer, Record
from yseg.runs.folder import CHECKPOINTS
from yseg.training.recorder import read_metrics

ROOT = Path(__file__).parents[1]
CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from tiny import experiment
from yseg.config import Optimizer, Record

def get_config(method="ft"):
    return experiment(method=method, optimizer=Optimizer(steps=100_000, warmup_steps=1),
                      record=Record(log_every=1, validate_every=0, checkpoint_every=100_000, images=0))
"""


def start(*arguments, **options):
    """A program in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)


def ended(process, seconds=120):
    """(exit code, standard output, standard error)."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on TIFF volumes, in a folder beside them."""
    folder = tmp_path_factory.mktemp("runs")
    config = experiment(optimizer=Optimizer(steps=2), record=Record(checkpoint_every=1, images=0))
    for name, domain in (("source", config.source), ("target", config.target)):
        for what in ("image", "labels"):
            path = folder / "data" / name / f"{what}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, yseg.open_volume(getattr(domain, what)).read().result(), photometric="minisblack")
            setattr(domain, what, str(path))
    yseg.train(config, folder / "run", quiet=True)
    return folder / "run"


@pytest.mark.slow
def test_sigterm_saves_what_was_learnt_and_a_second_training_in_the_folder_is_refused(tmp_path):
    (tmp_path / "config.py").write_text(CONFIG.format(tests=str(ROOT / "tests")))
    command = ["launch.train", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    first = start(*command)
    began = time.monotonic()
    while len(read_metrics(tmp_path / "run")) < 3 and first.poll() is None and time.monotonic() < began + 120:
        time.sleep(0.05)
    code, out, err = ended(start(*command))
    assert (code, out) == (BAD_INPUT, "")
    assert re.fullmatch(rf"--workdir={tmp_path / 'run'}: process {first.pid} on \S+ is training in it; must be another folder,"
                        r" or wait until that has ended\n", err)
    began = time.monotonic()
    first.send_signal(signal.SIGTERM)
    code, out, err = ended(first)
    assert time.monotonic() - began < 60  # seconds, but on a machine that is busy
    assert (code, out) == (TERMINATED, "")
    assert err.endswith("terminated; the same command continues\n")
    last = read_metrics(tmp_path / "run")[-1]["step"]
    assert os.listdir(tmp_path / "run" / CHECKPOINTS) == [str(last)]
    assert last >= 3
    again = start(*command)
    while read_metrics(tmp_path / "run")[-1]["step"] <= last and again.poll() is None and time.monotonic() < began + 200:
        time.sleep(0.05)
    again.kill()
    again.communicate()
    assert [row["step"] for row in read_metrics(tmp_path / "run")][:last + 1] == list(range(1, last + 2))


@pytest.mark.slow
def test_a_run_on_a_read_only_disk_is_scored_and_applied_also_without_a_home(run, tmp_path):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    disk, output = tmp_path / "disk", tmp_path / "out.zarr"
    disk.mkdir()
    image = run.parent / "data" / "target" / "image.tif"
    programs = [f"{sys.executable} -m launch.evaluate --workdir={disk}",
                f"{sys.executable} -m launch.segment --workdir={disk} --image={image} --output={output}"]
    before, homeless = sorted(run.rglob("*")), {name: value for name, value in os.environ.items() if name != "HOME"}
    found = []
    for program in programs:
        done = subprocess.run(["unshare", "-m", "sh", "-c", f"mount -o bind,ro {run} {disk} && exec {program}"], cwd=ROOT,
                              text=True, capture_output=True, env=homeless)
        assert done.returncode == DONE, done.stderr
        found.append((done.stdout.splitlines()[-1], [line for line in done.stderr.splitlines() if str(disk) in line]))
    assert re.fullmatch(r"IoU (0\.\d{4}|undefined)", found[0][0])
    assert found[0][1] == [f"{disk}: cannot be written to (Read-only file system), so results.json and pictures are left out"]
    assert found[1] == (str(output), [f"{disk}: cannot be written to (Read-only file system), so pictures are left out"])
    assert sorted(run.rglob("*")) == before


def test_a_run_whose_data_have_moved_is_scored_where_they_are_now(run, tmp_path):
    shutil.copytree(run.parent / "data", tmp_path / "data")
    workdir = shutil.copytree(run, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    text = json.dumps(config).replace(str(run.parent / "data"), "/gone/em")
    (workdir / "config.json").write_text(text)
    with pytest.raises(yseg.InputError, match=r"^/gone/em/target/image.tif: no such file .* give --data_dir or --target_image"):
        yseg.evaluate(workdir, quiet=True)
    expected = yseg.evaluate(run, quiet=True)
    target = {f"target.{what}": str(tmp_path / "data" / "target" / f"{what}.tif") for what in ("image", "labels")}
    for moved in ({"data_dir": str(tmp_path / "data")}, target):
        found = yseg.evaluate(workdir, moved=moved, quiet=True)
        assert found["image"] == target["target.image"]
        assert (found["iou"], found["per_section_counts"]) == (expected["iou"], expected["per_section_counts"])
    assert (workdir / "results.json").exists()  # the run's own test, as before


def test_evaluate_takes_labels_that_mean_not_labelled(run):
    data = run.parent / "data" / "target"
    given = {"image": str(data / "image.tif"), "labels": str(data / "labels.tif"), "pixel_size_nm": 10.0, "quiet": True}
    with pytest.raises(yseg.InputError, match="--unlabelled='many'"):
        yseg.evaluate(run, unlabelled="many", **given)
    with pytest.raises(yseg.InputError, match="--unlabelled===1: must come with --image"):
        yseg.evaluate(run, unlabelled="==1", quiet=True)
    truth = tifffile.imread(data / "labels.tif")
    truth[:, :, 48:] = 7
    tifffile.imwrite(data / "some.tif", truth, photometric="minisblack")
    known = yseg.evaluate(run, unlabelled="==7", **given | {"labels": str(data / "some.tif")})
    counts = [sum(column) for column in zip(*known["per_section_counts"], strict=True)]
    assert counts[0] + counts[2] == (truth == 1).sum() > 0
    assert sum(counts) <= (truth != 7).sum()
