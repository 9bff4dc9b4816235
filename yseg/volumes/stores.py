"""Volumes that are chunked arrays: Zarr, N5 and Neuroglancer precomputed, on a disk or in the cloud, and HDF5.

TensorStore reads all but HDF5, which h5py reads.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np
import tensorstore as ts

from yseg.config import InputError

CACHE_BYTES = 2**27  # decoded data kept for each volume, so that patches of one section do not decode it again and again
NUMBERS = "uif"  # kinds of NumPy types that a volume may have
CLOUDS = ("s3", "gs")
CHUNKED = (".zarr", ".n5", ".precomputed")
HDF5 = (".h5", ".hdf5", ".hdf")
_METADATA = ("zarr.json", ".zarray", ".zgroup")
_ANSWER_SECONDS = 60.0  # a store in the cloud that has not answered by then is not there
# Where the credentials for S3 may be; where none of these is, access is anonymous.
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
                "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_CREDENTIAL_FILES = (".aws/credentials", ".aws/config")
_ONE_AT_A_TIME = threading.Lock()  # the HDF5 library lets one thread in, whatever the file


def times(shape: Sequence[int]) -> str:
    """A shape for messages."""
    return " x ".join(str(size) for size in shape)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, without TensorStore's machine-readable appendix."""
    lines = str(error).split(" [tensorstore_spec=")[0].split(" [source locations=")[0].splitlines()
    return lines[0].strip() if lines else type(error).__name__


# --- Zarr, N5, precomputed ---


def is_chunked(spec: str) -> bool:
    """Whether a spec names an array that TensorStore reads: by the name of one of its folders, or by what is in it."""
    parts = urlsplit(spec)
    if "://" in spec:
        return parts.scheme in CLOUDS and any(part.endswith(CHUNKED) for part in PurePosixPath(parts.path).parts)
    return any(part.endswith(CHUNKED) for part in Path(spec).parts) or has_zarr_metadata(spec)


def has_zarr_metadata(path: str) -> bool:
    """Whether a folder holds a Zarr array or group."""
    return any(os.path.isfile(os.path.join(path, file)) for file in _METADATA)


def open_chunked(spec: str, name: str) -> ts.TensorStore:
    """The TensorStore [z, y, x] of a Zarr, N5 or precomputed array; of the latter, its largest scale.

    Args:
      spec: a path, s3://BUCKET/PATH or gs://BUCKET/PATH. Credentials for the former come from where `_CREDENTIALS` say;
        AWS_ENDPOINT_URL names another service than Amazon's.
      name: what messages call it.

    Raises:
      InputError: there is no such array, no access to it, or it is no volume.
    """
    context = {"cache_pool": {"total_bytes_limit": CACHE_BYTES}}
    if "://" in spec:
        kvstore, more = _in_the_cloud(spec)
        context |= more
    else:
        kvstore = {"driver": "file", "path": os.path.join(spec, "")}
    try:
        store = ts.open({"driver": "auto", "kvstore": kvstore}, read=True, context=ts.Context(context),
                        recheck_cached_data="open").result(timeout=_ANSWER_SECONDS)
    except TimeoutError as error:
        raise InputError(f"{name}: no answer within {_ANSWER_SECONDS:.0f} s") from error
    except (ValueError, PermissionError) as error:
        if os.path.isfile(os.path.join(spec, ".zgroup")) or '"group"' in str(error):
            raise InputError(f"{name}: a Zarr group; name the array in it, for example {spec.rstrip('/')}/0") from error
        anonymous = ", read without credentials" if context.get("aws_credentials") == {"type": "anonymous"} else ""
        raise InputError(f"{name}: not a Zarr, N5 or precomputed array{anonymous} ({first_line(error)})") from error
    driver = store.spec().to_json()["driver"]
    if driver == "neuroglancer_precomputed":
        if store.shape[3] != 1:
            raise InputError(f"{name}: {store.shape[3]} channels; must be one")
        store = store[..., 0]
    if driver in ("n5", "neuroglancer_precomputed"):
        store = store.T  # stored with x first
    return as_volume(store, name)


