"""Pseudo-labels of the target: cut as its images are, by either reader, from when they are given."""

import numpy as np
import pytest
import tensorstore as ts

from yseg.config import Sampling
from yseg.data.box import Box
from yseg.data.grid import Grid
from yseg.data.patches import Region, make_reader


def reader_of(kind):
    """A reader of a target whose grey levels tell the place of a pixel of its region."""
    image = np.arange(4 * 40 * 50, dtype=np.int32).reshape(4, 40, 50)
    region = Region(ts.array(image), None, Grid(image.shape, 10.0, 10.0), Box((1, 3, 2), (4, 38, 45)), None, (0.0, 1.0))
    sampling = Sampling(patch_size=8, batch_size=6, reader=kind)
    return make_reader({"target": region}, sampling=sampling, sections=1, seed=0), region


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_labels_are_those_of_the_patches_pixels(kind):
    reader, region = reader_of(kind)
    assert set(reader.batch(0)) == {"index", "target", "target_statistics"}
    for seed, step in ((0, 0), (0, 1), (1, 2)):
        labels = np.random.default_rng(seed).integers(-1, 2, region.box.shape, np.int8)
        reader.relabel(ts.array(labels))
        raw = reader.batch(step)
        place = np.unravel_index(np.asarray(raw["target"])[..., 0], (4, 40, 50))
        expected = labels[tuple(axis - first for axis, first in zip(place, region.box.start, strict=True))]
        np.testing.assert_array_equal(raw["target_labels"], expected)
        assert raw["target_labels"].dtype == np.int8
