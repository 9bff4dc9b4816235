"""yseg.data.labels: what label values mean."""

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


def test_what_is_unlabelled_is_neither_foreground_nor_background():
    assert apply_rule(np.array([0, 1, 2, 255], np.uint8), label_rule(">0", "==2,255", "")).tolist() == [0, 1, -1, -1]


@pytest.mark.parametrize("text", ["", "0", ">", "=1", "==", "> 0 1 a", ">1,2", "class"])
def test_a_bad_rule_names_its_flag(text):
    with pytest.raises(InputError, match=r"^--config\.source\.foreground="):
        label_rule(text, "", "--config.source")
    with pytest.raises(InputError, match=r"^--config\.source\.unlabelled="):
        label_rule(">0", text or "classes", "--config.source")
