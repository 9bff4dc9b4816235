"""What every test shares: one cache of compiled programs, strict promotion, the real data's folder."""

import atexit
import importlib.metadata
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # of onnxruntime, to its makers; it is on by default
# The tests' arrays are tiny and compiling takes most of their time. All of this also reaches the processes that they start.
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # a flag that a version does not know would end the tests
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers inherit the folder
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="yseg-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """JAX keeps what it has compiled, up to 100 MB a program: of all tests several gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def strict_dtypes():
    """No implicit promotion between types while the test runs."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def real_data():
    """The folder of the EPFL and VNC volumes, named by the environment's YSEG_DATA."""
    folder = os.environ.get("YSEG_DATA")
    if not folder:
        pytest.skip("YSEG_DATA is not set: the EPFL and VNC volumes are needed")
    return Path(folder)


class S3Server:
    """An S3 service on this machine; its buckets are those of this process, and outlast an outage, `stop()` and `start()`."""

    def __init__(self):
        self._place, self._served = ("127.0.0.1", 0), None
        self.start()

    def start(self):
        from moto.server import ThreadedMotoServer  # takes a second

        self._served = ThreadedMotoServer(*self._place, verbose=False)
        self._served.start()
        self._place = self._served.get_host_and_port()

    def stop(self):
        self._served.stop()
        self._served._server.server_close()  # else connections wait

    def permit(self, permitted):
        """Whether what the keys of nobody ask for is done."""
        ask = urllib.request.Request(f"{self.address}/moto-api/reset-auth", b"inf" if permitted else b"0",
                                     {"Content-Type": "text/plain"}, method="POST")
        urllib.request.urlopen(ask).close()

    @property
    def address(self):
        return "http://{}:{}".format(*self._place)


@pytest.fixture(scope="module")
def s3_server():
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A client of the service, with an empty bucket, em-data; yseg has its address and keys."""
    import boto3

    address = s3_server.address
    for name, value in (("AWS_ENDPOINT_URL", address), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"),
                        ("AWS_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    client.create_bucket(Bucket="em-data")
    yield client
    for found in client.list_objects_v2(Bucket="em-data").get("Contents", ()):
        client.delete_object(Bucket="em-data", Key=found["Key"])
    client.delete_bucket(Bucket="em-data")


def pytest_collection_modifyitems(items):
    """Of several workers, none is left with a file that trains networks when the others have nothing more to do."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)
