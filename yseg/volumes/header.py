"""What an output says beside its voxels: what they mean, how large they are, and that yseg has written it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from yseg import __version__
from yseg.volumes.opened import VoxelSize
from yseg.volumes.voxel_size import nm_of

CLASSES, PROBABILITY, INSTANCES, IMAGE, LABELS = "classes", "probability", "instances", "image", "labels"
KINDS = (CLASSES, PROBABILITY, INSTANCES, IMAGE, LABELS)
BOTH = "both"
WHAT = (CLASSES, PROBABILITY, BOTH, INSTANCES)  # what a segmentation gives
# How an output is written, see `yseg.volumes.create`. Of those of one ending the first is the default.
FORMATS = ("ome-zarr-0.5", "ome-zarr-0.4", "n5", "precomputed", "tiff", "ome-tiff", "hdf5")
MARK = "yseg"  # the key of the mark in a format's metadata


def marked_nm(mark: Any) -> VoxelSize | None:
    """The size of a voxel (z, y, x) in nm as `Header.mark` stored it, for formats without another way; None = no mark."""
    if not isinstance(mark, Mapping) or "section_nm" not in mark:
        return None
    pixel = nm_of(mark.get("pixel_size_nm"), "nm")
    return nm_of(mark["section_nm"], "nm"), pixel, pixel


@dataclasses.dataclass(frozen=True)
class Header:
    """Of an output.

    kind: one of KINDS: class indices, probability of foreground, ids of objects, grey levels, any other labels; pixel_size_nm: in
    y and x; section_nm: distance of two sections, None = unknown; classes: how many there are, of `classes` alone; start: where
    the first voxel lies (z, y, x), in voxels.
    """

    kind: str
    pixel_size_nm: float
    section_nm: float | None = None
    classes: int = 2
    start: Sequence[float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """ValueError if the kind is none."""
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind}: must be one of {', '.join(KINDS)}")

    @property
    def is_labels(self) -> bool:
        """Whether values are names and not amounts: a mean of them says nothing."""
        return self.kind in (CLASSES, INSTANCES, LABELS)

    @property
    def voxel_nm(self) -> tuple[float, float, float]:
        """Size of a voxel in z, y, x: of a cube where the section distance is unknown, as formats must have a number."""
        return (self.section_nm or self.pixel_size_nm, self.pixel_size_nm, self.pixel_size_nm)

    @property
    def value_range(self) -> tuple[int, int] | None:
        """Least and largest value that there can be; None = unknown."""
        return {CLASSES: (0, self.classes - 1), PROBABILITY: (0, 1)}.get(self.kind)

    def mark(self, holds: Sequence[str]) -> dict[str, Any]:
        """What tells an output of ours from all else, see `yseg.volumes.ownership`.

        Args:
          holds: the names of all that lies in the output's folder, or of the dataset in its file.
        """
        return {"version": __version__, "kind": self.kind, "pixel_size_nm": self.pixel_size_nm, "section_nm": self.section_nm,
                "holds": sorted(holds)}
