"""Copies of whole volumes by whoever computes blocks, see `yseg.inference.engine`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorstore as ts

from yseg.inference.engine import Engine, Tell
from yseg.report import progress
from yseg.volumes import pyramid

_TIMES = (2, 2, 2)  # so many blocks along z, y, x are copied by one call
_SHOWN = 8  # calls from which on a progress bar shows them


class _Pair(NamedTuple):
    """A volume, its copy, how much coarser that is, and the shapes of what is copied by a call, and at once."""

    source: ts.TensorStore
    target: ts.TensorStore
    reduction: pyramid.Reduction
    part: tuple[int, ...]
    block: tuple[int, ...]


def shared_copy(engine: Engine, quiet: bool = False) -> pyramid.Copy:
    """A function like `yseg.volumes.pyramid.copy` whose blocks an Engine has computed; it must be able to open both volumes."""

    def copy(source: ts.TensorStore, target: ts.TensorStore, block: Sequence[int], reduction: pyramid.Reduction) -> None:
        part = tuple(side * times for side, times in zip(block, _TIMES, strict=True))
        pair = _Pair(source, target, reduction, part, tuple(block))
        parts = [math.prod(size.stop - size.start for size in place) for place in pyramid.blocks(target.shape, part)]
        total, done = sum(parts), 0

        def tell(more: int) -> None:
            nonlocal done
            done += more
            bar.update(done * len(parts) // total)

        with progress(len(parts), "Writing", unit="blocks", quiet=quiet or len(parts) < _SHOWN) as bar:
            engine.compute(_copy_part, pair, range(len(parts)), size=parts.__getitem__, tell=tell,
                           name=lambda number: f"part {number} of the output")

    return copy


def _copy_part(pair: _Pair, number: int, tell: Tell) -> None:
    counts = [-(-size // side) for size, side in zip(pair.target.shape, pair.part, strict=True)]
    part = tuple(slice(place * side, min((place + 1) * side, size)) for place, side, size in
                 zip(np.unravel_index(number, counts), pair.part, pair.target.shape, strict=True))
    view = pyramid.downsampled(pair.source, pair.reduction)  # made here: not every view can be sent to a worker
    source, target = (store[part][ts.d[:].translate_to[0]] for store in (view, pair.target))
    pyramid.copy(source, target, pair.block)
    tell(math.prod(source.shape))
