"""The volumes that are shown together: an image, and what lies on it."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yseg.config import IGNORED, Domain, InputError
from yseg.data.domain import absolute_path
from yseg.data.labels import apply_rule, label_rule
from yseg.data.voxel_size import check_alike, pixel_size_nm, section_nm
from yseg.runs.folder import read_config
from yseg.runs.history import last_outputs
from yseg.runs.moved import Moved, check_there
from yseg.view.levels import Levels, Meaning, grey_range, stored_levels
from yseg.volumes.catalog import DATASETS
from yseg.volumes.header import CLASSES, IMAGE, INSTANCES, LABELS, PROBABILITY, Header
from yseg.volumes.opened import OpenedVolume, tell, times
from yseg.volumes.pyramid import levels_of
from yseg.volumes.stores import is_chunked
from yseg.volumes.volume import read_volume

# What may lie on an image: the flag that gives it, what it is called, and what its values are.
OVERLAYS = {"labels": ("truth", LABELS), "segmentation": ("prediction", CLASSES), "probability": ("probability", PROBABILITY),
            "instances": ("instances", LABELS)}

_KEYS = {CLASSES: "segmentation", PROBABILITY: "probability", INSTANCES: "instances"}  # of OVERLAYS, by kind of output


class Shown(NamedTuple):
    """A volume that is shown.

    name: of its layer; header: what its values are, how large its voxels are and where it starts; levels: its voxels; values: of
    an image or a probability, the least and the largest that are told apart.
    """

    name: str
    header: Header
    levels: Levels
    values: tuple[float, float] = (0.0, 1.0)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) in voxels."""
        return self.levels.levels[0].shape


class _Given(NamedTuple):
    """A volume to be opened."""

    name: str
    kind: str
    spec: str
    flag: str
    channel: int | None = None
    meaning: Meaning | None = None

    def opened(self, near_nm: float | None) -> OpenedVolume:
        labels = self.kind in (CLASSES, LABELS)
        return read_volume(self.spec, self.flag, channel=self.channel, near_nm=near_nm, labels=labels)


def of_image(image: Domain, overlays: Mapping[str, str]) -> list[Shown]:
    """An image, and what lies on it.

    Args:
      image: its path or URL, channel and what is known of its voxels; its labels are not read.
      overlays: paths or URLs by the keys of OVERLAYS; empty ones are none.

    Raises:
      InputError: a volume cannot be read, or the size of the image's voxels cannot be meant, see `yseg.data.voxel_size`.
    """
    return _shown(image, _Given(IMAGE, IMAGE, image.image, "--image", image.channel), image.pixel_size_nm or None,
                  [_overlay(key, spec) for key, spec in overlays.items() if spec])


def of_run(workdir: str, overlays: Mapping[str, str], moved: Moved | None = None) -> list[Shown]:
    """The target of a run, its labels as classes if it has any, and what lies on it.

    Args:
      workdir: the folder of the run.
      overlays: see `of_image`; labels take the place of the run's, and are shown as they are stored. If none of the others is
        given, they are what the last segmentation of the target has written.
      moved: where the run's volumes are now, see `yseg.runs.moved`.

    Raises:
      InputError: the folder holds no run; or see `of_image`.
    """
    config = read_config(workdir, moved=moved)
    target = dataclasses.replace(config.target, metadata=IGNORED)  # what was found to be right when it was trained on
    check_there(target, "target")
    if not any(spec for key, spec in overlays.items() if key != "labels"):
        last = last_outputs(Path(workdir), target.image)
        overlays = {**overlays, **{_KEYS[kind]: spec for kind, spec in last.items() if kind in _KEYS}}
    given = [_overlay(key, spec) for key, spec in overlays.items() if spec]
    if target.labels and not overlays.get("labels"):
        rule = label_rule(target.foreground or ">0", target.unlabelled, "--target")
        given.insert(0, _overlay("labels", target.labels)._replace(
            kind=CLASSES, flag="--target_labels", meaning=functools.partial(apply_rule, rule=rule)))
    return _shown(target, _Given(IMAGE, IMAGE, target.image, "--target_image", target.channel),
                  target.pixel_size_nm or config.sampling.working_pixel_size_nm, given)


def _overlay(key: str, spec: str) -> _Given:
    name, kind = OVERLAYS[key]
    return _Given(name, kind, absolute_path(spec), f"--{key}")


def _shown(known: Domain, image: _Given, near_nm: float | None, overlays: list[_Given]) -> list[Shown]:
    """The volumes, opened; `near_nm` chooses among several resolutions of the image, see `read_volume`."""
    found = image.opened(near_nm)
    check_alike(known, found, "-")
    size = pixel_size_nm(known, found.voxel_nm, "-") or None
    others = [given.opened(size) for given in overlays]
    apart = section_nm(known, found.voxel_nm, "-") or (DATASETS[known.dataset].section_nm if known.dataset else None)
    alike = [other for other in others if other.store.shape == found.store.shape]
    size = size or next(filter(None, map(_pixel_nm, [*alike, *others])), None)
    apart = apart or next(filter(None, (other.voxel_nm[0] for other in alike)), None)
    unknown = "" if size else f"{image.flag}={image.spec}: says no pixel size, so a pixel is shown as 1 nm; give --pixel_size_nm"
    tell(*found.notes, unknown)
    header = _header(IMAGE, size or 1.0, apart, found)
    image_shape, shown = times(found.store.shape), [_as_shown(image, found, header, apart)]
    for given, other in zip(overlays, others, strict=True):
        if other.store.shape == found.store.shape:  # its voxels are the image's, whatever its file says, as in training
            tell(*other.notes)
            shown.append(_as_shown(given, other, _header(given.kind, header.pixel_size_nm, apart, found), apart))
            continue
        nowhere = "" if any(start is not None for start in other.start) else (
            f"{given.flag}={given.spec}: has another shape, {times(other.store.shape)}, than the image, {image_shape}, and does"
            " not say where it lies: it is shown from the first voxel on")
        tell(*other.notes, nowhere)
        own = other.voxel_nm[0] or apart
        shown.append(_as_shown(given, other, _header(given.kind, _pixel_nm(other) or header.pixel_size_nm, own, other), own))
    return shown


def _pixel_nm(opened: OpenedVolume) -> float | None:
    """The size of a pixel, as its file says."""
    return max(opened.voxel_nm[1] or 0.0, opened.voxel_nm[2] or 0.0) or None


def _header(kind: str, size: float, apart: float | None, opened: OpenedVolume) -> Header:
    """Of voxels that are shown as cubes where the distance of sections is unknown."""
    return Header(kind, size, apart or size, start=[start or 0.0 for start in opened.start])


def _as_shown(given: _Given, opened: OpenedVolume, header: Header, apart: float | None) -> Shown:
    levels = levels_of(opened.store.shape, header.pixel_size_nm, apart)
    stored = stored_levels(levels, opened, given.opened if is_chunked(given.spec) else None)
    voxels = Levels(levels, stored, labels=header.is_labels, meaning=given.meaning)
    try:
        return Shown(given.name, header, voxels, _values(header, opened))
    except ValueError as error:
        raise InputError(f"{given.flag}={given.spec}: cannot be read ({error})") from error


def _values(header: Header, opened: OpenedVolume) -> tuple[float, float]:
    """See `Shown`: of a probability that is stored in whole numbers, as some tools do, all that its type can hold."""
    if header.kind == IMAGE:
        return grey_range(opened.store)
    dtype = opened.store.dtype.numpy_dtype
    return 0.0, float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0
