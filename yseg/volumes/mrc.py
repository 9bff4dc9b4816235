"""MRC volumes (.mrc, .rec, .st, ...), which mrcfile reads."""

import os
import warnings

import mrcfile
import numpy as np

from yseg.config import InputError
from yseg.volumes.axes import Axis, arranged
from yseg.volumes.chunks import of_array
from yseg.volumes.opened import NUMBERS, OpenedVolume, Request, first_line

MRC = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".map")
_IMOD_STAMP = 1146047817  # of the files of IMOD, which say by a flag whether their bytes have a sign
_SIGNED = 1
_ANGSTROM_NM = 0.1


def open_mrc(request: Request) -> OpenedVolume:
    """An MRC file. Its axes are in the order that its header gives.

    A size of exactly 1 Angstrom says nothing: it is what writers put that know none. Bytes of older IMOD files have no sign. The
    file is mapped into memory, and read when voxels are.

    Raises:
      InputError: it is no MRC file, or cut short, or holds complex numbers.
    """
    path = os.path.abspath(request.spec)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # such as more data than the header says
            file = mrcfile.mmap(path, mode="r", permissive=False)
        with file:
            values: np.ndarray = np.memmap(path, file.data.dtype, "r", offset=file.data.offset, shape=file.data.shape)
            axes, unsigned = _axes(file), values.dtype == np.int8 and _has_unsigned_bytes(file.header)
    except (ValueError, OSError) as error:
        raise InputError(f"{request.name}: cannot be read as MRC ({first_line(error)})") from error
    if unsigned:
        values = values.view(np.uint8)
    if values.dtype.kind not in NUMBERS:
        raise InputError(f"{request.name}: type {values.dtype}; must be integers or floats")
    return arranged(of_array(values), axes, request)


def _axes(file: mrcfile.mrcfile.MrcFile) -> list[Axis]:
    header, rank = file.header, file.data.ndim
    stored = [int(header.mapc), int(header.mapr), int(header.maps)]
    names = ["xyz"[number - 1] for number in stored] if sorted(stored) == [1, 2, 3] else list("xyz")
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = {axis: float(header.cella[axis]) / float(header[f"m{axis}"] or 1) for axis in "xyz"}
    if lengths["x"] == lengths["y"] == 1:
        lengths = {}
    if rank == 2 or file.is_image_stack():
        lengths["z"] = 0.0  # the sections are pictures, and not of one block
    sizes = {axis: float(f"{length * _ANGSTROM_NM:.7g}") for axis, length in lengths.items() if length > 0}
    return [Axis("t")] * (rank - 3) + [Axis(name, sizes.get(name)) for name in names[:rank][::-1]]


def _has_unsigned_bytes(header: np.recarray) -> bool:
    """Whether bytes are from 0 to 255: a file of IMOD without the flag for a sign."""
    stamp, flags = np.frombuffer(header.tobytes()[152:160], np.dtype(np.int32).newbyteorder(header.nx.dtype.byteorder))
    return bool(stamp == _IMOD_STAMP and not flags & _SIGNED)
