"""Records of a first look at volumes of which nothing is wrong, for tests that change one thing of them."""

import numpy as np

from yseg.metrics.appearance import Fit
from yseg.studies.look import BINS, Labels, Look, Sections, Value


def sections(means=None, deviations=None, count=20, total=None):
    """Sections that are alike, but for those given by their numbers."""
    mean, deviation = (np.full(count, 100.0) + np.arange(count) % 3, np.full(count, 30.0))
    for values, changed in ((mean, means), (deviation, deviations)):
        for number, value in (changed or {}).items():
            values[number] = value
    return Sections(np.arange(count), mean, deviation, total or count)


BINARY = (Value(0.0, 0.93, 1.0, 1.0), Value(1.0, 0.07, 1.0, 6.0))
LABELS = Labels(">0", 0.07, np.full(60, 30.0), 30.0, Fit(20.0, 20.0, (0, 1)), BINARY, 2)


def look(name, **changed):
    """The Look at a volume of which nothing is wrong but what is changed; fields of its labels begin with `labels_`."""
    labels = {field.removeprefix("labels_"): changed.pop(field) for field in [*changed]
              if field.startswith("labels_") and field != "labels_path"}
    fields = {
        "name": name, "image": f"/{name}.tif", "labels_path": f"/{name}_labels.tif", "shape": (20, 100, 100), "dtype": "uint8",
        "pixel_size_nm": 5.0, "section_nm": 15.0, "seen_spacing_nm": 18.0, "working_shape": (20, 50, 50), "working_bytes": 50_000,
        "working_pixel_size_nm": 10.0, "normalization": "volume", "mean": 101.0, "deviation": 30.0,
        "raw_values": np.arange(100),
        "corner": np.arange(9).reshape(3, 3) + (name == "target"), "peaks": (), "normalised": np.zeros(len(BINS) - 1),
        "spectrum": (np.zeros(0), np.zeros(0)), "polarity": (0.12, 0.1, 0.14, 0.11), "sections": sections(),
        "example": (0, np.zeros((50, 50)), None), "labels": LABELS._replace(**labels) if name == "source" else None}
    return Look(**fields | changed)
