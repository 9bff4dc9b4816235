"""yseg.data.labels: what label values mean."""

import operator
from fractions import Fraction

import numpy as np
import pytest

from yseg.config import InputError
from yseg.data.labels import LabelRule, apply_rule, label_rule, parse_rule


@pytest.mark.parametrize(("text", "foreground"), [
    (">0", [0, 1, 1, 1, 1]), (">=128", [0, 0, 0, 1, 1]), ("<5", [1, 1, 0, 0, 0]), ("<=5", [1, 1, 1, 0, 0]),
    ("==1,255", [0, 1, 0, 0, 1]), (" == 5 ", [0, 0, 1, 0, 0]), (">0.5", [0, 1, 1, 1, 1])])
def test_a_rule_says_what_is_foreground(text, foreground):
    values = np.array([0, 1, 5, 128, 255])
    for dtype in (np.uint8, np.uint16, np.int64, np.float32):
        found = apply_rule(values.astype(dtype), LabelRule(parse_rule(text, "")))
        assert found.dtype == np.int8
        assert found.tolist() == foreground


def test_classes_are_values_and_unlabelled_is_minus_1():
    rule = label_rule("classes", "==255", "")
    assert apply_rule(np.array([0, 3, 127, 255], np.uint8), rule).tolist() == [0, 3, 127, -1]
    for value in (200, -2):
        with pytest.raises(InputError, match=f"label value {value}"):
            apply_rule(np.array([value]), rule)


@pytest.mark.parametrize(("flag", "labels"), [("--config.source", "--config.source.labels"), ("-", "--labels")])
def test_a_value_that_is_no_class_names_the_flag_of_its_volume(flag, labels):
    with pytest.raises(InputError, match=f"^{labels}: label value -1: .* must be class indices from 0 to 127"):
        apply_rule(np.array([0, -1]), label_rule("classes", "==255", flag))


def test_what_is_unlabelled_is_neither_foreground_nor_background():
    assert apply_rule(np.array([0, 1, 2, 255], np.uint8), label_rule(">0", "==2,255", "")).tolist() == [0, 1, -1, -1]


@pytest.mark.parametrize("text", ["", "0", ">", "=1", "==", "> 0 1 a", ">1,2", "class"])
def test_a_bad_rule_names_its_flag(text):
    with pytest.raises(InputError, match=r"^--config\.source\.foreground="):
        label_rule(text, "", "--config.source")
    with pytest.raises(InputError, match=r"^--config\.source\.unlabelled="):
        label_rule(">0", text or "classes", "--config.source")


@pytest.mark.parametrize("text", ["18446744073709551615", "-1", "9007199254740993", "9007199254740992", "0", "4294967296", "2.5",
                                  "9223372036854775807.5", "1" + 30 * "0", "-" + "1" + 400 * "0"])
@pytest.mark.parametrize("name", [">", ">=", "<", "<=", "=="])
def test_whole_numbers_of_any_size_are_compared_as_python_does(name, text):
    compare = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}[name]
    condition, number = parse_rule(name + text, ""), Fraction(text)
    for dtype, values in (("u8", [0, 1, 2, 3, 2**32, 2**53, 2**53 + 1, 2**63, 2**64 - 1]), ("u1", [0, 1, 2, 3, 255]),
                          ("i8", [-2**63, -1, 0, 2, 3, 2**53, 2**53 + 1, 2**63 - 1]), ("?", [0, 1])):
        expected = [bool(compare(int(value), number)) for value in values]
        assert condition.holds(np.array(values, dtype)).tolist() == expected, dtype


def test_the_usual_values_for_unlabelled_are_found():
    """2^64 - 1 of CREMI and webKnossos, -1, NaN, and ids above 2^53, of which a float cannot tell two that are neighbours."""
    largest = label_rule(">0", f"=={2**64 - 1}", "")
    assert apply_rule(np.array([0, 7, 2**64 - 1], np.uint64), largest).tolist() == [0, 1, -1]
    assert apply_rule(np.array([0, 7, -1], np.int32), label_rule(">0", "==-1", "")).tolist() == [0, 1, -1]
    ids = np.array([2**53, 2**53 + 1, 2**53 + 2], np.uint64)
    assert apply_rule(ids, label_rule("==9007199254740993", "", "")).tolist() == [0, 1, 0]
    for foreground in (">0", "<=0", "classes"):
        found = apply_rule(np.array([0, 1, np.nan, np.inf], np.float32), label_rule(foreground, "", ""))
        assert found.tolist()[2:] == [-1, -1]
    with pytest.raises(InputError, match=r"label value 1\.5"):
        apply_rule(np.array([0, 1.5], np.float32), label_rule("classes", "", ""))
