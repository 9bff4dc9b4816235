"""Outputs in buckets: S3 as moto serves it on this machine, Google's interface by a server of the few calls that it takes."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import tensorstore as ts

import yseg
from yseg.config import InputError
from yseg.volumes import bucket
from yseg.volumes.create import check_output, create_volume

BUCKET = "em-data"
ROOT = Path(yseg.__path__[0]).parent
INNER = {"a.zarr": ("zarr3", "0/"), "a.n5": ("n5", "s0/"), "a.precomputed": ("neuroglancer_precomputed", "")}
VALUES = np.random.default_rng(0).integers(0, 255, (3, 150, 140)).astype(np.uint8)


def empty(client):
    for key in keys(client):
        client.delete_object(Bucket=BUCKET, Key=key)


def keys(client):
    return [found["Key"] for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", ())]


def write(name, values=VALUES, **options):
    with create_volume(f"s3://em-data/f/{name}", values.shape, values.dtype, 4.6, kind="image", **options) as store:
        store[...] = values


def downloaded(client, name, folder):
    """The values of a volume whose objects are copied into a folder by Amazon's own client."""
    for key in keys(client):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        client.download_file(BUCKET, key, str(folder / key))
    driver, inner = INNER[name]
    store = ts.open({"driver": driver, "kvstore": f"file://{folder}/f/{name}/{inner}"}).result().read().result()
    return store if driver == "zarr3" else store.T.reshape(store.shape[:3][::-1])


@pytest.mark.parametrize("name", INNER)
def test_a_volume_in_an_s3_bucket_is_whole_and_replaced_by_a_whole_one(s3, tmp_path, name):
    write(name)
    np.testing.assert_array_equal(downloaded(s3, name, tmp_path / "1"), VALUES)
    with pytest.raises(InputError, match=r"^--output=s3://em-data/f/.*exists already; give --overwrite to replace it$"):
        check_output(f"s3://em-data/f/{name}")
    write(name, VALUES[:1, :20] + 1, overwrite=True)
    np.testing.assert_array_equal(downloaded(s3, name, tmp_path / "2"), VALUES[:1, :20] + 1)
    assert not any(bucket.UNFINISHED in key for key in keys(s3))


