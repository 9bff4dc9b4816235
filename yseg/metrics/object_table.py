"""A table of objects, one a row, and what it says of all of them, from their `yseg.metrics.sums.Sums`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from yseg.metrics.sums import Sums

COLUMNS = ("id", "voxels", "volume_um3", "sections", "z0", "z1", "y0", "y1", "x0", "x1", "z_nm", "y_nm", "x_nm",
           "mean_probability", "surface_um2", "elongation")
_DIGITS = 6
_CROFTON = 2 / 3  # a smooth surface in any direction has 3/2 of its area in faces of voxels


def volumes_um3(sums: Sums, pixel_size_nm: float, section_nm: float | None) -> np.ndarray | None:
    """The volume of each object, float64 [n]; None where the section distance is unknown."""
    return sums.voxels * (pixel_size_nm**2 * section_nm * 1e-9) if section_nm else None


def table(sums: Sums, pixel_size_nm: float, section_nm: float | None, *, first: Sequence[int] = (0, 0, 0),
          start: Sequence[float] = (0.0, 0.0, 0.0)) -> list[dict[str, Any]]:
    """A dict of COLUMNS for each object: its id, 1, 2, ...; None where the section distance is needed and unknown.

    voxels, volume_um3; sections: how many it is seen in; z0 to x1: its box, half-open, in voxels of the image; z_nm, y_nm, x_nm:
    its centroid, where the middle of the first voxel of the file lies at its own place, or at 0; mean_probability of foreground;
    surface_um2: by Cauchy and Crofton's formula for three directions, 2/3 of the area of its voxels' faces, which is right for a
    ball and within 2/3 and 1.16 of it for a plane; faces at the border of the region are none of its surface. elongation: the
    square root of the ratio of the largest to the second principal moment, 1 of a ball and of a disc (ITK's elongation).
    Floats have six digits.

    Args:
      sums: of the objects, in voxels of the region.
      pixel_size_nm: size of a pixel in y and x.
      section_nm: distance of two sections; None = unknown.
      first: the region's first voxel in the image.
      start: where that lies (z, y, x), in voxels.
    """
    size = np.array([section_nm or np.nan, pixel_size_nm, pixel_size_nm])
    box = np.stack([sums.low, sums.high], axis=2) + np.array(first)[:, None]
    faces = np.array([size[1] * size[2], size[0] * size[2], size[0] * size[1]])
    volume = volumes_um3(sums, pixel_size_nm, section_nm)
    columns: list[Any] = [
        np.arange(1, len(sums.voxels) + 1), sums.voxels, [None] * len(box) if volume is None else volume,
        sums.high[:, 0] - sums.low[:, 0], *box.reshape(-1, 6).T, *((sums.mean + start) * size).T,
        sums.probability / np.maximum(sums.voxels, 1), _CROFTON * sums.exposed @ faces * 1e-6,
        _elongation(sums, size) if section_nm else [None] * len(box)]
    return [dict(zip(COLUMNS, map(_written, row), strict=True)) for row in zip(*columns, strict=True)]


def summary(sums: Sums, pixel_size_nm: float, section_nm: float | None, *, looked_at: int) -> dict[str, int | float | None]:
    """What a table says of all objects.

    Args:
      sums, pixel_size_nm, section_nm: see `table`.
      looked_at: voxels of tissue in which objects were looked for.

    Returns:
      dict with count, density_per_um3 of that tissue, share of its voxels that is in objects, and median_um3, mean_um3 and
      total_um3 of the volumes; None where undefined, or where the section distance is needed and unknown.
    """
    volumes, count = volumes_um3(sums, pixel_size_nm, section_nm), len(sums.voxels)
    tissue = looked_at * pixel_size_nm**2 * (section_nm or 0) * 1e-9
    return {"count": count, "density_per_um3": _written(count / tissue) if tissue else None,
            "share": _written(sums.voxels.sum() / looked_at) if looked_at else None,
            **{f"{name}_um3": None if volumes is None or not count else _written(of(volumes))
               for name, of in (("median", np.median), ("mean", np.mean), ("total", np.sum))}}


def _elongation(sums: Sums, size: np.ndarray) -> np.ndarray:
    """See `table`; a voxel is no point, and has a moment of its own."""
    moments = np.zeros((len(sums.voxels), 3, 3))
    rows, columns = np.triu_indices(3)
    moments[:, rows, columns] = moments[:, columns, rows] = sums.scatter / np.maximum(sums.voxels, 1)[:, None]
    moments += np.eye(3) / 12
    principal = np.linalg.eigvalsh(moments * size[:, None] * size)
    return np.sqrt(principal[:, 2] / principal[:, 1])


def _written(value: Any) -> int | float | None:
    """A Python number; None for what is not known."""
    if value is None or isinstance(value, int | np.integer):
        return None if value is None else int(value)
    return None if math.isnan(value) else float(f"{value:.{_DIGITS}g}")
