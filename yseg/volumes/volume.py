"""Open volumes: everything is one lazy TensorStore [z, y, x]; a 2-D image is a volume of one section.

This module and those that it opens files with are the only ones that touch volume files. A format is a module and a line in
`_FORMATS`. What can be found wrong without decoding voxels is found on opening.
"""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import tensorstore as ts

from yseg.config import InputError
from yseg.volumes.axes import Axis, arranged
from yseg.volumes.folder import is_stack, open_folder
from yseg.volumes.hdf5 import is_hdf5, open_hdf5
from yseg.volumes.mrc import MRC, open_mrc
from yseg.volumes.nifti import NIFTI, open_nifti
from yseg.volumes.opened import OpenedVolume, Request
from yseg.volumes.phantom import phantom
from yseg.volumes.places import HDF5, file_of
from yseg.volumes.png import PNG, open_png
from yseg.volumes.stores import SERVERS, has_metadata, is_chunked, open_chunked
from yseg.volumes.tiff import TIFF, open_tiff


def open_volume(spec: str, flag: str = "") -> ts.TensorStore:
    """The TensorStore of `read_volume`, alone."""
    return read_volume(spec, flag).store


def read_volume(spec: str, flag: str = "", *, channel: int | None = None, near_nm: float | None = None,
                labels: bool = False) -> OpenedVolume:
    """Open a volume for reading, lazily.

    Args:
      spec: a TIFF file (also OME-TIFF and ImageJ's), a .png, a folder of .tif or .png sections in natural order (2.png before
        10.png); a Zarr (v2 or v3), N5 or Neuroglancer precomputed array, or a group that holds one or is OME-Zarr (0.1 to 0.5),
        as a path, s3://BUCKET/PATH, gs://BUCKET/PATH or http(s)://HOST/PATH; FILE.h5:DATASET; an MRC or NIfTI file; or
        phantom://DOMAIN/image?shape=z,y,x&seed=0&tissue=0&microscope=1 (DOMAIN source or target, image or labels; all options
        may be left out, see `yseg.volumes.phantom.phantom`).
      flag: the flag that gave the spec, for messages.
      channel: which of several channels; None = there must be one.
      near_nm: of several resolutions, the one whose pixels are nearest to this size and not larger, if there is one; None = the
        finest.
      labels: whether values are label values, which are never scaled.

    Returns:
      OpenedVolume. Its store is a TensorStore [z, y, x] that starts at 0 and has no dimension labels; integers or floats. Axes
      are as the file names them; where it does not, they are z, y, x. Grey levels are as a viewer shows them, label values as
      they are stored, but 1-bit TIFF and PNG become 0 and 255 (masks of one stack are often 1-bit in some sections and 8-bit in
      others). It may be read from many threads.

    Raises:
      InputError: the volume is missing, damaged, not 2-D or 3-D, in colour, or of an unknown format. Data that cannot be
        decoded raise it later, when they are read.
    """
    spec = os.path.expanduser(spec)
    name = f"{flag}={spec}" if flag else spec
    opened = next((opened for _, matches, opened in _FORMATS if matches(spec)), None)
    if "://" not in spec and not (os.path.exists(spec) or is_hdf5(spec)) and (opened or not Path(spec).suffix):
        raise InputError(f"{name}: no such file or folder")
    if opened is None:
        raise InputError(f"{name}: not a volume that can be read: must be {', '.join(form for form, _, _ in _FORMATS)}")
    own, _, what = flag.rpartition("image")
    return opened(Request(spec, name, channel, f"{own}channel" if own and not what else "", near_nm, labels))


# --- Phantoms ---


def _open_phantom(request: Request) -> OpenedVolume:
    name, parts = request.name, urlsplit(request.spec)
    options = {"shape": "24,384,384", "seed": "0"} | dict(parse_qsl(parts.query))
    form = "must be phantom://DOMAIN/image or phantom://DOMAIN/labels, with any of ?shape=z,y,x&seed=0&tissue=0.5&microscope=0.5"
    if parts.path not in ("/image", "/labels") or set(options) - {"shape", "seed", "tissue", "microscope"}:
        raise InputError(f"{name}: {form}")
    try:
        shape = tuple(int(size) for size in options.pop("shape").split(","))
        seed = int(options.pop("seed"))
        image, labels = _drawn(parts.netloc, shape, seed, **{way: float(value) for way, value in options.items()})
    except ValueError as error:
        raise InputError(f"{name}: {error}; {form}") from error
    return arranged(ts.array(image if parts.path == "/image" else labels), [Axis(name) for name in "zyx"], request)


@functools.lru_cache(maxsize=2)  # a source and a target, whose images and labels are opened one by one
def _drawn(*arguments, **options):
    arrays = phantom(*arguments, **options)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _is_array(spec: str) -> bool:
    """Whether a spec names a chunked array, and no file or folder of sections that only lies below a folder named like one."""
    if "://" not in spec and os.path.isfile(file_of(spec)) and file_of(spec).lower().endswith((*HDF5, *TIFF, *PNG, *MRC, *NIFTI)):
        return False
    return is_chunked(spec) and (has_metadata(spec) or not is_stack(spec))


def _has_ending(endings: Sequence[str], spec: str) -> bool:
    return "://" not in spec and spec.lower().endswith(tuple(endings)) and not os.path.isdir(spec)


_FORMATS: tuple[tuple[str, Callable[[str], bool], Callable[[Request], OpenedVolume]], ...] = (
    # What messages call it, whether a spec is one, and how it is opened.
    ("phantom://...", lambda spec: spec.startswith("phantom://"), _open_phantom),
    (f"a .zarr, .n5 or .precomputed array or group (also {', '.join(f'{server}://' for server in SERVERS)})", _is_array,
     open_chunked),
    ("FILE.h5:DATASET", is_hdf5, open_hdf5),
    ("a .tif file", functools.partial(_has_ending, TIFF), open_tiff),
    ("a .png file", functools.partial(_has_ending, PNG), open_png),
    ("an MRC file (.mrc, .rec, .st, ...)", functools.partial(_has_ending, MRC), open_mrc),
    ("a .nii or .nii.gz file", functools.partial(_has_ending, NIFTI), open_nifti),
    ("a folder of .tif or .png sections", os.path.isdir, open_folder),
)


