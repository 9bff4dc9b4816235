"""Some sections of a segmented volume as small pictures, which a page shows one at a time.

A folder holds of each section NUMBER.jpg, its grey levels, and NUMBER.png, which lies on them: what is segmented in it, or what
is right and wrong, transparent elsewhere. index.json lists the sections and says what they are.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image
from scipy import ndimage

from yseg.files import whole_folder
from yseg.report.figures import FILL, NO_LABEL, grey_image, judged_parts

SECTIONS = 24  # at most
LARGEST = 720  # side of a picture in pixels
QUALITY = 78  # of a JPEG
INDEX = "index.json"


class Seen(NamedTuple):
    """A section that is shown: its number, grey levels [y, x], classes int [y, x], and true classes, -1 = no label, or None."""

    number: int
    image: np.ndarray
    labels: np.ndarray
    truth: np.ndarray | None = None


class Stack(NamedTuple):
    """What was read of a folder: of each section (number, grey levels as JPEG, overlay as PNG), and what is said of them.

    legend: from a name to its colour; size: width and height of the pictures; told: what `write_stack` was told, and "width" of
    a section in its own pixels and "share" of them all that is foreground.
    """

    sections: list[tuple[int, bytes, bytes]]
    legend: dict[str, str]
    size: tuple[int, int]
    told: dict[str, Any]


def write_stack(sections: Iterable[Seen], folder: Path, told: Mapping[str, Any]) -> None:
    """Write the pictures of sections of one shape, whole or not at all, in place of those that were there.

    Args:
      sections: read one by one; at most SECTIONS are to be given.
      folder: is made if need be.
      told: of all of them, what JSON can hold.
    """
    legend: dict[str, str] = {}
    numbers, size, width, foreground, labelled = [], (0, 0), 0, 0, 0
    with whole_folder(folder, replace=True) as new:
        for seen in sections:
            grey, overlay, colours = _pictures(seen)
            grey.save(new / f"{seen.number}.jpg", "JPEG", quality=QUALITY)
            overlay.save(new / f"{seen.number}.png", "PNG", optimize=True)
            legend.update(colours)
            numbers.append(seen.number)
            size, width = grey.size, seen.image.shape[1]
            foreground, labelled = foreground + int((seen.labels > 0).sum()), labelled + seen.labels.size
        content = {"sections": numbers, "legend": legend, "size": size,
                   "share": foreground / labelled if labelled else None,
                   "width": width, **told}
        (new / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_stack(folder: Path) -> Stack | None:
    """What `write_stack` has written; None if there is nothing, or not that."""
    try:
        told = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        found = [(int(number), (folder / f"{number}.jpg").read_bytes(), (folder / f"{number}.png").read_bytes())
                 for number in told.pop("sections")]
        width, height = told.pop("size")
        return Stack(found, dict(told.pop("legend")), (int(width), int(height)), told) if found else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _pictures(seen: Seen) -> tuple[Image.Image, Image.Image, dict[str, str]]:
    """The grey levels and the overlay of a section, and the legend."""
    shape = np.array(seen.image.shape)
    height, width = np.maximum(1, np.round(shape / max(1.0, shape.max() / LARGEST))).astype(int).tolist()
    levels = Image.fromarray((255 * grey_image(seen.image)[..., 0]).round().astype(np.uint8))
    rows, columns = (((np.arange(count) + 0.5) * size / count).astype(int)
                     for count, size in zip((height, width), shape, strict=True))
    grid = np.ix_(rows, columns)
    parts = judged_parts(seen.labels[grid], None if seen.truth is None else seen.truth[grid])
    index, palette = np.zeros((height, width), np.uint8), [(0.0, 0.0, 0.0, 0.0)]
    for name, (mask, colour) in parts.items():
        inside, outline = len(palette), len(palette) + 1
        palette += [(*to_rgb(colour), 0.6 if name == NO_LABEL else FILL), (*to_rgb(colour), 1.0)]
        index[mask] = inside
        index[mask & ~ndimage.binary_erosion(mask, border_value=1)] = outline
    overlay = Image.fromarray(index)
    values = np.round(255 * np.array(palette)).astype(np.uint8)
    overlay.putpalette(values[:, :3].tobytes())
    overlay.info["transparency"] = values[:, 3].tobytes()
    return (levels.resize((width, height), Image.Resampling.BOX), overlay, {name: colour for name, (_, colour) in parts.items()})
