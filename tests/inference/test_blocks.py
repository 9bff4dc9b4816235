"""Tiled inference against the network applied once to a whole, mirrored section."""

import itertools

import jax
import numpy as np
import pytest
import tensorstore as ts
from tiled import STATISTICS, assemble, random_image, random_network
from tiny import counted

from yseg.config import Inference, InputError, Model
from yseg.data.box import Box, sections_of
from yseg.data.grid import Grid
from yseg.inference.blocks import BLOCK_SIZE, predict_blocks
from yseg.inference.predictor import make_predictor


def setting(tile_size=64, overlap=6, batch_size=1, **model):
    """What the config says of a tiny network and of its tiles; with one level its halo is 14 pixels."""
    return Model(**({"levels": 1, "features": 4} | model)), Inference(tile_size=tile_size, overlap=overlap, batch_size=batch_size)


def blocks_of(setting, image, regions, *, ratio=1.0, block_size=BLOCK_SIZE, predict=None):
    """The blocks of regions of an array or a TensorStore [z, y, x], by a random network."""
    model, inference = setting
    predict = predict or make_predictor(model, inference, random_network(model)[1])
    store = image if isinstance(image, ts.TensorStore) else ts.array(image)
    return predict_blocks(predict, store, Grid(tuple(image.shape), 1.0, ratio), STATISTICS, regions=regions, model=model,
                          inference=inference, block_size=block_size)


def tiled(setting, image, region=None, **how):
    """Probabilities of a region of an array [z, y, x]."""
    region = region or Box.whole(image.shape)
    return assemble(blocks_of(setting, image, [region], **how), region, setting[0].classes)


