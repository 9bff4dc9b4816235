"""What a training needs, opened and checked, and how it goes: one run, or several at once."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from yseg import parallel
from yseg.config import Experiment, InputError, ResolvedExperiment
from yseg.data.box import evenly_spaced, sections_of
from yseg.data.domain import Domains, check_labels, open_domains, training_region, training_regions
from yseg.data.patches import Reader, ResidentReader, batches_together, make_reader
from yseg.data.prior import prior_of
from yseg.inference.blocks import predict_blocks
from yseg.inference.outputs import score
from yseg.inference.predictor import make_predictors
from yseg.inference.tiling import make_tiling
from yseg.methods import METHODS, images_per_step
from yseg.metrics.counts import scores
from yseg.metrics.shapes import Prior
from yseg.models import onednn, segmentation_network
from yseg.report import loss_curves, panels
from yseg.runs.choice import CHOICE, choice_line, make_choice
from yseg.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    REPORT,
    check_workdir,
    create_workdir,
    load_state,
    locked_workdir,
    read_config,
    reporting,
)
from yseg.runs.history import HISTORY, TRAINED, record, told_of
from yseg.runs.identity import Identity, check_identity, identity_of, read_identity
from yseg.runs.renewal import make_probabilities, make_renewal, parts_of
from yseg.runs.report_file import PAGE, refresh_report
from yseg.runs.resolve import resolve
from yseg.runs.samples import panel_rows
from yseg.runs.stages import check_same_target, check_unseen
from yseg.training.checkpoint import Checkpoints
from yseg.training.loop import Member, fit
from yseg.training.recorder import Recorder, read_metrics
from yseg.training.state import TrainState, create_state, inference_variables
from yseg.training.statistics import make_estimate
from yseg.training.step import make_step
from yseg.training.trackers import open_tracker

# Branches of the seed's key; 0 and 1 are the readers', one for each domain.
INITIALIZATION, TRAINING = 2, 3
VALIDATION_SECTIONS = 8  # of a validation during training; the last one takes all


class Prepared(NamedTuple):
    """A training that may begin: nothing about it has to be changed by the user, and nothing has been written.

    config: resolved; workdir: of the run; start: TrainState before the first step, in NumPy arrays; devices: that it uses;
    domains: its volumes; prior: what the labels look like that it trains on, if they are of two classes; reader: of its patches;
    target_reader: of the target's, for its batch statistics; key, estimate, validate, draw, renew: see
    `yseg.training.loop.Member`; choose: see `yseg.runs.choice.make_choice`, for a method that teaches itself; identity: of the
    volumes; more_steps: whether a run of fewer steps may go on.
    """

    config: ResolvedExperiment
    workdir: Path
    start: TrainState
    devices: parallel.Devices
    domains: Domains
    prior: Prior | None
    reader: Reader
    target_reader: Reader
    key: PRNGKeyArray
    estimate: Callable[..., Any]
    validate: Callable[..., Any]
    draw: Callable[..., Any]
    renew: Callable[..., Any] | None
    choose: Callable[..., Any] | None
    identity: Identity
    more_steps: bool


def prepare(config: Experiment, workdir: str | Path, beside: Prepared | None = None, more_steps: bool = False) -> Prepared:
    """The `Prepared` training of an Experiment in a folder.

    Args:
      config: resolved or not.
      workdir: of the run.
      beside: another training of the same volumes, to share them.
      more_steps: whether a run of fewer steps may go on.

    Raises:
      InputError: anything about the config, the volumes or the workdir that the user has to change.
    """
    config, workdir = config if isinstance(config, ResolvedExperiment) else resolve(config), Path(workdir)
    model, sampling, inference, method = config.model, config.sampling, config.inference, METHODS[config.method]
    network = segmentation_network(model)
    make_tiling(network, inference, [(0, 1)])  # a tile that is too small must not be found after the training
    devices = parallel.devices_for(sampling.batch_size)
    check_workdir(config, workdir, more_steps)
    domains = beside.domains if beside else open_domains(config)
    identity = parallel.on_main(_same_volumes, config, workdir, beside and beside.identity)
    regions = training_regions(config, domains)
    check_labels(config, domains.labelled)
    parts = parts_of(domains.target, sampling.patch_size) if method.teaches_itself else []
    if parts:
        regions["target"] = training_region(domains.target, sampling.patch_size, parts)
    key = jax.random.key(config.seed)
    start = initial_state(config, jax.random.fold_in(key, INITIALIZATION))
    trained_on = {name: region for name, region in regions.items() if name != "target" or method.sees_target}
    read = functools.partial(make_reader, sampling=sampling, sections=model.sections, seed=config.seed, devices=devices)
    reader = read(trained_on, images=_images(beside and beside.reader))
    target_reader = reader.of_target() if method.sees_target else read(
        {"target": regions["target"]}, images=_images(beside and beside.target_reader))
    if sampling.steps_at_once > 1 and not isinstance(reader, ResidentReader):
        raise InputError(f"sampling.steps_at_once={sampling.steps_at_once}: must be 1, as the volumes are larger than"
                         f" sampling.resident_limit_gib={sampling.resident_limit_gib:g} and are read as needed")
    predictors = make_predictors(model, inference)
    labelled = domains.labelled

    def validate(state, last):
        box = labelled.split.validation
        if box.is_empty:
            return {}
        numbers = evenly_spaced(box.start[0], box.stop[0], VALIDATION_SECTIONS)
        parts = [box] if last else [sections_of(box, number, number + 1) for number in numbers]
        blocks = predict_blocks(predictors(inference_variables(state, "training")), labelled.image, labelled.grid,
                                labelled.statistics, regions=parts, model=model, inference=inference)
        counts = score(blocks, labelled.classes, box, thresholds=(inference.threshold,), classes=model.classes)
        return {"validation_iou": scores(counts)["iou"]}

    def draw(state, recorder):
        if not config.record.images:
            return
        rows = panel_rows(config, predictors, state, labelled=labelled, regions=regions)
        if parallel.is_main():
            title = f"{config.name}: step {int(state.step)}"
            path = panels(rows, workdir / REPORT / "panels.png", title, sampling.working_pixel_size_nm)
            recorder.write_picture("panels", path, int(state.step))

    estimate = make_estimate(model, target_reader, devices, seed=config.seed,
                             augmentation=config.augmentation if method.teaches_itself else None)
    prior, renew, choose = prior_of(regions["labelled"]) if model.classes == 2 else None, None, None
    if method.teaches_itself:
        if prior is None:
            raise InputError(f"source.labels={config.source.labels}: the training part has labels of one class; must have"
                             f" foreground and background with method={config.method}")
        probabilities_of = make_probabilities(config, domains.target, parts, predictors)
        of_target: dict[str, Any] = {"volume": domains.target, "region": regions["target"], "prior": prior}
        renew = make_renewal(config, workdir, probabilities_of, reader=reader, estimate=estimate, **of_target)
        choose = make_choice(config, workdir, probabilities_of, start=start, **of_target)
    return Prepared(config, workdir, start, devices, domains, prior, reader, target_reader, jax.random.fold_in(key, TRAINING),
                    estimate, validate, draw, renew, choose, identity, more_steps)


def _same_volumes(config, workdir, identity):
    """The identity of the config's volumes, if it is not known; InputError if the run in the folder began with others."""
    identity = identity or identity_of(config)
    if (workdir / CONFIG).exists():
        check_identity(identity, read_identity(workdir), config, f"--workdir={workdir}")
    return identity


