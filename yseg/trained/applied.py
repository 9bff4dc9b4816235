"""A network applied to a region of a volume in blocks: what all who compute some of them have to know.

A block has the same voxels whoever computes it, to rounding, and to the bit where processes have as many cores.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from yseg.config import Domain, InputError
from yseg.data.box import Box
from yseg.data.domain import Volume, open_domain, open_own_domain
from yseg.data.tissue import part_of_region
from yseg.inference.blocks import Blocks, Predict, Tilings, tilings_of
from yseg.inference.cut import block_shape, cut, given_block
from yseg.inference.engine import Tell
from yseg.inference.outside import in_files
from yseg.inference.tiling import largest_stride
from yseg.models import segmentation_network
from yseg.trained.network import TrainedNetwork
from yseg.volumes.chunks import kept_bytes

_LIBRARIES_BYTES = 700 * 2**20  # of a process that has computed a small tile: launch.segment of 4 x 128 x 128 voxels takes 729
_MAPS = 8  # of the network's first level that are in memory at once


class Opened(NamedTuple):
    """What all blocks need in a process: the volume, the network as a function of tiles, and how these lie."""

    volume: Volume
    predict: Predict
    tilings: Tilings


@dataclasses.dataclass(frozen=True)
class Applied:
    """A network, and the region that it is applied to in blocks. A copy in another process opens the volume there.

    network: as it is applied; known: what it is applied to; region: in voxels of its files; block: shape of the blocks;
    threshold: of foreground; own: "source" or "target" if it is that of the network's config; with_labels: whether its labels
    are read; volume: that is open in this process, None = not yet.
    """

    network: TrainedNetwork
    known: Domain
    region: Box
    block: tuple[int, int, int]
    threshold: float
    own: str = ""
    with_labels: bool = False
    volume: Volume | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open in this process."""
        return {name: value for name, value in self.__dict__.items() if name not in ("opened", "blocks")} | {"volume": None}

    @functools.cached_property
    def blocks(self) -> list[Box]:
        """In voxels of the files, in the order of their numbers."""
        return cut(self.region, self.block)

    @functools.cached_property
    def opened(self) -> Opened:
        """What is opened, and compiled, once in a process."""
        config = self.network.config
        volume = self.volume
        if volume is None and self.own:
            volume = open_own_domain(config, self.own, self.with_labels)
        elif volume is None:
            volume = open_domain(self.known, config.sampling, "-", self.with_labels)
        parts = [part for part in (part_of_region(box, volume.place) for box in self.blocks) if not part.is_empty]
        tilings = tilings_of(parts, volume.grid, model=config.model, inference=config.inference)
        return Opened(volume, self.network.predictor(), tilings)

    def predicted(self, box: Box, tell: Tell) -> Blocks | None:
        """What `yseg.inference.blocks.predict_blocks` gives for a block, in voxels of the files; None: it has no tissue.

        `tell` is told of all its voxels as they are computed.
        """
        volume, predict, tilings = self.opened
        part = part_of_region(box, volume.place)
        if part.is_empty or not (volume.mask is None or volume.mask[part.slices].read().result().any()):
            tell(math.prod(box.shape))
            return None
        predicted = self.network.predict(volume, [part], predict=predict, tilings=tilings)
        return _telling(in_files(predicted, volume.place, box, self.network.config.model.classes), tell)

    def memory_bytes(self, voxel_bytes: int) -> int:
        """About how much memory a process takes that computes blocks, of which it holds so many bytes for each voxel."""
        config, volume = self.network.config, self.opened.volume
        area = math.prod(self.block[1:]) / volume.grid.ratio**2
        held = len(self.network.depth_weights(volume)) + 4
        tile = min(config.inference.tile_size**2, 2 * area) * config.inference.batch_size
        return int(_LIBRARIES_BYTES + kept_bytes(volume.image) + voxel_bytes * math.prod(self.block)
                   + 4 * (area * config.model.classes * held + tile * config.model.features * _MAPS))


def _telling(blocks, tell):
    for place, probabilities in blocks:
        yield place, probabilities
        tell(math.prod(place.shape))


def chosen_block(network: TrainedNetwork, volume: Volume, region: Box, types: Iterable[Any], *,
                 given: str = "") -> tuple[int, int, int]:
    """The shape of the blocks of a region.

    Args:
      network: as it is applied.
      volume: it is applied to.
      region: Box in voxels of its files.
      types: NumPy types of what is kept of a voxel.
      given: a shape, see `yseg.inference.cut.given_block`; "" = it is chosen, see `yseg.inference.cut.block_shape`.

    Raises:
      InputError: `given` is no shape, or cuts sections whose components are judged whole.
    """
    inference = network.config.inference
    if not given:
        stride = largest_stride(segmentation_network(network.config.model), inference)
        return block_shape(region.shape, volume.grid.ratio, stride, averaged=len(network.depth_weights(volume)) // 2,
                           whole_sections=inference.plausible_objects, voxel_bytes=sum(np.dtype(each).itemsize for each in types))
    shape = given_block(given, region.shape)
    if inference.plausible_objects and shape[1:] != region.shape[1:]:
        raise InputError(f"--block={given}: must have all {region.shape[1]} rows and {region.shape[2]} columns of a section with"
                         " --plausible_objects, which judges components whole")
    return shape
