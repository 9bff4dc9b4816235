"""A short fuzz of the command line; `python -m tests.fuzz` is the long one."""

import random

from tests.fuzz import PROGRAMS, campaign, command_line, write_inputs


def test_random_command_lines_begin_their_work_or_get_one_line_and_exit_code_2(tmp_path):
    codes, faults = campaign(100, 1, tmp_path)
    assert faults == []
    assert codes[2] > 30  # of both there are many
    assert codes[None] > 10


def test_a_seed_gives_the_same_command_lines(tmp_path):
    paths = write_inputs(tmp_path)
    lines = [[command_line(name, paths, tmp_path / "new", random.Random(seed)) for name in PROGRAMS] for seed in (1, 1, 2)]
    assert lines[0] == lines[1] != lines[2]
