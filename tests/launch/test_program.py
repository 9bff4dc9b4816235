"""What a command line means, and --help."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch import check, evaluate, program, segment, train
from launch.complaints import with_flags
from yseg.config import Experiment, InputError, knobs, may_be_empty, required
from yseg.runs.resolve import resolve

ROOT = Path(__file__).parents[2]
DEMO = f"--config={ROOT / 'configs/demo.py'}:ynet"


def parse(*arguments):
    return program.parse(train.PROGRAM, ["train", *arguments])


def test_every_knob_can_be_overridden():
    changed = {int: "9", float: "0.25", str: "x"}
    for flag, expected, metadata, value in knobs(Experiment()):
        text = str(not value).lower() if expected is bool else changed.get(required(expected), "(0.5, 0.25)")
        text = metadata["choices"][-1] if metadata["choices"] else text
        arguments = ["train", DEMO, "--workdir=w", f"{flag}={text}"]
        try:
            config = program.parse(train.PROGRAM, arguments).config
        except InputError as error:  # 9 sections are fine, 9 levels are not, but the value has arrived
            assert flag in str(error)  # noqa: PT017
            assert "unknown" not in str(error)  # noqa: PT017
            continue
        parsed = next(found for name, *_, found in knobs(config) if name == flag)
        assert parsed != value or text == str(value), flag
        assert type(parsed) is (required(expected) if may_be_empty(expected) else type(value))


def test_overrides_hold_wherever_they_stand():
    for arguments in ((DEMO, "--config.optimizer.steps=7", "--workdir=w"), ("--config.optimizer.steps=7", "--workdir=w", DEMO),
                      ("--workdir", "w", "--config.optimizer.steps", "7", *DEMO.split("="))):
        values = parse(*arguments)
        assert (values.config.optimizer.steps, values.workdir) == (7, "w")


def test_switches_and_lists():
    config = parse(DEMO, "--workdir=w", "--noconfig.augmentation.flip", "--config.loss.class_weights=(1, 2.5)",
                   "--config.source.foreground===1,5").config
    assert config.augmentation.flip is False
    assert config.loss.class_weights == (1, 2.5)
    assert config.source.foreground == "==1,5"


def test_one_command_line_leaves_no_trace_in_the_next():
    before = parse(DEMO, "--workdir=w").config
    parse(DEMO, "--workdir=w", "--config.optimizer.steps=7")
    assert dataclasses.asdict(parse(DEMO, "--workdir=w").config) == dataclasses.asdict(before)


@pytest.mark.parametrize("module", [train, check, evaluate, segment], ids=lambda module: module.__name__)
def test_help_shows_what_a_program_does_and_its_own_flags_only(module, capsys):
    with pytest.raises(SystemExit) as exit_:
        program.run(module.PROGRAM, ["program", "--help"])
    shown = capsys.readouterr().out
    assert exit_.value.code == 0
    assert f"python -m {module.__name__}" in shown
    assert "--workdir=" in shown
    assert not re.search("--(pdb|verbosity|logtostderr|helpxml)", shown)


def test_help_shows_every_knob_with_its_meaning_and_what_is_allowed(capsys):
    with pytest.raises(SystemExit):
        program.run(train.PROGRAM, ["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for flag, _, metadata, _ in knobs(Experiment()):
        assert f"{flag}=" in shown
        assert metadata["meaning"] in shown
        assert ", ".join(metadata["choices"] or ()) in shown


def test_help_shows_the_values_of_a_given_config(capsys):
    with pytest.raises(SystemExit):
        program.run(train.PROGRAM, ["train", DEMO, "--config.optimizer.steps=77", "--help"])
    assert "--config.optimizer.steps=77\n" in capsys.readouterr().out


@pytest.mark.parametrize("script", [*sorted(ROOT.glob("launch/*.sh")), ROOT / ".ci/run"], ids=lambda path: path.name)
def test_shell_scripts_are_valid_and_can_be_executed(script):
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], capture_output=True, check=True).stderr == b""


@pytest.mark.parametrize(("message", "shown"), [
    ("inference.tile_size=20: must be at least 46 for model.levels=2",
     "--config.inference.tile_size=20: must be at least 46 for --config.model.levels=2"),
    ("model.classes=3, optimizer.steps=0: must be", "--config.model.classes=3, --config.optimizer.steps=0: must be"),
    ("--workdir=a: holds a run with (target_labels.use=only)", "--workdir=a: holds a run with (--config.target_labels.use=only)"),
    ("the loss is nan; try a smaller optimizer.learning_rate", "the loss is nan; try a smaller --config.optimizer.learning_rate"),
    ("see adaptation.reconstruction_source.", "see --config.adaptation.reconstruction_source."),
    ("method=ft: must be a method with a weight", "--config.method=ft: must be a method with a weight"),
])
def test_knobs_in_a_message_are_spelt_as_on_the_command_line(message, shown):
    assert with_flags(message) == shown


@pytest.mark.parametrize("message", [
    "--config.inference.tile_size=20: must be",
    "--workdir=/data/inference.tile_size=20/run: no such folder",
    "--workdir=runs/optimizer.steps: no such folder",
    "--workdir=optimizer.steps: no such folder",
    "--pixel_size_nm is missing: must be the size of a pixel, in y and x, of --image=source.image, in nm",
    "--image=source.labels.tif: no such file or folder",
    "'model.levels.tif': must be a flag, --NAME=VALUE",
    "--seed=3: must be above 3",
    "the seed, the method and the name of a model, its levels and classes",
    "mymodel.levels=3, model.levelsize=3, model.level=3, my_seed=3",
])
def test_paths_and_other_words_in_a_message_are_left_alone(message):
    assert with_flags(message) == message


def shown_by_help(*arguments):
    """What --help prints, by flag: (what is typed, what it means), as one line each."""
    values = program._help(train.PROGRAM, ["train", *arguments, "--help"])
    entries = re.findall(r"^  (--\S+?)(=.*)?\n((?:      .*\n?)+)", values, re.MULTILINE)
    return {flag: (typed.removeprefix("="), " ".join(meaning.split())) for flag, typed, meaning in entries}


def test_help_says_that_boxes_are_texts():
    typed, meaning = shown_by_help()["--config.target_labels.boxes"]
    assert typed == "'()'"
    assert "texts, such as \"('0:1,:,:',)\"" in meaning
    assert "numbers" not in meaning.split("; ")[-1]


@pytest.mark.parametrize("arguments", [(), (DEMO,)])
def test_help_shows_nothing_where_a_knob_is_empty_and_what_may_be_typed_everywhere_else(arguments):
    shown = shown_by_help(*arguments)
    config = parse(*arguments, "--workdir=w").config if arguments else Experiment()
    for flag, expected, _, value in knobs(config):
        typed, meaning = shown[flag]
        assert "None" not in typed + meaning, flag
        assert "NoneType" not in meaning, flag
        if value in (None, ""):
            assert typed == "", flag
        else:
            assert shlex.split(typed) == [format_of(value)], flag
        kind = required(expected)
        if kind in (int, float):
            assert {int: "a whole number", float: "a number"}[kind] in meaning, flag


def format_of(value):
    """A value as a command line takes it."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("module", [evaluate, segment], ids=lambda module: module.__name__)
def test_the_statistics_of_the_training_may_be_called_the_sources(module):
    given = ["--workdir=w", *(["--image=a.tif", "--output=b.zarr"] if module is segment else [])]
    for name in ("source", "training", "target", "mixed"):
        assert program.parse(module.PROGRAM, ["program", *given, f"--batch_statistics={name}"]).batch_statistics == name
    config = parse(DEMO, "--workdir=w", "--config.model.batch_statistics=source").config
    assert resolve(config).model.batch_statistics == "training"


@pytest.mark.slow
def test_help_may_be_cut_by_what_reads_it():
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([sys.executable, "-m", "launch.train", "--help"], stdout=write, stderr=subprocess.PIPE,
                           check=False, cwd=ROOT, timeout=120)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, b"")
