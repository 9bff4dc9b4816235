"""Figures: the files are whole PNGs, and colours are where the labels are."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from yseg.report import loss_curves, overlay, panels, side_by_side, volume_histogram
from yseg.report.figures import BLUE, CLASSES, CORRECT, CURVES, FALSE_ALARM, MISSED, PREDICTION, TRUTH, VERMILLION, WRONG_CLASS


def picture(path):
    """The PNG as RGB [y, x, 3]; fails if it is not a whole one."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def share(pixels, colour):
    """Share of the pixels that have the colour, but for rounding."""
    return (np.abs(pixels / 255 - to_rgb(colour)) < 0.01).all(axis=-1).mean()


def textured(shape=(48, 48)):
    return np.random.default_rng(0).normal(100, 20, shape)


def square(shape=(48, 48), rows=slice(8, 24), columns=slice(8, 24), value=1):
    labels = np.zeros(shape, np.int32)
    labels[rows, columns] = value
    return labels


METRICS = [{"step": 20 * index, "loss": 1 / index, "segmentation": 0.9 / index, "learning_rate": 1e-3} for index in range(1, 9)]


def test_every_curve_is_drawn_in_its_colour(tmp_path):
    path = tmp_path / "report" / "curves.png"
    assert loss_curves(METRICS, path) == path
    pixels = picture(path)
    assert min(share(pixels, CURVES[0]), share(pixels, CURVES[1])) > 1e-4
    assert share(pixels, CURVES[2]) == 0


def test_each_kind_of_number_has_its_own_panel(tmp_path):
    heights = [picture(loss_curves(metrics, tmp_path / "curves.png")).shape[0] for metrics in (
        [{"step": 1, "loss": 1.0}],
        [{"step": 1, "loss": 1.0, "adaptation": 0.1}],
        [{"step": 1, "loss": 1.0, "validation_iou": 0.5}],
        [{"step": 1, "loss": 1.0, "validation_iou": 0.5, "learning_rate": 0.1, "images_per_second": 30.0}])]
    assert heights[0] == heights[1] < heights[2] < heights[3]


@pytest.mark.parametrize("metrics", [
    METRICS[:1],
    [],
    [{"step": 1}],
    [{"step": 1, "loss": None, "validation_iou": float("nan")}, {"step": 2, "loss": float("inf"), "validation_iou": 0.5}],
    [{"step": 1, "loss": -1.0}, {"step": 2, "loss": 1.0, "note": "text"}],
    [{"step": 1, "loss": 0.0}],
])
def test_curves_of_few_and_odd_values_are_drawn(tmp_path, metrics):
    pixels = picture(loss_curves(metrics, tmp_path / "curves.png"))
    assert pixels.shape[0] > 200
    assert pixels.std() > 1


def test_a_loss_that_is_zero_throughout_is_left_out(tmp_path):
    plain = picture(loss_curves(METRICS, tmp_path / "plain.png"))
    with_zeros = picture(loss_curves([{**row, "adaptation": 0.0} for row in METRICS], tmp_path / "zeros.png"))
    np.testing.assert_array_equal(plain, with_zeros)


def test_panels_show_the_truth_and_the_prediction_in_their_own_columns(tmp_path):
    path = tmp_path / "panels.png"
    assert panels([("source 1", textured(), square(), square().astype(np.float32))], path, "Step 20", 10.0) == path
    pixels = picture(path)
    image, truth, prediction = np.array_split(pixels, 3, axis=1)
    assert share(truth, TRUTH) > 1e-3
    assert share(prediction, PREDICTION) > 1e-3
    for part, colour in ((image, TRUTH), (image, PREDICTION), (truth, PREDICTION), (prediction, TRUTH)):
        assert share(part, colour) < 1e-4


def test_panels_without_labels_and_with_partial_labels_are_drawn(tmp_path):
    partial = square()
    partial[24:] = -1
    whole, nothing = square(), None
    drawn = [picture(panels([("target", textured(), truth, square())], tmp_path / "panels.png", "Step 20", 4.6))
             for truth in (whole, partial, nothing)]
    assert (drawn[0] != drawn[1]).any()
    assert share(drawn[1], TRUTH) > 1e-4
    assert share(drawn[2], TRUTH) == 0


