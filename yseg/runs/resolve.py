"""From what a user gives to what can be run: checked and filled, once."""

import dataclasses
from typing import Any

from yseg.config import Experiment, ResolvedExperiment, check, statistics_name
from yseg.data.domain import absolute_path, listed_target_labels, resolved_domains
from yseg.methods import METHODS


def resolve(config: Experiment) -> ResolvedExperiment:
    """The ResolvedExperiment of an Experiment.

    No file is touched, but for a volume whose pixel size is not given, and for the target where its labels are to be chosen.

    Raises:
      InputError: see `yseg.config.check` and `yseg.volumes.catalog.resolve`; a target that is to give labels and cannot.
    """
    check(config)
    weights: dict[str, Any] = {name: weight for name, weight in METHODS[config.method].weights.items()
               if getattr(config.adaptation, name) is None}
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    resolved = ResolvedExperiment(**{
        **given, **resolved_domains(config),
        "data_dir": absolute_path(config.data_dir),
        "adaptation": dataclasses.replace(config.adaptation, **weights),
        "model": dataclasses.replace(config.model, batch_statistics=statistics_name(config.model.batch_statistics))})
    return dataclasses.replace(resolved, target_labels=listed_target_labels(resolved))
