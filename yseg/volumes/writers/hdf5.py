"""HDF5 files with one dataset, with the attributes that ilastik and Fiji read."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import tensorstore as ts

from yseg.volumes.header import MARK, Header
from yseg.volumes.pyramid import blocks
from yseg.volumes.writers.multiscale import BLOCK, CHUNK

DATASET = "exported_data"  # where none is named; the name that ilastik gives
_IS_SPACE = 2  # what axistags of the library vigra call an axis of space


def write_hdf5(volume: ts.TensorStore, path: Path, header: Header, name: str) -> None:
    """Write a volume [z, y, x] as an HDF5 file, compressed in chunks.

    Args:
      volume: is read once.
      path: the file that is created.
      header: what is stored beside the voxels: `element_size_um` (z, y, x; if the section distance is known) and `axistags`.
      name: of the dataset.
    """
    chunk = tuple(min(size, side) for size, side in zip(volume.shape, CHUNK, strict=True))
    with open(path, "w+b", buffering=0) as raw, h5py.File(disk := _Disk(raw), "w") as file:
        dataset = file.create_dataset(name, shape=volume.shape, dtype=volume.dtype.numpy_dtype, chunks=chunk, compression="gzip",
                                      shuffle=True)
        for place in blocks(volume.shape, BLOCK):
            dataset[place] = volume[place].read().result()
            disk.check()
        if header.section_nm:
            dataset.attrs["element_size_um"] = [size / 1000 for size in header.voxel_nm]
        dataset.attrs["axistags"] = json.dumps({"axes": [
            {"key": axis, "typeFlags": _IS_SPACE, "resolution": 0, "description": ""} for axis in "zyx"]})
        file.attrs[MARK] = json.dumps(header.mark([name]))
    disk.check()


class _Disk:
    """A file for the HDF5 library, which crashes when it meets a full disk: it is told that all is well, and `check` is not."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._error: OSError | None = None
        self.read, self.readinto, self.seek, self.tell, self.flush = file.read, file.readinto, file.seek, file.tell, file.flush

    def write(self, data: memoryview) -> int:
        with self._kept():
            done = 0
            while done < len(data):  # a disk that is nearly full takes a part
                done += self._file.write(data[done:])
        return len(data)

    def truncate(self, size: int) -> int:
        with self._kept():
            self._file.truncate(size)
        return size

    def check(self) -> None:
        """Raise the first OSError that there was."""
        if self._error:
            raise self._error

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error


def is_marked(path: Path) -> bool:
    """Whether a file is HDF5 that was written here and that nothing has been added to."""
    found: list[str] = []
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            holds = json.loads(file.attrs[MARK])["holds"]
            file.visititems_links(lambda name, _: found.append(name))
            groups = {name for name in found if isinstance(file.get(name), h5py.Group)}
    except (OSError, KeyError, TypeError, ValueError):
        return False
    parents = {str(parent) for name in holds for parent in Path(name).parents}
    return all(name in holds or (name in groups and name in parents) for name in found)
