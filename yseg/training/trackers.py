"""Services that keep the records of many runs, beside the record in the folder of each: MLflow, and Weights & Biases.

They are told the config, the numbers of metrics.jsonl, and in the end the pictures. Where they are, and the credentials, are for
their own variables to say: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, WANDB_MODE, WANDB_PROJECT, ... A run that goes on goes on
there, too: tracker.json in its folder keeps which one it is.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from yseg.config import Experiment, InputError, knobs
from yseg.files import write_whole

TRACKED = "tracker.json"  # file of a run: {name of a tracker: id of the run there}
PROJECT = "yseg"  # what the runs belong to unless the service's own variables say it
_PACKAGES = {"mlflow": "mlflow-skinny", "wandb": "wandb"}
_AT_ONCE = 100  # parameters that MLflow takes in a call


class Tracker(Protocol):
    """A run that is kept by a service."""

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Keep the numbers of a step. Those of steps that it already has, of before an interruption, are the same."""

    def finish(self, pictures: Sequence[Path], whole: bool) -> None:
        """Keep the pictures, PNG files, and end; `whole` = the training has not failed and was not interrupted."""


def check_tracker(name: str) -> None:
    """InputError if the package of a tracker is missing; "" = none is used.

    Args:
      name: one of `TRACKERS`, or "".
    """
    if not name:
        return
    if name not in TRACKERS:
        raise InputError(f"--tracker={name}: must be one of {', '.join(TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise InputError(f'--tracker={name}: needs {_PACKAGES[name]}: pip install ".[{name}]" in the folder of yseg')


def open_tracker(name: str, workdir: Path, config: Experiment) -> Tracker | None:
    """The run of a folder at a service, which is begun or gone on with; None if that fails, as a line on standard error says.

    Once it is open nothing that goes wrong there ends the training: a line on standard error says so, and it is told no more.

    Args:
      name: one of `TRACKERS`, whose package is there.
      workdir: the folder of the run.
      config: resolved.
    """
    path = workdir / TRACKED
    try:
        ids = dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except (ValueError, TypeError):
        ids = {}  # damaged: the service begins a new run
    try:
        tracker, ids[name] = TRACKERS[name](ids.get(name), workdir, config)
    except Exception as error:  # each of them has its own
        print(f"--tracker={name}: cannot be used, and is told nothing ({' '.join(str(error).split())[:300]})", file=sys.stderr,
              flush=True)
        return None
    write_whole(path, json.dumps(ids, indent=2) + "\n")
    return _Lenient(name, tracker)


def _values(config: Experiment) -> dict[str, Any]:
    return {name.lstrip("."): value for name, _, _, value in knobs(config, "")}


class _MLflow:
    """A run of MLflow."""

    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run
        history = client.get_metric_history(run, "loss")
        self._known = max((metric.step for metric in history), default=-1)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        if step <= self._known:
            return
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in numbers.items()])

    def finish(self, pictures: Sequence[Path], whole: bool) -> None:
        for path in pictures:
            self._client.log_artifact(self._run, str(path))
        self._client.set_terminated(self._run, "FINISHED" if whole else "KILLED")


def _mlflow(known: str | None, workdir: Path, config: Experiment) -> tuple[Tracker, str]:
    from mlflow import MlflowClient
    from mlflow.entities import Param

    client = MlflowClient()
    if known is not None:
        client.update_run(known, "RUNNING")
        return _MLflow(client, known), known
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    experiment = client.get_experiment_by_name(name)
    run = client.create_run(experiment.experiment_id if experiment else client.create_experiment(name),
                            run_name=config.name, tags={"workdir": str(workdir)}).info.run_id
    values = [Param(name, str(value)) for name, value in _values(config).items()]
    for first in range(0, len(values), _AT_ONCE):
        client.log_batch(run, params=values[first:first + _AT_ONCE])
    return _MLflow(client, run), run


class _WeightsAndBiases:
    """A run of Weights & Biases."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self._run.log(numbers, step=step)  # it passes over steps before its last one

    def finish(self, pictures: Sequence[Path], whole: bool) -> None:
        import wandb

        self._run.log({path.stem: wandb.Image(str(path)) for path in pictures})
        self._run.finish(exit_code=0 if whole else 1)


def _wandb(known: str | None, workdir: Path, config: Experiment) -> tuple[Tracker, str]:
    import wandb

    # Several seeds may be trained at once, each a run of its own; what the terminal shows stays as it is.
    run = wandb.init(project=os.environ.get("WANDB_PROJECT", PROJECT), name=config.name, id=known, dir=str(workdir),
                     config=_values(config), resume="allow" if known else None, reinit="create_new", allow_val_change=True,
                     settings=wandb.Settings(console="off"))
    return _WeightsAndBiases(run), run.id


TRACKERS: dict[str, Callable[[str | None, Path, Experiment], tuple[Tracker, str]]] = {"mlflow": _mlflow, "wandb": _wandb}


class _Lenient:
    """A tracker that is left alone once it has failed."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker, self._failed = name, tracker, False

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self._try(self._tracker.log, step, numbers)

    def finish(self, pictures: Sequence[Path], whole: bool) -> None:
        self._try(self._tracker.finish, pictures, whole)

    def _try(self, told: Callable[..., None], *content: Any) -> None:
        if self._failed:
            return
        try:
            told(*content)
        except Exception as error:  # each of them has its own
            self._failed = True
            print(f"--tracker={self._name}: failed, and is told no more ({' '.join(str(error).split())[:300]})", file=sys.stderr,
                  flush=True)
