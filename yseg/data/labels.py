"""What label values mean: rules such as ">0", and the classes that they make of values."""

import operator
import re
from typing import NamedTuple

import numpy as np

from yseg.config import InputError


class Condition(NamedTuple):
    """A comparison of label values with numbers; the name "classes" means that values are class indices."""

    name: str
    values: tuple[float, ...] = ()

    def holds(self, labels: np.ndarray) -> np.ndarray:
        """Where it is true: bool, of the shape of `labels`."""
        if self.name == "==":
            return np.isin(labels, self.values)
        return _COMPARISONS[self.name](labels, self.values[0])


class LabelRule(NamedTuple):
    """How label values become classes: foreground is class 1 and the rest 0, but where unlabelled holds they become -1."""

    foreground: Condition
    unlabelled: Condition | None = None


_COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def parse_rule(text: str, flag: str) -> Condition:
    """The Condition that '>0', '>=128', '<5', '<=5', '==1,5' or 'classes' means; `flag` is where it was given.

    Raises:
      InputError: it is none of these.
    """
    compact = "".join(text.split())
    if compact == "classes":
        return Condition("classes")
    number = r"-?\d+(?:\.\d+)?"
    found = re.fullmatch(rf"(>=|<=|>|<)({number})|(==)({number}(?:,{number})*)", compact)
    if not found:
        raise InputError(f"{flag}={text!r}: must be a comparison such as '>0', '>=128', '<5' or '==1,5', or 'classes'")
    values = [float(value) for value in (found[2] or found[4]).split(",")]
    return Condition(found[1] or found[3], tuple(int(value) if value.is_integer() else value for value in values))


def label_rule(foreground: str, unlabelled: str, flag: str) -> LabelRule:
    """The LabelRule of a domain's texts (config.Domain); unlabelled may be empty. InputError as in `parse_rule`."""
    if not unlabelled:
        return LabelRule(parse_rule(foreground, f"{flag}.foreground"))
    condition = parse_rule(unlabelled, f"{flag}.unlabelled")
    if condition.name == "classes":
        raise InputError(f"{flag}.unlabelled={unlabelled!r}: must be a comparison such as '==255'")
    return LabelRule(parse_rule(foreground, f"{flag}.foreground"), condition)


def apply_rule(labels: np.ndarray, rule: LabelRule) -> np.ndarray:
    """Label values of any shape as classes int8: -1 = unlabelled.

    Raises:
      InputError: the rule is 'classes' and a value is no class index (0 to 127).
    """
    if rule.foreground.name == "classes":
        invalid = (labels < 0) | (labels > 127)
        if rule.unlabelled:
            invalid &= ~rule.unlabelled.holds(labels)
        if invalid.any():
            raise InputError(f"label value {labels[invalid].flat[0]}: with the foreground rule 'classes' values must be class"
                             " indices from 0 to 127, or unlabelled")
        classes = labels.astype(np.int8)
    else:
        classes = rule.foreground.holds(labels).astype(np.int8)
    if rule.unlabelled:
        classes[rule.unlabelled.holds(labels)] = -1
    return classes
