"""The choice, without a label of the target, between the network of a self-training and the one that it started from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yseg import parallel
from yseg.config import InputError, ResolvedExperiment
from yseg.files import write_whole
from yseg.metrics.shapes import Prior
from yseg.metrics.signs import Verdict, judge_adaptation, signs_of
from yseg.runs.renewal import PSEUDO_LABELS, Probabilities, read_probabilities
from yseg.training.state import TrainState

CHOICE = "choice.json"  # file of a run
ADAPTED, UNADAPTED = "adapted", "unadapted"


def make_choice(config: ResolvedExperiment, workdir: Path, probabilities_of: Probabilities,
                prior: Prior) -> Callable[[TrainState], None]:
    """`choose(state)` writes into the folder of a run whether the network of its last state is used, and why.

    Both are judged by what they say of the target's training part, see `yseg.metrics.signs.judge_adaptation`.

    Args:
      config: of the run.
      workdir: its folder; the probabilities of step 0 in it are those of the network that it started from.
      probabilities_of: see `yseg.runs.renewal.make_probabilities`.
      prior: of the source.
    """

    def write(state):
        first = workdir / PSEUDO_LABELS / "0"
        if (workdir / CHOICE).exists() or not first.exists():  # of no step, there is nothing to choose
            return
        before, after = (signs_of(probabilities >= config.inference.threshold, prior, config.sampling.working_pixel_size_nm)
                         for probabilities in (read_probabilities(first), probabilities_of(state)))
        verdict = judge_adaptation(before, after, prior)
        content = {"use": ADAPTED if verdict.adapted else UNADAPTED, "reason": verdict.reason,
                   UNADAPTED: before._asdict(), ADAPTED: after._asdict()}
        write_whole(workdir / CHOICE, json.dumps(content, indent=2, allow_nan=False) + "\n")

    return lambda state: parallel.on_main(write, state)


def read_choice(workdir: Path, flag: str = "--workdir") -> Verdict | None:
    """What was chosen for a run; None if there was nothing to choose; InputError, naming the flag, if the file is damaged."""
    if not (workdir / CHOICE).is_file():
        return None
    try:
        content: dict[str, Any] = json.loads((workdir / CHOICE).read_text(encoding="utf-8"))
        return Verdict({ADAPTED: True, UNADAPTED: False}[content["use"]], str(content["reason"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{flag}={workdir}: {CHOICE} is damaged; must be as the training wrote it") from error


def choice_line(workdir: Path) -> str | None:
    """One line that says which network of a run is used, and why; None if there was nothing to choose."""
    verdict = read_choice(workdir)
    if verdict is None:
        return None
    used, other = ("adapted", "--noadapted") if verdict.adapted else ("unadapted", "--adapted")
    return f"the {used} network is used ({other} of launch.evaluate and launch.segment: the other): {verdict.reason}"
