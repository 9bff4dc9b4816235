"""yseg.view.server: what it serves is read by others, voxel by voxel; nothing else is served."""

import http.client
import itertools
import json
import math
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import tensorstore as ts
import tifffile
import yaozarrs
import zarr
from PIL import Image

from yseg.config import Domain, InputError
from yseg.view.server import Server
from yseg.view.shown import of_image
from yseg.volumes.create import create_volume
from yseg.volumes.volume import read_volume

SHAPE = (19, 150, 140)
CLIENT = "<!doctype html><title>client</title>"


@contextmanager
def served(shown, folder, **options):
    (folder / "client").mkdir(exist_ok=True)
    index = folder / "client" / "index.html"
    index.write_text(CLIENT)
    with Server(shown, {index.name: index}, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def array(server, name, number):
    """A level, read by TensorStore."""
    return ts.open({"driver": "zarr3", "kvstore": f"{server.volumes}/{name}.zarr/{number}/"}).result().read().result()


def get(server, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def coarser(values, labels):
    """Half the rows and columns by NumPy: means of what there is of each cell, or its most frequent, least value."""
    z, y, x = values.shape
    cells = [[values[:, 2 * row:2 * row + 2, 2 * column:2 * column + 2].reshape(z, -1) for column in range(-(-x // 2))]
             for row in range(-(-y // 2))]

    def mode(cell):
        found = np.sort(cell, 1)
        counts = (found[:, :, None] == found[:, None]).sum(2)
        return found[np.arange(z), counts.argmax(1)]

    one = mode if labels else lambda cell: cell.astype(np.float64).mean(1)
    return np.stack([np.stack([one(cell) for cell in row], 1) for row in cells], 1)


def numbers(dtype):
    random = np.random.default_rng(1)
    if np.dtype(dtype).kind == "f":
        return random.normal(0, 3, SHAPE).astype(dtype)
    few = random.integers(0, 6, SHAPE)
    return (few * (np.iinfo(dtype).max // 7) + few % 2).astype(dtype)


def stored(folder, form, values, kind):
    """The spec of a volume in a format."""
    if form == "folder":
        (folder / "sections").mkdir()
        for number, section in enumerate(values):
            Image.fromarray(section).save(folder / "sections" / f"{number}.png")
        return str(folder / "sections")
    spec = f"{folder}/{form}"
    if form == "plain.tif":
        tifffile.imwrite(spec, values, compression="zlib")
        return spec
    with create_volume(spec, values.shape, values.dtype, 4.0, section_nm=50.0, kind=kind) as store:
        store[...] = values
    return spec


@pytest.mark.parametrize(("form", "dtype"), [
    ("a.tif", np.uint8), ("plain.tif", np.uint16), ("plain.tif", np.float32), ("folder", np.uint8), ("a.n5", np.uint16),
    ("a.h5:raw", np.float32), ("a.zarr", np.int16), ("a.precomputed", np.uint8)])
def test_images_of_every_format_are_served_with_all_levels(form, dtype, tmp_path):
    values = numbers(dtype)
    spec = stored(tmp_path, form, values, "image")
    with served(of_image(Domain(image=spec, pixel_size_nm=4.0, section_nm=50.0), {}), tmp_path) as server:
        found = [array(server, "image", number) for number in range(3)]
    assert [level.shape for level in found] == [SHAPE, (19, 75, 70), (19, 38, 35)]
    assert {level.dtype for level in found} == {np.dtype(dtype)}
    np.testing.assert_array_equal(found[0], values)
    for fine, coarse in itertools.pairwise(found):
        np.testing.assert_allclose(coarse, coarser(fine, labels=False), atol=1e-5 if np.dtype(dtype).kind == "f" else 0.5)


@pytest.mark.parametrize(("form", "dtype"), [
    ("plain.tif", np.uint32), ("a.n5", np.uint64), ("a.precomputed", np.uint64), ("a.zarr", np.uint32), ("a.h5:ids", np.uint64)])
def test_numbers_of_objects_stay_as_they_are_on_all_levels(form, dtype, tmp_path):
    values = numbers(dtype)
    image, spec = stored(tmp_path, "folder", numbers(np.uint8), "image"), stored(tmp_path, form, values, "labels")
    with served(of_image(Domain(image=image, pixel_size_nm=4.0, section_nm=50.0), {"instances": spec}), tmp_path) as server:
        found = [array(server, "instances", number) for number in range(3)]
    assert {level.dtype for level in found} == {np.dtype(dtype)}
    np.testing.assert_array_equal(found[0], values)
    for fine, coarse in itertools.pairwise(found):
        np.testing.assert_array_equal(coarse, coarser(fine, labels=True))


def test_a_volume_in_a_bucket_and_a_drawn_one(s3, tmp_path):
    values = numbers(np.uint8)
    with create_volume("s3://em-data/f/a.zarr", SHAPE, np.uint8, 4.0, section_nm=50.0, kind="image") as store:
        store[...] = values
    drawn = "phantom://target/labels?shape=19,150,140"
    with served(of_image(Domain(image="s3://em-data/f/a.zarr"), {"labels": drawn}), tmp_path) as server:
        np.testing.assert_array_equal(array(server, "image", 0), values)
        np.testing.assert_array_equal(array(server, "truth", 0), read_volume(drawn).store.read().result())


def test_sizes_places_and_metadata_are_read_by_others(tmp_path):
    image, part = numbers(np.uint8), numbers(np.uint8)[3:9, 20:120, 30:100] % 2
    spec = stored(tmp_path, "a.zarr", image, "image")
    with create_volume(str(tmp_path / "part.n5"), part.shape, np.uint8, 4.0, section_nm=50.0, start=(3, 20, 30)) as store:
        store[...] = part
    with served(of_image(Domain(image=spec), {"segmentation": str(tmp_path / "part.n5")}), tmp_path) as server:
        for name in ("image", "prediction"):
            assert yaozarrs.validate_zarr_store(f"{server.volumes}/{name}.zarr")
        urls = [f"{server.volumes}/{name}.zarr" for name in ("image", "prediction")]
        whole, found, coarse = read_volume(urls[0]), read_volume(urls[1]), read_volume(urls[1], near_nm=8)
        second = zarr.open_array(f"{urls[1]}/1", mode="r")
        np.testing.assert_array_equal(second[...], coarser(part, labels=True))
        assert second.metadata.dimension_names == ("z", "y", "x")
    assert whole.voxel_nm == found.voxel_nm == (50, 4, 4)
    assert found.start == (3, 20, 30)
    assert [start or 0 for start in whole.start] == [0, 0, 0]
    assert coarse.voxel_nm == (50, 8, 8)
    assert coarse.start == pytest.approx((3, 10.25, 15.25))  # the middle of the first voxel of the coarser level
    np.testing.assert_array_equal(found.store.read().result(), part)


def test_nothing_but_the_client_and_the_volumes_is_served(tmp_path):
    (tmp_path / "secret").write_text("x")
    with served(of_image(Domain(image="phantom://source/image?shape=2,20,30", pixel_size_nm=5), {}), tmp_path) as server:
        root = server.client.removeprefix(f"http://127.0.0.1:{server.server_port}")
        status, body, headers = get(server, root)
        assert (status, body.decode(), headers["Access-Control-Allow-Origin"]) == (200, CLIENT, "*")
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")  # a browser fetches nothing from elsewhere
        assert get(server, f"{root}volumes/image.zarr/0/c/0/0/0")[:2] == (
            200, read_volume("phantom://source/image?shape=2,20,30").store.read().result().tobytes())
        volume = f"{root}volumes/image.zarr"
        for path in (
                "/", "/v/", "/v/word/", "/index.html", f"{root}../{tmp_path}/secret", f"{root}{tmp_path}/secret", f"{root}%2e%2e",
                f"{root}client/index.html", f"{root}volumes", f"{root}volumes/image", f"{root}volumes/other.zarr/zarr.json",
                f"{volume}/", f"{volume}/0", f"{volume}/9/zarr.json", f"{volume}/00/zarr.json", f"{volume}/9/c/0/0/0",
                f"{volume}/0/c/0/0/1", f"{volume}/0/c/0/0", f"{volume}/0/c/-1/0/0"):
            assert get(server, path)[:2] == (404, b""), path
        assert get(server, f"{root}volumes/image.zarr/zarr.json", "HEAD")[:2] == (200, b"")
        assert get(server, root, "OPTIONS")[2]["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
        assert get(server, root, "POST")[0] == 501
        others = [found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
        for other in {address for address in others if not address.startswith("127.")}:
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((other, server.server_port), timeout=5).close()


def test_each_server_has_an_address_that_nobody_can_guess(tmp_path):
    shown = of_image(Domain(image="phantom://source/image?shape=2,20,30", pixel_size_nm=5), {})
    with served(shown, tmp_path) as one, served(shown, tmp_path) as other:
        words = {server.client.split("/")[-2] for server in (one, other)}
    assert len(words) == 2
    assert min(map(len, words)) * math.log2(64) >= 96


def test_damaged_voxels_are_an_error_of_one_line_and_the_rest_is_served(tmp_path, capsys):
    spec = stored(tmp_path, "a.n5", numbers(np.uint8) % 2, "classes")
    (tmp_path / "a.n5" / "s0" / "1" / "1" / "0").write_bytes(b"damaged")
    shown = of_image(Domain(image="phantom://source/image?shape=19,150,140", pixel_size_nm=4), {"segmentation": spec})
    with served(shown, tmp_path) as server:
        chunks = f"{server.volumes.split(str(server.server_port))[1]}/prediction.zarr/0/c"
        assert [get(server, f"{chunks}/{place}")[0] for place in ("0/0/0", "0/1/1", "0/1/0")] == [200, 500, 200]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--segmentation" in said or "s0" in said


def test_a_client_hears_that_the_server_is_there_until_it_ends(tmp_path):
    with served(of_image(Domain(image="phantom://source/image?shape=2,20,30", pixel_size_nm=5), {}), tmp_path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        connection.request("GET", f"{server.events}?c=1")
        answer = connection.getresponse()
        assert (answer.headers["Content-Type"], answer.read(3)) == ("text/event-stream", b":\n\n")
        assert get(server, "/events/word")[0] == 404
    answer.read()  # it ends, else this would time out
    connection.close()


def test_a_port_that_is_taken_is_an_error_of_one_line(tmp_path):
    shown = of_image(Domain(image="phantom://source/image?shape=2,20,30", pixel_size_nm=5), {})
    with served(shown, tmp_path) as server, pytest.raises(
            InputError, match=rf"^--port={server.server_port}: is taken by another program; must be a free port"):
        Server(shown, {}, server.server_port)


def test_metadata_is_strict_json(tmp_path):
    with served(of_image(Domain(image="phantom://source/image?shape=2,20,30", pixel_size_nm=5), {}), tmp_path) as server:
        found = json.loads(get(server, f"{server.volumes.split(str(server.server_port))[1]}/image.zarr/0/zarr.json")[1])
    assert found["codecs"] == [{"name": "bytes"}]
    assert found["chunk_grid"]["configuration"]["chunk_shape"] == [2, 20, 30]
