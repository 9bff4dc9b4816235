"""Folders of sections, and whether those of an image and of its labels belong together."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from yseg.config import InputError
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


def test_sections_are_paired_by_the_numbers_in_their_names(tmp_path):
    image = folder(tmp_path / "image", "s_{:03}", [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11])
    labels = folder(tmp_path / "labels", "mask {}", [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11], "png")
    said = refused(image, labels)
    assert said.startswith("--labels: the numbers in the names of its sections differ from those of --image: ")
    assert said.endswith(": --image alone has 9; --labels alone has 5; if they belong together in their order, rename the files"
                         " of one, or make it a single file with launch.convert")
    same = folder(tmp_path / "same", "mask {}", [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11], "png")
    pair(image, same)
    assert "--labels alone has 5, 12" in refused(image, folder(tmp_path / "shifted", "{}", [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]))
    assert "--image alone has 6, 7, 8, 9, 10, ... (6 in all)" in refused(image, folder(tmp_path / "fewer", "{}", range(5)))


def test_sections_are_paired_by_numbers_also_where_other_parts_of_the_names_differ(tmp_path):
    image = folder(tmp_path / "image", "s_{:03}_ch", [0, 1, 3, 4, 5])
    for name, numbers in (("same", [0, 1, 3, 4, 5]), ("others", [0, 1, 2, 3, 5])):
        for number in numbers:
            folder(tmp_path / name / str(number), f"s_{{:03}}_lab{'AB'[number % 2]}", [number], "png")
            (file,) = (tmp_path / name / str(number)).iterdir()
            file.rename(tmp_path / name / file.name)
            (tmp_path / name / str(number)).rmdir()
    pair(image, str(tmp_path / "same"))
    assert ": --image alone has 4; --labels alone has 2;" in refused(image, str(tmp_path / "others"))


def test_the_number_of_a_single_section_counts(tmp_path):
    image = folder(tmp_path / "image", "s{}", [1])
    pair(image, folder(tmp_path / "same", "mask_{:03}", [1], "png"))
    assert "--image alone has 1; --labels alone has 7" in refused(image, folder(tmp_path / "other", "s{}", [7], "png"))
    pair(image, folder(tmp_path / "unknown", "exp3_s{}", [7], "png"))  # which number is meant?


def test_single_files_are_paired_whatever_numbers_their_names_have(tmp_path):
    for name in ("stack_v2", "labels_v3"):
        tifffile.imwrite(tmp_path / f"{name}.tif", VALUES, photometric="minisblack")
    pair(str(tmp_path / "stack_v2.tif"), str(tmp_path / "labels_v3.tif"))


def test_sections_without_numbers_are_paired_by_their_names(tmp_path):
    def named(name, stems, ending="tif"):
        for number, stem in enumerate(stems):
            folder(tmp_path / name / "x", "{}", [number], ending)
            (tmp_path / name / "x" / f"{number}.{ending}").rename(tmp_path / name / f"{stem}.{ending}")
            (tmp_path / name / "x").rmdir()
        return str(tmp_path / name)

    image = named("image", "abcde")
    pair(image, named("same", "ABCDE", "png"))
    pair(image, named("masks", ["mask a x", "mask b x", "mask c x", "mask d x", "mask e x"], "png"))
    pair(image, named("others", ["one", "two", "three", "four", "six"]))  # nothing says that they do not
    assert refused(image, named("shifted", "abdef")) == (
        "--labels: the names of its sections differ from those of --image: --image alone has c; --labels alone has f; if they"
        " belong together in their order, rename the files of one, or make it a single file with launch.convert")
    raw = named("raw", ["a_raw", "b_raw", "c_raw"])
    assert "--image alone has c; --labels alone has d" in refused(raw, named("mask", ["a_mask", "b_mask", "d_mask"]))


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


@pytest.mark.parametrize("name", ["3.jpg", "3.JPEG", "3.bmp", "3.gif", "3.jp2", "3.tif.gz", "3.png.gz", "preview.webp"])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sections_of_another_kind_are_not_left_out_without_a_word(tmp_path, name, ending):
    path = folder(tmp_path / "a", "{}", [1, 2, 4], ending)
    (tmp_path / "a" / name).write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        read_volume(path, "--image")
    assert str(caught.value) == (f"--image={path}: a folder with {name} beside 1.{ending}; only .tif, .tiff and .png sections are"
                                 " read: convert it, or keep it elsewhere if it is no section")


def test_sections_are_in_the_order_of_their_numbers_and_unlike_names_are_told(tmp_path):
    path = tmp_path / "a"
    for number, name in ((3, "a_004"), (0, "A_001"), (2, "B_003"), (1, "b_002")):
        folder(path / "x", "{}", [number])
        (path / "x" / f"{number}.tif").rename(path / f"{name}.tif")
        (path / "x").rmdir()
    opened = read_volume(str(path), "--image")
    np.testing.assert_array_equal(opened.store.read().result(), VALUES[:4])
    assert opened.numbers == (1, 2, 3, 4)
    assert opened.notes == (f"--image={path}: its files are named unlike each other (A_001.tif, b_002.tif); all are taken for"
                            " sections, in the order of their numbers",)


def test_an_empty_file_is_named(tmp_path):
    path = folder(tmp_path / "a", "{:02}", range(12))
    (tmp_path / "a" / "07.tif").write_bytes(b"")
    with pytest.raises(InputError, match=r"^--image=.*/a: 07\.tif: cannot be read as TIFF"):
        read_volume(path, "--image")
