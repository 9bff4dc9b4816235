"""From the command to the first training step, and several seeds in one process against one after the other."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.timing import row

ROOT = Path(__file__).parents[2]
CONFIG = "configs/epfl_to_vnc.py:ynet" if os.environ.get("YSEG_DATA") else "configs/demo.py:ynet"
SEEDS = (0, 1, 2)


def _command(workdir, *flags):
    return [sys.executable, "-m", "launch.train", f"--config={CONFIG}", f"--workdir={workdir}", "--config.record.images=0",
            *flags]


def _first_step(workdir, cache):
    """Seconds from the command to the first line of metrics, which is written when the first step is done."""
    began = time.perf_counter()
    process = subprocess.Popen(_command(workdir, "--config.record.log_every=1", f"--compilation_cache={cache}"), cwd=ROOT,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        metrics = Path(workdir) / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError(f"{CONFIG} ended with {process.returncode} before its first step")
            time.sleep(0.02)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


def startup(rounds):
    """The row of the start with compiled programs in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        cold = _first_step(f"{folder}/cold", f"{folder}/cache")
        # The first run was killed at its first step; the cache is whole when another has found its programs in it.
        _first_step(f"{folder}/warm", f"{folder}/cache")
        seconds = [_first_step(f"{folder}/run{number}", f"{folder}/cache") for number in range(rounds)]
    median, quartiles = statistics.median(seconds), statistics.quantiles(seconds, n=4)
    return [{"suite": "startup", "what": f"command to first step: {CONFIG}", "ours, ms": 1000 * median, "against": "15 s",
             "its ms": 15000.0, "ratio": median / 15, "±": (quartiles[2] - quartiles[0]) / 30, "goal": 1.0,
             "met": "yes" if median <= 15 else "no", "note": f"{cold:.1f} s with an empty cache"}]


def population(rounds):
    """The row of three seeds of one command against three commands; the compiled programs are in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--config.optimizer.steps=30", "--config.record.validate_every=0", f"--compilation_cache={folder}/cache")

        def together(name):
            subprocess.run(_command(f"{folder}/{name}", f"--seeds={','.join(map(str, SEEDS))}", *flags), cwd=ROOT, check=True,
                           capture_output=True)

        def apart(name):
            for seed in SEEDS:
                subprocess.run(_command(f"{folder}/{name}_{seed}", f"--config.seed={seed}", *flags), cwd=ROOT, check=True,
                               capture_output=True)

        together("warm")
        seconds = {together: [], apart: []}
        for number in range(rounds):
            for form in (together, apart) if number % 2 else (apart, together):
                began = time.perf_counter()
                form(f"{form.__name__}{number}")
                seconds[form].append(time.perf_counter() - began)
    return [row("population", f"{len(SEEDS)} seeds of 30 steps in one command: {CONFIG}", seconds[together], seconds[apart], 1.0,
                f"{len(SEEDS)} commands", units=len(SEEDS) * 30)]
