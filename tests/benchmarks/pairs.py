"""Two or more checkouts of yseg timed in turn: what a change gains.

    python -m tests.benchmarks.pairs --what=step --size=small --rounds=15 before=../yseg-before after=.

Each runs in a process of its own, in its own checkout; ratios are to the first, medians of the rounds, with their quartiles.
Nothing else may run on the machine.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

# In a checkout: build what is timed, then time a call for every line that comes.
CHILD = """
import sys, time
import numpy as np
from yseg import parallel
parallel.keep_memory()
from tests.benchmarks import ours, setting
what, size, calls = sys.argv[1], {"small": setting.SMALL, "large": setting.PAPER}[sys.argv[2]], int(sys.argv[3])
config = setting.experiment(size, batch=2 * size.batch)
if what == "step":
    run, _ = ours.build_step(config, calls)
else:
    import jax
    from yseg.inference.predictor import make_predictor
    from yseg.models import segmentation_network
    side = {"small": 632, "large": 496}[sys.argv[2]]
    network = segmentation_network(config.model)
    variables = jax.tree.map(np.asarray, jax.jit(network.init)(jax.random.key(0), np.zeros((1, 64, 64, 1), np.float32)))
    predict = make_predictor(config.model, config.inference, variables)
    tile = setting.drawn((1, side, side))[0][..., None]
    def run():
        for _ in range(calls):
            predict(tile, (setting.MEAN, setting.DEVIATION))
for _ in range(2):
    run()
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    run()
    print(time.perf_counter() - began, flush=True)
"""


def start(path: str, what: str, size: str, calls: int) -> subprocess.Popen:
    """The process of a checkout, when it is ready."""
    process = subprocess.Popen([sys.executable, "-c", CHILD, what, size, str(calls)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, cwd=Path(path).resolve())
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"{path}: is no checkout that can be timed")
    return process


def seconds(process: subprocess.Popen) -> float:
    """Of one call."""
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Time them and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pairs", description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="+", metavar="NAME=PATH", help="the first is what the others are compared with")
    parser.add_argument("--what", choices=["step", "tile"], default="step", help="a training step, or a tile of a segmentation")
    parser.add_argument("--size", choices=["small", "large"], default="small", help="of network and patches, see setting.py")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=3, help="steps or tiles of a round")
    given = parser.parse_args()
    processes = {}
    try:
        for each in given.checkouts:
            name, _, path = each.partition("=")
            processes[name] = start(path, given.what, given.size, given.calls)
        names, found = list(processes), {name: [] for name in processes}
        for number in range(given.rounds):
            for name in names[number % len(names):] + names[:number % len(names)]:
                found[name].append(seconds(processes[name]) / given.calls)
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait()
    for name in names:
        ratios = [own / first for own, first in zip(found[name], found[names[0]], strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        print(f"{given.what}, {given.size}: {name} {1000 * statistics.median(found[name]):.1f} ms, {ratio:.3f} ({low:.3f} to"
              f" {high:.3f}) of {names[0]}")


if __name__ == "__main__":
    main()
