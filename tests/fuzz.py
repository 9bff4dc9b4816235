"""Random command lines: each is either one that the program would begin its work with, or gets one line and exit code 2.

    python -m tests.fuzz --sets=500
    python -m tests.fuzz --sets=2000 --seed=7

The programs run in this process, with all their checks, up to where a network would be trained or applied. A line of output
is a fault: a traceback, another exit code, more than one line, or something that was written. Exit code 1 if there is one.
"""

import argparse
import contextlib
import importlib
import io
import os
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

ROOT = Path(__file__).parents[1]
PROGRAMS = ("train", "adapt", "finetune", "evaluate", "segment", "export", "sweep", "reproduce", "demo",
            "check")
NUMBERS = ("0", "-1", "1", "2", "3", "7", "64", "0.5", "0.999", "1e-9", "1e9", "1e400", "nan", "-inf", "99999999999999999999")
STRANGE = ("", " ", "many", "x" * 500, "µ", "'", '"', "()",
           "(1,)", "(1, 'a')", "1,2", "[", "{}", "None", "true", "none", "==", ">0", ">", "=1", "==1,5", ">=many", "0:1,:,:",
           "0:1", "9:1,:,:", "::,:,:", "-1:2,:,:", "~", "~/x", "~nobody/x", "%s", "a\nb", "\\", "../..", ".", "/", "/dev/null",
           "/proc/self/mem", "http://", "file://x", "phantom://", "phantom://x/image", "phantom://source/image?shape=1",
           "phantom://source/image?shape=0,4,4", "phantom://source/image?seed=x", "x.zarr", "x.h5", "x.h5:a", "x.tif", "x.png")
LEFT_ALONE = ("multihost", "compilation_cache")  # they change this process
# Numbers that would ask for much memory before the work begins.
COSTLY = ("config.model.features", "config.model.levels", "config.model.sections", "config.adaptation.hidden")


class Started(BaseException):
    """The work has begun: all checks have passed."""


class Outcome(NamedTuple):
    """What came of a command line: the exit code, or None if the work began; and what is wrong with that, or None."""

    code: int | None
    fault: str | None


@contextlib.contextmanager
def work_stopped() -> Iterator[None]:
    """A context manager in which networks are neither trained nor applied: instead `Started` is raised."""
    from yseg.runs import session
    from yseg.trained import network

    def start(*arguments, **options):
        raise Started

    kept = session.make_reader, network.TrainedNetwork.predict
    session.make_reader = network.TrainedNetwork.predict = start
    try:
        yield
    finally:
        session.make_reader, network.TrainedNetwork.predict = kept


