"""A campaign of faults: trainings, adaptations and segmentations are killed, started again, and end as if nothing had happened.

    python -m tests.faults --kills=100
    python -m tests.faults --kills=20 --seed=7 --parts=adaptation,segmentation

Each is killed by SIGKILL again and again, at moments that are even over all of its time, a third of them as soon as something
is half written, and then runs to its end. What it leaves is compared, bit by bit, with what one that was never killed has left;
nothing half written may lie about. The seed chooses the moments, in seconds: what the process does then, the machine decides.
Networks and volumes are tiny, but the processes, the files and the kills are real. Exit code 1 if a bit differs.
"""

import argparse
import dataclasses
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from yseg.config import Model

PARTS = ("training", "adaptation", "segmentation")
IMAGE = "phantom://target/image?shape=24,64,96&seed=3"  # that is segmented
POLL_SECONDS, LIMIT_SECONDS = 0.002, 120.0
IN_A_WRITE = 1 / 3  # of the kills
MOST_IN_ONE = 6  # kills of one run


@dataclasses.dataclass(frozen=True)
class Part:
    """What is killed. `work(folder)` does it in a process of its own, and continues it; folders hold one run each.

    begun: a pattern of what is there once the work has begun; half: patterns of what is there while something is half written;
    left: {name: array} of what it leaves; none of `half` may be there then.
    """

    work: Callable[[Path], None]
    begun: str
    half: tuple[str, ...]
    left: Callable[[Path], dict[str, np.ndarray]]


WITHOUT_STATISTICS = Model(levels=1, features=4, normalization="none")  # which take most of the time of so few steps

# --- What is done ---


def config(**fields):
    """A training with a checkpoint every few steps."""
    from tests.tiny import experiment
    from yseg.config import Optimizer, Record

    record = Record(log_every=1, validate_every=12, checkpoint_every=4, images=0)
    return experiment(**{"optimizer": Optimizer(steps=24, warmup_steps=2), "record": record} | fields)


def train(folder):
    """A training with batch statistics of the target."""
    import yseg

    yseg.train(config(), folder / "run", quiet=True)


def train_first(folder):
    """What adaptations and segmentations start from."""
    import yseg

    yseg.train(config(model=WITHOUT_STATISTICS), folder, quiet=True)


def adapt(folder):
    """A self-training, with pseudo-labels that are renewed and a choice at the end."""
    import yseg
    from yseg.config import SelfTraining
    from yseg.runs.stages import second_stage

    start = folder.parent / "first"
    knobs = SelfTraining(steps=24, renew_every=6)
    second = second_stage(config(method="self_training", self_training=knobs, model=WITHOUT_STATISTICS), start)
    yseg.train(second, folder / "run", quiet=True)


def segment(folder):
    """A segmentation, section by section."""
    import yseg

    if not (folder / "out.zarr").exists():  # killed after it was done
        yseg.segment(folder.parent / "first", IMAGE, folder / "out.zarr", quiet=True)


def state_of(folder):
    """All arrays that a run leaves: the last checkpoint, the metrics, the last pseudo-labels and the choice."""
    import jax

    from yseg.runs.folder import load_state, read_config
    from yseg.training.recorder import read_metrics
    from yseg.volumes.volume import open_volume

    run = folder / "run"
    state = load_state(run, read_config(run))
    found = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
    rows = [sorted((name, value) for name, value in row.items() if name != "images_per_second") for row in read_metrics(run)]
    found["metrics.jsonl"] = np.frombuffer(repr(rows).encode(), np.uint8)
    for step in sorted(run.glob("pseudo_labels/*"), key=lambda path: int(path.name)):
        for name in ("labels.zarr", "probabilities.zarr"):
            found[f"{step.name}/{name}"] = open_volume(str(step / name)).read().result()
    if (run / "choice.json").exists():
        found["choice.json"] = np.frombuffer((run / "choice.json").read_bytes(), np.uint8)
    return found


def volume_of(folder):
    """The voxels of a segmentation."""
    from yseg.volumes.volume import open_volume

    return {"out.zarr": open_volume(str(folder / "out.zarr")).read().result()}


_CHECKPOINT = "run/checkpoints/*.orbax-checkpoint-tmp"
WORK = {
    "training": Part(train, "run/metrics.jsonl", (_CHECKPOINT,), state_of),
    "adaptation": Part(adapt, "run/metrics.jsonl", (_CHECKPOINT, "run/pseudo_labels/.*.unfinished"), state_of),
    "segmentation": Part(segment, ".out.zarr.blocks/job.json", (".out.zarr.*.unfinished",), volume_of)}


# --- Kills ---


