"""The sections of a volume that a run's report shows, of the last evaluation and of the last segmentation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yseg.data.box import Box, evenly_spaced
from yseg.data.domain import Volume
from yseg.report.stack import SECTIONS, Seen, write_stack
from yseg.runs.folder import REPORT
from yseg.runs.history import EVALUATED, SEGMENTED
from yseg.runs.samples import middle_of

FOLDERS = {EVALUATED: "sections_evaluated", SEGMENTED: "sections_segmented"}  # in REPORT


def views_of(region: Box) -> list[Box]:
    """Boxes of one section each, evenly spaced in a region: of each the middle, as much as a picture shows."""
    return [middle_of(region, section) for section in evenly_spaced(region.start[0], region.stop[0], SECTIONS)]


def write_views(workdir: Path, what: str, volume: Volume, classes: Mapping[Box, np.ndarray], *, with_truth: bool,
                told: Mapping[str, Any]) -> None:
    """Write the sections into the folder of a run, in place of those before; OSError if the disk refuses.

    Args:
      workdir: the folder.
      what: EVALUATED or SEGMENTED, see `yseg.runs.history`.
      volume: opened; with labels if they are shown.
      classes: what is predicted in each of `views_of` a region, uint8 [1, y, x], by its box in voxels of the volume's files.
      with_truth: whether right and wrong are told apart.
      told: more about them, see `yseg.runs.page`.
    """
    seen = (Seen(box.start[0], volume.image_in_files(box)[0], found[0],
                 volume.classes_in_files(box)[0] if with_truth else None) for box, found in classes.items())
    write_stack(seen, workdir / REPORT / FOLDERS[what], told)
