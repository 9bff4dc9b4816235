"""Several trainings that differ in their seed, or in numbers of what is minimised: at once on an accelerator.

A small network leaves most of a GPU idle, so there the members of a population share one step: `jax.vmap` of the training step
over states, patches, keys and numbers. On a CPU, where a convolution with weights of its own for each member is many times
slower, they are trained one after the other, through one compiled step where only the seeds differ.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from yseg import parallel
from yseg.config import Experiment, InputError, knobs
from yseg.methods import METHODS
from yseg.runs.folder import CONFIG, FIRST_STAGE, check_workdir
from yseg.runs.session import Prepared, compiled_step, prepare, run
from yseg.runs.stages import first_stage, last_stage, needs_first_stage
from yseg.training.step import make_step
from yseg.training.trackers import check_tracker

SEED = "seed"
# What only says how a run is named or which labels its seed has chosen.
NAMES = ("name", "target_labels.boxes")


def numbers_of(method: str) -> tuple[str, ...]:
    """The knobs that may differ between members of one step: numbers of what is minimised, and the learning rate."""
    return ("optimizer.learning_rate", *(f"adaptation.{name}" for name in METHODS[method].weights))


def train_population(configs: Sequence[Experiment], workdirs: Sequence[str | os.PathLike], together: bool | None = None, *,
                     quiet: bool = False, more_steps: bool = False, tracker: str = "") -> Iterator[dict[str, Any]]:
    """Train or continue one run for each config; each ends as it would alone (to float rounding, if they step together).

    Args:
      configs: of none, nothing is trained.
      workdirs: their folders, all different.
      together: step all at once, which takes the memory of all; None = on an accelerator, if the configs allow it.
      quiet: show no progress.
      more_steps: whether runs of fewer steps go on, see `yseg.experiment.train`.
      tracker: a service that is told of them, one of `yseg.training.trackers.TRACKERS`; "" = none.

    Returns:
      Iterator of dicts, see `yseg.experiment.train`, in the order of the configs, each as soon as its training has ended.

    Raises:
      InputError: see `yseg.experiment.train`; what configs and workdirs alone show, before any training has begun. `together`
        and configs that differ in anything but their seeds and `numbers_of` the method.
      TrainingDiverged: if they step together, one of them ends all.
    """
    check_tracker(tracker)
    folders = [Path(workdir) for workdir in workdirs]
    resolved = [last_stage(config, folder) for config, folder in zip(configs, folders, strict=True)]
    for config, folder in zip(resolved, folders, strict=True):  # before hours of training: a folder of another config
        check_workdir(config, folder, more_steps)
    if not resolved:
        return iter(())
    different, numbers = differing(resolved), numbers_of(resolved[0].method)
    wrong = [knob for knob in different if knob not in (SEED, *NAMES, *numbers)]
    if together and wrong:
        raise InputError(f"{wrong[0]}: must be the same for all runs that are trained at once; only seeds and"
                         f" {', '.join(numbers)} may differ")
    at_once, teaches_itself = resolved[0].sampling.steps_at_once, METHODS[resolved[0].method].teaches_itself
    if together and teaches_itself:
        raise InputError(f"method={resolved[0].method}: must be another for runs that are trained at once")
    if together and at_once > 1:
        raise InputError(f"sampling.steps_at_once={at_once}: must be 1 for runs that are trained at once")
    if together is None:
        together = (len(resolved) > 1 and parallel.has_accelerator() and not wrong and at_once == 1 and not teaches_itself)
    first = [(first_stage(config), folder / FIRST_STAGE) for config, folder in zip(configs, folders, strict=True)
             if needs_first_stage(config)]
    # A network that an adaptation has started from stays as it is.
    begun = any((folder / CONFIG).exists() for folder in folders)
    for _ in train_population([config for config, _ in first], [folder for _, folder in first], together or None,
                              quiet=quiet, more_steps=more_steps and not begun, tracker=tracker):
        pass
    if together:
        return iter(_at_once(resolved, folders, [knob for knob in numbers if knob in different], quiet, more_steps, tracker))
    return _in_turn(resolved, folders, set(different) <= {SEED, *NAMES}, quiet, more_steps, tracker)


def _in_turn(configs, workdirs, one_step, quiet, more_steps, tracker):
    """Train one after the other; `one_step`: the configs differ in what no step depends on."""
    shared = None
    for config, workdir in zip(configs, workdirs, strict=True):
        training = prepare(config, workdir, more_steps=more_steps)
        step = shared or compiled_step(config, training.devices)
        shared = step if one_step else None
        yield run([training], functools.partial(_same, step), quiet, tracker=tracker)[0]


def _same(step, _):
    """The step, whatever is left to be trained."""
    return step


def _at_once(configs, workdirs, names, quiet, more_steps, tracker):
    """Train all in one step; `names`: of the knobs that differ and are numbers."""
    members: list[Prepared] = []
    for config, workdir in zip(configs, workdirs, strict=True):
        members.append(prepare(config, workdir, members[0] if members else None, more_steps))

    def step_of(left):
        values = {name: jnp.float32([knob_value(member.config, name) for member in left]) for name in names}
        return population_step(configs[0], values, members[0].devices)

    return run(members, step_of, quiet, together=True, tracker=tracker)


def differing(configs: Sequence[Experiment]) -> list[str]:
    """The knobs that are not the same in all configs, such as "optimizer.steps"."""
    listed = [list(knobs(config, "")) for config in configs]
    return [knob[0].lstrip(".") for knob, *others in zip(*listed, strict=True) if any(other[3] != knob[3] for other in others)]


def population_step(config: Experiment, values: Mapping[str, Array],
                    devices: parallel.Devices | None = None) -> Callable[..., Any]:
    """The training step of several members on some devices.

    As `yseg.training.step.make_step`, with an axis of members in front of state, patches, key and metrics.

    Args:
      config: of any of them.
      values: of knobs in which they differ, by name: float32 [member].
      devices: see `yseg.parallel.devices_for`.
    """
    network = METHODS[config.method].network(config.model, parallel.AXIS)

    def step(state, raw, key):
        def of_member(state, raw, key, own):
            return make_step(_with(config, own), network, parallel.AXIS)(state, raw, key)

        return jax.vmap(of_member)(state, raw, key, dict(values))

    return parallel.map_step(step, devices)


def knob_value(config: Experiment, name: str) -> Any:
    """The value of a knob, such as "optimizer.steps"."""
    return functools.reduce(getattr, name.split("."), config)


def _with(config, values):
    """The config with other values for some knobs, which may be traced."""
    for name, value in values.items():
        group, knob = name.split(".")
        config = dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **{knob: value})})
    return config
