"""Which config a run may go on with: its own, but for what does not change what is learnt, where its data lie, and more steps.

Every knob that is not named here is part of what a run is: with another value it is another run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yseg.config import NONE, SELF_TRAINING, Experiment, InputError, knobs

# The parameters of the network are the same, to the bit, whatever these are.
UNLEARNT = ("name", "record.log_every", "record.validate_every", "record.checkpoint_every", "record.keep_checkpoints",
            "record.images", "sampling.reader", "sampling.resident_limit_gib")
# With several steps in a call they say which steps share one, and so how they are rounded.
CALLS = ("record.log_every", "record.validate_every", "record.checkpoint_every")
# Where the same volumes and runs lie now; that they are the same is checked by `yseg.runs.identity`.
PLACES = ("data_dir", *(f"{domain}.{what}" for domain in ("source", "target") for what in ("dataset", "image", "labels")),
          "target_labels.start", "self_training.start")
# For scoring alone, if no label of the target is trained on.
SCORING = ("target.labels", "target.foreground", "target.unlabelled")
LENGTH = ("optimizer.steps", "self_training.steps")
WITH_LENGTH = ("optimizer.warmup_steps",)  # of a fine-tuning and a self-training it follows from the steps


def changed_knobs(before: Experiment, now: Experiment) -> dict[str, tuple[Any, Any]]:
    """The knobs that differ, by name, such as "optimizer.steps": (value before, value now)."""
    pairs = zip(knobs(before, ""), knobs(now, ""), strict=True)
    return {knob.lstrip("."): (old, new) for (knob, _, _, old), (_, _, _, new) in pairs if old != new}


def check_going_on(before: Experiment, now: Experiment, workdir: Path, more_steps: bool) -> None:
    """InputError unless the run of a folder may go on with another config.

    Args:
      before: of the run, resolved.
      now: to go on with, resolved.
      workdir: the folder, for messages.
      more_steps: whether it may have more steps than before.
    """
    changes = changed_knobs(before, now)
    longer = more_steps and now.optimizer.steps > before.optimizer.steps
    for knob, (old, new) in changes.items():
        if _may_change(knob, old, new, now, longer):
            continue
        allowed = "must be another folder, or the same config to continue that run"
        if knob in LENGTH:
            allowed = f"must be {'at least that' if more_steps else 'that'} to continue that run, or another folder"
        raise InputError(f"--workdir={workdir}: holds a run with {knob}={old}, which differs from {knob}={new}; {allowed}")


def _may_change(knob, old, new, config, longer):
    if knob in CALLS:
        return config.sampling.steps_at_once == 1
    if knob in SCORING and config.target_labels.use == NONE:
        return True
    if knob.startswith("self_training.") and config.method != SELF_TRAINING:
        return True  # they are of a second stage, which this run is not
    if knob in LENGTH:
        return longer and new > old
    return knob in UNLEARNT or knob in PLACES or (longer and knob in WITH_LENGTH)


def how_it_goes_on(changes: Mapping[str, tuple[Any, Any]], now: Experiment, step: int) -> str:
    """One line that says what is other from now on, and, of more steps, what they are worth.

    Args:
      changes: see `changed_knobs`.
      now: the config to go on with.
      step: up to which it was trained with the one before.
    """
    said = ", ".join(f"{knob}={new} (before: {old})" for knob, (old, new) in changes.items())
    steps = now.optimizer.steps
    if "optimizer.steps" not in changes:
        return f"goes on with {said}"
    if depends_on_length(now) or any(knob in changes for knob in WITH_LENGTH):
        what = "learning rate" if now.optimizer.schedule == "cosine" else "schedule"
        worth = (f"from step {step} on the {what} is that of a training of {steps} steps, so that the result is not that of"
                 f" {steps} steps in one go")
    else:
        worth = f"the result is that of {steps} steps in one go"
    return f"goes on with {said}; {worth}"


def depends_on_length(config: Experiment) -> bool:
    """Whether a step depends on how many there are: by a cosine schedule, or by the strength of DANN's reversal."""
    return config.optimizer.schedule == "cosine" or (config.method == "dann" and config.adaptation.reversal_gamma > 0)
