"""yseg.config_json: what is written comes back, also from the version before; what cannot be read is refused in one line."""

import copy
import dataclasses
import json

import pytest
from tiny import experiment

from yseg.config import (
    JOINT,
    METHODS,
    ONLY,
    Adaptation,
    Domain,
    Experiment,
    Inference,
    InputError,
    Loss,
    Model,
    SelfTraining,
    TargetLabels,
    check,
    knobs,
)
from yseg.config_json import VERSION, from_json, to_json
from yseg.runs.resolve import resolve

# As the version before wrote it: it has no "version", and says of the target's labels in two places.
FORMER = {
    "name": "experiment", "method": "ynet", "seed": 3, "data_dir": "", "semi_supervised": "finetune", "labelled_fraction": 0.15,
    "labelled_boxes": [],
    "source": {
        "dataset": "", "image": "/s.zarr", "labels": "/s_labels.zarr", "pixel_size_nm": 5.0, "foreground": ">0", "unlabelled": "",
        "split_axis": "x", "validation_fraction": 0.0, "test_fraction": 0.0},
    "target": {
        "dataset": "", "image": "/t.zarr", "labels": "/t_labels.zarr", "pixel_size_nm": 4.6, "foreground": ">0", "unlabelled": "",
        "split_axis": "x", "validation_fraction": 0.0, "test_fraction": 0.33},
    "sampling": {
        "working_pixel_size_nm": 10.0, "patch_size": 96, "batch_size": 4, "reader": "auto", "steps_at_once": 1,
        "resident_limit_gib": 4.0},
    "augmentation": {
        "rotate": True, "flip": True, "elastic_probability": 0.3, "elastic_pixels": 4.0, "elastic_spacing": 24, "brightness": 0.3,
        "contrast": 0.4, "gamma": 0.5, "blur_probability": 0.3, "blur_pixels": 1.5, "sharpen_probability": 0.3,
        "sharpen_amount": 1.5, "noise_probability": 0.5, "noise": 0.3},
    "model": {
        "levels": 3, "features": 16, "classes": 2, "sections": 1, "normalization": "batch", "groups": 8, "dropout": 0.0,
        "activation": "relu", "residual": False, "compute_dtype": "float32", "rematerialise": False, "batch_pass": "apart",
        "batch_statistics": "source"},
    "loss": {"name": "cross_entropy", "class_weights": [], "focal_gamma": 2.0, "tversky_alpha": 0.3, "tversky_beta": 0.7},
    "adaptation": {
        "weight": 1.0, "level_weights": [], "pixels": 64, "bandwidths": [0.25, 0.5, 1.0, 2.0, 4.0], "hidden": 64,
        "reversal_gamma": 10.0, "reconstruction_source": 1.0, "reconstruction_target": 1.0, "reconstruction_loss": "squared"},
    "optimizer": {
        "name": "adam", "steps": 1200, "learning_rate": 0.001, "schedule": "cosine", "warmup_steps": 50, "decay_rate": 0.9,
        "decay_steps": 100, "momentum": 0.9, "weight_decay": 0.0, "clip_norm": 0.0},
    "finetuning": {"start": "", "fraction": 0.0, "boxes": []},
    "record": {"log_every": 20, "validate_every": 500, "checkpoint_every": 250, "keep_checkpoints": 2, "images": 3},
    "inference": {"tile_size": 640, "overlap": 16, "batch_size": 1, "threshold": 0.5, "test_time_augmentation": False},
}
BOXES = ("0:1,0:64,0:60", "2:3,0:20,0:60")


def former(batch_statistics="source", **fields):
    """JSON text of the version before, with other values for some fields."""
    config = copy.deepcopy(FORMER) | fields
    config["model"]["batch_statistics"] = batch_statistics
    return json.dumps(config)


def expected(batch_statistics="training", **fields):
    """The Experiment that `former` means."""
    domain = Domain(pixel_size_nm=5.0, foreground=">0")
    return Experiment(**{
        "method": "ynet", "seed": 3, "source": dataclasses.replace(domain, image="/s.zarr", labels="/s_labels.zarr"),
        "target": dataclasses.replace(domain, image="/t.zarr", labels="/t_labels.zarr", pixel_size_nm=4.6, test_fraction=0.33),
        "model": Model(batch_statistics=batch_statistics), "adaptation": Adaptation(1.0, reconstruction_source=1.0,
                                                                                    reconstruction_target=1.0),
        "inference": Inference(depth_nm=0.0), "self_training": SelfTraining(threshold_shift=0.0)} | fields)


# --- What is written comes back ---


