"""Adaptation by self-training, from a trained run or with it, on tiny volumes."""

import dataclasses
import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
from killing import train_and_kill
from scipy import ndimage
from tiny import domain, experiment

import yseg
from launch import adapt as launcher
from launch import program
from yseg.config import JOINT, Optimizer, Record, Sampling, SelfTraining, TargetLabels
from yseg.config_json import from_json, to_json
from yseg.data import sampled
from yseg.data.depth import averaged, depth_weights, section_spacing
from yseg.data.domain import open_domains, open_own_domain, training_region, training_regions
from yseg.data.prior import prior_of
from yseg.data.pseudo_labels import pseudo_labels
from yseg.metrics.signs import Signs, judge_adaptation, signs_of
from yseg.runs import renewal
from yseg.runs.choice import CHOICE, choice_line, make_choice
from yseg.runs.folder import FIRST_STAGE, load_state, read_config, read_prior
from yseg.runs.renewal import PSEUDO_LABELS
from yseg.runs.resolve import resolve
from yseg.runs.session import prepare
from yseg.runs.stages import last_stage, second_stage
from yseg.trained.network import load_run
from yseg.training.recorder import read_metrics
from yseg.training.state import inference_variables, segmentation_part
from yseg.volumes.arrays import create_array
from yseg.volumes.volume import open_volume


def target(**fields):
    """A target whose sections are so thin that they are averaged."""
    image, labels = (f"phantom://target/{content}?shape=3,64,96&seed=2&microscope=0" for content in ("image", "labels"))
    return domain("target", **{"image": image, "labels": labels, "test_fraction": 0.3} | fields)


def tiny(**fields):
    """Both stages: eight steps, and six with pseudo-labels that are renewed once."""
    defaults = {"method": "self_training", "target": target(), "self_training": SelfTraining(steps=6, renew_every=3),
                "optimizer": Optimizer(steps=8, warmup_steps=1, learning_rate=1e-2),
                "record": Record(log_every=1, validate_every=0, checkpoint_every=2, images=0)}
    return experiment(**defaults | fields)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """The workdir of both stages."""
    workdir = tmp_path_factory.mktemp("runs") / "adapted"
    yseg.train(tiny(), workdir, quiet=True)
    return workdir


def state_of(workdir):
    return load_state(workdir, read_config(workdir))


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, state_of(one), state_of(other))


def pseudo(workdir, step, name):
    return open_volume(str(workdir / PSEUDO_LABELS / str(step) / f"{name}.zarr")).read().result()


def test_both_stages_in_one_workdir_are_a_training_and_its_adaptation(adapted, tmp_path):
    first = read_config(adapted / FIRST_STAGE)
    assert (first.method, first.optimizer.steps, first.augmentation.zoom) == ("ft", 8, 0.0)
    config = read_config(adapted)
    assert (config.method, config.optimizer.steps, config.augmentation.zoom) == ("self_training", 6, 0.2)
    assert config.self_training.start == str(adapted / FIRST_STAGE)
    assert [row["step"] for row in read_metrics(adapted)] == list(range(1, 7))
    yseg.adapt(adapted / FIRST_STAGE, tmp_path / "run", quiet=True)
    assert_same(adapted, tmp_path / "run")
    before = {path: path.read_bytes() for path in adapted.rglob("*") if path.is_file()}
    yseg.train(tiny(), adapted, quiet=True)  # it had come to its end
    assert {path: path.read_bytes() for path in adapted.rglob("*") if path.is_file()} == before


def test_a_second_stage_has_its_own_steps_however_its_config_comes(adapted):
    from_first = second_stage(tiny(), adapted / FIRST_STAGE)
    assert (from_first.optimizer.steps, from_first.augmentation.zoom) == (6, 0.2)
    given = tiny(self_training=SelfTraining(steps=6, renew_every=3, start=str(adapted / FIRST_STAGE)))
    for config in (tiny(), resolve(tiny()), given, from_first):
        assert last_stage(config, adapted) == from_first


