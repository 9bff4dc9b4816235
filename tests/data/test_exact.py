"""yseg.data.exact: grey levels in wide integers and with large offsets are those of the same image in 8 bits."""

import numpy as np
import pytest
import tensorstore as ts

from yseg.config import Sampling
from yseg.data.exact import differences, is_wide, pivot_of
from yseg.data.grey_levels import statistics, z_score
from yseg.data.grid import Grid
from yseg.data.normalise import normalised

IMAGE = np.random.default_rng(0).normal(120, 30, (3, 40, 50)).clip(1, 255).astype(np.uint8)
CHANGED = {
    "int64": IMAGE.astype(np.int64) * 2**33, "uint64": IMAGE.astype(np.uint64) * 2**55,
    "uint64 high": IMAGE.astype(np.uint64) + np.uint64(2**64 - 300), "int64 low": IMAGE.astype(np.int64) + np.iinfo(np.int64).min,
    "int64 negative": IMAGE.astype(np.int64) - 2**40, "uint32": IMAGE.astype(np.uint32) + 3_000_000_000,
    "int32": IMAGE.astype(np.int32) + np.iinfo(np.int32).min, "float64": IMAGE + 1e9, "float64 large": IMAGE * 1e27,
    "float64 tiny": IMAGE * 1e-30,
    "float32 tiny": IMAGE.astype(np.float32) * np.float32(1e-30), "uint16": IMAGE.astype(np.uint16) * 257,
    "int8": (IMAGE.astype(np.int16) - 128).astype(np.int8)}


def scored(array, normalization, working_nm):
    """An image as a network is given it, float32 [y, x, z]."""
    image = normalised(ts.array(array), Sampling(normalization=normalization), 8.0)
    found = Grid(array.shape, 8.0, working_nm)
    return np.asarray(z_score(found.image(image, found.box).transpose(1, 2, 0)[None], np.array(statistics(image), np.float32)))[0]


@pytest.mark.parametrize("name", CHANGED)
def test_an_image_is_the_same_in_any_type_that_holds_it(name):
    np.testing.assert_allclose(scored(CHANGED[name], "volume", 8.0), scored(IMAGE, "volume", 8.0), atol=1e-4)
    np.testing.assert_allclose(scored(CHANGED[name], "volume", 11.0), scored(IMAGE, "volume", 11.0), atol=0.03)  # whole numbers
    if name not in ("int8", "uint16"):  # of which -128 is 0 here and there, and 0 is no tissue
        np.testing.assert_allclose(scored(CHANGED[name], "section", 8.0), scored(IMAGE, "section", 8.0), atol=1e-4)


@pytest.mark.parametrize("values", [IMAGE * 1e300, IMAGE * 1e-300, IMAGE * np.float32(1e-40), IMAGE * np.float32(1e36)])
@pytest.mark.parametrize("normalization", ["volume", "section"])
def test_what_no_float32_holds_is_named(values, normalization):
    with pytest.raises(ValueError, match="grey levels that differ by"):
        scored(values, normalization, 8.0)


def test_differences_of_whole_numbers_are_exact():
    for dtype, first in (("u8", 2**63), ("u8", 2**64 - 6), ("i8", -2**63), ("i8", 2**62), ("u4", 2**32 - 6), ("i4", -2**31)):
        values = np.array([first, first + 1, first + 5], dtype)
        assert differences(values, int(values[1])).tolist() == [-1, 0, 4]
    ends = np.array([0, 2**64 - 1], np.uint64)
    np.testing.assert_allclose(differences(ends, 2**63), [-2.0**63, 2.0**63])
    np.testing.assert_allclose(differences(np.array([-2**63, 2**63 - 1]), 2**63 - 1), [-2.0**64, 0])


def test_types_that_float32_holds_are_left_alone():
    for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.float16, np.float32):
        assert not is_wide(np.dtype(dtype))
        store = ts.array(np.ones((2, 9, 9), dtype))
        assert normalised(store, Sampling(), 8.0) is store
        assert pivot_of(store) == 0
