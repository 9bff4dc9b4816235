"""Shapes of the components of single sections: what tells a structure of the source from what is mistaken for one."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

_IN_SECTION = np.zeros((3, 3, 3), bool)  # neighbours share an edge and lie in one section
_IN_SECTION[1] = ndimage.generate_binary_structure(2, 1)


class Shapes(NamedTuple):
    """The components of a mask's sections; component c of `areas` and `solidities` is number c + 1 of `numbers`.

    numbers: int32 [z, y, x], 0 = no component; areas: int64 [component], in pixels; solidities: float64 [component], the area
    divided by that of the convex hull, in (0, 1].
    """

    numbers: np.ndarray
    areas: np.ndarray
    solidities: np.ndarray


def section_shapes(mask: np.ndarray) -> Shapes:
    """The components of every section of a mask, joined by the edges of pixels.

    Args:
      mask: bool [z, y, x].

    Raises:
      ValueError: the mask is not bool [z, y, x].

    >>> found = section_shapes(np.array([[[1, 1, 0, 1], [1, 0, 0, 1]]], bool))
    >>> found.areas.tolist(), found.solidities.round(2).tolist()
    ([3, 2], [0.86, 1.0])
    """
    if mask.ndim != 3 or mask.dtype != bool:
        raise ValueError(f"mask of shape {mask.shape} and type {mask.dtype}: must be bool [z, y, x]")
    numbers, count = ndimage.label(mask, _IN_SECTION)
    areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    hulls = np.array([_hull_area(numbers[place] == number) for number, place in enumerate(ndimage.find_objects(numbers), 1)])
    return Shapes(numbers, areas, np.minimum(areas / hulls, 1) if count else np.zeros(0))


def _hull_area(component):
    """Area of the convex hull of the pixels, as squares, of a component [1, y, x]."""
    rows = component[0]
    first, last = rows.argmax(axis=1), rows.shape[1] - rows[:, ::-1].argmax(axis=1)  # a component has pixels in each of its rows
    y = np.arange(len(rows))
    corners = np.array([(row + below, column) for below in (0, 1) for columns in (first, last)
                        for row, column in zip(y, columns, strict=True)])
    return ConvexHull(corners).volume
