"""What label values mean: rules such as ">0", and the classes that they make of values."""

import math
import operator
import re
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from yseg.config import InputError
from yseg.data.voxel_size import flag_of

Number = int | Fraction  # of a rule, exactly as it was written


class Condition(NamedTuple):
    """A comparison of label values with numbers; the name "classes" means that values are class indices."""

    name: str
    values: tuple[Number, ...] = ()

    def holds(self, labels: np.ndarray) -> np.ndarray:
        """Where it is true: bool, of the shape of `labels`. Whole numbers are compared exactly, whatever their size."""
        if labels.dtype.kind == "f":
            values = [_nearest(value, labels.dtype) for value in self.values]
            if self.name == "==":  # 2^53 + 1 is no float64
                values = [near for near, value in zip(values, self.values, strict=True)
                          if isinstance(value, Fraction) or near == value]
        else:
            labels = labels.astype(np.uint8) if labels.dtype == bool else labels
            values = [_WHOLE[self.name](value) for value in self.values]
            if self.name == "==":
                limits = np.iinfo(labels.dtype)
                values = [found for found, value in zip(values, self.values, strict=True)
                          if found == value and limits.min <= found <= limits.max]
        if self.name == "==":
            return np.isin(labels, np.array(values, labels.dtype))
        return _COMPARISONS[self.name](labels, values[0])


def _nearest(value, dtype):
    """A number as one of a type of floats."""
    try:
        with np.errstate(over="ignore"):
            return dtype.type(float(value))
    except OverflowError:
        return dtype.type(math.copysign(math.inf, value))


class LabelRule(NamedTuple):
    """How label values become classes: foreground is class 1 and the rest 0, but where unlabelled holds they become -1.

    labels: what messages call the volume.
    """

    foreground: Condition
    unlabelled: Condition | None = None
    labels: str = "labels"


_COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_WHOLE = {">": math.floor, ">=": math.ceil, "<": math.ceil, "<=": math.floor, "==": math.floor}  # the same of whole labels


CLASSES = LabelRule(Condition("classes"), Condition("==", (-1,)))  # of labels that are classes, as `apply_rule` returns them


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
    values = [Fraction(value) for value in (found[2] or found[4]).split(",")]
    return Condition(found[1] or found[3], tuple(int(value) if value.denominator == 1 else value for value in values))


def label_rule(foreground: str, unlabelled: str, flag: str) -> LabelRule:
    """The LabelRule of a domain's texts (config.Domain); unlabelled may be empty. InputError as in `parse_rule`."""
    unlabelled_flag = flag_of(flag, "unlabelled")
    condition = parse_rule(unlabelled, unlabelled_flag) if unlabelled else None
    if condition and condition.name == "classes":
        raise InputError(f"{unlabelled_flag}={unlabelled!r}: must be a comparison such as '==255'")
    return LabelRule(parse_rule(foreground, flag_of(flag, "foreground")), condition, flag_of(flag, "labels"))


def apply_rule(labels: np.ndarray, rule: LabelRule) -> np.ndarray:
    """Label values of any shape as classes int8: -1 = unlabelled, as what is not finite (NaN) is, too.

    Raises:
      InputError: the rule is 'classes' and a value is no class index (0 to 127).
    """
    unlabelled = ~np.isfinite(labels) if labels.dtype.kind == "f" else np.zeros(labels.shape, bool)
    if rule.unlabelled:
        unlabelled |= rule.unlabelled.holds(labels)
    if rule.foreground.name == "classes":
        invalid = ((labels < 0) | (labels > 127)) & ~unlabelled
        if labels.dtype.kind == "f":
            invalid |= (np.trunc(labels) != labels) & ~unlabelled
        if invalid.any():
            raise InputError(f"{rule.labels}: label value {labels[invalid].flat[0]}: with the foreground rule 'classes' values"
                             " must be class indices from 0 to 127, or unlabelled")
        classes = np.where(unlabelled, 0, labels).astype(np.int8)
    else:
        classes = rule.foreground.holds(labels).astype(np.int8)
    classes[unlabelled] = -1
    return classes
