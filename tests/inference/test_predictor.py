"""The trained network as a function of raw tiles."""

import dataclasses

import jax
import numpy as np
import pytest
from tiled import STATISTICS, random_image, random_network

from yseg.config import Inference, Model
from yseg.inference import predictor
from yseg.inference.predictor import make_predictor, make_predictors

MODEL = Model(levels=1, features=4)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("sections", [1, 3])
def test_it_is_the_softmax_of_the_network_on_z_scored_tiles_however_many(batch_size, sections):
    model = dataclasses.replace(MODEL, sections=sections)
    network, variables = random_network(model)
    predict = make_predictor(model, Inference(batch_size=batch_size), variables)
    for count in (1, 3, 7):
        tiles = random_image((count, 16, 24, sections))
        normalised = (tiles.astype(np.float32) - np.float32(STATISTICS[0])) / np.float32(STATISTICS[1])
        logits = np.asarray(network.apply(variables, normalised))
        expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        found = predict(tiles, STATISTICS)
        assert (type(found), found.dtype) == (np.ndarray, np.float32)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_predictors_of_other_variables_share_what_is_compiled(monkeypatch):
    traces, logits = [], predictor.folded_logits
    monkeypatch.setattr(predictor, "folded_logits", lambda *given, **more: traces.append(1) or logits(*given, **more))
    predictors, tiles = make_predictors(MODEL, Inference()), random_image((2, 16, 16, 1))
    found = [predictors(random_network(MODEL, seed)[1])(tiles, STATISTICS) for seed in (0, 1)]
    assert len(traces) == 1
    assert np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize("changed", [{}, {"normalization": "group", "groups": 2}], ids=["batch", "group"])
def test_without_onednn_it_is_the_same(changed, monkeypatch):
    model = dataclasses.replace(MODEL, **changed)
    tiles, variables = random_image((2, 16, 24, 1)), random_network(model)[1]
    found = make_predictor(model, Inference(), variables)(tiles, STATISTICS)
    monkeypatch.setattr(predictor.onednn, "available", lambda: False)
    np.testing.assert_allclose(make_predictor(model, Inference(), variables)(tiles, STATISTICS), found, atol=1e-5)


def test_augmented_it_is_the_mean_over_the_symmetries_and_turns_with_the_image():
    _, variables = random_network(MODEL)
    plain, augmented = (make_predictor(MODEL, Inference(test_time_augmentation=eight), variables) for eight in (False, True))
    tiles = random_image((3, 16, 24, 1))
    turned, found = np.rot90(tiles, 1, (1, 2)), augmented(tiles, STATISTICS)
    views = [np.rot90(np.flip(plain(np.flip(np.rot90(tiles, turns, (1, 2)), axes), STATISTICS), axes), -turns, (1, 2))
             for turns in range(4) for axes in ((), (2,))]
    np.testing.assert_allclose(found, np.mean(views, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(augmented(turned, STATISTICS), np.rot90(found, 1, (1, 2)), rtol=1e-5, atol=1e-6)
    assert np.abs(found - plain(tiles, STATISTICS)).max() > 1e-3


def test_tiles_and_variables_stay_as_they_are():
    _, variables = random_network(MODEL)
    before, tiles = jax.tree.map(np.copy, variables), random_image((2, 16, 16, 1))
    copy, predict = tiles.copy(), make_predictor(MODEL, Inference(), variables)
    np.testing.assert_array_equal(predict(tiles, STATISTICS), predict(tiles, STATISTICS))
    np.testing.assert_array_equal(tiles, copy)
    jax.tree.map(np.testing.assert_array_equal, variables, before)
