"""From what a user gives to what can be run."""

import dataclasses
import os

import pytest
from tiny import domain, experiment

from yseg.config import (
    JOINT,
    METHODS,
    ONLY,
    Adaptation,
    Domain,
    Experiment,
    InputError,
    Model,
    ResolvedExperiment,
    TargetLabels,
    knobs,
)
from yseg.data.box import parse_region
from yseg.methods import METHODS as RECORDS
from yseg.runs.resolve import resolve

SHAPE = (3, 64, 96)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_not_given_are_the_methods_own(method):
    config = experiment(method=method)
    assert resolve(config).adaptation == dataclasses.replace(config.adaptation, **RECORDS[method].weights)
    assert config == experiment(method=method)  # what was given is as it was
    given = Adaptation(weight=0.0, reconstruction_source=7.0)  # 0 is a weight, too
    resolved = resolve(experiment(method=method, adaptation=given)).adaptation
    assert (resolved.weight, resolved.reconstruction_source) == (0.0, 7.0)
    assert resolved.reconstruction_target == (1.0 if method == "ynet" else None)


def test_data_sets_are_filled_and_paths_are_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = resolve(experiment(data_dir="here", source=Domain(dataset="epfl"), target=Domain(
        image="mine/a.tif", labels="s3://bucket/b.zarr", pixel_size_nm=4.0)))
    assert config.data_dir == str(tmp_path / "here")
    assert config.source.image == str(tmp_path / "here" / "epfl" / "training.tif")
    assert (config.source.pixel_size_nm, config.source.foreground) == (5.0, ">0")
    assert config.target.image == str(tmp_path / "mine" / "a.tif")
    assert config.target.labels == "s3://bucket/b.zarr"
    assert resolve(experiment()).data_dir == ""  # and not the working folder
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("given", "name"), [("source", "training"), ("training", "training"), ("target", "target"),
                                             ("mixed", "mixed")])
def test_batch_statistics_have_one_name(given, name):
    config = experiment(model=Model(levels=1, features=4, batch_statistics=given))
    assert resolve(config).model == dataclasses.replace(config.model, batch_statistics=name)


def test_nothing_else_changes():
    config = experiment(method="dann", seed=5)
    resolved = resolve(config)
    assert type(resolved) is ResolvedExperiment
    pairs = zip(knobs(config, ""), knobs(resolved, ""), strict=True)
    assert {name for (name, *_, old), (*_, new) in pairs if old != new} == {".adaptation.weight"}


@pytest.mark.parametrize(("method", "use"), [("coral", JOINT), ("ft", ONLY)])
def test_target_labels_that_are_trained_on_are_listed(method, use):
    config = experiment(method=method, target_labels=TargetLabels(use, 0.6))
    resolved = resolve(config)
    boxes = [parse_region(text, SHAPE) for text in resolved.target_labels.boxes]
    assert sum(box.shape[0] * box.shape[1] for box in boxes) / (3 * 64) == pytest.approx(0.6, abs=0.01)
    assert all(box.stop[2] <= 67 for box in boxes)  # 29 of 96 columns are kept for the test
    assert dataclasses.replace(resolved.target_labels, boxes=()) == config.target_labels
    assert resolve(config) == resolved
    assert resolve(dataclasses.replace(config, seed=1)).target_labels.boxes != resolved.target_labels.boxes


def test_boxes_that_are_listed_stay():
    labels = TargetLabels(JOINT, 0.4, ("1:2,0:40,0:60",))
    assert resolve(experiment(target_labels=labels)).target_labels == labels


def test_the_target_is_opened_only_to_choose_labels(tmp_path):
    gone = domain("target", image=str(tmp_path / "gone.tif"), labels=str(tmp_path / "gone_too.tif"))
    listed = TargetLabels(JOINT, boxes=("0:1,:,:",))
    for labels in (TargetLabels(), listed):
        assert resolve(experiment(target=gone, target_labels=labels)).target_labels == labels
    with pytest.raises(InputError, match=r"^--config\.target\.image=.*gone\.tif: no such file"):
        resolve(experiment(target=gone, target_labels=TargetLabels(JOINT)))
    with pytest.raises(InputError, match=r"^--config\.target\.labels is empty"):
        resolve(experiment(target=domain("target", labels=""), target_labels=TargetLabels(JOINT)))


def test_what_was_resolved_stays_as_it_is():
    resolved = resolve(experiment(method="ynet", target_labels=TargetLabels(JOINT)))
    assert resolve(resolved) == resolved


@pytest.mark.parametrize(("fields", "named"), [
    ({"method": "unet"}, r"^--config\.method='unet': must be one of ft, mmd"),
    ({"source": Domain()}, r"^--config\.source\.image is empty"), ({"source": Domain(dataset="epfl")}, "data_dir is empty"),
    ({"target": Domain(image="a.tif")}, r"^--config\.target\.image=.*a\.tif: no such file"),
    ({"adaptation": Adaptation(weight=-1.0)}, r"^--config\.adaptation\.weight=-1\.0: must be at least 0")])
def test_what_is_wrong_is_named(fields, named):
    with pytest.raises(InputError, match=named) as caught:
        resolve(experiment(**fields))
    assert "\n" not in str(caught.value)


def test_an_experiment_of_nothing_asks_for_its_source():
    with pytest.raises(InputError, match=r"--config\.source\.image is empty"):
        resolve(Experiment())
