"""Pictures inside a page: they are the same pictures, and no more than fit."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from yseg.report.embedded import WIDEST, Album, fitting, smaller, thinned


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def opened(content):
    with Image.open(io.BytesIO(content)) as picture:
        return picture.format, np.asarray(picture.convert("RGB"))


def test_a_drawing_stays_as_it_is_and_a_photograph_becomes_a_smaller_jpeg():
    drawing = np.full((200, 300, 3), 255, np.uint8)
    drawing[50:60] = 0
    content, ending = smaller(png(drawing))
    assert ending == ".png"
    np.testing.assert_array_equal(opened(content)[1], drawing)
    photograph = np.repeat(np.repeat(noise(64, 64, 3), 8, 0), 8, 1) // 2 + noise(512, 512, 3) // 16
    content, ending = smaller(png(photograph))
    assert (ending, opened(content)[0]) == (".jpg", "JPEG")
    assert np.abs(opened(content)[1].astype(float) - photograph).mean() < 16


def test_a_wide_picture_becomes_as_wide_as_a_page_shows_it():
    content, _ = smaller(png(np.zeros((300, 2 * WIDEST, 3), np.uint8)))
    assert opened(content)[1].shape == (150, WIDEST, 3)


def test_an_album_takes_no_more_than_fits():
    album = Album(limit=1000)
    uri, = album.add((b"x" * 500, ".png"))
    assert base64.b64decode(uri.removeprefix("data:image/png;base64,")) == b"x" * 500
    assert album.left == 1000 - len(uri)
    assert album.add((b"x" * 500, ".jpg")) is None
    assert album.left == 1000 - len(uri)
    assert album.add((b"x", ".svg")) == ["data:image/svg+xml;base64,eA=="]


@pytest.mark.parametrize("content", [b"", b"no picture", png(noise(20, 20))[:100]])
def test_what_is_damaged_is_not_shown(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    assert Album().add_file(tmp_path / "a.png") is None
    assert Album().add_file(tmp_path / "missing.png") is None


def test_of_many_pictures_evenly_spaced_ones_are_kept():
    assert thinned(12, 12) == list(range(12))
    assert thinned(12, 4) == [1, 4, 7, 10]
    assert fitting([300] * 12, 12 * 500) == list(range(12))
    assert fitting([300] * 12, 6 * 500) == thinned(12, 6)
    assert fitting([300] * 12, 499) == []
