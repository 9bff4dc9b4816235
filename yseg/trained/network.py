"""A trained network, whatever it comes from: the folder of a run, or one that was exported."""

import dataclasses
import datetime
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yseg.config import SELF_TRAINING, STATISTICS, Experiment, InputError, statistics_name
from yseg.data.box import Box
from yseg.data.depth import depth_weights
from yseg.data.domain import Volume
from yseg.data.target_labels import fraction_seen
from yseg.inference.blocks import Blocks, Predict, Tilings, predict_blocks
from yseg.inference.outside import only_tissue
from yseg.inference.predictor import make_predictor
from yseg.inference.sections import finished, with_neighbours
from yseg.metrics.shapes import Prior
from yseg.runs.choice import read_choice
from yseg.runs.folder import load_state, read_config, read_prior
from yseg.runs.moved import Moved
from yseg.trained.released import read_released
from yseg.training.recorder import read_metrics
from yseg.training.state import inference_variables
from yseg.volumes.catalog import DATASETS


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A segmentation network that can be applied, and what is known of it.

    config: its architecture, working pixel size, tiling and threshold, and the domains of its training, if they are known.
    variables: {"params", "batch_stats"} of the segmentation network in NumPy arrays, by whose batch statistics they hold.
    statistics: those it uses unless others are chosen. step: how many training steps it took. provenance: what is said of it
    where it is given away (yseg, experiment, method, seed, steps, share_of_target_labels, validation_iou, data_sets, date).
    prior: what the labels look like that it was trained on, if that is known.
    reports: the folder in which what is found with it is written down; None = nothing is written.
    """

    config: Experiment
    variables: Mapping[str, dict[str, Any]]
    statistics: str
    step: int | None
    provenance: Mapping[str, Any]
    prior: Prior | None = None
    reports: Path | None = None

    @classmethod
    def of_run(cls, workdir: str | os.PathLike, flag: str = "--workdir", adapted: bool | None = None,
               moved: Moved | None = None) -> "TrainedNetwork":
        """The network of a run's last checkpoint; InputError, naming the flag, if there is none.

        After self-training it is that which was chosen, see `yseg.runs.choice`, or if `adapted` says so the adapted one (True) or
        that which it started from (False). The adapted one has a threshold of its own. The reports are in the folder of the run
        that was given, in any case. `moved` says where the volumes of the run are now, see `yseg.runs.moved`.
        """
        config = read_config(workdir, flag, moved)
        if adapted is not None and config.method != SELF_TRAINING:
            raise InputError(f"{flag}={workdir}: must be a run of self-training, to choose whether it is the adapted network")
        choice = read_choice(Path(workdir), flag)
        if adapted is False or (adapted is None and choice and not choice.adapted):
            start = cls.of_run(config.self_training.start, f"{flag}={workdir}: self_training.start", moved=moved)
            return dataclasses.replace(start, reports=Path(workdir))
        state = load_state(workdir, config, flag)
        variables = {name: inference_variables(state, name) for name in STATISTICS}
        network = cls(config, variables, config.model.batch_statistics, int(state.step), _provenance(config, workdir, state),
                      read_prior(workdir, flag), Path(workdir))
        return network if choice is None or choice.threshold is None else network._applied(threshold=choice.threshold)

    @classmethod
    def of_folder(cls, folder: str | os.PathLike, flag: str = "--model") -> "TrainedNetwork":
        """The network of a folder that `yseg.export` wrote; InputError, naming the flag, if there is none."""
        config, variables, provenance, prior = read_released(folder, flag)
        statistics = config.model.batch_statistics
        return cls(config, {statistics: variables}, statistics, provenance.get("step"), provenance, prior)

    def with_statistics(self, name: str | None) -> "TrainedNetwork":
        """The network with other batch statistics; None = as it is. InputError if it has no such ones."""
        if name is None:
            return self
        chosen = statistics_name(name)
        if chosen not in self.variables:
            raise InputError(f"--batch_statistics={name}: must be one of {', '.join(self.variables)}, which this network has")
        return dataclasses.replace(self, statistics=chosen)

    def with_views(self, eight: bool | None) -> "TrainedNetwork":
        """The network with or without test-time augmentation, see `yseg.config.Inference`; None = as it is."""
        if eight is None:
            return self
        return self._applied(test_time_augmentation=eight)

    def with_plausible_objects(self, plausible: bool | None) -> "TrainedNetwork":
        """The network with or without implausible components, see `yseg.config.Inference`; None = as it is.

        Raises:
          InputError: it is not known what is plausible.
        """
        network = self if plausible is None else self._applied(plausible_objects=plausible)
        network._applied_prior()
        return network

    def _applied_prior(self) -> Prior | None:
        """What components have to look like; None = like anything; InputError as `with_plausible_objects`."""
        if self.config.inference.plausible_objects and self.prior is None:
            raise InputError("inference.plausible_objects=True: must be False for a network that does not know what labels of"
                             " its foreground look like: there are more than two classes, or none was labelled, or an earlier"
                             " version has trained it")
        return self.prior if self.config.inference.plausible_objects else None

    def _applied(self, **knobs) -> "TrainedNetwork":
        """The network with other knobs of `yseg.config.Inference`."""
        inference = dataclasses.replace(self.config.inference, **knobs)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, inference=inference))

    def depth_weights(self, volume: Volume) -> np.ndarray:
        """Weights of a section of a volume and those around it, over which probabilities are averaged."""
        depth_nm = self.config.inference.depth_nm
        return depth_weights(depth_nm, volume.spacing_nm if depth_nm else 1.0)

    def predictor(self) -> Predict:
        """The network as a function of raw tiles, see `yseg.inference.predictor.make_predictor`; compiled once."""
        return self._predictor

    @functools.cached_property
    def _predictor(self) -> Predict:
        return make_predictor(self.config.model, self.config.inference, self.variables[self.statistics])

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled: a copy in another process compiles it there."""
        return {name: value for name, value in self.__dict__.items() if name != "_predictor"}

    def predict(self, volume: Volume, regions: Sequence[Box], *, predict: Predict | None = None,
                tilings: Tilings | None = None) -> Blocks:
        """Class probabilities of regions of a volume, block by block, see `yseg.inference.blocks.predict_blocks`.

        They are averaged in depth and freed of implausible components, as `yseg.config.Inference` says. Where there is no tissue
        is background. `predict` is that of `predictor`, and `tilings` those of `yseg.inference.blocks.tilings_of`, where regions
        are predicted in several calls; None = they are made.
        """
        inference, prior = self.config.inference, self._applied_prior()
        predicted = functools.partial(predict_blocks, predict or self.predictor(), volume.image, volume.grid, volume.statistics,
                                      model=self.config.model, inference=inference, tilings=tilings)
        if not (inference.depth_nm or prior):
            return only_tissue(predicted(regions=regions), volume.mask)
        weights = self.depth_weights(volume)
        wide = [with_neighbours(region, volume.grid.shape[0], weights) for region in regions]
        wide_blocks = predicted(regions=wide, on_working_grid=True)
        return only_tissue(finished(wide_blocks, regions, volume.grid, weights=weights, inference=inference, prior=prior,
                                    mask=volume.mask), volume.mask)


