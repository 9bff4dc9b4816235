"""Outputs whose levels are written by workers: the same files, to the byte."""

import numpy as np
import pytest

from yseg.inference.copies import shared_copy
from yseg.inference.engine import engine
from yseg.volumes.arrays import create_array
from yseg.volumes.create import write_volume
from yseg.volumes.header import FORMATS, Header
from yseg.volumes.volume import open_volume

SHAPE = (70, 300, 1100)  # two parts along z and x


@pytest.fixture(scope="module")
def voxels(tmp_path_factory):
    path = tmp_path_factory.mktemp("voxels") / "a.zarr"
    with create_array(path, SHAPE, np.uint8, 5.0) as store:
        store.write(np.random.default_rng(0).integers(0, 2, SHAPE, np.uint8)).result()
    return open_volume(str(path))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def workers():
    with engine("local:2") as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS[:4])
def test_levels_that_workers_write_are_those_that_this_process_writes(voxels, workers, format, tmp_path):
    ending = {"n5": "n5", "precomputed": "precomputed"}.get(format, "zarr")
    outputs = [tmp_path / folder / f"a.{ending}" for folder in ("own", "shared")]
    for output, more in zip(outputs, ({}, {"copy": shared_copy(workers, quiet=True)}), strict=True):
        write_volume(str(output), voxels, Header("classes", 5.0, 30.0), format=format, **more)
    own, shared = map(files, outputs)
    assert own == shared
    assert len(own) > 10
