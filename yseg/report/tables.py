"""Tables of results, as Markdown, as CSV and on a terminal."""

import csv
import io
import math
import numbers
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text


def cell(value):
    """A value as text: "-" for None and NaN, four decimals for a real number (significant digits if it is huge or tiny)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return "-" if value is None else str(value)
    if isinstance(value, numbers.Integral):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def readable(name):
    """The name of a metric for people: "validation IoU" of "validation_iou", "images/s" of "images_per_second"."""
    return name.replace("_per_second", "/s").replace("_", " ").replace("iou", "IoU")


def markdown_table(rows, columns):
    """A Markdown table, padded so that it reads well as plain text; columns of numbers are aligned to the right.

    Args:
      rows: a list of dicts from column name to value; a missing name counts as None.
      columns: the column names, in order.
    """
    texts = [[cell(row.get(column)).replace("|", "\\|") for column in columns] for row in rows]
    headings = [str(column).replace("|", "\\|") for column in columns]
    widths = [max(len(text) for text in (*column, "---")) for column in zip(headings, *texts, strict=True)]
    right = [_numeric(rows, column) for column in columns]

    def line(cells):
        padded = (text.rjust(width) if to_right else text.ljust(width)
                  for text, width, to_right in zip(cells, widths, right, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * (width - to_right) + ":" * to_right for width, to_right in zip(widths, right, strict=True)]
    return "\n".join([line(headings), line(rule), *(line(text) for text in texts)]) + "\n"


def csv_text(rows, columns):
    """CSV of these columns of the rows, dicts that may hold more; a missing or undefined value is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def print_table(rows, columns, title, stream=None):
    """Print a table (as for `markdown_table`) to `stream`, standard output by default: drawn on a terminal, else Markdown."""
    console = Console(file=stream or sys.stdout)
    if not console.is_terminal:
        print(f"{title}\n\n{markdown_table(rows, columns)}", file=stream or sys.stdout, flush=True)
        return
    table = Table(title=Text(title))
    for column in columns:
        table.add_column(Text(str(column)), justify="right" if _numeric(rows, column) else "left")
    for row in rows:
        table.add_row(*(Text(cell(row.get(column))) for column in columns))
    console.print(table)


def _numeric(rows, column):
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(isinstance(value, numbers.Real) and not isinstance(value, bool) for value in values)
