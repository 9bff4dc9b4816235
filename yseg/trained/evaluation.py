"""The counts of an evaluation, in blocks that any process may compute, see `yseg.inference.engine`."""

import dataclasses
import math
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
    """What is scored, and the Box of which classes are kept."""

    applied: Applied
    kept: Box


def evaluated(applied: Applied, kept: Box, engine: Engine, *, quiet: bool = False) -> tuple[Counts, np.ndarray]:
    """(the counts of a region, the predicted classes uint8 [z, y, x] of a Box in it).

    Args:
      applied: the network and the region, whose labels are read.
      kept: Box in voxels of the files.
      engine: who computes.
      quiet: show no progress.

    Raises:
      InputError: a label is no class of the network; `yseg.inference.engine.Engine.compute`.
      yseg.inference.engine.BlocksFailedError, OSError: see there.
    """
    classes, region, blocks = np.zeros(kept.shape, np.uint8), applied.region, applied.blocks
    counts = _no_counts(applied, region)
    matrices, section, done = counts.matrices.copy(), math.prod(region.shape[1:]), 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        bar.update(done // section)

    def take(number: int, result: tuple[np.ndarray, np.ndarray]) -> None:
        box = blocks[number]
        first, common = box.start[0] - region.start[0], box.intersect(kept)
        matrices[first:first + box.shape[0]] += result[0]
        if not common.is_empty:
            classes[common.relative_to(kept).slices] = result[1]

    with progress(region.shape[0], "Evaluating", unit="sections", quiet=quiet) as bar:
        engine.compute(_score_block, _Scored(applied, kept), range(len(blocks)), tell=tell, take=take,
                       size=lambda number: math.prod(blocks[number].shape),
                       name=lambda number: f"block {number} at {blocks[number]}")
    return dataclasses.replace(counts, matrices=matrices), classes


def _no_counts(applied: Applied, region: Box) -> Counts:
    classes = applied.network.config.model.classes
    return Counts.zeros(region.shape[0], (applied.threshold,)) if classes == 2 else Counts.zeros(region.shape[0], classes=classes)


def _score_block(scored: _Scored, number: int, tell: Tell) -> tuple[np.ndarray, np.ndarray]:
    """(the matrices of a block's counts, the classes of what is kept of it)."""
    applied, box = scored.applied, scored.applied.blocks[number]
    blocks, common = applied.predicted(box, tell), box.intersect(scored.kept)
    classes = np.zeros((0, 0, 0) if common.is_empty else common.shape, np.uint8)
    if blocks is None:  # without tissue nothing is labelled
        return _no_counts(applied, box).matrices, classes
    if not common.is_empty:
        blocks = copying(blocks, common, classes, applied.threshold)
    counts = score(blocks, applied.opened.volume.classes_in_files, box, thresholds=(applied.threshold,),
                   classes=applied.network.config.model.classes)
    return counts.matrices, classes
