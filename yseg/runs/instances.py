"""The instances that the last segmentation of a run has found, for the run's report."""

import csv
import heapq
import json
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yseg.report.page import Block, Table, Text
from yseg.report.tables import cell, readable
from yseg.runs.folder import REPORT
from yseg.runs.history import SEGMENTED
from yseg.volumes.header import INSTANCES
from yseg.volumes.places import file_of
from yseg.volumes.table import table_of

SUMMARY = "instances.json"  # in REPORT
_LARGEST = 10  # instances that are listed
_MOST_BYTES = 50_000_000  # of a table that is read


def instances(workdir: Path, history: list[dict[str, Any]]) -> list[Block]:
    """Their summary, and the largest of them if their table is still where it was written; nothing if there are none."""
    last: Mapping[str, Any] = next((line for line in reversed(history) if line["what"] == SEGMENTED), {})
    outputs = last.get("outputs")
    spec = outputs.get(INSTANCES) if isinstance(outputs, Mapping) else None
    if not spec:
        return []
    try:
        known = json.loads((workdir / REPORT / SUMMARY).read_text(encoding="utf-8"))
        rows = [[readable(name), cell(value)] for name, value in known.items() if isinstance(value, numbers.Real | None)]
    except (OSError, ValueError, AttributeError):
        rows = []
    blocks: list[Block] = [Table(["", ""], rows)] if rows else []
    return blocks + _largest(str(spec))


def _largest(spec: str) -> list[Block]:
    table = Path(file_of(table_of(spec)))
    try:
        if "://" in spec or table.stat().st_size > _MOST_BYTES:
            return []
        with open(table, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = [name for name in reader.fieldnames or [] if name]
            largest = heapq.nlargest(_LARGEST, reader, key=lambda row: float(row["voxels"]))
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []
    return [Text(f"The largest of those in {table.name}:"),
            Table([readable(name) for name in columns], [[str(row[name] or "-") for name in columns] for row in largest])]