def test_pseudo_labels_are_made_of_probabilities_that_are_remembered_and_kept(adapted):
    assert sorted(os.listdir(adapted / PSEUDO_LABELS)) == ["0", "3"]
    first, second = (pseudo(adapted, step, "probabilities").astype(np.float32) for step in (0, 3))
    own = 2 * second - first  # of the network at step 3
    assert -0.01 < own.min() < own.max() < 1.01
    assert (first != second).any()
    config = read_config(adapted)
    prior = prior_of(training_regions(config, open_domains(config))["labelled"])
    assert read_prior(adapted) == read_prior(adapted / FIRST_STAGE) == prior
    weights = depth_weights(config.inference.depth_nm, open_own_domain(config, "target", with_labels=False).spacing_nm)
    assert len(weights) > 1
    for step, values in ((0, first), (3, second)):
        expected, = pseudo_labels([averaged(values, weights)], prior, pixel_size_nm=10.0)
        np.testing.assert_array_equal(expected, pseudo(adapted, step, "labels"))


def test_before_the_first_step_they_are_those_of_the_network_that_it_starts_from(adapted):
    probabilities = pseudo(adapted, 0, "probabilities").astype(np.float32)
    start = yseg.load_run(adapted / FIRST_STAGE)
    image = open_volume(read_config(adapted).target.image)
    whole = yseg.predict(start, image.read().result(), pixel_size_nm=10.0)[..., 1]
    place = probabilities.shape
    weights = depth_weights(start.config.inference.depth_nm, section_spacing(image, 10.0))
    # Beyond the part there is its mirror image.
    np.testing.assert_allclose(averaged(probabilities, weights), whole[:, :place[1], :place[2]], atol=0.05)


def test_labels_of_the_target_change_nothing(adapted, tmp_path):
    path = str(tmp_path / "noise.zarr")
    with create_array(path, (3, 64, 96), np.uint8, 10.0) as store:
        store.write(np.random.default_rng(0).integers(0, 2, (3, 64, 96), np.uint8)).result()
    yseg.train(tiny(target=target(labels=path)), tmp_path / "run", quiet=True)
    assert_same(adapted, tmp_path / "run")


