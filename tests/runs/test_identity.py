"""yseg.runs.identity: another volume at the place of a run's is found out, the same at another place is not."""

import dataclasses
import shutil

import numpy as np
import pytest
import tifffile
from tiny import experiment

from yseg.config import Domain, InputError, TargetLabels
from yseg.runs.identity import VOLUMES, check_identity, identity_of, read_identity


@pytest.fixture
def config(tmp_path):
    """An experiment on three TIFF volumes."""
    random = np.random.default_rng(0)
    for name in ("source", "labels", "target"):
        tifffile.imwrite(tmp_path / f"{name}.tif", random.integers(0, 2, (6, 20, 30), np.uint8), photometric="minisblack")
    source = Domain(image=str(tmp_path / "source.tif"), labels=str(tmp_path / "labels.tif"))
    return experiment(source=source, target=Domain(image=str(tmp_path / "target.tif"), labels=str(tmp_path / "labels.tif")))


def test_a_moved_volume_is_the_same(config, tmp_path):
    known = identity_of(config)
    assert set(known) == {"source.image", "source.labels", "target.image"}  # labels for scoring alone are none of the training
    shutil.move(config.target.image, tmp_path / "elsewhere.tif")
    moved = dataclasses.replace(config, target=dataclasses.replace(config.target, image=str(tmp_path / "elsewhere.tif")))
    check_identity(identity_of(moved), known, moved, "--workdir=a")


@pytest.mark.parametrize("change", ["a voxel", "shape", "type"])
def test_another_volume_is_refused(change, config):
    known, values = identity_of(config), tifffile.imread(config.target.image)
    values[3, 10, 15] ^= 1 if change == "a voxel" else 0
    values = values[:5] if change == "shape" else values.astype(np.uint16) if change == "type" else values
    tifffile.imwrite(config.target.image, values, photometric="minisblack")
    with pytest.raises(InputError, match=rf"^target\.image={config.target.image}: is another volume than .* in --workdir=a"):
        check_identity(identity_of(config), known, config, "--workdir=a")


def test_labels_of_the_target_that_are_trained_on_are_looked_at(config):
    assert "target.labels" in identity_of(dataclasses.replace(config, target_labels=TargetLabels("joint", 0.5)))
    assert set(identity_of(dataclasses.replace(config, target_labels=TargetLabels("only", 0.5)))) == {
        "target.image", "target.labels"}  # the source need not be there


def test_a_run_that_says_nothing_of_its_volumes_is_not_compared_and_one_that_is_damaged_is_named(config, tmp_path):
    assert read_identity(tmp_path) == {}
    check_identity(identity_of(config), {}, config, "--workdir=a")
    for text in ("{", "[]"):
        (tmp_path / VOLUMES).write_text(text)
        with pytest.raises(InputError, match=r"volumes\.json is damaged"):
            read_identity(tmp_path)
