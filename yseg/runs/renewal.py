"""Pseudo-labels of a run: made by the average of its parameters, renewed every so many steps, and kept beside the checkpoints."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yseg import parallel
from yseg.config import InputError, ResolvedExperiment
from yseg.data.box import Box, sections_of
from yseg.data.depth import averaged, depth_weights
from yseg.data.domain import Volume
from yseg.data.patches import Reader, Region
from yseg.data.pseudo_labels import pseudo_labels
from yseg.data.sampled import sampled_parts
from yseg.files import whole_folder
from yseg.inference.blocks import predict_blocks
from yseg.metrics.shapes import Prior
from yseg.training.state import TrainState, inference_variables
from yseg.volumes.arrays import create_array
from yseg.volumes.volume import open_volume

PSEUDO_LABELS = "pseudo_labels"  # folder of a run; in it one of every renewal, named after its step
PROBABILITIES, LABELS = "probabilities.zarr", "labels.zarr"  # in each: of the box of the target's region
LARGEST = 2**26  # working pixels of the target that are looked at; more than a training of thousands of steps sees

Renewal = Callable[[int, TrainState], None]  # `renew(step, state)`: see `make_renewal`
Probabilities = Callable[[TrainState], list[np.ndarray]]  # of foreground in parts of the target: see `make_probabilities`


def parts_of(volume: Volume, patch_size: int) -> list[Box]:
    """What pseudo-labels are made for: the target's training part, or parts of it, in voxels, if it is larger than LARGEST.

    Args:
      volume: of the target.
      patch_size: in working pixels, which has to fit into each of them.
    """
    ratio = volume.grid.ratio
    return sampled_parts(volume.split.train, int(LARGEST * ratio**2), math.ceil((patch_size + 4) * max(ratio, 1.0)),
                         lambda part: volume.mask is None or bool(volume.mask[part.slices].read().result().any()))


def tissue_of(volume: Volume, region: Region) -> list[np.ndarray] | None:
    """Where there is tissue in each part of a target's region, bool [z, y, x]; None = everywhere."""
    if volume.mask is None:
        return None
    return [volume.grid.image(volume.mask, part) != 0 for part in region.parts or (region.box,)]


def averages(parts: Sequence[np.ndarray], weights: np.ndarray, tissue: Sequence[np.ndarray] | None) -> list[np.ndarray]:
    """Probabilities of each part averaged in depth, see `yseg.data.depth.averaged`."""
    return [averaged(part, weights, None if tissue is None else tissue[number]) for number, part in enumerate(parts)]


def make_probabilities(config: ResolvedExperiment, volume: Volume, parts: Sequence[Box],
                       predictors: Callable[..., Any]) -> Probabilities:
    """`state -> float32 [z, y, x] of each part`: what the network of a state says of it, on the working pixels inside.

    Where there is no tissue it is 0. The processes of a job share the sections.

    Args:
      config: of the run.
      volume: of the target.
      parts: in voxels, see `parts_of`.
      predictors: see `yseg.inference.predictor.make_predictors`.
    """
    def probabilities_of(state):
        predict = predictors(inference_variables(state, config.model.batch_statistics))
        return [_in(part, predict) for part in parts]

    def _in(part, predict):
        region = volume.grid.inside(part)

        def of_sections(numbers):
            own = sections_of(region, region.start[0] + numbers.start, region.start[0] + numbers.stop)
            found = np.zeros((len(numbers), *region.shape[1:]), np.float32)
            blocks = predict_blocks(predict, volume.image, volume.grid, volume.statistics, model=config.model,
                                    regions=[sections_of(part, own.start[0], own.stop[0])], inference=config.inference,
                                    on_working_grid=True) if numbers else ()
            for box, values in blocks:
                inner = box.intersect(own)
                if not inner.is_empty:
                    found[inner.relative_to(own).slices] = values[..., 1][inner.relative_to(box).slices]
            return found

        found = parallel.in_shares(of_sections, region.shape[0])
        return found if volume.mask is None else np.where(volume.grid.image(volume.mask, region) != 0, found, 0)

    return probabilities_of


def make_renewal(config: ResolvedExperiment, workdir: Path, probabilities_of: Probabilities, *, volume: Volume, region: Region,
                 prior: Prior, reader: Reader, estimate: Callable[[TrainState], TrainState]) -> Renewal:
    """`renew(step, state)` gives the reader the pseudo-labels that hold at a step, and makes them if the step is due.

    They are those of the last multiple of `config.self_training.renew_every`: made by the state of that step, and kept, so that a
    run that goes on from a checkpoint trains on the same.

    Args:
      config: of the run.
      workdir: its folder.
      probabilities_of: see `make_probabilities`.
      volume, region: of the target; the parts of the region are those of `probabilities_of`.
      prior: of the source.
      reader: that cuts the patches.
      estimate: see `yseg.training.statistics.make_estimate`.
    """
    knobs, folder = config.self_training, workdir / PSEUDO_LABELS
    weights = depth_weights(config.inference.depth_nm, volume.spacing_nm)

    def write(step, found):
        former = folder / str(step - knobs.renew_every)
        if former.exists():
            before = read_probabilities(former, region)
            found = [knobs.memory * old + (1 - knobs.memory) * new for old, new in zip(before, found, strict=True)]
        found = [part.astype(np.float16) for part in found]
        tissue = tissue_of(volume, region)
        labels = pseudo_labels(averages(found, weights, tissue), prior, doubt=knobs.doubt, margin=knobs.margin,
                               threshold=config.inference.threshold, pixel_size_nm=config.sampling.working_pixel_size_nm,
                               tissue=tissue)
        with whole_folder(folder / str(step)) as unfinished:
            for name, parts in ((PROBABILITIES, found), (LABELS, labels)):
                with create_array(str(unfinished / name), region.box.shape, parts[0].dtype,
                                   config.sampling.working_pixel_size_nm) as store:
                    for place, values in zip(region.patch_boxes, parts, strict=True):
                        store[place.slices].write(values).result()

    def renew(step, state):
        due = step - step % knobs.renew_every
        if not (folder / str(due)).exists():
            if due != step:
                raise InputError(f"{folder / str(due)}: is missing; must be the pseudo-labels of step {due}")
            parallel.on_main(write, step, probabilities_of(estimate(state)))
        reader.relabel(open_volume(str(folder / str(due) / LABELS)))

    return renew


def read_probabilities(folder: Path, region: Region) -> list[np.ndarray]:
    """The probabilities float32 [z, y, x], of each part of a region, that the pseudo-labels in a folder were made of."""
    return [part.astype(np.float32) for part in _read(folder / PROBABILITIES, region)]


def _read(path, region):
    store = open_volume(str(path))
    return [store[place.slices].read().result() for place in region.patch_boxes]
