"""OME-Zarr: the resolutions of an image in a group, with their axes, pixel sizes and places (NGFF 0.1 to 0.5)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from yseg.config import InputError
from yseg.volumes.axes import Axis, kind_of
from yseg.volumes.voxel_size import nm_of

_TOLERANCE = 0.01  # two pixel sizes are the same if they differ by this share


class Level(NamedTuple):
    """One resolution of an image."""

    path: str  # of its array, in the group
    axes: tuple[Axis, ...]

    @property
    def pixel_nm(self) -> float | None:
        """The larger side of a pixel; None = unknown."""
        return max((axis.nm for axis in self.axes if axis.nm and kind_of(axis.name) in ("y", "x")), default=None)


def levels(attributes: Mapping[str, Any], name: str) -> list[Level]:
    """The resolutions that the attributes of a Zarr group list, finest first; none if it is no OME-Zarr image.

    Where an axis has no unit, its sizes are taken for nm, unless the finest resolution has 1: then nothing is said.

    Raises:
      InputError: the metadata cannot be understood.
    """
    ome = attributes.get("ome")
    listed = (ome if isinstance(ome, Mapping) else attributes).get("multiscales")
    if not listed:
        return []
    try:
        image = listed[0]
        scales = [_step(dataset, "scale", 1.0) * _step(image, "scale", 1.0) for dataset in image["datasets"]]
        if not scales:
            raise ValueError("it lists no resolution")
        given = image.get("axes") or list("tczyx")
        axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in given]
        return [Level(str(dataset["path"]).strip("/"), tuple(
            Axis(axis["name"], _size(scale, number, axis.get("unit"), scales[0]), _start(scale, number, dataset, image))
            for number, axis in enumerate(axes)))
            for dataset, scale in zip(image["datasets"], scales, strict=True)]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{name}: its OME metadata (multiscales) cannot be understood ({type(error).__name__}: {error})") from (
            error)


def _step(owner: Mapping[str, Any], kind: str, default: float) -> np.ndarray:
    """The scale or the translation of a data set or of a whole image; the default if it has none."""
    found = (step[kind] for step in owner.get("coordinateTransformations", ()) if step.get("type") == kind)
    return np.asarray(next(found, default), float)


def _size(scale: np.ndarray, number: int, unit: str | None, finest: np.ndarray) -> float | None:
    """Of a voxel along an axis, in nm."""
    if not scale.ndim or (not unit and finest[number] == 1):
        return None
    return nm_of(float(scale[number]), unit or "nm")


def _start(scale: np.ndarray, number: int, dataset: Mapping[str, Any], image: Mapping[str, Any]) -> float | None:
    """Where the first voxel lies along an axis, in voxels; None without a translation. The image's own comes last."""
    own, whole = (_step(owner, "translation", 0.0) for owner in (dataset, image))
    if not scale.ndim or not scale[number] or not (own.ndim or whole.ndim):
        return None
    return float((own * _step(image, "scale", 1.0) + whole)[number] / scale[number])


def nearest(sizes_nm: Sequence[float | None], near_nm: float | None) -> int:
    """Which of several resolutions is nearest to a pixel size, and not coarser than it if there is one that is not.

    Args:
      sizes_nm: of a pixel, finest first; None = unknown.
      near_nm: the size that is wanted; None = the finest.
    """
    if near_nm is None:
        return 0
    fine = [number for number, size in enumerate(sizes_nm) if size and size <= near_nm * (1 + _TOLERANCE)]
    return max(fine, key=lambda number: sizes_nm[number] or 0.0, default=0)