class Campaign:
    """Runs and kills of the parts, in a folder; `seed` chooses the moments."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._chance = folder, random.Random(seed)
        # Of what a killed process leaves to its parent, and of this module, which is both a program and imported.
        os.environ.setdefault("PYTHONWARNINGS", "ignore::RuntimeWarning,ignore::UserWarning")
        self._processes = multiprocessing.get_context("forkserver")  # forks of one that has imported what takes long
        self._processes.set_forkserver_preload(["yseg.experiment", "tests.faults"])
        self._run(train_first, folder / "first")

    def kill(self, name: str, kills: int, tell: Callable[[str], object] = print) -> tuple[int, int]:
        """Kill a part so often; returns (how often it was, how many bits are others than without kills)."""
        part = WORK[name]
        whole = self._folder / f"{name}_whole"
        seconds = self._whole(part, whole)
        expected, killed, different, number = part.left(whole), 0, 0, 0
        while killed < kills:
            folder = self._folder / f"{name}_{number}"
            folder.mkdir()
            wanted = min(self._chance.randint(1, MOST_IN_ONE), kills - killed)
            done = 0
            for _ in range(wanted):
                if not self._killed(part, folder, seconds):
                    break
                done += 1
            self._run(part.work, folder)
            bits = bits_that_differ(part.left(folder), expected)
            half = [path.name for pattern in part.half for path in folder.glob(pattern)]
            killed, different, number = killed + done, different + bits, number + 1
            tell(f"{name} {number}: {done} kills, {bits} different bits" + (f"; left: {', '.join(half)}" if half else ""))
            different += len(half)
            shutil.rmtree(folder)
        return killed, different

    def _whole(self, part, folder):
        """Do a part without a kill; returns how long it took from when it had begun."""
        folder.mkdir()
        self._run(part.work, folder)  # compiles what all others find compiled
        shutil.rmtree(folder)
        folder.mkdir()
        process = self._started(part.work, folder)
        _wait(lambda: not process.is_alive() or any(folder.glob(part.begun)))
        began = time.perf_counter()
        self._ended(process)
        return time.perf_counter() - began

    def _killed(self, part, folder, seconds):
        """Start or continue a part and kill it; False if it has ended before."""
        in_a_write, moment, later = (self._chance.random() for _ in range(3))
        process = self._started(part.work, folder)
        before = {path: path.stat().st_mtime_ns for path in folder.glob(part.begun)}
        _wait(lambda: not process.is_alive() or any(
            before.get(path) != path.stat().st_mtime_ns for path in folder.glob(part.begun) if path.exists()))
        until = time.perf_counter() + moment * seconds
        _wait(lambda: not process.is_alive() or time.perf_counter() >= until)
        if in_a_write < IN_A_WRITE:
            _wait(lambda: not process.is_alive() or any(True for pattern in part.half for _ in folder.glob(pattern)))
            time.sleep(later * 0.02)
        process.kill()
        process.join()
        if process.exitcode not in (0, -9):
            raise RuntimeError(f"{part.work.__name__} in {folder} ended with {process.exitcode}")
        return process.exitcode == -9

    def _started(self, work, folder):
        process = self._processes.Process(target=work, args=(folder,))
        process.start()
        return process

    def _run(self, work, folder):
        self._ended(self._started(work, folder))

    def _ended(self, process):
        process.join(LIMIT_SECONDS)
        if process.exitcode != 0:
            process.kill()
            raise RuntimeError(f"a run that was not killed ended with {process.exitcode}")


def _wait(until):
    began = time.perf_counter()
    while not until():
        if time.perf_counter() - began > LIMIT_SECONDS:
            raise TimeoutError("nothing happened")
        time.sleep(POLL_SECONDS)


def bits_that_differ(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> int:
    """How many bits differ; those of an array that is in one alone, or of another size, all do."""
    count = 0
    for name in {*found, *expected}:
        pair = [np.frombuffer(np.ascontiguousarray(arrays[name]).tobytes() if name in arrays else b"", np.uint8)
                for arrays in (found, expected)]
        if len(pair[0]) != len(pair[1]):
            count += 8 * max(map(len, pair))
        else:
            count += int(np.bitwise_count(np.bitwise_xor(*pair)).sum())
    return count


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="of each part")
    parser.add_argument("--seed", type=int, default=0, help="chooses the moments")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    given = parser.parse_args()
    parts = given.parts.split(",")
    if given.kills < 1 or set(parts) - {*PARTS}:
        parser.error(f"--kills must be at least 1 and --parts some of {', '.join(PARTS)}")
    from tests import conftest  # noqa: F401 - one folder of compiled programs for all processes

    with tempfile.TemporaryDirectory(prefix="yseg-faults-") as folder:
        campaign = Campaign(Path(folder), given.seed)
        results = {name: campaign.kill(name, given.kills, lambda line: print(line, flush=True)) for name in parts}
    for name, (kills, different) in results.items():
        print(f"{name}: {kills} kills, {different} different bits")
    return 1 if any(different for _, different in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
