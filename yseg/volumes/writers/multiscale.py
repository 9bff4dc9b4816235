"""What the formats with several levels share: each level is written from the one before, block by block."""

from collections.abc import Callable
from typing import Any

import tensorstore as ts

from yseg.volumes.header import Header
from yseg.volumes.prefix import Prefix
from yseg.volumes.pyramid import MEAN, MODE, Copy, Level, Reduction, levels_of

CHUNK = (16, 128, 128)  # voxels that are read at once; sections are few, as some readers want single ones
BLOCK = (32, 512, 512)  # voxels that are written at once: whole chunks, and for Zarr 3 a whole file


def new_store(driver: str, folder: Prefix, **spec: Any) -> ts.TensorStore:
    """A new array of a TensorStore driver. All its chunks are stored, those of zeros too, so that a missing one is seen.

    Args:
      driver: its name.
      folder: of the volume.
      **spec: more of the driver's spec, such as the metadata.
    """
    return folder.array(driver, store_data_equal_to_fill_value=True, create=True, **spec)


def write_levels(volume: ts.TensorStore, header: Header, create: Callable[[int, Level], ts.TensorStore],
                 copy: Copy) -> list[Level]:
    """Write a volume [z, y, x] and its coarser levels.

    Args:
      volume: is read once.
      header: labels become coarser by mode, all else by mean.
      create: (number of the level, level) -> a new, empty TensorStore [z, y, x] of that level's shape.
      copy: writes a level, see `yseg.volumes.pyramid.copy`.

    Returns:
      The levels, the finest first.
    """
    levels = levels_of(volume.shape, header.pixel_size_nm, header.section_nm)
    finer, fine = volume, levels[0]
    for number, level in enumerate(levels):
        target = create(number, level)
        z, y, x = (coarse // factor for coarse, factor in zip(level.factors, fine.factors, strict=True))
        copy(finer, target, BLOCK, Reduction((z, y, x), MODE if header.is_labels else MEAN))
        finer, fine = target, level
    return levels
