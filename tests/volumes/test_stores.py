"""Chunked arrays: what was written by hand or by another library, as volumes [z, y, x]; and what is refused."""

import http.server
import json
import os
import struct
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

import yseg
from yseg.config import InputError
from yseg.volumes.hdf5 import is_hdf5
from yseg.volumes.stores import is_chunked
from yseg.volumes.volume import open_volume, read_volume


def voxels(shape=(3, 8, 10), dtype=np.uint16):
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def read(spec):
    return open_volume(str(spec)).read().result()


def refused(spec):
    """The message of the InputError for `spec`: one line that names the flag and the spec."""
    with pytest.raises(InputError) as caught:
        open_volume(str(spec), "--image")
    assert str(caught.value).startswith(f"--image={spec}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Local ---


def write_n5(folder, values):
    """An N5 array of one raw block, by hand: sizes with x first, x fastest, big-endian."""
    (folder / "0" / "0").mkdir(parents=True)
    sizes = values.shape[::-1]
    metadata = {"dimensions": sizes, "blockSize": sizes, "dataType": values.dtype.name, "compression": {"type": "raw"}}
    (folder / "attributes.json").write_text(json.dumps(metadata))
    header = struct.pack(">HH3I", 0, 3, *sizes)
    (folder / "0" / "0" / "0").write_bytes(header + values.astype(values.dtype.newbyteorder(">")).tobytes())


def write_precomputed(folder, values, channels=1):
    """A Neuroglancer precomputed volume of one raw chunk, by hand; its origin is not 0."""
    (folder / "full").mkdir(parents=True)
    (x, y, z), offset = values.shape[::-1], (5, 6, 7)
    scale = {"key": "full", "size": [x, y, z], "voxel_offset": offset, "chunk_sizes": [[x, y, z]], "encoding": "raw",
             "resolution": [5, 5, 50]}
    (folder / "info").write_text(json.dumps({
        "@type": "neuroglancer_multiscale_volume", "type": "image", "data_type": values.dtype.name, "num_channels": channels,
        "scales": [scale, {**scale, "key": "half", "size": [x // 2, y // 2, z]}]}))
    name = "_".join(f"{first}-{first + size}" for first, size in zip(offset, (x, y, z), strict=True))
    (folder / "full" / name).write_bytes(values.tobytes() * channels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_n5_and_precomputed_are_z_y_x(tmp_path, dtype):
    values = voxels(dtype=dtype)
    write_n5(tmp_path / "a.n5" / "volumes" / "raw", values)
    write_precomputed(tmp_path / "a.precomputed", values)
    for spec in (tmp_path / "a.n5" / "volumes" / "raw", tmp_path / "a.precomputed"):
        store = open_volume(str(spec))
        assert (tuple(store.shape), tuple(store.origin)) == (values.shape, (0, 0, 0))
        np.testing.assert_array_equal(store.read().result(), values)
        np.testing.assert_array_equal(store[1, 2:5, 3:].read().result(), values[1, 2:5, 3:])


def test_several_channels_and_what_is_missing_are_refused(tmp_path):
    write_precomputed(tmp_path / "a.precomputed", voxels(), channels=2)
    assert "2 channels" in refused(tmp_path / "a.precomputed")
    assert "no such file" in refused(tmp_path / "b.n5")
    (tmp_path / "c.n5").mkdir()
    assert "not a Zarr, N5 or precomputed array" in refused(tmp_path / "c.n5")


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 4, 4), "compression": "gzip"}])
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32", "bool"])
def test_an_hdf5_dataset_has_the_values_that_were_written(tmp_path, options, dtype):
    values = voxels().astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", data=values, **options)
        file.create_dataset("section", data=values[0])
    store = open_volume(f"{tmp_path / 'a.h5'}:volumes/raw")
    np.testing.assert_array_equal(store.read().result(), values)
    np.testing.assert_array_equal(store[1:, 3:5, 4:9].read().result(), values[1:, 3:5, 4:9])
    np.testing.assert_array_equal(read(f"{tmp_path / 'a.h5'}:/section"), values[:1])


def test_many_threads_read_volumes_of_one_hdf5_file(tmp_path):
    values = voxels((12, 64, 64), np.uint8)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for number in range(2):
            file.create_dataset(f"raw{number}", data=values + number, chunks=(1, 32, 32), compression="gzip")
    stores = [open_volume(f"{tmp_path / 'a.hdf5'}:raw{number}") for number in range(2)]
    reads = [stores[k % 2][k % 12, k % 7:, 5:60].read() for k in range(96)]
    for k, future in enumerate(reads):
        np.testing.assert_array_equal(future.result(), values[k % 12, k % 7:, 5:60] + k % 2)


def test_an_hdf5_file_is_open_only_while_it_is_read(tmp_path, monkeypatch):
    values, path = voxels(), tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=values, chunks=(1, 8, 10))
        file.create_dataset("labels", data=values + 1, chunks=(1, 8, 10))
    monkeypatch.chdir(tmp_path)
    image, labels = open_volume("a.h5:raw"), open_volume("a.h5:labels")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(image[:2].read().result(), values[:2])
    np.testing.assert_array_equal(labels[:2].read().result(), values[:2] + 1)
    assert str(path) not in {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
    code = "import sys, h5py; h5py.File(sys.argv[1], 'r+', locking=True)['raw'][2] = 7"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=120)
    assert (image[2].read().result() == 7).all()


@pytest.mark.parametrize("change", ["deleted", "cut", "another shape", "another type", "without the dataset"])
def test_an_hdf5_file_that_changed_after_it_was_opened_is_refused(tmp_path, change):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=voxels())
    store = open_volume(f"{path}:raw", "--image")
    if change == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        path.unlink()
    replacement = {"another shape": ("raw", voxels((4, 8, 10))), "another type": ("raw", voxels().astype(np.uint8)),
                   "without the dataset": ("other", voxels())}
    if change in replacement:
        name, values = replacement[change]
        with h5py.File(path, "w") as file:
            file.create_dataset(name, data=values)
    with pytest.raises(InputError) as caught:
        store.read().result()
    assert str(caught.value).startswith(f"--image={path}:raw: ")
    assert "\n" not in str(caught.value)


def test_hdf5_that_is_no_volume_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("volumes/raw", data=voxels())
        file.create_dataset("movie", data=np.zeros((2, 3, 4, 5)))
        file.create_dataset("names", data=[b"a", b"b"])
        file.create_dataset("long", data=voxels().astype(np.longdouble))
    for spec in (path, f"{path}:raw", f"{path}:volumes"):
        assert "one of long, movie, names, volumes/raw" in refused(spec)
    assert "2 x 3 x 4 x 5" in refused(f"{path}:movie")
    assert "type object" in refused(f"{path}:names")
    assert "type float128; must be [z, y, x] or [y, x] of numbers" in refused(f"{path}:long")
    assert "no such file" in refused(tmp_path / "b.h5:raw")
    path.write_bytes(b"not HDF5")
    assert "cannot be read as HDF5" in refused(f"{path}:raw")


def test_a_file_or_an_empty_folder_with_the_name_of_an_array_is_refused(tmp_path):
    (tmp_path / "a.zarr").write_text("no folder")
    (tmp_path / "b.zarr" / "0").mkdir(parents=True)
    assert "a file; a Zarr, N5 or precomputed array is a folder" in refused(tmp_path / "a.zarr")
    for spec in ("b.zarr", "b.zarr/0"):
        assert "not a Zarr, N5 or precomputed array" in refused(tmp_path / spec)
    assert "no such file" in refused(tmp_path / "b.zarr" / "1")


@pytest.mark.parametrize("ending", ["zarr", "n5", "precomputed"])
def test_an_array_below_a_backslash_is_refused(tmp_path, ending, monkeypatch):
    (tmp_path / "a\\b").mkdir()
    values, folder = voxels(), tmp_path / "a\\b" / f"c.{ending}"
    if ending == "zarr":
        zarr.create_array(folder, shape=values.shape, dtype="u2")[...] = values
    else:
        {"n5": write_n5, "precomputed": write_precomputed}[ending](folder, values)
    assert refused(folder).endswith("must be a path with / and without \\")
    monkeypatch.chdir(tmp_path / "a\\b")
    assert "without \\" in refused(f"c.{ending}")


def test_what_names_which_format():
    assert is_chunked("s3://bucket/folder/a.zarr/0")
    assert is_chunked("gs://bucket/a.precomputed")
    assert is_chunked("https://host/a.zarr")
    assert not is_chunked("ftp://host/a.zarr")
    assert not is_chunked("s3://bucket/a.tif")
    assert is_hdf5("folder:with:colons/a.H5:b/c")
    assert not is_hdf5("a.h5.zarr:b")


def test_files_below_folders_that_are_named_like_arrays_are_what_they_are(tmp_path):
    values = voxels(dtype=np.uint8)
    for folder in ("run.zarr", "exp.n5/sec", "e.precomputed", "x.h5:y", "all.h5"):
        (tmp_path / folder).mkdir(parents=True)
    tifffile.imwrite(tmp_path / "run.zarr" / "a.tif", values, photometric="minisblack")
    tifffile.imwrite(tmp_path / "x.h5:y" / "a.tif", values, photometric="minisblack")
    for folder in ("run.zarr", "x.h5:y"):
        with h5py.File(tmp_path / folder / "b.h5", "w") as file:
            file["raw/0"] = values
        assert "must be" in refused(tmp_path / folder / "b.h5:raw")
        for spec in ("a.tif", "b.h5", "b.h5:raw/0"):
            np.testing.assert_array_equal(read(tmp_path / folder / spec), values)
    for folder in ("exp.n5/sec", "e.precomputed", "all.h5"):
        for number, section in enumerate(values):
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", section)
        np.testing.assert_array_equal(read(tmp_path / folder), values)
    np.testing.assert_array_equal(read(tmp_path / "x.h5:y/a.tif"), values)
    assert "no such file" in refused(tmp_path / "run.zarr" / "gone.tif")


def test_sections_beside_arrays_do_not_hide_them(tmp_path):
    values = voxels()
    write_n5(tmp_path / "a.n5", values)
    tifffile.imwrite(tmp_path / "a.n5" / "preview.tif", values[0])
    write_n5(tmp_path / "b.n5" / "group" / "raw", values)
    tifffile.imwrite(tmp_path / "b.n5" / "group" / "preview.tif", values[0])
    write_precomputed(tmp_path / "folder", values)
    for spec in ("a.n5", "b.n5/group", "b.n5", "folder"):
        np.testing.assert_array_equal(read(tmp_path / spec), values)


def test_the_name_of_an_hdf5_dataset_may_have_colons(tmp_path):
    values = voxels()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["b:c"], file["d.h5:e"] = values, values + 1
    np.testing.assert_array_equal(read(f"{tmp_path}/a.h5:b:c"), values)
    np.testing.assert_array_equal(read(f"{tmp_path}/a.h5:d.h5:e"), values + 1)
    assert "one of b:c, d.h5:e" in refused(f"{tmp_path}/a.h5:gone:x")


# --- In the cloud ---


class Bucket(http.server.SimpleHTTPRequestHandler):
    """The parts of S3's and of Google's interface that reading takes, over the files of a folder."""

    def log_message(self, *message):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        parts = urllib.parse.urlsplit(self.path)
        google = parts.path.startswith("/storage/v1/b/")
        key = urllib.parse.unquote(parts.path.removeprefix("/storage/v1/b/").replace("/o/", "/", 1)).lstrip("/")
        file = self.server.folder / key
        if not file.is_file():
            return self._send(404, b"")
        body = file.read_bytes()
        if google and "alt=media" not in parts.query:
            body = json.dumps({"name": key, "size": str(len(body)), "generation": "1", "metageneration": "1"}).encode()
        wanted = self.headers.get("Range")
        code = 200
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            body, code = body[int(first):int(last) + 1 if last else None], 206
        self._send(code, body, with_body)

    def _send(self, code, body, with_body=True):
        self.send_response(code)
        for name, value in (("ETag", '"1"'), ("x-goog-generation", "1"), ("Content-Length", len(body))):
            self.send_header(name, str(value))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def bucket(tmp_path):
    """(address of a server of buckets on this machine, the folder of its bucket "em-data")."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.folder = tmp_path
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "em-data"
    server.shutdown()
    server.server_close()


def test_arrays_in_an_s3_bucket_are_read_without_credentials(bucket, monkeypatch, tmp_path):
    address, folder = bucket
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("HOME", str(tmp_path))  # where there are no credentials
    values = voxels(dtype=np.uint8)
    array = zarr.create_array(folder / "a.zarr", shape=values.shape, dtype="uint8", chunks=(1, 8, 5))
    array[...] = values
    write_n5(folder / "b.n5", values)
    np.testing.assert_array_equal(read("s3://em-data/a.zarr"), values)
    np.testing.assert_array_equal(read("s3://em-data/b.n5/"), values)
    assert "not a Zarr, N5 or precomputed array, read without credentials" in refused("s3://em-data/c.zarr")


def test_arrays_in_a_google_bucket_are_read_in_a_process_that_knows_the_address(bucket, tmp_path):
    """The address is read once in a process, when TensorStore is first used."""
    address, folder = bucket
    values = voxels(dtype=np.uint8)
    write_precomputed(folder / "a.precomputed", values)
    code = "import sys; from yseg.volumes.volume import open_volume; print(open_volume(sys.argv[1]).read().result().sum())"
    environment = {**os.environ, "TENSORSTORE_GCS_HTTP_URL": address, "GOOGLE_AUTH_TOKEN_FOR_TESTING": "abc",
                   "PYTHONPATH": str(Path(yseg.__file__).parents[1])}
    printed = subprocess.run([sys.executable, "-c", code, "gs://em-data/a.precomputed"], env=environment, check=True, timeout=120,
                             stdout=subprocess.PIPE, text=True).stdout
    assert int(printed) == values.sum(dtype=int)


def test_arrays_on_a_web_server_are_read(bucket):
    address, folder = bucket
    values = voxels(dtype=np.uint8)
    group = zarr.open_group(folder / "ä b.zarr", mode="w")
    group.create_array("0", shape=values.shape, dtype="uint8")[...] = values
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{
        "axes": [{"name": name, "unit": "nanometer"} for name in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [50, 5, 5]}]}]}]}
    write_n5(folder / "b.n5", values)
    write_precomputed(folder / "c.precomputed", values)
    group = zarr.open_group(folder / "d.zarr", mode="w", zarr_format=2)
    group.create_array("raw", shape=values.shape, dtype="uint8")[...] = values
    for spec, size in (("ä b.zarr", 5), ("%C3%A4%20b.zarr/0", 5), ("b.n5/", None), ("c.precomputed", 5), ("d.zarr/raw", None)):
        opened = read_volume(f"{address}/em-data/{spec}")
        np.testing.assert_array_equal(opened.store.read().result(), values)
        assert opened.voxel_nm[1:] == (size, size)
    assert "a group; name the array in it, for example" in refused(f"{address}/em-data/d.zarr")
    assert "not a Zarr, N5 or precomputed array" in refused(f"{address}/em-data/gone.zarr")
    assert "\n" not in refused("http://127.0.0.1:9/a.zarr")
