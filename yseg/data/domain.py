"""From the config's domains to opened volumes and training regions; all that can be wrong with the input is found here."""

import dataclasses
import os
from typing import Any, NamedTuple

from yseg.config import Domain, InputError, check
from yseg.data.grey_levels import statistics
from yseg.data.grid import Grid
from yseg.data.labels import LabelRule, apply_rule, label_rule, parse_rule
from yseg.data.patches import Region, check_patch_fits
from yseg.data.split import Split, split
from yseg.volumes import catalog
from yseg.volumes.volume import check_pair, open_volume


class Volume(NamedTuple):
    """An opened domain.

    image, labels: TensorStores [z, y, x] (labels None = not opened); rule: what the labels mean, None = unknown; grid: the
    working grid; split: train | validation | test, in voxels; pixel_size_nm: of the volume; flag: of the image, for messages.
    """

    image: Any
    labels: Any
    rule: LabelRule | None
    grid: Grid
    split: Split
    pixel_size_nm: float
    flag: str


def resolve(config):
    """A checked copy of an Experiment whose domains are filled from the catalog, with absolute paths. No file is touched.

    Raises:
      InputError: see `yseg.config.check` and `yseg.data.catalog.resolve`.
    """
    check(config)
    domains = {name: absolute(catalog.resolve(getattr(config, name), config.data_dir, f"--config.{name}"))
               for name in ("source", "target")}
    return dataclasses.replace(config, data_dir=config.data_dir and os.path.abspath(config.data_dir), **domains)


def absolute(domain):
    """A copy of a `yseg.config.Domain` whose paths hold in any folder; URLs stay."""
    return dataclasses.replace(domain, image=_absolute_spec(domain.image), labels=_absolute_spec(domain.labels))


def _absolute_spec(spec):
    return spec if not spec or "://" in spec else os.path.abspath(os.path.expanduser(spec))


def given_domain(config, image, labels, pixel_size_nm, foreground):
    """The resolved `yseg.config.Domain` of a volume given on the command line.

    What is None comes from the config if the volume is one of its own.

    Raises:
      InputError: the pixel size is missing or not above 0, or the rule for foreground is none.
    """
    given = absolute(Domain(image=image, labels=labels or "", pixel_size_nm=pixel_size_nm or 0.0, foreground=foreground or ""))
    known = next((domain for domain in (config.target, config.source) if domain.image == given.image), None)
    if known:
        given = dataclasses.replace(known, **{field: getattr(given, field) or getattr(known, field)
                                              for field in ("labels", "pixel_size_nm", "foreground")})
    if pixel_size_nm is not None and not pixel_size_nm > 0:
        raise InputError(f"--pixel_size_nm={pixel_size_nm}: must be above 0")
    if foreground:
        parse_rule(foreground, "--foreground")
    try:
        return catalog.resolve(given, config.data_dir)
    except InputError as error:
        raise InputError("--pixel_size_nm is missing: must be the size of a pixel, in y and x, of"
                         f" --image={image}, in nm") from error


def open_domain(domain, working_pixel_size_nm, flag, with_labels):
    """Open a resolved `yseg.config.Domain` as a `Volume`.

    Args:
      domain: see `resolve`.
      working_pixel_size_nm: of the working grid.
      flag: the domain's flag, for messages: "--config.source", or "-" for a volume of its own flags (--image, ...).
      with_labels: whether its labels are needed; else they are not touched.

    Raises:
      InputError: volumes that are missing, cannot be read or do not fit one another; a split without training voxels.
    """
    image_flag, labels_flag = (f"{flag}.{name}" if flag.startswith("--") else f"--{name}" for name in ("image", "labels"))
    image, labels, rule = open_volume(domain.image, image_flag), None, None
    if domain.labels:
        rule = label_rule(domain.foreground or ">0", domain.unlabelled, flag)
    if with_labels:
        if not domain.labels:
            raise InputError(f"{labels_flag} is empty: must be the label volume of {image_flag}={domain.image}")
        labels = open_volume(domain.labels, labels_flag)
        check_pair(image, labels, image_flag, labels_flag)
    parts = split(image.shape, domain.split_axis, domain.validation_fraction, domain.test_fraction, flag)
    grid = Grid(tuple(image.shape), domain.pixel_size_nm, working_pixel_size_nm)
    return Volume(image, labels, rule, grid, parts, domain.pixel_size_nm, image_flag)


def image_statistics(volume):
    """(mean, standard deviation) of the whole image, see `yseg.data.grey_levels.statistics`; its labels have no part in it."""
    try:
        return statistics(volume.image)
    except InputError as error:
        raise InputError(f"{volume.flag}: {error}") from error


def training_region(volume, config, parts=None, flag="--config.finetuning.boxes"):
    """The `Region` of a Volume that is trained on: the working pixels that come from voxels of its training box alone.

    Args:
      volume: Volume.
      config: `yseg.config.Experiment`.
      parts: boxes in voxels inside the training box, if labels of these alone are to be used.
      flag: where the parts come from, for messages.

    Raises:
      InputError: a patch does not fit into it, a part is not inside, or a label is no class of the model.
    """
    box = volume.grid.inside(volume.split.train)
    for part in parts or ():
        if not volume.split.train.contains(part):
            raise InputError(f"{flag}={part}: must lie in {volume.split.train}, the training box of"
                             f" {volume.flag}")
    labelled, parts = parts or (volume.split.train,), parts and tuple(map(volume.grid.inside, parts))
    region = Region(volume.image, volume.labels, volume.grid, box, volume.rule, None, parts)
    check_patch_fits(region, config.sampling.patch_size, volume.flag)
    if volume.labels is not None and volume.rule.foreground.name == "classes":
        _check_classes(volume, config.model.classes, labelled)
    return region._replace(statistics=image_statistics(volume))


def _check_classes(volume, classes, boxes):
    """InputError if a label of these boxes or of the validation box is no class index of the model."""
    for box in (*boxes, volume.split.validation):
        sections, *pixels = box.slices
        for number in range(sections.start, sections.stop) if not box.is_empty else ():
            largest = apply_rule(volume.labels[number, *pixels].read().result(), volume.rule).max()
            if largest >= classes:
                raise InputError(f"--config.model.classes={classes}: must be above {largest}, a label in section {number} of"
                                 f" {volume.flag.replace('.image', '.labels')}")


