"""The folder of a run: its config, its checkpoints, what its labels look like, and what may not be overwritten."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from yseg import parallel
from yseg.config import Experiment, InputError, ResolvedExperiment
from yseg.config_json import from_json, to_json
from yseg.files import DISK, locked, write_whole
from yseg.metrics.shapes import Prior, prior_from
from yseg.runs.going_on import changed_knobs, check_going_on, how_it_goes_on
from yseg.runs.identity import VOLUMES, Identity
from yseg.runs.moved import Moved, relocated
from yseg.training.checkpoint import Checkpoints, DamagedCheckpoint
from yseg.training.recorder import read_metrics
from yseg.training.state import TrainState, create_state
from yseg.volumes.opened import check_slashes

CONFIG, CHECKPOINTS, REPORT, PRIOR = "config.json", "checkpoints", "report", "prior.json"
CHANGES = "changes.jsonl"  # with what other config a run went on, and from which step: {"step": ..., KNOB: [before, after]}
LOCK = ".lock"  # held by the process that trains
FIRST_STAGE = "first_stage"  # folder of the run that a self-training without a start begins with


def check_workdir(config: Experiment, workdir: Path, more_steps: bool = False) -> None:
    """InputError, on every process, if the folder holds anything but a run that may go on with this config, which is resolved.

    Args:
      config: see `yseg.runs.going_on`.
      workdir: of the run.
      more_steps: whether a run of fewer steps may go on, too.
    """
    parallel.on_main(_check, config, workdir, more_steps)


def _check(config, workdir, more_steps):
    check_slashes(os.path.realpath(workdir), f"--workdir={workdir}")
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir}: must be a folder")
    if (workdir / CONFIG).exists():
        check_going_on(read_config(workdir), from_json(to_json(config)), workdir, more_steps)
    elif workdir.exists() and any(not path.name.endswith(".unfinished") and path.name not in (FIRST_STAGE, LOCK, PRIOR, VOLUMES)
                                  for path in workdir.iterdir()):
        raise InputError(f"--workdir={workdir}: is not empty and holds no run ({CONFIG}); must be a new folder")


@contextlib.contextmanager
def locked_workdir(workdir: Path) -> Iterator[None]:
    """A context manager that makes the folder of a run and keeps other trainings out of it, until this process ends.

    Raises:
      InputError: on every process, if there is another one, or the folder cannot be made.
    """
    with contextlib.ExitStack() as stack:
        parallel.on_main(_lock, workdir, stack)
        yield


def _lock(workdir, stack):
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lacking = stack.enter_context(locked(workdir / LOCK))
    except BlockingIOError as error:
        raise InputError(f"--workdir={workdir}: {error.strerror} is training in it; must be another folder, or wait until that"
                         " has ended") from error
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot be created ({error.strerror})") from error
    if lacking:
        print(f"{workdir}: {lacking}, so that nothing keeps a second training out of it", file=sys.stderr, flush=True)


def create_workdir(config: Experiment, workdir: Path, prior: Prior | None = None, identity: Identity | None = None) -> str | None:
    """Write the config into the folder of a run, the Prior of what it trains on, if there is one, and what its volumes are.

    Returns:
      One line that says with what other config a run goes on, which is then its own; None if it is a new run or the same config.
      Other processes than the main one know of no line.

    Raises:
      InputError: on every process, if that cannot be done.
    """
    return parallel.on_main(_create, config, workdir, prior, identity)


def _create(config, workdir, prior, identity):
    try:
        new = not (workdir / CONFIG).exists()
        if identity and (new or not (workdir / VOLUMES).exists()):
            write_whole(workdir / VOLUMES, json.dumps(identity, indent=2) + "\n")
        if new:
            if prior is not None:
                write_whole(workdir / PRIOR, json.dumps(prior._asdict(), indent=2) + "\n")
            write_whole(workdir / CONFIG, to_json(config))
            return None
        changes = changed_knobs(read_config(workdir), from_json(to_json(config)))
        if not changes:
            return None
        step = max((row["step"] for row in read_metrics(workdir)), default=0)
        with open(workdir / CHANGES, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **changes}) + "\n")
        write_whole(workdir / CONFIG, to_json(config))
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot be written to ({error.strerror})") from error
    return f"{workdir}: {how_it_goes_on(changes, config, step)}"


@contextlib.contextmanager
def reporting(folder: Path, what: str) -> Iterator[None]:
    """A context manager that writes into the folder of a run; where that is refused, a line on standard error says so instead."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        print(f"{folder}: cannot be written to ({error.strerror}), so {what} are left out", file=sys.stderr, flush=True)


def read_config(workdir: str | os.PathLike, flag: str = "--workdir", moved: Moved | None = None) -> ResolvedExperiment:
    """The config of a run, as it was resolved.

    Args:
      workdir: the folder. If it was moved, so was the first stage in it.
      flag: that gave it, for messages.
      moved: where its volumes are now, see `yseg.runs.moved`.

    Raises:
      InputError: the folder holds no run.
    """
    path = Path(workdir) / CONFIG
    if not path.is_file():
        what = "is not the folder of a run: it has no" if path.parent.is_dir() else "no such folder; must be that of a run, with"
        raise InputError(f"{flag}={workdir}: {what} {CONFIG}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{flag}={workdir}: {CONFIG} cannot be read ({error})") from error
    config = ResolvedExperiment(**vars(from_json(text, f"{flag}={workdir}: {CONFIG}")))
    start, own = config.self_training.start, Path(workdir).absolute() / FIRST_STAGE
    if Path(start).name == FIRST_STAGE and not os.path.exists(start) and own.is_dir():
        config = dataclasses.replace(config, self_training=dataclasses.replace(config.self_training, start=str(own)))
    return relocated(config, moved)


def read_prior(workdir: str | os.PathLike, flag: str = "--workdir") -> Prior | None:
    """What the labels that a run was trained on look like; None if it does not say; InputError if that is damaged."""
    path = Path(workdir) / PRIOR
    try:
        return prior_from(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
    except ValueError as error:
        raise InputError(f"{flag}={workdir}: {PRIOR} is damaged ({error}); must be as the training wrote it") from error


def load_state(workdir: str | os.PathLike, config: Experiment, flag: str = "--workdir") -> TrainState:
    """The TrainState of a run's last good checkpoint, in NumPy arrays.

    Raises:
      InputError, naming the flag: there is none, or all are damaged.
    """
    folder = Path(workdir) / CHECKPOINTS
    state = None
    if folder.is_dir():
        with Checkpoints(folder) as checkpoints:
            # Its shapes and types are enough, which takes no compilation.
            like = jax.eval_shape(lambda key: create_state(config, key), jax.random.key(config.seed))
            try:
                state = checkpoints.restore(like)
            except DamagedCheckpoint as error:
                raise InputError(f"{flag}={workdir}: has no checkpoint that is whole: {error}") from error
    if state is None:
        raise InputError(f"{flag}={workdir}: no complete checkpoint in {CHECKPOINTS}/; must be a run that has been trained")
    return state
