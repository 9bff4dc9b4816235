"""Processes that are killed on their way: a training in one of its own, the workers of Dask."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from yseg.config_json import to_json
from yseg.training.recorder import read_metrics

CHILD = """
import sys, yseg
from yseg.config_json import from_json
yseg.train(from_json(open(sys.argv[1]).read()), sys.argv[2], quiet=True)
"""


def train_and_kill(config, workdir, last):
    """Train until a random moment soon after one of the steps up to `last`, each of which must write a line of metrics."""
    given, chance = workdir.with_suffix(".json"), random.Random()
    given.write_text(to_json(config))
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(given), str(workdir)])
    stop = chance.randint(1, last)
    while child.poll() is None and max((row["step"] for row in read_metrics(workdir)), default=0) < stop:
        time.sleep(0.005)
    time.sleep(chance.random() * 0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it could be killed"


def workers_below(number):
    """The processes of Dask's workers that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == number and b"spawn_main" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
