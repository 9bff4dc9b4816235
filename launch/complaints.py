"""The one line that a program ends with if it could not do what it was asked for, and its exit code."""

import re
import sys

from yseg.config import Experiment, knobs

DONE, FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


def complain(message, code):
    """Print one line on standard error; returns the exit code."""
    print(with_flags(" ".join(str(message).split())), file=sys.stderr, flush=True)
    return code


def knob_names():
    """The names of all knobs, "config.GROUP.NAME"."""
    return [flag.removeprefix("--") for flag, *_ in knobs(Experiment())]


def with_flags(message):
    """A message with the config's knobs, such as model.levels=3, as they are spelt on the command line."""
    names = sorted((name.removeprefix("config.") for name in knob_names()), key=len, reverse=True)
    known = "|".join(re.escape(name) + (r"\b" if "." in name else "(?==)") for name in names)  # such as seed=0 alone
    return re.sub(rf"(?<![\w./='-])({known})(?!\.\w)", r"--config.\1", message)
