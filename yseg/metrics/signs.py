"""Signs, without a label, that a segmentation became better or worse: how sections agree, what components look like, how much.

Whether an adaptation helped cannot be seen in its loss. But structures go on from one section to the next, and look like those
that were labelled in the source; mistakes do so less.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from yseg.metrics.shapes import Prior, implausible, section_shapes

DISAGREEMENT, IMPLAUSIBILITY = 0.01, 0.05  # by which these may get worse, as they do by chance
FACTOR = 2.0  # by which the share of foreground may leave the range between that of before and that of the source


class Signs(NamedTuple):
    """What a segmentation shows of itself.

    agreement: of the foreground of neighbouring sections, twice its intersection over its sum (Dice), None of one section or
    nothing; plausible: share of the foreground in components that look like the source's, None of nothing; share: of the voxels
    that are foreground.
    """

    agreement: float | None
    plausible: float | None
    share: float


class Verdict(NamedTuple):
    """Whether the network after an adaptation is to be used, and why, in words."""

    adapted: bool
    reason: str


def signs_of(parts: Sequence[np.ndarray], prior: Prior, pixel_size_nm: float,
             tissue: Sequence[np.ndarray] | None = None) -> Signs:
    """The Signs of a mask.

    Args:
      parts: of the mask, bool [z, y, x].
      prior: of the source.
      pixel_size_nm: of the mask, in y and x.
      tissue: where there may be foreground, bool [z, y, x] of each part, of which the share is; None = everywhere.
    """
    if tissue is not None:
        parts = [part & place for part, place in zip(parts, tissue, strict=True)]
    both = either = total = fitting = 0
    voxels = sum(int(np.count_nonzero(place)) for place in tissue) if tissue is not None else sum(part.size for part in parts)
    for number, part in enumerate(parts):
        upper, lower = part[1:], part[:-1]
        if tissue is not None:  # a section that was lost says nothing of those beside it
            upper, lower = upper & tissue[number][:-1], lower & tissue[number][1:]
        both += int(np.count_nonzero(upper & lower))
        either += int(np.count_nonzero(upper) + np.count_nonzero(lower))
        shapes = section_shapes(part)
        fitting += int(shapes.areas[~implausible(shapes, prior, pixel_size_nm)].sum())
        total += int(shapes.areas.sum())
    return Signs(2 * both / either if either else None, fitting / total if total else None, total / voxels)


def judge_adaptation(before: Signs, after: Signs, prior: Prior) -> Verdict:
    """Whether an adaptation helped, as far as the Signs before and after it tell; in doubt, it did not.

    The agreement of sections decides; a mask that grew or shrank beyond reason, or fell into pieces, may agree for another
    reason.
    """
    least, most = (choose(before.share, prior.share) for choose in (min, max))
    if not least / FACTOR <= after.share <= most * FACTOR:
        return Verdict(False, f"the share of foreground went from {before.share:.1%} to {after.share:.1%}, in the source it is"
                              f" {prior.share:.1%}")
    if after.plausible is None:
        return Verdict(False, "it calls nothing foreground")
    if _worse(before.plausible, after.plausible, IMPLAUSIBILITY):
        return Verdict(False, f"the share of it that looks like the source's went from {before.plausible:.2f} to"
                              f" {after.plausible:.2f}")
    if _worse(before.agreement, after.agreement, DISAGREEMENT):
        return Verdict(False, f"the agreement of neighbouring sections went from {before.agreement:.2f} to {after.agreement:.2f}")
    if before.agreement is None or after.agreement is None:
        return Verdict(True, f"components look like the source's as before ({after.plausible:.2f})")
    return Verdict(True, f"the agreement of neighbouring sections went from {before.agreement:.2f} to {after.agreement:.2f}")


def _worse(before, after, tolerance):
    if before is None:
        return False
    return after is None or after < before - tolerance
