"""The counts of an evaluation, in blocks that any process may compute, see `yseg.inference.engine`."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from yseg.data.box import Box
from yseg.inference.engine import Engine, Tell
from yseg.inference.outputs import score
from yseg.metrics.counts import Counts
from yseg.report import progress
from yseg.runs.samples import copying
from yseg.trained.applied import Applied


class _Scored(NamedTuple):
    """What is scored, and the Boxes of which classes are kept."""

    applied: Applied
    kept: tuple[Box, ...]


def evaluated(applied: Applied, kept: Sequence[Box], engine: Engine, *, quiet: bool = False) -> tuple[Counts, list[np.ndarray]]:
    """(the counts of a region, the predicted classes uint8 [z, y, x] of some Boxes in it).

    Args:
      applied: the network and the region, whose labels are read.
      kept: Boxes in voxels of the files.
      engine: who computes.
      quiet: show no progress.

    Raises:
      InputError: a label is no class of the network; `yseg.inference.engine.Engine.compute`.
      yseg.inference.engine.BlocksFailedError, OSError: see there.
    """
    classes, region, blocks = [np.zeros(box.shape, np.uint8) for box in kept], applied.region, applied.blocks
    counts = _no_counts(applied, region)
    matrices, section, done = counts.matrices.copy(), math.prod(region.shape[1:]), 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        bar.update(done // section)

    def take(number: int, result: tuple[np.ndarray, list[np.ndarray]]) -> None:
        box = blocks[number]
        first = box.start[0] - region.start[0]
        matrices[first:first + box.shape[0]] += result[0]
        for whole, place, found in zip(classes, kept, result[1], strict=True):
            if found.size:
                whole[box.intersect(place).relative_to(place).slices] = found

    with progress(region.shape[0], "Evaluating", unit="sections", quiet=quiet) as bar:
        engine.compute(_score_block, _Scored(applied, tuple(kept)), range(len(blocks)), tell=tell, take=take,
                       size=lambda number: math.prod(blocks[number].shape),
                       name=lambda number: f"block {number} at {blocks[number]}", all_or_none=True)
    return dataclasses.replace(counts, matrices=matrices), classes


def _no_counts(applied: Applied, region: Box) -> Counts:
    classes = applied.network.config.model.classes
    return Counts.zeros(region.shape[0], (applied.threshold,)) if classes == 2 else Counts.zeros(region.shape[0], classes=classes)


def _score_block(scored: _Scored, number: int, tell: Tell) -> tuple[np.ndarray, list[np.ndarray]]:
    """(the matrices of a block's counts, the classes of what is kept of it for each Box)."""
    applied, box = scored.applied, scored.applied.blocks[number]
    blocks, parts = applied.predicted(box, tell), [box.intersect(kept) for kept in scored.kept]
    classes = [np.zeros((0, 0, 0) if part.is_empty else part.shape, np.uint8) for part in parts]
    if blocks is None:  # without tissue nothing is labelled
        return _no_counts(applied, box).matrices, classes
    for part, found in zip(parts, classes, strict=True):
        if not part.is_empty:
            blocks = copying(blocks, part, found, applied.threshold)
    counts = score(blocks, applied.opened.volume.classes_in_files, box, thresholds=(applied.threshold,),
                   classes=applied.network.config.model.classes)
    return counts.matrices, classes
