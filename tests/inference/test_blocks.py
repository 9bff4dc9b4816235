"""Tiled inference against the network applied once to a whole, mirrored section."""

import itertools

import jax
import numpy as np
import pytest
import tensorstore as ts

from yseg.config import Experiment, Inference, InputError, Model
from yseg.data.box import Box
from yseg.data.grid import Grid
from yseg.data.labels import LabelRule, apply_rule, parse_rule
from yseg.inference.blocks import predict_blocks
from yseg.inference.outputs import predicted_classes, score, write_segmentation
from yseg.inference.predictor import make_predictor
from yseg.inference.tiling import make_tiling
from yseg.metrics.counts import Counts, scores
from yseg.models import build_network
from yseg.models.unet import receptive_radius
from yseg.trained.network import with_augmentation
from yseg.volumes.volume import create_volume, open_volume

STATISTICS = (120.0, 40.0)


def experiment(tile_size=64, overlap=6, batch_size=1, **model):
    """A tiny network; with one level its halo is 14 pixels."""
    model = Model(**({"levels": 1, "features": 4} | model))
    return Experiment(model=model, inference=Inference(tile_size=tile_size, overlap=overlap, batch_size=batch_size))


def random_variables(config, seed=0):
    """Random parameters and running statistics, all different from how they are initialised."""
    network = build_network(config.model, "ft")
    shape = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 16, 16, config.model.sections), np.float32))
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("var", "scale"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        spread = np.sqrt(1 / np.prod(leaf.shape[:-1])) if name == "kernel" else 0.1
        return random.normal(0, spread, leaf.shape).astype(np.float32)

    return network, jax.tree_util.tree_map_with_path(draw, shape)


def random_image(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def assemble(blocks, region, classes=2):
    """All blocks in one array [z, y, x, class]; every voxel must come exactly once."""
    result, times = np.zeros((*region.shape, classes), np.float32), np.zeros(region.shape, int)
    for box, probabilities in blocks:
        assert probabilities.shape == (*box.shape, classes)
        assert probabilities.dtype == np.float32
        place = tuple(slice(first - origin, last - origin)
                      for first, last, origin in zip(box.start, box.stop, region.start, strict=True))
        result[place] = probabilities
        times[place] += 1
    assert (times == 1).all()
    return result


def tiled(config, image, region=None, ratio=1.0, block_size=4096, variables=None):
    """Probabilities of a region of an array [z, y, x]."""
    network, drawn = random_variables(config)
    region = region or Box.whole(image.shape)
    blocks = predict_blocks(make_predictor(config, variables or drawn), network, ts.array(image), Grid(image.shape, 1.0, ratio),
                            STATISTICS, region, config, block_size)
    return assemble(blocks, region, config.model.classes)


def whole(config, image):
    """The same with one application of the network to each whole section, mirrored at its borders."""
    network, variables = random_variables(config)
    sections = config.model.sections
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
    config, image = experiment(tile_size, levels=levels), random_image(shape)
    np.testing.assert_allclose(tiled(config, image), whole(config, image), atol=1e-5)


@pytest.mark.parametrize(("overlap", "batch_size"), [(0, 1), (1, 3), (10, 3)])
def test_overlap_and_batch_size_do_not_change_the_result(overlap, batch_size):
    config, image = experiment(48, overlap, batch_size), random_image((1, 90, 75))
    np.testing.assert_allclose(tiled(config, image), whole(config, image), atol=1e-5)


def test_many_classes_have_probabilities_that_sum_to_one():
    config, image = experiment(classes=4), random_image((1, 70, 50))
    probabilities = tiled(config, image)
    np.testing.assert_allclose(probabilities, whole(config, image), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_neighbouring_sections_are_repeated_at_the_ends_and_real_around_a_region():
    config, image = experiment(sections=3), random_image((5, 50, 40))
    expected = whole(config, image)
    np.testing.assert_allclose(tiled(config, image), expected, atol=1e-5)
    region = Box((2, 0, 0), (3, 50, 40))
    np.testing.assert_allclose(tiled(config, image, region), expected[2:3], atol=1e-5)


@pytest.mark.parametrize("start", [(1, 17, 29), (0, 93, 0)])
def test_a_region_gets_what_the_volume_gets_there(start):
    config, image = experiment(), random_image((2, 97, 90))
    region = Box(start, (2, 97, 61))
    np.testing.assert_allclose(tiled(config, image, region), whole(config, image)[region.slices], atol=1e-5)


@pytest.mark.parametrize(("ratio", "block_size"), [(1.0, 37), (1.7, 20), (0.6, 50)])
def test_blocks_do_not_change_the_result(block_size, ratio):
    config, image = experiment(sections=3), random_image((2, 65, 50))
    blocks, block = (tiled(config, image, ratio=ratio, block_size=size) for size in (block_size, 4096))
    np.testing.assert_allclose(blocks, block, atol=1e-5)


def test_large_blocks_start_at_chunks_of_the_output():
    image = ts.virtual_chunked(lambda domain, array, _: array.__setitem__(..., 0), dtype=ts.uint8, shape=[1, 8, 10_000])
    config = experiment()
    network, _ = random_variables(config)

    def background(tiles, _):
        return np.ones((*tiles.shape[:3], 2), np.float32)

    region = Box((0, 2, 700), (1, 5, 9000))
    blocks = predict_blocks(background, network, image, Grid(image.shape, 1.0, 1.0), STATISTICS, region, config)
    boxes = [box for box, _ in blocks]
    assert [box.start[2] - 700 for box in boxes] == [0, 3072, 6144]
    assert [box.stop[2] for box in boxes] == [3772, 6844, 9000]


@pytest.mark.parametrize("ratio", [0.5, 1.37])
def test_another_pixel_size_is_resampled_to_the_volumes_own_pixels(ratio):
    config, image = experiment(), random_image((2, 81, 66))
    grid = Grid(image.shape, 1.0, ratio)
    expected = grid.back(whole(config, grid.image(ts.array(image), grid.box)), grid.box, Box.whole(image.shape))
    np.testing.assert_allclose(tiled(config, image, ratio=ratio), expected, atol=1e-5)
    region = Box((1, 20, 11), (2, 57, 63))
    np.testing.assert_allclose(tiled(config, image, region, ratio), expected[region.slices], atol=1e-5)


def test_a_region_is_compiled_once(monkeypatch):
    config = experiment(48, batch_size=2)
    network, variables = random_variables(config)
    image, traces = random_image((3, 150, 131)), []
    apply = type(network).apply
    monkeypatch.setattr(type(network), "apply", lambda *args, **kwargs: traces.append(1) or apply(*args, **kwargs))
    predict = make_predictor(config, variables)
    region = Box((0, 3, 0), (3, 150, 131))
    grid = Grid(image.shape, 1.0, 1.0)
    assemble(predict_blocks(predict, network, ts.array(image), grid, STATISTICS, region, config, 60), region)
    assert len(traces) == 1


def test_every_section_of_a_narrow_volume_is_read_once():
    config, image = experiment(sections=5), random_image((6, 20, 20))
    network, variables = random_variables(config)
    reads = []

    def read(domain, array, _):
        reads.append(domain[0].inclusive_min)
        array[...] = image[domain.index_exp]

    store = ts.virtual_chunked(read, dtype=ts.uint8, shape=image.shape, chunk_layout=ts.ChunkLayout(read_chunk_shape=[1, 20, 20]))
    blocks = predict_blocks(make_predictor(config, variables), network, store, Grid(image.shape, 1.0, 1.0), STATISTICS,
                            Box.whole(image.shape), config)
    next(blocks)
    assert sorted(reads)[-1] <= 3  # sections 0 to 2 for the first block, and 3 ahead
    for _ in blocks:
        pass
    assert sorted(reads) == list(range(6))


@pytest.mark.parametrize("overlap", [0, 4, 16])
@pytest.mark.parametrize("span", [(0, 300), (13, 14), (5, 161)])
def test_weights_sum_to_one_and_cores_cover_the_span(overlap, span):
    network = build_network(Model(levels=2, features=4), "ft")
    tiling = make_tiling(network, Inference(tile_size=144, overlap=overlap), [span, (0, 7)])
    starts = tiling.starts(*span)
    assert starts[0] <= span[0]
    assert starts[-1] + tiling.core >= span[1]
    assert tiling.size <= 144
    assert all(size % network.multiple == 0 for size in (tiling.size, tiling.halo, *starts))
    weights = tiling.weights(len(starts))
    total = np.zeros(starts[-1] + tiling.core)
    for start, weight in zip(starts, weights, strict=True):
        total[start:start + tiling.core] += weight
    np.testing.assert_allclose(total[starts[0]:], 1, atol=1e-6)
    if len(starts) > 1 and overlap:
        ramp = weights[1][:tiling.overlap]
        assert (np.diff(ramp) > 0).all()
        assert ramp[0] < 0.05
        assert ramp[-1] > 0.95


def test_a_tile_that_is_too_small_is_refused_with_the_smallest_allowed():
    config = experiment(16)
    network, variables = random_variables(config)
    smallest = 2 * network.halo + 6 + network.multiple
    image = random_image((1, 50, 50))

    def run(tile_size):
        config.inference.tile_size = tile_size
        predict, grid = make_predictor(config, variables), Grid(image.shape, 1.0, 1.0)
        return predict_blocks(predict, network, ts.array(image), grid, STATISTICS, Box.whole(image.shape), config)

    with pytest.raises(InputError, match=f"--config.inference.tile_size=16: must be at least {smallest} "):
        run(16)
    with pytest.raises(InputError, match="tile_size"):
        run(smallest - 1)
    np.testing.assert_allclose(assemble(run(smallest), Box.whole(image.shape)), whole(config, image), atol=1e-5)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_receptive_radius_is_reached_and_not_exceeded(levels):
    # All weights positive and no normalisation: the answer to a single bright row is positive exactly where it is seen.
    network = build_network(Model(levels=levels, features=1, normalization="none"), "ft")
    radius, multiple = receptive_radius(levels), 2**levels
    middle = (radius // multiple + 2) * multiple
    image = np.zeros((1, 2 * middle, multiple, 1), np.float32)
    shape = jax.eval_shape(network.init, jax.random.key(0), image)
    apply = jax.jit(network.apply)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, 0.5 * (path[-1].key == "kernel"), np.float32), shape)
    reached = 0
    for offset in range(multiple):
        pixel = middle + offset
        image[:] = 0
        image[0, pixel] = 1
        rows = np.flatnonzero(np.asarray(apply(variables, image))[0].any((1, 2)))
        reached = max(reached, pixel - rows[0], rows[-1] - pixel)
    assert reached == radius <= network.halo


def test_nothing_beyond_the_halo_counts():
    network, variables = random_variables(experiment())
    core, halo = 8, network.halo
    image = np.random.default_rng(0).normal(size=(1, *[3 * halo + core] * 2, 1)).astype(np.float32)
    other = np.random.default_rng(1).normal(size=image.shape).astype(np.float32)
    first = halo // 2 // network.multiple * network.multiple
    inside = np.s_[:, first:first + 2 * halo + core, first:first + 2 * halo + core]
    other[inside] = image[inside]
    seen = np.s_[0, first + halo:first + halo + core, first + halo:first + halo + core]
    apply = jax.jit(network.apply)
    results = [np.asarray(apply(variables, values))[seen] for values in (image, other)]
    np.testing.assert_allclose(*results, atol=1e-6)
    alone = np.asarray(apply(variables, image[inside]))[0, halo:-halo, halo:-halo]
    np.testing.assert_allclose(alone, results[0], atol=1e-5)


def test_a_diverged_model_is_named():
    config, image = experiment(), random_image((1, 20, 20))
    _, variables = random_variables(config)
    variables = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), variables)
    with pytest.raises(InputError, match="section 0: probabilities are not finite"):
        tiled(config, image, variables=variables)


