"""Whatever the user has to change gets one line on standard error and exit code 2, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from launch import evaluate, program, segment, train
from yseg.config import InputError
from yseg.config_json import to_json
from yseg.runs.resolve import resolve

ROOT = Path(__file__).parents[2]
DEMO = f"--config={ROOT / 'configs/demo.py'}:ynet"
CUSTOM = f"--config={ROOT / 'configs/custom.py'}:ynet"


@pytest.fixture
def complaint(capsys):
    """Run a program in this process, as `python -m` does; return the line that it complains with."""
    def run(module, *arguments):
        with pytest.raises(SystemExit) as stop:
            program.run(module.PROGRAM, ["program", *map(str, arguments)])
        shown = capsys.readouterr()
        assert stop.value.code == program.BAD_INPUT
        assert shown.out == ""
        assert shown.err.count("\n") == 1, shown.err
        return shown.err
    return run


@pytest.fixture
def volumes(tmp_path):
    """Flags of configs/custom.py for two small volumes, 40 working pixels wide, in a folder."""
    values = np.random.default_rng(0).integers(0, 255, (3, 40, 40), np.uint8)
    for name in ("source", "target"):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="minisblack")
        tifffile.imwrite(tmp_path / f"{name}_labels.tif", (values > 128).astype(np.uint8), photometric="minisblack")
    return [CUSTOM, "--config.sampling.patch_size=16", "--config.model.levels=2", "--config.model.features=4",
            *(f"--config.{name}.{flag}" for name in ("source", "target") for flag in
              (f"image={tmp_path / name}.tif", f"labels={tmp_path / name}_labels.tif", "pixel_size_nm=10", "foreground=>0"))]


@pytest.mark.parametrize(("arguments", "said"), [
    ((), "--config is missing"),
    (("--config=nowhere.py:ynet",), "--config=nowhere.py:ynet: no file nowhere.py"),
    ((f"{DEMO}x",), "--config.method='ynetx': must be one of ft, mmd, coral, dann, ynet"),
    ((DEMO, DEMO), "given twice"),
    ((DEMO, "--config.optimizer.stepps=3"), "--config.optimizer.stepps: unknown flag; did you mean --config.optimizer.steps?"),
    ((DEMO, "--config.learning_rate=3"), "did you mean --config.optimizer.learning_rate"),
    ((DEMO, "--config.optimizer=3"), "--config.optimizer: is a group"),
    ((DEMO, "--config.optimizer.steps=many"), "--config.optimizer.steps=many: must be a whole number"),
    ((DEMO, "--config.optimizer.steps=1.5"), "--config.optimizer.steps=1.5: must be a whole number"),
    ((DEMO, "--config.optimizer.steps=-3"), "--config.optimizer.steps=-3: must be at least 0"),
    ((DEMO, "--config.optimizer.learning_rate=fast"), "--config.optimizer.learning_rate=fast: must be a number"),
    ((DEMO, "--config.optimizer.learning_rate=nan"), "--config.optimizer.learning_rate=nan: must be finite"),
    ((DEMO, "--config.augmentation.flip=perhaps"), "--config.augmentation.flip=perhaps: must be true or false"),
    ((DEMO, "--config.loss.class_weights=heavy"), "--config.loss.class_weights='heavy': must be a number"),
    ((DEMO, "--config.loss.name=hinge"), "--config.loss.name='hinge': must be one of cross_entropy"),
    ((DEMO, "--config.sampling.patch_size=60"), "--config.sampling.patch_size=60: must be a multiple of 8"),
    ((DEMO, "--worksdir=here"), "--worksdir: unknown flag; did you mean --workdir?"),
    ((DEMO, "--multihost=perhaps"), "--multihost=perhaps: must be true or false"),
    ((DEMO, "here"), "'here': must be a flag"),
])
def test_bad_flags_of_train(arguments, said, complaint, tmp_path):
    assert said in complaint(train, *arguments, f"--workdir={tmp_path / 'run'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [(), ("--workdir=",)])
def test_a_workdir_must_be_given(arguments, complaint):
    assert "--workdir is missing" in complaint(train, DEMO, *arguments)


@pytest.mark.parametrize(("text", "said"), [
    ("def get_config(:", "SyntaxError"),
    ("x = 1", "get_config"),
    ("def get_config():\n    return 1 / 0", "ZeroDivisionError: division by zero, line 2 of"),
    ("def get_config():\n    raise TypeError('not so')", "TypeError: not so, line 2 of"),
    ("def get_config():\n    return open('nowhere')", "nowhere"),
    ("def get_config():\n    return {}", "must return a yseg.config.Experiment"),
    ("def get_config():\n    return None", "must return a yseg.config.Experiment"),
])
def test_a_config_file_that_does_not_work_is_named(text, said, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError) as found:
        program.parse(train.PROGRAM, ["train", f"--config={path}", "--workdir=unused"])
    assert str(path) in str(found.value)
    assert said in str(found.value)


def missing(folder):
    (folder / "source.tif").unlink()
    return "--config.source.image", "source.tif", "no such file"


def truncated(folder):
    whole = (folder / "target.tif").read_bytes()
    (folder / "target.tif").write_bytes(whole[:len(whole) // 2])
    return "--config.target.image", "target.tif"


def of_another_shape(folder):
    tifffile.imwrite(folder / "source_labels.tif", np.zeros((3, 40, 41), np.uint8), photometric="minisblack")
    return "--config.source.labels", "3 x 40 x 41", "3 x 40 x 40"


def of_another_size(folder):
    tifffile.imwrite(folder / "target.tif", np.zeros((3, 40, 40), np.uint8), photometric="minisblack", resolution=(2e6, 2e6),
                     resolutionunit="CENTIMETER")
    return "--config.target.pixel_size_nm=10: --config.target.image=", "a pixel measures 5 nm", "--config.target.metadata=ignored"


def of_channels(folder):
    tifffile.imwrite(folder / "source.tif", np.zeros((3, 2, 40, 40), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    return "--config.source.image", "2 channels", "--config.source.channel=0 to 1"


def of_other_sections(folder):
    for name, numbers in (("source.tif", (1, 2, 4)), ("source_labels.tif", (1, 2, 3))):
        (folder / name).unlink()
        (folder / name).mkdir()
        for number in numbers:
            tifffile.imwrite(folder / name / f"{number}.tif", np.zeros((40, 40), np.uint8))
    return "--config.source.labels: the numbers", "--config.source.image alone has 4", "--config.source.labels alone has 3"


@pytest.mark.parametrize("damage", [missing, truncated, of_another_shape, of_another_size, of_channels, of_other_sections])
def test_volumes_that_cannot_be_used(damage, volumes, complaint, tmp_path):
    words = damage(tmp_path)
    said = complaint(train, *volumes, f"--workdir={tmp_path / 'run'}")
    assert all(word in said for word in words), said
    assert not (tmp_path / "run").exists()


def test_a_size_in_micrometres_is_named(volumes, complaint, tmp_path):
    said = complaint(train, *volumes, "--config.source.pixel_size_nm=0.0046", f"--workdir={tmp_path / 'run'}")
    assert said == ("--config.source.pixel_size_nm=0.0046: must be from 0.1 to 2000 nm in electron microscopy; 0.0046 micrometres"
                    " are 4.6 nm\n")


def test_what_the_library_calls_a_knob_is_shown_as_its_flag(volumes, complaint, tmp_path):
    said = complaint(train, *volumes, "--config.inference.tile_size=20", f"--workdir={tmp_path / 'run'}")
    assert said.startswith("--config.inference.tile_size=20: must be at least ")
    assert "for --config.model.levels=2 and --config.inference.overlap=" in said
    assert not (tmp_path / "run").exists()


def test_a_patch_larger_than_the_volume(volumes, complaint, tmp_path):
    assert "--config.sampling.patch_size=64" in complaint(train, *volumes, "--config.sampling.patch_size=64",
                                                          f"--workdir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_a_workdir_of_another_config_or_of_something_else_stays_as_it_is(volumes, complaint, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    arguments = [*volumes, f"--workdir={workdir}"]
    (workdir / "config.json").write_text(to_json(resolve(program.parse(train.PROGRAM, ["train", *arguments]).config)))
    before = (workdir / "config.json").read_text()
    said = complaint(train, *arguments, "--config.optimizer.learning_rate=0.25")
    assert f"--workdir={workdir}" in said
    assert "--config.optimizer.learning_rate=0.001, which differs from --config.optimizer.learning_rate=0.25;" in said
    assert {path.name: path.read_text() for path in workdir.iterdir()} == {"config.json": before}
    (workdir / "config.json").rename(workdir / "thesis.txt")
    assert f"--workdir={workdir}" in complaint(train, *arguments)
    assert [path.name for path in workdir.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("module", "arguments", "said"), [
    (evaluate, (), "no such folder"),
    (evaluate, ("--threshold=2",), "--threshold=2: must be a number from 0 to 1, or matched"),
    (evaluate, ("--pixel_size_nm=small",), "--pixel_size_nm=small: must be a number"),
    (evaluate, ("--domain=mouse",), "--domain=mouse"),
    (evaluate, ("--lables=b.tif",), "did you mean --labels?"),
    (evaluate, ("--batch_statistics=both",), "--batch_statistics=both: value should be one of <training|target|mixed|source>"),
    (segment, ("--output=s.zarr",), "--image is missing"),
    (segment, ("--image=b.tif",), "--output is missing"),
    (segment, ("--image=b.tif", "--output=s.zarr"), "no such folder"),
])
def test_bad_flags_of_evaluate_and_segment(module, arguments, said, complaint, tmp_path):
    assert said in complaint(module, f"--workdir={tmp_path / 'run'}", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_as_processes(volumes, tmp_path):
    """The same of `python -m`: libraries' own words on standard error would show here."""
    truncated(tmp_path)
    commands = {"--config.optimizer.steps=many": ["launch.train", *volumes, "--config.optimizer.steps=many"],
                "--config.target.image": ["launch.train", *volumes],
                "--workdir": ["launch.segment", "--image=b.tif", f"--output={tmp_path / 's.zarr'}"]}
    processes = {flag: subprocess.Popen([sys.executable, "-m", *command, f"--workdir={tmp_path / 'run'}"], cwd=ROOT, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE) for flag, command in commands.items()}
    for flag, process in processes.items():
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err.count("\n")) == (program.BAD_INPUT, "", 1), err
        assert err.startswith(flag)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "s.zarr").exists()
