"""Scores from counts against scores from whole arrays."""

import dataclasses
import doctest
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from yseg.metrics.counts import Counts, confusion, scores, threshold_confusions

THRESHOLDS = (0.0, 0.3, 0.5, 1.0)
shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=4)
# Among the probabilities are the thresholds themselves and their neighbours in float32.
probability = st.sampled_from([0.0, 0.3, 0.5, 1.0]).map(np.float32) | st.floats(0, 1, width=32)
probability |= st.sampled_from(THRESHOLDS[1:]).map(lambda x: np.nextafter(np.float32(x), np.float32(0)))


@st.composite
def volumes(draw, classes=2):
    """Labels int8 [z, y, x], foreground probabilities and predicted classes of the same shape."""
    shape = draw(shapes)
    labels = draw(hnp.arrays(np.int8, shape, elements=st.integers(-1, classes - 1)))
    probabilities = draw(hnp.arrays(np.float32, shape, elements=probability))
    predictions = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, classes - 1)))
    return labels, probabilities, predictions


def divided(numerator, denominator):
    return numerator / denominator if denominator else None


def reference(labels, foreground):
    """Binary scores of whole arrays, by sets of voxels."""
    true = set(map(tuple, np.argwhere(labels == 1)))
    found = set(map(tuple, np.argwhere(foreground & (labels >= 0))))
    both, voxels = len(true & found), int((labels >= 0).sum())
    return {
        "voxels": voxels, "iou": divided(both, len(true | found)), "f1": divided(2 * both, len(true) + len(found)),
        "precision": divided(both, len(found)), "recall": divided(both, len(true)),
        "accuracy": divided(voxels - len(true ^ found), voxels), "foreground_share": divided(len(true), voxels),
    }


@settings(max_examples=60, deadline=None)
@given(volumes(classes=4))
def test_confusion_counts_every_pair_of_classes(volume):
    labels, _, predictions = volume
    expected = [[np.sum((labels == i) & (predictions == j)) for j in range(4)] for i in range(4)]
    result = confusion(labels, predictions.astype(np.int8), 4)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, expected)


@settings(max_examples=60, deadline=None)
@given(volumes())
def test_thresholds_in_one_pass_agree_with_one_at_a_time(volume):
    labels, probabilities, _ = volume
    result = threshold_confusions(labels, probabilities, THRESHOLDS)
    assert result.dtype == np.int64
    for matrix, threshold in zip(result, THRESHOLDS, strict=True):
        np.testing.assert_array_equal(matrix, confusion(labels, (probabilities >= threshold).astype(int), 2))


@settings(max_examples=60, deadline=None)
@given(volumes())
def test_scores_are_those_of_the_whole_volume_at_once(volume):
    labels, probabilities, _ = volume
    counts = Counts.zeros(len(labels), THRESHOLDS).add(labels, probabilities)
    for index, threshold in enumerate(THRESHOLDS):
        result, foreground = scores(counts, index), probabilities >= threshold
        expected = reference(labels, foreground)
        assert {name: result[name] for name in expected} == expected
        assert result["threshold"] == threshold
        assert result["per_section_iou"] == [reference(*section)["iou"] for section in zip(labels, foreground, strict=True)]
        background = reference(1 - np.where(labels < 0, 2, labels), ~foreground)["iou"]
        assert result["per_class_iou"] == [background, expected["iou"]]


@settings(max_examples=60, deadline=None)
@given(volumes(), st.randoms(use_true_random=False))
def test_blocks_in_any_order_give_the_same_counts(volume, random):
    labels, probabilities, _ = volume
    depth, height, width = labels.shape
    cuts = [sorted({0, random.randint(0, size), size}) for size in labels.shape]
    boxes = [tuple(slice(*edges) for edges in (z, y, x)) for z in zip(cuts[0], cuts[0][1:], strict=False)
             for y in zip(cuts[1], cuts[1][1:], strict=False) for x in zip(cuts[2], cuts[2][1:], strict=False)]
    random.shuffle(boxes)
    counts = Counts.zeros(depth, THRESHOLDS)
    for box in boxes:
        counts = counts.add(labels[box], probabilities[box], first_section=box[0].start)
    assert counts.matrices.sum() == len(THRESHOLDS) * np.sum(labels[:, :height, :width] >= 0)
    np.testing.assert_array_equal(counts.matrices, Counts.zeros(depth, THRESHOLDS).add(labels, probabilities).matrices)


@settings(max_examples=60, deadline=None)
@given(volumes(classes=3))
def test_scores_of_many_classes_are_those_of_each_against_the_rest(volume):
    labels, _, predictions = volume
    result = scores(Counts.zeros(len(labels), classes=3).add_predictions(labels, predictions))
    marked = [np.where(labels < 0, -1, labels == c) for c in range(3)]
    ious = [reference(truth, predictions == c)["iou"] for c, truth in enumerate(marked)]
    assert result["per_class_iou"] == ious
    assert result["iou"] == ious[1]
    defined = [iou for iou in ious if iou is not None]
    assert result["mean_iou"] == (pytest.approx(np.mean(defined)) if defined else None)
    right = np.sum((labels == predictions) & (labels >= 0))
    assert result["accuracy"] == divided(int(right), int(np.sum(labels >= 0)))


