"""From the config's domains to opened volumes and training regions; all that can be wrong with the input is found here."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import numpy as np
import tensorstore as ts

from yseg.config import (
    JOINT,
    NONE,
    Domain,
    Experiment,
    InputError,
    ResolvedExperiment,
    Sampling,
    TargetLabels,
    labelled_domain,
)
from yseg.data import target_labels, voxel_size
from yseg.data.box import Box, parse_region, sections_of, triple
from yseg.data.depth import section_spacing
from yseg.data.grey_levels import statistics
from yseg.data.grid import Grid
from yseg.data.label_values import check_two_classes
from yseg.data.labels import CLASSES, LabelRule, apply_rule, label_rule, parse_rule
from yseg.data.normalise import normalised
from yseg.data.patches import Region
from yseg.data.split import Split, split
from yseg.data.tissue import find_tissue, finite, frame_share, in_tissue, is_found, part_of, part_of_region
from yseg.volumes import catalog
from yseg.volumes.opened import OpenedVolume, Start, tell
from yseg.volumes.pairs import check_pair
from yseg.volumes.volume import read_volume

LARGEST_SCALE = 100  # between the pixels of a volume and those that the network works on
_NOTED = 0.05  # share of a volume that is frame, from which it is said


@dataclasses.dataclass(frozen=True)
class Volume:
    """An opened domain.

    image, labels: TensorStores [z, y, x] (labels None = not opened); rule: what the labels mean, None = unknown; grid: the
    working grid; split: train | validation | test, in voxels; pixel_size_nm: of the volume; flag: of the image, for messages.
    section_nm: distance of neighbouring sections that is given or that its file says, 0 = unknown.
    mask: uint8 [z, y, x], not 0 where there is tissue, None = everywhere: elsewhere the image has the mean grey level, and the
    labels, which then are classes, are -1. place: the Box that all this is of what the files hold, None = all of it.
    label_values: the labels as they are stored, if they were opened. shape_of_files: None = its own.
    start: where the first voxel of its files lies (z, y, x), in voxels; None = they do not say it.
    """

    image: ts.TensorStore
    labels: ts.TensorStore | None
    rule: LabelRule | None
    grid: Grid
    split: Split
    pixel_size_nm: float
    flag: str
    section_nm: float = 0.0
    mask: ts.TensorStore | None = None
    place: Box | None = None
    label_values: ts.TensorStore | None = None
    shape_of_files: tuple[int, int, int] | None = None
    start: Start = (None, None, None)

    @property
    def offset(self) -> tuple[int, int, int]:
        """The place in its files of its first voxel."""
        return self.place.start if self.place else (0, 0, 0)

    @property
    def file_shape(self) -> tuple[int, int, int]:
        """The shape of what its files hold."""
        return self.shape_of_files or triple(self.image.shape)

    @functools.cached_property
    def statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of all tissue, see `yseg.data.grey_levels.statistics`; labels have no part in it.

        They are read once. InputError if the image has values that are not finite.
        """
        try:
            return statistics(self.image, mask=self.mask)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{self.flag}: {error}") from error

    @functools.cached_property
    def spacing_nm(self) -> float:
        """The distance of neighbouring sections; if unknown it is estimated once, see `yseg.data.depth.section_spacing`."""
        return self.section_nm or section_spacing(self.image, self.pixel_size_nm, self.mask)

    def classes(self, box: Box) -> np.ndarray:
        """The classes int8 [z, y, x] that the labels of a Box of voxels mean; ValueError if it was opened without labels."""
        if self.labels is None or self.rule is None:
            raise ValueError(f"{self.flag}: was opened without labels")
        return apply_rule(self.labels[box.slices].read().result(), self.rule)

    def image_in_files(self, box: Box) -> np.ndarray:
        """The image [z, y, x] in a Box in voxels of its files that lies in its place."""
        return self.image[part_of_region(box, self.place).slices].read().result()

    def classes_in_files(self, box: Box) -> np.ndarray:
        """The classes int8 [z, y, x] of a Box in voxels of its files, see `classes`; -1 outside of its place."""
        if self.place is None:
            return self.classes(box)
        found, inner = np.full(box.shape, -1, np.int8), box.intersect(self.place)
        if not inner.is_empty:
            found[inner.relative_to(box).slices] = self.classes(part_of_region(box, self.place))
        return found


# --- From the config to what is trained on ---


