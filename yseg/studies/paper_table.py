"""Table 1 as Markdown, from the scores of runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yseg.config import MATCHED
from yseg.methods import METHODS
from yseg.metrics.intervals import bootstrap_iou, mean_and_spread, paired_difference
from yseg.report.tables import markdown_table

# Table 1 of Roels et al. 2019, rows D and H, in per cent.
PAPER = {"VNC": {"ft": 28.70, "mmd": 44.96, "coral": 40.28, "dann": 49.90, "ynet": 49.55},
         "HeLa": {"ft": 8.83, "mmd": 2.33, "coral": 3.46, "dann": 11.80, "ynet": 22.51}}
JOINT_METHOD, JOINT_FRACTION = "ynet", 0.15  # the method and the share of the target labels of the rows that use some
ADAPTED = "_adapted"  # behind the name of a method: self-training that goes on from it
NAMES = {**{name: method.title for name, method in METHODS.items()},
         **{name + ADAPTED: f"{method.title}, then self-training" for name, method in METHODS.items()
            if not method.teaches_itself},
         "joint": f"Y-Net + {100 * JOINT_FRACTION:g} % of the labels", "oracle": "oracle"}
# How a run may be scored (batch statistics, rule of the threshold, views of a tile), and the column of that.
SCORINGS = {("training", "fixed", 1): "training statistics", ("target", "fixed", 1): "target statistics",
            ("target", MATCHED, 1): "matched threshold", ("target", "fixed", 8): "8 views",
            ("training", "fixed", 8): "8 views"}  # of what was trained on the target, whose statistics are those of its training


class Scoring(NamedTuple):
    """A way to score a run: whose batch statistics, the config's threshold ("fixed") or the "matched" one, and how many views of
    a tile: 8 with test-time augmentation.
    """

    statistics: str
    threshold: str = "fixed"
    views: int = 1

    def path(self, workdir: Path) -> Path:
        """The file of the scores in the folder of a run."""
        matched = "_and_matched_threshold" if self.threshold == MATCHED else ""
        views = "" if self.views == 1 else f"_in_{self.views}_views"
        return workdir / f"scored_with_{self.statistics}_statistics{matched}{views}.json"


PLAIN = ("target", "fixed", 1)  # how methods are compared in figures


def way(row: dict[str, Any]) -> tuple[str, str, int]:
    """The Scoring of a line of results.csv, as a tuple."""
    return row["batch_statistics"], row["threshold_rule"], row["views"]


def table1(rows: Sequence[dict[str, Any]], target: str | None = None) -> str:
    """Table 1: mean and standard deviation over seeds, in per cent, a row for each method; and a second table of the uncertainty.

    There are columns for each way of scoring, so that a column compares like with like: "training" statistics are those of the
    training; "target" ones are estimated on target images, and for `source only` are adaptive batch normalisation (AdaBN) alone;
    a matched threshold (`yseg.trained.threshold`) and 8 views (test-time augmentation) come with target statistics. What was
    trained on labels of the target alone stands under its own statistics, "training", and in 8 views with the same. Step memory
    is that of `yseg.studies.step_memory.step_memory_mib`.

    In the second table the interval is the 95 % bootstrap interval over sections and seeds; the gain is that over `source only`
    scored in the same way, on the same resampled sections.

    Args:
      rows: see `yseg.studies.paper.execute`.
      target: of PAPER, if the experiment is one of the paper's: then its figures have a column. HeLa cells have two more beside
        VNC, ours with a dash: that volume was never published, and whoever has one runs configs/epfl_to_hela.py.
    """
    lines, details = [], []
    for key in dict.fromkeys((row["method"], row["fraction"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["fraction"]) == key]
        supervised = key[1] is not None or key[0] in ("joint", "oracle")
        name = NAMES[key[0]] + ("" if key[1] is None else f", fine-tuned on {100 * key[1]:g} %")
        line: dict[str, Any] = {"method": name}
        detail: dict[str, Any] = {"method": name}
        for words in dict.fromkeys(SCORINGS.values()):
            chosen = _of(mine, words)
            line[f"IoU, {words}"] = _spread([row["iou"] for row in chosen])
            detail[f"95 %, {words}"] = _interval(bootstrap_iou([row["counts"] for row in chosen])) if chosen else None
            base = _of([row for row in rows if row["method"] == "ft" and row["fraction"] is None], words)
            detail[f"gain, {words}"] = None
            if chosen and key[0] != "ft" and not supervised and len(base) == len(chosen):
                difference = paired_difference([row["counts"] for row in chosen], [row["counts"] for row in base])
                detail[f"gain, {words}"] = _difference(difference)
            detail[f"object F1, {words}"] = _spread([row["object_f1"] for row in chosen])
        first = {row["seed"]: row for row in mine}.values()
        line["source validation IoU"] = None if supervised else _spread([row["validation_iou"] for row in first])
        seconds = [row["seconds_per_step"] for row in first if row["seconds_per_step"]]
        line["s/step"] = f"{sorted(seconds)[len(seconds) // 2]:.2f}" if seconds else None
        memory = [row["step_memory_mib"] for row in first if row.get("step_memory_mib")]
        line["step memory, MiB"] = f"{max(memory):.0f}" if memory else None
        line["seeds"] = len(first)
        if target:
            line["paper"] = _published(target, key)
        if target == "VNC":
            line |= {"HeLa": None, "paper, HeLa": _published("HeLa", key)}
        lines.append(line)
        details.append(detail)
    return "\n".join(markdown_table(each, list(each[0])) for each in (lines, details))


def _published(target, key):
    """The paper's figure of a method; None if it has none, or the row is fine-tuned."""
    method, fraction = key
    return f"{PAPER[target][method]:.2f}" if method in PAPER[target] and fraction is None else None


def _of(rows, column):
    """The rows of a column, by seed."""
    chosen = (row for row in rows if SCORINGS[row["batch_statistics"], row["threshold_rule"], row["views"]] == column)
    return sorted(chosen, key=lambda row: row["seed"])


def _spread(values: Iterable[float | None]) -> str | None:
    """ "41.2 ± 1.3" in per cent, without the deviation for one value; None if there is none."""
    known = [100 * value for value in values if value is not None]
    mean, deviation = mean_and_spread(known)
    if mean is None:
        return None
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def _interval(bounds):
    return None if bounds is None or None in bounds else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def _difference(difference):
    return None if None in difference else f"{100 * difference[0]:+.1f} ({_interval(difference[1:])})"
