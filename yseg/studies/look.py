"""What a first look at a volume sees: plain records, and numbers of samples of grey levels and label values."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from yseg.metrics.appearance import Fit

BINS = np.linspace(-5, 5, 51)  # of grey levels as they are normalised for training
NAMED = 12  # label values up to which each is looked at by itself
_AROUND = 3  # grey levels on one side of the lowest or highest, with which its share is compared
_FREE = 0.01  # share of all pixels from which a grey level at an end can be a peak
_STEEP = 4.0  # how many times as frequent as those beside it a peak is


class Sections(NamedTuple):
    """Grey levels along z.

    numbers: of the sections that were looked at, in the voxels of the files; means, deviations: of these [section]; total: how
    many sections there are.
    """

    numbers: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    total: int


class Peak(NamedTuple):
    """The lowest or the highest grey level, if far more pixels have it than those beside it."""

    level: float
    share: float
    lowest: bool


class Value(NamedTuple):
    """A label value: its share of the voxels, the share of the sections that have it, and its components in such a section."""

    value: float
    share: float
    sections: float
    pieces: float


class Labels(NamedTuple):
    """What the labels of some sections show.

    rule: which values are foreground; share: of foreground in what is labelled; diameters: of the components of sections, in
    working pixels; size: the typical one of them, None of no foreground; fit: to the image, None if it cannot be told; values: of
    the label values, none if there are more than NAMED; distinct: how many there are.
    """

    rule: str
    share: float
    diameters: np.ndarray
    size: float | None
    fit: Fit | None
    values: tuple[Value, ...]
    distinct: int


class Look(NamedTuple):
    """What was seen of a volume; the part that is trained on, but for `shape`, which is that of the files.

    image, labels_path: where it lies, "" = no labels; section_nm: distance of sections that is given, None = none is;
    seen_spacing_nm: that seen in the image (`yseg.data.depth.section_spacing`), None = they have nothing in common;
    working_shape, working_bytes: of what is trained on, on the working grid; mean, deviation, raw_values: of a sample of grey
    levels; corner: those of a section where it begins, [y, x]; peaks: at their ends; normalised: counts in BINS; spectrum:
    (cycles a working pixel, power); polarity: of sections, see `yseg.metrics.appearance.line_polarity`; example: (number of the
    section, image [y, x], classes [y, x] or None), on the working grid.
    """

    name: str
    image: str
    labels_path: str
    shape: tuple[int, int, int]
    dtype: str
    pixel_size_nm: float
    section_nm: float | None
    seen_spacing_nm: float | None
    working_shape: tuple[int, int, int]
    working_bytes: int
    working_pixel_size_nm: float
    normalization: str
    mean: float
    deviation: float
    raw_values: np.ndarray
    corner: np.ndarray
    peaks: tuple[Peak, ...]
    normalised: np.ndarray
    spectrum: tuple[np.ndarray, np.ndarray]
    polarity: tuple[float, ...]
    sections: Sections
    example: tuple[int, np.ndarray, np.ndarray | None]
    labels: Labels | None

    def numbers(self) -> dict[str, Any]:
        """What can be written as JSON: all but samples and pictures."""
        counts, edges = np.histogram(self.raw_values, 64)
        plain = ("image", "shape", "dtype", "pixel_size_nm", "section_nm", "seen_spacing_nm", "working_shape",
                 "working_pixel_size_nm", "working_bytes", "mean", "deviation", "polarity")
        found = {name: getattr(self, name) for name in plain} | {
            "peaks": [peak._asdict() for peak in self.peaks],
            "grey_levels": {"edges": edges.tolist(), "counts": counts.tolist()},
            "normalised_grey_levels": {"edges": BINS.tolist(), "counts": self.normalised.tolist()},
            "spectrum": {"cycles_a_pixel": self.spectrum[0].tolist(), "power": self.spectrum[1].tolist()},
            "sections": {"numbers": self.sections.numbers.tolist(), "means": self.sections.means.tolist(),
                         "deviations": self.sections.deviations.tolist()}}
        if self.labels:
            labels, quartiles = self.labels, (25, 50, 75)
            found["labels"] = {
                "path": self.labels_path, "foreground": labels.rule, "share": labels.share, "components": len(labels.diameters),
                "typical_diameter": labels.size, "values": [value._asdict() for value in labels.values],
                "distinct_values": labels.distinct, "fit": labels.fit._asdict() if labels.fit else None,
                "diameter_quartiles": np.percentile(labels.diameters, quartiles).tolist() if labels.size else None}
        return found


def peaks(values: np.ndarray) -> tuple[Peak, ...]:
    """The lowest and the highest grey level of a sample, where it stands out, as if others had been cut off."""
    levels, counts = np.unique(values, return_counts=True)
    found = []
    for order, lowest in ((slice(None), True), (slice(None, None, -1), False)):
        own, beside = counts[order][0], counts[order][1:1 + _AROUND]
        if len(levels) > 2 * _AROUND and own >= _FREE * values.size and own >= _STEEP * beside.mean():
            found.append(Peak(float(levels[order][0]), float(own / values.size), lowest))
    return tuple(found)


def label_values(sections: Sequence[np.ndarray]) -> tuple[tuple[Value, ...], int]:
    """The Values of label values of sections [y, x], the most frequent first, none of more than NAMED; and how many there are."""
    counted = [dict(zip(*map(np.ndarray.tolist, np.unique(section, return_counts=True)), strict=True)) for section in sections]
    distinct = {value for counts in counted for value in counts if value == value}
    if len(distinct) > NAMED:
        return (), len(distinct)
    total = sum(section.size for section in sections)
    found = []
    for value in distinct:
        own = [ndimage.label(section == value)[1] for section, counts in zip(sections, counted, strict=True) if value in counts]
        found.append(Value(float(value), sum(counts.get(value, 0) for counts in counted) / total, len(own) / len(sections),
                           float(np.mean(own))))
    return tuple(sorted(found, key=lambda each: -each.share)), len(distinct)