def test_panels_of_several_classes_have_a_colour_each(tmp_path):
    labels = square() + square(rows=slice(30, 40), value=2)
    pixels = picture(panels([("a", textured(), labels, labels), ("b", textured(), None, square())], tmp_path / "p.png", "", 5.0))
    assert min(share(pixels, CLASSES[0]), share(pixels, CLASSES[1])) > 1e-4


def test_a_low_probability_is_tinted_and_not_outlined(tmp_path):
    low = picture(panels([("a", textured(), None, 0.4 * square())], tmp_path / "low.png", "", 5.0))
    none = picture(panels([("a", textured(), None, 0.0 * square())], tmp_path / "none.png", "", 5.0))
    assert share(low, PREDICTION) == 0
    assert (low != none).any()


def test_an_overlay_covers_what_is_labelled(tmp_path):
    path = tmp_path / "overlay.png"
    assert overlay(textured((96, 64)), square((96, 64)), path, title="Section 3", pixel_size_nm=5.0) == path
    pixels = picture(path)
    upper, lower = np.array_split(pixels[: int(0.85 * len(pixels))], 2)  # without the legend
    assert share(upper, PREDICTION) > 1e-3
    assert share(lower, PREDICTION) == 0


def test_an_overlay_with_truth_shows_hits_misses_and_false_alarms(tmp_path):
    truth, labels = square(columns=slice(4, 30)), square(columns=slice(18, 44))
    pixels = picture(overlay(textured(), labels, tmp_path / "overlay.png", title="Section 3", pixel_size_nm=5.0, truth=truth))
    columns = [np.mean(np.nonzero((np.abs(pixels / 255 - to_rgb(colour)) < 0.01).all(axis=-1)[: len(pixels) // 2])[1])
               for colour in (MISSED, CORRECT, FALSE_ALARM)]
    assert columns == sorted(columns)
    assert share(pixels, WRONG_CLASS) == 0


def test_segmentations_are_judged_beside_one_another_and_the_bare_section(tmp_path):
    truth = square()
    pixels = picture(side_by_side(textured(), truth, {"nothing": 0 * truth, "all of it": truth}, tmp_path / "sides.png",
                                  title="Section 3", pixel_size_nm=5.0))
    bare, nothing, everything = np.array_split(pixels[: int(0.8 * len(pixels))], 3, axis=1)  # without the legend
    assert [share(part, CORRECT) > 1e-3 for part in (bare, nothing, everything)] == [False, False, True]
    assert [share(part, MISSED) > 1e-3 for part in (bare, nothing, everything)] == [False, True, False]


def test_an_overlay_tells_wrong_classes_and_unlabelled_pixels(tmp_path):
    truth = square(value=2)
    truth[40:] = -1
    pixels = picture(overlay(textured(), square(), tmp_path / "overlay.png", title="Section 3", pixel_size_nm=5.0, truth=truth))
    assert share(pixels, WRONG_CLASS) > 1e-3
    assert share(pixels, "#808080") > 1e-4


@pytest.mark.parametrize("shape", [(8, 8), (30, 400), (400, 30)])
def test_sections_of_any_shape_and_of_constant_grey_are_drawn(tmp_path, shape):
    path = overlay(np.ones(shape), square(shape), tmp_path / "overlay.png", title="A long title " * 8, pixel_size_nm=1.7)
    pixels = picture(path)
    assert pixels.shape[0] > 100
    assert pixels.shape[1] >= 600


def test_a_figure_replaces_the_old_one_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "overlay.png"
    overlay(textured(), square(), path, title="one", pixel_size_nm=5.0)
    first = path.read_bytes()
    overlay(textured(), square(value=0), path, title="two", pixel_size_nm=5.0)
    assert path.read_bytes() != first
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("volumes", [np.random.default_rng(0).lognormal(-3, 1, 300), [0.02], [0.5, 0.5, 0.5]])
def test_the_volumes_of_objects_are_drawn_with_their_median(tmp_path, volumes):
    pixels = picture(volume_histogram(volumes, tmp_path / "report" / "volumes.png", title="Volumes", unit="µm³"))
    assert share(pixels, BLUE) > 0.02
    assert share(pixels, VERMILLION) > 1e-3


def test_no_objects_have_an_empty_histogram(tmp_path):
    assert share(picture(volume_histogram([], tmp_path / "volumes.png", title="Volumes", unit="µm³")), BLUE) == 0
