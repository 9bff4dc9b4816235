"""Sections as they are finished: averages, and components judged whole, against the same on a whole volume."""

import itertools

import numpy as np
import pytest
import tensorstore as ts
from tiled import STATISTICS, assemble, random_image, random_network

from yseg.config import Inference, Model
from yseg.data.box import Box, sections_of
from yseg.data.grid import Grid
from yseg.inference.blocks import block_boxes, predict_blocks
from yseg.inference.predictor import make_predictor
from yseg.inference.sections import SURE, finished, with_neighbours, without_implausible
from yseg.metrics.shapes import Prior

MODEL, INFERENCE = Model(levels=1, features=4), Inference(tile_size=48, overlap=6)
PRIOR = Prior(share=0.05, least_area_nm2=50 * 100.0, least_solidity=0.8)  # 50 pixels of 10 nm


BLOCK_SIZES = pytest.mark.parametrize("block_size", [4096, 29])  # of whole sections, and smaller ones


def predicted(image, regions, ratio=1.0, **how):
    grid = Grid(image.shape, 10.0, 10.0 * ratio)
    predict = make_predictor(MODEL, INFERENCE, random_network(MODEL)[1])
    return grid, predict_blocks(predict, ts.array(image), grid, STATISTICS, regions=regions, model=MODEL,
                                inference=INFERENCE, **how)


@BLOCK_SIZES
@pytest.mark.parametrize("ratio", [1.0, 1.6])
def test_a_region_gets_the_average_of_the_volumes_own_sections_in_any_blocks(ratio, block_size):
    image = random_image((5, 90, 75))
    regions = [Box((1, 5, 9), (4, 88, 70)), Box((0, 0, 0), (5, 90, 75)), Box((2, 3, 0), (3, 40, 75))]
    whole = Box.whole(image.shape)
    values = assemble(predicted(image, [whole], ratio)[1], whole)
    weights = np.float32([0.05, 0.2, 0.5, 0.2, 0.05])
    padded = values[[0, 0, 0, 1, 2, 3, 4, 4, 4]]
    expected = sum(weight * padded[offset:offset + 5] for offset, weight in enumerate(weights))
    grid, given = predicted(image, [with_neighbours(region, 5, weights) for region in regions], ratio, block_size=block_size,
                            on_working_grid=True)
    found = finished(given, regions, grid, weights=weights, inference=INFERENCE, prior=None, block_size=block_size)
    for region in regions:
        count = region.shape[0] * len(block_boxes(sections_of(region, 0, 1), grid, block_size))
        own = assemble(itertools.islice(found, count), region)
        np.testing.assert_allclose(own, expected[region.slices], atol=2e-5)
    assert next(found, None) is None


def scene():
    """Probabilities [y, x, class]: a disc, a small one, a cross, all doubtful; and where they are."""
    y, x = np.mgrid[:80, :90]
    places = {"disc": np.hypot(y - 20, x - 20) < 9, "small": np.hypot(y - 20, x - 60) < 3,
              "cross": ((abs(y - 55) < 2) & (abs(x - 60) < 20)) | ((abs(x - 60) < 2) & (abs(y - 55) < 20)),
              "border": (y > 76) & (abs(x - 20) < 4)}
    probable = np.full(y.shape, 0.1, np.float32)
    for place in places.values():
        probable[place] = 0.6
    return np.stack([1 - probable, probable], -1), places


def test_what_is_implausible_and_unsure_is_background_and_all_else_stays():
    values, places = scene()
    found = without_implausible(values, PRIOR, 0.5, 10.0)[..., 1]
    assert {name: bool((found[place] >= 0.5).all()) for name, place in places.items()} == {
        "disc": True, "small": False, "cross": False, "border": True}
    background = ~np.any(list(places.values()), axis=0)
    np.testing.assert_array_equal(found[background], values[background][..., 1])
    sure = np.where(values > 0.5, np.float32(0.9), np.float32(0.1))
    np.testing.assert_array_equal(without_implausible(sure, PRIOR, 0.5, 10.0)[places["cross"]][..., 1], np.float32(0.9))


def test_the_pixel_size_decides_what_is_small():
    values, places = scene()
    assert (without_implausible(values, PRIOR, 0.5, 20.0)[places["small"]][..., 1] == np.float32(0.6)).all()
    assert (without_implausible(values, PRIOR, 0.5, 2.0)[places["disc"]][..., 1] == 0).all()


def test_holes_are_filled_and_probabilities_sum_to_one():
    values, places = scene()
    values[18:22, 18:22] = (0.8, 0.2)
    found = without_implausible(values, PRIOR, 0.5, 10.0)
    assert (found[places["disc"]][..., 1] >= 0.5).all()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    nothing = np.stack([np.ones((9, 9), np.float32), np.zeros((9, 9), np.float32)], -1)
    np.testing.assert_array_equal(without_implausible(nothing, PRIOR, 0.5, 10.0), nothing)


@BLOCK_SIZES
def test_a_component_that_crosses_blocks_is_judged_whole(block_size):
    values, places = scene()
    image = np.zeros((1, 80, 90), np.uint8)
    grid = Grid(image.shape, 10.0, 10.0)
    region = Box.whole(image.shape)
    given = ((box, values[None][box.slices]) for box in block_boxes(region, grid, block_size))
    one = np.ones(1, np.float32)
    found = assemble(finished(given, [region], grid, weights=one, inference=INFERENCE, prior=PRIOR, block_size=block_size),
                     region)
    np.testing.assert_array_equal(found[0], without_implausible(values, PRIOR, 0.5, 10.0))
    assert SURE > 0.6  # or the scene would show nothing
    assert (found[0][places["disc"]][..., 1] > 0.5).all()
