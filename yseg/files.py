"""Writes a file or a folder whole or not at all; locks; what the disk says, in one line.

What is not finished lies beside its place under a hidden name, and gets its own name by a rename. A process that is killed may
leave, beside PATH,

    .NAME.ID.unfinished    what was being written; incomplete, unless there is also
    .NAME.ID.replaced      the old folder, whole: the process was killed between the two renames that replace a folder

with one ID (8 hexadecimal digits) for each writing. Who writes the same folder next removes what is left of a killed process,
or ends the replacing that it was killed in; a lock, which ends with the process, tells it from one that is at work. A new folder
that is whole and could not get its name is never deleted: it is `.NAME.ID.kept`. A symbolic link is followed: what it points to
is replaced.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path


class Terminated(KeyboardInterrupt):
    """SIGTERM, or another word that this process has to go: it ends a program as Ctrl-C does."""


DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # what a disk may refuse, whatever is written

_UNFINISHED, _REPLACED, _KEPT = ".unfinished", ".replaced", ".kept"
# An error of TensorStore: "STATUS: what was done: why [more, for machines]".
_STATUS = re.compile(r"(?:ABORTED|ALREADY_EXISTS|CANCELLED|DATA_LOSS|DEADLINE_EXCEEDED|FAILED_PRECONDITION|INTERNAL|"
                     r"INVALID_ARGUMENT|NOT_FOUND|OUT_OF_RANGE|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAUTHENTICATED|"
                     r"UNAVAILABLE|UNIMPLEMENTED|UNKNOWN): ")
_OF_THE_SYSTEM = re.compile(r"\[os_error_code='(\d+)'")
_FOR_MACHINES = re.compile(r" \[[\w ]+(\[\d+\])?='.*", re.DOTALL)


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
    path, _ = _places(path)
    _clear(path)
    _check_free(path, replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    new, lock = _new_folder(path)
    try:
        try:
            yield new
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        _give_name(new, path, replace)
    finally:
        if lock is not None:
            os.close(lock)


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
    except BaseException as error:
        kept = new.with_suffix(_KEPT)
        try:
            os.rename(new, kept)
        except OSError:
            kept = new
        if not isinstance(error, OSError):
            raise
        said = f"the new folder is whole and stays in {kept}" + (f", the old one in {old}" if old.exists() else "")
        raise OSError(error.errno, f"{error.strerror}; {said}", str(path)) from error
    shutil.rmtree(old, ignore_errors=True)


def _new_folder(path: Path) -> tuple[Path, int | None]:
    """An empty folder beside `path`, and the open descriptor that holds its lock; None where there are no locks."""
    while True:
        new = _places(path)[1]
        new.mkdir()
        try:
            lock = _lock(new, os.O_RDONLY)
        except BlockingIOError:  # taken for what is left of a killed process, before it was locked
            continue
        if lock is None or new.exists():
            return new, lock
        os.close(lock)


def _clear(path: Path) -> None:
    """Remove what killed processes have left of `path`, and end the replacing that one was killed in."""
    left = re.compile(rf"{re.escape(f'.{path.name}.')}[0-9a-f]{{8}}({re.escape(_UNFINISHED)}|{re.escape(_REPLACED)})")
    with contextlib.suppress(OSError):  # nothing may be there, or not be deleted
        for each in [path.parent / name for name in os.listdir(path.parent) if left.fullmatch(name)]:
            new, old = each.with_suffix(_UNFINISHED), each.with_suffix(_REPLACED)
            if each == new and each.is_dir():
                _clear_unfinished(new, old, path)
            elif each == old and path.exists() and not new.exists() and not each.with_suffix(_KEPT).exists():
                shutil.rmtree(old, ignore_errors=True)  # killed while it was removed


def _clear_unfinished(new: Path, old: Path, path: Path) -> None:
    try:
        lock = _lock(new, os.O_RDONLY)
    except BlockingIOError:  # somebody is writing it
        return
    if lock is None:  # no locks: somebody may be writing it
        return
    try:
        if not old.exists():
            shutil.rmtree(new, ignore_errors=True)
        elif not path.exists():
            new.rename(path)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        os.close(lock)


# --- Locks ---


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[str | None]:
    """A context manager that holds the lock of a file, which is made if need be and stays; the end of the process frees it, too.

    It yields None, or why the file system has no locks: then nothing keeps another process out.

    Raises:
      BlockingIOError: another process holds it; its message is what that process is.
      OSError: the file cannot be made.
    """
    try:
        lock = _lock(Path(path), os.O_RDWR | os.O_CREAT)
    except BlockingIOError as error:
        holder = Path(path).read_text(encoding="utf-8", errors="replace").strip()
        raise BlockingIOError(error.errno, holder or "another process", str(path)) from error
    if lock is None:
        yield "the file system has no locks"
        return
    try:
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield None
    finally:
        os.close(lock)


def _lock(path: Path, flags: int) -> int | None:
    """The open descriptor that holds the lock of a file or folder; None where there are no locks; BlockingIOError if it is taken.

    It is a lock of flock, which the system frees when the process ends, however it does.
    """
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # network file systems without them
        os.close(descriptor)
        return None
    return descriptor


# --- What the disk says ---


def storage_problem(error: BaseException) -> OSError | None:
    """An error of a disk or of TensorStore as an OSError with a file and one line; None if it is none.

    Args:
      error: raised while a volume or a checkpoint was read or written. Its errno is one of DISK if the disk is full or refuses,
        and EIO if what is there is damaged.
    """
    if isinstance(error, OSError) and error.errno in DISK:
        return OSError(error.errno, error.strerror, str(error.filename or "disk"))
    text = str(error)
    if isinstance(error, RuntimeError) or not _STATUS.match(text):
        return None
    system = _OF_THE_SYSTEM.search(text)
    line = " ".join(_FOR_MACHINES.sub("", _STATUS.sub("", text, count=1)).split())
    files = re.findall(r'"((?:/|\w+://)[^"]*)"', line)
    if not files:
        return None
    code = int(system[1]) if system else errno.EIO
    why = line[line.rindex(files[-1]) + len(files[-1]) + 1:].lstrip(": ")
    return OSError(code, os.strerror(code) if system else f"cannot be read ({why})", files[-1])
