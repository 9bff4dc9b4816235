"""Object scores against flood fill and a maximum matching over all pairs of objects."""

import doctest
import itertools
import json
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy import sparse

from yseg.metrics.objects import object_scores


def flood(foreground, connectivity):
    """Components of a mask [z, y, x] as a list of sets of voxels."""
    steps = [step for step in itertools.product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= connectivity]
    left, objects = set(map(tuple, np.argwhere(foreground).tolist())), []
    while left:
        grown, front = set(), [left.pop()]
        while front:
            z, y, x = front.pop()
            grown.add((z, y, x))
            touching = {(z + dz, y + dy, x + dx) for dz, dy, dx in steps} & left
            left -= touching
            front += touching
        objects.append(grown)
    return objects


def reference(truth, prediction, iou, least_voxels, connectivity=1):
    """Numbers of true, predicted and matched objects, of the largest one-to-one matching, and of pairs that could match."""
    true = [x for x in flood(truth == 1, connectivity) if len(x) >= least_voxels]
    found = [x for x in flood((prediction == 1) & (truth >= 0), connectivity) if len(x) >= least_voxels]
    bound = Fraction(str(iou))
    match = np.array([[Fraction(len(a & b), len(a | b)) >= bound for b in found] for a in true], bool)
    match = match.reshape(len(true), len(found))
    matched = 0
    if match.size:
        matched = np.sum(sparse.csgraph.maximum_bipartite_matching(sparse.csr_array(match)) >= 0)
    return [len(true), len(found), matched, match.sum()]


def numbers(*arguments, **options):
    result = object_scores(*arguments, **options)
    return [result[f"objects_{name}"] for name in ("true", "predicted", "matched")]


def line(text):
    """A volume of one row: '#' = 1, '.' = 0, '?' = ignored."""
    return np.array([[["?.#".index(letter) - 1 for letter in text]]])


def random_volume(generator, shape=(3, 6, 6)):
    """Truth with some ignored voxels, and a prediction that differs from it here and there."""
    truth = (generator.random(shape) < generator.uniform(0.02, 0.5)).astype(np.int8)
    prediction = truth ^ (generator.random(shape) < generator.choice([0.02, 0.1, 0.3]))
    truth[generator.random(shape) < generator.choice([0, 0.1])] = -1
    return truth, prediction


@pytest.mark.parametrize(("least_voxels", "connectivity"), [(0, 1), (3, 1), (0, 2), (2, 3)])
@pytest.mark.parametrize("iou", [0.5, 0.6, 0.75, 1.0])
def test_random_volumes_score_as_by_flood_fill_and_maximum_matching(iou, least_voxels, connectivity):
    generator, total = np.random.default_rng(0), np.zeros(4, int)
    for _ in range(40):
        truth, prediction = random_volume(generator)
        expected = reference(truth, prediction, iou, least_voxels, connectivity)
        result = numbers(truth, prediction, iou=iou, least_voxels=least_voxels, connectivity=connectivity)
        assert result == expected[:3]
        assert expected[2] == expected[3]  # no object could have a second match, also at exactly 0.5
        total += expected
    assert 0 < total[2] < min(total[:2])


@pytest.mark.parametrize(("truth", "prediction", "expected"), [
    ("##.###.#", "##.###.#", [3, 3, 3]),  # perfect
    (".####.", "..####", [1, 1, 1]),  # shifted by a quarter, IoU 3 / 5
    ("..####.", "....###", [1, 1, 0]),  # shifted by half, IoU 2 / 5
    ("#####", "##.##", [1, 2, 0]),  # split in two
    ("######", "####.#", [1, 2, 1]),  # split into a large part and a crumb
    ("##.##", "#####", [2, 1, 0]),  # two merged into one
    ("####.#", "######", [2, 1, 1]),  # a crumb merged with a large one
    ("####", "##..", [1, 1, 1]),  # exactly 0.5
    ("##..", "####", [1, 1, 1]),  # exactly 0.5
    ("##.##...", "...##.##", [2, 2, 1]),  # missed and made up
    ("##..", "..##", [1, 1, 0]),  # touching without overlap
    ("....", "....", [0, 0, 0]),
])
def test_cases_made_by_hand(truth, prediction, expected):
    for axes in itertools.permutations(range(3)):  # the objects lie along x, y or z
        assert numbers(line(truth).transpose(axes), line(prediction).transpose(axes)) == expected


def test_ratios_are_those_of_the_numbers():
    result = object_scores(line("##.##.#"), line("##....."))
    assert result == {"objects_true": 3, "objects_predicted": 1, "objects_matched": 1, "object_precision": 1.0,
                      "object_recall": 1 / 3, "object_f1": 0.5}
    assert json.loads(json.dumps(result)) == result