def test_classes_are_thresholded_or_the_most_probable():
    binary = np.array([[0.6, 0.4], [0.4, 0.6], [0.1, 0.9]], np.float32)
    assert predicted_classes(binary, 0.6).tolist() == [0, 1, 1]
    assert predicted_classes(binary, 0.4).tolist() == [1, 1, 1]
    many = np.array([[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], np.float32)
    assert predicted_classes(many, 0.99).tolist() == [2, 0]
    assert predicted_classes(many, 0.5).dtype == np.uint8


def random_blocks(region, classes):
    """Blocks of a region with random probabilities, some of which are exactly at a threshold."""
    random = np.random.default_rng(4)
    sections, rows, columns = zip(region.start, region.stop, strict=True)
    for section in range(*sections):
        for first, last in itertools.pairwise((rows[0], rows[0] + 20, rows[1])):
            box = Box((section, first, columns[0]), (section + 1, last, columns[1]))
            values = random.integers(1, 6, (*box.shape, classes)).astype(np.float32)
            yield box, values / values.sum(-1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3])
def test_score_is_that_of_the_segmentation_of_the_region(classes):
    region, rule = Box((1, 5, 9), (3, 70, 50)), LabelRule(parse_rule(">0", "--foreground"))
    labels = open_volume("phantom://source/labels?shape=3,70,62&seed=0")
    thresholds = (0.3, 0.5, 0.7) if classes == 2 else (0.5,)
    counts = score(random_blocks(region, classes), labels, rule, region, thresholds, classes)
    probabilities = assemble(random_blocks(region, classes), region, classes)
    truth = apply_rule(labels.read().result(), rule)[region.slices]
    for index, threshold in enumerate(thresholds):
        expected = Counts.zeros(2, (threshold,), classes).add_predictions(truth, predicted_classes(probabilities, threshold))
        assert scores(counts, index) == scores(expected)
    assert counts.matrices[:, 0].sum() == np.prod(region.shape)