def test_what_another_program_wrote_into_a_bucket_stays(s3):
    s3.put_object(Bucket=BUCKET, Key="f/a.zarr/thesis.tex", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="f/b.zarr/zarr.json", Body=b'{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    write("c.zarr")
    s3.put_object(Bucket=BUCKET, Key="f/c.zarr/labels/zarr.json", Body=b"{}")
    before = keys(s3)
    for name in ("a.zarr", "b.zarr", "c.zarr"):
        with pytest.raises(InputError, match="it will not be replaced"):
            write(name, overwrite=True)
    assert keys(s3) == before
    check_output("s3://em-data/f/d.zarr")


def test_nothing_is_copied_if_the_writing_fails(s3):
    with pytest.raises(ZeroDivisionError), create_volume("s3://em-data/f/a.zarr", (2, 9, 9), np.uint8, 5):
        raise ZeroDivisionError
    assert keys(s3) == [f"f/a.zarr/{bucket.UNFINISHED}"]
    write("a.zarr")  # what is left is in nobody's way


def test_an_unfinished_copy_has_no_metadata_and_is_replaced(s3, tmp_path):
    s3.put_object(Bucket=BUCKET, Key=f"f/a.n5/{bucket.UNFINISHED}", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="f/a.n5/s0/9/9/9", Body=b"of an older attempt")
    write("a.n5")
    assert "f/a.n5/s0/9/9/9" not in keys(s3)
    np.testing.assert_array_equal(downloaded(s3, "a.n5", tmp_path), VALUES)


KILLED = """
import os, signal, sys, threading
import numpy as np
from yseg.volumes import bucket
from yseg.volumes.create import create_volume
with create_volume(sys.argv[1], (20, 500, 500), np.uint8, 5, kind="image") as store:
    store[...] = 7
    upload = bucket.upload
    def begin(*arguments):
        print("begins", flush=True)
        upload(*arguments)
    bucket.upload = begin
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.3])
def test_of_a_killed_copy_only_what_is_whole_has_metadata(s3, seconds):
    child = subprocess.Popen([sys.executable, "-c", KILLED, "s3://em-data/a.n5"], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout.readline()
    time.sleep(seconds)
    child.kill()
    child.communicate()
    found = keys(s3)
    for level, (y, x) in enumerate(((4, 4), (2, 2), (1, 1), (1, 1))):
        if f"a.n5/s{level}/attributes.json" in found or "a.n5/attributes.json" in found:
            assert len([key for key in found if key.startswith(f"a.n5/s{level}/") and key[-1].isdigit()]) == 2 * y * x
    check_output("s3://em-data/a.n5", overwrite=True)


def test_a_volume_that_cannot_be_copied_is_kept(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    failing = pytest.raises(InputError, match="the volume is whole and stays in")
    with failing as caught, create_volume("s3://em-data/a.zarr", (2, 9, 9), np.uint8, 5) as store:
        store[...] = 7
        empty(s3)
        s3.delete_bucket(Bucket=BUCKET)
    s3.create_bucket(Bucket=BUCKET)
    (folder,) = tmp_path.iterdir()
    assert str(caught.value).endswith(str(folder))
    assert (ts.open({"driver": "zarr3", "kvstore": f"file://{folder}/0/"}).result().read().result() == 7).all()


def test_a_bucket_that_cannot_be_written_to_is_one_line(s3):
    with pytest.raises(InputError, match=r"^--output=s3://nowhere/a.zarr: cannot be "):
        check_output("s3://nowhere/a.zarr")


class Google(BaseHTTPRequestHandler):
    """The calls of Google's interface that reading, writing, listing and deleting take, over a dictionary of objects."""

    def log_message(self, *message):
        pass

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        query, key = dict(urllib.parse.parse_qsl(parts.query)), urllib.parse.unquote(parts.path.partition("/o/")[2])
        if not key:
            items = [{"name": name} for name in sorted(self.server.objects) if name.startswith(query.get("prefix", ""))]
            return self._send(200, json.dumps({"items": items}).encode())
        if key not in self.server.objects:
            return self._send(404, b"{}")
        body = self.server.objects[key]
        self._send(200, body if query.get("alt") == "media" else self._described(key))

    def do_POST(self):
        key = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))["name"]
        self.server.objects[key] = self.rfile.read(int(self.headers["Content-Length"]))
        self._send(200, self._described(key))

    def do_DELETE(self):
        self.server.objects.pop(urllib.parse.unquote(urllib.parse.urlsplit(self.path).path.partition("/o/")[2]), None)
        self._send(204, b"")

    def _described(self, key):
        return json.dumps({"name": key, "size": str(len(self.server.objects[key])), "generation": "1",
                           "metageneration": "1"}).encode()

    def _send(self, code, body):
        self.send_response(code)
        for name, value in (("ETag", '"1"'), ("x-goog-generation", "1"), ("Content-Length", len(body))):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)


GOOGLE = """
import numpy as np
from yseg.config import InputError
from yseg.volumes.create import create_volume
for value in (1, 7):
    with create_volume("gs://em-data/f/a.zarr", (2, 30, 40), np.uint8, 5.0, overwrite=True) as store:
        store[...] = value
"""


def test_a_volume_in_a_google_bucket_is_whole(tmp_path):
    """The address is read once in a process, when TensorStore is first used."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Google)
    server.objects = {}
    Thread(target=server.serve_forever, daemon=True).start()
    environment = {**os.environ, "TENSORSTORE_GCS_HTTP_URL": f"http://127.0.0.1:{server.server_address[1]}",
                   "GOOGLE_AUTH_TOKEN_FOR_TESTING": "abc"}
    subprocess.run([sys.executable, "-c", GOOGLE], env=environment, cwd=ROOT, check=True, timeout=120)
    server.shutdown()
    server.server_close()
    for key, body in server.objects.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(body)
    assert {path.name for path in (tmp_path / "f" / "a.zarr").iterdir()} == {"zarr.json", "0"}
    assert (ts.open({"driver": "zarr3", "kvstore": f"file://{tmp_path}/f/a.zarr/0/"}).result().read().result() == 7).all()
