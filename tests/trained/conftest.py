"""What several tests of this folder share."""

import pytest
from tiny import experiment

import yseg
from yseg.config import Inference


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run, whose probabilities are averaged over neighbouring sections."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    yseg.train(experiment(inference=Inference(tile_size=32, overlap=4, depth_nm=60.0)), workdir, quiet=True)
    return workdir
