"""Time yseg against PyTorch and against what the machine can do, and print a table.

    python -m tests.benchmarks.run --json=benchmarks.json
    python -m tests.benchmarks.run --suite=step --rounds=20

The sides of a comparison are timed in turn, in processes of their own; a ratio is one of medians, its ± half the interquartile
range of the ratios of the rounds. PyTorch is compared if it is installed (pip install ".[benchmark]"). Nothing else should
run on the machine.
"""

import datetime
import importlib.util
import json
import os
import platform

from absl import app, flags

SUITES = ("step", "overhead", "loop", "inference", "startup", "population", "result")
COLUMNS = ("suite", "what", "ours, ms", "against", "its ms", "ratio", "±", "goal", "met", "note")
_SUITE = flags.DEFINE_list("suite", [], f"some of {', '.join(SUITES)}; default: all")
_JSON = flags.DEFINE_string("json", None, "a file that gets the table, with the machine and the versions")
_ROUNDS = flags.DEFINE_integer("rounds", 11, "how often each side is timed", lower_bound=3)
flags.register_validator("suite", lambda given: set(given) <= set(SUITES), f"must be some of {', '.join(SUITES)}")


def rows_of(suite, rounds, with_pytorch, on_gpu):
    """The rows of one suite."""
    from tests.benchmarks import inference, loop, population, result, startup, step
    from tests.benchmarks.setting import LARGE, PAPER, SMALL

    sizes = (LARGE,) if on_gpu else (SMALL, PAPER)
    return {"step": lambda: step.suite(rounds, with_pytorch, sizes), "overhead": lambda: step.overhead(rounds, sizes),
            "loop": lambda: loop.suite(rounds, with_pytorch, (SMALL, LARGE) if on_gpu else sizes),
            "inference": lambda: inference.suite(rounds, with_pytorch), "result": lambda: result.suite(with_pytorch),
            "startup": lambda: startup.startup(rounds),
            "population": lambda: population.commands(3) + (population.at_once(rounds) if on_gpu else [])}[suite]()


def machine():
    """What was timed on what: dict of text."""
    import jax

    with_pytorch = importlib.util.find_spec("torch") is not None
    if with_pytorch:
        import torch
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), processor)
    return {"date": datetime.date.today().isoformat(), "processor": processor, "cores": len(os.sched_getaffinity(0)),
            "device": jax.devices()[0].device_kind, "python": platform.python_version(), "jax": jax.__version__,
            "pytorch": torch.__version__ if with_pytorch else "not installed"}


def main(argv):
    """Run the suites and print the table."""
    if len(argv) > 1:
        raise app.UsageError(f"{argv[1]!r}: must be a flag, --NAME=VALUE")
    # The sides of a comparison share one accelerator.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    from yseg.report import print_table

    about = machine()
    with_pytorch, rows = about["pytorch"] != "not installed", []
    for suite in _SUITE.value or SUITES:
        print(f"{suite} ...", flush=True)
        found = rows_of(suite, _ROUNDS.value, with_pytorch, jax.default_backend() == "gpu")
        rows += found
        print_table(found, COLUMNS, suite)
        if _JSON.value:  # after every suite: a later one may fail
            with open(_JSON.value, "w", encoding="utf-8") as file:
                json.dump({"machine": about, "rounds": _ROUNDS.value, "rows": rows}, file, indent=2)
    print_table(rows, COLUMNS, ", ".join(f"{name}: {value}" for name, value in about.items()))


if __name__ == "__main__":
    app.run(main)
