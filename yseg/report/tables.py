"""Tables of results, as Markdown, as CSV and on a terminal."""

import csv
import io
import math
import numbers
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

Row = Mapping[str, object]  # from column name to value; a missing name counts as None


def cell(value: object) -> str:
    """A value as text: "-" for None and NaN, four decimals for a real number (significant digits if it is huge or tiny)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return "-" if value is None else str(value)
    if isinstance(value, numbers.Integral):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return "-"
    return f"{number:.4f}" if number == 0 or 1e-3 <= abs(number) < 1e4 else f"{number:.4g}"


def readable(name: str) -> str:
    """The name of a metric for people: "validation IoU" of "validation_iou", "images/s" of "images_per_second"."""
    return name.replace("_per_second", "/s").replace("_", " ").replace("iou", "IoU").replace("f1", "F1")


def markdown_table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A Markdown table, padded so that it reads well as plain text; columns of numbers are aligned to the right.

    Args:
      rows: dicts from column name to value; a missing name counts as None.
      columns: the column names, in order.
    """
    texts = [[_escaped(cell(row.get(column))) for column in columns] for row in rows]
    alignment = ["right" if _numeric(rows, column) else "left" for column in columns]
    table = tabulate(texts, [_escaped(column) for column in columns], tablefmt="pipe", disable_numparse=True, colalign=alignment)
    return table + "\n"


def csv_text(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """CSV of these columns of the rows, dicts that may hold more; a missing or undefined value is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def print_table(rows: Sequence[Row], columns: Sequence[str], title: str, stream: TextIO | None = None) -> None:
    """Print a table (as for `markdown_table`) to `stream`, standard output by default: drawn on a terminal, else Markdown."""
    console = Console(file=stream or sys.stdout)
    if not console.is_terminal:
        print(f"{title}\n\n{markdown_table(rows, columns)}", file=stream or sys.stdout, flush=True)
        return
    table = Table(title=Text(title))
    for column in columns:
        table.add_column(Text(column), justify="right" if _numeric(rows, column) else "left")
    for row in rows:
        table.add_row(*(Text(cell(row.get(column))) for column in columns))
    console.print(table)


def _escaped(text: str) -> str:
    """Text that is one cell; tabulate leaves a bar in it as it is."""
    return text.replace("|", "\\|")


def _numeric(rows: Sequence[Row], column: str) -> bool:
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values)
