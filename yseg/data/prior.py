"""What the labels of a training region say of the foreground anywhere: its share, and what its components look like."""

import math

import numpy as np

from yseg.data.box import evenly_spaced, sections_of
from yseg.data.patches import Region
from yseg.metrics.shapes import Prior, measure_prior

SECTIONS, PIXELS = 64, 2**27  # at most so many sections, and working pixels of them, are looked at


def prior_of(region: Region) -> Prior | None:
    """The Prior of a region's labels, of sections that are evenly spaced; None if they are of one class.

    Raises:
      InputError: labels that cannot be read or understood.
    """
    count = min(SECTIONS, max(1, PIXELS // math.prod(region.box.shape[1:])))
    numbers = evenly_spaced(region.box.start[0], region.box.stop[0], count)
    labels = [region.grid.labels(*region.truth, sections_of(region.box, number, number + 1)) for number in numbers]
    try:
        return measure_prior(np.concatenate(labels), region.grid.working_pixel_size_nm)
    except ValueError:  # what it raises for one class
        return None