def _in_the_cloud(spec: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(key-value store, context) of TensorStore for an s3:// or gs:// URL."""
    parts = urlsplit(spec)
    place = {"bucket": parts.netloc, "path": f"{parts.path.strip('/')}/"}
    if parts.scheme == "gs":
        return {"driver": "gcs", **place}, {}
    if os.environ.get("AWS_ENDPOINT_URL"):
        place |= {"endpoint": os.environ["AWS_ENDPOINT_URL"], "aws_region": os.environ.get("AWS_REGION", "us-east-1")}
    given = any(os.environ.get(variable) for variable in _CREDENTIALS) or any(
        (Path.home() / file).exists() for file in _CREDENTIAL_FILES)
    return {"driver": "s3", **place}, {"aws_credentials": {"type": "default" if given else "anonymous"}}


def as_volume(store: ts.TensorStore, name: str) -> ts.TensorStore:
    """A TensorStore as [z, y, x] that starts at 0, without labels; truth values become 0 and 1."""
    if store.rank not in (2, 3) or 0 in store.shape:
        raise InputError(f"{name}: shape {times(store.shape)}; must be [z, y, x] or [y, x] and not empty")
    store = ts.cast(store, ts.uint8) if store.dtype == ts.bool else store
    if store.dtype.numpy_dtype.kind not in NUMBERS:
        raise InputError(f"{name}: type {store.dtype.name}; must be integers or floats")
    store = store[ts.d[:].translate_to[0]][ts.d[:].label[("",) * store.rank]]
    return store if store.rank == 3 else store[ts.newaxis]


# --- HDF5 ---


def is_hdf5(spec: str) -> bool:
    """Whether a spec is FILE.h5:DATASET, or the file alone."""
    return "://" not in spec and Path(_hdf5_parts(spec)[0]).suffix.lower() in HDF5


def _hdf5_parts(spec: str) -> tuple[str, str]:
    """(file, dataset), the dataset empty if it is not given."""
    file, colon, dataset = spec.rpartition(":")
    return (file, dataset) if colon and Path(file).suffix.lower() in HDF5 else (spec, "")


def open_hdf5(spec: str, name: str) -> ts.TensorStore:
    """The TensorStore [z, y, x] of a dataset in an HDF5 file, FILE.h5:DATASET. The file is open only while a chunk is read.

    Raises:
      InputError: no such file or dataset, or the dataset is no volume; while reading, the same, a dataset of another shape or
        type than before, or data that cannot be decoded.
    """
    file, dataset = _hdf5_parts(spec)
    if not os.path.isfile(file):
        raise InputError(f"{name}: no such file or folder")
    file = os.path.abspath(file)  # the working folder may be another when it is read
    with _hdf5_volume(file, dataset, name) as found:
        shape, dtype = found.shape, found.dtype
        chunks = found.chunks or (*(1,) * (found.ndim - 2), *shape[-2:])

    def read(domain: ts.IndexDomain, array: np.ndarray, _: ts.VirtualChunkedReadParameters) -> None:
        with _hdf5_volume(file, dataset, name) as found:
            if (found.shape, found.dtype) != (shape, dtype):
                raise InputError(f"{name}: is no longer what it was when it was opened ({times(shape)}, {dtype}), but"
                                 f" {times(found.shape)}, {found.dtype}")
            try:
                array[...] = found[domain.index_exp]
            except OSError as error:
                raise InputError(f"{name}: cannot be read ({first_line(error)})") from error

    store = ts.virtual_chunked(
        read, dtype=ts.dtype(np.dtype(dtype).newbyteorder("=")), shape=shape,
        chunk_layout=ts.ChunkLayout(read_chunk_shape=chunks),
        context=ts.Context({"cache_pool": {"total_bytes_limit": CACHE_BYTES}}))
    return as_volume(store, name)


@contextlib.contextmanager
def _hdf5_volume(path: str, dataset: str, name: str) -> Iterator[h5py.Dataset]:
    """A context manager that opens an HDF5 file and yields a dataset of it; InputError if that is no volume."""
    with _ONE_AT_A_TIME:
        try:
            file = h5py.File(path, "r", locking="best-effort")
        except OSError as error:
            raise InputError(f"{name}: cannot be read as HDF5 ({first_line(error)})") from error
        with file:
            found = file.get(dataset) if dataset else None
            if not isinstance(found, h5py.Dataset):
                allowed = ", ".join(_datasets(file)) or "none, as it is empty"
                raise InputError(f"{name}: must be {path}:DATASET, with one of {allowed}")
            if found.ndim not in (2, 3) or 0 in found.shape or found.dtype.kind not in NUMBERS + "b":
                raise InputError(f"{name}: shape {times(found.shape)}, type {found.dtype}; must be [z, y, x] or [y, x] of"
                                 " numbers")
            yield found


def _datasets(file: h5py.File) -> list[str]:
    """The names of all datasets in an HDF5 file."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names
