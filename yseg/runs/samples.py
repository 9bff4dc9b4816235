"""What a run shows of its volumes: which parts, and how they come by."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from yseg.config import Experiment, labelled_domain
from yseg.data.box import Box, evenly_spaced, sections_of
from yseg.data.domain import Volume
from yseg.data.patches import Region
from yseg.inference.blocks import Blocks, Predict
from yseg.inference.outputs import predicted_classes
from yseg.training.state import TrainState, inference_variables

PICTURE_SIZE = 2048  # largest side of a section in a picture, in voxels


def panel_rows(config: Experiment, predictors: Callable[[dict[str, Any]], Predict], state: TrainState, *,
               labelled: Volume, regions: Mapping[str, Region]) -> list[tuple[str, np.ndarray, np.ndarray | None, np.ndarray]]:
    """Rows of `yseg.report.panels`: crops of the validation box whose labels are trained on and of the target's training box.

    Without a validation box that holds a patch the former are of the parts that are trained on. The target's truth is not shown
    unless it is trained on.

    Args:
      config: `yseg.config.Experiment`.
      predictors: see `yseg.inference.predictor.make_predictors`.
      state: TrainState.
      labelled: the volume whose labels are trained on.
      regions: see `yseg.data.domain.training_regions`.
    """
    region, target, size = regions["labelled"], regions["target"], config.sampling.patch_size
    validation = labelled.grid.inside(labelled.split.validation)
    fits = validation.shape[0] and min(validation.shape[1:]) >= size
    name = f"{labelled_domain(config)}, {'validation' if fits else 'training'}"
    shown = ((name, "training", region, (validation,) if fits else region.parts or (region.box,)),
             ("target, training", config.model.batch_statistics, target, (target.box,)))
    side = min(2 * size, *(extent for *_, boxes in shown for box in boxes for extent in box.shape[1:]))
    side = side // 2**config.model.levels * 2**config.model.levels
    rows = []
    for title, statistics, region, boxes in shown:
        predict = predictors(inference_variables(state, statistics))
        sections = [sections_of(box, section, section + 1) for box in boxes for section in range(box.start[0], box.stop[0])]
        for number in evenly_spaced(0, len(sections), config.record.images):
            crop = _crop(sections[number], side)
            section = crop.start[0]
            image = region.grid.image(region.image, crop)
            around = [_section_image(region, crop, section + offset) for offset in _offsets(config.model.sections)]
            probabilities = predict(np.stack(around, axis=-1)[None], region.statistics)[0]
            predicted = probabilities[..., 1] if config.model.classes == 2 else probabilities.argmax(axis=-1)
            truth = region.grid.labels(*region.truth, crop)[0] if region.labels is not None else None
            rows.append((f"{title}, section {section}", image[0], truth, predicted))
    return rows


def _offsets(sections):
    return range(-(sections // 2), sections // 2 + 1)


def _section_image(region, crop, section):
    """A crop [y, x] of a section near it; beyond the ends of the volume the outermost is repeated."""
    section = min(max(section, 0), region.grid.shape[0] - 1)
    return region.grid.image(region.image, sections_of(crop, section, section + 1))[0]


def _crop(box, side):
    """The middle of a Box in y and x, at most `side` large."""
    sizes = [min(side, size) for size in box.shape[1:]]
    starts = [start + (whole - size) // 2 for start, whole, size in zip(box.start[1:], box.shape[1:], sizes, strict=True)]
    stops = [start + size for start, size in zip(starts, sizes, strict=True)]
    return Box((box.start[0], *starts), (box.stop[0], *stops))


def middle_section(box: Box) -> Box:
    """The Box of the middle of the middle section of a region, as much as a picture shows."""
    return middle_of(box, (box.start[0] + box.stop[0]) // 2)


def middle_of(box: Box, section: int) -> Box:
    """The Box of the middle of a section of a region, as much as a picture shows."""
    return _crop(sections_of(box, section, section + 1), PICTURE_SIZE)


def copying(blocks: Blocks, box: Box, classes: np.ndarray, threshold: float) -> Blocks:
    """The blocks; what is predicted in a Box is copied into `classes`, uint8 [z, y, x] of its shape, as they pass."""
    for place, probabilities in blocks:
        common = place.intersect(box)
        if not common.is_empty:
            inside = probabilities[common.relative_to(place).slices]
            classes[common.relative_to(box).slices] = predicted_classes(inside, threshold)
        yield place, probabilities
