"""Open and create volumes: everything is one lazy TensorStore [z, y, x]; a 2-D image is a volume of one section.

This module and those that it opens files with are the only ones that touch volume files. A format is a module and a line in
`_FORMATS`. What can be found wrong without decoding voxels is found on opening.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike

from yseg.config import InputError
from yseg.files import whole_folder
from yseg.volumes.axes import Axis, arranged
from yseg.volumes.folder import open_folder
from yseg.volumes.hdf5 import is_hdf5, open_hdf5
from yseg.volumes.mrc import MRC, open_mrc
from yseg.volumes.nifti import NIFTI, open_nifti
from yseg.volumes.opened import OpenedVolume, Request
from yseg.volumes.phantom import phantom
from yseg.volumes.png import PNG, open_png
from yseg.volumes.stores import SERVERS, has_zarr_metadata, is_chunked, open_chunked
from yseg.volumes.tiff import TIFF, open_tiff

_CHUNK = 512  # side of a created volume's chunks, which are single sections as they are segmented one by one


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


def _has_ending(endings: Sequence[str], spec: str) -> bool:
    return "://" not in spec and spec.lower().endswith(tuple(endings)) and not os.path.isdir(spec)


_FORMATS: tuple[tuple[str, Callable[[str], bool], Callable[[Request], OpenedVolume]], ...] = (
    # What messages call it, whether a spec is one, and how it is opened.
    ("phantom://...", lambda spec: spec.startswith("phantom://"), _open_phantom),
    (f"a .zarr, .n5 or .precomputed array or group (also {', '.join(f'{server}://' for server in SERVERS)})", is_chunked,
     open_chunked),
    ("FILE.h5:DATASET", is_hdf5, open_hdf5),
    ("a .tif file", functools.partial(_has_ending, TIFF), open_tiff),
    ("a .png file", functools.partial(_has_ending, PNG), open_png),
    ("an MRC file (.mrc, .rec, .st, ...)", functools.partial(_has_ending, MRC), open_mrc),
    ("a .nii or .nii.gz file", functools.partial(_has_ending, NIFTI), open_nifti),
    ("a folder of .tif or .png sections", os.path.isdir, open_folder),
)


# --- Writing ---


def check_output(spec: str, overwrite: bool = False, flag: str = "--output") -> None:
    """InputError unless a volume can be created at `spec`: a path that ends in .zarr and is free or may be overwritten."""
    name = f"{flag}={spec}"
    if "://" in spec or Path(spec).suffix != ".zarr":
        raise InputError(f"{name}: must be a path that ends in .zarr")
    if os.path.lexists(spec) and not has_zarr_metadata(spec):
        raise InputError(f"{name}: exists and is not a Zarr array; it will not be replaced")
    if os.path.exists(spec) and not overwrite:
        raise InputError(f"{name}: exists already; give --overwrite to replace it")


@contextlib.contextmanager
def create_volume(spec: str, shape: Sequence[int], dtype: DTypeLike, pixel_size_nm: float, *,
                  section_nm: float | None = None, overwrite: bool = False, flag: str = "--output") -> Iterator[ts.TensorStore]:
    """Create a Zarr v3 array; a context manager that yields it as a writable TensorStore [z, y, x].

    It is there whole or not at all, see `yseg.files.whole_folder`: it gets its name when the block is left without an exception,
    and after one nothing is left. The voxel size is stored in the attributes `dimension_units` (read by TensorStore and
    Neuroglancer) and, if section_nm is known, `voxel_size`, `units` and `axis_names`.

    Args:
      spec: a path that ends in .zarr.
      shape: (z, y, x) in voxels.
      dtype: NumPy type of the voxels.
      pixel_size_nm: size of a pixel in y and x.
      section_nm: distance of two sections; None = unknown.
      overwrite: replace an existing Zarr array.
      flag: the flag that gave the spec, for messages.

    Raises:
      InputError: see `check_output`; or the folder cannot be written to.
      OSError: the finished volume cannot get its name; it is kept, and the message says where.
    """
    check_output(spec, overwrite, flag)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(whole_folder(spec, replace=overwrite))
        except OSError as error:
            raise InputError(f"{flag}={spec}: cannot be created ({error.strerror})") from error
        yield _create_zarr(folder, shape, np.dtype(dtype), (section_nm, pixel_size_nm, pixel_size_nm))
        if overwrite:
            check_output(spec, overwrite, flag)  # something else may have taken its place in the meantime


def _create_zarr(path: Path, shape: Sequence[int], dtype: np.dtype,
                 voxel_nm: tuple[float | None, float, float]) -> ts.TensorStore:
    """An empty array in the folder `path`; voxel_nm is (section distance or None, y, x)."""
    known = [float(size) for size in voxel_nm if size is not None]
    attributes = {"voxel_size": known, "units": ["nm"] * 3, "axis_names": ["z", "y", "x"]} if len(known) == 3 else {}
    blosc = {"cname": "zstd", "clevel": 5, "shuffle": "shuffle" if dtype.itemsize > 1 else "noshuffle"}
    metadata = {
        "shape": [int(size) for size in shape],
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *(min(int(size), _CHUNK) for size in shape[1:])]}},
        "codecs": [{"name": "bytes"}, {"name": "blosc", "configuration": blosc}],
        "dimension_names": ["z", "y", "x"],
        "attributes": attributes,
    }
    units = [None if size is None else f"{size} nm" for size in voxel_nm]
    return ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata},
                   dimension_units=units, create=True).result()
