"""The threshold that needs no target label."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import domain, experiment

import yseg
from yseg.config import InputError
from yseg.data.domain import open_domain, resolve
from yseg.runs.folder import load_state, read_config
from yseg.trained.network import predict_with
from yseg.trained.threshold import chosen_threshold, foreground_share, matched_threshold, matching_threshold
from yseg.training.state import inference_variables
from yseg.volumes.volume import create_volume

SHAPE = (3, 64, 96)


@given(st.integers(1, 300), st.floats(0.001, 0.999), st.integers(0, 5))
def test_the_share_of_voxels_that_reach_the_threshold_is_that_asked_for(count, share, seed):
    probabilities = np.random.default_rng(seed).permutation(count) / count
    threshold = matching_threshold(probabilities, share)
    assert abs(np.mean(probabilities >= threshold) - share) <= max(0.5 / count, 1 / count - share) + 1e-9


def test_the_share_is_that_of_the_sources_training_part():
    config = resolve(experiment())
    source = open_domain(config.source, 10.0, "--config.source", with_labels=True)
    labels = source.labels.read().result() > 0
    assert foreground_share(config) == pytest.approx(labels[source.split.train.slices].mean())


def test_a_source_of_one_class_is_refused():
    with pytest.raises(InputError, match="foreground share 0"):
        foreground_share(resolve(experiment(source=domain("source", foreground="==99", validation_fraction=0.3))))


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "mached", float("nan")])
def test_what_is_no_threshold_is_named_with_what_is(threshold):
    with pytest.raises(InputError, match=f"--threshold={threshold}: must be at least 0 and at most 1, or matched"):
        chosen_threshold(threshold, experiment(), None)


@pytest.mark.slow
def test_the_target_gets_the_sources_share_whatever_its_own_labels_are(tmp_path):
    yseg.train(experiment(), tmp_path / "run", quiet=True)
    config = read_config(tmp_path / "run")
    variables = inference_variables(load_state(tmp_path / "run", config), "target")
    threshold = matched_threshold(config, variables)
    target = open_domain(config.target, 10.0, "--config.target", with_labels=False)
    probabilities = np.concatenate([found[..., 1].ravel() for _, found in
                                    predict_with(config, variables, target, target.split.train)])
    assert np.mean(probabilities >= threshold) == pytest.approx(foreground_share(config), abs=0.002)

    results = yseg.evaluate(tmp_path / "run", threshold="matched", quiet=True)
    assert results["threshold"] == pytest.approx(threshold)
    assert json.loads((tmp_path / "run" / "results_matched.json").read_text())["iou"] == results["iou"]
    exported = yseg.load_model(yseg.export(tmp_path / "run", tmp_path / "model", threshold="matched"))
    assert exported.config.inference.threshold == results["threshold"]

    path = str(tmp_path / "noise.zarr")
    with create_volume(path, SHAPE, np.uint8, 10.0) as store:
        store.write(np.random.default_rng(0).integers(0, 2, SHAPE, np.uint8)).result()
    noisy = dataclasses.replace(config, target=dataclasses.replace(config.target, labels=path))
    assert matched_threshold(noisy, variables) == threshold
