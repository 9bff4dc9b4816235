"""The methods: each module `yseg.methods.NAME` holds the record METHOD of one; `yseg.config.METHODS` lists their names."""

import importlib

from yseg.config import JOINT, Experiment
from yseg.config import METHODS as NAMES
from yseg.methods.joint import with_target_labels
from yseg.methods.method import Batch, Context, Method, MethodLoss, context_of

__all__ = ["METHODS", "Batch", "Context", "Method", "MethodLoss", "context_of", "images_per_step", "loss_of"]

METHODS: dict[str, Method] = {name: importlib.import_module(f"yseg.methods.{name}").METHOD for name in NAMES}


def loss_of(config: Experiment) -> MethodLoss:
    """What an experiment minimises: the loss of its method, in a joint training with that of labelled target patches."""
    loss = METHODS[config.method].loss
    return with_target_labels(loss) if config.target_labels.use == JOINT else loss


def images_per_step(config: Experiment) -> int:
    """How many patches a step takes, of all domains and devices together."""
    return config.sampling.batch_size * (1 + METHODS[config.method].sees_target + (config.target_labels.use == JOINT))