def resolved_domains(config: Experiment) -> dict[str, Domain]:
    """The source and target of a config, filled from their data sets, with absolute paths.

    No file is touched, but for the pixel size of an image of which nothing else says it.

    Raises:
      InputError: see `yseg.volumes.catalog.resolve`; an image that is opened and cannot be.
    """
    return {name: absolute(catalog.resolve(
        getattr(config, name), config.data_dir, f"--config.{name}", "--config.data_dir",
        measured=functools.partial(_measured, sampling=config.sampling, flag=f"--config.{name}")))
        for name in ("source", "target")}


def listed_target_labels(config: Experiment) -> TargetLabels:
    """What a config says of the target's labels, with the boxes that its fraction and seed choose if it lists none.

    The path of `start` becomes absolute.

    Args:
      config: its target is resolved. The target is opened if boxes are to be chosen.

    Raises:
      InputError: the target cannot be read or has no labels.
    """
    labels = dataclasses.replace(config.target_labels, start=absolute_path(config.target_labels.start))
    if labels.use == NONE or labels.boxes or not labels.fraction:
        return labels
    target = open_own_domain(config, "target", with_labels=True)
    boxes = target_labels.label_boxes(target.split.train, target.grid, labels.fraction, seed=config.seed,
                                      patch_size=config.sampling.patch_size, offset=target.offset)
    return dataclasses.replace(labels, boxes=boxes)


class Domains(NamedTuple):
    """The opened volumes of an experiment.

    labelled: that whose labels are trained on, and whose validation box is scored; target: without labels; joint: the target once
    more, with labels, for a joint training, else None.
    """

    labelled: Volume
    target: Volume
    joint: Volume | None


def open_domains(config: ResolvedExperiment) -> Domains:
    """Open the volumes of an experiment; InputError as `open_domain`, also for labels of the target that only score."""
    use = config.target_labels.use
    target = open_own_domain(config, "target", with_labels=use != NONE or bool(config.target.labels))
    labelled = target if labelled_domain(config) == "target" else open_own_domain(config, "source", with_labels=True)
    return Domains(labelled, dataclasses.replace(target, labels=None), target if use == JOINT else None)


def training_regions(config: ResolvedExperiment, domains: Domains) -> dict[str, Region]:
    """The regions that patches are cut from: "labelled", "target", and in a joint training "joint".

    Raises:
      InputError: a patch does not fit into one, a box of labels is not inside the training box, or a label is no class.
    """
    flag, use = "--config.target_labels.boxes", config.target_labels.use
    parts = [_part_of(domains.target, text, flag) for text in config.target_labels.boxes]
    patch_size, classes = config.sampling.patch_size, config.model.classes
    labelled = domains.labelled
    own_parts = parts if labelled_domain(config) == "target" and parts else None
    regions = {"labelled": training_region(labelled, patch_size, own_parts),
               "target": training_region(domains.target, patch_size)}
    check_classes(labelled, classes, [*(own_parts or [labelled.split.train]), labelled.split.validation])
    if use == JOINT and domains.joint:
        regions["joint"] = training_region(domains.joint, patch_size, parts)
        check_classes(domains.joint, classes, parts)
    return regions


def _part_of(volume: Volume, text: str, flag: str) -> Box:
    """The box of a Volume that a box in the voxels of its files is, as text."""
    return parse_region(text, volume.file_shape, flag).moved([-first for first in volume.offset])


def check_labels(config: ResolvedExperiment, labelled: Volume) -> None:
    """InputError, naming the label values, if all that is trained on is of one class: the rule for foreground cannot be meant.

    Args:
      config: of no steps = nothing is trained on.
      labelled: of `open_domains`.
    """
    name = labelled_domain(config)
    listed = config.target_labels.boxes if name == "target" else ()
    parts = [_part_of(labelled, text, "--config.target_labels.boxes") for text in listed] or [labelled.split.train]
    if config.optimizer.steps:
        check_rule(labelled, getattr(config, name).foreground, parts,
                   background_alone=bool(config.target_labels.start))  # a few sections, for a network that knows the rest


def check_rule(volume: Volume, foreground: str, boxes: Sequence[Box], *, background_alone: bool) -> None:
    """InputError, naming the label values, if the rule for foreground finds one class alone in some Boxes of a Volume.

    VolumeNotice if it finds background alone, where there may be no foreground, or takes for a class what often is none.

    Args:
      volume: opened with labels.
      foreground: the rule, as it was given.
      boxes: in voxels.
      background_alone: whether there may be no foreground.
    """
    store = volume.label_values
    if store is not None:
        flags = {f"{name}_flag": volume.flag.replace("image", name) for name in ("foreground", "labels", "unlabelled")}
        tell(check_two_classes(volume.classes, lambda box: store[box.slices].read().result(), boxes, **flags,
                                rule=foreground or ">0", background_alone=background_alone))


