"""Tables: Markdown against text written by hand."""

import io

import numpy as np
import pytest

from yseg.report import markdown_table, print_table
from yseg.report.tables import cell

ROWS = [{"method": "ft", "IoU": 0.36123, "seeds": 3}, {"method": "ynet | best", "IoU": None, "seeds": 12}]
MARKDOWN = """\
| method       |    IoU | seeds |
| ------------ | -----: | ----: |
| ft           | 0.3612 |     3 |
| ynet \\| best |      - |    12 |
"""


def test_a_markdown_table_is_as_written_by_hand():
    assert markdown_table(ROWS, ["method", "IoU", "seeds"]) == MARKDOWN


def test_columns_are_chosen_and_missing_values_are_dashes():
    assert markdown_table(ROWS[:1], ["note", "method"]) == "| note | method |\n| ---- | ------ |\n| -    | ft     |\n"


def test_a_table_without_rows_has_a_heading():
    assert markdown_table([], ["a"]) == "| a   |\n| --- |\n"


@pytest.mark.parametrize(("value", "text"), [
    (0.5, "0.5000"), (1, "1"), (np.float32(0.25), "0.2500"), (np.int64(7), "7"), (float("nan"), "-"), (None, "-"),
    (0.0, "0.0000"), (1.5e-5, "1.5e-05"), (123456.0, "1.235e+05"), ("text", "text"), (True, "True"),
])
def test_values_are_written_with_four_digits(value, text):
    assert cell(value) == text


def test_a_file_gets_the_title_and_markdown():
    stream = io.StringIO()
    print_table(ROWS, ["method", "IoU", "seeds"], "Test IoU", stream)
    assert stream.getvalue() == f"Test IoU\n\n{MARKDOWN}\n"


def test_a_terminal_gets_a_drawn_table_with_the_same_cells(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # how rich is told to take a stream for a terminal
    stream = io.StringIO()
    print_table([{"method": "ynet [best]", "IoU": 0.5}], ["method", "IoU"], "Test IoU", stream)
    for part in ("Test IoU", "ynet [best]", "0.5000", "│"):
        assert part in stream.getvalue()
