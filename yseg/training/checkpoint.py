"""Checkpoints: the training state on disk, written whole or not at all, restored to the bit or not at all.

A checkpoint holds a digest of its arrays, so that one which was damaged later, such as by a copy that broke off or a failing
disk, is found out: an older one is used in its place.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts

from yseg import parallel
from yseg.config import InputError
from yseg.files import DISK, storage_problem
from yseg.training.state import TrainState

_DIGEST = "sha256"  # its name in a checkpoint's metadata; older ones have none


class DamagedCheckpoint(InputError):  # noqa: N818
    """A checkpoint that cannot be read, or is not what was written."""


class Checkpoints:
    """The checkpoints in a folder, one per step. Use as a context manager: leaving it waits for what is being written.

    A checkpoint is written in the background under another name and gets its own when it is complete, so that whatever
    interrupts a run leaves only complete checkpoints. What is left of incomplete ones is removed by the next run.

    Args:
      folder: where they are; it is made if need be.
      keep: how many of the last ones are kept; None = only read, and change nothing.
    """

    def __init__(self, folder: str | os.PathLike, keep: int | None = None) -> None:
        self.folder = Path(folder).absolute()
        self._keep = keep

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(_orbax_log_off())
        writable = self._keep is not None
        options = ocp.CheckpointManagerOptions(max_to_keep=self._keep, cleanup_tmp_directories=writable, create=writable,
                                               read_only=not writable)
        self._manager = self._stack.enter_context(contextlib.closing(ocp.CheckpointManager(self.folder, options=options)))
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    @property
    def last_step(self) -> int | None:
        """The step of the last complete checkpoint, which may still be being written; None = there is none."""
        return self._manager.latest_step()

    @property
    def steps(self) -> set[int]:
        """The steps of all complete checkpoints, a set."""
        return set(self._manager.all_steps())

    def discard_after(self, step: int | None) -> None:
        """Remove the checkpoints of later steps; of all steps for None."""
        for later in sorted(self.steps, reverse=True):
            if step is None or later > step:
                self._manager.delete(later)

    def discard_damaged(self, like: TrainState) -> None:
        """Remove what comes after the last good checkpoint, and say so; DamagedCheckpoint if there are only damaged ones.

        Args:
          like: see `restore`.
        """
        try:
            good, damage = self._last_good(like)
        except DamagedCheckpoint as error:
            raise DamagedCheckpoint(f"{error}, and no other is whole; must be copied anew, or removed to train from the first"
                                    " step") from error
        if damage:
            parallel.on_main(_say, damage, good)
            self.discard_after(good[0])

    def save(self, state: TrainState) -> None:
        """Start to write a `yseg.training.state.TrainState`; it is copied at once and may be given to the next step.

        An error of the checkpoint before, such as a full disk, is raised here: an OSError that names the file.
        """
        fields = _fields(parallel.on_host(state))
        with _disk_errors():
            self._manager.save(int(fields["step"]), args=ocp.args.StandardSave(parallel.to_global(fields)),
                               custom_metadata={_DIGEST: _digest(fields)})

    def wait(self) -> None:
        """Wait until all is written; raise what went wrong, as `save`."""
        with _disk_errors():
            self._manager.wait_until_finished()

    def restore(self, like: TrainState, step: int | None = None) -> TrainState | None:
        """The last good checkpoint, or that of a step. What is damaged after the last good one is said on standard error.

        Args:
          like: a TrainState with the structure, shapes and types that it had when it was saved; its leaves may be
            `jax.ShapeDtypeStruct`.
          step: one of `steps`; None = the last that is not damaged.

        Returns:
          TrainState in NumPy arrays; None if there is no checkpoint.

        Raises:
          DamagedCheckpoint: it is damaged, and without a step all of them are.
        """
        if step is not None:
            return self._read(step, like)
        good, damage = self._last_good(like)
        if damage:
            parallel.on_main(_say, damage, good)
        return good[1]

    def _last_good(self, like):
        """((step, state) of the last good checkpoint or (None, None), the DamagedCheckpoint of the last one or None)."""
        damage = None
        for step in sorted(self.steps, reverse=True):
            try:
                return (step, self._read(step, like)), damage
            except DamagedCheckpoint as error:
                damage = damage or error
        if damage:
            raise damage
        return (None, None), None

    def _read(self, step, like):
        folder = self.folder / str(step)
        _check_arrays(folder)
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), _fields(like))
        try:
            fields = self._manager.restore(step, args=ocp.args.StandardRestore(template))
            digest = (self._manager.metadata(step).custom_metadata or {}).get(_DIGEST)
        except Exception as error:  # whatever a library makes of files that are not what they should be
            raise _damaged(folder, error) from error
        if digest not in (None, _digest(fields)):
            raise DamagedCheckpoint(f"{folder}: is damaged: its arrays are not those that were written")
        return TrainState(**fields)


def _check_arrays(folder: Path) -> None:
    """DamagedCheckpoint unless every array of a checkpoint can be read. Orbax would say much more than one line."""
    place: dict[str, Any] = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{os.path.realpath(folder / 'default')}/"}}
    try:
        found = ts.KvStore.open(place).result().list().result()
        names = [key.decode().removesuffix(".zarray") for key in found if key.endswith(b"/.zarray")]
        opened = [ts.open({"driver": "zarr", "kvstore": {**place, "path": name}}) for name in names]
        for array in [store.result().read() for store in opened]:
            array.result()
    except (ValueError, OSError) as error:
        raise _damaged(folder, error) from error
    if not names or not (folder / "default" / "_METADATA").is_file():
        raise DamagedCheckpoint(f"{folder}: is damaged: files of it are missing")


def _damaged(folder, error):
    problem = storage_problem(error)
    why = f"{problem.filename}: {problem.strerror}" if problem else f"{type(error).__name__}: {error}".splitlines()[0]
    what = "cannot be read" if problem and problem.errno in DISK else "is damaged"
    return DamagedCheckpoint(f"{folder}: {what} ({why})")


def _say(damage, good):
    print(f"{damage}; step {good[0]} is used instead", file=sys.stderr, flush=True)


def _digest(fields):
    """The SHA-256 of all arrays of a state, with their names, types and shapes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(fields):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


@contextlib.contextmanager
def _disk_errors():
    """Raise what the disk has refused as an OSError with the file."""
    try:
        yield
    except ValueError as error:
        raise (storage_problem(error) or error) from error


def _fields(state):
    """The fields of a TrainState by name. An average that a method does not have is none, as in older checkpoints."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in fields.items() if name != "average" or value}


@contextlib.contextmanager
def _orbax_log_off():
    """Keep Orbax from logging each file it touches, and errors, which it raises, too, in many lines."""
    logger = logging.getLogger("absl")

    def passes(record):
        return "orbax" not in record.pathname

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)
