"""Writes the report of a run, or of a folder of runs: one file of HTML."""

import os
import sys
from pathlib import Path

from yseg.config import InputError
from yseg.files import DISK, whole_file
from yseg.report.page import render
from yseg.runs.folder import CONFIG, REPORT, read_config
from yseg.runs.page import page_of
from yseg.runs.page_of_several import PAGE, page_of_several, runs_in

_MARK = '<meta name="generator" content="yseg">'  # in every page of ours, near its beginning


def write_report(workdir: str | Path, output: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the report of a run, finished or not, or of a folder of runs such as WORKDIR/seed0, WORKDIR/seed1.

    Args:
      workdir: the folder. No volume of it is read.
      output: the file, NAME.html; None = report/report.html in the folder, where an earlier report is replaced.
      overwrite: whether an earlier report that is not in the folder may be replaced, too.

    Returns:
      The file.

    Raises:
      InputError: the folder holds no run; the file has another ending, is something else than a report, or cannot be written.
    """
    folder = Path(workdir)
    path = folder / REPORT / PAGE if output is None else Path(output)
    _check_output(path, overwrite or output is None)
    runs = [] if (folder / CONFIG).is_file() else runs_in(folder)
    if not runs:
        read_config(folder)
    text = render(page_of_several(folder, runs, path) if runs else page_of(folder))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8", errors="replace")
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"--output={path}: cannot be written ({error.strerror})") from error
    return path


def _check_output(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output={path}: must end in .html")
    if path.is_dir():
        raise InputError(f"--output={path}: is a folder; must be a file")
    if path.exists():
        with open(path, encoding="utf-8", errors="replace") as file:
            if _MARK not in file.read(2000):
                raise InputError(f"--output={path}: exists and is no report of yseg; must be another file")
        if not overwrite:
            raise InputError(f"--output={path}: exists already; give --overwrite to replace it")


def refresh_report(workdir: Path) -> None:
    """Write the report of a run anew, after what it tells of has changed. If that fails one line on standard error says so.

    What was trained or segmented is there already, and must not be lost or seem to have failed for the sake of a page.
    """
    try:
        write_report(workdir)
    except Exception as error:
        why = (os.strerror(error.errno) if isinstance(error, OSError) and error.errno in DISK
               else f"{type(error).__name__}: {error}")
        print(f"{workdir}: its report could not be written ({' '.join(str(why).split())})", file=sys.stderr, flush=True)