def load_run(workdir: str | os.PathLike, adapted: bool | None = None, moved: Moved | None = None) -> TrainedNetwork:
    """The trained network of a run's folder; InputError if there is none.

    Args:
      workdir: the folder.
      adapted: after self-training, the adapted network or (False) the one that it started from; None = that which was chosen.
      moved: where the run's volumes are now, if they are not where they were: {"data_dir": FOLDER} in which they are found by
        the last parts of their paths, or their own paths or URLs, as {"target.image": ..., "target.labels": ...}.
    """
    return TrainedNetwork.of_run(workdir, adapted=adapted, moved=moved)


def load_model(folder: str | os.PathLike) -> TrainedNetwork:
    """The trained network of a folder that `yseg.export` wrote; InputError if it is none, damaged, or of another version."""
    return TrainedNetwork.of_folder(folder)


def network_of(given: str | os.PathLike | TrainedNetwork, adapted: bool | None = None,
               moved: Moved | None = None) -> TrainedNetwork:
    """The trained network that a verb was given: one that was loaded, or the folder of a run, see `load_run`."""
    return given if isinstance(given, TrainedNetwork) else TrainedNetwork.of_run(given, adapted=adapted, moved=moved)


def _provenance(config, workdir, state):
    """What is said of the network of a run, see `TrainedNetwork`."""
    validation = [row["validation_iou"] for row in read_metrics(workdir) if row.get("validation_iou") is not None]
    return {"experiment": config.name, "method": config.method, "seed": config.seed, "step": int(state.step),
            "steps": config.optimizer.steps, "share_of_target_labels": fraction_seen(config.target_labels),
            "validation_iou": validation[-1] if validation else None,
            "data_sets": {name: _data_set(getattr(config, name).dataset) for name in ("source", "target")},
            "date": datetime.datetime.now(datetime.UTC).date().isoformat()}


def _data_set(name: str) -> dict[str, str] | None:
    """What must be said of a data set of the catalog; None for other volumes."""
    known = DATASETS.get(name)
    return {"name": name, "description": known.description, "licence": known.licence,
            "citation": known.citation} if known else None