def test_read_as_needed_the_volumes_give_the_same(adapted, tmp_path):
    yseg.train(tiny(sampling=Sampling(patch_size=16, batch_size=2, reader="streaming")), tmp_path / "run", quiet=True)
    for one, other in zip(*(jax.tree.leaves(state_of(each).params) for each in (adapted, tmp_path / "run")), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_of_a_huge_target_parts_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(renewal, "LARGEST", 1500)
    monkeypatch.setattr(sampled, "PARTS", 2)
    large = target(image="phantom://target/image?shape=3,64,200&seed=2&microscope=0", labels="")
    yseg.train(tiny(target=dataclasses.replace(large, test_fraction=0.0)), tmp_path / "run", quiet=True)
    config = read_config(tmp_path / "run")
    places = renewal.parts_of(open_own_domain(config, "target", with_labels=False), config.sampling.patch_size)
    assert len(places) == 2
    labels, chances = (pseudo(tmp_path / "run", 3, name) for name in ("labels", "probabilities"))
    assert labels.shape == (3, 64, 200)
    looked_at = np.zeros(labels.shape, bool)
    for place in places:
        looked_at[place.slices] = True
    assert not labels[~looked_at].any()
    assert not chances[~looked_at].any()
    inner = [chances[place.slices][:, 2:-2, 2:-2] for place in places]
    assert all((part > 0).all() for part in inner)
    cut_from = prepare(config, tmp_path / "run").reader.cut.keywords["boxes"]["target"]
    assert all(place.contains(part) for place, part in zip(places, cut_from, strict=True))


@pytest.mark.slow
def test_killed_at_a_random_moment_it_ends_as_one_that_was_not(adapted, tmp_path):
    config = second_stage(tiny(self_training=SelfTraining(steps=30, renew_every=7)), adapted / FIRST_STAGE)
    workdir = tmp_path / "killed"
    train_and_kill(config, workdir, 18)
    yseg.train(config, workdir, quiet=True)
    yseg.train(config, tmp_path / "whole", quiet=True)
    assert_same(workdir, tmp_path / "whole")
    assert [row["step"] for row in read_metrics(workdir)] == list(range(1, 31))
    assert (pseudo(workdir, 28, "labels") == pseudo(tmp_path / "whole", 28, "labels")).all()


def test_without_the_pseudo_labels_of_its_step_a_run_is_not_continued(adapted, tmp_path):
    workdir = shutil.copytree(adapted, tmp_path / "run")
    (workdir / "config.json").write_text(to_json(dataclasses.replace(read_config(adapted), record=Record(checkpoint_every=5))))
    shutil.rmtree(workdir / "checkpoints" / "6")
    shutil.rmtree(workdir / PSEUDO_LABELS / "3")
    with pytest.raises(yseg.InputError, match=r"pseudo_labels/3: is missing"):
        yseg.train(read_config(workdir), workdir, quiet=True)


@pytest.mark.parametrize(("changes", "named"), [
    ({"target_labels": TargetLabels(JOINT, 0.4)}, "--config.target_labels.use=joint: must be none"),
    ({"model": yseg.Model(levels=1, features=4, classes=3)}, "--config.model.classes=3: must be 2 with"),
    ({"self_training": SelfTraining(start="nowhere")}, "nowhere: no such folder")])
def test_what_is_wrong_is_named_and_leaves_no_workdir(changes, named, tmp_path):
    with pytest.raises(yseg.InputError, match=named):
        yseg.train(tiny(**changes), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_seen_labels_of_the_target_is_refused(adapted, tmp_path):
    yseg.finetune(adapted, tmp_path / "tuned", 0.5, steps=1, quiet=True)
    tuned = inference_variables(state_of(tmp_path / "tuned"), "training")["params"]
    assert jax.tree.structure(tuned) == jax.tree.structure(state_of(adapted).average)
    with pytest.raises(yseg.InputError, match="was trained on labels of the target"):
        yseg.adapt(tmp_path / "tuned", tmp_path / "run", quiet=True)
    with pytest.raises(yseg.InputError, match="was trained on labels of the target"):
        yseg.train(tiny(self_training=SelfTraining(start=str(tmp_path / "tuned"))), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_start_with_another_target_is_refused_as_it_may_be_what_is_used(adapted, tmp_path):
    config = tiny(self_training=SelfTraining(start=str(adapted / FIRST_STAGE)))
    for name, value in (("test_fraction", 0.25), ("image", config.source.image)):
        other = dataclasses.replace(config, target=dataclasses.replace(config.target, **{name: value}))
        with pytest.raises(yseg.InputError, match=rf"has target\.{name}=.*; must have {re.escape(str(value))}"):
            yseg.train(other, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_choice_is_written_down_and_is_the_network_that_is_used(adapted, tmp_path):
    content = json.loads((adapted / CHOICE).read_text())
    config, prior = read_config(adapted), read_prior(adapted)
    volume = open_own_domain(config, "target", with_labels=False)
    found, start = np.zeros(volume.split.train.shape), load_run(adapted, False)
    single = dataclasses.replace(start.config, inference=dataclasses.replace(start.config.inference, depth_nm=0.0))
    for box, values in dataclasses.replace(start, config=single).predict(volume, [volume.split.train]):
        found[box.relative_to(volume.split.train).slices] = values[..., 1]
    before = signs_of([found >= 0.5], prior, 10.0)
    assert content["unadapted"] == pytest.approx(before._asdict())
    before = Signs(**content["unadapted"])
    assert judge_adaptation(before, Signs(**content["adapted"]), prior) == (content["use"] == "adapted", content["reason"])
    assert 0.5 <= content["threshold"] <= 0.6
    for choice, threshold in ((True, content["threshold"]), (False, 0.5)):
        assert load_run(adapted, choice).config.inference.threshold == threshold
    weights = {name: load_run(adapted, choice).variables["target"]["params"]
               for name, choice in (("chosen", None), ("adapted", True), ("unadapted", False))}
    for name, state in (("adapted", state_of(adapted).average), ("unadapted", state_of(adapted / FIRST_STAGE).params["network"])):
        jax.tree.map(np.testing.assert_array_equal, weights[name], segmentation_part(state))
    workdir = shutil.copytree(adapted, tmp_path / "run")
    for use in ("adapted", "unadapted"):
        (workdir / CHOICE).write_text(json.dumps({**content, "use": use}))
        jax.tree.map(np.testing.assert_array_equal, load_run(workdir).variables["target"]["params"], weights[use])
        results = yseg.evaluate(workdir, quiet=True)
        assert (workdir / "results.json").is_file()
        assert results["method"] == ("self_training" if use == "adapted" else "ft")
    before = (workdir / "results.json").stat().st_mtime_ns
    assert results["iou"] == yseg.evaluate(workdir, adapted=False, quiet=True)["iou"]  # it was chosen: the same question
    assert (workdir / "results.json").stat().st_mtime_ns > before
    assert yseg.evaluate(workdir, adapted=True, quiet=True)["method"] == "self_training"
    assert (workdir / "results_adapted.json").is_file()
    (workdir / CHOICE).write_text("{}")
    with pytest.raises(yseg.InputError, match=f"{CHOICE} is damaged"):
        load_run(workdir)
    with pytest.raises(yseg.InputError, match="must be a run of self-training"):
        load_run(adapted / FIRST_STAGE, adapted=True)
    assert config.method == "self_training"


@pytest.mark.parametrize(("times", "raised"), [(0.85, True), (0.95, False), (1.1, False)])
def test_a_threshold_is_raised_only_if_over_a_tenth_more_is_called_than_the_source_has(adapted, tmp_path, times, raised):
    workdir = shutil.copytree(adapted, tmp_path / "run")
    (workdir / CHOICE).unlink()
    config = read_config(adapted)
    volume = open_own_domain(config, "target", with_labels=False)
    region = training_region(volume, config.sampling.patch_size)
    certain = np.zeros(region.box.shape, bool)
    certain[:, 20:40, 20:40] = True
    called = ndimage.binary_dilation(certain, np.ones((1, 3, 3)))
    predicted = [np.where(certain, 0.9, np.where(called, 0.52, 0.0)).astype(np.float32)]
    prior = read_prior(adapted)._replace(share=times * called.mean())
    single = dataclasses.replace(config, inference=dataclasses.replace(config.inference, depth_nm=0.0))
    make_choice(single, workdir, lambda state: predicted, volume=volume, region=region, prior=prior, start=None)(None)
    threshold = json.loads((workdir / CHOICE).read_text())["threshold"]
    assert threshold == pytest.approx(0.52 if raised else 0.5)


def test_the_program_adapts(adapted, tmp_path, capsys):
    values = program.parse(launcher.PROGRAM, ["adapt", f"--from={adapted / FIRST_STAGE}", f"--workdir={tmp_path / 'run'}",
                                              "--steps=1", "--seed=3"])
    launcher.main(values)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{tmp_path / 'run'}: trained for 1 steps", choice_line(tmp_path / "run")]
    assert lines[1].startswith("the ")
    assert "adapted network is used" in lines[1]
    config = read_config(tmp_path / "run")
    assert (config.seed, config.optimizer.steps, config.self_training.start) == (3, 1, str(adapted / FIRST_STAGE))


def test_a_config_comes_back_from_its_file():
    assert from_json(to_json(tiny())) == tiny()