@pytest.mark.parametrize("config", [
    Experiment(), *(Experiment(method=method) for method in METHODS), experiment(method="dann", seed=7),
    Experiment(adaptation=Adaptation(0.0, level_weights=(0.0, 1.5)), loss=Loss(class_weights=(1.0, 2.5)),
               target_labels=TargetLabels(JOINT, 0.25, BOXES)),
    Experiment(target_labels=TargetLabels(ONLY, 0.15, BOXES, "/runs/ynet", 0.3)), Experiment(name="ünïcode \"quoted\"\n")],
    ids=lambda config: config.name)
def test_a_config_comes_back(config):
    assert from_json(to_json(config)) == config
    assert json.loads(to_json(config))["version"] == VERSION


def test_a_resolved_config_comes_back_with_every_value():
    resolved = resolve(experiment(method="coral", target_labels=TargetLabels(JOINT, 0.4)))
    found = from_json(to_json(resolved))
    assert [(flag, value) for flag, _, _, value in knobs(found)] == [(flag, value) for flag, _, _, value in knobs(resolved)]
    assert to_json(found) == to_json(resolved)


# --- The version before ---


def test_all_of_a_volume_of_the_version_before_masks_is_tissue():
    written = json.loads(to_json(experiment()))
    for name in ("source", "target"):
        for knob in ("mask", "nan"):
            del written[name][knob]
    assert from_json(json.dumps(written | {"version": 5})) == experiment()


def test_a_plain_run_of_the_version_before_reads_no_target_labels():
    found = from_json(former())
    assert found == expected()
    assert found.target_labels == TargetLabels()
    check(found)


@pytest.mark.parametrize(("former_name", "name"), [("source", "training"), ("target", "target"), ("mixed", "mixed")])
def test_batch_statistics_of_the_version_before_have_their_name_of_today(former_name, name):
    assert from_json(former(former_name)) == expected(name)


@pytest.mark.parametrize("boxes", [(), BOXES])
def test_a_joint_run_of_the_version_before_is_a_joint_run(boxes):
    found = from_json(former("target", semi_supervised="joint", labelled_fraction=0.25, labelled_boxes=list(boxes)))
    assert found == expected("target", target_labels=TargetLabels(JOINT, 0.25, boxes))
    check(found)


@pytest.mark.parametrize("start", ["/runs/ynet", ""], ids=["fine-tuned", "oracle"])
def test_a_run_of_the_version_before_on_target_labels_alone_is_one(start):
    found = from_json(former(method="ft", finetuning={"start": start, "fraction": 0.3, "boxes": list(BOXES)}))
    assert found == expected(method="ft", target_labels=TargetLabels(ONLY, 0.3, BOXES, start))
    check(found)


def test_a_fine_tuning_of_the_version_before_on_no_labels_keeps_its_start():
    tuning, optimizer = {"start": "/runs/ynet", "fraction": 0.0, "boxes": []}, FORMER["optimizer"] | {"steps": 0}
    found = from_json(former(method="ft", finetuning=tuning, optimizer=optimizer))
    assert found.target_labels == TargetLabels(ONLY, 0.0, (), "/runs/ynet")
    check(found)


def test_what_was_read_from_the_version_before_is_written_in_todays_form():
    found = from_json(former(semi_supervised="joint", labelled_boxes=list(BOXES)))
    assert from_json(to_json(found)) == found
    written = json.loads(to_json(found))
    assert written["version"] == VERSION
    assert not {"finetuning", "semi_supervised", "labelled_fraction", "labelled_boxes"} & written.keys()


def test_a_run_of_the_version_before_doubt_has_that_of_today():
    written = json.loads(to_json(experiment(method="self_training")))
    for name in ("doubt", "margin"):
        del written["self_training"][name]
    written["self_training"] |= {"certain": 0.6, "doubtful": 2.0}
    assert from_json(json.dumps(written | {"version": 6})) == experiment(method="self_training")


def test_a_run_of_the_version_before_self_training_is_one_that_has_none():
    written = json.loads(to_json(experiment(method="dann")))
    del written["self_training"], written["augmentation"]["zoom"]
    alone = experiment(method="dann", inference=Inference(tile_size=64, overlap=4, depth_nm=0.0),
                       self_training=SelfTraining(threshold_shift=0.0))
    assert from_json(json.dumps(written | {"version": 2})) == alone  # every section by itself, as it was