def _images(reader):
    """The images that a reader keeps on the devices; None if there is no such reader."""
    return reader.images if isinstance(reader, ResidentReader) else None


def initial_state(config: Experiment, key: PRNGKeyArray) -> TrainState:
    """The TrainState that a run starts from, in NumPy arrays: new parameters, or the network of a run that is trained further.

    Of such a run the segmentation network is taken, for a fine-tuning with the batch statistics that it uses on the target, for
    self-training with those of its own training.

    Raises:
      InputError: the run to start from is no trained one of this very network, or for self-training has another target, or
        has seen labels of it.
    """
    teaches_itself = METHODS[config.method].teaches_itself
    start = config.self_training.start if teaches_itself else config.target_labels.start
    state = parallel.on_host(create_state(config, key))
    if not start:
        return state
    started = read_config(start, "--from")
    if dataclasses.replace(started.model, batch_statistics="") != dataclasses.replace(config.model, batch_statistics=""):
        raise InputError(f"--from={start}: must hold a network with the same model")
    if teaches_itself:
        check_unseen(started, start)
        check_same_target(config, started, start)
    trained = load_state(start, started, "--from")
    if trained.step < started.optimizer.steps:
        raise InputError(f"--from={start}: is at step {trained.step} of {started.optimizer.steps}; must be a run that was trained"
                         " to its end")
    variables = inference_variables(trained, "training" if teaches_itself else started.model.batch_statistics)
    return state.replace(params={"network": variables["params"]}, batch_stats=variables["batch_stats"],
                         target_stats=trained.target_stats, average=variables["params"] if teaches_itself else {})


def compiled_step(config: Experiment, devices: parallel.Devices | None = None) -> Callable[..., Any]:
    """The training step of a config on some devices; it is compiled when it is first called, once for all seeds."""
    return parallel.map_step(_step(config, devices), devices)


def _step(config, devices):
    network, size = METHODS[config.method].network(config.model, parallel.AXIS), config.sampling.patch_size
    alone = len((devices or parallel.all_devices()).all) == 1
    by_onednn = alone and onednn.pays(config.model, config.optimizer.steps * images_per_step(config) * size * size)
    return make_step(config, network.clone(by_onednn=by_onednn), parallel.AXIS)