def test_ratios_of_nothing_are_none():
    names = ("object_precision", "object_recall", "object_f1")

    def ratios(truth, prediction):
        result = object_scores(line(truth), line(prediction))
        return [result[name] for name in names]

    assert ratios("...", "...") == [None, None, None]
    assert ratios("???", "###") == [None, None, None]
    assert ratios(".#.", "...") == [None, 0.0, 0.0]
    assert ratios("...", ".#.") == [0.0, None, 0.0]
    assert object_scores(np.zeros((0, 4, 4), int), np.zeros((0, 4, 4), bool))["object_f1"] is None


def test_ignored_voxels_belong_to_no_object():
    assert numbers(line("##????."), line("######.")) == [1, 1, 1]
    assert numbers(line("..???"), line("..###")) == [0, 0, 0]
    assert numbers(line("##?##"), line("#####")) == [2, 2, 2]  # cut in two on both sides


def test_small_objects_are_left_out_on_both_sides():
    assert numbers(line("###.#...."), line("###...#.#"), least_voxels=2) == [1, 1, 1]
    assert numbers(line("###"), line("##."), least_voxels=3) == [1, 0, 0]
    assert numbers(line("###"), line("###"), least_voxels=3) == [1, 1, 1]
    assert numbers(line("#??"), line("###"), least_voxels=2) == [0, 0, 0]  # ignored voxels do not count


def test_objects_are_components_of_the_volume_and_not_of_its_sections():
    tube = np.zeros((3, 5, 5), int)
    tube[0, 1, 1:4] = tube[1, 1, [1, 3]] = tube[2, 1, [1, 3]] = 1  # a U: two spots in sections 1 and 2
    assert numbers(tube, tube) == [1, 1, 1]


def test_connectivity_decides_whether_corners_touch():
    corners = np.zeros((2, 2, 2), int)
    corners[0, 0, 0] = corners[1, 1, 1] = 1
    assert [numbers(corners, corners, connectivity=c)[0] for c in (1, 2, 3)] == [2, 2, 1]


def test_scores_do_not_depend_on_the_orientation_of_the_volume():
    generator = np.random.default_rng(1)
    for _ in range(10):
        truth, prediction = random_volume(generator)
        expected = object_scores(truth, prediction, least_voxels=2)
        for axes in itertools.permutations(range(3)):
            assert object_scores(truth.transpose(axes), prediction.transpose(axes), least_voxels=2) == expected
        for axis in range(3):
            assert object_scores(np.flip(truth, axis), np.flip(prediction, axis), least_voxels=2) == expected


def test_scores_do_not_depend_on_the_order_of_objects():
    generator = np.random.default_rng(2)
    truth, prediction = random_volume(generator, (8, 4, 4))
    truth[1::2] = prediction[1::2] = 0  # sections apart, whose order is free
    order = 2 * np.repeat(generator.permutation(4), 2) + np.tile([0, 1], 4)
    assert numbers(truth, prediction)[2] > 0
    assert object_scores(truth[order], prediction[order]) == object_scores(truth, prediction)


def test_precision_and_recall_swap_with_truth_and_prediction():
    truth, prediction = random_volume(np.random.default_rng(3))
    truth = np.maximum(truth, 0)
    there, back = object_scores(truth, prediction), object_scores(prediction, truth)
    assert there["object_precision"] == back["object_recall"]
    assert there["object_recall"] == back["object_precision"]
    assert there["object_f1"] == back["object_f1"]


def test_types_of_a_mask_score_alike():
    truth, prediction = random_volume(np.random.default_rng(4))
    expected = object_scores(truth, prediction)
    for kind in (bool, np.uint8, np.int64):
        assert object_scores(truth.astype(np.int64), prediction.astype(kind)) == expected


@pytest.mark.parametrize(("truth", "prediction", "options", "message"), [
    ((1, 2, 2), (1, 2, 2), {"iou": 0.49}, "^iou=0.49"),
    ((1, 2, 2), (1, 2, 2), {"iou": 1.1}, "^iou=1.1"),
    ((1, 2, 2), (1, 2, 2), {"iou": float("nan")}, "^iou=nan"),
    ((1, 2, 2), (1, 2, 2), {"connectivity": 4}, "^connectivity=4"),
    ((1, 2, 2), (1, 2, 1), {}, "^truth and prediction of shapes"),
    ((2, 2), (2, 2), {}, "^truth and prediction of shapes"),
])
def test_arguments_out_of_range_are_refused(truth, prediction, options, message):
    with pytest.raises(ValueError, match=message):
        object_scores(np.ones(truth, int), np.ones(prediction, int), **options)


@pytest.mark.parametrize(("truth", "prediction", "name"), [
    (2, 1, "truth"), (1.0, 1, "truth"), (1, 255, "prediction"), (1, -1, "prediction"), (1, 0.7, "prediction"),
])
def test_values_that_are_no_mask_are_refused(truth, prediction, name):
    with pytest.raises(ValueError, match=f"^{name}: must be"):
        object_scores(np.full((1, 2, 2), truth), np.full((1, 2, 2), prediction))


def test_the_example_in_the_docstring_holds():
    assert doctest.testmod(sys.modules["yseg.metrics.objects"]) == (0, 2)
