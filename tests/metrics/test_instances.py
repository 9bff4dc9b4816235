"""Instance scores against scikit-image, against loops over all pairs of objects, and in closed form."""

import doctest
import sys

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from yseg.metrics.instances import component_scores, instance_scores, overlaps
from yseg.metrics.objects import object_scores


def line(text):
    """A volume of one row: digits are ids, '.' = background, '?' = ignored."""
    return np.array([[[{".": 0, "?": -1}.get(letter) if letter in ".?" else int(letter) for letter in text]]])


def random_ids(generator, shape=(4, 7, 8)):
    """Truth with some ignored voxels, and a prediction: both of blobs, of which some are the same."""
    cells = ndimage.zoom(generator.integers(0, 6, (2, 4, 4)), (2, 7 / 4, 2), order=0)
    truth = np.where(generator.random(shape) < 0.1, generator.integers(0, 9, shape), cells)
    prediction = np.where(generator.random(shape) < generator.choice([0.05, 0.3]), generator.integers(0, 9, shape), cells)
    prediction[prediction == 3] = generator.choice([3, 4, 0])  # right, merged, or missed
    truth[generator.random(shape) < generator.choice([0, 0.1])] = -1
    return truth, prediction


def by_loops(truth, prediction, least_voxels):
    """Panoptic quality and average precision from sets of voxels."""
    known = truth >= 0
    true, found = ([ids for number in np.unique(volume) if number > 0
                    for ids in [set(np.flatnonzero((volume == number) & known))] if len(ids) >= max(least_voxels, 1)]
                   for volume in (truth, prediction))
    iou = [len(a & b) / len(a | b) for a in true for b in found]
    matched = [value for value in iou if value > 0.5]
    wrong = len(true) + len(found) - 2 * len(matched)
    expected = {"segmentation_quality": sum(matched) / len(matched) if matched else None,
                "recognition_quality": len(matched) / (len(matched) + wrong / 2),
                "panoptic_quality": sum(matched) / (len(matched) + wrong / 2)}
    for name, bound in (("ap_50", 0.5), ("ap_75", 0.75)):
        matches = sum(value > bound for value in iou)
        expected[name] = matches / (matches + (len(true) - matches) + (len(found) - matches))
    return expected


@pytest.mark.parametrize("least_voxels", [0, 8])
def test_objects_match_as_by_loops_over_all_pairs(least_voxels):
    generator, seen = np.random.default_rng(0), []
    for _ in range(40):
        truth, prediction = random_ids(generator)
        result = instance_scores(truth, prediction, least_voxels=least_voxels)
        for name, expected in by_loops(truth, prediction, least_voxels).items():
            assert result[name] == pytest.approx(expected), name
        seen.append((result["panoptic_quality"], result["ap_75"]))
    assert 0 < np.mean([panoptic for panoptic, _ in seen]) < 1
    assert len({precision for _, precision in seen}) > 5


def test_information_and_rand_error_are_those_of_scikit_image():
    generator = np.random.default_rng(1)
    for _ in range(40):
        truth, prediction = random_ids(generator)
        result = instance_scores(truth, prediction)
        known = truth >= 0
        split, merge = variation_of_information(truth[known], prediction[known])
        assert (result["voi_split"], result["voi_merge"]) == pytest.approx((split, merge))
        single = prediction[known].copy()  # each voxel that is predicted as background is an object of its own
        single[single == 0] = 100 + np.arange(np.count_nonzero(single == 0))
        error, recall, precision = adapted_rand_error(truth[known], single, ignore_labels=(0,))  # swapped there
        names = ("adapted_rand_error", "adapted_rand_precision", "adapted_rand_recall")
        assert [result[name] for name in names] == pytest.approx([error, precision, recall])


def test_the_same_objects_under_other_ids_are_perfect():
    truth, _ = random_ids(np.random.default_rng(2))
    names = np.concatenate([[0], np.random.default_rng(3).permutation(8) * 10**9 + 7])
    result = instance_scores(truth, names[np.maximum(truth, 0)])
    for name in ("panoptic_quality", "segmentation_quality", "recognition_quality", "ap_50", "ap_75", "adapted_rand_precision",
                 "adapted_rand_recall"):
        assert result[name] == 1
    assert (result["voi_split"], result["voi_merge"], result["adapted_rand_error"]) == (0, 0, 0)


def test_an_object_cut_into_halves_costs_a_bit_of_each_of_its_voxels():
    result = instance_scores(line("1111...."), line("1122...."))
    assert (result["voi_split"], result["voi_merge"]) == (0.5, 0)
    assert (result["adapted_rand_precision"], result["adapted_rand_recall"]) == (1, 4 / 12)
    assert (result["panoptic_quality"], result["segmentation_quality"], result["ap_50"]) == (0, None, 0)  # IoU 0.5 is no match
    merged = instance_scores(line("1122...."), line("1111...."))
    assert (merged["voi_split"], merged["voi_merge"]) == (0, 0.5)
    assert (merged["adapted_rand_precision"], merged["adapted_rand_recall"]) == (4 / 12, 1)


def test_an_iou_between_the_bounds_counts_at_the_lower_one():
    result = instance_scores(line("111.2222"), line("11..2222"))
    assert (result["ap_50"], result["ap_75"]) == (1, 1 / 3)
    assert result["panoptic_quality"] == pytest.approx((2 / 3 + 1) / 2)


def test_missed_and_false_objects():
    missed = instance_scores(line("11.."), line("...."))
    assert (missed["panoptic_quality"], missed["ap_50"], missed["adapted_rand_error"]) == (0, 0, 1)
    assert (missed["adapted_rand_precision"], missed["adapted_rand_recall"]) == (None, 0)
    false = instance_scores(line("...."), line("11.."))
    assert (false["panoptic_quality"], false["adapted_rand_error"]) == (0, None)


@pytest.mark.parametrize("truth", ["....", "????"])
def test_what_is_not_there_has_no_scores(truth):
    result = instance_scores(line(truth), line("...."))
    assert {result[name] for name in result if not name.startswith("voi")} == {None}
    assert result["voi_split"] == (0 if truth == "...." else None)


def test_ignored_voxels_change_nothing():
    truth, prediction = random_ids(np.random.default_rng(4))
    wider = np.concatenate([truth, np.full_like(truth, -1)])
    assert instance_scores(wider, np.concatenate([prediction, prediction + 50])) == instance_scores(truth, prediction)


def test_components_of_masks_agree_with_the_f1_of_objects():
    generator = np.random.default_rng(5)
    for _ in range(20):
        truth = (ndimage.gaussian_filter(generator.normal(size=(6, 12, 12)), 1) > 0.1).astype(np.int8)
        prediction = truth ^ (generator.random(truth.shape) < 0.03)
        truth[generator.random(truth.shape) < 0.03] = -1
        result = component_scores(truth, prediction, least_voxels=3)
        expected = object_scores(truth, prediction, iou=0.5 + 1e-9, least_voxels=3)
        assert result["recognition_quality"] == pytest.approx(expected["object_f1"])


@pytest.mark.parametrize(("truth", "prediction", "message"), [
    (np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int), "of one shape"), (np.zeros((2, 2), int), np.zeros((2, 2), int), "shape"),
    (np.zeros((1, 1, 1)), np.zeros((1, 1, 1), int), "integers"),
    (np.zeros((1, 1, 1), int), -np.ones((1, 1, 1), int), "0 or above")])
def test_what_is_no_volume_of_ids_is_refused(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        overlaps(truth, prediction)


def test_its_examples():
    assert doctest.testmod(sys.modules["yseg.metrics.instances"]).failed == 0