def test_a_run_of_the_version_before_averages_has_every_section_by_itself():
    written = json.loads(to_json(experiment(method="self_training")))
    del written["inference"]["depth_nm"], written["inference"]["plausible_objects"]
    del written["self_training"]["threshold_shift"]
    found = from_json(json.dumps(written | {"version": 3}))
    assert (found.inference.depth_nm, found.inference.plausible_objects) == (0.0, False)
    assert found.self_training == dataclasses.replace(experiment().self_training, threshold_shift=0.0)


def test_a_run_of_the_version_before_own_thresholds_has_that_of_the_config():
    written = json.loads(to_json(experiment(method="self_training")))
    del written["self_training"]["threshold_shift"], written["sampling"]["normalization"], written["sampling"]["local_nm"]
    written["self_training"]["paste"] = 0.5
    found = from_json(json.dumps(written | {"version": 4}))
    assert found.self_training == dataclasses.replace(experiment().self_training, threshold_shift=0.0)
    assert found.sampling == experiment().sampling


# --- What cannot be read ---


def refused(text):
    """The message with which a text is refused, which is one line and names the file."""
    with pytest.raises(InputError) as caught:
        from_json(text, "--workdir=here: config.json")
    message = str(caught.value)
    assert message.startswith("--workdir=here: config.json: ")
    assert "\n" not in message
    return message


def changed(change):
    """JSON text of a config after `change(dict)`."""
    fields = json.loads(to_json(Experiment()))
    change(fields)
    return json.dumps(fields)


@pytest.mark.parametrize("version", [VERSION + 1, 99, "2", None, 0])
def test_another_version_is_named(version):
    message = refused(changed(lambda fields: fields.update(version=version)))
    assert f"version {version!r}" in message
    assert f"at most {VERSION}" in message


def test_a_version_of_the_future_is_named_whatever_else_it_holds():
    future = VERSION + 1
    assert f"version {future}" in refused(json.dumps({"version": future, "experiment": {"all": "new"}}))


@pytest.mark.parametrize("text", ["[]", "3", "null", '"config"', "true", "[{}]"])
def test_json_of_another_kind_is_refused(text):
    assert "not a config of this version of yseg" in refused(text)


@pytest.mark.parametrize("text", ["", "{", "method: ynet", "{'method': 'ynet'}", to_json(Experiment())[:200]])
def test_text_that_is_no_json_is_refused(text):
    assert "not a config of this version of yseg" in refused(text)


@pytest.mark.parametrize(("change", "named"), [
    (lambda fields: fields.pop("seed"), "seed is missing"), (lambda fields: fields.pop("target_labels"), "target_labels"),
    (lambda fields: fields["model"].pop("levels"), "model.levels is missing"),
    (lambda fields: fields["target"].pop("split_axis"), "target.split_axis is missing"),
    (lambda fields: fields["adaptation"].pop("weight"), "adaptation.weight is missing"),  # which may be empty, but is written
    (lambda fields: fields.clear(), "'finetuning'")])  # the version before
def test_a_missing_field_is_named(change, named):
    assert named in refused(changed(change))


@pytest.mark.parametrize(("change", "named"), [
    (lambda fields: fields.update(colour="red"), "colour"), (lambda fields: fields["model"].update(depth=3), "depth"),
    (lambda fields: fields.update(semi_supervised="joint"), "semi_supervised")])
def test_an_unknown_field_is_named(change, named):
    assert named in refused(changed(change))


@pytest.mark.parametrize(("change", "named"), [
    (lambda fields: fields.update(seed="0"), "seed"), (lambda fields: fields.update(model=3), "model"),
    (lambda fields: fields["model"].update(levels=None), "levels"),
    (lambda fields: fields["adaptation"].update(weight="much"), "weight"),
    (lambda fields: fields["target_labels"].update(boxes=[1]), "boxes")])
def test_a_field_of_another_type_is_named(change, named):
    assert named in refused(changed(change))


@pytest.mark.parametrize("name", ["finetuning", "semi_supervised", "labelled_fraction", "labelled_boxes", "model", "seed"])
def test_a_field_that_the_version_before_lacks_is_named(name):
    fields = copy.deepcopy(FORMER)
    del fields[name]
    assert name in refused(json.dumps(fields))


def test_a_field_of_another_type_in_the_version_before_is_refused():
    refused(former(finetuning=3))
    refused(former(finetuning={"start": "", "fraction": 0.5, "boxes": ["0:1,:,:"], "more": 1}))


def test_files_of_the_version_before_are_obeyed_and_have_one_channel():
    written = json.loads(to_json(experiment()))
    for name in ("source", "target"):
        for knob in ("section_nm", "metadata", "channel"):
            del written[name][knob]
    assert from_json(json.dumps(written | {"version": 5})) == experiment()
