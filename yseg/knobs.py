"""Knobs: fields of dataclasses that carry their meaning and the values they allow."""

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any

LARGEST = 2**31 - 1  # whole number that a knob may be: what JAX counts with


class InputError(ValueError):
    """A flag, config or input that the user has to change; the message is one line that names it."""


def knob(default: Any, meaning: str, *, choices: tuple[str, ...] | None = None, at_least: float | None = None,
         above: float | None = None, at_most: float | None = None, below: float | None = None) -> Any:
    """A dataclass field with its meaning and the values it allows (bounds hold for every entry of a tuple)."""
    metadata = {"meaning": meaning, "choices": choices, "at_least": at_least, "above": above, "at_most": at_most,
                "below": below}
    return dataclasses.field(default=default, metadata=metadata)


def may_be_empty(expected: Any) -> bool:
    """Whether None is a value of a knob of this type."""
    return type(None) in typing.get_args(expected)


def required(expected: Any) -> Any:
    """The type of a knob's value where it has one."""
    return next(part for part in typing.get_args(expected) if part is not type(None)) if may_be_empty(expected) else expected


def knobs(config: Any, prefix: str = "--config") -> Iterator[tuple[str, Any, Mapping[str, Any], Any]]:
    """Yield (flag, type, metadata, value) for every knob, depth first. A flag is spelt as on the command line."""
    types = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        flag, value = f"{prefix}.{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(types[field.name]):
            yield from knobs(value, flag)
        else:
            yield flag, types[field.name], field.metadata, value


def _check_type(flag, expected, value):
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if value is None and may_be_empty(expected):
        return
    expected = required(expected)
    if typing.get_origin(expected) is tuple:
        entry_type = typing.get_args(expected)[0]
        if not isinstance(value, (tuple, list)):
            raise InputError(f"{flag}={value!r}: must be a list of {'texts' if entry_type is str else 'numbers'}")
        for entry in value:
            _check_type(flag, entry_type, entry)
        return
    allowed = (int, float) if expected is float else (expected,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and expected is not bool):
        raise InputError(f"{flag}={value!r}: must be {names[expected]}")
    if expected is float and not math.isfinite(value):
        raise InputError(f"{flag}={value!r}: must be finite")
    if expected is int and abs(value) > LARGEST:
        raise InputError(f"{flag}={value!r}: must be at most {LARGEST}")


_BOUNDS = (
    ("at_least", "at least", lambda value, bound: value >= bound),
    ("above", "above", lambda value, bound: value > bound),
    ("at_most", "at most", lambda value, bound: value <= bound),
    ("below", "below", lambda value, bound: value < bound),
)


def _check_range(flag, metadata, value):
    if metadata["choices"] and value not in metadata["choices"]:
        raise InputError(f"{flag}={value!r}: must be one of {', '.join(metadata['choices'])}")
    for name, words, holds in _BOUNDS:
        bound = metadata[name]
        entries = value if isinstance(value, (tuple, list)) else (value,)
        if bound is not None and value is not None and not all(holds(entry, bound) for entry in entries):
            raise InputError(f"{flag}={value!r}: must be {words} {bound}")


def check_knobs(config: Any) -> None:
    """Raise InputError, naming the flag, the value and what is allowed, if a knob has a wrong type or is out of its range."""
    for flag, expected, metadata, value in knobs(config):
        _check_type(flag, expected, value)
        _check_range(flag, metadata, value)
