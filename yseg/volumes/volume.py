"""Open volumes: everything is one lazy TensorStore [z, y, x]; a 2-D image is a volume of one section.

This module and the two that it opens files with, `sections.py` and `stores.py`, are the only ones that touch volume files. A
format is a function there and a line in `_FORMATS`. What can be found wrong without decoding voxels is found on opening.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import tensorstore as ts

from yseg.config import InputError
from yseg.volumes.phantom import phantom
from yseg.volumes.sections import PNG, TIFF, open_folder, open_png, open_tiff
from yseg.volumes.stores import is_chunked, is_hdf5, open_chunked, open_hdf5, times


def open_volume(spec: str, flag: str = "") -> ts.TensorStore:
    """Open a volume for reading, lazily.

    Args:
      spec: a multi-page .tif, a .png, a folder of .tif or .png sections in natural order (2.png before 10.png); a Zarr (v2 or
        v3), N5 or Neuroglancer precomputed array, as a path, s3://BUCKET/PATH or gs://BUCKET/PATH; FILE.h5:DATASET; or
        phantom://DOMAIN/image?shape=z,y,x&seed=0&tissue=0&microscope=1 (DOMAIN source or target, image or labels; all options
        may be left out, see `yseg.volumes.phantom.phantom`).
      flag: the flag that gave the spec, for messages.

    Returns:
      TensorStore [z, y, x] that starts at 0 and has no dimension labels; integers or floats. Values are as stored, but 1-bit
      TIFF and PNG become 0 and 255 (masks of one stack are often 1-bit in some sections and 8-bit in others). It may be read
      from many threads.

    Raises:
      InputError: the volume is missing, damaged, not 2-D or 3-D, in colour, or of an unknown format. Data that cannot be
        decoded raise it later, when they are read.
    """
    name = f"{flag}={spec}" if flag else spec
    opened = next((opened for _, matches, opened in _FORMATS if matches(spec)), None)
    if "://" not in spec and not (os.path.exists(spec) or is_hdf5(spec)) and (opened or not Path(spec).suffix):
        raise InputError(f"{name}: no such file or folder")
    if opened is None:
        raise InputError(f"{name}: not a volume that can be read: must be {', '.join(form for form, _, _ in _FORMATS)}")
    return opened(spec, name)


def check_pair(image: ts.TensorStore, labels: ts.TensorStore, image_flag: str, labels_flag: str) -> None:
    """InputError, naming both flags and shapes, unless an image volume and its label volume have the same shape."""
    if tuple(image.shape) != tuple(labels.shape):
        raise InputError(f"{labels_flag}: shape {times(labels.shape)} differs from {times(image.shape)} of {image_flag}"
                         " (sections x rows x columns)")


# --- Phantoms ---


def _open_phantom(spec: str, name: str) -> ts.TensorStore:
    parts = urlsplit(spec)
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
    return ts.array(image if parts.path == "/image" else labels)


@functools.lru_cache(maxsize=2)  # a source and a target, whose images and labels are opened one by one
def _drawn(*arguments, **options):
    arrays = phantom(*arguments, **options)
    for array in arrays:
        array.flags.writeable = False
    return arrays


_FORMATS: tuple[tuple[str, Callable[[str], bool], Callable[[str, str], ts.TensorStore]], ...] = (
    # What messages call it, whether a spec is one, and how it is opened: (spec, what messages call the volume) -> TensorStore.
    ("phantom://...", lambda spec: spec.startswith("phantom://"), _open_phantom),
    ("a .zarr, .n5 or .precomputed array (also s3:// or gs://)", is_chunked, open_chunked),
    ("FILE.h5:DATASET", is_hdf5, open_hdf5),
    ("a .tif file", lambda spec: _has_suffix(spec, TIFF), open_tiff),
    ("a .png file", lambda spec: _has_suffix(spec, PNG), open_png),
    ("a folder of .tif or .png sections", os.path.isdir, open_folder),
)


def _has_suffix(spec: str, suffixes: tuple[str, ...]) -> bool:
    return "://" not in spec and Path(spec).suffix.lower() in suffixes and not os.path.isdir(spec)
