"""The config as JSON: `config.json` in the folder of a run."""

import dataclasses
import json

import dacite

from yseg.config import (
    JOINT,
    NONE,
    ONLY,
    Domain,
    Experiment,
    InputError,
    Sampling,
    SelfTraining,
    TargetLabels,
    knobs,
    statistics_name,
)

VERSION = 7  # of the form; 1 had no version in it


def to_json(config: Experiment) -> str:
    """The config as JSON text, sorted as declared, with the VERSION of its form."""
    return json.dumps({"version": VERSION, **dataclasses.asdict(config)}, indent=2) + "\n"


def from_json(text: str, name: str = "config.json") -> Experiment:
    """The Experiment written by `to_json`, by this version or those before.

    Raises:
      InputError: fields are unknown, missing or of another type, or it is of another version.
    """
    try:
        fields = json.loads(text)
        version = fields.pop("version", 1)
        if version not in range(1, VERSION + 1):
            raise InputError(f"{name}: has version {version!r}; must be at most {VERSION} for this version of yseg")
        fields = _from_version_1(fields) if version == 1 else fields
        fields = _from_version_2(fields) if version <= 2 else fields
        fields = _from_version_3(fields) if version <= 3 else fields
        fields = _from_version_4(fields) if version <= 4 else fields
        fields = _from_version_5(fields) if version <= 5 else fields
        fields = _from_version_6(fields) if version <= 6 else fields
        config = dacite.from_dict(Experiment, fields, dacite.Config(strict=True, cast=[tuple]))
    except (ValueError, AttributeError, KeyError, TypeError, dacite.DaciteError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: not a config of this version of yseg ({str(error).splitlines()[0]})") from error
    missing = [flag for flag, *_ in knobs(config, "") if not _is_given(fields, flag)]
    if missing:
        raise InputError(f"{name}: not a config of this version of yseg ({missing[0].lstrip('.')} is missing)")
    return config


def _is_given(fields, flag):
    for part in flag.lstrip(".").split("."):
        if part not in fields:
            return False
        fields = fields[part]
    return True


def _from_version_1(fields):
    """The fields of a config.json of version 1, which had the target's labels in two places and no word of its version."""
    tuning, joint = fields.pop("finetuning"), fields.pop("semi_supervised") == "joint"
    fraction, boxes = fields.pop("labelled_fraction"), fields.pop("labelled_boxes")
    labels = {**dataclasses.asdict(TargetLabels()), "use": NONE}
    if tuning["start"] or tuning["boxes"]:
        labels |= {"use": ONLY, **tuning}
    elif joint:
        labels |= {"use": JOINT, "fraction": fraction, "boxes": boxes}
    model = {**fields["model"], "batch_statistics": statistics_name(fields["model"]["batch_statistics"])}
    return {**fields, "target_labels": labels, "model": model}


def _from_version_2(fields):
    """The fields of a config.json of version 2, before there was self-training."""
    augmentation = {**fields["augmentation"], "zoom": 0.0}
    return {**fields, "augmentation": augmentation, "self_training": dataclasses.asdict(SelfTraining())}


def _from_version_3(fields):
    """The fields of a config.json of version 3, when every section was segmented by itself."""
    return {**fields, "inference": {**fields["inference"], "depth_nm": 0.0, "plausible_objects": False}}


def _from_version_4(fields):
    """The fields of a config.json of version 4: foreground was pasted, thresholds and normalisation were the same for all."""
    usual = Sampling()
    sampling = {**fields["sampling"], "normalization": usual.normalization, "local_nm": usual.local_nm}
    self_training = {name: value for name, value in fields["self_training"].items() if name != "paste"}
    return {**fields, "sampling": sampling, "self_training": {**self_training, "threshold_shift": 0.0}}


def _from_version_5(fields):
    """The fields of a config.json of version 5: of a domain less was said, and all of a volume was tissue."""
    return {**fields, **{name: {**dataclasses.asdict(Domain()), **fields[name]} for name in ("source", "target")}}


def _from_version_6(fields):
    """The fields of a config.json of version 6, whose pseudo-labels had as much foreground as the source."""
    usual = SelfTraining()
    kept = {name: value for name, value in fields["self_training"].items() if name not in ("certain", "doubtful")}
    return {**fields, "self_training": {**kept, "doubt": usual.doubt, "margin": usual.margin}}
