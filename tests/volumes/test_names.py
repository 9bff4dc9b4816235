"""What the names of the files of a folder say."""

import random

import pytest

from yseg.config import InputError
from yseg.volumes.names import in_order


def order(*stems):
    files = [f"{stem}.tif" for stem in stems]
    found = in_order(files, "a")
    for seed in range(3):
        random.Random(seed).shuffle(files)
        assert in_order(files, "a") == found
    return found


def refused(*stems):
    with pytest.raises(InputError) as caught:
        order(*stems)
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith("; the names of a folder's sections must differ in one number (s_001, s_002, ...): rename them, or keep"
                         " what is no section elsewhere")
    return said.removeprefix("a: ").split(";")[0]


@pytest.mark.parametrize(("stems", "numbers"), [
    (["s_8", "s_9", "s_10"], (8, 9, 10)), (["exp12_s005_v2", "exp12_s006_v2"], (5, 6)), (["00", "01"], (0, 1)),
    (["s1_t1530", "s2_t1531"], (1, 2)), (["img_000_ch", "img_001_ch"], (0, 1)), (["S9", "s10", "S11"], (9, 10, 11)),
    (["s5"], (5,)), (["exp12_s5"], None), (["cells"], None),
    (["z0001_t20240101", "z0002_t20240103"], (1, 2)), (["20240101_1700_s1", "20240102_0900_s2", "20240102_0930_s3"], (1, 2, 3)),
    (["slice_1_z=0.99um", "slice_2_z=1.00um", "slice_3_z=1.01um"], (1, 2, 3)),
    (["s1_v1", "s2_v2", "s3_v1"], (1, 2, 3)), (["day1_s1", "day1_s2", "day2_s3"], (1, 2, 3)),
    (["1\u00b22", "1\u00b23"], (2, 3)),
])
def test_the_number_of_a_section_is_the_first_that_is_another_in_each(stems, numbers):
    assert order(*stems) == (tuple(f"{stem}.tif" for stem in stems), numbers, order(*stems).stems, ())


@pytest.mark.parametrize(("stems", "numbers"), [
    (["A_001_x", "B_002_y"], (1, 2)), (["a1", "b2"], (1, 2)), (["A_001", "b_002", "B_003", "a_004"], (1, 2, 3, 4)),
    (["s_0_labB", "s_1_labA", "s_2_labB"], (0, 1, 2)), (["s1", "s2 - Copy", "s3"], (1, 2, 3))])
def test_unlike_names_with_clear_numbers_are_told(stems, numbers):
    found = order(*stems)
    assert (found.files, found.numbers) == (tuple(f"{stem}.tif" for stem in stems), numbers)
    assert found.notes == (f"a: its files are named unlike each other ({stems[0]}.tif, {stems[1]}.tif); all are taken for"
                           " sections, in the order of their numbers",)


@pytest.mark.parametrize(("stems", "one", "other"), [
    (["z0", "z0.5", "z1", "z1.5"], "z0", "z0.5"), (["scan", "scan1", "scan2"], "scan", "scan1"),
    (["Image", "Image (2)", "Image (3)"], "Image", "Image (2)"), (["s1", "s2", "s2 (1)", "s3"], "s1", "s2 (1)"),
    (["s1", "s2", "overview"], "overview", "s1"), (["s0", "s-1", "s-2"], "s0", "s-1")])
def test_names_from_which_sections_can_only_be_guessed_are_refused(stems, one, other):
    assert refused(*stems) == f"{one}.tif and {other}.tif are named unlike each other"


@pytest.mark.parametrize(("stems", "one", "other"), [
    (["s1", "s2", "s02", "s3"], "s02", "s2"), (["s1", "s2", "s2 - Copy", "s3"], "s2", "s2 - Copy"),
    (["001", "001_mask", "002", "002_mask"], "001", "001_mask"), (["s-1", "s0", "s1"], "s1", "s-1"),
    (["A_1", "A_2", "B_1", "B_2"], "A_1", "B_1"), (["exp3_a", "exp3_b"], "exp3_a", "exp3_b")])
def test_two_files_with_the_same_number_are_refused(stems, one, other):
    assert refused(*stems) == f"{one}.tif and {other}.tif have the same number"


def test_so_are_two_that_differ_in_their_ending():
    with pytest.raises(InputError, match=r"^a: s1\.tif and s1\.tiff have the same number"):
        in_order(["s1.tif", "s1.tiff", "s2.tif"], "a")
    with pytest.raises(InputError, match=r"^a: a\.tif and a\.tiff may be one section"):
        in_order(["a.tif", "b.tif", "a.tiff"], "a")


@pytest.mark.parametrize("stems", [
    ["c0_z1", "c0_z2", "c1_z1", "c1_z2"], ["z0.0", "z0.5", "z1.0"], ["c0_z2", "c1_z1"], ["x12_s1", "x12_s3", "x15_s2"],
    ["20240101_0900", "20240101_1700", "20240102_0800"]])
def test_several_numbers_without_one_that_says_the_order_are_refused(stems):
    assert refused(*stems) == (f"{stems[0]}.tif to {stems[-1]}.tif differ in several numbers, and no one of them alone says the"
                               " order")


def test_names_without_numbers_are_in_alphabetical_order_which_is_told():
    found = order("a", "B", "c")
    assert found == (("a.tif", "B.tif", "c.tif"), None, ("a", "b", "c"),
                     ("a: no numbers in the names of its files, which are taken in alphabetical order: a.tif, B.tif, c.tif",))
    found = order("cells top x", "cells TOP z", "cells top y x")
    assert found.files == ("cells top x.tif", "cells top y x.tif", "cells TOP z.tif")


@pytest.mark.parametrize(("one", "other"), [("a", "a - Copy"), ("a", "a_mask"), ("a", "A")])
def test_what_may_be_a_copy_of_a_section_or_its_mask_is_refused(one, other):
    first, second = sorted([f"{one}.tif", f"{other}.tif"])
    assert refused(one, "b", other) in (f"{first} and {second} may be one section", f"{second} and {first} may be one section")


def test_a_gap_is_said_where_numbers_count_sections():
    assert order("s1", "s2", "s4").notes == (
        "a: of its sections 1 to 4 there is no 3; those beside are taken for neighbours",)
    for stems in (["s1", "s3", "s5"], ["s0", "s3", "s7"], ["s2", "s9"]):  # every other, in no equal steps, too few
        assert order(*stems).notes == ()
    assert order("20240101120000", "20240101120001", "20991231120000").notes == ()  # at once, and not after 10**12 numbers
