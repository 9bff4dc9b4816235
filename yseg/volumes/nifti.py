"""NIfTI volumes (.nii, .nii.gz), which nibabel reads."""

import os
from typing import Any

import numpy as np

from yseg.config import InputError
from yseg.volumes.axes import Axis, arranged
from yseg.volumes.chunks import of_array
from yseg.volumes.opened import NUMBERS, OpenedVolume, Request, first_line
from yseg.volumes.voxel_size import nm_of

NIFTI = (".nii", ".nii.gz")
_NAMES = "xyztc"


class _Array:
    """The voxels of a NIfTI file as an array with the last axis first, read in parts; the file's scale is applied."""

    def __init__(self, image: Any):
        self._proxy = image.dataobj
        self.shape = tuple(image.shape)[::-1]
        self.dtype = np.asarray(self._proxy[(slice(0, 1),) * len(self.shape)]).dtype

    def __getitem__(self, index):
        return np.asarray(self._proxy[index[::-1]]).T


def open_nifti(request: Request) -> OpenedVolume:
    """A NIfTI file: x, y, z as they are stored, whatever they mean in the patient. A compressed one is read into memory.

    Raises:
      InputError: it is no NIfTI file, cut short, or in colour.
    """
    import nibabel  # takes half a second, for which other volumes need not wait

    path = os.path.abspath(request.spec)
    try:
        image: Any = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise ValueError("another format")
        proxy: Any = image.dataobj
        needed = proxy.offset + image.get_data_dtype().itemsize * int(np.prod(image.shape))
        if path.lower().endswith(".gz"):
            values: Any = np.asanyarray(proxy).T
        elif os.path.getsize(path) < needed:
            raise ValueError("its data are cut short")
        else:
            values = _Array(image)
        kind, shape, header = values.dtype.kind, values.shape, image.header
    except Exception as error:
        raise InputError(f"{request.name}: cannot be read as NIfTI ({first_line(error)})") from error
    if kind not in NUMBERS or len(shape) > len(_NAMES):
        raise InputError(f"{request.name}: type {values.dtype}, {len(shape)} axes; must be integers or floats with x, y and z")
    unit = header.get_xyzt_units()[0]
    sizes = [nm_of(float(size), unit) for size in header.get_zooms()[:3]]
    axes = [*map(Axis, _NAMES, sizes, *_places(image)), *map(Axis, _NAMES[3:])][:len(shape)]
    return arranged(of_array(values), axes[::-1], request)


def _places(image: Any) -> tuple[list[float | None], list[str]]:
    """Of x, y, z: where the first voxel lies along the axis as it runs, in voxels, and what it runs to, such as L of L, P, S."""
    import nibabel

    steps, shift = image.affine[:3, :3], image.affine[:3, 3]
    lengths = np.linalg.norm(steps, axis=0)
    coded = image.header["sform_code"] > 0 or image.header["qform_code"] > 0  # else the matrix is made up from the sizes
    if not (coded and np.isfinite(image.affine).all() and lengths.all()):
        return [None] * 3, [""] * 3
    along = shift @ (steps / lengths) / lengths
    return (np.round(along, 4) + 0.0).tolist(), [letter or "" for letter in nibabel.aff2axcodes(image.affine)]