def run(trainings: Sequence[Prepared], step_of: Callable[[Sequence[Prepared]], Callable[..., Any]], quiet: bool = False,
        together: bool = False, *, tracker: str = "") -> list[dict[str, Any]]:
    """Train to the end, from the last checkpoint: one training, or several at once.

    Several go on from the last step of which all have a checkpoint, but for those that have come to their end, which stay as they
    are. What some have beyond that step, of an interruption between their checkpoints, they do again.

    Args:
      trainings: the configs of several agree in all that `yseg.training.loop.fit` takes from them.
      step_of: the training step, see there, of those of them that have not come to their end.
      quiet, together: see there.
      tracker: see `yseg.training.trackers.open_tracker`; "" = none.

    Returns:
      For each a dict: the last line of metrics.jsonl, the workdir, and of self-training the choice in one line, or None.
    """
    config, quiet = trainings[0].config, quiet or not parallel.is_main()
    idle = parallel.idle_devices(config.sampling.batch_size)
    if idle and not quiet:
        print(idle, file=sys.stderr, flush=True)
    kept = max(config.record.keep_checkpoints, len(trainings[:2]))  # with one alone, two members might have none in common
    with contextlib.ExitStack() as stack:
        for training in trainings:
            stack.enter_context(locked_workdir(training.workdir))
            check_workdir(training.config, training.workdir, training.more_steps)  # another may have begun before the lock
            line = create_workdir(training.config, training.workdir, training.prior, training.identity)
            if line and not quiet:
                print(line, file=sys.stderr, flush=True)
        opened = [(training, stack.enter_context(Checkpoints(training.workdir / CHECKPOINTS, kept))) for training in trainings]
        for training, checkpoints in opened:
            checkpoints.discard_damaged(training.start)
        if config.optimizer.steps == 0:
            for training, checkpoints in opened:
                parallel.on_main(_record, training)
                checkpoints.save(training.estimate(checkpoints.restore(training.start) or training.start))
        unfinished = [(training, checkpoints) for training, checkpoints in opened
                      if (checkpoints.last_step or 0) < config.optimizer.steps]
        if unfinished:
            _train_on(unfinished, step_of([training for training, _ in unfinished]), config, quiet, together, tracker)
        for training, checkpoints in opened:
            if training.choose:
                training.choose(checkpoints.restore(training.start))
    trained = {training.workdir for training, _ in unfinished}
    return [_ended(training, training.workdir in trained) for training in trainings]


def _train_on(opened, step, config, quiet, together, tracker):
    """Train some [(Prepared, Checkpoints), ...] from the last step that they share."""
    common = max(set.intersection(*(checkpoints.steps for _, checkpoints in opened)), default=None)
    states, members = [], []
    with contextlib.ExitStack() as stack:
        for training, checkpoints in opened:
            parallel.on_main(_record, training)
            checkpoints.discard_after(common)
            if training.choose:  # after more steps it is made anew
                parallel.on_main((training.workdir / CHOICE).unlink, True)
            states.append(training.start if common is None else checkpoints.restore(training.start, common))
            tracked = parallel.on_main(open_tracker, tracker, training.workdir, training.config) if tracker else None
            recorder = stack.enter_context(Recorder(training.workdir, common or 0, parallel.is_main(), tracker=tracked,
                                                    pictures=training.workdir / REPORT))
            members.append(Member(training.key, recorder, checkpoints, training.estimate, training.validate, training.draw,
                                  training.renew))
        first = opened[0][0]
        batch = batches_together([training.reader for training, _ in opened]) if together else first.reader.batch
        several = None if together else several_steps(config, first.reader, first.devices)
        fit(states, step, members, batch, config=config, devices=first.devices, quiet=quiet, together=together, several=several)


def several_steps(config: Experiment, reader: Reader, devices: parallel.Devices | None = None) -> Callable[..., Any] | None:
    """`(state, key) -> (state, metrics [step])`: `config.sampling.steps_at_once` training steps in one call; None for 1."""
    if config.sampling.steps_at_once == 1 or not isinstance(reader, ResidentReader):
        return None

    def cut(given, index, step):
        volumes, keys = given
        return reader.cut(volumes, index, (step, keys))

    steps = parallel.map_steps(_step(config, devices), cut, config.sampling.steps_at_once, devices)
    return lambda state, key: steps(state, (reader.volumes, reader.keys), reader.index, key)


def _ended(training, trained):
    """What is left to do for a run that has been trained, and what is said of it."""
    rows = parallel.on_main(_draw_curves, training.workdir) or []
    parallel.on_main(_report, training.workdir, trained)
    choice = {"choice": choice_line(training.workdir)} if training.choose else {}
    return {"workdir": str(training.workdir), "step": training.config.optimizer.steps, **(rows[-1] if rows else {}), **choice}


def _record(training):
    """Write down that a training begins, or goes on."""
    with reporting(training.workdir, f"a line of {HISTORY}"):
        record(training.workdir, TRAINED, **told_of(training.config, training.domains))


def _report(workdir, trained):
    """Write the report of a run if it was trained now, or has none that knows the choice: else it stays as it is."""
    page, choice = workdir / REPORT / PAGE, workdir / CHOICE
    if trained or not page.exists() or (choice.exists() and choice.stat().st_mtime > page.stat().st_mtime):
        refresh_report(workdir)


def _draw_curves(workdir):
    """Draw the loss curves of a run; returns the rows of its record."""
    rows = read_metrics(workdir)
    if len(rows) > 1:  # one point is no curve
        loss_curves(rows, workdir / REPORT / "loss_curves.png")
    return rows
