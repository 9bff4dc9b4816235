"""What was done with a run: when, by which command, and with which versions. One object a line, in its history.jsonl."""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yseg import __version__
from yseg.config import Experiment, labelled_domain
from yseg.data.domain import Domains
from yseg.volumes.places import file_of, is_url

HISTORY = "history.jsonl"  # file of a run
TRAINED, EVALUATED, SEGMENTED = "trained", "evaluated", "segmented"
_SECRET = re.compile(r"(https?://[^?]*)\?.*")  # the query of a URL may be a key
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "tensorstore")


def record(workdir: Path, what: str, **told: Any) -> None:
    """Append a line; OSError where the folder cannot be written to.

    Args:
      workdir: the folder of a run, which is there.
      what: TRAINED (it has begun, or goes on), EVALUATED or SEGMENTED.
      told: more about it, of what JSON can hold.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"what": what, "date": now, "command": command_line(sys.argv), "versions": versions(), "commit": _commit(), **told}
    with open(workdir / HISTORY, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_history(workdir: Path) -> list[dict[str, Any]]:
    """The lines that are whole, oldest first; of runs of earlier versions there are none."""
    return list(_lines(workdir / HISTORY))


def last_outputs(workdir: Path, image: str) -> dict[str, str]:
    """The volumes that the last segmentation of an image has written, by their kinds, if they are still there; else none."""
    lines = [line for line in read_history(workdir) if line["what"] == SEGMENTED and line.get("image") == image]
    outputs = lines[-1].get("outputs") if lines else None
    if not isinstance(outputs, dict):
        return {}
    return {kind: spec for kind, spec in outputs.items()
            if isinstance(spec, str) and (is_url(spec) or os.path.exists(file_of(spec)))}


def told_of(config: Experiment, domains: Domains) -> dict[str, Any]:
    """What `record` is told of the opened volumes of a training: {"volumes": ...}, in voxels of their files."""
    named = {labelled_domain(config): domains.labelled, "target": domains.target}
    return {"volumes": {name: {
        "shape": list(volume.file_shape), "section_nm": volume.section_nm or None,
        **{part: str(box.moved(volume.offset)) for part, box in volume.split._asdict().items() if not box.is_empty},
    } for name, volume in named.items()}}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("what"), str):
            yield found


def command_line(argv: list[str]) -> str:
    """A command as it was typed but for queries of URLs, of what Python calls `sys.argv`; programs of launch/ by their module."""
    program, argv = Path(argv[0]), [_SECRET.sub(r"\1", word) for word in argv]
    if program.parent.name == "launch" and program.suffix == ".py":
        return shlex.join(["python", "-m", f"launch.{program.stem}", *argv[1:]])
    return shlex.join([program.name or "python", *argv[1:]])


def versions() -> dict[str, str]:
    """The versions of yseg, Python and the packages that compute, by their names."""
    found = {"yseg": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # installed in another way
            continue
    return found


@functools.cache
def _commit() -> str | None:
    """The commit of yseg's working copy, as git describes it; None where it is installed without one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        found = subprocess.run(["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True,
                               text=True, timeout=10, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"})
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
