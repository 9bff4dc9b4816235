"""The threshold that needs no target label."""

import dataclasses
import json

import numpy as np
import pytest
from tiny import domain, experiment

import yseg
from yseg.config import Experiment, Inference, InputError, Model, Sampling
from yseg.data.domain import open_domain
from yseg.runs.resolve import resolve
from yseg.trained.network import TrainedNetwork
from yseg.trained.threshold import chosen_threshold, foreground_share, matched_threshold, sampled_probabilities
from yseg.volumes.arrays import create_array

SHAPE = (3, 64, 96)


def test_the_share_is_that_of_the_sources_training_part():
    config = resolve(experiment())
    source = open_domain(config.source, Sampling(), "--config.source", with_labels=True)
    labels = source.labels.read().result() > 0
    assert foreground_share(config) == pytest.approx(labels[source.split.train.slices].mean())


def test_a_source_of_one_class_is_refused():
    with pytest.raises(InputError, match="foreground share 0"):
        foreground_share(resolve(experiment(source=domain("source", foreground="==99", validation_fraction=0.3))))


def unknown(**fields):
    """A network of which nothing but its config is known."""
    return TrainedNetwork(resolve(experiment(**fields)), {}, "target", None, {})


@pytest.mark.parametrize("threshold", [-0.1, 1.5, "mached", float("nan")])
def test_what_is_no_threshold_is_named_with_what_is(threshold):
    with pytest.raises(InputError, match=f"--threshold={threshold}: must be at least 0 and at most 1, or matched"):
        chosen_threshold(threshold, unknown())


def test_without_a_word_it_is_the_configs_and_a_number_is_itself():
    network = unknown(inference=Inference(tile_size=64, overlap=4, threshold=0.3))
    assert [chosen_threshold(given, network) for given in (None, 0, 0.75, 1.0)] == [0.3, 0.0, 0.75, 1.0]


def test_what_has_no_share_of_foreground_to_match_is_refused():
    with pytest.raises(InputError, match=r"--threshold=matched: must be with model\.classes=2, not 3"):
        chosen_threshold("matched", unknown(model=Model(levels=1, features=4, classes=3)))
    nothing_known = dataclasses.replace(unknown(), config=Experiment())
    with pytest.raises(InputError, match="--threshold=matched: must be a number with a released model"):
        chosen_threshold("matched", nothing_known)


@pytest.mark.slow
def test_the_target_gets_the_sources_share_whatever_its_own_labels_are(tmp_path):
    yseg.train(experiment(), tmp_path / "run", quiet=True)
    network = yseg.load_run(tmp_path / "run")
    config, threshold = network.config, matched_threshold(network)
    target = open_domain(config.target, Sampling(), "--config.target", with_labels=False)
    probabilities = np.concatenate([found[..., 1].ravel() for _, found in network.predict(target, [target.split.train])])
    np.testing.assert_array_equal(sampled_probabilities(network, target, target.split.train)[:, 1], probabilities)
    assert np.mean(probabilities >= threshold) == pytest.approx(foreground_share(config), abs=0.002)

    results = yseg.evaluate(tmp_path / "run", threshold="matched", quiet=True)
    assert results["threshold"] == pytest.approx(threshold)
    assert json.loads((tmp_path / "run" / "results_matched.json").read_text())["iou"] == results["iou"]
    exported = yseg.load_model(yseg.export(tmp_path / "run", tmp_path / "model", threshold="matched"))
    assert exported.config.inference.threshold == results["threshold"]

    path = str(tmp_path / "noise.zarr")
    with create_array(path, SHAPE, np.uint8, 10.0) as store:
        store.write(np.random.default_rng(0).integers(0, 2, SHAPE, np.uint8)).result()
    noisy = dataclasses.replace(config, target=dataclasses.replace(config.target, labels=path))
    assert matched_threshold(dataclasses.replace(network, config=noisy)) == threshold
