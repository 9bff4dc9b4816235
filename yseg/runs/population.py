"""Several trainings that differ in their seed, or in numbers of what is minimised: at once on an accelerator.

A small network leaves most of a GPU idle, so there the members of a population share one step: `jax.vmap` of the training step
over states, patches, keys and numbers. On a CPU, where a convolution with weights of its own for each member is many times
slower, they are trained one after the other, through one compiled step where only the seeds differ.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from yseg import parallel
from yseg.config import InputError, knobs
from yseg.data.domain import resolve
from yseg.data.target_labels import choose_labels
from yseg.models import build_network
from yseg.runs.folder import check_workdir
from yseg.runs.session import compiled_step, prepare, run
from yseg.training.step import make_step

SEED = "--config.seed"
# What only says how a run is named or which labels its seed has chosen.
LABELS = ("--config.name", "--config.labelled_boxes", "--config.finetuning.boxes")
NUMBERS = ("--config.optimizer.learning_rate", "--config.adaptation.weight", "--config.adaptation.reconstruction_source",
           "--config.adaptation.reconstruction_target")  # what may differ between members of one step


def train_population(configs, workdirs, together=None, quiet=False):
    """Train or continue one run for each config; each ends as it would alone (to float rounding, if they step together).

    Args:
      configs: list of `yseg.config.Experiment`.
      workdirs: list of their folders, all different.
      together: step all at once, which takes the memory of all; None = on an accelerator, if the configs allow it.
      quiet: show no progress.

    Returns:
      Iterator of dicts, see `yseg.experiment.train`, in the order of the configs, each as soon as its training has ended.

    Raises:
      InputError: see `yseg.experiment.train`; what configs and workdirs alone show, before any training has begun. `together`
        and configs that differ in anything but their seeds and NUMBERS.
      TrainingDiverged: if they step together, one of them ends all.
    """
    configs, workdirs = [choose_labels(resolve(config)) for config in configs], [Path(workdir) for workdir in workdirs]
    for config, workdir in zip(configs, workdirs, strict=True):  # before hours of training: a folder of another config
        check_workdir(config, workdir)
    different = differing(configs)
    wrong = [flag for flag in different if flag not in (SEED, *LABELS, *NUMBERS)]
    if together and wrong:
        raise InputError(f"{wrong[0]}: must be the same for all runs that are trained at once; only seeds and"
                         f" {', '.join(NUMBERS)} may differ")
    if together is None:
        together = len(configs) > 1 and parallel.has_accelerator() and not wrong
    if together:
        return iter(_at_once(configs, workdirs, [flag for flag in NUMBERS if flag in different], quiet))
    return _in_turn(configs, workdirs, set(different) <= {SEED, *LABELS}, quiet)


def _in_turn(configs, workdirs, one_step, quiet):
    """Train one after the other; `one_step`: the configs differ in what no step depends on."""
    shared = compiled_step(configs[0]) if one_step else None
    for config, workdir in zip(configs, workdirs, strict=True):
        yield run([prepare(config, workdir)], shared or compiled_step(config), quiet)[0]


def _at_once(configs, workdirs, flags, quiet):
    """Train all in one step; `flags`: of the NUMBERS that differ."""
    members = []
    for config, workdir in zip(configs, workdirs, strict=True):
        training = prepare(config, workdir)
        numbers = {flag: jnp.float32(value) for flag, _, _, value in knobs(config) if flag in flags}
        members.append(training._replace(key=(training.key, numbers)))
    return run(members, population_step(configs[0]), quiet, together=True)


def differing(configs):
    """The flags of the knobs that are not the same in all configs."""
    listed = [list(knobs(config)) for config in configs]
    return [knob[0] for knob, *others in zip(*listed, strict=True) if any(other[3] != knob[3] for other in others)]


def population_step(config):
    """The training step of several members on all devices.

    As `yseg.training.step.make_step`, with an axis of members in front of state, patches and metrics, and as its key (random keys
    [member], dict from a flag of NUMBERS to its values [member]).
    """
    network = build_network(config.model, config.method, parallel.AXIS)

    def step(state, raw, key):
        key, numbers = key
        return make_step(_with(config, numbers), network, parallel.AXIS)(state, raw, key)

    return parallel.map_step(jax.vmap(step))


def _with(config, numbers):
    """The config with other values for some flags, which may be traced."""
    for flag, value in numbers.items():
        group, name = flag.removeprefix("--config.").split(".")
        config = dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **{name: value})})
    return config
