"""Flags that are paths: ~ is the home folder in all of them, and in no URL."""

import importlib
import os
from pathlib import Path

import pytest

from launch import execution, program
from yseg.config import InputError
from yseg.runs.resolve import resolve
from yseg.volumes.stores import in_the_cloud

ROOT = Path(__file__).parents[2]
GIVEN = {
    "train": ["--workdir"], "adapt": ["--from", "--workdir"], "finetune": ["--from", "--workdir"], "demo": ["--workdir"],
    "evaluate": ["--workdir", "--image", "--labels"], "segment": ["--workdir", "--image", "--output"],
    "export": ["--workdir", "--output"],
    "view": ["--workdir", "--image", "--segmentation", "--probability", "--labels", "--instances"],
    "sweep": ["--out"], "reproduce": ["--out"]}
MOVED = ["--data_dir", "--source_image", "--source_labels", "--target_image", "--target_labels"]


def parse(name, *arguments):
    definition = importlib.import_module(f"launch.{name}").PROGRAM
    method = "" if name == "reproduce" else ":ft"
    config = [f"--config={ROOT / 'configs/custom.py'}{method}"] if definition.takes_config else []
    more = ["--fraction=0.5"] if name == "finetune" else []
    return program.parse(definition, [name, *config, *more, *arguments])


@pytest.mark.parametrize("name", GIVEN)
def test_the_home_folder_is_meant_by_a_tilde_in_every_path(name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    moved = MOVED if name in ("adapt", "finetune", "evaluate", "segment", "export", "view") else []
    flags = [*GIVEN[name], *moved, "--compilation_cache"]
    values = parse(name, *(f"{flag}=~/a b" for flag in flags))
    assert {values[flag.removeprefix("--")].value for flag in flags} == {"/home/me/a b"}
    if name in ("evaluate", "segment"):
        values = parse(name, "--model=~/m", *(f"{flag}=~/x" for flag in GIVEN[name][1:]))
        assert values.model == "/home/me/m"


@pytest.mark.parametrize("given", ["s3://bucket/~/a.zarr", "gs://~/a.zarr", "a~b", "data/~/a.tif", "/~/a.tif", "phantom://source/image"])
def test_elsewhere_a_tilde_is_a_letter_like_any_other(given, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parse("segment", "--workdir=w", f"--image={given}", "--output=o").image == given


def test_it_is_meant_in_the_config_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("from yseg.config import Domain, Experiment\n"
                                      "def get_config(method='ft'):\n    return Experiment(source=Domain(pixel_size_nm=5.0),"
                                      " target=Domain(pixel_size_nm=5.0))\n")
    definition = importlib.import_module("launch.train").PROGRAM
    paths = {"source.image": "a.tif", "source.labels": "a.h5:mito", "target.image": "b.zarr", "target.labels": "c.png"}
    config = resolve(program.parse(definition, [
        "train", "--config=~/mine.py", "--workdir=w", "--config.data_dir=~/em", "--config.target_labels.use=only",
        "--config.target_labels.start=~/run", "--config.target_labels.boxes=('0:1,:,:',)",
        *(f"--config.{knob}=~/{path}" for knob, path in paths.items())]).config)
    found = (config.source.image, config.source.labels, config.target.image, config.target.labels)
    assert found == tuple(str(tmp_path / path) for path in paths.values())
    assert (config.data_dir, config.target_labels.start) == (str(tmp_path / "em"), str(tmp_path / "run"))


@pytest.fixture
def homeless(monkeypatch):
    """Neither HOME nor an entry for this user in the system's list."""
    import pwd

    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize("given", ["~", "~/run"])
def test_without_a_home_folder_a_tilde_is_refused(given, homeless):
    with pytest.raises(InputError, match=rf"{given}: must be a path without ~, as there is no home folder \(HOME is not set\)"):
        parse("evaluate", f"--workdir={given}")


def test_without_a_home_folder_compiled_programs_are_not_kept(homeless):
    assert execution._usual_cache() is None


def test_without_a_home_folder_a_bucket_is_read_without_credentials(homeless, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    assert in_the_cloud("s3://em-data/a.zarr")[1] == {"aws_credentials": {"type": "anonymous"}}


def test_compiled_programs_are_kept_where_that_is_possible(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert execution._usual_cache() == str(tmp_path / ".cache" / "yseg" / "compiled")
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert execution._usual_cache() is None
