"""The program that looks at volumes takes the command line of a training, and its findings are advice."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from launch import check, program, train
from yseg.volumes.phantom import phantom

CONFIG = f"--config={Path(__file__).parents[2] / 'configs/custom.py'}"


@pytest.fixture
def flags(tmp_path):
    """Of a training on two small volumes."""
    given = ["--config.target.test_fraction=0", "--config.sampling.patch_size=32", "--config.sampling.working_pixel_size_nm=10"]
    for name, size in (("source", 5), ("target", 4.6)):
        image, labels = phantom(name, (6, 256, 320), seed=5)
        for what, values in (("image", image), ("labels", labels)):
            tifffile.imwrite(tmp_path / f"{name}_{what}.tif", values, photometric="minisblack")
        given += [f"--config.{name}.image={tmp_path / name}_image.tif", f"--config.{name}.pixel_size_nm={size}"]
    return [CONFIG, *given, f"--config.source.labels={tmp_path}/source_labels.tif"]


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        program.run(check.PROGRAM, ["check", *map(str, arguments)])
    return stop.value.code


def test_what_looks_wrong_is_said_with_the_flag_that_mends_it_and_the_exit_code_is_0(flags, tmp_path, capsys):
    path = tmp_path / "target_image.tif"
    image = tifffile.imread(path)
    image[3] = 0
    tifffile.imwrite(path, image, photometric="minisblack")
    assert run(*flags, f"--output={tmp_path / 'out'}") == 0
    shown = capsys.readouterr().out
    assert "1. target: section 3 is of one grey level, as if lost; --config.target.mask=nodata=0 leaves out" in shown
    assert shown.endswith(f"{tmp_path / 'out' / 'check.png'}: 1 thing may be wrong\n")
    assert "| target   | 6 x 256 x 320 |" in shown
    assert [finding["rule"] for finding in json.loads((tmp_path / "out" / "check.json").read_text())["findings"]] == [
        "lost_sections"]


def test_it_takes_the_flags_of_a_training_and_writes_beside_its_folder(flags, tmp_path, capsys):
    given = [*flags, f"--workdir={tmp_path / 'run'}", "--seeds=3,4", "--budget=quick", "--notogether"]
    assert program.parse(train.PROGRAM, ["train", *given]).workdir == program.parse(check.PROGRAM, ["check", *given]).workdir
    before = {*tmp_path.iterdir()}
    assert run(*given) == 0
    assert {*tmp_path.iterdir()} - before == {tmp_path / "run_check"}
    assert "check.png: nothing looks wrong" in capsys.readouterr().out


def test_every_flag_of_a_training_is_one_of_a_check():
    assert {*program._flags_of(train.PROGRAM)} <= {*program._flags_of(check.PROGRAM)}


def test_a_volume_that_cannot_be_trained_on_is_refused_as_by_a_training(flags, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "source_labels.tif", np.zeros((6, 256, 320), np.uint8), photometric="minisblack")
    assert run(*flags, f"--output={tmp_path / 'out'}") == 2
    refused = capsys.readouterr().err
    with pytest.raises(SystemExit):
        program.run(train.PROGRAM, ["train", *flags, f"--workdir={tmp_path / 'run'}"])
    assert refused == capsys.readouterr().err
    assert "finds no foreground" in refused
    assert not (tmp_path / "out").exists()
