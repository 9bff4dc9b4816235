"""Folders of sections: .tif or .png files in natural order, which the number in their names says."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from yseg.config import InputError
from yseg.volumes.opened import OpenedVolume, Request, VoxelSize
from yseg.volumes.png import PNG, png_section
from yseg.volumes.stack import Section, stacked
from yseg.volumes.tiff import TIFF, single_page

_NAMED = 5  # numbers that a message lists


def open_folder(request: Request) -> OpenedVolume:
    """A folder of .tif or .png sections, in natural order (2.png before 10.png), with the numbers in their names.

    Raises:
      InputError: no such files, files of both kinds, or sections that differ or cannot be read.
    """
    files = sorted((path for path in Path(request.spec).absolute().iterdir()
                    if path.suffix.lower() in TIFF + PNG and not path.name.startswith(".") and path.is_file()), key=_natural)
    if not files:
        raise InputError(f"{request.name}: a folder without .tif or .png sections")
    if len({path.suffix.lower() in PNG for path in files}) > 1:
        raise InputError(f"{request.name}: a folder with both .tif and .png files; a volume is a folder with one kind of"
                         " sections")
    found: list[tuple[Section, VoxelSize]] = [
        (png_section(path, request), (None, None, None)) if path.suffix.lower() in PNG else single_page(path, request)
        for path in files]
    numbers = section_numbers([path.stem for path in files])
    opened = stacked([section for section, _ in found], request, voxel_nm=found[0][1])
    return opened._replace(numbers=numbers, notes=_gaps(numbers, request.name))


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key that compares the numbers in a file name as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", path.name)], path.name


def section_numbers(names: Sequence[str]) -> tuple[int, ...] | None:
    """The numbers of sections: of those in the names of their files, the first that differ; None if they have none.

    Args:
      names: in natural order, without endings; they must be alike but for numbers.
    """
    parts = [re.split(r"([0-9]+)", name) for name in names]
    if len(names) < 2 or len({tuple(part[::2]) for part in parts}) > 1:
        return None
    columns = zip(*([int(number) for number in part[1::2]] for part in parts), strict=True)
    found = [column for column in columns if len(set(column)) == len(names)]
    return tuple(found[0]) if found else None


def _gaps(numbers: tuple[int, ...] | None, name: str) -> tuple[str, ...]:
    """What is said of numbers that are left out, where the others follow each other in equal steps."""
    if numbers is None or len(numbers) < 3:
        return ()
    step = min(later - earlier for earlier, later in itertools.pairwise(numbers))
    left_out = sorted(set(range(numbers[0], numbers[-1], step)) - set(numbers)) if step > 0 else []
    if not left_out:
        return ()
    return (f"{name}: of its sections {numbers[0]} to {numbers[-1]} there is no {listed(left_out)}; those beside are taken for"
            " neighbours",)


def listed(numbers: Sequence[int]) -> str:
    """Numbers for messages."""
    return ", ".join(map(str, numbers[:_NAMED])) + (f", ... ({len(numbers)} in all)" if len(numbers) > _NAMED else "")
