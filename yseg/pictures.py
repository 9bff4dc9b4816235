"""What a run shows of its volumes: which parts, and how they come by."""

import numpy as np

from yseg.data.prepare import evenly_spaced
from yseg.data.split import Box
from yseg.inference import predicted_classes
from yseg.training.state import inference_variables

PICTURE_SIZE = 2048  # largest side of a section in a picture, in voxels


def sections_of(box, start, stop):
    """Some sections of a Box."""
    return Box((start, *box.start[1:]), (stop, *box.stop[1:]))


def panel_rows(config, network, predictors, state, source, target):
    """Rows of `yseg.report.panels`: crops of the source's validation box and of the target's training box, on the working grid.

    Without a validation box that holds a patch the source's are of its training box. The target's truth is not shown: training
    does not know it.
    """
    (source, source_region), (target, target_region) = source, target
    validation = source.grid.inside(source.split.validation)
    fits = validation.shape[0] and min(validation.shape[1:]) >= config.sampling.patch_size
    boxes = {"source": validation if fits else source_region.box, "target": target_region.box}
    side = min(2 * config.sampling.patch_size, *(size for box in boxes.values() for size in box.shape[1:]))
    side = side // network.multiple * network.multiple
    part = "validation" if fits else "training"
    rows = []
    for name, title, region in (("source", f"source, {part}", source_region), ("target", "target, training", target_region)):
        chosen = "source" if name == "source" else config.model.batch_statistics
        predict = predictors(inference_variables(state, chosen))
        box = boxes[name]
        for section in evenly_spaced(box.start[0], box.stop[0], config.record.images):
            crop = _crop(sections_of(box, section, section + 1), side)
            image = region.grid.image(region.image, crop)
            around = [_section_image(region, crop, section + offset) for offset in _offsets(config.model.sections)]
            probabilities = predict(np.stack(around, axis=-1)[None], region.statistics)[0]
            predicted = probabilities[..., 1] if config.model.classes == 2 else probabilities.argmax(axis=-1)
            truth = region.grid.labels(region.labels, region.rule, crop)[0] if region.labels is not None else None
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


def middle_section(box):
    """The middle of the middle section of a region: its Box and an empty array [y, x] for what is predicted there."""
    middle = (box.start[0] + box.stop[0]) // 2
    shown = _crop(sections_of(box, middle, middle + 1), PICTURE_SIZE)
    return shown, np.zeros(shown.shape[1:], np.uint8)


def copying(blocks, shown, picture, threshold):
    """The blocks; what is predicted in the Box `shown` is copied into `picture` [y, x] as they pass."""
    for place, probabilities in blocks:
        common = place.intersect(shown)
        if not common.is_empty:
            inside = probabilities[_relative(common, place).slices]
            picture[_relative(common, shown).slices[1:]] = predicted_classes(inside, threshold)[0]
        yield place, probabilities


def _relative(box, origin):
    """A Box in the coordinates of another."""
    return Box(*(tuple(at - first for at, first in zip(corner, origin.start, strict=True)) for corner in box))
