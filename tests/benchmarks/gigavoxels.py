"""Two gigavoxels, segmented block by block: how fast, in how much memory, and killed on the way.

    python -m tests.benchmarks.gigavoxels --workdir=runs/demo/adapted --folder=/tmp/gigavoxels

A volume of 512 x 2048 x 2048 voxels of 5 nm is drawn into an OME-Zarr (a phantom of 64 sections, mirrored again and again), and
segmented by the network of a run into another: by one worker of one thread, by two, and by two with three kills: of the client,
of a worker, of all. The voxels are compared. Nothing else may run on the machine.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests.killing import workers_below

SHAPE, TILE = (512, 2048, 2048), (64, 1024, 1024)
SIZE_NM = 5.0
BLOCKS = 16


def draw(path: Path) -> None:
    """Draw the volume, block by block."""
    from yseg.data.box import Box
    from yseg.inference.cut import cut
    from yseg.volumes.create import create_volume
    from yseg.volumes.phantom import phantom

    image, _ = phantom("target", TILE, seed=0)
    with create_volume(str(path), SHAPE, np.uint8, SIZE_NM, section_nm=SIZE_NM, kind="image") as store:
        for box in cut(Box.whole(SHAPE), TILE):
            odd = [start // size % 2 for start, size in zip(box.start, TILE, strict=True)]
            store[box.slices].write(image[tuple(slice(None, None, -1 if each else 1) for each in odd)]).result()


class Processes:
    """A segmentation, and what it has started."""

    def __init__(self, given: argparse.Namespace, output: Path, scheduler: str) -> None:
        command = [sys.executable, "-m", "launch.segment", f"--workdir={given.workdir}", f"--image={given.folder}/image.zarr",
                   f"--pixel_size_nm={SIZE_NM}", f"--output={output}", f"--scheduler={scheduler}"]
        self._log = open(given.folder / "log.txt", "a+")  # noqa: SIM115 - as long as the process
        self._from = self._log.tell()
        self.client = subprocess.Popen(command, stderr=self._log, stdout=self._log)
        self.output, self.largest, self.computed = output, {"client": 0, "worker": 0}, 0.0

    def watch(self, until) -> None:
        """Note the largest memory until something holds, or the end."""
        while self.client.poll() is None and not until():
            if not self.computed and self.done() == BLOCKS:
                self.computed = time.perf_counter()
            for name, numbers in (("client", [self.client.pid]), ("worker", workers_below(self.client.pid))):
                self.largest[name] = max([self.largest[name], *map(_peak_bytes, numbers)])
            time.sleep(0.2)

    def done(self) -> int:
        """How many blocks are done."""
        return len(list((self.output.parent / f".{self.output.name}.blocks" / "done").glob("*")))

    def said(self) -> str:
        """What it has said so far."""
        self._log.seek(self._from)
        return self._log.read()


def _peak_bytes(number: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{number}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def whole(given: argparse.Namespace, output: Path, scheduler: str) -> str:
    """Segment without a kill; returns a line with figures."""
    began = time.perf_counter()
    running = Processes(given, output, scheduler)
    running.watch(lambda: False)
    seconds, stated = time.perf_counter() - began, re.search(r"about ([\d.]+) GiB", running.said())
    if running.client.returncode or stated is None:
        raise RuntimeError(running.said()[-2000:])
    largest = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in running.largest.items() if size)
    return (f"{scheduler}: {np.prod(SHAPE) / seconds / 1e6:.2f} Mvoxel/s ({seconds:.0f} s); GiB at most: {largest}; stated"
            f" {stated[1]}; {seconds - (running.computed - began):.0f} s of it to write the output")


def killed(given: argparse.Namespace, output: Path, expected: Path) -> str:
    """Segment with three kills; returns a line with what differs."""
    said = []
    for what in ("client", "worker", "all", ""):
        running = Processes(given, output, "local:2")
        before = running.done()
        running.watch(lambda running=running, before=before: running.done() >= before + 3)
        workers = workers_below(running.client.pid)
        if what:
            said.append(f"{what} after {running.done()} blocks")
        hit = {"client": [running.client.pid], "worker": workers[:1], "all": [running.client.pid, *workers], "": []}[what]
        for number in hit:
            with contextlib.suppress(ProcessLookupError):  # a worker may have ended with its client
                os.kill(number, signal.SIGKILL)
        if what == "worker":  # it is replaced, and this goes on until the next kill
            running.watch(lambda running=running, before=before: running.done() >= before + 6)
            running.client.send_signal(signal.SIGTERM)
        running.client.wait() if what else running.watch(lambda: False)
    differ = _differing(output, expected)
    return f"killed: {', '.join(said)}; {differ} voxels differ"


def _differing(output: Path, expected: Path) -> int:
    from yseg.volumes.volume import open_volume

    one, other = (open_volume(f"{path}/0") for path in (output, expected))
    return sum(int((one[first:first + 64].read().result() != other[first:first + 64].read().result()).sum())
               for first in range(0, SHAPE[0], 64))


def share_in_network(given: argparse.Namespace) -> str:
    """The share of a block's time that the network takes, in this process."""
    import yseg
    from yseg.trained import segmentation

    spent = [0.0, 0.0]
    usual, predictor = segmentation.compute_block, segmentation.TrainedNetwork.predictor

    def timed(self):
        predict = predictor(self)

        def of_tiles(*tiles):
            began = time.perf_counter()
            result = predict(*tiles)
            spent[0] += time.perf_counter() - began
            return result

        return of_tiles

    def block(job, number, tell):
        _ = job.applied.opened
        began = time.perf_counter()
        result = usual(job, number, tell)
        spent[1] += time.perf_counter() - began
        return result

    segmentation.TrainedNetwork.predictor, segmentation.compute_block = timed, block
    yseg.segment(given.workdir, f"{given.folder}/image.zarr", given.folder / "share.zarr", pixel_size_nm=SIZE_NM, quiet=True,
                 part=f"0/{BLOCKS}")
    return f"share of the time in the network, this process: {spent[0] / spent[1]:.2f}"


def main() -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gigavoxels", description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True, help="of a trained run")
    parser.add_argument("--folder", type=Path, required=True, help="for the volumes")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if not (given.folder / "image.zarr").exists():
        draw(given.folder / "image.zarr")
    print(share_in_network(given), flush=True)
    for workers in (1, 2):
        print(whole(given, given.folder / f"workers_{workers}.zarr", f"local:{workers}"), flush=True)
    print(killed(given, given.folder / "killed.zarr", given.folder / "workers_1.zarr"), flush=True)


if __name__ == "__main__":
    main()
