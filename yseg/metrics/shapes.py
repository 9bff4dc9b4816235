"""Shapes of the components of single sections: what tells a structure of the source from what is mistaken for one."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

SMALLEST, RAGGED = 3.0, 1.0  # percentiles of labelled components below which an area, a solidity is implausible
SPECK_NM2 = 3000.0  # the solidity of what is smaller says little, as pixels are squares
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


class Prior(NamedTuple):
    """What labels say of the foreground, whatever the pixel size.

    share: of the labelled voxels that are foreground, in (0, 1); least_area_nm2 and least_solidity: of a plausible component of
    a section.
    """

    share: float
    least_area_nm2: float
    least_solidity: float


def measure_prior(labels: np.ndarray, pixel_size_nm: float) -> Prior:
    """The Prior of labels.

    Args:
      labels: [z, y, x]: 1 = foreground, < 0 = no label.
      pixel_size_nm: size of a pixel in y and x.

    Raises:
      ValueError: there is no foreground or nothing else.
    """
    known = labels >= 0
    share = float((labels == 1).sum() / max(known.sum(), 1))
    if not 0 < share < 1:
        raise ValueError(f"labels with a share of foreground of {share:g}: must be above 0 and below 1")
    found = section_shapes(labels == 1)
    areas = found.areas * pixel_size_nm**2
    large = areas > SPECK_NM2
    solidities = found.solidities[large] if large.any() else found.solidities
    return Prior(share, float(np.percentile(areas, SMALLEST)), float(np.percentile(solidities, RAGGED)))


def prior_from(fields: Mapping[str, Any]) -> Prior:
    """The Prior whose `_asdict` these are; ValueError if they are of none."""
    if not isinstance(fields, Mapping) or {*fields} != {*Prior._fields}:
        raise ValueError(f"not {', '.join(Prior._fields)}")
    prior = Prior(**{name: float(value) for name, value in fields.items()})
    if not (0 < prior.share < 1 and prior.least_area_nm2 >= 0 and 0 <= prior.least_solidity <= 1):
        raise ValueError(f"{prior}")
    return prior


def implausible(shapes: Shapes, prior: Prior, pixel_size_nm: float) -> np.ndarray:
    """Which components are too small or too ragged for the prior, bool [component]."""
    return (shapes.areas * pixel_size_nm**2 < prior.least_area_nm2) | (shapes.solidities < prior.least_solidity)


def of_components(chosen: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The pixels of the components that are chosen, bool [component] -> bool [z, y, x]; see `Shapes.numbers`."""
    return np.concatenate([[False], chosen])[numbers]


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
