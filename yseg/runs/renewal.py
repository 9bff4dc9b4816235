"""Pseudo-labels of a run: made by the average of its parameters, renewed every so many steps, and kept beside the checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from yseg import parallel
from yseg.config import InputError, ResolvedExperiment
from yseg.data.depth import averaged, depth_weights
from yseg.data.domain import Volume
from yseg.data.patches import Reader, Region
from yseg.data.pseudo_labels import pseudo_labels
from yseg.files import whole_folder
from yseg.inference.blocks import predict_blocks
from yseg.metrics.shapes import Prior
from yseg.training.state import TrainState, inference_variables
from yseg.volumes.volume import create_volume, open_volume

PSEUDO_LABELS = "pseudo_labels"  # folder of a run; in it one of every renewal, named after its step
LARGEST = 2**28  # working pixels that are held in memory, in 32 bits

Renewal = Callable[[int, TrainState], None]  # `renew(step, state)`: see `make_renewal`
Probabilities = Callable[[TrainState], np.ndarray]  # of foreground in the target's training part: see `make_probabilities`


def make_probabilities(config: ResolvedExperiment, volume: Volume, region: Region,
                       predictors: Callable[..., Any]) -> Probabilities:
    """`state -> float32 [z, y, x]`: what the network of a state says of the target's training part, on the working grid.

    Args:
      config: of the run.
      volume, region: of the target.
      predictors: see `yseg.inference.predictor.make_predictors`.

    Raises:
      InputError: the training region is too large to be held in memory.
    """
    if np.prod(region.box.shape) > LARGEST:
        raise InputError(f"target.image={config.target.image}: {np.prod(region.box.shape)} working pixels in its training part;"
                         f" must be at most {LARGEST} for self-training: larger pixels, or a larger target.test_fraction")

    def probabilities_of(state):
        blocks = predict_blocks(predictors(inference_variables(state, config.model.batch_statistics)), volume.image, volume.grid,
                                volume.statistics, regions=[volume.split.train], model=config.model, inference=config.inference,
                                on_working_grid=True)
        found = np.zeros(region.box.shape, np.float32)
        for box, values in blocks:
            inner = box.intersect(region.box)
            if not inner.is_empty:
                found[inner.relative_to(region.box).slices] = values[..., 1][inner.relative_to(box).slices]
        return found

    return probabilities_of


def make_renewal(config: ResolvedExperiment, workdir: Path, probabilities_of: Probabilities, *, volume: Volume, prior: Prior,
                 reader: Reader, estimate: Callable[[TrainState], TrainState]) -> Renewal:
    """`renew(step, state)` gives the reader the pseudo-labels that hold at a step, and makes them if the step is due.

    They are those of the last multiple of `config.self_training.renew_every`: made by the state of that step, and kept, so that a
    run that goes on from a checkpoint trains on the same.

    Args:
      config: of the run.
      workdir: its folder.
      probabilities_of: see `make_probabilities`.
      volume: of the target.
      prior: of the source.
      reader: that cuts the patches.
      estimate: see `yseg.training.statistics.make_estimate`.
    """
    knobs, folder = config.self_training, workdir / PSEUDO_LABELS
    weights = depth_weights(config.inference.depth_nm, volume.spacing_nm)

    def write(step, state):
        probabilities, former = probabilities_of(state), folder / str(step - knobs.renew_every)
        if former.exists():
            probabilities = knobs.memory * read_probabilities(former) + (1 - knobs.memory) * probabilities
        probabilities = probabilities.astype(np.float16)
        labels = pseudo_labels(averaged(probabilities, weights), prior, pixel_size_nm=config.sampling.working_pixel_size_nm,
                               certain=knobs.certain, doubtful=knobs.doubtful)
        with whole_folder(folder / str(step)) as unfinished:
            for name, values in (("probabilities", probabilities), ("labels", labels)):
                with create_volume(str(unfinished / f"{name}.zarr"), values.shape, values.dtype,
                                   config.sampling.working_pixel_size_nm) as store:
                    store.write(values).result()

    def renew(step, state):
        due = step - step % knobs.renew_every
        if not (folder / str(due)).exists():
            if due != step:
                raise InputError(f"{folder / str(due)}: is missing; must be the pseudo-labels of step {due}")
            state = estimate(state)
            parallel.on_main(write, step, state)
        reader.relabel(open_volume(str(folder / str(due) / "labels.zarr")))

    return renew


def read_probabilities(folder: Path) -> np.ndarray:
    """The probabilities float32 [z, y, x] that the pseudo-labels in a folder were made of."""
    return open_volume(str(folder / "probabilities.zarr")).read().result().astype(np.float32)


def read_labels(folder: Path) -> np.ndarray:
    """The pseudo-labels int8 [z, y, x] in a folder."""
    return open_volume(str(folder / "labels.zarr")).read().result()
