"""The folder of a run: its config, its checkpoints, what its labels look like, and what may not be overwritten."""

import json
import os
from pathlib import Path

import jax

from yseg import parallel
from yseg.config import Experiment, InputError, ResolvedExperiment, knobs
from yseg.config_json import from_json, to_json
from yseg.files import write_whole
from yseg.metrics.shapes import Prior, prior_from
from yseg.training.checkpoint import Checkpoints
from yseg.training.state import TrainState, create_state

CONFIG, CHECKPOINTS, REPORT, PRIOR = "config.json", "checkpoints", "report", "prior.json"
FIRST_STAGE = "first_stage"  # folder of the run that a self-training without a start begins with


def check_workdir(config: Experiment, workdir: Path) -> None:
    """InputError, on every process, if the folder holds anything but a run of this very config, which is resolved."""
    parallel.on_main(_check, config, workdir)


def _check(config, workdir):
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir}: must be a folder")
    if (workdir / CONFIG).exists():
        there, here = (list(knobs(each, "")) for each in (read_config(workdir), from_json(to_json(config))))
        for (knob, _, _, old), (_, _, _, new) in zip(there, here, strict=True):
            if old != new:
                name = knob.lstrip(".")
                raise InputError(f"--workdir={workdir}: holds a run with {name}={old}, which differs from {name}={new};"
                                 " must be another folder, or the same config to continue that run")
    elif workdir.exists() and any(not path.name.endswith(".unfinished") and path.name != FIRST_STAGE
                                  for path in workdir.iterdir()):
        raise InputError(f"--workdir={workdir}: is not empty and holds no run ({CONFIG}); must be a new folder")


def create_workdir(config: Experiment, workdir: Path, prior: Prior | None = None) -> None:
    """Make the folder of a run, with its config and the Prior of what it trains on, if there is one.

    Raises:
      InputError: on every process, if that cannot be done.
    """
    parallel.on_main(_create, config, workdir, prior)


def _create(config, workdir, prior):
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not (workdir / CONFIG).exists():
            if prior is not None:
                write_whole(workdir / PRIOR, json.dumps(prior._asdict(), indent=2) + "\n")
            write_whole(workdir / CONFIG, to_json(config))
    except OSError as error:
        raise InputError(f"--workdir={workdir}: cannot be created ({error.strerror})") from error


def read_config(workdir: str | os.PathLike, flag: str = "--workdir") -> ResolvedExperiment:
    """The config of a run, as it was resolved; InputError, naming the flag, if the folder holds none."""
    path = Path(workdir) / CONFIG
    if not path.is_file():
        what = "is not the folder of a run: it has no" if path.parent.is_dir() else "no such folder; must be that of a run, with"
        raise InputError(f"{flag}={workdir}: {what} {CONFIG}")
    return ResolvedExperiment(**vars(from_json(path.read_text(encoding="utf-8"), f"{flag}={workdir}: {CONFIG}")))


def read_prior(workdir: str | os.PathLike, flag: str = "--workdir") -> Prior | None:
    """What the labels that a run was trained on look like; None if it does not say; InputError if that is damaged."""
    path = Path(workdir) / PRIOR
    try:
        return prior_from(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
    except ValueError as error:
        raise InputError(f"{flag}={workdir}: {PRIOR} is damaged ({error}); must be as the training wrote it") from error


def load_state(workdir: str | os.PathLike, config: Experiment, flag: str = "--workdir") -> TrainState:
    """The TrainState of a run's last checkpoint, in NumPy arrays; InputError, naming the flag, if it has none."""
    folder = Path(workdir) / CHECKPOINTS
    state = None
    if folder.is_dir():
        with Checkpoints(folder) as checkpoints:
            # Its shapes and types are enough, which takes no compilation.
            state = checkpoints.restore(jax.eval_shape(lambda key: create_state(config, key), jax.random.key(config.seed)))
    if state is None:
        raise InputError(f"{flag}={workdir}: no complete checkpoint in {CHECKPOINTS}/; must be a run that has been trained")
    return state
