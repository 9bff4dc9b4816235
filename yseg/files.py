"""Writes a file or a folder whole or not at all."""

import os
from pathlib import Path


def write_whole(path, text):
    """Write a text file so that a reader, or a crash, never meets half of it."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