def training_region(volume: Volume, patch_size: int, parts: Sequence[Box] | None = None) -> Region:
    """The `Region` of a Volume that is trained on: the working pixels that come from voxels of its training box alone.

    Args:
      volume: Volume.
      patch_size: side of a patch, in working pixels.
      parts: boxes in voxels inside the training box, if labels of these alone are to be used.

    Raises:
      InputError: a patch does not fit into it, or a part is not inside.
    """
    for part in parts or ():
        if not volume.split.train.contains(part):
            raise InputError(f"--config.target_labels.boxes={part.moved(volume.offset)}: must lie in"
                             f" {volume.split.train.moved(volume.offset)}, the training box of {volume.flag}")
    region = Region(volume.image, volume.labels, volume.grid, volume.grid.inside(volume.split.train), volume.rule,
                    (0.0, 1.0), tuple(map(volume.grid.inside, parts)) if parts else None, volume.mask)
    if patch_size > region.largest_patch:
        raise InputError(f"--config.sampling.patch_size={patch_size}: must be at most {region.largest_patch}, the smaller side of"
                         f" the training region of {volume.flag} in working pixels")
    return region._replace(statistics=volume.statistics)


def check_classes(volume: Volume, classes: int, boxes: Sequence[Box]) -> None:
    """InputError if a label of these boxes is no class index of the model, where the labels are class indices."""
    if volume.labels is None or volume.rule is None or volume.rule.foreground.name != "classes":
        return
    for box in boxes:
        for number in range(box.start[0], box.stop[0]) if not box.is_empty else ():
            largest = volume.classes(sections_of(box, number, number + 1)).max()
            if largest >= classes:
                raise InputError(f"--config.model.classes={classes}: must be above {largest}, a label in section"
                                 f" {number + volume.offset[0]} of {volume.flag.replace('.image', '.labels')}")


# --- Volumes ---


def absolute(domain: Domain) -> Domain:
    """A copy of a `yseg.config.Domain` whose paths hold in any folder; URLs stay."""
    return dataclasses.replace(domain, image=absolute_path(domain.image), labels=absolute_path(domain.labels),
                               mask=domain.mask if is_found(domain.mask) else absolute_path(domain.mask))


def absolute_path(spec: str) -> str:
    """A path that holds in any folder; a URL and "" stay."""
    return spec if not spec or "://" in spec else os.path.abspath(os.path.expanduser(spec))


class Reading(TypedDict, total=False):
    """How a volume given on the command line is read: fields of `yseg.config.Domain`; None = as of the config's own."""

    section_nm: float | None
    metadata: str | None
    channel: int | None
    mask: str | None
    nan: str | None


def given_domain(config: Experiment, image: str, *, labels: str | None = None, pixel_size_nm: float | None = None,
                 foreground: str | None = None, unlabelled: str | None = None, **reading: Unpack[Reading]) -> Domain:
    """The resolved `yseg.config.Domain` of a volume given on the command line.

    What is None comes from the config if the volume is one of its own, and a pixel size from the file, if it says one.

    Args:
      config: with the network's own volumes.
      image, labels, pixel_size_nm, foreground: see `yseg.config.Domain`.
      **reading: other fields of it.

    Raises:
      InputError: the pixel size is missing or not above 0, or a rule is none.
    """
    given = absolute(Domain(image=image, labels=labels or "", pixel_size_nm=pixel_size_nm or 0.0, foreground=foreground or "",
                            unlabelled=unlabelled or ""))
    known = next((domain for domain in (config.target, config.source) if domain.image == given.image), None)
    if known:
        own_labels = given.labels in ("", known.labels)  # what the values of others mean, the config does not know
        given = dataclasses.replace(
            known, labels=given.labels or known.labels, pixel_size_nm=given.pixel_size_nm or known.pixel_size_nm,
            foreground=given.foreground or (known.foreground if own_labels else ""),
            unlabelled=given.unlabelled or (known.unlabelled if own_labels else ""))
    # What is read is the same, so that what is said of it below may follow.
    changed: dict[str, Any] = {name: value for name, value in reading.items() if value is not None}
    given = absolute(dataclasses.replace(given, **changed))
    if pixel_size_nm is not None and not pixel_size_nm > 0:
        raise InputError(f"--pixel_size_nm={pixel_size_nm}: must be above 0")
    if foreground:
        parse_rule(foreground, "--foreground")
    if unlabelled:
        parse_rule(unlabelled, "--unlabelled")
    try:
        return catalog.resolve(given, config.data_dir)
    except InputError as error:
        measured = _measured(given, config.sampling, "-")
        if not measured:
            raise InputError("--pixel_size_nm is missing: must be the size of a pixel, in y and x, of"
                             f" --image={image}, in nm") from error
        return catalog.resolve(dataclasses.replace(given, pixel_size_nm=measured), config.data_dir)


