"""OME-NGFF metadata: the levels of an image, their axes and sizes."""

from collections.abc import Sequence
from typing import Any

from yseg.volumes.header import Header
from yseg.volumes.pyramid import MEAN, MODE, Level

AXES = "zyx"


def multiscale(header: Header, levels: Sequence[tuple[str, Level]], name: str, axes: str = AXES) -> dict[str, Any]:
    """An entry of `multiscales`, without its version.

    Where the section distance is unknown it has no unit and is 1. A translation says where the middle of the first voxel lies,
    which is further from the corner in a coarser level.

    Args:
      header: of the image.
      levels: (path, level) of each.
      name: of the image.
      axes: in the order in which they are stored.
    """
    known = header.section_nm is not None
    start = dict(zip(AXES, header.start, strict=True))
    sizes = dict(zip(AXES, header.voxel_nm if known else (1.0, *header.voxel_nm[1:]), strict=True))

    def transformations(level):
        factors = dict(zip(AXES, level.factors, strict=True))
        scale = [round(sizes[axis] * factors[axis], 9) for axis in axes]
        shift = [round(sizes[axis] * (start[axis] + (factors[axis] - 1) / 2), 9) for axis in axes]
        return [{"type": "scale", "scale": scale}, *([{"type": "translation", "translation": shift}] if any(shift) else [])]

    return {"name": name,
            "axes": [{"name": axis, "type": "space", **({"unit": "nanometer"} if known or axis != "z" else {})} for axis in axes],
            "datasets": [{"path": path, "coordinateTransformations": transformations(level)} for path, level in levels],
            "type": MODE if header.is_labels else MEAN}
