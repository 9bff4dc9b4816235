"""The text that --help shows."""

import inspect
import shlex
import shutil
import textwrap
import typing

from yseg.config import METHODS, knobs, required

_PLACEHOLDERS = {"string": "TEXT", "float": "NUMBER", "int": "NUMBER", "string enum": "TEXT"}
_TYPES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def usage(about, values, config=None, given=None):
    """What a program does and all its flags, for people.

    Args:
      about: the program's docstring.
      values: FlagValues with the program's own flags.
      config: the `yseg.config.Experiment` whose knobs can be set, if the program takes one.
      given: the --config flag that it came from; None = it holds the defaults of the dataclasses.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    entries = [_entry(_flag(values[name]), values[name].help, width) for name in values]
    if config:
        entries.insert(0, _entry("--config=FILE.py:METHOD", "the experiment, a file such as those in configs/, and how the"
                                 f" network is adapted: {', '.join(METHODS)}", width))
    parts = [inspect.cleandoc(about), "\n".join(["Flags:", "", *entries])]
    if config:
        parts += _knob_parts(config, given, width)
    return "\n\n".join(parts)


def _flag(flag):
    """ "--image=TEXT", "--overwrite" or "--threshold=0.5"."""
    if flag.boolean:
        return f"--{flag.name}"
    return f"--{flag.name}={_PLACEHOLDERS[flag.flag_type()] if flag.default is None else _text(flag.default)}"


def _knob_parts(config, given, width):
    heading = f"Knobs of the config, with the values of {given}:" if given else (
        "Knobs of the config, with their defaults; `--config=FILE.py:METHOD --help` shows the values of that file:")
    parts, group = [textwrap.fill(heading, width)], None
    for flag, expected, metadata, value in knobs(config):
        path = flag.split(".")[1:-1]
        if path != group:
            group, owner = path, config
            for name in path:
                owner = getattr(owner, name)
            parts.append(textwrap.fill(f"{' '.join(path).capitalize() or 'Experiment'}: {inspect.getdoc(owner)}", width) + "\n")
        parts[-1] += "\n" + _entry(f"{flag}={_text(value)}", f"{metadata['meaning']}; {_allowed(expected, metadata)}", width)
    return parts


def _entry(flag, meaning, width):
    return f"  {flag}\n" + textwrap.fill(meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _text(value):
    """A value as it is typed in a shell."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return ""
    if isinstance(value, tuple):
        return shlex.quote(str(value)) if value else "'()'"
    return shlex.quote(str(value)) if value != "" else ""


def _allowed(expected, metadata):
    if metadata["choices"]:
        return "one of " + ", ".join(metadata["choices"])
    if typing.get_origin(expected) is tuple:
        words = ["texts, such as \"('0:1,:,:',)\"" if str in typing.get_args(expected) else "numbers, such as '(1, 2)'"]
    else:
        words = [_TYPES[required(expected)]]
    words += [f"{words_of} {metadata[name]}" for name, words_of in
              (("at_least", "at least"), ("above", "above"), ("at_most", "at most"), ("below", "below"))
              if metadata[name] is not None]
    return ", ".join(words)
