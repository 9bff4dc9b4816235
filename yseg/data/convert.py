"""Write a volume in another format."""

import os
from collections.abc import Callable

from yseg.config import OBEYED, Domain, InputError
from yseg.data import voxel_size
from yseg.volumes.create import check_output, create_volume
from yseg.volumes.header import IMAGE, LABELS
from yseg.volumes.opened import tell
from yseg.volumes.pyramid import blocks
from yseg.volumes.volume import read_volume

_BLOCK = (1, 4096, 4096)  # voxels that are held in memory


def convert(image: str, output: str | os.PathLike[str], *, pixel_size_nm: float | None = None, section_nm: float | None = None,
            metadata: str | None = None, channel: int | None = None, labels: bool = False, format: str | None = None,
            overwrite: bool = False, on_share: Callable[[float], None] | None = None) -> str:
    """Write a volume in another format, with the same values, at the same place.

    Args:
      image: a volume of any size, see `yseg.open_volume`.
      output: a path, or s3:// or gs:// URL, see `yseg.volumes.create.check_output`.
      pixel_size_nm, section_nm, metadata, channel: of the volume, see `yseg.config.Domain`; None = as its file says, which may be
        nothing of the distance of sections.
      labels: whether the values are labels and not grey levels: coarser levels have their mode and not their mean.
      format: how it is written, one of `yseg.volumes.header.FORMATS`; None = by the ending of its name.
      overwrite: replace the output if it exists and yseg wrote it.
      on_share: is called after every block of voxels with the share that has been read so far, in [0, 1].

    Returns:
      The output's path or URL.

    Raises:
      InputError: a volume that cannot be read, or an output that cannot be written, that the user has to change.
    """
    output, inputs = str(output), {"--image": image}
    for name, given in (("pixel_size_nm", pixel_size_nm), ("section_nm", section_nm)):
        if given == 0:  # which a Domain takes for nothing
            raise InputError(f"--{name}={given}: must be above 0")
    check_output(output, overwrite, format=format, inputs=inputs)
    opened = read_volume(image, "--image", channel=channel, labels=labels)
    volume = opened.store
    domain = Domain(image=image, pixel_size_nm=pixel_size_nm or 0.0, section_nm=section_nm or 0.0, metadata=metadata or OBEYED)
    voxel_size.check_alike(domain, opened, "-")
    tell(*opened.notes)
    size = voxel_size.pixel_size_nm(domain, opened.voxel_nm, "-")
    if not size:
        raise InputError(f"--pixel_size_nm is missing: must be the size of a pixel, in y and x, of --image={image}, in nm")
    dtype = volume.dtype.numpy_dtype
    if labels and dtype.kind not in "ui":
        raise InputError(f"--labels: must be without, as --image={image} holds values of type {dtype}; labels are"
                         " whole numbers")
    with create_volume(output, volume.shape, dtype, size, section_nm=voxel_size.section_nm(domain, opened.voxel_nm, "-") or None,
                       kind=LABELS if labels else IMAGE, start=[first or 0.0 for first in opened.start], overwrite=overwrite,
                       format=format, inputs=inputs) as store:
        read = 0
        for place in blocks(volume.shape, _BLOCK):
            values = volume[place].read().result()
            store[place].write(values).result()
            read += values.size
            if on_share:
                on_share(read / volume.size)
    return output
