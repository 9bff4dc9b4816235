"""Thresholds at which a prediction has as much foreground as the source, which takes no label of the target.

If target and source have about the same share of foreground, this is prior matching, as in Saerens, Latinne and Decaestecker,
Adjusting the outputs of a classifier to new a priori probabilities, Neural Computation 2002, with a known prior.
"""

import numpy as np
from numpy.typing import ArrayLike


def matching_threshold(probabilities: ArrayLike, share: float) -> float:
    """The threshold that a share of the voxels reach.

    Args:
      probabilities: [n], of foreground.
      share: of foreground voxels, in (0, 1).

    Returns:
      float in [0, 1]: `mean(probabilities >= threshold)` is `share` to the nearest voxel, if no two are equal.

    >>> matching_threshold([0.1, 0.2, 0.3, 0.4], 0.25)
    0.4
    """
    values = np.asarray(probabilities).ravel()
    place = values.size - min(max(round(share * values.size), 1), values.size)
    return float(np.partition(values, place)[place])


def bounded_threshold(probabilities: ArrayLike, share: float, *, usual: float, shift: float, excess: float) -> float:
    """The usual threshold, raised towards the matching one by `shift` at most, if clearly too much reaches it.

    A network may call too much, such as the rims of structures, which overlap losses favour; where the source has less, that is
    likely. But the target may have more of it than the source, so that only a small step is taken, and none where the
    difference is no more than that of two parts of one tissue.

    Args:
      probabilities: [n], of foreground.
      share: of foreground in the source, in (0, 1).
      usual: threshold, in [0, 1].
      shift: at least 0.
      excess: over the share, as a part of it, that is not yet too much; at least 0.
    """
    if np.mean(np.asarray(probabilities) >= usual) <= (1 + excess) * share:
        return usual
    return min(matching_threshold(probabilities, share), usual + shift, 1.0)
