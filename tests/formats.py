"""Every format that is written, read back: a training on it ends with the same bits.

    python -m tests.formats --data=/path/to/data        with the VNC volume, and else with a drawn one

prints the table of configs/README.md: how many numbers of the network differ.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import jax
import numpy as np

import yseg
from tests import tiny
from yseg.config import Domain, Optimizer, Sampling
from yseg.volumes.header import FORMATS

STEPS, SECTION_NM = 20, 50.0
# The end of an output's name, and who else reads it, which the tests of yseg.volumes show.
NAMES = {"ome-zarr-0.5": ".zarr", "ome-zarr-0.4": ".zarr", "n5": ".n5", "precomputed": ".precomputed", "tiff": ".tif",
         "ome-tiff": ".ome.tif", "hdf5": ".h5:volume"}


def source_of(data: Path | None) -> Domain:
    """The labelled volume that is converted."""
    if data is None:
        return tiny.domain("source", sections=4, validation_fraction=0.3)
    return Domain(image=str(data / "vnc/stack1/raw"), labels=str(data / "vnc/stack1/mitochondria"), pixel_size_nm=4.6,
                  foreground=">0", validation_fraction=0.3)


def converted(source: Domain, folder: Path, form: str) -> Domain:
    """The same domain in a format. Of several resolutions that of its pixel size is read."""
    names = {what: yseg.convert(getattr(source, what), folder / f"{what}{NAMES[form]}", pixel_size_nm=source.pixel_size_nm,
                                section_nm=SECTION_NM, labels=what == "labels", format=form) for what in ("image", "labels")}
    return dataclasses.replace(source, **names)


def trained(source: Domain, workdir: Path) -> list[np.ndarray]:
    """The parameters after STEPS steps on a domain."""
    config = tiny.experiment(source=source, sampling=Sampling(patch_size=16, batch_size=2, working_pixel_size_nm=20.0),
                             optimizer=Optimizer(steps=STEPS, warmup_steps=1))
    yseg.train(config, workdir, quiet=True)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(yseg.load_run(workdir).variables)]


def different_bits(one: list[np.ndarray], other: list[np.ndarray]) -> int:
    """How many numbers have not the same bits."""
    return sum(int((left.view(f"u{left.itemsize}") != right.view(f"u{right.itemsize}")).sum())
               for left, right in zip(one, other, strict=True))


def table(source: Domain, folder: Path) -> str:
    """The table, in Markdown, of trainings in a new folder."""
    expected = trained(source, folder / "run")
    lines = ["| format | name | numbers of the network that differ |", "|---|---|---:|"]
    for form in FORMATS:
        place = folder / form
        place.mkdir()
        differ = different_bits(expected, trained(converted(source, place, form), place / "run"))
        lines.append(f"| `{form}` | `b{NAMES[form]}` | {differ} of {sum(leaf.size for leaf in expected)} |")
    return "\n".join(lines)


def main(data: Path | None) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        print(table(source_of(data), Path(folder)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None)
    main(parser.parse_args().data)
