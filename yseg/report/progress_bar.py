"""Progress of a long run: a bar on a terminal, plain lines in a log, nothing if quiet."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, SupportsFloat, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from yseg.report.tables import readable


class Display(Protocol):
    """What `progress` shows."""

    def update(self, done: int, **numbers: SupportsFloat | None) -> None:
        """Show that so much is done in all, and numbers by their names."""


@contextlib.contextmanager
def progress(total: int, description: str, *, start: int = 0, unit: str = "steps", quiet: bool = False, every: float = 10.0,
             stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[Display]:
    """Show how far a run is; use as `with progress(1000, "Training") as bar: bar.update(step, loss=loss)`.

    `update(done, **numbers)` takes what is done in all, including the `start` of a resumed run, and any numbers to show; those of
    the last update that gave some stay. It may be called at every step. The time left follows from the pace of this run alone,
    measured from its first update on, because what comes before is mostly compilation.

    Args:
      total: how many units there are in all.
      description: what is being done, such as "Training".
      start: how many units an earlier run did.
      unit: what is counted, in the plural.
      quiet: show nothing.
      every: least time between two lines of a log, in seconds. The first update and the last one are always written.
      stream: where to write; standard error by default. A bar if it is a terminal, else lines.
      clock: a function that returns seconds.
    """
    stream = stream or sys.stderr
    pace = _Pace(total, start, clock)
    display: _Nothing | _Bar | _Lines
    if quiet:
        display = _Nothing()
    elif Console(file=stream).is_terminal:
        display = _Bar(pace, description, unit, stream)
    else:
        display = _Lines(pace, description, unit, stream, every)
    with display:
        yield display


class _Pace:
    """How far the run is, the time it took and the time left, in seconds."""

    def __init__(self, total: int, start: int, clock: Callable[[], float]) -> None:
        self.total, self.done, self.clock = total, start, clock
        self.began = clock()
        self.first: tuple[int, float] | None = None  # what was done at the first update, and when that was

    def reach(self, done: int) -> None:
        self.done = done
        self.first = self.first or (done, self.clock())

    def text(self) -> str:
        now = self.clock()
        done, began = self.first or (self.done, now)
        left = f"{duration((self.total - self.done) * (now - began) / (self.done - done))} left" if self.done > done else "? left"
        return f"{duration(now - self.began)} elapsed, {left}"


class _Nothing(contextlib.AbstractContextManager):
    def update(self, done: int, **numbers: SupportsFloat | None) -> None:
        """Show nothing."""

    def __exit__(self, *error: object) -> None:
        """There is nothing to end."""


class _Lines(contextlib.AbstractContextManager):
    def __init__(self, pace: _Pace, description: str, unit: str, stream: TextIO, every: float) -> None:
        self.pace, self.description, self.unit, self.stream, self.every = pace, description, unit, stream, every
        self.numbers: Mapping[str, SupportsFloat | None] = {}
        self.written, self.due = pace.done, -float("inf")

    def update(self, done: int, **numbers: SupportsFloat | None) -> None:
        """Write a line if the last one is old enough."""
        self.pace.reach(done)
        self.numbers = numbers or self.numbers
        if done >= self.pace.total or self.pace.clock() >= self.due:
            self._write()

    def __exit__(self, *error: object) -> None:
        if self.pace.done != self.written:
            self._write()

    def _write(self) -> None:
        done = f"{self.description} {self.pace.done}/{self.pace.total} {self.unit}"
        print(", ".join([done, *number_texts(self.numbers), self.pace.text()]), file=self.stream, flush=True)
        self.written, self.due = self.pace.done, self.pace.clock() + self.every


class _Bar(contextlib.AbstractContextManager):
    def __init__(self, pace: _Pace, description: str, unit: str, stream: TextIO) -> None:
        self.pace = pace
        self.numbers: Mapping[str, SupportsFloat | None] = {}
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=16),
                   TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
                   TextColumn("{task.fields[state]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")))
        self.bar = Progress(*columns, console=Console(file=stream), expand=True)
        self.task = self.bar.add_task(description, total=pace.total, completed=pace.done, unit=unit, state="")

    def __enter__(self) -> "_Bar":
        self.bar.start()
        return self

    def update(self, done: int, **numbers: SupportsFloat | None) -> None:
        """Move the bar."""
        self.pace.reach(done)
        self.numbers = numbers or self.numbers
        self.bar.update(self.task, completed=done, state=", ".join([self.pace.text(), *number_texts(self.numbers)]))

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def number_texts(numbers: Mapping[str, SupportsFloat | None]) -> list[str]:
    """["loss 0.4312", ...] of {"loss": 0.43123, ...}; "-" for None."""
    return [f"{readable(name)} {'-' if value is None else f'{float(value):.4g}'}" for name, value in numbers.items()]


def duration(seconds: float) -> str:
    """"1:02:03" of 3723 seconds, "2:03" of 123."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
