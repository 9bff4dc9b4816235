"""The segmentation of a volume as a job: blocks that are computed one by one, by one process or many, and then written.

What is done is not lost when a process ends, however it does: the same command goes on with what is missing, and the number of
processes may be another one. A block has the same voxels whoever computes it, to rounding, and to the bit where processes have as
many cores. See `yseg.volumes.staged` for where they are.
"""

import dataclasses
import functools
import hashlib
import json
import math
import secrets
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from yseg import __version__
from yseg.config import Domain, InputError
from yseg.data.box import Box
from yseg.data.domain import Volume, open_domain
from yseg.data.tissue import part_of_region
from yseg.inference.blocks import Predict, Tilings, tilings_of
from yseg.inference.cut import block_shape, cut, file_shape, given_block
from yseg.inference.engine import Tell, compute, part_of
from yseg.inference.outputs import OUTPUT_TYPES, fill, predicted_classes
from yseg.inference.outside import in_files
from yseg.inference.tiling import largest_stride
from yseg.models import segmentation_network
from yseg.report import progress
from yseg.trained.network import TrainedNetwork
from yseg.volumes.header import CLASSES, PROBABILITY
from yseg.volumes.opened import times
from yseg.volumes.staged import Staged, place_of

_LIBRARIES_BYTES = 600 * 2**20  # of a process that has computed a tile
_MAPS = 8  # of the network's first level that are in memory at once


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What is segmented, and how: all that who computes a block has to know. Copies of it, such as those of workers, are equal.

    identity: another for each call of `begin`; place: of the voxels on their way; network, known: with which and what;
    region: in voxels of the files; block: shape of the blocks; kinds: what is kept, by kind of output; threshold: of foreground.
    """

    identity: str
    place: str
    network: TrainedNetwork = dataclasses.field(compare=False, repr=False)
    known: Domain = dataclasses.field(compare=False)
    region: Box = dataclasses.field(compare=False)
    block: tuple[int, int, int] = dataclasses.field(compare=False)
    kinds: tuple[str, ...] = dataclasses.field(compare=False)
    threshold: float = dataclasses.field(compare=False)

    @property
    def blocks(self) -> list[Box]:
        """In voxels of the files, in the order of their numbers."""
        return cut(self.region, self.block)

    @property
    def staged(self) -> Staged:
        """The voxels on their way."""
        return Staged(self.place)

    def missing(self) -> list[int]:
        """The numbers of the blocks that are not done."""
        done = self.staged.done()
        return [number for number in range(len(self.blocks)) if number not in done]

    def classes(self, box: Box) -> np.ndarray:
        """The classes uint8 [z, y, x] of a Box of the region, of blocks that are done."""
        kind = CLASSES if CLASSES in self.kinds else PROBABILITY
        found = self.staged.voxels(kind)[box.relative_to(self.region).slices].read().result()
        return found if kind == CLASSES else predicted_classes(np.stack([1 - found, found], axis=-1), self.threshold)


def begin(network: TrainedNetwork, known: Domain, volume: Volume, region: Box, *, output: str, kinds: Iterable[str],
          threshold: float, discard: bool, block: str = "") -> Segmentation:
    """A Segmentation, of which blocks may be done already.

    Args:
      network: as it is applied.
      known, volume: what is segmented, and the same opened.
      region: Box in voxels of its files.
      output: the spec beside which its voxels are collected.
      kinds: of outputs, see `OUTPUT_TYPES`.
      threshold: of the foreground probability.
      discard: whether the blocks of another segmentation may be deleted.
      block: the shape of the blocks, see `yseg.inference.cut.given_block`; "" = it is chosen.

    Raises:
      InputError: `block` is no shape, or cuts sections whose components are judged whole; `yseg.volumes.staged.Staged.begin`.
    """
    kinds, config = tuple(kinds), network.config
    types = {kind: OUTPUT_TYPES[kind] for kind in kinds}
    weights = network.depth_weights(volume)
    whole_sections = config.inference.plausible_objects
    stride = largest_stride(segmentation_network(config.model), config.inference)
    shape = given_block(block, region.shape) if block else block_shape(
        region.shape, volume.grid.ratio, stride, averaged=len(weights) // 2, whole_sections=whole_sections,
        voxel_bytes=sum(np.dtype(dtype).itemsize for dtype in types.values()))
    if whole_sections and shape[1:] != region.shape[1:]:
        raise InputError(f"--block={block}: must have all {region.shape[1]} rows and {region.shape[2]} columns of a section with"
                         " --plausible_objects, which judges components whole")
    job = {"yseg": __version__, "network": _fingerprint(network), "image": dataclasses.asdict(known), "region": str(region),
           "grey levels": list(volume.statistics), "depth": weights.tolist(), "blocks": list(shape), "outputs": list(kinds),
           "threshold": threshold, "inference": dataclasses.asdict(config.inference)}
    staged = Staged(place_of(output))
    staged.begin(job, types, region.shape, file_shape(shape), discard=discard, name=f"--output={output}")
    return Segmentation(secrets.token_hex(8), staged.place, network, known, region, shape, kinds, threshold)


def compute_block(job: Segmentation, number: int, tell: Tell) -> int:
    """Compute a block and say that it is done; returns how many voxels it has, of which `tell` is told as they are computed."""
    opened = _opened(job)
    box, volume = opened.blocks[number], opened.volume
    size, part, told = math.prod(box.shape), part_of_region(box, volume.place), 0
    if not part.is_empty and (volume.mask is None or volume.mask[part.slices].read().result().any()):
        arrays = {kind: np.zeros(box.shape, OUTPUT_TYPES[kind]) for kind in job.kinds}
        predicted = job.network.predict(volume, [part], predict=opened.predict, tilings=opened.tilings)
        for place, probabilities in in_files(predicted, volume.place, box, job.network.config.model.classes):
            fill(arrays, [(place, probabilities)], box, job.threshold)
            tell(math.prod(place.shape))
            told += math.prod(place.shape)
        for kind, values in arrays.items():
            job.staged.voxels(kind)[box.relative_to(job.region).slices].write(values).result()
    job.staged.mark(number)
    tell(size - told)
    return size


def compute_missing(job: Segmentation, volume: Volume, *, part: str, scheduler: str, quiet: bool) -> None:
    """Compute the blocks that are not done, with a progress bar in sections.

    Args:
      job, volume: see `begin`.
      part: "i/n" = of these only the i-th of n shares, see `yseg.inference.engine.part_of`.
      scheduler: who computes, see `yseg.inference.engine.compute`.
      quiet: show nothing.

    Raises:
      InputError, BlocksFailedError, OSError: see `yseg.inference.engine.compute`. After an InputError nothing is left of a job of
        which no block was done before.
    """
    blocks, missing = job.blocks, set(job.missing())
    own = part_of(range(len(blocks)), part)
    todo = [number for number in own if number in missing]
    voxels = {number: math.prod(blocks[number].shape) for number in own}
    section = math.prod(job.region.shape[1:])
    total, done = -(-sum(voxels.values()) // section), sum(voxels[number] for number in own if number not in missing)

    if not quiet and (len(blocks) > 1 or scheduler):
        share = f" of part {part}" if part else ""
        print(f"{len(todo)} of {len(own)} blocks{share} to do, of {times(job.block)} voxels; each process that computes takes"
              f" about {memory_bytes(job, volume) / 2**30:.1f} GiB of memory", file=sys.stderr, flush=True)

    def tell(more: int) -> None:
        nonlocal done
        done += more
        bar.update(done // section)

    try:
        with progress(total, "Segmenting", start=done // section, unit="sections", quiet=quiet) as bar:
            compute(compute_block, job, todo, scheduler=scheduler, tell=tell,
                    name=lambda number: f"block {number} at {blocks[number]}")
    except InputError:
        if len(missing) == len(blocks) and not part:  # nothing is lost: it has to be begun anew
            job.staged.remove()
        raise


def memory_bytes(job: Segmentation, volume: Volume) -> int:
    """About how much memory a process takes that computes blocks."""
    config, ratio = job.network.config, volume.grid.ratio
    area = math.prod(job.block[1:]) / ratio**2
    held = len(job.network.depth_weights(volume)) + 4
    kept = sum(np.dtype(OUTPUT_TYPES[kind]).itemsize for kind in job.kinds) * math.prod(job.block)
    tile = min(config.inference.tile_size**2, 2 * area) * config.inference.batch_size
    return int(_LIBRARIES_BYTES + kept + 4 * (area * config.model.classes * held + tile * config.model.features * _MAPS))


class _Opened(NamedTuple):
    """What all blocks of a job need in a process."""

    volume: Volume
    blocks: list[Box]
    predict: Predict
    tilings: Tilings


@functools.lru_cache(maxsize=1)  # of the last job: the next opens its volume anew, which may have changed
def _opened(job: Segmentation) -> _Opened:
    config = job.network.config
    volume, blocks = open_domain(job.known, config.sampling, "-", with_labels=False), job.blocks
    parts = [part for part in (part_of_region(box, volume.place) for box in blocks) if not part.is_empty]
    tilings = tilings_of(parts, volume.grid, model=config.model, inference=config.inference)
    return _Opened(volume, blocks, job.network.predictor(), tilings)


def _fingerprint(network: TrainedNetwork) -> str:
    """Of the network's numbers, and of what is done to an image before it sees it."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(network.variables[network.statistics]):
        found.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    parts: list[Any] = [dataclasses.asdict(part) for part in (network.config.model, network.config.sampling)]
    found.update(json.dumps([parts, network.prior], sort_keys=True, default=str).encode())
    return found.hexdigest()