def open_own_domain(config: Experiment, name: str, with_labels: bool) -> Volume:
    """Open the "source" or "target" of a resolved config; InputError as `open_domain`."""
    return open_domain(getattr(config, name), config.sampling, f"--config.{name}", with_labels)


def open_domain(domain: Domain, sampling: Sampling, flag: str, with_labels: bool) -> Volume:
    """Open a resolved `yseg.config.Domain` as a `Volume`.

    Args:
      domain: see `resolve`.
      sampling: the pixel size of the working grid, and how grey levels are normalised.
      flag: the domain's flag, for messages: "--config.source", or "-" for a volume of its own flags (--image, ...).
      with_labels: whether its labels are needed; else they are not touched.

    Raises:
      InputError: volumes that are missing, cannot be read or do not fit one another; a split without training voxels.
    """
    image_flag, labels_flag, mask_flag, nan_flag = (voxel_size.flag_of(flag, name) for name in ("image", "labels", "mask", "nan"))
    found, labels, values = _open_image(domain, sampling, flag), None, None
    opened, pixel_size_nm = found.store, voxel_size.pixel_size_nm(domain, found.voxel_nm, flag)
    rule = label_rule(domain.foreground or ">0", domain.unlabelled, flag) if domain.labels else None
    if with_labels:
        if not domain.labels:
            raise InputError(f"{labels_flag} is empty: must be the label volume of {image_flag}={domain.image}")
        found_labels = read_volume(domain.labels, labels_flag, near_nm=voxel_size.wanted_nm(domain, pixel_size_nm), labels=True)
        tell(*found_labels.notes, check_pair(found, found_labels, image_flag, labels_flag))
        labels = found_labels.store
    tissue = find_tissue(found, domain.mask, domain.nan, image_flag=image_flag, mask_flag=mask_flag)
    image = part_of(finite(opened, tissue.whole_mask, f"{image_flag}={domain.image}", nan_flag), tissue.box)
    if labels is not None:
        labels = values = part_of(labels, tissue.box)
    if labels is not None and rule and tissue.mask is not None:
        labels, rule = in_tissue(labels, tissue.mask, functools.partial(apply_rule, rule=rule)), CLASSES
    parts = split(image.shape, domain.split_axis, domain.validation_fraction, domain.test_fraction, flag=flag)
    _check_scale(pixel_size_nm, sampling.working_pixel_size_nm, voxel_size.flag_of(flag, "pixel_size_nm"))
    tell(*found.notes, *(() if domain.mask else _frame_note(image, image_flag, mask_flag)))
    grid = Grid(triple(image.shape), pixel_size_nm, sampling.working_pixel_size_nm)
    return Volume(normalised(image, sampling, pixel_size_nm, tissue.mask), labels, rule, grid, parts, pixel_size_nm, image_flag,
                  voxel_size.section_nm(domain, found.voxel_nm, flag), tissue.mask,
                  None if image.shape == opened.shape else tissue.box, values, triple(opened.shape), found.start)


def _frame_note(image, image_flag, mask_flag):
    """A line about a frame that is taken for tissue, if there is a large one."""
    share = frame_share(image)
    if share >= _NOTED:
        yield (f"{share:.0%} of {image_flag} is a frame of one grey level, which is taken for tissue;"
               f" {mask_flag}=border leaves it out")


def _open_image(domain: Domain, sampling: Sampling, flag: str) -> OpenedVolume:
    near_nm = voxel_size.wanted_nm(domain, sampling.working_pixel_size_nm)
    found = read_volume(domain.image, voxel_size.flag_of(flag, "image"), channel=domain.channel, near_nm=near_nm)
    voxel_size.check_alike(domain, found, flag)
    return found


def _measured(domain: Domain, sampling: Sampling, flag: str) -> float:
    """The pixel size that a domain's image says of itself, 0 if none; InputError if it cannot be opened."""
    return voxel_size.pixel_size_nm(domain, _open_image(domain, sampling, flag).voxel_nm, flag)


def _check_scale(pixel_size_nm, working_pixel_size_nm, name):
    """InputError if the two are so far apart that one of them cannot be meant; it would take the memory of many volumes."""
    if not 1 / LARGEST_SCALE <= pixel_size_nm / working_pixel_size_nm <= LARGEST_SCALE:
        raise InputError(f"{name}={pixel_size_nm:g}: must be in nm, and within a factor of {LARGEST_SCALE} of"
                         f" sampling.working_pixel_size_nm={working_pixel_size_nm:g}")
