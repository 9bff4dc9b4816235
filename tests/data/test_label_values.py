"""yseg.data.label_values: rules that find one class alone, and label values that are usual."""

import numpy as np
import pytest

from yseg.config import InputError
from yseg.data.box import Box
from yseg.data.label_values import check_two_classes
from yseg.data.labels import apply_rule, label_rule

MASK = np.zeros((3, 20, 30), np.uint8)
MASK[1, 4:9, 10:20] = 1
FLAGS = {f"{name}_flag": f"--config.source.{name}" for name in ("foreground", "labels", "unlabelled")}


def check(labels, foreground, unlabelled="", boxes=None):
    rule, reads = label_rule(foreground, unlabelled, "--config.source"), []

    def values_of(box):
        reads.append(box)
        return labels[box.slices]

    note = check_two_classes(lambda box: apply_rule(values_of(box), rule), values_of,
                             [Box.whole(labels.shape)] if boxes is None else boxes, rule=foreground, **FLAGS)
    assert not note
    return reads


@pytest.mark.parametrize(("labels", "foreground", "what", "hint"), [
    (MASK + 1, ">0", "nothing but foreground", r"1 \(97\.2%\), 2 \(2\.8%\); 1 and 2 are what ilastik writes .*: '==2'$"),
    (MASK * 255, "==1", "no foreground", r"0 \(97\.2%\), 255 \(2\.8%\); 0 and 255 are a mask's .*: '>0'$"),
    (MASK, ">=128", "no foreground", r"0 \(97\.2%\), 1 \(2\.8%\); 0 and 1 are a mask's .*: '>0'$"),
    (-MASK.astype(np.int8), ">0", "no foreground", r"0 and -1 are .*: '==-1'$"),
    (MASK * 4 + 3, ">0", "nothing but foreground", r"of two values the larger usually is foreground: '==7'$"),
    (MASK * 0, ">0", "no foreground", r"0 \(100\.0%\); .*is it the right file\?$"),
    (MASK.astype(np.uint64) * (2**64 - 1), "==18446744073709551614", "no foreground", "18446744073709551615 "),
    (np.arange(1800, dtype=np.int32).reshape(MASK.shape) + 1, ">0", "nothing but foreground", r", \.\.\.$"),
    (np.full(MASK.shape, np.nan, np.float32), ">0", "no voxel that is labelled", r"nan \(100\.0%\); "),
    (MASK * 0 + 5, "classes", "nothing but class 5", "5 ")])
def test_a_rule_that_finds_one_class_is_named_with_the_values_that_are_there(labels, foreground, what, hint):
    with pytest.raises(InputError, match=rf"^--config\.source\.foreground='{foreground}': finds {what} in what is"
                                         rf" used of --config\.source\.labels; .*{hint}"):
        check(labels, foreground)


def test_what_is_unlabelled_is_no_class():
    labels = np.where(MASK == 1, 1, 255)
    check(labels, "==1")
    with pytest.raises(InputError, match="nothing but foreground"):
        check(labels, "==1", "==255")


def test_two_classes_are_found_in_few_blocks_and_a_rare_one_in_all():
    labels = np.zeros((400, 8, 8), np.uint8)
    labels[::2, :, 4:] = 1
    assert len(check(labels, ">0")) == 1 + 8  # for classes; for a value that may mean "not labelled"
    labels[:] = 0
    labels[313, 2, 5] = 1  # of all sections
    assert 32 < len(check(labels, ">0")) <= 400


def test_background_alone_may_be_allowed():
    told = {"rule": ">0", "background_alone": True, **FLAGS}
    note = check_two_classes(lambda box: MASK[box.slices].astype(np.int8), lambda box: MASK[box.slices],
                             [Box((0, 0, 0), (1, 20, 30))], **told)
    assert note == ("--config.source.foreground='>0': finds no foreground in what is used of --config.source.labels, whose values"
                    " are 0 (100.0%)")
    with pytest.raises(InputError, match="nothing but foreground"):
        check_two_classes(lambda box: np.ones(box.shape, np.int8), lambda box: MASK[box.slices],
                          [Box((0, 0, 0), (1, 20, 30))], **told)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint64, 2**64 - 1), (np.uint16, 65535), (np.uint8, 255), (np.int32, -1),
                                             (np.int8, -1)])
def test_a_value_that_often_means_not_labelled_is_named_if_it_is_a_class(dtype, value):
    labels = MASK.astype(dtype)

    def note(labels, foreground=">0", unlabelled=""):
        rule = label_rule(foreground, unlabelled, "--config.source")
        return check_two_classes(lambda box: apply_rule(labels[box.slices], rule), lambda box: labels[box.slices],
                                 [Box.whole(labels.shape)], rule=foreground, **FLAGS)

    assert not note(np.where(labels == 1, labels.dtype.type(value), 0), f"=={value}")  # a mask, which has two values
    labels[2] = value
    assert not note(labels, unlabelled=f"=={value}")
    assert note(labels) == (f"--config.source.labels: {value}, in 33.3% of the voxels, is taken for a class; if it means that"
                            f" they are not labelled, give --config.source.unlabelled='=={value}'")


@pytest.mark.parametrize("others", [[0, 254], [0, 3, 128, 200]])
def test_255_beside_values_that_are_not_far_below_it_is_an_object_or_part_of_a_smoothed_mask(others):
    labels = np.resize(np.array([*others, 255], np.uint8), MASK.shape)
    check(labels, ">0")


def test_boxes_alone_are_looked_at():
    check(MASK, ">0", boxes=[])
    check(MASK, ">0", boxes=[Box((1, 4, 9), (2, 5, 12))])
    with pytest.raises(InputError, match="no foreground"):
        check(MASK, ">0", boxes=[Box((0, 0, 0), (1, 20, 30)), Box((2, 0, 0), (3, 20, 30))])
