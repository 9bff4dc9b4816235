"""Instances of a segmentation that is done in blocks, in two more stages of blocks with one merge between them.

    classes, probability -> fragments of each block, with a halo -> merge, in one process -> instances

Each stage leaves its voxels, and its word that a block is done, where those of `yseg.trained.segmentation` are, and goes on after
an interruption. The ids do not depend on the blocks, nor on who computes them, see `yseg.inference.merge`.
"""

import io
import json
import math
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from yseg.config import InputError
from yseg.data.box import Box, triple
from yseg.data.domain import Volume
from yseg.data.tissue import part_of_region
from yseg.files import write_whole
from yseg.inference.engine import Engine, Tell
from yseg.inference.instances import Contacts, Face, Fragments, fragments, halo
from yseg.inference.merge import Rule, merge
from yseg.metrics.object_table import COLUMNS, summary, table, volumes_um3
from yseg.metrics.sums import Sums
from yseg.report import csv_text, progress, volume_histogram
from yseg.runs.folder import REPORT, reporting
from yseg.trained.network import TrainedNetwork
from yseg.trained.segmentation import FRAGMENTS, Segmentation
from yseg.volumes.header import CLASSES, INSTANCES, PROBABILITY, Header
from yseg.volumes.table import write_table

LEAST_NM = 100.0  # diameter below which nothing is a mitochondrion
HEADER = ",".join(COLUMNS)  # first line of a table
_KNOWN, _TABLE, _RELABELLED = "known", "table", "relabelled"  # stages


class Found(NamedTuple):
    """The objects of a segmentation, and in how many voxels of tissue they were looked for."""

    sums: Sums
    looked_at: int


def rule_of(what: str, network: TrainedNetwork, volume: Volume, section_nm: float | None, *, least_nm: float | None,
            separate: bool) -> Rule | None:
    """The Rule of instances, None if none are asked for.

    Args:
      what: see `yseg.volumes.create.outputs_of`.
      network, volume: what is segmented, and by which.
      section_nm: distance of two sections; None = unknown: for telling objects apart it is estimated from the image then.
      least_nm: diameter of a ball that the smallest objects have the volume of; None = LEAST_NM.
      separate: see `Rule`.

    Raises:
      InputError: what is given does not go together, or the distance of sections cannot be seen.
    """
    if what != INSTANCES:
        if least_nm is not None or not separate:
            given = f"--least_nm={least_nm:g}" if least_nm is not None else "--noseparate"
            raise InputError(f"{given}: must come with --what={INSTANCES}, as nothing else has objects")
        return None
    if least_nm is not None and not 0 <= least_nm < math.inf:
        raise InputError(f"--least_nm={least_nm:g}: must be at least 0 and finite")
    if network.config.model.classes != 2:
        raise InputError(f"--what={what}: must be another, as the network has {network.config.model.classes} classes, and only"
                         " those of one class beside the background have instances")
    apart = volume.pixel_size_nm if volume.file_shape[0] == 1 else section_nm or volume.spacing_nm
    if not math.isfinite(apart):
        raise InputError("--section_nm is missing: must be the distance of sections in nm, which cannot be seen here, as"
                         " neighbouring ones have nothing in common")
    return Rule((float(apart), volume.pixel_size_nm, volume.pixel_size_nm), LEAST_NM if least_nm is None else least_nm, separate)


def find(job: Segmentation, engine: Engine, *, quiet: bool) -> Found:
    """Find the instances of a job whose blocks are done; afterwards its staged voxels of INSTANCES are there.

    Raises:
      InputError: there are more objects than ids; else see `yseg.inference.engine.Engine.compute`.
    """
    assert job.rule is not None
    blocks, staged = job.applied.blocks, job.staged
    _run(engine, _fragments_of_block, job, _KNOWN, quiet)
    looked_at = 0

    def found() -> Iterator[Fragments]:
        nonlocal looked_at
        for number in range(len(blocks)):
            each, tissue = _unpacked(staged.known(number, _KNOWN))
            looked_at += tissue
            yield each

    try:
        merged = merge(blocks, found(), voxel_nm=job.rule.voxel_nm, least_nm=job.rule.least_nm)
    except ValueError as error:
        raise InputError(f"--least_nm={job.rule.least_nm:g}: must be larger ({error})") from error
    done = staged.done(_RELABELLED)
    for number, numbers in enumerate(merged.tables):
        if number not in done:
            staged.mark(number, _TABLE, numbers.tobytes())
    _run(engine, _relabel_block, job, _RELABELLED, quiet)
    return Found(merged.sums, looked_at)


def write_objects(found: Found, job: Segmentation, header: Header, output: str) -> None:
    """Write the table beside an output, before that: so it is there with it, also if this process is killed in between.

    Args:
      found: the objects.
      job, header: of which, as it is written.
      output: the spec of the volume.

    Raises:
      InputError, OSError: it cannot be written.
    """
    rows = table(found.sums, header.pixel_size_nm, header.section_nm, first=job.applied.region.start, start=header.start)
    write_table(output, csv_text(rows, COLUMNS))


