"""The whole training loop: cutting, augmentation, step, metrics; from volumes in memory and from Zarr."""

import tempfile

import jax
import numpy as np
import zarr

from tests.benchmarks import ours
from tests.benchmarks.setting import DEVIATION, LARGE, MEAN, PAPER, SMALL, drawn, experiment
from tests.benchmarks.timing import compare, row
from yseg import parallel
from yseg.data.box import Box
from yseg.data.grid import Grid
from yseg.data.labels import label_rule
from yseg.data.patches import Region, make_reader
from yseg.methods import METHODS
from yseg.runs.session import several_steps
from yseg.training.loop import Member, fit
from yseg.training.recorder import Recorder
from yseg.training.state import create_state
from yseg.training.step import make_step
from yseg.volumes.volume import open_volume

SHAPE = (20, 512, 512)  # of a volume
STEPS = {SMALL: 40, PAPER: 12, LARGE: 40}  # of a call
AT_ONCE = 10  # steps in one call of an accelerator


class _NoCheckpoints:
    """A loop of a few steps would write more often than a real one."""

    last_step = 0

    def save(self, state):
        """Nothing is written."""

    def wait(self):
        """Nothing is waited for."""


def build_fit(config, reader, volumes, at_once=1):
    """A side: `yseg.training.loop.fit` from its first to its last step; the metrics go to files.

    Args:
      config: `yseg.config.Experiment`.
      reader: "resident" or "streaming".
      volumes: dict from the name of patches, "labelled" or "target", to (path of the image, path of the labels).
      at_once: steps in one call of the devices.
    """
    config.sampling.reader, config.sampling.steps_at_once = reader, at_once
    kept = _reader(config, volumes) if reader == "resident" else None
    network = ours.as_trained(METHODS[config.method].network(config.model, parallel.AXIS))
    step = parallel.map_step(make_step(config, network, parallel.AXIS))
    several = several_steps(config, kept)
    start = parallel.on_host(create_state(config, jax.random.key(0)))
    folder = tempfile.TemporaryDirectory()

    def run():
        patches = kept or _reader(config, volumes)  # anew, so that nothing of the volumes is in memory
        with Recorder(folder.name, 0, True) as recorder:
            member = Member(jax.random.key(1), recorder, _NoCheckpoints(), lambda state: state, lambda state, last: {},
                            lambda state, recorder: None)
            state = fit([start], step, [member], patches.batch, config=config, quiet=True, several=several)
        jax.block_until_ready(state)

    return run, {}


def _reader(config, volumes):
    """The reader of a config of volumes, see `build_fit`."""
    regions = {}
    for name, paths in volumes.items():
        image, labels = (open_volume(path, "--image") for path in paths)
        grid = Grid(tuple(image.shape), 10.0, 10.0)
        regions[name] = Region(image, labels if name == "labelled" else None, grid, Box((0, 0, 0), tuple(image.shape)),
                               label_rule(">0", "", "-"), (MEAN, DEVIATION))
    return make_reader(regions, sampling=config.sampling, sections=config.model.sections, seed=config.seed)


def write_volumes(folder, names):
    """Zarr volumes of drawn spots: dict from the name of patches to (image, labels) paths."""
    paths = {}
    for seed, name in enumerate(names):
        image, labels = drawn(SHAPE, seed)
        paths[name] = tuple(f"{folder}/{name}_{content}.zarr" for content in ("image", "labels"))
        for path, values in zip(paths[name], (image, labels.astype(np.uint8)), strict=True):
            zarr.create_array(path, data=values, chunks=(1, 256, 256))
    return paths


def suite(rounds, with_pytorch, sizes=(SMALL, PAPER)):
    """Rows of the loop against the bare step, and against PyTorch's; on an accelerator also with several steps in one call."""
    rows = []
    for size in sizes:
        steps = STEPS[size]
        with tempfile.TemporaryDirectory() as folder:
            two = write_volumes(folder, ("labelled", "target"))
            config = experiment(size, "dann", augmented=True, steps=steps)
            sides = {"step": (ours.build_step, config, steps), **{
                reader: (build_fit, config, reader, two) for reader in ("resident", "streaming")}}
            if parallel.has_accelerator():
                sides["several"] = (build_fit, config, "resident", two, AT_ONCE)
            seconds, _ = compare(sides, rounds)
            for reader, goal in (("resident", 1.05), ("streaming", 1.10)):
                rows.append(row("loop", f"loop, {reader}: DANN, {size}", seconds[reader], seconds["step"], goal, "bare step",
                                units=steps))
            if "several" in sides:
                rows.append(row("loop", f"loop, {AT_ONCE} steps in one call: DANN, {size}", seconds["several"],
                                seconds["resident"], 1.0, "one step in a call", units=steps))
            if with_pytorch:
                rows.append(_against_pytorch(size, steps, {"labelled": two["labelled"]}, rounds))
    return rows


def _against_pytorch(size, steps, volumes, rounds):
    from tests.benchmarks import reference_loop

    config = experiment(size, batch=2 * size.batch, augmented=True, steps=steps)
    values = ours.check_values(experiment(size, batch=2))
    seconds, facts = compare({
        "ours": (build_fit, config, "resident", volumes),
        "theirs": (reference_loop.build_loop, values, drawn(SHAPE), config, steps)}, rounds)
    return row("loop", f"loop, supervised: {size}", seconds["ours"], seconds["theirs"], 0.75, "PyTorch with DataLoader",
               facts["theirs"]["setting"], units=steps)
