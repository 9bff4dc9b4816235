"""Sections as small pictures: what lies on them, and that a folder of them is whole."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from yseg.report.figures import CORRECT, FALSE_ALARM, FILL, MISSED, PREDICTION
from yseg.report.stack import LARGEST, Seen, read_stack, write_stack


def seen(number=3, shape=(60, 80), truth=None):
    labels = np.zeros(shape, np.uint8)
    labels[10:30, 10:30] = 1
    return Seen(number, np.random.default_rng(number).normal(100, 20, shape), labels, truth)


def rgba(content):
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGBA"))


def colour(pixel):
    colours = np.array([to_rgb(each) for each in (CORRECT, MISSED, FALSE_ALARM, PREDICTION)])
    return np.abs(pixel[:3] / 255 - colours).max(1).argmin()


def test_the_overlay_is_transparent_but_where_something_is_segmented(tmp_path):
    write_stack([seen()], tmp_path / "a", {"image": "a.tif"})
    stack = read_stack(tmp_path / "a")
    (number, image, overlay), = stack.sections
    pixels = rgba(overlay)
    assert (number, stack.size, pixels.shape) == (3, (80, 60), (60, 80, 4))
    inside = np.zeros((60, 80), bool)
    inside[10:30, 10:30] = True
    assert (pixels[..., 3] > 0).tolist() == inside.tolist()
    assert pixels[20, 20, 3] == round(255 * FILL)
    assert pixels[10, 20, 3] == 255
    assert {colour(pixel) for pixel in pixels[inside]} == {3}
    assert Image.open(io.BytesIO(image)).size == (80, 60)
    assert stack.told == {"image": "a.tif", "width": 80, "share": 400 / 4800}


def test_right_and_wrong_have_their_colours(tmp_path):
    truth = np.zeros((60, 80), np.int8)
    truth[10:30, 20:40] = 1
    truth[50:, :] = -1
    write_stack([seen(truth=truth)], tmp_path / "a", {})
    stack = read_stack(tmp_path / "a")
    pixels = rgba(stack.sections[0][2])
    assert [colour(pixels[20, column]) for column in (25, 35, 15)] == [0, 1, 2]
    assert list(stack.legend) == ["correct", "missed", "false alarm", "no label"]
    assert pixels[55, 40, 3] > 0
    assert pixels[45, 40, 3] == 0


def test_large_sections_are_drawn_small_and_those_before_are_replaced(tmp_path):
    write_stack([seen(number) for number in (1, 2)], tmp_path / "a", {})
    write_stack([seen(7, (LARGEST, 3 * LARGEST))], tmp_path / "a", {})
    assert read_stack(tmp_path / "a").size == (LARGEST, LARGEST // 3)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["7.jpg", "7.png", "index.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failure_leaves_the_sections_before(tmp_path):
    def failing():
        yield seen(8)
        raise OSError("cannot be read")

    write_stack([seen(1)], tmp_path / "a", {})
    with pytest.raises(OSError, match="cannot be read"):
        write_stack(failing(), tmp_path / "a", {})
    assert [number for number, *_ in read_stack(tmp_path / "a").sections] == [1]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"sections": [5], "size": [1, 1], "legend": {}}'])
def test_what_is_no_folder_of_sections_is_passed_over(content, tmp_path):
    assert read_stack(tmp_path) is None
    (tmp_path / "index.json").write_text(content)
    assert read_stack(tmp_path) is None