def tell_objects(found: Found, job: Segmentation, header: Header, *, title: str, quiet: bool) -> None:
    """Say what was found, and draw the volumes into the run's folder, if the network has one.

    Args:
      found, job, header: see `write_objects`.
      title: over the figure.
      quiet: say nothing.
    """
    network, pixel, apart = job.applied.network, header.pixel_size_nm, header.section_nm
    known: dict[str, Any] = summary(found.sums, pixel, apart, looked_at=found.looked_at)
    if not quiet:
        assert job.rule is not None
        more = (f", {known['density_per_um3']:g} in a µm³ of tissue" if known["density_per_um3"] is not None else "") + (
            f"; median volume {known['median_um3']:g} µm³" if known["median_um3"] is not None else "")
        unknown = "" if apart else ("; the distance of sections is unknown, so volumes are in voxels (for telling instances apart"
                                    f" it is {job.rule.voxel_nm[0]:.3g} nm, as is seen in the image); give --section_nm")
        print(f"{known['count']} instances{more}{unknown}", file=sys.stderr, flush=True)
    if network.reports is None:
        return
    volumes = volumes_um3(found.sums, pixel, apart)
    with reporting(network.reports, "pictures"):
        write_whole(network.reports / REPORT / "instances.json", json.dumps(known, indent=2, allow_nan=False) + "\n")
        volume_histogram(found.sums.voxels if volumes is None else volumes, network.reports / REPORT / "instances.png",
                         title=title, unit="voxels" if volumes is None else "µm³")


def _run(engine, work, job, stage, quiet):
    """Compute the blocks of a stage that are not done."""
    blocks, done = job.applied.blocks, job.staged.done(stage)
    todo, count = [number for number in range(len(blocks)) if number not in done], len(done)

    def tell(_: int) -> None:
        nonlocal count
        count += 1
        bar.update(count)

    with progress(len(blocks), "Instances", start=count, unit="blocks", quiet=quiet or len(blocks) == 1) as bar:
        engine.compute(work, job, todo, size=lambda number: 1, tell=tell,
                       name=lambda number: f"block {number} at {blocks[number]}")


def _fragments_of_block(job: Segmentation, number: int, tell: Tell) -> None:
    """Find the fragments of a block; what is known of them is kept beside their voxels."""
    applied, staged, rule = job.applied, job.staged, job.rule
    assert rule is not None
    block, region = applied.blocks[number], applied.region
    size = rule.voxel_nm if rule.separate else None
    more = halo(size)
    wide = Box(triple(first - each for first, each in zip(block.start, more, strict=True)),
               triple(last + each for last, each in zip(block.stop, more, strict=True))).intersect(region)
    mask = staged.voxels(CLASSES)[wide.relative_to(region).slices].read().result() == 1
    probability = staged.voxels(PROBABILITY)[block.relative_to(region).slices].read().result()
    found = fragments(mask, probability, block=block, wide=wide, region=region, voxel_nm=size)
    staged.voxels(FRAGMENTS)[block.relative_to(region).slices].write(found.labels).result()
    volume = applied.opened.volume
    part = part_of_region(block, volume.place)
    tissue = math.prod(part.shape) if volume.mask is None else np.count_nonzero(volume.mask[part.slices].read().result())
    staged.mark(number, _KNOWN, _packed(found, int(tissue)))
    tell(1)


def _relabel_block(job: Segmentation, number: int, tell: Tell) -> None:
    """Give the voxels of a block the ids of their objects."""
    staged, place = job.staged, job.applied.blocks[number].relative_to(job.applied.region).slices
    numbers = np.frombuffer(staged.known(number, _TABLE), np.uint32)
    staged.voxels(INSTANCES)[place].write(numbers[staged.voxels(FRAGMENTS)[place].read().result()]).result()
    staged.mark(number, _RELABELLED)
    tell(1)


def _packed(found: Fragments, tissue: int) -> bytes:
    """All but the voxels of Fragments, and a number, as an NPZ file."""
    file = io.BytesIO()
    arrays = {"peak": found.peak, "tissue": np.int64(tissue), **{f"sums_{name}": values for name, values in
                                                                found.sums._asdict().items()},
              **{f"contacts_{name}": values for name, values in found.contacts._asdict().items()},
              **{f"face{end}_{name}": values for end, face in enumerate(found.faces) for name, values in face._asdict().items()}}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _unpacked(data: bytes) -> tuple[Fragments, int]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        faces = tuple(Face(*(arrays[f"face{end}_{name}"] for name in Face._fields)) for end in range(6))
        return Fragments(np.zeros((0, 0, 0), np.uint32), arrays["peak"], Sums(*(arrays[f"sums_{name}"] for name in Sums._fields)),
                         Contacts(*(arrays[f"contacts_{name}"] for name in Contacts._fields)), faces), int(arrays["tissue"])
