"""The training loop: steps, and between them metrics, validations and checkpoints."""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from yseg import parallel
from yseg.config import Experiment
from yseg.files import Terminated
from yseg.methods import images_per_step
from yseg.report import progress
from yseg.training.checkpoint import Checkpoints
from yseg.training.interruption import interruptible
from yseg.training.recorder import Recorder
from yseg.training.state import TrainState


class TrainingDiverged(RuntimeError):  # noqa: N818
    """The loss or the gradient became infinite or not a number."""


class Member(NamedTuple):
    """One of the trainings that a loop moves.

    key: of its random draws; recorder, checkpoints: where it is written down; estimate: `estimate(state) -> state` with the
    target's statistics renewed, called before a validation or a checkpoint; validate: `validate(state, last)` -> dict of numbers
    for the line of metrics, `last` after the last step; draw: `draw(state, recorder)`, called when one has been recorded; renew:
    `renew(step, state)`, called before the first step and every `config.self_training.renew_every`, for a method that teaches
    itself.
    """

    key: PRNGKeyArray
    recorder: Recorder
    checkpoints: Checkpoints
    estimate: Callable[[TrainState], TrainState]
    validate: Callable[[TrainState, bool], dict[str, Any]]
    draw: Callable[[TrainState, Recorder], None]
    renew: Callable[[int, TrainState], None] | None = None


def fit(states: Sequence[TrainState], step: Callable[..., Any], members: Sequence[Member], batch: Callable[[int], Any], *,
        config: Experiment, devices: parallel.Devices | None = None, quiet: bool = False, together: bool = False,
        several: Callable[..., Any] | None = None) -> list[TrainState]:
    """Train from `states`, all at the same step, to the last step of the config: one training, or several at once.

    Metrics stay on the devices until a line of them is due: every `log_every` steps, and before every validation and every
    checkpoint. A line depends on what happened since the line before, so that all of it is the same when a run is killed and
    continued from a checkpoint.

    Ctrl-C and SIGTERM end the step that is being computed. What has been learnt is written as a checkpoint, with a line of
    metrics, and only then they have their effect; the parameters will be those of a run that was not interrupted. A second
    signal does not wait. Those in the validation after the last step leave the checkpoint before. Of a job of several processes
    SIGTERM of any ends all, after the same step, with `yseg.files.Terminated`.

    Args:
      states: TrainState of each member, in NumPy arrays.
      step: of `yseg.parallel.map_step`.
      members: one for each state.
      batch: `batch(step)` are the raw patches of a step, [device, ...], or [device, member, ...] if `together`.
      config: `yseg.config.Experiment`, what it says of steps and records; the same for all.
      devices: that the step uses, see `yseg.parallel.devices_for`.
      quiet: show no progress.
      together: whether the step's state, patches and key have an axis of members in front; else there is one member.
      several: `(state, key) -> (state, metrics [step])`, `config.sampling.steps_at_once` steps that cut their own patches, for
        one member; None = every step is a call of its own.

    Returns:
      List of the members' TrainStates on the devices.

    Raises:
      TrainingDiverged: one of the members did, which ends all; nothing of that is in a checkpoint.
    """
    first, steps = int(states[0].step), config.optimizer.steps
    images = images_per_step(config)
    pending: list[tuple[int, Any]] = []
    state = parallel.replicate(_together(states, together), devices)
    key = parallel.replicate(_together([member.key for member in members], together), devices)
    with interruptible() as signals, progress(steps, "Training", start=first, quiet=quiet) as bar:
        done, timed_from, began = first, first, time.perf_counter()

        def write_lines(validates):
            """Write what is pending, and what the members' validations add to it."""
            rows = _by_step(jax.device_get(pending))
            seconds = time.perf_counter() - began
            lines = []
            for number, member in enumerate(members):
                own = [_own(row, number, together) for row in rows]
                _check_finite(own, done, member.checkpoints)
                lines.append(_summary(own))
                lines[-1]["images_per_second"] = images * (done - timed_from) / seconds if done > timed_from else None
            bar.update(done, loss=float(np.mean([line["loss"] for line in lines])),
                       images_per_second=lines[0]["images_per_second"])
            if validates:
                for number, (member, line) in enumerate(zip(members, lines, strict=True)):
                    line |= member.validate(_own(state, number, together), done == steps)
            with signals.held():
                for member, line in zip(members, lines, strict=True):
                    member.recorder.write({"step": done, **line})
                pending.clear()

        def estimated():
            states = [member.estimate(_own(state, number, together)) for number, member in enumerate(members)]
            return parallel.replicate(_together(states, together), devices) if together else states[0]

        def save():
            for number, member in enumerate(members):
                member.checkpoints.save(_own(state, number, together))

        try:
            for turn in itertools.count():
                if done >= steps:
                    break
                if parallel.must_go(turn):
                    raise Terminated
                for number, member in enumerate(members):
                    if member.renew and (done == first or done % config.self_training.renew_every == 0):
                        member.renew(done, _own(state, number, together))
                count = _next_call(done, config) if several else 1
                with signals.held():
                    state, metrics = several(state, key) if several and count > 1 else step(state, batch(done), key)
                    pending.append((count, metrics))
                    done += count
                if done - count == first:
                    jax.block_until_ready(metrics)
                    timed_from, began = done, time.perf_counter()  # without the compilation
                logs, validates, saves = _due(done, config)
                if not (logs or validates or saves):
                    continue
                if validates or saves:
                    state = estimated()
                write_lines(validates)
                if saves:
                    with signals.held():
                        save()
                if validates:
                    for number, member in enumerate(members):
                        member.draw(_own(state, number, together), member.recorder)
                timed_from, began = done, time.perf_counter()
        except KeyboardInterrupt as interruption:
            if signals.received is not None or isinstance(interruption, Terminated):
                if first < done < steps and members[0].checkpoints.last_step != done:
                    state = estimated()
                    if pending:
                        write_lines(False)
                    save()
                for member in members:
                    member.checkpoints.wait()
            raise
    for member in members:
        member.checkpoints.wait()
    return [_own(state, number, together) for number in range(len(members))]


def _together(trees, together):
    """The members' trees as one, with an axis of members in front; else the tree of the only one."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if together else trees[0]


def _own(tree, number, together):
    """A member's part of a tree of `_together`."""
    return jax.tree.map(lambda leaf: leaf[number], tree) if together else tree


def _next_call(done, config):
    """How many steps the call after `done` steps takes: `steps_at_once`, from a multiple of it and up to what is due, or 1.

    It depends on the step alone, so that an interrupted run goes on with the calls of one that was not.
    """
    count = config.sampling.steps_at_once
    between = range(done + 1, done + count)
    return count if done % count == 0 and done + count <= config.optimizer.steps and not any(
        any(_due(step, config)) for step in between) else 1


def _by_step(pending):
    """The metrics of single steps, from those of calls: a list of (steps of the call, metrics)."""
    return [jax.tree.map(lambda leaf, place=place: leaf[place], metrics) if count > 1 else metrics
            for count, metrics in pending for place in range(count)]


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
            good = f"the last good checkpoint is {f'step {last}' if last else 'none'} in {checkpoints.folder}"
            raise TrainingDiverged(f"{wrong[0].replace('_', ' ')} became {row[wrong[0]]} at step {number}; {good}; try a smaller"
                                   " optimizer.learning_rate")
