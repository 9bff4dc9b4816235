"""Tiled segmentation of a volume into Zarr: against the bare network on the same tiles, against PyTorch, and its memory."""

import dataclasses
import itertools
import multiprocessing
import statistics
import tempfile
from pathlib import Path

import jax
import zarr

import yseg
from tests.benchmarks import ours
from tests.benchmarks.setting import DEVIATION, MEAN, PAPER, SMALL, drawn, experiment
from tests.benchmarks.timing import compare, row
from yseg import parallel
from yseg.inference.tiling import make_tiling
from yseg.models import segmentation_network
from yseg.trained.network import TrainedNetwork
from yseg.training.state import create_state, inference_variables

SECTIONS = {SMALL: 32, PAPER: 4}  # of the volume: what is done once for a volume must not count for much
SIDE = 1024  # voxels of a section
SHALLOW, DEEP = 64, 512  # sections, for the memory
MEMORY_ROUNDS = 5  # processes that do the same differ by up to 165 MiB


def _network(config):
    """The TrainedNetwork of an experiment, untrained."""
    variables = inference_variables(create_state(config, jax.random.key(0)), "training")
    return TrainedNetwork(config, {"training": parallel.on_host(variables)}, "training", 0, {})


def _tiles(config, working):
    """How many tiles a section takes, and their shape [y, x]: it is square and has `working` pixels a side."""
    tiling = make_tiling(segmentation_network(config.model), config.inference, [(0, working)])
    return len(tiling.starts(0, working)) ** 2, (tiling.size, tiling.size)


def build_segmentation(config, path, pixel_size_nm):
    """A side: `yseg.segment` of the volume at `path` into an OME-Zarr, of which nothing is in memory before."""
    network = _network(config)
    folder, numbers = tempfile.TemporaryDirectory(), itertools.count()

    def run():
        yseg.segment(network, path, f"{folder.name}/{next(numbers)}.zarr", pixel_size_nm=pixel_size_nm, quiet=True)

    return run, {}


def build_bare(config, working, sections):
    """A side: the network alone on as many tiles of the same shape, drawn, as `build_segmentation` needs at least."""
    predict = _network(config).predictor()
    count, shape = _tiles(config, working)
    tile = drawn(shape)[0][None, ..., None]

    def run():
        for _ in range(count * sections):
            predict(tile, (MEAN, DEVIATION))

    return run, {"tiles": count * sections, "shape": shape}


def suite(rounds, with_pytorch):
    """Rows of the time and, at the end, of the memory."""
    rows = []
    for size in (SMALL, PAPER):
        sections, config = SECTIONS[size], experiment(size)
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/image.zarr"
            zarr.create_array(path, data=drawn((sections, SIDE, SIDE))[0], chunks=(1, 256, 256))
            for pixel_size_nm in (10.0, 5.0):
                working = round(SIDE * pixel_size_nm / 10)
                sides = {"ours": (build_segmentation, config, path, pixel_size_nm),
                         "bare": (build_bare, config, working, sections)}
                count, shape = _tiles(config, working)
                if with_pytorch:
                    from tests.benchmarks import reference

                    values = ours.check_values(experiment(size, batch=2))
                    sides["theirs"] = (reference.build_tiles, values, [drawn(shape)[0]], count * sections)
                seconds, facts = compare(sides, rounds)
                what = f"{size.features} maps, {size.levels} poolings, {pixel_size_nm:g} nm on 10 nm, {count} tiles of {shape[0]}"
                rows.append(row("inference", f"segmentation to Zarr: {what}", seconds["ours"], seconds["bare"], 1.15,
                                "bare network", units=sections))
                if with_pytorch:
                    note = f"the network alone, without reading, tiling, blending and writing; {facts['theirs']['setting']}"
                    rows.append(row("inference", f"segmentation to Zarr: {what}", seconds["ours"], seconds["theirs"], 0.9,
                                    "PyTorch", note, units=sections))
                    rows.append(row("inference", f"bare network: {what}", seconds["bare"], seconds["theirs"], 0.9, "PyTorch",
                                    facts["theirs"]["setting"], units=sections))
    return [*rows, memory(MEMORY_ROUNDS)]


def memory(rounds):
    """The row of the peak memory of processes that segment a deep volume against those that segment a shallow one."""
    peaks = {SHALLOW: [], DEEP: []}
    with tempfile.TemporaryDirectory() as folder:
        section = drawn((SIDE, SIDE))[0]
        for sections in peaks:
            array = zarr.create_array(f"{folder}/{sections}.zarr", shape=(sections, SIDE, SIDE), chunks=(1, 256, 256),
                                      dtype="uint8")
            for number in range(sections):
                array[number] = section
        for _ in range(rounds):
            for sections, found in peaks.items():
                found.append(peak_memory(f"{folder}/{sections}.zarr"))
    medians = {sections: statistics.median(found) for sections, found in peaks.items()}
    return row("inference", f"peak memory, {DEEP} x {SIDE} x {SIDE}", peaks[DEEP], peaks[SHALLOW], 1.1,
               f"{SHALLOW} x {SIDE} x {SIDE}",
               f"{medians[DEEP]:.0f} and {medians[SHALLOW]:.0f} MiB") | {"ours, ms": None, "its ms": None}


def peak_memory(path):
    """MiB that a process of its own takes at most to segment the volume at `path`, 5 nm on a grid of 20 nm."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (path,))


def _peak(path):
    parallel.keep_memory()  # as the programs do
    config = experiment(SMALL)
    config = dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, working_pixel_size_nm=20.0))
    run, _ = build_segmentation(config, path, 5.0)
    run()
    # Not getrusage: a new process begins with the peak of the one that started it.
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmHWM:")) / 1024
