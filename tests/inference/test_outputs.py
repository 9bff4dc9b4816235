"""What becomes of blocks: their classes, their probabilities, their scores."""

import itertools

import numpy as np
import pytest
import tensorstore as ts
from tiled import assemble

from yseg.config import InputError
from yseg.data.box import Box
from yseg.data.labels import LabelRule, apply_rule, parse_rule
from yseg.inference.outputs import fill, predicted_classes, score
from yseg.metrics.counts import Counts, scores
from yseg.volumes.volume import open_volume

REGION = Box((1, 5, 9), (3, 70, 50))


def test_classes_are_thresholded_or_the_most_probable():
    binary = np.array([[0.6, 0.4], [0.4, 0.6], [0.1, 0.9]], np.float32)
    assert predicted_classes(binary, 0.6).tolist() == [0, 1, 1]
    assert predicted_classes(binary, 0.4).tolist() == [1, 1, 1]
    many = np.array([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], np.float32)
    assert predicted_classes(many, 0.99).tolist() == [2, 0]
    assert predicted_classes(many, 0.5).dtype == np.uint8


def random_blocks(region, classes):
    """Blocks of a region with random probabilities, some of which are exactly at a threshold."""
    random = np.random.default_rng(4)
    sections, rows, columns = zip(region.start, region.stop, strict=True)
    for section in range(*sections):
        for first, last in itertools.pairwise((rows[0], rows[0] + 20, rows[1])):
            box = Box((section, first, columns[0]), (section + 1, last, columns[1]))
            values = random.integers(1, 6, (*box.shape, classes)).astype(np.float32)
            yield box, values / values.sum(-1, keepdims=True)


def truth_of(labels, rule):
    """The classes of a box of a label volume."""
    return lambda box: apply_rule(labels[box.slices].read().result(), rule)


@pytest.mark.parametrize("classes", [2, 3])
def test_score_is_that_of_the_segmentation_of_the_region(classes):
    rule = LabelRule(parse_rule(">0", "--foreground"))
    labels = open_volume("phantom://source/labels?shape=3,70,62&seed=0")
    thresholds = (0.3, 0.5, 0.7) if classes == 2 else (0.5,)
    counts = score(random_blocks(REGION, classes), truth_of(labels, rule), REGION, thresholds=thresholds, classes=classes)
    probabilities = assemble(random_blocks(REGION, classes), REGION, classes)
    truth = apply_rule(labels.read().result(), rule)[REGION.slices]
    for index, threshold in enumerate(thresholds):
        expected = Counts.zeros(2, (threshold,), classes).add_predictions(truth, predicted_classes(probabilities, threshold))
        assert scores(counts, index) == scores(expected)
    assert counts.matrices[:, 0].sum() == np.prod(REGION.shape)


def test_a_label_that_is_no_class_of_the_model_is_named_with_its_section():
    values = np.zeros((3, 70, 62), np.uint8)
    values[2, 30, 20] = 4
    rule = LabelRule(parse_rule("classes", "--foreground"))
    with pytest.raises(InputError, match=r"^model\.classes=3: must be above 4, a label in section 2$"):
        score(random_blocks(REGION, 3), truth_of(ts.array(values), rule), REGION, thresholds=(0.5,), classes=3)


@pytest.mark.parametrize("classes", [2, 3])
def test_arrays_of_a_region_are_filled_with_what_its_blocks_say(classes):
    outputs = {"classes": np.full(REGION.shape, 99, np.uint8), "probability": np.full(REGION.shape, np.nan, np.float32)}
    fill(outputs, random_blocks(REGION, classes), REGION, 0.4)
    probabilities = assemble(random_blocks(REGION, classes), REGION, classes)
    np.testing.assert_array_equal(outputs["classes"], predicted_classes(probabilities, 0.4))
    np.testing.assert_allclose(outputs["probability"], 1 - probabilities[..., 0], atol=1e-6)
