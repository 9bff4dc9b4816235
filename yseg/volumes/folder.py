"""Folders of sections: .tif or .png files in natural order, which the number in their names says."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from yseg.config import InputError
from yseg.volumes.names import in_order
from yseg.volumes.opened import OpenedVolume, Request, VoxelSize
from yseg.volumes.png import PNG, png_section
from yseg.volumes.stack import Section, stacked
from yseg.volumes.tiff import TIFF, single_page
from yseg.volumes.voxel_size import differ

# Images that are not read, or are compressed as files.
_OTHER_IMAGE = re.compile(r"\.(jpe?g|jp2|j2k|jpx|jxl|webp|bmp|gif|pgm|tga|dm3|dm4|(tiff?|png|jpe?g|bmp)\.(gz|bz2|xz|zst|zip))$")


def open_folder(request: Request) -> OpenedVolume:
    """A folder of .tif or .png sections, in natural order (2.png before 10.png), with the numbers in their names.

    Raises:
      InputError: no such files, files of several kinds, names from which their order can only be guessed, or sections that
        differ or cannot be read.
    """
    files = {path.name: path for path in Path(request.spec).absolute().iterdir()
             if not path.name.startswith(".") and path.is_file()}
    sections = [file for file, path in files.items() if path.suffix.lower() in TIFF + PNG]
    if not sections:
        raise InputError(f"{request.name}: a folder without .tif or .png sections")
    kinds = {Path(file).suffix.lower() in PNG for file in sections}
    if len(kinds) > 1:
        raise InputError(f"{request.name}: a folder with both .tif and .png files; a volume is a folder with one kind of"
                         " sections")
    other = min((file for file in files if _OTHER_IMAGE.search(file.lower())), default=None)
    if other is not None:
        raise InputError(f"{request.name}: a folder with {other} beside {min(sections)}; only .tif, .tiff and .png sections are"
                         " read: convert it, or keep it elsewhere if it is no section")
    order = in_order(sections, request.name)
    found: list[tuple[Section, VoxelSize]] = [
        (png_section(files[file], request), (None, None, None)) if kinds == {True} else single_page(files[file], request)
        for file in order.files]
    voxel_nm, unlike = _size([size for _, size in found], order.files)
    opened = stacked([section for section, _ in found], request, voxel_nm=voxel_nm)
    return opened._replace(numbers=order.numbers, stems=order.stems, unlike_sizes=unlike).noting(*order.notes)


def is_stack(path: str) -> bool:
    """Whether a folder holds .tif or .png sections, and no other folder."""
    try:
        with os.scandir(path) as entries:
            found = [(entry.is_dir(), os.path.splitext(entry.name)[1].lower()) for entry in entries]
    except OSError:
        return False
    return any(ending in TIFF + PNG for _, ending in found) and not any(is_folder for is_folder, _ in found)


def _size(sizes: Sequence[VoxelSize], files: Sequence[str]) -> tuple[VoxelSize, str]:
    """The size of a voxel, by the first of the files that says one; and in words, what two of them say if it differs."""
    first: list[float | None] = []
    unlike = ""
    for axis, said in zip("zyx", zip(*sizes, strict=True), strict=True):
        known = [(size, file) for size, file in zip(said, files, strict=True) if size]
        size, file = known[0] if known else (None, "")
        first.append(size)
        unlike = unlike or next((f"in {axis} {size:g} nm in {file} and {another:g} nm in {other}" for another, other in known
                                 if size and differ(size, another)), "")
    return (first[0], first[1], first[2]), unlike
