"""Voxels on their way to an output, and which blocks of them are done: a folder, or a prefix of a bucket, beside the output.

    .NAME.blocks/
        job.json        what is made here; another job is not mixed with it
        KIND/           an array for each output, Zarr 3, of which a block writes whole files
        done/NUMBER     of each block whose voxels are all there
        STAGE/NUMBER    the same of what is made of these, with what is known of the block
        output/         in a bucket: outputs while they are written

Any number of processes may work on it at once, on any number of machines; each of them may be killed. A block is done twice
with the same voxels. The output itself is written when all blocks are done, whole or not at all, see `yseg.volumes.create`.
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike

from yseg.config import InputError
from yseg.volumes.arrays import blosc
from yseg.volumes.opened import first_line
from yseg.volumes.places import dataset_of, file_of, is_bucket
from yseg.volumes.prefix import Prefix

JOB, DONE, OUTPUT = "job.json", "done", "output"
_READ_TOGETHER = 8  # sections that are compressed together


def place_of(spec: str) -> str:
    """Where the voxels of an output are collected: an absolute path, or a URL."""
    file, dataset = dataset_of(spec.rstrip("/"))
    file = file if is_bucket(spec) else os.path.realpath(file_of(file))
    above, _, name = file.rpartition("/")
    return f"{above}/.{'.'.join([name, *dataset.split('/')]).rstrip('.')}.blocks"


def is_begun(output: str) -> bool:
    """Whether voxels of an output have been collected that is not written yet."""
    return bool(Prefix.of(place_of(output)).read(JOB))


class Staged:
    """What lies at a place that `place_of` gave."""

    def __init__(self, place: str) -> None:
        """Nothing is read or written yet."""
        self.place = place
        self._files = Prefix.of(place)

    def begin(self, job: Mapping[str, Any], types: Mapping[str, DTypeLike], shape: Sequence[int], chunk: Sequence[int], *,
              discard: bool, name: str) -> None:
        """Make it ready for blocks, or go on with those that are there.

        Args:
          job: what is made, all of which the voxels depend on; numbers, texts, lists and dicts of them.
          types: NumPy types of the voxels, by kind.
          shape: (z, y, x).
          chunk: of the files.
          discard: whether the blocks of another job may be deleted.
          name: what messages call the output.

        Raises:
          InputError: the blocks of another job are there, or the place cannot be written to.
        """
        text = json.dumps(job, indent=2, sort_keys=True)
        try:
            found = self._files.read(JOB)
            if found and found.decode() != text:
                if not discard:
                    raise InputError(f"{name}: {self.place} holds blocks of another segmentation{_difference(found, job)}; give"
                                     " --overwrite to delete them")
                self.remove()
            for kind, dtype in types.items():
                self._create(kind, np.dtype(dtype), shape, chunk)
            self._files.write(JOB, text.encode())
        except (ValueError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{name}: cannot be created ({first_line(error)})") from error

    def voxels(self, kind: str) -> ts.TensorStore:
        """The array [z, y, x] of a kind."""
        return self._files.below(kind).array("zarr3")

    def output(self, kind: str) -> Prefix:
        """A new place where an output of a kind may be assembled, in the store in which it is to be."""
        return self._files.below(OUTPUT).below(f"{kind}-{secrets.token_hex(4)}")

    def done(self, stage: str = DONE) -> set[int]:
        """The numbers of the blocks that are done."""
        keys = self._files.store().list(ts.KvStore.KeyRange(f"{stage}/", f"{stage}0")).result()  # 0 follows /
        names = [key.decode()[len(stage) + 1:] for key in keys]
        return {int(name) for name in names if name.isdigit()}

    def mark(self, number: int, stage: str = DONE, known: bytes = b"") -> None:
        """Say that all voxels of a block are there, and what else is known of it."""
        self._files.write(f"{stage}/{number}", known)

    def known(self, number: int, stage: str) -> bytes:
        """What `mark` was given."""
        return self._files.read(f"{stage}/{number}")

    def remove(self) -> None:
        """Delete all of it; what says what it is comes last."""
        self._files.delete("", JOB)
        self._files.delete(f"{JOB}\0")
        self._files.delete()
        if not is_bucket(self.place):
            shutil.rmtree(self.place, ignore_errors=True)

    def _create(self, kind: str, dtype: np.dtype, shape: Sequence[int], chunk: Sequence[int]) -> None:
        file = [min(int(most), max(1, int(size))) for most, size in zip(chunk, shape, strict=True)]
        together = next(count for count in range(min(_READ_TOGETHER, file[0]), 0, -1) if file[0] % count == 0)
        inner = {"chunk_shape": [together, *file[1:]], "codecs": [{"name": "bytes"}, blosc(dtype, "lz4", 5)],
                 "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]}
        metadata = {"shape": [int(size) for size in shape], "data_type": dtype.name, "dimension_names": ["z", "y", "x"],
                    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": file}},
                    "codecs": [{"name": "sharding_indexed", "configuration": inner}]}
        self._files.below(kind).array("zarr3", metadata=metadata, create=True)


def _difference(found: bytes, job: Mapping[str, Any]) -> str:
    """What differs between a job that is there and another, for messages."""
    try:
        there: Any = json.loads(found)
        names = sorted(key for key in {*there, *job} if there.get(key) != job.get(key))
        key = names[0]
    except (ValueError, AttributeError, IndexError):
        return ""
    return f" ({key} {there.get(key)}, now {job.get(key)})"
