"""The configs of trainings that go on from a trained run: a fine-tuning on labels of the target, an adaptation without them."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from yseg.config import (
    ONLY,
    SELF_TRAINING,
    TUNING_RATE,
    TUNING_STEPS,
    Experiment,
    InputError,
    ResolvedExperiment,
    TargetLabels,
    check,
)
from yseg.data.domain import absolute_path, open_own_domain
from yseg.data.target_labels import fraction_seen, label_boxes
from yseg.runs.folder import FIRST_STAGE, read_config
from yseg.runs.identity import identity_of, read_identity
from yseg.runs.moved import Moved
from yseg.runs.resolve import resolve


def supervised(config: ResolvedExperiment, fraction: float, start: str | os.PathLike = "",
               sections: Sequence[int] | None = None) -> ResolvedExperiment:
    """The config of a training on labels of the target only: a fine-tuning of a run, or an oracle from scratch.

    Args:
      config: its seed chooses the labels.
      fraction: share of the target's training box, see `yseg.data.split.share_of`.
      start: workdir of the run whose network is trained further; "" = from scratch.
      sections: numbers of those whose labels may be used; None = all.

    Raises:
      InputError: the fraction is not in [0, 1], or 0 from scratch; the target cannot be read or has no labels.
    """
    if not (0 <= fraction <= 1 and (fraction or start)):
        raise InputError(f"--fraction={fraction}: must be at least 0 and at most 1")
    target = open_own_domain(config, "target", with_labels=True)
    boxes = label_boxes(target.split.train, target.grid, fraction, seed=config.seed, patch_size=config.sampling.patch_size,
                        sections=sections, offset=target.offset)
    before = _fraction_before(config, start, fraction) if start else 0.0
    labels = TargetLabels(ONLY, fraction, boxes, str(Path(start).absolute()) if start else "", before)
    # What is trained on the target has the target's statistics as its own.
    return dataclasses.replace(config, method="ft", target_labels=labels,
                               model=dataclasses.replace(config.model, batch_statistics="training"))


def _fraction_before(config, start, fraction):
    """The share of the target's labels that the run `start` has seen beyond this fraction."""
    started = read_config(start, "--from")
    before = started.target_labels.fraction_before
    own = fraction_seen(started.target_labels) - before
    # Of one seed, a smaller share lies in a larger one; those of two seeds may have nothing in common.
    return min(1.0, before + (max(0.0, own - fraction) if started.seed == config.seed else own))


def finetuning(start: str | os.PathLike, fraction: float, *, steps: int = TUNING_STEPS, learning_rate: float = TUNING_RATE,
               seed: int | None = None, sections: Sequence[int] | None = None, moved: Moved | None = None) -> ResolvedExperiment:
    """The config of `finetune`; labels of some sections alone may be used, see `supervised`."""
    config = read_config(start, "--from", moved)
    steps = steps if fraction else 0
    config = dataclasses.replace(
        config, name=f"{config.name}, fine-tuned on {100 * fraction:g} %", seed=config.seed if seed is None else seed,
        sampling=dataclasses.replace(config.sampling, steps_at_once=max(1, min(config.sampling.steps_at_once, steps))),
        optimizer=dataclasses.replace(config.optimizer, steps=steps, learning_rate=learning_rate,
                                      warmup_steps=max(0, steps // 10)),
        record=dataclasses.replace(config.record, validate_every=0))
    check(config)
    return supervised(config, fraction, start, sections)


def adapting(start: str | os.PathLike, *, steps: int | None = None, seed: int | None = None,
             moved: Moved | None = None) -> ResolvedExperiment:
    """The config of `yseg.adapt`: the second stage of a trained run.

    Raises:
      InputError: no trained run in `start`, or one that was trained on labels of the target.
    """
    config = read_config(start, "--from", moved)
    check_unseen(config, start)
    knobs = dataclasses.replace(config.self_training, steps=config.self_training.steps if steps is None else steps)
    given = dataclasses.replace(config, name=f"{config.name}, self-training", method=SELF_TRAINING, self_training=knobs,
                                seed=config.seed if seed is None else seed,
                                adaptation=dataclasses.replace(config.adaptation, weight=None))
    return second_stage(given, start)


def check_unseen(config: Experiment, start: str | os.PathLike) -> None:
    """InputError if the network of the run `start`, of that config, was trained on labels of the target."""
    if fraction_seen(config.target_labels):
        raise InputError(f"--from={start}: was trained on labels of the target (target_labels.use={config.target_labels.use});"
                         " must be a run without them")


def check_same_target(config: Experiment, started: Experiment, start: str | os.PathLike) -> None:
    """InputError if the run `start`, of the config `started`, has another target than the config, or another part for the test.

    Its network is scored and used in place of the adapted one, with its own statistics of the target.
    """
    for name in ("image", "pixel_size_nm", "split_axis", "test_fraction", "mask"):
        wanted, found = getattr(config.target, name), getattr(started.target, name)
        if wanted != found and not (name == "image" and _same_image(config, start)):
            raise InputError(f"--from={start}: has target.{name}={found}; must have {wanted}, as the target to adapt to")


def _same_image(config, start):
    """Whether the target of a config is that of the run `start`, at another place."""
    known = read_identity(Path(start)).get("target.image")
    return known is not None and known == identity_of(config)["target.image"]


def first_stage(config: Experiment) -> Experiment:
    """The first stage of an experiment whose method is self-training: the training of a network to start from."""
    return dataclasses.replace(config, method=config.self_training.first)


def second_stage(config: Experiment, start: str | os.PathLike) -> ResolvedExperiment:
    """The second stage of an experiment whose method is self-training, from a trained run: its own steps, rate and zoom."""
    knobs = dataclasses.replace(config.self_training, start=absolute_path(str(start)))
    optimizer = dataclasses.replace(config.optimizer, steps=knobs.steps, learning_rate=knobs.learning_rate,
                                    warmup_steps=min(config.optimizer.warmup_steps, knobs.steps // 10))
    return resolve(Experiment(**{field.name: getattr(config, field.name) for field in dataclasses.fields(Experiment)} | {
        "self_training": knobs, "optimizer": optimizer,
        "augmentation": dataclasses.replace(config.augmentation, zoom=knobs.zoom)}))


def last_stage(config: Experiment, workdir: str | os.PathLike) -> ResolvedExperiment:
    """What the run of a workdir trains in the end: the experiment itself, or the second of its two stages."""
    if needs_first_stage(config):
        return second_stage(config, Path(workdir) / FIRST_STAGE)
    if isinstance(config, ResolvedExperiment):  # a second stage has its own steps by now
        return config
    return second_stage(config, config.self_training.start) if config.method == SELF_TRAINING else resolve(config)


def needs_first_stage(config: Experiment) -> bool:
    """Whether a network to start from is to be trained before."""
    return config.method == SELF_TRAINING and not config.self_training.start
