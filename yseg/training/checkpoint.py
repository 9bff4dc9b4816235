"""Checkpoints: the training state on disk, written whole or not at all, restored to the bit."""

import contextlib
import dataclasses
import logging
import os
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from yseg import parallel
from yseg.training.state import TrainState


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

    def save(self, state: TrainState) -> None:
        """Start to write a `yseg.training.state.TrainState`; it is copied at once and may be given to the next step.

        An error of the checkpoint before, such as a full disk, is raised here.
        """
        state = parallel.on_host(state)
        self._manager.save(int(state.step), args=ocp.args.StandardSave(parallel.to_global(_fields(state))))

    def wait(self) -> None:
        """Wait until all is written; raise what went wrong."""
        self._manager.wait_until_finished()

    def restore(self, like: TrainState, step: int | None = None) -> TrainState | None:
        """The last checkpoint, or that of a step.

        Args:
          like: a TrainState with the structure, shapes and types that it had when it was saved; its leaves may be
            `jax.ShapeDtypeStruct`.
          step: one of `steps`; None = the last.

        Returns:
          TrainState in NumPy arrays; None if there is no checkpoint.
        """
        step = self.last_step if step is None else step
        if step is None:
            return None
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), _fields(like))
        return TrainState(**self._manager.restore(step, args=ocp.args.StandardRestore(template)))


def _fields(state):
    """The fields of a TrainState by name. An average that a method does not have is none, as in older checkpoints."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in fields.items() if name != "average" or value}


@contextlib.contextmanager
def _orbax_log_off():
    """Keep Orbax from logging each file it touches; errors still pass."""
    logger = logging.getLogger("absl")

    def passes(record):
        return record.levelno >= logging.ERROR or "orbax" not in record.pathname

    logger.addFilter(passes)
    try:
        yield
    finally:
        logger.removeFilter(passes)