def test_binary_counts_have_their_names():
    labels = np.array([[[1, 1, 1, 0, 0, -1, 0]]])
    probabilities = np.array([[[0.9, 0.6, 0.1, 0.6, 0.2, 0.9, 0.1]]])
    counts = Counts.zeros(1, (0.5, 0.8)).add(labels, probabilities)
    assert [x.tolist() for x in (counts.tp, counts.fp, counts.fn, counts.tn)] == [[[2, 1]], [[1, 0]], [[1, 2]], [[2, 3]]]
    assert all(x.dtype == np.int64 for x in (counts.tp, counts.fp, counts.fn, counts.tn))


def test_undefined_scores_are_none():
    result = scores(Counts.zeros(2))
    assert result["voxels"] == 0
    for name in ("iou", "f1", "precision", "recall", "accuracy", "foreground_share", "mean_iou"):
        assert result[name] is None
    assert result["per_section_iou"] == result["per_class_iou"] == [None, None]


def test_a_volume_without_foreground_that_is_segmented_as_such_has_no_iou():
    result = scores(Counts.zeros(1).add(np.zeros((1, 2, 2)), np.zeros((1, 2, 2))))
    assert result["iou"] is result["f1"] is result["precision"] is result["recall"] is None
    assert result["accuracy"] == result["mean_iou"] == 1.0
    assert result["per_section_iou"] == [None]


def test_false_alarms_alone_give_an_iou_of_zero():
    result = scores(Counts.zeros(1).add(np.zeros((1, 2, 2)), np.ones((1, 2, 2))))
    assert result["iou"] == result["precision"] == result["f1"] == 0.0
    assert result["recall"] is None


def test_ignored_voxels_do_not_count_even_where_the_probability_is_nan():
    labels, probabilities = np.array([[[1, -1, 0, -1]]]), np.array([[[0.9, np.nan, 0.1, 1.0]]])
    result = scores(Counts.zeros(1).add(labels, probabilities))
    assert result["voxels"] == 2
    assert result["iou"] == 1.0


def test_scores_survive_json():
    counts = Counts.zeros(2, THRESHOLDS).add(np.array([[[1, 0]]]), np.array([[[0.4, 0.4]]]), first_section=1)
    result = scores(counts, 1)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_counts_are_immutable():
    counts = Counts.zeros(1)
    counts.add(np.ones((1, 2, 2)), np.ones((1, 2, 2)))
    assert not counts.matrices.any()
    with pytest.raises(dataclasses.FrozenInstanceError):
        counts.thresholds = ()


def test_a_mask_can_stand_for_the_probability():
    mask = np.array([[[0, 1, 1, 0]]], np.uint8)
    assert scores(Counts.zeros(1).add(mask, mask))["iou"] == 1.0


@pytest.mark.parametrize("first_section", [-1, 2])
def test_blocks_outside_the_volume_are_refused(first_section):
    with pytest.raises(ValueError, match=f"^first_section={first_section}, 2 sections .* must lie within the 3 sections"):
        Counts.zeros(3).add(np.ones((2, 1, 1)), np.ones((2, 1, 1)), first_section)


@pytest.mark.parametrize("shape", [(1, 2, 1), (2, 2, 2), (1, 2)])
def test_blocks_of_different_shapes_are_refused(shape):
    labels, counts = np.ones((1, 2, 2), int), Counts.zeros(2)
    for name, add in (("probabilities", counts.add), ("predictions", counts.add_predictions)):
        with pytest.raises(ValueError, match=rf"^{name} of shape \({shape[0]}, .*: must be of the shape of labels, \(1, 2, 2\)"):
            add(labels, np.ones(shape, int))


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(ValueError, match=r"^labels up to 2: must be below classes=2"):
        confusion(np.array([0, 2]), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match=r"^labels up to 2: must be below classes=2"):
        threshold_confusions(np.array([0, 2]), np.array([0.0, 1.0]), (0.5,))


@pytest.mark.parametrize("prediction", [-1, 2])
def test_predictions_beyond_the_classes_are_refused(prediction):
    with pytest.raises(ValueError, match=r"^predictions from "):
        confusion(np.array([0, 1]), np.array([0, prediction]), 2)


def test_nan_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"^probabilities: must not be NaN"):
        threshold_confusions(np.array([0, 1]), np.array([0.5, np.nan]), (0.5,))


@pytest.mark.parametrize("thresholds", [(), (0.5, 0.5), (0.5, 0.2)])
def test_thresholds_that_do_not_increase_are_refused(thresholds):
    with pytest.raises(ValueError, match=r"^thresholds "):
        Counts.zeros(1, thresholds)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(sys.modules["yseg.metrics.counts"]) == (0, 4)
