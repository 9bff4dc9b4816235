"""The training loop: steps, and between them metrics, validations and checkpoints."""

import math
import time

import jax
import numpy as np

from yseg import parallel
from yseg.objectives import images_per_step
from yseg.report import progress


class TrainingDiverged(RuntimeError):  # noqa: N818
    """The loss or the gradient became infinite or not a number."""


def fit(state, step, reader, key, config, estimate, validate, draw, recorder, checkpoints, quiet=False):
    """Train from `state` to the last step of the config.

    Metrics stay on the devices until a line of them is due: every `log_every` steps, and before every validation and every
    checkpoint. A line depends on what happened since the line before, so that all of it is the same when a run is interrupted
    and continued from a checkpoint.

    Args:
      state: TrainState in NumPy arrays.
      step: of `yseg.parallel.map_step`.
      reader: `batch(step)` are the raw patches of a step.
      key: random key of the run.
      config: `yseg.config.Experiment`.
      estimate: `estimate(state) -> state` with the target's statistics renewed, called before a validation or a checkpoint.
      validate: `validate(state, last)` -> dict of numbers for the line of metrics; `last` after the last step.
      draw: `draw(state)`, called when a validation has been recorded.
      recorder: `yseg.training.recorder.Recorder`.
      checkpoints: `yseg.training.checkpoint.Checkpoints`.
      quiet: show no progress.

    Returns:
      TrainState on the devices.

    Raises:
      TrainingDiverged: nothing of it is in a checkpoint.
    """
    first, steps = int(state.step), config.optimizer.steps
    images, state, pending = images_per_step(config), parallel.replicate(state), []
    with progress(steps, "Training", start=first, quiet=quiet) as bar:
        for done in range(first + 1, steps + 1):
            state, metrics = step(state, reader.batch(done - 1), key)
            pending.append(metrics)
            if done == first + 1:
                jax.block_until_ready(metrics)
                timed_from, began = done, time.perf_counter()  # without the compilation
            logs, validates, saves = _due(done, config)
            if not (logs or validates or saves):
                continue
            rows, pending = jax.device_get(pending), []
            seconds = time.perf_counter() - began
            _check_finite(rows, done, checkpoints)
            numbers = _summary(rows)
            numbers["images_per_second"] = images * (done - timed_from) / seconds if done > timed_from else None
            bar.update(done, loss=numbers["loss"], images_per_second=numbers["images_per_second"])
            if validates or saves:
                state = estimate(state)
            if validates:
                numbers |= validate(state, done == steps)
            recorder.write({"step": done, **numbers})
            if saves:
                checkpoints.save(state)
            if validates:
                draw(state)
            timed_from, began = done, time.perf_counter()
    checkpoints.wait()
    return state


def _due(done, config):
    """Whether metrics, a validation and a checkpoint are due after that many steps."""
    record, last = config.record, done == config.optimizer.steps
    validates = last or (record.validate_every > 0 and done % record.validate_every == 0)
    return done % record.log_every == 0, validates, last or done % record.checkpoint_every == 0


def _summary(rows):
    """Means of the metrics of some steps; the learning rate of the last."""
    means = {name: float(np.mean([row[name] for row in rows], dtype=np.float64)) for name in rows[0]}
    return means | {"learning_rate": float(rows[-1]["learning_rate"])}


def _check_finite(rows, done, checkpoints):
    """TrainingDiverged if a metric of the steps up to `done` is infinite or not a number."""
    for number, row in enumerate(rows, done - len(rows) + 1):
        wrong = sorted((name for name, value in row.items() if not math.isfinite(value)), key=lambda name: name != "loss")
        if wrong:
            last = checkpoints.last_step
            good = f"the last good checkpoint is step {last} in {checkpoints.folder}" if last else "there is no checkpoint"
            raise TrainingDiverged(f"{wrong[0].replace('_', ' ')} became {row[wrong[0]]} at step {number}; {good}; try a smaller"
                                   " --config.optimizer.learning_rate")
