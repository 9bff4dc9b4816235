"""Grey levels normalised within a volume: as a whole, or where sections or places differ in brightness and contrast."""

import functools
import math

import numpy as np
import tensorstore as ts
from scipy import ndimage

from yseg.config import LOCAL, SECTION, Sampling
from yseg.data.box import Box
from yseg.data.exact import differences, is_wide, pivot_of
from yseg.data.grey_levels import check_spread, middle, statistics
from yseg.data.lazy import computed, once

_REACH = 3.0  # deviations at which the window of a local normalisation is cut off
_LEAST = 1e-3  # the least deviation in a window, as a share of the section's


def normalised(image: ts.TensorStore, sampling: Sampling, pixel_size_nm: float,
               mask: ts.TensorStore | None = None) -> ts.TensorStore:
    """An image volume as a network may be given it, lazily: [z, y, x], the image itself where nothing is to be changed.

    Args:
      image: TensorStore [z, y, x].
      sampling: its `normalization`. With "volume" voxels without tissue get the mean of the tissue, which the network takes for
        nothing. The result is z-scored where it is used; but grey levels that float32 cannot hold (`yseg.data.exact`) are
        z-scored here, as float32. With "section" they are z-scored by mean and deviation of a section (of the middle
        4096 x 4096 pixels of a larger one), with "local" by those in a Gaussian window of deviation `local_nm`, in y and x;
        voxels without tissue have no part in it and become 0, and the result is float32.
      pixel_size_nm: of the image.
      mask: uint8 [z, y, x], where there is tissue; None = everywhere, but by section or locally not where voxels are 0.
    """
    if sampling.normalization in (SECTION, LOCAL):
        return _by_place(image, sampling, pixel_size_nm, mask)
    if is_wide(image.dtype.numpy_dtype):
        return _z_scored(image, mask)
    return image if mask is None else _filled(image, mask)


def _filled(image, mask):
    """The image with the mean of its tissue elsewhere, in its own type."""
    dtype = image.dtype.numpy_dtype

    @once
    def mean():
        found = statistics(image, mask=mask)[0]
        return dtype.type(np.rint(found) if dtype.kind in "ui" else found)

    return computed(lambda box: np.where(_read(mask, box), _read(image, box), mean()), dtype, image.shape)


def _z_scored(image, mask):
    """The image z-scored in float64, as float32; 0 without tissue."""
    @once
    def levels():
        pivot = pivot_of(image)
        return pivot, *statistics(image, mask=mask, pivot=pivot)

    def read(box):
        pivot, mean, deviation = levels()
        values = (differences(_read(image, box), pivot) - mean) / deviation
        return values if mask is None else np.where(_read(mask, box), values, 0)

    return computed(read, np.float32, image.shape)


def _by_place(image, sampling, pixel_size_nm, mask):
    """The image z-scored within sections or locally."""
    shape, pivot = image.shape, once(lambda: pivot_of(image))

    def read_present(box):
        values = _read(image, box)
        return differences(values, pivot()), values != 0 if mask is None else _read(mask, box) != 0

    @functools.lru_cache(maxsize=4096)
    def of_section(number):
        rows, columns = middle(Box.whole(shape))
        values, present = read_present(Box((number, rows.start, columns.start), (number + 1, rows.stop, columns.stop)))
        found = values[present]
        if found.size:
            check_spread(found, number)
        return (float(found.mean()), float(found.std()) or 1.0) if found.size else (0.0, 1.0)

    def by_section(box):
        (values, present), (mean, deviation) = read_present(box), of_section(box.start[0])
        return np.where(present, (values - mean) / deviation, 0)

    def locally(box):
        sigma = sampling.local_nm / pixel_size_nm
        halo = math.ceil(_REACH * sigma)
        wide = Box((box.start[0], *(max(start - halo, 0) for start in box.start[1:])),
                   (box.stop[0], *(min(stop + halo, side) for stop, side in zip(box.stop[1:], shape[1:], strict=True))))
        (values, present), (mean, deviation) = read_present(wide), of_section(box.start[0])
        found = _local_z_score((values[0] - mean) / deviation, present[0], sigma)
        return found[None][box.relative_to(wide).slices]

    return computed(by_section if sampling.normalization == SECTION else locally, np.float32, shape)


def _read(store, box):
    return store[box.slices].read().result()


def _local_z_score(values, present, sigma):
    """Values [y, x] where they are present, z-scored by those in a Gaussian window; 0 elsewhere."""
    blurred = functools.partial(ndimage.gaussian_filter, sigma=sigma, mode="constant", truncate=_REACH)
    values = np.where(present, values, 0.0)
    weight = np.maximum(blurred(present.astype(np.float64)), 1e-6)
    mean = blurred(values) / weight
    deviation = np.sqrt(np.maximum(blurred(values**2) / weight - mean**2, _LEAST**2))
    return np.where(present, (values - mean) / deviation, 0.0)
