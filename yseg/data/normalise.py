"""Grey levels normalised within a volume, where sections or places differ in brightness and contrast."""

import functools
import math

import numpy as np
import tensorstore as ts
from scipy import ndimage

from yseg.config import LOCAL, SECTION, Sampling
from yseg.data.box import Box
from yseg.data.grey_levels import middle

_CHUNK = 512  # rows and columns that are normalised at once
_REACH = 3.0  # deviations at which the window of a local normalisation is cut off
_THREADS = 8  # own ones: those that read what is normalised must not wait for them
_CACHE_BYTES = 2**28
_LEAST = 1e-3  # the least deviation in a window, as a share of the section's


def normalised(image: ts.TensorStore, sampling: Sampling, pixel_size_nm: float) -> ts.TensorStore:
    """An image volume whose grey levels are z-scored within each section or locally, lazily: float32 [z, y, x].

    Voxels of value 0 are taken for places without tissue: they have no part in means and deviations, and become 0.

    Args:
      image: TensorStore [z, y, x].
      sampling: its `normalization`: with "volume" the image itself is returned, which is z-scored where it is used. With
        "section" mean and deviation are those of a section (of the middle 4096 x 4096 pixels of a larger one), with "local"
        those in a Gaussian window of deviation `local_nm`, in y and x.
      pixel_size_nm: of the image.
    """
    if sampling.normalization not in (SECTION, LOCAL):
        return image
    shape = image.shape

    @functools.lru_cache(maxsize=4096)
    def of_section(number):
        values = _read(image[number, *middle(Box.whole(shape))])
        found = values[values != 0]
        return (float(found.mean()), float(found.std()) or 1.0) if found.size else (0.0, 1.0)

    def by_section(number, rows, columns):
        values, (mean, deviation) = _read(image[number, rows, columns]), of_section(number)
        return np.where(values == 0, 0, (values - mean) / deviation)

    def locally(number, rows, columns):
        sigma = sampling.local_nm / pixel_size_nm
        halo = math.ceil(_REACH * sigma)
        wide = tuple(slice(max(place.start - halo, 0), min(place.stop + halo, side))
                     for place, side in zip((rows, columns), shape[1:], strict=True))
        inner = tuple(slice(place.start - around.start, place.stop - around.start)
                      for place, around in zip((rows, columns), wide, strict=True))
        values, (mean, deviation) = _read(image[number, *wide]), of_section(number)
        return _local_z_score((values - mean) / deviation, values != 0, sigma)[inner]

    def read(domain: ts.IndexDomain, array: np.ndarray, _: ts.VirtualChunkedReadParameters) -> None:
        numbers, rows, columns = domain.index_exp
        for place, number in enumerate(range(numbers.start, numbers.stop)):
            array[place] = (by_section if sampling.normalization == SECTION else locally)(number, rows, columns)

    chunk = (1, *(min(_CHUNK, side) for side in shape[1:]))
    return ts.virtual_chunked(
        read, dtype=ts.float32, shape=shape, chunk_layout=ts.ChunkLayout(read_chunk_shape=chunk),
        context=ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}, "data_copy_concurrency": {"limit": _THREADS}}))


def _read(store):
    return store.read().result().astype(np.float64)


def _local_z_score(values, present, sigma):
    """Values where they are present, z-scored by those in a Gaussian window; 0 elsewhere."""
    blurred = functools.partial(ndimage.gaussian_filter, sigma=sigma, mode="constant", truncate=_REACH)
    values = np.where(present, values, 0.0)
    weight = np.maximum(blurred(present.astype(np.float64)), 1e-6)
    mean = blurred(values) / weight
    deviation = np.sqrt(np.maximum(blurred(values**2) / weight - mean**2, _LEAST**2))
    return np.where(present, (values - mean) / deviation, 0.0)