@pytest.mark.parametrize("classes", [2, 3])
def test_everything_is_written_relative_to_the_region(tmp_path, classes):
    region = Box((1, 5, 9), (3, 70, 50))
    blocks, written = list(random_blocks(region, classes)), []
    with create_volume(str(tmp_path / "out.zarr"), region.shape, np.uint8, 5.0) as output:
        output.write(np.uint8(99)).result()
        write_segmentation(iter(blocks), output, region, 0.4, written.append)
    expected = predicted_classes(assemble(blocks, region, classes), 0.4)
    np.testing.assert_array_equal(open_volume(str(tmp_path / "out.zarr")).read().result(), expected)
    assert written == [box for box, _ in blocks]


def test_augmented_it_is_the_mean_over_the_symmetries_and_turns_with_the_image():
    config = experiment()
    _, variables = random_variables(config)
    plain = make_predictor(config, variables)
    augmented = make_predictor(with_augmentation(config, True), variables)
    tiles = random_image((3, 16, 24, 1))
    turned, found = np.rot90(tiles, 1, (1, 2)), augmented(tiles, STATISTICS)
    views = [np.rot90(np.flip(plain(np.flip(np.rot90(tiles, turns, (1, 2)), axes), STATISTICS), axes), -turns, (1, 2))
             for turns in range(4) for axes in ((), (2,))]
    np.testing.assert_allclose(found, np.mean(views, axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(augmented(turned, STATISTICS), np.rot90(found, 1, (1, 2)), rtol=1e-5, atol=1e-6)
    assert np.abs(found - plain(tiles, STATISTICS)).max() > 1e-3
