"""What every test shares: strict promotion, the real data's folder."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The tests' arrays are tiny and compiling takes most of their time; this also reaches the processes that they start.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def strict_dtypes():
    """No implicit promotion between types while the test runs."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def compiled_folder(tmp_path_factory):
    """Where the tests that ask for `compiled_once`, and the processes that they start, keep what they compile."""
    return str(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def compiled_once(compiled_folder):
    """Whole runs share what is compiled; nothing is left behind for other tests."""
    settings = {"jax_compilation_cache_dir": compiled_folder, "jax_persistent_cache_min_compile_time_secs": 0}
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is settings:
            yield


@pytest.fixture(scope="session")
def real_data():
    """The folder of the EPFL and VNC volumes, named by the environment's YSEG_DATA."""
    folder = os.environ.get("YSEG_DATA")
    if not folder:
        pytest.skip("YSEG_DATA is not set: the EPFL and VNC volumes are needed")
    return Path(folder)
