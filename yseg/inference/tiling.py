"""How tiles follow each other, overlap and are blended along an axis."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from yseg.config import Inference, InputError
from yseg.models import UNet


class Tiling(NamedTuple):
    """How tiles follow each other along one axis, in working pixels; all are multiples of `multiple`.

    halo: context on either side; overlap: of neighbouring cores; stride: from a tile to the next; multiple: of the network.
    """

    halo: int
    overlap: int
    stride: int
    multiple: int

    @property
    def core(self) -> int:
        """Size of a tile without its halo."""
        return self.stride + self.overlap

    @property
    def size(self) -> int:
        """Size of a tile."""
        return self.core + 2 * self.halo

    def starts(self, start: int, stop: int) -> list[int]:
        """Where the cores of the tiles that cover [start, stop) start."""
        first = start // self.multiple * self.multiple
        count = max(1, math.ceil((stop - first - self.overlap) / self.stride))
        return [first + number * self.stride for number in range(count)]

    def weights(self, count: int) -> np.ndarray:
        """Weights of `count` tiles one after another: float32 [tile, core]; those of all tiles that see a pixel sum to 1."""
        rise = np.sin(np.pi / 2 * (np.arange(self.overlap) + 0.5) / max(1, self.overlap)) ** 2
        weights = np.ones(self.core)
        weights[:self.overlap] *= rise
        weights[self.core - self.overlap:] *= rise[::-1]
        total = np.zeros(count * self.stride + self.overlap)
        places = np.arange(count)[:, None] * self.stride + np.arange(self.core)
        for place in places:
            total[place] += weights
        return (weights / total[places]).astype(np.float32)


def make_tiling(network: UNet, inference: Inference, spans: Sequence[tuple[int, int]]) -> Tiling:
    """The `Tiling` with the smallest tiles that covers each of `spans` along an axis in as few tiles as possible.

    Args:
      network: `yseg.models.UNet`.
      inference: `yseg.config.Inference`; the overlap is rounded up to a multiple of `network.multiple`.
      spans: (start, stop) of the blocks of a region, in working pixels.

    Raises:
      InputError: `tile_size` leaves no room between halo and overlap.
    """
    multiple, halo = network.multiple, network.halo
    overlap = rounded_up(inference.overlap, multiple)
    room = largest_stride(network, inference)
    extent = max(stop - start // multiple * multiple for start, stop in spans) - overlap
    count = max(1, math.ceil(extent / room))
    return Tiling(halo, overlap, max(multiple, rounded_up(math.ceil(extent / count), multiple)), multiple)


def largest_stride(network: UNet, inference: Inference) -> int:
    """From one of the largest tiles to the next, in working pixels; InputError as `make_tiling`."""
    multiple, halo = network.multiple, network.halo
    overlap = rounded_up(inference.overlap, multiple)
    room = inference.tile_size - 2 * halo - overlap
    if room < multiple:
        raise InputError(f"inference.tile_size={inference.tile_size}: must be at least {2 * halo + overlap + multiple}"
                         f" for model.levels={network.levels} and inference.overlap={inference.overlap}")
    return room // multiple * multiple


def rounded_up(size: int, multiple: int) -> int:
    """The smallest multiple that is at least `size`."""
    return -(-size // multiple) * multiple