def whole(setting, image):
    """The same with one application of the network to each whole section, mirrored at its borders."""
    network, variables = random_network(setting[0])
    sections = setting[0].sections
    apply = jax.jit(lambda section: jax.nn.softmax(network.apply(variables, section)))
    around = [(sections // 2, sections // 2), (0, 0), (0, 0)]
    stack = np.pad((image.astype(np.float32) - STATISTICS[0]) / STATISTICS[1], around, "edge")
    margins = [(network.halo, network.halo + -size % network.multiple) for size in image.shape[1:]]
    padded = np.pad(stack, [(0, 0), *margins], "reflect")
    result = [np.asarray(apply(padded[first:first + sections].transpose(1, 2, 0)[None]))[0] for first in range(len(image))]
    (top, _), (left, _) = margins
    return np.stack(result)[:, top:, left:][:, :image.shape[1], :image.shape[2]]


@pytest.mark.parametrize(("levels", "tile_size", "shape"),
                         [(1, 48, (2, 101, 67)), (2, 96, (1, 101, 67)), (1, 640, (1, 9, 13)), (1, 48, (1, 1, 130))])
def test_tiles_give_what_the_whole_section_gives(levels, tile_size, shape):
    how, image = setting(tile_size, levels=levels), random_image(shape)
    np.testing.assert_allclose(tiled(how, image), whole(how, image), atol=1e-5)


@pytest.mark.parametrize(("overlap", "batch_size"), [(0, 1), (1, 3), (10, 3)])
def test_overlap_and_batch_size_do_not_change_the_result(overlap, batch_size):
    how, image = setting(48, overlap, batch_size), random_image((1, 90, 75))
    np.testing.assert_allclose(tiled(how, image), whole(how, image), atol=1e-5)


def test_many_classes_have_probabilities_that_sum_to_one():
    how, image = setting(classes=4), random_image((1, 70, 50))
    probabilities = tiled(how, image)
    np.testing.assert_allclose(probabilities, whole(how, image), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_neighbouring_sections_are_repeated_at_the_ends_and_real_around_a_region():
    how, image = setting(sections=3), random_image((5, 50, 40))
    expected = whole(how, image)
    np.testing.assert_allclose(tiled(how, image), expected, atol=1e-5)
    region = Box((2, 0, 0), (3, 50, 40))
    np.testing.assert_allclose(tiled(how, image, region), expected[2:3], atol=1e-5)


@pytest.mark.parametrize("start", [(1, 17, 29), (0, 93, 0)])
def test_a_region_gets_what_the_volume_gets_there(start):
    how, image = setting(), random_image((2, 97, 90))
    region = Box(start, (2, 97, 61))
    np.testing.assert_allclose(tiled(how, image, region), whole(how, image)[region.slices], atol=1e-5)


@pytest.mark.parametrize(("ratio", "block_size"), [(1.0, 37), (1.7, 20), (0.6, 50)])
def test_blocks_do_not_change_the_result(block_size, ratio):
    how, image = setting(sections=3), random_image((2, 65, 50))
    blocks, block = (tiled(how, image, ratio=ratio, block_size=size) for size in (block_size, 4096))
    np.testing.assert_allclose(blocks, block, atol=1e-5)


def test_large_blocks_start_at_chunks_of_the_output():
    image = ts.virtual_chunked(lambda domain, array, _: array.__setitem__(..., 0), dtype=ts.uint8, shape=[1, 8, 10_000])

    def background(tiles, _):
        return np.ones((*tiles.shape[:3], 2), np.float32)

    boxes = [box for box, _ in blocks_of(setting(), image, [Box((0, 2, 700), (1, 5, 9000))], predict=background)]
    assert [box.start[2] - 700 for box in boxes] == [0, 3072, 6144]
    assert [box.stop[2] for box in boxes] == [3772, 6844, 9000]


@pytest.mark.parametrize("ratio", [0.5, 1.37])
def test_another_pixel_size_is_resampled_to_the_volumes_own_pixels(ratio):
    how, image = setting(), random_image((2, 81, 66))
    grid = Grid(image.shape, 1.0, ratio)
    expected = grid.back(whole(how, grid.image(ts.array(image), grid.box)), grid.box, Box.whole(image.shape))
    np.testing.assert_allclose(tiled(how, image, ratio=ratio), expected, atol=1e-5)
    region = Box((1, 20, 11), (2, 57, 63))
    np.testing.assert_allclose(tiled(how, image, region, ratio=ratio), expected[region.slices], atol=1e-5)


def test_many_regions_give_what_each_gives_alone_one_after_the_other():
    how, image = setting(48, sections=3), random_image((5, 97, 90))
    regions = [Box((3, 17, 29), (5, 97, 61)), Box((0, 0, 0), (2, 40, 90)), Box((3, 5, 1), (4, 6, 2)), Box((0, 0, 0), (2, 40, 90))]
    for ratio, block_size in ((1.0, BLOCK_SIZE), (1.3, 31)):
        alone = [list(blocks_of(how, image, [region], ratio=ratio, block_size=block_size)) for region in regions]
        together = list(blocks_of(how, image, regions, ratio=ratio, block_size=block_size))
        expected = list(itertools.chain.from_iterable(alone))
        assert [box for box, _ in together] == [box for box, _ in expected]
        for (_, found), (_, values) in zip(together, expected, strict=True):
            np.testing.assert_allclose(found, values, atol=1e-5)


def test_sections_of_one_box_have_the_bits_that_they_have_in_it():
    how, image = setting(48), random_image((6, 70, 55))
    box = Box((0, 3, 2), (6, 68, 50))
    parts = [sections_of(box, start, stop) for start, stop in ((4, 5), (0, 2), (4, 5))]
    found = list(blocks_of(how, image, parts))
    assert [place.start[0] for place, _ in found] == [4, 0, 1, 4]
    expected = tiled(how, image, box)
    for place, values in found:
        np.testing.assert_array_equal(values, expected[place.relative_to(box).slices])


def test_all_regions_are_compiled_once(monkeypatch):
    how = setting(48, batch_size=2)
    network, variables = random_network(how[0])
    image, traces = random_image((3, 150, 131)), []
    apply = type(network).apply
    monkeypatch.setattr(type(network), "apply", lambda *args, **kwargs: traces.append(1) or apply(*args, **kwargs))
    predict = make_predictor(*how, variables)
    for regions in ([Box((0, 3, 0), (3, 150, 131))], [Box((0, 3, 0), (1, 150, 131)), Box((2, 9, 30), (3, 60, 131))]):
        del traces[:]
        assert len(list(blocks_of(how, image, regions, block_size=60, predict=predict))) > len(regions)
        assert len(traces) <= 1


def test_every_section_of_a_narrow_volume_is_read_once():
    image = random_image((6, 20, 20))
    store, reads = counted(image)
    blocks = blocks_of(setting(sections=5), store, [Box.whole(image.shape)])
    next(blocks)
    assert max(place[0].start for place in reads) <= 3  # sections 0 to 2 for the first block, and 3 ahead
    for _ in blocks:
        pass
    assert sorted(place[0].start for place in reads) == list(range(6))


def test_the_smallest_tile_gives_the_same_and_a_smaller_one_is_refused_before_a_block_is_asked_for():
    image = random_image((1, 50, 50))
    network, _ = random_network(setting()[0])
    smallest = 2 * network.halo + 6 + network.multiple
    with pytest.raises(InputError, match=rf"^inference\.tile_size={smallest - 1}: must be at least {smallest} "):
        blocks_of(setting(smallest - 1), image, [Box.whole(image.shape)])
    np.testing.assert_allclose(tiled(setting(smallest), image), whole(setting(), image), atol=1e-5)


def test_a_diverged_model_is_named():
    how, image = setting(), random_image((1, 20, 20))
    variables = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), random_network(how[0])[1])
    with pytest.raises(InputError, match="section 0: probabilities are not finite"):
        tiled(how, image, predict=make_predictor(*how, variables))
