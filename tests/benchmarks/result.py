"""From the command to a result: when a training has a validation IoU of 95 % of its last one, here and with PyTorch.

Both train the same network on the same drawn volume, with the same batches, augmentation, loss, optimiser and validations, from
their own first weights; the time that Python, imports and compilers take counts.
"""

import functools
import subprocess
import sys
import tempfile
import time

import numpy as np
import zarr

from tests.benchmarks.setting import SMALL
from tests.benchmarks.startup import ROOT
from tests.benchmarks.timing import row
from yseg.training.recorder import read_metrics
from yseg.volumes.phantom import phantom

SHAPE = (20, 1024, 1024)  # of the phantom, 5 nm; the volume has half as many rows and columns
STEPS, EVERY = 400, 20  # of a training, and between validations
SHARE = 0.95
SEEDS = (0, 1, 2)
VALIDATION = 0.2  # of the columns, the last


def write_volume(folder):
    """A drawn volume at 10 nm, as image.zarr and labels.zarr."""
    image, labels = phantom("source", SHAPE)
    halves = (SHAPE[0], SHAPE[1] // 2, 2, SHAPE[2] // 2, 2)
    small = {"image": np.rint(image.reshape(halves).mean((2, 4))), "labels": labels.reshape(halves).mean((2, 4)) >= 0.5}
    for name, values in small.items():
        zarr.create_array(f"{folder}/{name}.zarr", data=values.astype(np.uint8), chunks=(1, 256, 256))


def ours(folder, workdir, seed):
    """The command of our training."""
    image = f"{folder}/image.zarr"
    given = {
        "source.image": image, "source.labels": f"{folder}/labels.zarr", "source.pixel_size_nm": 10,
        "source.foreground": ">0", "source.validation_fraction": VALIDATION,
        "target.image": image, "target.pixel_size_nm": 10, "target.test_fraction": 0,
        "sampling.working_pixel_size_nm": 10, "sampling.patch_size": SMALL.patch, "sampling.batch_size": 2 * SMALL.batch,
        "model.levels": SMALL.levels, "model.features": SMALL.features, "loss.name": "soft_jaccard",
        "optimizer.steps": STEPS, "optimizer.schedule": "constant", "optimizer.warmup_steps": 0,
        "record.validate_every": EVERY, "record.log_every": EVERY, "record.checkpoint_every": STEPS, "record.images": 0}
    return [sys.executable, "-m", "launch.train", "--config=configs/custom.py:ft", f"--workdir={workdir}",
            f"--config.seed={seed}", f"--compilation_cache={folder}/cache",
            *(f"--config.{name}={value}" for name, value in given.items())]


def theirs(compiled, folder, workdir, seed):
    """The command of PyTorch's."""
    return [sys.executable, "-m", "tests.benchmarks.reference_result", folder, workdir, f"{seed}", f"{compiled:d}"]


def seconds_to_result(command, workdir):
    """(seconds from the command to the first validation of SHARE of the last one's IoU, the last IoU)."""
    def lines():
        return [row["validation_iou"] for row in read_metrics(workdir) if row.get("validation_iou") is not None]

    began, seen = time.perf_counter(), []
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said) as process:
        while process.poll() is None:
            time.sleep(0.05)
            seen += [(time.perf_counter() - began, iou) for iou in lines()[len(seen):]]
        seen += [(time.perf_counter() - began, iou) for iou in lines()[len(seen):]]
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {said.read()[-2000:]}")
    return next(seconds for seconds, iou in seen if iou >= SHARE * seen[-1][1]), seen[-1][1]


def suite(with_pytorch):
    """The rows: PyTorch as it is and compiled. Ours with what an earlier training has left in the cache."""
    sides = {"ours": ours}
    if with_pytorch:
        sides |= {"PyTorch, eager": functools.partial(theirs, False), "PyTorch, torch.compile": functools.partial(theirs, True)}
    found = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        write_volume(folder)
        subprocess.run([*ours(folder, f"{folder}/first", 9), "--config.optimizer.steps=20"], cwd=ROOT, check=True,
                       capture_output=True)
        for seed in SEEDS:
            for number, (name, command) in enumerate(sides.items()):
                workdir = f"{folder}/{number}_{seed}"
                found[name].append(seconds_to_result(command(folder, workdir, seed), workdir))
    rows = []
    for name in list(sides)[1:] or ["ours"]:
        mine, other = ([seconds for seconds, _ in found[each]] for each in ("ours", name))
        last = {each: ", ".join(f"{100 * iou:.1f}" for _, iou in found[each]) for each in ("ours", name)}
        rows.append(row("result", f"command to {SHARE:.0%} of the last validation IoU: {SMALL}", mine, other, 1.0, name,
                        f"last IoU {last['ours']} against {last[name]} of seeds {', '.join(map(str, SEEDS))}"))
    return rows
