"""The segmentation of a volume as a job: blocks that are computed one by one, by one process or many, and then written.

What is done is not lost when a process ends, however it does: the same command goes on with what is missing, and the number of
processes may be another one. See `yseg.volumes.staged` for where the voxels are.
"""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from yseg import __version__
from yseg.config import Domain, InputError
from yseg.data.box import Box
from yseg.data.domain import Volume
from yseg.inference.cut import file_shape
from yseg.inference.engine import Engine, Tell, part_of
from yseg.inference.instances import memory_bytes
from yseg.inference.merge import Rule
from yseg.inference.outputs import OUTPUT_TYPES, fill, predicted_classes
from yseg.report import progress
from yseg.trained.applied import Applied, chosen_block
from yseg.trained.network import TrainedNetwork
from yseg.volumes.header import CLASSES, INSTANCES, PROBABILITY
from yseg.volumes.opened import times
from yseg.volumes.staged import Staged, place_of

FRAGMENTS = "fragments"  # of instances, in each block for itself


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What is segmented, and how: all that who computes a block has to know.

    applied: the network and the region; place: of the voxels on their way; kinds: what is kept, by kind of output; rule: of
    instances, None = none are made of it, see `yseg.trained.instances`.
    """

    applied: Applied
    place: str
    kinds: tuple[str, ...]
    rule: Rule | None = None

    @property
    def staged(self) -> Staged:
        """The voxels on their way."""
        return Staged(self.place)

    def missing(self) -> list[int]:
        """The numbers of the blocks that are not done."""
        done = self.staged.done()
        return [number for number in range(len(self.applied.blocks)) if number not in done]

    def memory_bytes(self) -> int:
        """About how much memory a process takes that computes blocks."""
        kept = sum(np.dtype(OUTPUT_TYPES[kind]).itemsize for kind in self.kinds)
        if self.rule:
            held = memory_bytes(self.applied.block, self.rule.voxel_nm if self.rule.separate else None)
            kept = max(kept, -(-held // math.prod(self.applied.block)))
        return self.applied.memory_bytes(kept)

    def classes(self, box: Box) -> np.ndarray:
        """The classes uint8 [z, y, x] of a Box of the region, of blocks that are done."""
        kind = CLASSES if CLASSES in self.kinds else PROBABILITY
        found = self.staged.voxels(kind)[box.relative_to(self.applied.region).slices].read().result()
        if kind == CLASSES:
            return found
        return predicted_classes(np.stack([1 - found, found], axis=-1), self.applied.threshold)


def begin(network: TrainedNetwork, known: Domain, volume: Volume, region: Box, *, output: str, kinds: Iterable[str],
          threshold: float, discard: bool, block: str = "", rule: Rule | None = None) -> Segmentation:
    """A Segmentation, of which blocks may be done already.

    Args:
      network: as it is applied.
      known, volume: what is segmented, and the same opened.
      region: Box in voxels of its files.
      output: the spec beside which its voxels are collected.
      kinds: of outputs, see `OUTPUT_TYPES`; of INSTANCES those that these are made of are kept.
      threshold: of the foreground probability.
      discard: whether the blocks of another segmentation may be deleted.
      block: the shape of the blocks, see `yseg.trained.applied.chosen_block`.
      rule: of instances.

    Raises:
      InputError: see `yseg.trained.applied.chosen_block` and `yseg.volumes.staged.Staged.begin`.
    """
    kinds, config = (CLASSES, PROBABILITY) if rule else tuple(kinds), network.config
    types = {kind: OUTPUT_TYPES[kind] for kind in kinds} | (dict.fromkeys((FRAGMENTS, INSTANCES), np.uint32) if rule else {})
    shape = chosen_block(network, volume, region, types.values(), given=block)
    job = {"yseg": __version__, "network": _fingerprint(network), "image": dataclasses.asdict(known), "region": str(region),
           "grey levels": list(volume.statistics), "depth": network.depth_weights(volume).tolist(), "blocks": list(shape),
           "outputs": list(kinds), "threshold": threshold, "inference": dataclasses.asdict(config.inference),
           **({"instances": [list(rule.voxel_nm), rule.least_nm, rule.separate]} if rule else {})}
    staged = Staged(place_of(output))
    staged.begin(job, types, region.shape, file_shape(shape), discard=discard, name=f"--output={output}")
    return Segmentation(Applied(network, known, region, shape, threshold, volume=volume), staged.place, kinds, rule)


def compute_block(job: Segmentation, number: int, tell: Tell) -> None:
    """Compute a block and say that it is done; `tell` is told of its voxels as they are computed."""
    applied = job.applied
    box = applied.blocks[number]
    predicted = applied.predicted(box, tell)
    if predicted is not None:
        arrays = {kind: np.zeros(box.shape, OUTPUT_TYPES[kind]) for kind in job.kinds}
        fill(arrays, predicted, box, applied.threshold)
        for kind, values in arrays.items():
            job.staged.voxels(kind)[box.relative_to(applied.region).slices].write(values).result()
    job.staged.mark(number)


def compute_missing(job: Segmentation, engine: Engine, *, part: str, quiet: bool) -> None:
    """Compute the blocks that are not done, with a progress bar in sections.

    Args:
      job: see `begin`.
      engine: who computes.
      part: "i/n" = of these only the i-th of n shares, see `yseg.inference.engine.part_of`.
      quiet: show nothing.

    Raises:
      InputError, BlocksFailedError, OSError: see `yseg.inference.engine.Engine.compute`. After an InputError nothing is left of a
        job of which no block was done before.
    """
    applied, blocks, missing = job.applied, job.applied.blocks, set(job.missing())
    own = part_of(range(len(blocks)), part)
    todo = [number for number in own if number in missing]
    voxels = {number: math.prod(blocks[number].shape) for number in own}
    section = math.prod(applied.region.shape[1:])
    total, done = -(-sum(voxels.values()) // section), sum(voxels[number] for number in own if number not in missing)

    if not quiet and len(blocks) > 1:
        share = f" of part {part}" if part else ""
        print(f"{len(todo)} of {len(own)} blocks{share} to do, of {times(applied.block)} voxels; each process that computes takes"
              f" about {job.memory_bytes() / 2**30:.1f} GiB of memory", file=sys.stderr, flush=True)

    def tell(more: int) -> None:
        nonlocal done
        done += more
        bar.update(done // section)

    try:
        with progress(total, "Segmenting", start=done // section, unit="sections", quiet=quiet) as bar:
            engine.compute(compute_block, job, todo, size=voxels.__getitem__, tell=tell,
                           name=lambda number: f"block {number} at {blocks[number]}")
    except InputError:
        if len(missing) == len(blocks) and not part:  # nothing is lost: it has to be begun anew
            job.staged.remove()
        raise


def _fingerprint(network: TrainedNetwork) -> str:
    """Of the network's numbers, and of what is done to an image before it sees it."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(network.variables[network.statistics]):
        found.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    parts: list[Any] = [dataclasses.asdict(part) for part in (network.config.model, network.config.sampling)]
    found.update(json.dumps([parts, network.prior], sort_keys=True, default=str).encode())
    return found.hexdigest()
