"""Sizes of voxels as files say them, in nm; None where they say nothing."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import tifffile

from yseg.volumes.axes import Axis, kind_of
from yseg.volumes.opened import VoxelSize

_NM = {
    "pm": 1e-3, "picometer": 1e-3, "picometre": 1e-3, "a": 0.1, "å": 0.1, "angstrom": 0.1, "ångström": 0.1, "nm": 1.0,
    "nanometer": 1.0, "nanometre": 1.0, "um": 1e3, "µm": 1e3, "micron": 1e3, "micrometer": 1e3, "micrometre": 1e3, "mm": 1e6,
    "millimeter": 1e6, "millimetre": 1e6, "cm": 1e7, "centimeter": 1e7, "centimetre": 1e7, "m": 1e9, "meter": 1e9,
    "metre": 1e9, "inch": 25.4e6, "in": 25.4e6, '"': 25.4e6}
_PRINTED_IN_NM = 1e7  # the units in which resolutions for a printer are given, centimetres and inches, have at least this size
_LARGEST_PRINTED_NM = 2000.0  # resolutions for a printer, such as 72 dots per inch, are coarser, and say nothing of what is seen
_NUMBER = (int, float)
_TOLERANCE = 0.01  # share by which two statements of one size may differ, as they are often rounded


def nm_of(value: Any, unit: Any) -> float | None:
    """A length in nm; None for a unit that is no length, or a value that is no number above 0."""
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), str(unit))  # ImageJ writes \u00B5m
    name = plain.strip().lower().replace("\u03bc", "\u00b5")
    factor = _NM.get(name, _NM.get(name.removesuffix("s")))
    if factor is None or isinstance(value, bool) or not isinstance(value, _NUMBER) or not 0 < value < float("inf"):
        return None
    return float(f"{value * factor:.7g}")  # 0.0046 micrometres are 4.6 nm, in float32 too, and not 4.6000000000000005


# --- Chunked arrays ---


def differ(one: float, other: float) -> bool:
    """Whether two sizes, both above 0, cannot be the same one, even if they were rounded."""
    return abs(one - other) > _TOLERANCE * max(one, other)


def with_sizes(axes: Sequence[Axis], attributes: Mapping[str, Any], *, x_first: bool) -> list[Axis]:
    """The axes of a chunked array, with the names and sizes that its attributes have in the ways that are in use.

    Names, where there are none: `axis_names`, `axes` or `_ARRAY_DIMENSIONS` (xarray). Sizes, where there are none: `transform`
    (CellMap), `element_size_um` (Fiji and ilastik), `pixelResolution` (N5), `voxel_size` or `resolution` (CREMI, gunpowder) with
    `units`, nm if there are none; the last two with `downsamplingFactors`.

    Args:
      axes: Axis of each stored axis.
      attributes: of the array.
      x_first: whether lists in them begin with x, if the names do not say so.
    """
    named = [axis.name for axis in axes]
    if not any(kind_of(name) for name in named):
        found: Any = next((attributes[key] for key in ("axis_names", "_ARRAY_DIMENSIONS", "axes") if attributes.get(key)), [])
        if isinstance(found, (list, tuple, str)) and len(found) == len(axes):
            named = [name if isinstance(name, str) else "" for name in found]
    sizes: list[float | None] = [axis.nm for axis in axes]
    if not any(sizes):
        sizes = _attribute_sizes(attributes, named, x_first)
    return [axis._replace(name=name, nm=size) for axis, name, size in zip(axes, named, sizes, strict=True)]


def _attribute_sizes(attributes: Mapping[str, Any], named: Sequence[str], x_first: bool) -> list[float | None]:
    """The size along each axis."""
    transform = attributes.get("transform")
    if isinstance(transform, Mapping) and isinstance(transform.get("axes"), list):
        names = [kind_of(str(name)) for name in transform["axes"]]
        by_name = dict(zip(names, _in_nm(transform.get("scale"), transform.get("units")), strict=False))
        order = [kind_of(name) for name in named] if any(map(kind_of, named)) else _spatial(len(named), x_first)
        return [by_name.get(name) if name else None for name in order]
    if attributes.get("element_size_um") is not None:  # always with z first
        by_name = dict(zip("zyx", _in_nm(attributes["element_size_um"], "um"), strict=False))
        order = [kind_of(name) for name in named] if any(map(kind_of, named)) else _spatial(len(named), x_first)
        return [by_name.get(name) for name in order]
    values: Any
    pixels = attributes.get("pixelResolution")
    units: Any = attributes.get("units", attributes.get("unit", "nm"))
    if isinstance(pixels, Mapping):
        values, units = pixels.get("dimensions"), pixels.get("unit", "nm")
    else:
        values = next((attributes[key] for key in ("pixelResolution", "voxel_size", "resolution")
                       if attributes.get(key) is not None), None)
    found = _in_nm(values, units)
    factors = _numbers(attributes.get("downsamplingFactors")) or [1.0] * len(found)
    found = [size and size * factor for size, factor in zip(found, factors, strict=False)]
    spatial = [number for number, name in enumerate(named) if kind_of(name) not in ("c", "t")]
    places = spatial if len(found) == len(spatial) else range(len(named))
    sizes: list[float | None] = [None] * len(named)
    if len(found) == len(places):
        for number, size in zip(places, found, strict=True):
            sizes[number] = size
    return sizes


def _spatial(rank: int, x_first: bool) -> list[str]:
    names = ["z", "y", "x"][-rank:] if rank <= 3 else [""] * (rank - 3) + ["z", "y", "x"]
    return names[::-1] if x_first else names


def _in_nm(values: Any, units: Any) -> list[float | None]:
    numbers = _numbers(values)
    each = list(units) if isinstance(units, (list, tuple)) else [units] * len(numbers)
    each = [unit.decode() if isinstance(unit, bytes) else unit for unit in each]
    return [nm_of(value, "nm" if unit in (None, "") else unit) for value, unit in zip(numbers, each, strict=False)]


def _numbers(values: Any) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return []


# --- TIFF ---


def of_tiff(file: tifffile.TiffFile) -> VoxelSize:
    """The size of a voxel of a TIFF file: of OME-XML, of ImageJ, or a resolution that is none of a print."""
    if file.is_ome and file.ome_metadata:
        return _of_ome_xml(file.ome_metadata)
    tags = file.pages.first.tags
    x, y = (_per_pixel(tags.get(name)) for name in ("XResolution", "YResolution"))
    if file.is_imagej:
        metadata = file.imagej_metadata or {}
        unit, spacing = metadata.get("unit", ""), _numbers([metadata.get("spacing")])  # below 0 in turned stacks
        sections, rows, columns = (nm_of(value, metadata.get(key, unit)) for value, key in (
            (abs(spacing[0]) if spacing else None, "zunit"), (y, "yunit"), (x, "unit")))
        if (nm_of(1, unit) or 0) >= _PRINTED_IN_NM and _is_printed(rows, columns):
            return None, None, None
        return sections, rows, columns
    unit_tag = tags.get("ResolutionUnit")
    unit = {2: "inch", 3: "cm"}.get(int(unit_tag.value) if unit_tag else 2, "")
    rows, columns = nm_of(y, unit), nm_of(x, unit)
    if not rows or not columns or _is_printed(rows, columns):
        return None, None, None
    return None, rows, columns


def _is_printed(rows: float | None, columns: float | None) -> bool:
    """Whether pixels of these sizes are those of a print."""
    return max(rows or 0.0, columns or 0.0) > _LARGEST_PRINTED_NM


def _per_pixel(tag: Any) -> float | None:
    """The length of a pixel, in the unit of a resolution (pixels by length)."""
    try:
        pixels, length = tag.value
        return length / pixels
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        return None


def _of_ome_xml(text: str) -> VoxelSize:
    try:
        pixels = next(found for found in ElementTree.fromstring(text).iter() if re.sub(r"\{.*\}", "", found.tag) == "Pixels")
    except (ElementTree.ParseError, StopIteration):
        return None, None, None

    def size(axis):
        value = pixels.get(f"PhysicalSize{axis}")
        try:
            return nm_of(float(value or "nan"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        except ValueError:
            return None

    return size("Z"), size("Y"), size("X")
