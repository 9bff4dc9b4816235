"""The choice, without a label of the target, between the network of a self-training and the one that it started from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from yseg import parallel
from yseg.config import InputError, ResolvedExperiment
from yseg.data.depth import depth_weights
from yseg.data.domain import Volume
from yseg.data.patches import Region
from yseg.data.pseudo_labels import tissue_values
from yseg.data.threshold import bounded_threshold
from yseg.files import write_whole
from yseg.metrics.shapes import Prior
from yseg.metrics.signs import judge_adaptation, signs_of
from yseg.runs.renewal import PSEUDO_LABELS, Probabilities, averages, tissue_of
from yseg.training.state import TrainState

CHOICE = "choice.json"  # file of a run
ADAPTED, UNADAPTED = "adapted", "unadapted"
_EXCESS = 0.1  # more foreground than the source's share by this part of it is not yet too much: parts of one tissue differ so


class Choice(NamedTuple):
    """Whether the adapted network of a run is used, why, and the threshold of its probabilities; None = the config's."""

    adapted: bool
    reason: str
    threshold: float | None


def make_choice(config: ResolvedExperiment, workdir: Path, probabilities_of: Probabilities, *, volume: Volume, region: Region,
                prior: Prior, start: TrainState) -> Callable[[TrainState], None]:
    """`choose(state)` writes into the folder of a run whether the network of its last state is used, why, and its threshold.

    Both networks are judged by what they say of the target's training part, see `yseg.metrics.signs.judge_adaptation`. The
    threshold of the adapted one, if it calls over a tenth more foreground than the source has, is raised towards that at which
    it calls as much, by `config.self_training.threshold_shift` at most, see `yseg.data.threshold.bounded_threshold`.

    Args:
      config: of the run.
      workdir: its folder.
      probabilities_of: see `yseg.runs.renewal.make_probabilities`.
      volume, region: of the target; the parts of the region are those of `probabilities_of`.
      prior: of the source.
      start: before the first step.
    """
    usual, shift = config.inference.threshold, config.self_training.threshold_shift

    def write(before, after):
        # Averages in depth would hide whether sections agree.
        tissue = tissue_of(volume, region)
        signs, adapted_signs = (signs_of([part >= usual for part in found], prior, config.sampling.working_pixel_size_nm, tissue)
                                for found in (before, after))
        verdict = judge_adaptation(signs, adapted_signs, prior)
        weights = depth_weights(config.inference.depth_nm, volume.spacing_nm)
        known = tissue_values(averages(after, weights, tissue), tissue)
        threshold = bounded_threshold(known, prior.share, usual=usual, shift=shift, excess=_EXCESS)
        content = {"use": ADAPTED if verdict.adapted else UNADAPTED, "reason": verdict.reason, "threshold": threshold,
                   UNADAPTED: signs._asdict(), ADAPTED: adapted_signs._asdict()}
        write_whole(workdir / CHOICE, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def choose(state):
        if (workdir / PSEUDO_LABELS).exists() and not (workdir / CHOICE).exists():  # of no step, there is nothing to choose
            parallel.on_main(write, probabilities_of(start), probabilities_of(state))

    return choose


def read_choice(workdir: Path, flag: str = "--workdir") -> Choice | None:
    """What was chosen for a run; None if there was nothing to choose; InputError, naming the flag, if the file is damaged."""
    if not (workdir / CHOICE).is_file():
        return None
    try:
        content: dict[str, Any] = json.loads((workdir / CHOICE).read_text(encoding="utf-8"))
        threshold = content.get("threshold")  # of earlier versions there is none
        return Choice({ADAPTED: True, UNADAPTED: False}[content["use"]], str(content["reason"]),
                      None if threshold is None else float(threshold))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{flag}={workdir}: {CHOICE} is damaged; must be as the training wrote it") from error


def choice_line(workdir: Path) -> str | None:
    """One line that says which network of a run is used, and why; None if there was nothing to choose."""
    choice = read_choice(workdir)
    if choice is None:
        return None
    used, other = ("adapted", "--noadapted") if choice.adapted else ("unadapted", "--adapted")
    return f"the {used} network is used ({other} of launch.evaluate and launch.segment: the other): {choice.reason}"
