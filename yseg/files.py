"""Writes a file or a folder whole or not at all.

What is not finished lies beside its place under a hidden name, and gets its own name by a rename. A process that is killed may
leave, beside PATH,

    .NAME.ID.unfinished    what was being written; incomplete, unless there is also
    .NAME.ID.replaced      the old folder, whole: the process was killed between the two renames that replace a folder. If PATH
                           is missing, .NAME.ID.unfinished is the new folder, whole too, and either may be renamed to PATH.

with one ID (8 hexadecimal digits) for each writing. Nothing reads or deletes them later. A symbolic link is followed: what it
points to is replaced.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

_UNFINISHED, _REPLACED = ".unfinished", ".replaced"


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, in UTF-8, so that a reader, or a crash, never meets half of it."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A context manager that yields the Path of a file to be written, which becomes `path` if the block ends well.

    An older file at `path` stays until then; after an exception nothing is left of the new one.

    Raises:
      OSError: the block wrote no file, or it cannot be moved.
    """
    path, unfinished = _places(path)
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], replace: bool = False) -> Iterator[Path]:
    """A context manager that yields the Path of a new, empty folder, which becomes `path` if the block ends well.

    After an exception in the block nothing is left of the new folder. A folder whose block has ended well is never deleted: if
    it cannot get its name, the old one is where it was, the new one stays, and the error says where.

    Args:
      path: the folder; missing parents are made.
      replace: whether a folder that exists there may be replaced. A file never is.

    Raises:
      OSError: there is something at `path` that may not be replaced (FileExistsError), the new folder cannot be made, or it
        cannot get its name.
    """
    path, new = _places(path)
    _check_free(path, replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    new.mkdir()
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    _give_name(new, path, replace)


def _places(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """(where something is to be in the end, where it is written)."""
    path = Path(os.path.realpath(path))
    return path, path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")


def _check_free(path: Path, replace: bool) -> None:
    if os.path.lexists(path) and not (replace and path.is_dir()):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _give_name(new: Path, path: Path, replace: bool) -> None:
    """Rename a finished folder; the one that it replaces gets its name back if that fails."""
    old = new.with_suffix(_REPLACED)
    try:
        _check_free(path, replace)  # something may have appeared in the meantime
        try:
            if path.exists():
                path.rename(old)
            new.rename(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            raise
    except OSError as error:
        kept = f"the new folder is whole and stays in {new}" + (f", the old one in {old}" if old.exists() else "")
        raise OSError(error.errno, f"{error.strerror}; {kept}", str(path)) from error
    shutil.rmtree(old, ignore_errors=True)
