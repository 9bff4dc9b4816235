"""The picture of a first look."""

import numpy as np
import pytest
from looks import LABELS, look
from PIL import Image

from yseg.studies import look_figure
from yseg.studies.look import BINS


def drawn(folder, looks, findings=()):
    path = look_figure.first_look(looks, findings, folder / "new" / "check.png", "a title")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def shown(name, **changed):
    random = np.random.default_rng(len(name))
    classes = (random.random((60, 70)) > 0.9).astype(np.int8) if name == "source" else None
    fields = {"example": (3, random.normal(size=(60, 70)), classes), "normalised": np.ones(len(BINS) - 1),
              "spectrum": (np.arange(1, 9) / 16, np.arange(8, 0, -1.0))}
    return look(name, **fields | changed)


def has(picture, colour):
    return (np.abs(picture.astype(int) - [int(colour[place:place + 2], 16) for place in (1, 3, 5)]).max(axis=-1) <= 2).sum()


def test_both_volumes_are_drawn_in_their_colours_and_labels_in_theirs(tmp_path):
    picture = drawn(tmp_path, [shown("source"), shown("target")])
    assert picture.shape[1] == look_figure.WIDTH * 150
    for colour in (*look_figure.COLOURS.values(), look_figure.TRUTH):
        assert has(picture, colour) > 100


def test_findings_are_written_below_all_of_them(tmp_path):
    looks = [shown("source"), shown("target")]
    none, nine = drawn(tmp_path, looks), drawn(tmp_path, looks, ["something is wrong " * 60] * 9)
    assert nine.shape[0] > none.shape[0] + 500
    below = nine[none.shape[0]:]
    assert (below < 128).any()
    assert (below[-4:] == 255).all()  # nothing is cut off


@pytest.mark.parametrize("changed", [
    {"labels": None}, {"labels": LABELS._replace(size=None, diameters=np.zeros(0))}, {"deviation": 0.0},
    {"spectrum": (np.zeros(0), np.zeros(0))}, {"raw_values": np.full(9, 3.5)}, {"raw_values": np.array([-3e4, 6e4], np.float32)}])
def test_a_volume_that_shows_little_alone_is_drawn(changed, tmp_path):
    assert drawn(tmp_path, [shown("target", **changed)]).std() > 5
