"""Tables: Markdown against text written by hand and against a reader of Markdown."""

import io
import itertools

import numpy as np
import pytest
from markdown_it import MarkdownIt

from yseg.report import markdown_table, print_table
from yseg.report.tables import cell

ROWS = [{"method": "ft", "IoU": 0.36123, "seeds": 3}, {"method": "ynet | best", "IoU": None, "seeds": 12}]
MARKDOWN = """\
| method       |    IoU |   seeds |
|:-------------|-------:|--------:|
| ft           | 0.3612 |       3 |
| ynet \\| best |      - |      12 |
"""


def cells(markdown):
    """Rows of (text, alignment) as a reader of Markdown finds them, the heading first."""
    rows = []
    for before, token in itertools.pairwise(MarkdownIt("commonmark").enable("table").parse(markdown)):
        if token.type == "tr_open":
            rows.append([])
        if before.type in ("th_open", "td_open"):
            rows[-1].append((token.content, before.attrs["style"].removeprefix("text-align:")))
    return rows


def test_a_markdown_table_is_as_written_by_hand():
    assert markdown_table(ROWS, ["method", "IoU", "seeds"]) == MARKDOWN


def test_a_reader_of_markdown_finds_the_cells_and_numbers_at_the_right():
    rows = [{"a|b": "1.50", "n": 1.5, "t": "0x10"}, {"a|b": "x|y|", "n": 2e9, "t": ""}, {"a|b": "-1", "n": None, "t": "nan"}]
    assert cells(markdown_table(rows, ["a|b", "n", "t"])) == [
        [("a|b", "left"), ("n", "right"), ("t", "left")],
        [("1.50", "left"), ("1.5000", "right"), ("0x10", "left")],
        [("x|y|", "left"), ("2e+09", "right"), ("", "left")],
        [("-1", "left"), ("-", "right"), ("nan", "left")]]


def test_columns_are_chosen_and_missing_values_are_dashes():
    assert cells(markdown_table(ROWS[:1], ["note", "method"])) == [[("note", "left"), ("method", "left")],
                                                                   [("-", "left"), ("ft", "left")]]


def test_a_table_without_rows_has_a_heading():
    table = markdown_table([], ["a", "b"])
    assert [line.split() for line in table.splitlines()] == [["|", "a", "|", "b", "|"], ["|-----|-----|"]]


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