def write_inputs(folder: Path) -> dict[str, str]:
    """Volumes, runs and files of all sorts in a folder: {name: path}, the first of which are good."""
    import yseg
    from tests.tiny import experiment
    from yseg.config import Optimizer
    from yseg.config_json import to_json

    values = np.random.default_rng(0).integers(0, 255, (4, 48, 56), np.uint8)
    arrays = {"image": values, "labels": (values > 128).astype(np.uint8), "narrow": values[:, :, :40],
              "small": values[:1, :4, :4], "flat": np.zeros_like(values),
              "float": np.where(values > 250, np.nan, values).astype(np.float32)}
    for name, array in arrays.items():
        tifffile.imwrite(folder / f"{name}.tif", array, photometric="minisblack")
    whole = (folder / "image.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[:len(whole) // 2])
    (folder / "empty.tif").touch()
    (folder / "text.txt").write_text("not a volume\n")
    (folder / "empty").mkdir()
    (folder / "sections").mkdir()
    tifffile.imwrite(folder / "sections" / "1.tif", values[0])
    domain = {"image": str(folder / "image.tif"), "labels": str(folder / "labels.tif")}
    config = experiment(optimizer=Optimizer(steps=0))
    config.source.image, config.source.labels = domain.values()
    yseg.train(config, folder / "run", quiet=True)
    (folder / "untrained").mkdir()
    (folder / "untrained" / "config.json").write_text(to_json(config))
    (folder / "damaged").mkdir()
    (folder / "damaged" / "config.json").write_text("{")
    yseg.export(folder / "run", folder / "model")
    return {path.name: str(path) for path in sorted(folder.iterdir())}


def command_line(program: str, paths: dict[str, str], fresh: Path, chance: random.Random) -> list[str]:
    """A random command line of a program, most of whose flags are good. `fresh`: a path that is not there."""
    from launch import program as programs
    from yseg.config import METHODS, Experiment, knobs

    definition = importlib.import_module(f"launch.{program}").PROGRAM
    values = programs._flags_of(definition)
    anything = [*paths.values(), *paths.values(), *STRANGE, str(fresh)]
    given = {"workdir": str(fresh) if program in ("train", "adapt", "finetune", "demo", "check") else paths["run"],
             "out": str(fresh), "from": paths["run"], "image": paths["image.tif"],
             "output": f"{fresh}.zarr" if program == "segment" else str(fresh),
             "fraction": "0.5", "pixel_size_nm": "10", "labels": paths["labels.tif"]}
    needed = {"train": ("workdir",), "adapt": ("from", "workdir"), "finetune": ("from", "workdir", "fraction"),
              "evaluate": ("workdir",), "segment": ("workdir", "image", "output", "pixel_size_nm"),
              "export": ("workdir", "output"), "sweep": ("out",), "reproduce": ("out",), "demo": ("workdir",),
              "check": ("output",)}[program]
    arguments = [f"--{name}={given[name]}" for name in needed if chance.random() < 0.98]
    if definition.takes_config and chance.random() < 0.98:
        method = "" if program == "reproduce" else f":{chance.choice((*METHODS, 'x') if chance.random() < 0.1 else METHODS)}"
        file = ROOT / "configs" / chance.choice(("demo.py", "custom.py", "custom.py", "demo.py"))
        arguments.append(f"--config={file}{method}")
        for domain in ("source", "target"):
            good = {"image": paths["image.tif"], "labels": paths["labels.tif"], "pixel_size_nm": "16", "foreground": ">0"}
            arguments += [f"--config.{domain}.{name}={value}" for name, value in good.items() if chance.random() < 0.98]
        arguments += ["--config.sampling.patch_size=8", "--config.model.levels=1", "--config.model.features=4",
                      "--config.inference.tile_size=64"]
        listed = [(flag, expected, metadata["choices"]) for flag, expected, metadata, _ in knobs(Experiment())]
        for flag, expected, choices in chance.sample(listed, chance.choice((0, 0, 1, 1, 2))):
            if flag.removeprefix("--") not in COSTLY:
                likely = choices or (anything if expected is str else NUMBERS)
                arguments.append(f"{flag}={chance.choice(likely if chance.random() < 0.7 else STRANGE)}")
    own = [name for name in values if name not in LEFT_ALONE]
    for name in chance.sample(own, min(len(own), chance.choice((0, 0, 1, 1, 2)))):
        flag = values[name]
        likely = getattr(flag.parser, "enum_values", None) or (
            NUMBERS if flag.flag_type() in ("int", "float") or name == "threshold" else anything)
        value = chance.choice(likely if chance.random() < 0.7 else STRANGE)
        arguments.append(chance.choice((f"--{name}={value}",) * 5 + (f"--{name}", f"-{name}={value}", f"--no{name}")))
    if chance.random() < 0.1:
        arguments.append(chance.choice(("here", "--", "-", "--=", "--x=1", "--config", "--config.", "--config.model=1",
                                        "--config.model.level=1", "--wrokdir=a", "--flagfile=x", "--undefok=x", "--v=3")))
    chance.shuffle(arguments)
    return [program, *arguments]


def outcome(arguments: list[str], folder: Path) -> Outcome:
    """What comes of a command line, the program first; `folder` is where it may write, but only if the work begins."""
    from launch import program

    before, said = _tree(folder), io.StringIO()
    code: int | None = None
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            program.run(importlib.import_module(f"launch.{arguments[0]}").PROGRAM, arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except Started:
        return Outcome(None, None)
    except BaseException:
        return Outcome(1, traceback.format_exc())
    lines = said.getvalue()
    if code == 0:
        return Outcome(0, None)
    if code != 2 or lines.count("\n") != 1 or not lines.strip():
        return Outcome(code, f"exit code {code}, {lines!r}")
    written = sorted(_tree(folder) - before)
    return Outcome(code, f"{lines.strip()} has left {', '.join(written)}" if written else None)


def _tree(folder):
    return {str(path) for path in folder.rglob("*")}


def campaign(sets: int, seed: int, folder: Path) -> tuple[Counter, list[str]]:
    """Try random command lines: (how many had which exit code, None if the work began; the faults, in text)."""
    chance, codes, faults = random.Random(seed), Counter(), []
    paths = write_inputs(folder)
    where = os.getcwd()
    (folder / "here").mkdir()
    os.chdir(folder / "here")  # for relative paths
    try:
        with work_stopped():
            for number in range(sets):
                arguments = command_line(chance.choice(PROGRAMS), paths, folder / f"new{number}", chance)
                found = outcome(arguments, folder)
                codes[found.code] += 1
                if found.fault:
                    faults.append(f"{number}: {arguments}\n{found.fault}")
    finally:
        os.chdir(where)
    return codes, faults


def main() -> int:
    """Run the campaign; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=500, help="of flags")
    parser.add_argument("--seed", type=int, default=0, help="chooses them")
    given = parser.parse_args()
    from tests import conftest  # noqa: F401 - a folder of compiled programs of its own

    with tempfile.TemporaryDirectory(prefix="yseg-fuzz-") as folder:
        codes, faults = campaign(given.sets, given.seed, Path(folder))
    print(*faults, sep="\n\n")
    print(f"{given.sets} command lines: {codes[None]} begin the work, {codes[2]} are refused, {codes[0]} are done;"
          f" {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
