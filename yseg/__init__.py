"""Domain-adaptive segmentation of volume electron microscopy in JAX and Flax.

    yseg.train(config, workdir), yseg.adapt(start, workdir), yseg.finetune(start, workdir, fraction)      what trains
    yseg.evaluate(workdir, ...), yseg.segment(workdir, image, output, ...)      what applies a trained network to volumes
    yseg.load_run(workdir), yseg.load_model(folder)      a trained network; evaluate, segment and predict take it
    yseg.predict(network, array, pixel_size_nm=...)      probabilities of an array, without files
    yseg.export(workdir, output), yseg.cross_validate(start, workdir, folds), yseg.open_volume(spec)
    yseg.check(config, output)                      a first look at the volumes, before any training
    yseg.convert(image, output)                     the same volume in another format
    yseg.losses, yseg.methods, yseg.models      the parts, for programs of one's own
    yseg.Experiment, yseg.Domain, ...      the config, see yseg.config; yseg.InputError is what a user has to change
"""

import importlib
from typing import TYPE_CHECKING, Any

from yseg.config import (
    Adaptation,
    Augmentation,
    Domain,
    Experiment,
    Inference,
    InputError,
    Loss,
    Model,
    Optimizer,
    Record,
    ResolvedExperiment,
    Sampling,
    SelfTraining,
    TargetLabels,
    no_augmentation,
    strong_augmentation,
)

if TYPE_CHECKING:
    from yseg import losses, methods, models
    from yseg.data.convert import convert
    from yseg.experiment import adapt, evaluate, export, finetune, predict, segment, train
    from yseg.runs.resolve import resolve
    from yseg.studies.cross_validation import cross_validate
    from yseg.studies.first_look import check
    from yseg.trained.network import TrainedNetwork, load_model, load_run
    from yseg.volumes.volume import open_volume

__version__ = "0.2.0"
_PLACES = {
    **dict.fromkeys(("adapt", "evaluate", "export", "finetune", "predict", "segment", "train"), "experiment"),
    "cross_validate": "studies.cross_validation", "resolve": "runs.resolve", "TrainedNetwork": "trained.network",
    "load_model": "trained.network", "load_run": "trained.network", "open_volume": "volumes.volume",
    "convert": "data.convert", "check": "studies.first_look"}
_PACKAGES = ("losses", "methods", "models")

__all__ = [
    "Adaptation", "Augmentation", "Domain", "Experiment", "Inference", "InputError", "Loss", "Model", "Optimizer", "Record",
    "ResolvedExperiment", "Sampling", "SelfTraining", "TargetLabels", "TrainedNetwork", "adapt", "check", "convert",
    "cross_validate", "evaluate", "export", "finetune",
    "load_model", "load_run", "losses", "methods", "models", "no_augmentation", "open_volume", "predict", "resolve", "segment",
    "strong_augmentation", "train"]


def __getattr__(name: str) -> Any:
    """What needs JAX is imported when it is first used: reading a config or showing --help need not wait for it."""
    if name in _PLACES:
        return getattr(importlib.import_module(f"yseg.{_PLACES[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"yseg.{name}")
    raise AttributeError(f"module 'yseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
