"""What a training needs, opened and checked, and how it goes: one run, or several at once."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from yseg import parallel
from yseg.config import Experiment, InputError, labelled_domain, uses_target
from yseg.data import target_labels
from yseg.data.box import evenly_spaced, parse_region, sections_of
from yseg.data.domain import open_domain, resolve, training_region
from yseg.data.patches import ResidentReader, make_reader
from yseg.inference.blocks import predict_blocks
from yseg.inference.outputs import score
from yseg.inference.predictor import make_predictors
from yseg.inference.tiling import make_tiling
from yseg.metrics.counts import scores
from yseg.models import build_network
from yseg.report import loss_curves, panels
from yseg.runs.folder import CHECKPOINTS, REPORT, check_workdir, create_workdir, load_state, read_config
from yseg.runs.samples import panel_rows
from yseg.training.checkpoint import Checkpoints
from yseg.training.loop import Member, fit
from yseg.training.recorder import Recorder, read_metrics
from yseg.training.state import create_state, inference_variables
from yseg.training.statistics import make_estimate
from yseg.training.step import make_step

# Branches of the seed's key; 0 and 1 are the readers', one for each domain.
INITIALIZATION, TRAINING = 2, 3
VALIDATION_SECTIONS = 8  # of a validation during training; the last one takes all


class Prepared(NamedTuple):
    """A training that may begin: nothing about it has to be changed by the user, and nothing has been written.

    config: resolved, with its labels chosen; workdir: of the run; start: TrainState before the first step, in NumPy arrays;
    reader, key, estimate, validate, draw: see `yseg.training.loop.Member`.
    """

    config: Experiment
    workdir: Path
    start: Any
    reader: Any
    key: jax.Array
    estimate: Callable
    validate: Callable
    draw: Callable


def prepare(config, workdir):
    """The `Prepared` training of an Experiment in a folder.

    Raises:
      InputError: anything about the config, the volumes or the workdir that the user has to change.
    """
    config, workdir = target_labels.choose_labels(resolve(config)), Path(workdir)
    network = build_network(config.model, config.method, parallel.AXIS)
    make_tiling(network, config.inference, [(0, 1)])  # a tile that is too small must not be found after the training
    check_workdir(config, workdir)
    working = config.sampling.working_pixel_size_nm
    name = labelled_domain(config)
    labelled = open_domain(getattr(config, name), working, f"--config.{name}", with_labels=True)
    target = open_domain(config.target, working, "--config.target", with_labels=False)
    parts = [parse_region(text, labelled.image.shape, "--config.finetuning.boxes") for text in config.finetuning.boxes]
    labelled_region, target_region = training_region(labelled, config, parts or None), training_region(target, config)
    key = jax.random.key(config.seed)
    start = initial_state(config, jax.random.fold_in(key, INITIALIZATION))
    sees_target = uses_target(config.method)
    reader = make_reader(labelled_region, target_region if sees_target else None, config, target_labels.labelled_region(config))
    predictors = make_predictors(config)

    def validate(state, last):
        box = labelled.split.validation
        if box.is_empty:
            return {}
        predict = predictors(inference_variables(state, "source"))
        numbers = evenly_spaced(box.start[0], box.stop[0], VALIDATION_SECTIONS)
        parts = [box] if last else [sections_of(box, number, number + 1) for number in numbers]
        blocks = itertools.chain.from_iterable(
            predict_blocks(predict, network, labelled.image, labelled.grid, labelled_region.statistics, part, config)
            for part in parts)
        counts = score(blocks, labelled.labels, labelled.rule, box, (config.inference.threshold,), config.model.classes)
        return {"validation_iou": scores(counts)["iou"]}

    def draw(state, recorder):
        if not config.record.images:
            return
        rows = panel_rows(config, network, predictors, state, (labelled, labelled_region), (target, target_region))
        if parallel.is_main():
            title = f"{config.name}: step {int(state.step)}"
            path = panels(rows, workdir / REPORT / "panels.png", title, working)
            recorder.write_picture("panels", path, int(state.step))

    estimate = make_estimate(config, target_region, reader if sees_target else None)
    return Prepared(config, workdir, start, reader, jax.random.fold_in(key, TRAINING), estimate, validate, draw)


def initial_state(config, key):
    """The TrainState that a run starts from, in NumPy arrays: new parameters, or the network that a fine-tuning continues.

    Of a trained run the segmentation network is taken, with the batch statistics that it uses on the target.

    Raises:
      InputError: `config.finetuning.start` is no trained run of this very network.
    """
    state = parallel.on_host(create_state(config, key))
    if not config.finetuning.start:
        return state
    started = read_config(config.finetuning.start, "--from")
    if dataclasses.replace(started.model, batch_statistics="") != dataclasses.replace(config.model, batch_statistics=""):
        raise InputError(f"--from={config.finetuning.start}: must hold a network with the same --config.model")
    trained = load_state(config.finetuning.start, started, "--from")
    if trained.step < started.optimizer.steps:
        raise InputError(f"--from={config.finetuning.start}: is at step {trained.step} of {started.optimizer.steps}; must be a"
                         " run that was trained to its end")
    variables = inference_variables(trained, started.model.batch_statistics)
    return state.replace(params={"network": variables["params"]}, batch_stats=variables["batch_stats"])


def compiled_step(config):
    """The training step of a config on all devices; it is compiled when it is first called, once for all seeds."""
    return parallel.map_step(_step(config))


def _step(config):
    return make_step(config, build_network(config.model, config.method, parallel.AXIS), parallel.AXIS)


def run(trainings, step, quiet=False, together=False):
    """Train to the end, from the last checkpoint: one training, or several at once.

    Several go on from the last step of which all have a checkpoint, but for those that have come to their end, which stay as they
    are. What some have beyond that step, of an interruption between their checkpoints, they do again.

    Args:
      trainings: list of `Prepared`; the configs of several agree in all that `yseg.training.loop.fit` takes from them.
      step, quiet, together: see there.

    Returns:
      For each a dict: the last line of metrics.jsonl and the workdir.
    """
    config, quiet = trainings[0].config, quiet or not parallel.is_main()
    for training in trainings:
        create_workdir(training.config, training.workdir)
    kept = max(config.record.keep_checkpoints, len(trainings[:2]))  # with one alone, two members might have none in common
    with contextlib.ExitStack() as stack:
        opened = [(training, stack.enter_context(Checkpoints(training.workdir / CHECKPOINTS, kept))) for training in trainings]
        if config.optimizer.steps == 0:
            for training, checkpoints in opened:
                checkpoints.save(training.estimate(checkpoints.restore(training.start) or training.start))
        unfinished = [(training, checkpoints) for training, checkpoints in opened
                      if (checkpoints.last_step or 0) < config.optimizer.steps]
        if unfinished:
            _train_on(unfinished, step, config, quiet, together)
    return [_ended(training) for training in trainings]


def _train_on(opened, step, config, quiet, together):
    """Train some [(Prepared, Checkpoints), ...] from the last step that they share."""
    common = max(set.intersection(*(checkpoints.steps for _, checkpoints in opened)), default=None)
    states, members = [], []
    with contextlib.ExitStack() as stack:
        for training, checkpoints in opened:
            checkpoints.discard_after(common)
            states.append(training.start if common is None else checkpoints.restore(training.start, common))
            recorder = stack.enter_context(Recorder(training.workdir, common or 0, parallel.is_main()))
            members.append(Member(training.reader, training.key, recorder, checkpoints, training.estimate, training.validate,
                                  training.draw))
        several = several_steps(config, members[0].reader) if len(members) == 1 and not together else None
        fit(states, step, members, config, quiet, together, several)


def several_steps(config, reader):
    """`config.sampling.steps_at_once` training steps in one call; None for 1, or a reader that streams."""
    if config.sampling.steps_at_once == 1 or not isinstance(reader, ResidentReader):
        return None
    return parallel.map_steps(_step(config), reader.cut, config.sampling.steps_at_once)


def _ended(training):
    """What is left to do for a run that has been trained, and what is said of it."""
    rows = read_metrics(training.workdir)
    if parallel.is_main() and rows:
        loss_curves(rows, training.workdir / REPORT / "loss_curves.png")
    parallel.wait_for_all("trained")
    return {"workdir": str(training.workdir), "step": training.config.optimizer.steps, **(rows[-1] if rows else {})}
