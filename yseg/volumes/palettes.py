"""What stored values mean: palettes, white as 0, few bits, transparency.

Images are as a viewer shows them; label values are indices. A palette of grey levels is resolved in both, as optimisers of files
store grey levels so; one of colours cannot be an image, and its indices are the labels.
"""

from collections.abc import Callable

import numpy as np

Meaning = Callable[[np.ndarray], np.ndarray]


def of_palette(colours: np.ndarray, *, labels: bool) -> Meaning | None:
    """What indices of a palette mean, as a function of them; None = the indices themselves.

    Args:
      colours: [n, 3], uint8 or uint16.
      labels: whether they are labels.

    Raises:
      ValueError: an image in colour.
    """
    if not (colours == colours[:, :1]).all():
        if labels:
            return None
        raise ValueError("it has a palette of colours; must be grey levels")
    levels = colours[:, 0]
    if levels.dtype == np.uint16 and not (levels % 257).any():  # 8 bits, written with 16
        levels = (levels // 257).astype(np.uint8)

    def resolved(indices):
        if indices.size and int(indices.max()) >= len(levels):
            raise ValueError(f"index {int(indices.max())} is not in its palette of {len(levels)}")
        return levels[indices.astype(np.intp)]

    return resolved


def of_white_as_0(dtype: np.dtype, bits: int, *, labels: bool) -> Meaning:
    """Grey levels that are stored with white as 0.

    Raises:
      ValueError: labels of more than 1 bit, or a type with a sign.
    """
    if dtype.kind == "b":
        return np.logical_not
    if labels or dtype.kind != "u":
        raise ValueError(f"it is stored with white as 0 (WhiteIsZero) in {dtype}, which says nothing certain; must be stored with"
                         " black as 0")
    white = dtype.type(2**bits - 1)
    return lambda values: white - values


def of_few_bits(bits: int, *, labels: bool) -> Meaning | None:
    """Grey levels of 2 or 4 bits as 8 bits; None = the stored values."""
    if labels or bits not in (2, 4):
        return None
    factor = np.uint8(255 // (2**bits - 1))
    return lambda values: values * factor


def lossy_note(name: str) -> str:
    """What is said of label values that are compressed as JPEG."""
    return (f"{name}: is compressed as JPEG, which changes label values, as 0 and 255 to values near them; give a file that is"
            " compressed without loss, or of labels the foreground rule '>=128'")


def without_alpha(values: np.ndarray) -> np.ndarray:
    """Pixels without their last channel, which must say that they are opaque; ValueError if not."""
    alpha = values[..., -1]
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
    if (alpha != opaque).any():
        raise ValueError("some of its pixels are transparent; must be opaque")
    return values[..., 0] if values.shape[-1] == 2 else values[..., :-1]
