"""Folders of sections, and whether those of an image and of its labels belong together."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from yseg.config import InputError
from yseg.volumes.folder import section_numbers
from yseg.volumes.pairs import check_pair
from yseg.volumes.volume import read_volume

VALUES = np.random.default_rng(0).integers(0, 255, (12, 8, 9), np.uint8)


def folder(path, name, numbers, ending="tif"):
    """A folder of a section of VALUES for each number, called by `name`."""
    path.mkdir(parents=True)
    for number in numbers:
        file = path / f"{name.format(number)}.{ending}"
        if ending == "png":
            Image.fromarray(VALUES[number % 12]).save(file)
        else:
            tifffile.imwrite(file, VALUES[number % 12])
    return str(path)


def pair(image, labels):
    check_pair(read_volume(image), read_volume(labels, labels=True), "--image", "--labels")


def refused(image, labels):
    with pytest.raises(InputError) as caught:
        pair(image, labels)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_with_anything_in_them_and_junk_beside(tmp_path):
    path = tmp_path / "Ordner für µm #1 [50%] ?" / "slices"
    folder(path, "sec {}", range(1, 13), "TIF")
    for junk in ("Thumbs.db", "._sec 1.tif", ".DS_Store", "notes.txt"):
        (path / junk).write_text("x")
    (path / "old.tif").mkdir()
    opened = read_volume(str(path))
    np.testing.assert_array_equal(opened.store.read().result(), VALUES[[*range(1, 12), 0]])
    assert (opened.numbers, opened.notes) == (tuple(range(1, 13)), ())
    tifffile.imwrite(path.parent / "Bild (1).TIF", VALUES, photometric="minisblack")
    np.testing.assert_array_equal(read_volume(str(path.parent / "Bild (1).TIF")).store.read().result(), VALUES)


@pytest.mark.parametrize(("names", "numbers"), [
    (["s_2", "s_9", "s_10"], (2, 9, 10)), (["exp12_s005_v2", "exp12_s006_v2"], (5, 6)), (["00", "01"], (0, 1)),
    (["s1_t1530", "s2_t1531"], (1, 2)), (["a", "b"], None), (["a1", "b2"], None), (["s1", "s01"], None), (["s5"], None)])
def test_the_number_of_a_section_is_the_first_that_differs(names, numbers):
    assert section_numbers(names) == numbers


def test_sections_are_paired_by_the_numbers_in_their_names(tmp_path):
    image = folder(tmp_path / "image", "s_{:03}", [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11])
    labels = folder(tmp_path / "labels", "mask {}", [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11], "png")
    said = refused(image, labels)
    assert said.startswith("--labels: the numbers in the names of its sections differ from those of --image: ")
    assert said.endswith(": --image alone has 9; --labels alone has 5")
    same = folder(tmp_path / "same", "mask {}", [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11], "png")
    pair(image, same)
    assert "--labels alone has 5, 12" in refused(image, folder(tmp_path / "shifted", "{}", [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]))
    assert "--image alone has 6, 7, 8, 9, 10, ... (6 in all)" in refused(image, folder(tmp_path / "fewer", "{}", range(5)))


def test_without_numbers_shapes_decide(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", VALUES[:11], photometric="minisblack")
    image = folder(tmp_path / "image", "s_{:03}", range(11))
    pair(image, str(tmp_path / "stack.tif"))
    tifffile.imwrite(tmp_path / "wide.tif", VALUES[:11, :, :8], photometric="minisblack")
    assert refused(image, str(tmp_path / "wide.tif")) == (
        "--labels: shape 11 x 8 x 8 differs from 11 x 8 x 9 of --image (sections x rows x columns)")


def test_a_gap_is_said(tmp_path):
    (note,) = read_volume(folder(tmp_path / "a", "s_{:03}", [0, 1, 2, 4, 5, 8]), "--image").notes
    assert note == (f"--image={tmp_path}/a: of its sections 0 to 8 there is no 3, 6, 7; those beside are taken for neighbours")
    assert read_volume(folder(tmp_path / "b", "s_{:03}", [0, 3, 6, 9])).notes == ()  # every third


def test_an_empty_file_is_named(tmp_path):
    path = folder(tmp_path / "a", "{:02}", range(12))
    (tmp_path / "a" / "07.tif").write_bytes(b"")
    with pytest.raises(InputError, match=r"^--image=.*/a: 07\.tif: cannot be read as TIFF"):
        read_volume(path, "--image")
