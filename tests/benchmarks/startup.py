"""From the command to the first training step."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = "configs/epfl_to_vnc.py:ynet" if os.environ.get("YSEG_DATA") else "configs/demo.py:ynet"
SHORT, LONG = 100, 10_000  # steps; the step of a long training is compiled at each start, see `yseg.models.onednn`


def command(workdir, *flags):
    """The command of a training, with further flags."""
    return [sys.executable, "-m", "launch.train", f"--config={CONFIG}", f"--workdir={workdir}", "--config.record.images=0",
            *flags]


def _first_step(workdir, cache, steps=SHORT):
    """Seconds from the command to the first line of metrics, which is written when the first step is done."""
    began = time.perf_counter()
    flags = (f"--config.optimizer.steps={steps}", "--config.record.log_every=1", f"--compilation_cache={cache}")
    process = subprocess.Popen(command(workdir, *flags), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
        long = statistics.median(_first_step(f"{folder}/long{number}", f"{folder}/cache", LONG) for number in range(3))
    median, quartiles = statistics.median(seconds), statistics.quantiles(seconds, n=4)
    return [{"suite": "startup", "what": f"command to first step: {CONFIG}", "ours, ms": 1000 * median, "against": "15 s",
             "its ms": 15000.0, "ratio": median / 15, "±": (quartiles[2] - quartiles[0]) / 30, "goal": 1.0,
             "met": "yes" if median <= 15 else "no",
             "note": f"{cold:.1f} s with an empty cache, {long:.1f} s in a long training"}]
