"""Grey levels normalised within a volume."""

import numpy as np
import pytest
import tensorstore as ts
from scipy import ndimage

from yseg.config import Sampling
from yseg.data.normalise import normalised

NM = 10.0


def read(image, way, store=None, **fields):
    found = normalised(ts.array(image) if store is None else store, Sampling(normalization=way, **fields), NM)
    assert found.shape == image.shape
    return found.read().result()


@pytest.fixture(scope="module")
def image():
    """Grey levels of two sections [z, y, x] whose brightness and contrast change from one to the other, and across them."""
    random = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(random.standard_normal((2, 600, 540)), (0, 2, 2)) * 4
    slope = np.linspace(0, 1, 540)
    return np.clip(100 + 60 * slope + np.array([10, 25])[:, None, None] * texture * (1 + slope), 1, 255).astype(np.uint8)


def test_by_volume_it_is_the_volume_itself(image):
    store = ts.array(image)
    assert normalised(store, Sampling(), NM) is store


def test_by_section_every_section_has_a_mean_of_0_and_a_deviation_of_1(image):
    found = read(image, "section")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(found[1], (image[1] - image[1].mean()) / image[1].std(), atol=1e-5)


def test_locally_every_place_has(image):
    found = read(image, "local", local_nm=300.0)
    for part in (np.s_[:, 100:500, 100:200], np.s_[:, 100:500, 340:440]):
        np.testing.assert_allclose(found[part].mean((1, 2)), 0, atol=0.05)
        np.testing.assert_allclose(found[part].std((1, 2)), 1, atol=0.1)
    section = image[0].astype(float)
    weight = ndimage.gaussian_filter(np.ones_like(section), 30, mode="constant", truncate=3)
    mean = ndimage.gaussian_filter(section, 30, mode="constant", truncate=3) / weight
    deviation = np.sqrt(ndimage.gaussian_filter(section**2, 30, mode="constant", truncate=3) / weight - mean**2)
    np.testing.assert_allclose(found[0], (section - mean) / deviation, atol=1e-3)


@pytest.mark.parametrize("way", ["section", "local"])
def test_a_linear_change_of_grey_levels_changes_nothing(way, image):
    changed = image.astype(np.float32) * 3.5 + 1000
    np.testing.assert_allclose(read(changed, way), read(image, way), atol=1e-3)


@pytest.mark.parametrize("way", ["section", "local"])
def test_a_border_of_zeros_is_no_tissue(way, image):
    padded = np.pad(image, ((0, 0), (100, 0), (0, 300)))
    found = read(padded, way, local_nm=200.0)
    np.testing.assert_allclose(found[:, 100:, :-300], read(image, way, local_nm=200.0), atol=1e-3)
    assert not found[:, :100].any()
    empty = read(np.zeros((1, 20, 20), np.uint8), way)
    assert not empty.any()


@pytest.mark.parametrize("way", ["section", "local"])
def test_a_part_is_that_of_the_whole_whoever_reads_what_lies_below(way, image):
    """Here a store that is itself made of Python calls, read from many threads at once."""
    def chunk(domain, array, _):
        array[...] = image[domain.index_exp]

    layout = ts.ChunkLayout(read_chunk_shape=(1, 64, 64))
    below = ts.virtual_chunked(chunk, dtype=ts.uint8, shape=image.shape, chunk_layout=layout)
    found = normalised(below, Sampling(normalization=way), NM)
    whole = read(image, way)
    parts = [(np.s_[z:z + 1, y:y + 77, x:x + 91]) for z in (0, 1) for y in (0, 300, 523) for x in (0, 222, 449)]
    for part, read_part in [(part, found[part].read()) for part in parts]:
        np.testing.assert_allclose(read_part.result(), whole[part], atol=1e-5)


@pytest.mark.parametrize("way", ["section", "local"])
def test_constant_grey_levels_are_0(way, image):
    np.testing.assert_allclose(read(np.full((2, 50, 60), 7, np.uint8), way), 0, atol=1e-4)
    one = np.stack([image[0], np.full_like(image[0], 255)])  # a section that was lost
    found = read(one, way)
    np.testing.assert_allclose(found[1], 0, atol=1e-4)
    np.testing.assert_array_equal(found[0], read(image[:1], way)[0])
