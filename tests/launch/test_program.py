"""What a command line means, and --help."""

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

from launch import evaluate, program, segment, train
from yseg.config import Experiment, InputError, knobs

ROOT = Path(__file__).parents[2]
DEMO = f"--config={ROOT / 'configs/demo.py'}:ynet"


def parse(*arguments):
    return program.parse(train.PROGRAM, ["train", *arguments])


def test_every_knob_can_be_overridden():
    changed = {int: "9", float: "0.25", str: "x"}
    for flag, expected, metadata, value in knobs(Experiment()):
        text = str(not value).lower() if expected is bool else changed.get(expected, "(0.5, 0.25)")
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
        assert type(parsed) is type(value)


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


@pytest.mark.parametrize("module", [train, evaluate, segment], ids=lambda module: module.__name__)
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
