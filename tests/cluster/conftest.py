"""A SLURM for the tests of this folder."""

import pytest
import slurm as of_this_machine


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """SLURM with two nodes of four slots, see `slurm.Slurm`."""
    why = of_this_machine.missing()
    if why:
        pytest.skip(why)
    started = of_this_machine.Slurm(tmp_path_factory.mktemp("slurm"))
    yield started
    started.stop()
