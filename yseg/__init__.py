"""Domain-adaptive segmentation of volume electron microscopy in JAX and Flax.

    yseg.train(config, workdir), yseg.finetune(start, workdir, fraction), yseg.evaluate(workdir, ...),
    yseg.segment(workdir, image, output, ...)
    yseg.cross_validate(start, workdir, folds)      fine-tune on some sections, score on the others
    yseg.export(workdir, output), yseg.load_model(folder)      a trained network without its run; evaluate and segment take it
    yseg.losses, yseg.models      the parts, for programs of one's own
    yseg.Experiment, yseg.Domain, ...      the config, see yseg.config; yseg.InputError is what a user has to change
"""

import importlib

from yseg.config import (
    Adaptation,
    Augmentation,
    Domain,
    Experiment,
    FineTuning,
    Inference,
    InputError,
    Loss,
    Model,
    Optimizer,
    Record,
    Sampling,
    default_adaptation,
    no_augmentation,
    strong_augmentation,
)

__version__ = "0.1.0"
_VERBS = {name: "experiment" for name in ("evaluate", "finetune", "segment", "train")} | {
    "export": "trained.export", "load_model": "trained.released", "cross_validate": "studies.cross_validation"}
_MODULES = ("losses", "models")

__all__ = ["Adaptation", "Augmentation", "Domain", "Experiment", "FineTuning", "Inference", "InputError", "Loss", "Model",
           "Optimizer", "Record", "Sampling", "default_adaptation", "no_augmentation", "strong_augmentation", *_MODULES, *_VERBS]


def __getattr__(name):
    """What needs JAX is imported when it is first used: reading a config or showing --help need not wait for it."""
    if name in _VERBS:
        return getattr(importlib.import_module(f"yseg.{_VERBS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"yseg.{name}")
    raise AttributeError(f"module 'yseg' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
