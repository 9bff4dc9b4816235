"""A first look at the volumes of an experiment, before any training: what they look like, and what may be wrong with them."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from yseg.config import VOLUME, Experiment, InputError, ResolvedExperiment, labelled_domain
from yseg.data.box import Box, evenly_spaced, sections_of, triple
from yseg.data.depth import section_spacing
from yseg.data.domain import Volume, check_labels, open_domains, open_own_domain, training_regions
from yseg.data.grid import Grid
from yseg.data.patches import Region, is_resident
from yseg.files import write_whole
from yseg.inference.tiling import make_tiling
from yseg.metrics.appearance import Fit, diameters, label_fit, line_polarity, power_spectrum, typical_diameter
from yseg.models import segmentation_network
from yseg.report import progress
from yseg.runs.folder import check_workdir
from yseg.runs.resolve import resolve
from yseg.studies.findings import findings_of
from yseg.studies.look import BINS, Labels, Look, Sections, label_values, peaks
from yseg.studies.look_figure import first_look

REPORT, PICTURE = "check.json", "check.png"
SECTIONS = 12  # of the working grid that are looked at closely
SIDE = 1024  # rows and columns of them, at most, in working pixels
ALONG_Z = 256  # sections whose mean and deviation are measured
ALONG_SIDE = 1024  # rows and columns of them, at most, in voxels
LINES_NM, COARSEST_NM = 10.0, 24.0  # pixels in which lines are looked for; larger ones show no membranes
LINES_SIDE = 640  # of a section, in those
CORNER = 64  # rows and columns by which two files are known to hold the same
TRIES = 8  # places of a part of a section, of which the first with tissue in half of it is taken
SAMPLE = 2**16  # grey levels kept of a section


def check(config: Experiment, output: str | os.PathLike, *, workdir: str | os.PathLike | None = None,
          quiet: bool = False) -> dict[str, Any]:
    """Open all that a training would open, look at samples of it, and write a picture and what looks wrong.

    No labels of the target are looked at, unless they are trained on. Images are looked at where they are trained on, but for the
    distance of sections, which is seen in the middle of a volume, as in a training.

    Args:
      config: as `yseg.train` takes it.
      output: the folder of check.json and check.png; it is created, or those of an earlier check in it are replaced.
      workdir: the folder that a training is to have; None = it is not checked.
      quiet: show no progress.

    Returns:
      dict, what check.json holds. findings: dicts with rule, domain ("source", "target" or "both") and text, most telling first;
      volumes: for "source" and "target" a dict with what was measured; memory: how much both take on the working grid in GiB, and
      whether they are kept in memory; picture: the path of the picture.

    Raises:
      InputError: what a training would refuse; a folder that holds something else. Nothing has been written.
    """
    folder = _checked_folder(output)
    config = resolve(config)
    make_tiling(segmentation_network(config.model), config.inference, [(0, 1)])
    if workdir:
        check_workdir(config, Path(workdir), more_steps=True)
    domains = open_domains(config)
    regions = training_regions(config, domains)
    check_labels(config, domains.labelled)
    labelled = labelled_domain(config)
    volumes = {"source": domains.labelled, "target": domains.target} if labelled == "source" else {"target": domains.labelled}
    looks = []
    with progress(len(volumes) * (SECTIONS + 1), "Looking", unit="sections", quiet=quiet) as bar:
        for number, (name, volume) in enumerate(volumes.items()):
            region = regions["labelled" if name == labelled else "target"]
            before = number * (SECTIONS + 1)
            looks.append(_look(config, name, volume, region,
                               on_section=lambda done, before=before: bar.update(before + done)))
    found = findings_of(looks)
    gib = sum(look.working_bytes for look in looks) / 2**30
    report = {"config": config.name, "findings": [finding._asdict() for finding in found],
              "volumes": {look.name: look.numbers() for look in looks},
              "memory": {"working_gib": gib, "kept": is_resident(regions, config.sampling)}, "picture": str(folder / PICTURE)}
    folder.mkdir(parents=True, exist_ok=True)
    title = f"{config.name}: both volumes at {config.sampling.working_pixel_size_nm:g} nm a pixel"
    first_look(looks, [finding.text for finding in found], folder / PICTURE, title)
    write_whole(folder / REPORT, json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


def _checked_folder(output):
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output={output}: must be a folder")
    if folder.is_dir() and not (folder / REPORT).exists() and any(folder.iterdir()):
        raise InputError(f"--output={output}: is not empty and holds no {REPORT}; must be a new folder, or that of an"
                         " earlier check")
    return folder


def _look(config: ResolvedExperiment, name: str, volume: Volume, region: Region, *, on_section: Any) -> Look:
    """The Look at a volume, of a region that is trained on; `on_section` is called with how many parts are done."""
    sampling, domain = config.sampling, getattr(config, name)
    raw = volume.image if sampling.normalization == VOLUME else open_own_domain(
        dataclasses.replace(config, sampling=dataclasses.replace(sampling, normalization=VOLUME)), name, False).image
    sections, values = _along_z(name, volume, raw)
    on_section(1)
    lines = Grid(region.grid.volume_shape, volume.pixel_size_nm, max(LINES_NM, volume.pixel_size_nm))
    lines_box = lines.inside(volume.split.train)
    images, classes, stored, polarity, normalised, spectra = [], [], [], [], [], []
    windows = _windows(region)
    for number, window in enumerate(windows):
        image = region.grid.image(region.image, window)[0].astype(np.float64)
        images.append(image)
        z_scored = (image - region.statistics[0]) / region.statistics[1]
        tissue = slice(None) if region.mask is None else region.grid.image(region.mask, window)[0] != 0
        normalised.append(np.histogram(z_scored[tissue], BINS)[0])
        if min(image.shape) >= 4:
            spectra.append(power_spectrum(z_scored))
        if volume.pixel_size_nm <= COARSEST_NM and not lines_box.is_empty:
            polarity.append(line_polarity(lines.image(raw, _around(window, region.grid, lines, lines_box))[0]))
        if region.labels is not None:
            classes.append(region.grid.labels(*region.truth, window)[0])
            stored.append(_voxels(volume.label_values, window, region.grid))
        on_section(1 + (number + 1) * SECTIONS // len(windows))
    labels = _labels(domain.foreground or ">0", images, classes, stored)
    best = _typical(images)
    return Look(
        name=name, image=domain.image, labels_path=domain.labels if labels else "", shape=volume.file_shape,
        dtype=str(raw.dtype.name), pixel_size_nm=volume.pixel_size_nm, section_nm=volume.section_nm or None,
        seen_spacing_nm=_finite(section_spacing(raw, volume.pixel_size_nm, volume.mask)), working_shape=region.box.shape,
        working_bytes=math.prod(region.box.shape) * (region.image.dtype.numpy_dtype.itemsize + (region.labels is not None)),
        working_pixel_size_nm=sampling.working_pixel_size_nm, normalization=sampling.normalization,
        mean=float(values.mean()), deviation=float(values.std()), raw_values=values, corner=_corner(raw), peaks=peaks(values),
        normalised=np.sum(normalised, axis=0), spectrum=_mean_spectrum(spectra),
        polarity=tuple(polarity), sections=sections,
        example=(windows[best].start[0] + volume.offset[0], images[best], classes[best] if classes else None), labels=labels)


def _finite(number):
    return number if math.isfinite(number) else None


def _along_z(name: str, volume: Volume, raw: ts.TensorStore) -> tuple[Sections, np.ndarray]:
    """Mean and deviation of sections, and a sample of grey levels of those that are not constant."""
    box = volume.split.train
    rows, columns = (slice(start + (size - side) // 2, start + (size - side) // 2 + side) for start, size, side in
                     ((first, size, min(size, ALONG_SIDE)) for first, size in zip(box.start[1:], box.shape[1:], strict=True)))
    found, kept = [], []
    for number in evenly_spaced(box.start[0], box.stop[0], ALONG_Z):
        values = _grey_levels(raw, volume.mask, (number, rows, columns))
        if not values.size:  # tissue may lie elsewhere in the section
            values = _grey_levels(raw, volume.mask, (number, *(slice(start, stop, -(-(stop - start) // ALONG_SIDE))
                                                               for start, stop in zip(box.start[1:], box.stop[1:], strict=True))))
        if not values.size:
            continue
        found.append((number + volume.offset[0], values.mean(dtype=np.float64), values.std(dtype=np.float64)))
        if found[-1][2] > 0:
            kept.append(values[::math.ceil(values.size / SAMPLE)])
    if not found:
        raise InputError(f"{name}: has no tissue in its sections where it is trained on; must have some, see mask")
    numbers, means, deviations = (np.array(column) for column in zip(*found, strict=True))
    return Sections(numbers, means, deviations, box.shape[0]), np.concatenate(kept or [values])


def _grey_levels(raw, mask, place):
    """Those of a place where there is tissue, in one row."""
    values = raw[place].read().result().ravel()
    return values if mask is None else values[mask[place].read().result().ravel() != 0]


def _corner(raw):
    """Where the middle section begins, [y, x]: what is trained on, whatever the split."""
    rows, columns = (slice(0, min(size, CORNER)) for size in raw.shape[1:])
    return raw[raw.shape[0] // 2, rows, columns].read().result()


def _windows(region: Region) -> list[Box]:
    """Parts of sections of a region, all of one shape, in working pixels: evenly spaced, and where there is tissue."""
    boxes = region.parts or (region.box,)
    shape = (1, *(min(SIDE, *(box.shape[axis] for box in boxes)) for axis in (1, 2)))
    sections = [sections_of(box, number, number + 1) for box in boxes for number in range(box.start[0], box.stop[0])]
    random, found = np.random.default_rng(0), []
    for number in evenly_spaced(0, len(sections), SECTIONS):
        section = sections[number]
        slack = [whole - size for whole, size in zip(section.shape, shape, strict=True)]
        for _ in range(TRIES):
            start = np.array(section.start) + random.integers(0, slack, endpoint=True)
            window = Box(triple(start), triple(start + shape))
            if region.mask is None or (region.grid.image(region.mask, window) != 0).mean() >= 0.5:
                break
        found.append(window)
    return found


def _around(window: Box, grid: Grid, lines: Grid, inside: Box) -> Box:
    """A box of the grid of lines in the middle of a window of the working grid."""
    scale = grid.ratio / lines.ratio
    start, stop = [window.start[0]], [window.stop[0]]
    for axis in (1, 2):
        first, last = inside.start[axis], inside.stop[axis]
        side = min(LINES_SIDE, last - first, max(1, round(window.shape[axis] * scale)))
        at = round((window.start[axis] + window.stop[axis]) / 2 * scale - side / 2)
        start.append(min(max(at, first), last - side))
        stop.append(start[-1] + side)
    return Box(triple(start), triple(stop))


def _voxels(store: ts.TensorStore | None, window: Box, grid: Grid) -> np.ndarray:
    """The label values [y, x] under a window of the working grid, as they are stored."""
    rows, columns = (slice(math.floor(window.start[axis] * grid.ratio), min(grid.volume_shape[axis], math.ceil(
        window.stop[axis] * grid.ratio))) for axis in (1, 2))
    return np.zeros((0, 0)) if store is None else store[window.start[0], rows, columns].read().result()


def _labels(rule, images, classes, stored):
    """The Labels of sections; None of a volume without."""
    if not classes:
        return None
    found = np.concatenate([diameters(section > 0) for section in classes])
    known = sum(int(np.count_nonzero(section >= 0)) for section in classes)
    share = sum(int(np.count_nonzero(section > 0)) for section in classes) / max(known, 1)
    size = typical_diameter(found) if found.size else None
    fit: Fit | None = label_fit(zip(images, classes, strict=True), size) if size else None
    return Labels(rule, share, found, size, fit, *label_values(stored))


def _typical(images):
    """The index of the image whose deviation is the median one."""
    order = np.argsort([image.std() for image in images])
    return int(order[len(order) // 2])


def _mean_spectrum(spectra):
    if not spectra:
        return np.zeros(0), np.zeros(0)
    return spectra[0][0], np.mean([power for _, power in spectra], axis=0)
