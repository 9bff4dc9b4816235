"""Where a run comes from, for its report: config, versions and commands."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yseg.report.page import Block, Table, Text
from yseg.runs.folder import CONFIG
from yseg.runs.history import EVALUATED, HISTORY, SEGMENTED, TRAINED, versions

_COMMANDS = 20  # of the last ones


def provenance(workdir: Path, history: list[dict[str, Any]]) -> Iterator[Block]:
    """Tables of the versions a run was trained and last applied with, and of its last commands."""
    digest = hashlib.sha256((workdir / CONFIG).read_bytes()).hexdigest()
    last = {what: next((line for line in reversed(history) if line["what"] == what), None)
            for what in (TRAINED, EVALUATED, SEGMENTED)}
    known = {what: line for what, line in last.items() if line}
    rows = [["date", *(_text(line.get("date")) for line in known.values())],
            ["commit", *(_text(line.get("commit")) for line in known.values())]]
    numbers = {what: line["versions"] if isinstance(line.get("versions"), dict) else {} for what, line in known.items()}
    rows += [[name, *(_text(found.get(name)) for found in numbers.values())]
             for name in dict.fromkeys(name for found in numbers.values() for name in found)]
    if known:
        yield Table(["", *(f"last {what}" for what in known)], rows)
    else:
        yield Text(f"An earlier version trained it, which kept no {HISTORY}. This page was written with "
                   + ", ".join(f"{name} {version}" for name, version in versions().items()) + ".")
    yield Text(f"{CONFIG}: SHA-256 {digest}")
    if history:
        yield Table(["date", "what", "command"], [
            [_text(line.get("date")), line["what"], _text(line.get("command"))] for line in history[-_COMMANDS:]])


def _text(value: object) -> str:
    return "-" if value is None else str(value)
