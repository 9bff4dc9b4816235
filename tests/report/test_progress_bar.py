"""Progress: what a log shows and how often, on which pace the time left rests, and a bar on a terminal."""

import io
import os

import pytest

from yseg.report import progress
from yseg.report.progress_bar import duration


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def log(updates, total=100, **options):
    """The lines written for `updates`, a list of (seconds since the start, done, numbers)."""
    clock, stream = Clock(), io.StringIO()
    with progress(total, "Training", stream=stream, clock=clock, **options) as bar:
        for clock.now, done, numbers in updates:
            bar.update(done, **numbers)
    return stream.getvalue().splitlines()


def test_a_log_line_holds_what_is_done_the_numbers_and_the_times():
    lines = log([(30.0, 1, {}), (40.0, 11, {"loss": 0.43219, "images_per_second": 31.66, "validation_iou": None})])
    assert lines == [
        "Training 1/100 steps, 0:30 elapsed, ? left",
        "Training 11/100 steps, loss 0.4322, images/s 31.66, validation IoU -, 0:40 elapsed, 1:29 left",
    ]


def test_lines_are_rate_limited_but_the_first_and_the_last_are_written():
    lines = log([(float(second), second, {}) for second in range(1, 58)], every=10.0, unit="tiles")
    assert [line.split()[1] for line in lines] == ["1/100", "11/100", "21/100", "31/100", "41/100", "51/100", "57/100"]
    assert all("tiles" in line for line in lines)


def test_the_last_step_is_written_once():
    assert len(log([(0.0, 99, {}), (1.0, 100, {})])) == 2


def test_the_time_left_of_a_resumed_run_follows_from_its_own_pace():
    lines = log([(0.0, 81, {}), (20.0, 82, {})], start=80)
    assert lines[-1].startswith("Training 82/100")
    assert lines[-1].endswith("0:20 elapsed, 6:00 left")  # 18 steps of 20 s


def test_numbers_stay_until_newer_ones_come():
    assert "loss 0.5," in log([(0.0, 1, {"loss": 0.5}), (20.0, 2, {})])[-1]


def test_nothing_is_written_without_updates():
    assert log([]) == []


def test_quiet_is_silent(capfd):
    with progress(3, "Training", quiet=True) as bar:
        bar.update(1, loss=1.0)
    assert log([(0.0, 1, {})], quiet=True) == []
    assert capfd.readouterr() == ("", "")


def test_lines_go_to_standard_error(capfd):
    with progress(1, "Training") as bar:
        bar.update(1)
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith("Training 1/1 steps")


@pytest.mark.parametrize("options", [{}, {"quiet": True}])
def test_an_error_in_the_run_passes_through(options):
    def run():
        with progress(2, "Training", stream=io.StringIO(), **options) as bar:
            bar.update(1)
            raise KeyError("step")

    with pytest.raises(KeyError, match="step"):
        run()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    reader, writer = os.openpty()
    shown = b""
    with open(writer, "w", encoding="utf-8") as terminal:
        with progress(4, "Training", stream=terminal) as bar:
            bar.update(2)
            bar.update(4, loss=0.25)
        while b"loss 0.25" not in shown:
            shown += os.read(reader, 4096)
    os.close(reader)
    for part in ("Training", "━", "4/4 steps", "0:00 left"):
        assert part in shown.decode()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3723, "1:02:03"), (100 * 3600, "100:00:00")])
def test_durations_read_as_clocks(seconds, text):
    assert duration(seconds) == text
