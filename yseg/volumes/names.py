"""What the names of the files of a folder say: which of them are sections, their order and their numbers."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yseg.config import InputError

_NAMED = 5  # numbers or names that a message lists
_MOST_STEPS = 100_000  # between the first and the last number; time stamps have more, and count no sections
_ALLOWED = ("; the names of a folder's sections must differ in one number (s_001, s_002, ...): rename them, or keep what is no"
            " section elsewhere")


class Order(NamedTuple):
    """The files of a folder in their order."""

    files: tuple[str, ...]
    numbers: tuple[int, ...] | None  # of the sections, increasing; None = their names have none, or one file has several
    stems: tuple[str, ...] = ()  # without numbers: what the names have not in common, in small letters
    notes: tuple[str, ...] = ()  # what the user should know of the order; one line each


def in_order(files: Sequence[str], name: str) -> Order:
    """The order that the names of a folder's files say; numbers are compared as numbers, text without case.

    The numbers of the sections are the first ones of which each file has another, in the order of all that the names have. Other
    such numbers must not say another order. Names of unlike text, or without any number, are taken with a note.

    Args:
      files: names with endings, at least one.
      name: what messages call the folder.

    Returns:
      Order, which does not depend on that of `files`.

    Raises:
      InputError: names from which the order, or which of the files are sections, can only be guessed.
    """
    files = sorted(files)
    stems = [Path(file).stem.casefold() for file in files]
    parts = [re.split(r"([0-9]+)", stem) for stem in stems]
    if all(len(part) == 1 for part in parts):
        return _alphabetical(files, stems, name)
    rows = sorted((tuple(int(number) for number in part[1::2]), part[::2], file)
                  for part, file in zip(parts, files, strict=True))
    values, texts, files = zip(*rows, strict=True)
    for place, (one, other) in enumerate(itertools.pairwise(values)):
        if one == other:
            raise InputError(f"{name}: {files[place]} and {files[place + 1]} have the same number{_ALLOWED}")
    unlike = next((place for place, text in enumerate(texts) if _form(text) != _form(texts[0])), None)
    if unlike is not None:
        raise InputError(f"{name}: {files[0]} and {files[unlike]} are named unlike each other{_ALLOWED}")
    single = [number for number, column in enumerate(zip(*values, strict=True)) if len(set(column)) == len(files)]
    clear = [number for number in single if _increase([value[number] for value in values])]
    # Of others, such as 0.99, 1.00, 1.01 or a date and a time, all together may increase.
    if not clear or (clear != single and not _increase([(*value[:clear[0]], *value[clear[0] + 1:]) for value in values])):
        raise InputError(f"{name}: {files[0]} to {files[-1]} differ in several numbers, and no one of them alone says the order"
                         f"{_ALLOWED}")
    numbers = tuple(value[clear[0]] for value in values) if len(files) > 1 or len(clear) == 1 else None
    notes = _gaps(numbers, name) if numbers else ()
    other = next((place for place, text in enumerate(texts) if text != texts[0]), None)
    if other is not None:
        notes = (f"{name}: its files are named unlike each other ({files[0]}, {files[other]}); all are taken for sections, in the"
                 " order of their numbers", *notes)
    return Order(files, numbers, notes=notes)


def listed(found: Sequence[object]) -> str:
    """Numbers or names for messages."""
    return ", ".join(map(str, found[:_NAMED])) + (f", ... ({len(found)} in all)" if len(found) > _NAMED else "")


def _increase(values: Sequence[Any]) -> bool:
    return list(values) == sorted(values)


def _alphabetical(files: Sequence[str], stems: Sequence[str], name: str) -> Order:
    """The order of names without numbers: that of what they have not in common, so that a_raw, b_raw go with a, b."""
    own = _unshared(stems)
    rows = sorted(zip(own, stems, files, strict=True))
    for (_, one, file), (_, other, another) in itertools.combinations(rows, 2) if len(rows) > 1 else ():
        if other.startswith(one) and not other[len(one):len(one) + 1].isalnum():  # "a" and "a - Copy" or "a_mask", too
            raise InputError(f"{name}: {file} and {another} may be one section{_ALLOWED}")
    notes = () if len(rows) == 1 else (f"{name}: no numbers in the names of its files, which are taken in alphabetical order:"
                                       f" {listed([row[2] for row in rows])}",)
    return Order(tuple(row[2] for row in rows), None, tuple(row[0] for row in rows), notes)


def _form(texts: Sequence[str]) -> tuple[bool, ...]:
    """What has to be alike for numbers to be comparable: how many there are, and before which there may be a minus sign."""
    return tuple(text.endswith(("-", "\u2212")) for text in texts[:-1])


def _unshared(stems: Sequence[str]) -> tuple[str, ...]:
    """Names without what they all begin and end with."""
    start = _shared(stems)
    end = _shared([stem[start:][::-1] for stem in stems])
    return tuple(stem[start:len(stem) - end] for stem in stems)


def _shared(texts: Sequence[str]) -> int:
    """How many letters all texts begin with."""
    return sum(1 for _ in itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False)))


def _gaps(numbers: Sequence[int], name: str) -> tuple[str, ...]:
    """What is said of numbers that are left out, where the others follow each other in equal steps."""
    step = min((later - earlier for earlier, later in itertools.pairwise(numbers)), default=0)
    if len(numbers) < 3 or (numbers[-1] - numbers[0]) // step > _MOST_STEPS:
        return ()
    left_out = sorted(set(range(numbers[0], numbers[-1], step)) - set(numbers))
    if not left_out or any((number - numbers[0]) % step for number in numbers):
        return ()
    return (f"{name}: of its sections {numbers[0]} to {numbers[-1]} there is no {listed(left_out)}; those beside are taken for"
            " neighbours",)
