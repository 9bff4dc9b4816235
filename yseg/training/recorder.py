"""The record of a training: metrics.jsonl, one object a line, and the same as TensorBoard events."""

import json
import os
from pathlib import Path
from typing import Any

import matplotlib.image
from tensorboardX import SummaryWriter

from yseg.files import write_whole

METRICS = "metrics.jsonl"


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, dicts with "step"; up to the first line that is not whole. Empty if there is no file."""
    path = Path(workdir) / METRICS
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
        if not line.endswith("\n"):
            break
    return rows


class Recorder:
    """Appends to the record of a workdir. Use as a context manager.

    Args:
      workdir: the folder of the run.
      step: the steps done so far; what was recorded beyond it, by a run that was interrupted, is dropped.
      active: whether anything is written: only one process of a job does.
    """

    def __init__(self, workdir: str | os.PathLike, step: int, active: bool = True) -> None:
        self._workdir, self._step, self._active = Path(workdir), step, active

    def __enter__(self):
        if self._active:
            kept = [row for row in read_metrics(self._workdir) if row["step"] <= self._step]
            write_whole(self._workdir / METRICS, "".join(_line(row) for row in kept))
            self._file = open(self._workdir / METRICS, "a", encoding="utf-8")
            # TensorBoard, too, drops what it has of this step and later ones.
            self._events = SummaryWriter(str(self._workdir), purge_step=self._step + 1 if self._step else None)
        return self

    def __exit__(self, *error):
        if self._active:
            self._file.close()
            self._events.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append a row: a dict with "step" and finite numbers; None = undefined."""
        if not self._active:
            return
        self._file.write(_line(row))
        self._file.flush()
        for name, value in row.items():
            if name != "step" and value is not None:
                self._events.add_scalar(name, value, row["step"])

    def write_picture(self, name: str, path: str | os.PathLike, step: int) -> None:
        """Show a PNG file in TensorBoard."""
        if self._active:
            self._events.add_image(name, matplotlib.image.imread(Path(path))[..., :3], step, dataformats="HWC")


def _line(row):
    return json.dumps(row, allow_nan=False) + "\n"
