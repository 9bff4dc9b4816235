"""The record of a training: metrics.jsonl, one object a line, and the same as TensorBoard events."""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from yseg.files import write_whole
from yseg.training.trackers import Tracker

METRICS = "metrics.jsonl"


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, dicts with "step"; up to the first line that is not whole. Empty if there is no file."""
    path = Path(workdir) / METRICS
    rows = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or "step" not in row:
            break
        rows.append(row)
        if not line.endswith("\n"):
            break
    return rows


class Recorder:
    """Appends to the record of a workdir. Use as a context manager.

    Args:
      workdir: the folder of the run.
      step: the steps done so far; what was recorded beyond it, by a run that was interrupted, is dropped.
      active: whether anything is written: only one process of a job does.
      tracker: a service that is told the same, and of the pictures those that there are at the end, in the folder `pictures`.
      pictures: that folder.
    """

    def __init__(self, workdir: str | os.PathLike, step: int, active: bool = True, *, tracker: Tracker | None = None,
                 pictures: Path | None = None) -> None:
        self._workdir, self._step, self._active = Path(workdir), step, active
        self._tracker, self._pictures = tracker, pictures

    def __enter__(self):
        if self._active:
            kept = [row for row in read_metrics(self._workdir) if row["step"] <= self._step]
            write_whole(self._workdir / METRICS, "".join(_line(row) for row in kept))
            self._file = open(self._workdir / METRICS, "a", encoding="utf-8")
            # Written here and now: the library's own writer has a thread, and waits for it forever once a full disk has ended it.
            self._events = EventsWriter(str(self._workdir / "events"))
            if self._step:  # TensorBoard, too, drops what it has of later steps
                self._add_event(self._step + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        return self

    def __exit__(self, *error):
        if self._active:
            with contextlib.suppress(OSError):  # what came before them says it, too
                self._events.close()
            self._file.close()
        if self._tracker:
            pictures = sorted(path for path in self._pictures.glob("*.png") if path.name[0] != ".") if self._pictures else []
            self._tracker.finish(pictures, error[0] is None)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row: a dict with "step" and finite numbers; None = undefined."""
        if not self._active:
            return
        self._file.write(_line(row))
        self._file.flush()
        numbers = {name: value for name, value in row.items() if name != "step" and value is not None}
        for name, value in numbers.items():
            self._add_event(row["step"], summary=summary.scalar(name, value))
        self._events.flush()
        if self._tracker:
            self._tracker.log(row["step"], numbers)

    def write_picture(self, name: str, path: str | os.PathLike, step: int) -> None:
        """Show a PNG file in TensorBoard."""
        if self._active:
            picture = np.asarray(matplotlib.image.imread(Path(path)))[..., :3]
            self._add_event(step, summary=summary.image(name, picture, dataformats="HWC"))

    def _add_event(self, step, **content):
        self._events.write_event(event_pb2.Event(wall_time=time.time(), step=step, **content))


def _line(row):
    return json.dumps(row, allow_nan=False) + "\n"
