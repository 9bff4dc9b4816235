"""Patches: drawn from (seed, step, index) alone, inside the training box, the same from either reader."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts

from yseg.config import Sampling
from yseg.data.box import Box
from yseg.data.grid import Grid
from yseg.data.labels import label_rule
from yseg.data.patches import (
    READ_AHEAD,
    Region,
    ResidentReader,
    StreamingReader,
    batches_together,
    domain_keys,
    locations,
    make_reader,
    section_numbers,
)

BOTH = pytest.mark.parametrize("kind", ["resident", "streaming"])


def reader_of(regions, kind="resident", sections=1, seed=0, batch_size=6, **more):
    sampling = Sampling(patch_size=8, batch_size=batch_size, reader=kind, **more)
    return make_reader(regions, sampling=sampling, sections=sections, seed=seed)


def region_of(image, pixel_size_nm=10.0, box=None, labels=None, working=10.0):
    grid = Grid(image.shape, pixel_size_nm, working)
    return Region(ts.array(image), None if labels is None else ts.array(labels), grid, box or grid.box,
                  label_rule(">0", "==9", "--config.source"), (float(image.mean()), float(image.std())))


def random_region(seed, pixel_size_nm, dtype=np.uint8, labelled=True):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (4, 61, 75)).astype(dtype)
    labels = random.choice(np.array([0, 0, 1, 5, 9], np.uint8), image.shape) if labelled else None
    region = region_of(image, pixel_size_nm, labels=labels)
    sections, rows, columns = region.grid.shape
    return region._replace(box=Box((1, 3, 2), (sections, rows - 2, columns)))


def assert_same(raw, other):
    assert raw.keys() == other.keys()
    for name in raw:
        assert raw[name].dtype == other[name].dtype, name
        np.testing.assert_array_equal(raw[name], other[name], err_msg=name)


class TestReaders:
    @pytest.mark.parametrize(("dtype", "pixel_size_nm", "sections"), [
        (np.uint8, 4.6, 3), (np.uint8, 10.0, 1), (np.uint16, 17.0, 3), (np.float32, 4.6, 1)])
    def test_resident_and_streaming_patches_have_the_same_bits(self, dtype, pixel_size_nm, sections):
        regions = {"labelled": random_region(0, pixel_size_nm, dtype), "target": random_region(1, 4.6, dtype, labelled=False)}
        resident, streaming = (reader_of(regions, kind, sections) for kind in ("resident", "streaming"))
        assert (type(resident), type(streaming)) == (ResidentReader, StreamingReader)
        for step in (0, 1, 2, 7, 3):  # in order, and with jumps
            one = resident.batch(step)
            assert one.keys() == {"index", "labelled", "labelled_statistics", "labels", "target", "target_statistics"}
            assert_same(one, streaming.batch(step))
            assert one["labelled"].shape == (1, 6, 8, 8, sections)
            assert one["labels"].shape == (1, 6, 8, 8)
        assert set(np.unique(one["labels"])) <= {-1, 0, 1}

    @BOTH
    def test_without_target_there_is_no_target(self, kind):
        raw = reader_of({"labelled": random_region(0, 10.0)}, kind).batch(0)
        assert raw.keys() == {"index", "labelled", "labelled_statistics", "labels"}

    @BOTH
    def test_patch_and_labels_are_cut_from_the_working_grid_where_locations_says(self, kind):
        regions = {"labelled": random_region(0, 4.6), "target": random_region(1, 7.0)}
        raw = reader_of(regions, kind, sections=3, seed=3).batch(5)
        labelled_key, target_key = jax.random.split(jax.random.key(3))
        for key, name in ((labelled_key, "labelled"), (target_key, "target")):
            region = regions[name]
            volume = region.grid.image(region.image, region.box)
            labels = region.grid.labels(region.labels, region.rule, region.box)
            corners = np.asarray(locations(key, 5, np.arange(6), boxes=region.patch_boxes, patch_size=8))
            for place, (z, y, x) in enumerate(corners):
                numbers = np.clip([z - 1, z, z + 1], 0, len(volume) - 1)
                cut = volume[numbers, y:y + 8, x:x + 8].transpose(1, 2, 0)
                np.testing.assert_array_equal(raw[name][0, place], cut)
                if name == "labelled":
                    np.testing.assert_array_equal(raw["labels"][0, place], labels[z, y:y + 8, x:x + 8])

    @BOTH
    def test_batches_depend_on_seed_and_step_alone(self, kind):
        def batch(step, seed=0, before=()):
            made = reader_of({"labelled": random_region(0, 10.0), "target": random_region(1, 10.0)}, kind, seed=seed)
            for earlier in before:
                made.batch(earlier)
            return jax.device_get(made.batch(step))

        fresh, later = batch(4), batch(4, before=(2, 3, 1))
        for name in fresh:
            np.testing.assert_array_equal(fresh[name], later[name])
        assert (batch(5)["labelled"] != fresh["labelled"]).any()
        assert (batch(4, seed=1)["labelled"] != fresh["labelled"]).any()

    @BOTH
    def test_patches_lie_inside_the_box(self, kind):
        """All that is outside is poisoned; the working grid has the volume's pixels, so that no pixel mixes both."""
        box = Box((1, 5, 9), (3, 25, 31))
        image, labels = np.full((4, 30, 40), 255, np.uint8), np.full((4, 30, 40), 9, np.uint8)
        image[box.slices], labels[box.slices] = 1, 0
        regions = {"labelled": region_of(image, box=box, labels=labels), "target": region_of(image, box=box)}
        raw = reader_of(regions, kind, sections=3, batch_size=32).batch(0)
        assert {*np.unique(raw["labelled"]), *np.unique(raw["target"])} == {1}
        assert set(np.unique(raw["labels"])) == {0}

    @BOTH
    def test_no_voxel_outside_the_split_reaches_a_patch(self, kind):
        """At a ratio that is not whole, with the box that the grid says is computed from the split's voxels alone."""
        split = Box((0, 0, 10), (3, 60, 50))
        image, labels = np.full((3, 60, 80), 255, np.uint8), np.full((3, 60, 80), 9, np.uint8)
        image[split.slices], labels[split.slices] = 1, 0
        inside = Grid(image.shape, 4.6, 10.0).inside(split)
        region = region_of(image, 4.6, box=inside, labels=labels)
        raw = reader_of({"labelled": region, "target": region}, kind, batch_size=32).batch(0)
        assert {*np.unique(raw["labelled"]), *np.unique(raw["target"])} == {1}
        assert set(np.unique(raw["labels"])) == {0}

    @BOTH
    def test_no_label_outside_the_parts_is_used(self, kind):
        parts = (Box((1, 5, 9), (2, 25, 31)), Box((3, 0, 0), (4, 10, 40)))
        image, labels = np.zeros((5, 30, 40), np.uint8), np.full((5, 30, 40), 9, np.uint8)
        for part in parts:
            labels[part.slices] = 1
        region = region_of(image, box=Box((1, 0, 0), (5, 30, 40)), labels=labels)._replace(parts=parts)
        raw = reader_of({"labelled": region}, kind, batch_size=32).batch(0)
        assert set(np.unique(raw["labels"])) == {1}

    @BOTH
    def test_labelled_target_patches_leave_the_others_as_they_are_and_lie_in_their_parts(self, kind):
        regions = {"labelled": random_region(0, 10.0), "target": random_region(1, 10.0, labelled=False)}
        image = np.random.default_rng(2).integers(0, 256, (5, 30, 40), np.uint8)  # no two windows are alike
        labels = np.random.default_rng(3).integers(0, 2, image.shape, np.uint8)
        parts = (Box((1, 5, 9), (2, 25, 31)), Box((3, 0, 0), (4, 10, 40)))
        whole = region_of(image, labels=labels)
        regions |= {"target": whole._replace(labels=None), "joint": whole._replace(parts=parts)}
        windows = {image[z, y:y + 8, x:x + 8].tobytes(): Box((z, y, x), (z + 1, y + 8, x + 8))
                   for z, y, x in np.ndindex(5, 23, 33)}
        with_ = reader_of(regions, kind)
        without = reader_of({name: regions[name] for name in ("labelled", "target")}, kind)
        alone = reader_of({name: regions[name] for name in ("labelled", "joint")}, kind)  # of a method that sees no target
        for step in range(3):
            raw, usual, its = with_.batch(step), without.batch(step), alone.batch(step)
            assert raw.keys() - usual.keys() == {"joint", "joint_labels", "joint_statistics"}
            assert_same({name: raw[name] for name in usual}, usual)
            assert_same({name: raw[name] for name in its}, its)
            for patch, of_patch in zip(np.asarray(raw["joint"])[0, ..., 0], np.asarray(raw["joint_labels"])[0], strict=True):
                place = windows[patch.tobytes()]
                assert any(part.contains(place) for part in parts)
                np.testing.assert_array_equal(of_patch, labels[place.slices][0])

    def test_auto_keeps_in_memory_what_fits(self):
        regions = {"labelled": random_region(0, 10.0), "target": random_region(1, 10.0)}
        voxels = sum(2 * np.prod(region.box.shape) for region in regions.values())  # a byte of image and one of labels each
        for factor, kind in ((1.01, ResidentReader), (0.99, StreamingReader)):
            assert type(reader_of(regions, "auto", resident_limit_gib=float(factor * voxels / 2**30))) is kind


class TestTheReaderOfTheEstimate:
    REGIONS, STEPS, ESTIMATED = {"labelled": random_region(0, 10.0), "target": random_region(1, 10.0, labelled=False)}, 4, 5

    @pytest.fixture
    def asked(self, monkeypatch):
        """A list to which each box that is asked of an image is added: (the image, the box)."""
        asked, request = [], Grid.request

        def recorded(grid, store, box):
            asked.append((next(name for name, region in self.REGIONS.items() if region.image is store), box))
            return request(grid, store, box)

        monkeypatch.setattr(Grid, "request", recorded)
        return asked

    def batches(self, estimate):
        """Patches of some steps of a reader, with `estimate(reader)` between the second and the third."""
        reader, batches = reader_of(self.REGIONS, "streaming"), []
        for step in range(self.STEPS):
            if step == 2:
                estimate(reader)
            batches.append(reader.batch(step))
        return batches

    def test_no_patch_is_read_twice_for_it(self, asked):
        def estimate(reader):
            of_target = reader.of_target()
            for number in range(self.ESTIMATED):
                assert of_target.batch(number).keys() == {"index", "target", "target_statistics"}

        def with_the_same_reader(reader):
            for number in range(self.ESTIMATED):
                reader.batch(number)

        found, counts = [], []
        for between in (lambda reader: None, estimate, with_the_same_reader):
            asked.clear()
            found.append(self.batches(between))
            counts.append(collections.Counter(asked))
        usual, with_estimate, naive = counts
        of_run, of_estimate = 6 * (self.STEPS + READ_AHEAD), 6 * (self.ESTIMATED + READ_AHEAD)
        assert usual.total() == 2 * of_run  # of two images
        assert usual <= with_estimate
        more = with_estimate - usual
        assert more.total() == of_estimate
        assert {name for name, _ in more} == {"target"}
        assert {name for name, _ in naive - usual} == {"labelled", "target"}  # which is what it is for
        for raw, other in zip(*found[:2], strict=True):
            assert_same(raw, other)

    def test_it_gives_the_runs_own_target_patches(self):
        for reader in (reader_of(self.REGIONS, kind, sections=3, seed=2) for kind in ("resident", "streaming")):
            of_target, usual = reader.of_target().batch(3), reader.batch(3)
            for name in ("index", "target", "target_statistics"):
                np.testing.assert_array_equal(of_target[name], usual[name])

    def test_volumes_in_memory_are_not_copied_for_it(self):
        reader = reader_of(self.REGIONS)
        assert reader.of_target() is reader


class TestSeveralReaders:
    """The members of a population: readers of other seeds, and it may be of other labels of the target."""

    SAMPLING = Sampling(patch_size=8, batch_size=6)

    def readers(self, parts=(None, None), joint=True, kind=ResidentReader):
        """Readers of seeds 0 and 1 that share their images, if they have them, with a joint region of each one's own parts."""
        regions = {"labelled": random_region(0, 10.0), "target": random_region(1, 10.0, labelled=False)}
        whole, made, shared = random_region(1, 10.0), [], {}
        for seed, own in enumerate(parts):
            both = {**regions, "joint": whole._replace(parts=own)} if joint else regions
            made.append(kind(both, sampling=self.SAMPLING, sections=3, seed=seed, **shared))
            shared = {"images": made[0].images} if kind is ResidentReader else {}
        return made

    @pytest.mark.parametrize(("parts", "joint"), [
        ((None, None), False), ((None, None), True),
        (((Box((1, 3, 2), (2, 20, 40)),), (Box((2, 10, 12), (3, 40, 60)), Box((3, 3, 2), (4, 30, 30)))), True)])
    def test_their_batches_are_those_of_each_alone(self, parts, joint):
        for kind in (ResidentReader, StreamingReader):
            readers = self.readers(parts, joint, kind)
            together, alone = batches_together(readers), self.readers(parts, joint, kind)
            for step in (0, 1, 5):
                raw, each = together(step), [reader.batch(step) for reader in alone]
                assert raw.keys() == each[0].keys()
                for name in raw:
                    assert raw[name].dtype == each[0][name].dtype, name
                    np.testing.assert_array_equal(raw[name], np.stack([own[name] for own in each], axis=1), err_msg=name)
                assert (raw["labelled"][:, 0] != raw["labelled"][:, 1]).any()  # the seeds differ

    def test_images_are_on_the_devices_once(self):
        """Also the target's own, of which a joint training has patches under two names."""
        first, second = self.readers()
        assert set(first.images) == {"labelled", "target"}
        for name, image in first.images.items():
            assert second.volumes[name] is image
            assert first.volumes[name] is image
        assert "joint" not in first.volumes
        other = ResidentReader({"labelled": random_region(0, 10.0)}, sampling=self.SAMPLING, sections=3, seed=1)
        assert other.volumes["labelled"] is not first.volumes["labelled"]

    def test_readers_that_share_all_but_the_seed_cut_in_one_call(self, monkeypatch):
        readers = self.readers()
        for reader in readers:
            monkeypatch.setattr(reader, "batch", None)
        assert batches_together(readers)(0)["labelled"].shape == (1, 2, 6, 8, 8, 3)


def former_locations(key, step, index, shape, patch_size):
    """The draws of the first version, which knew one box; results of older runs rest on them."""
    limits = np.array(shape) - np.array([0, patch_size - 1, patch_size - 1])
    key = jax.random.fold_in(key, step)
    return np.stack([jax.random.randint(jax.random.fold_in(key, place), (3,), 0, limits) for place in index])


def independent(rows, columns):
    """Chi-squared of a contingency table over its degrees of freedom's 0.999 quantile (Wilson and Hilferty): at most 1."""
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert expected.min() > 5
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.09 * np.sqrt(2 / (9 * freedom))) ** 3
    return ((table - expected) ** 2 / expected).sum() / quantile


class TestLocations:
    BOXES, PATCH = (Box.whole((3, 11, 10)),), 8

    def draw(self, count, key=0, step=0, boxes=BOXES):
        return np.asarray(locations(jax.random.key(key), step, np.arange(count), boxes=boxes, patch_size=self.PATCH))

    def test_all_that_fit_are_equally_likely_and_no_others_come(self):
        """Chi-squared over the 3 x 4 x 3 = 36 places: 35 degrees of freedom, below 66.6 with probability 0.999."""
        corners = self.draw(7200)
        places, counts = np.unique(corners, axis=0, return_counts=True)
        assert len(places) == 36
        assert (places.min(0) == 0).all()
        assert (places.max(0) == [2, 3, 2]).all()  # the last patch ends with the box
        assert ((counts - 200) ** 2 / 200).sum() < 66.6

    def test_in_several_boxes_too(self):
        """Places: 2 x 4 x 3 in the first box and 1 x 1 x 6 in the second; 29 degrees of freedom, below 58.3 with p = 0.999."""
        boxes = (Box((0, 0, 0), (2, 11, 10)), Box((4, 20, 30), (5, 28, 43)))
        corners = self.draw(6000, boxes=boxes)
        places, counts = np.unique(corners, axis=0, return_counts=True)
        assert len(places) == 30
        assert all(any(box.contains(Box(tuple(place), (place[0] + 1, place[1] + 8, place[2] + 8))) for box in boxes)
                   for place in places)
        assert ((counts - 200) ** 2 / 200).sum() < 58.3

    def test_one_box_has_the_draws_of_the_first_version(self):
        key, index = domain_keys(5)["labelled"], np.array([0, 1, 17, 4000])
        start, shape = (2, 7, 30), (165, 211, 97)
        box = Box(start, tuple(first + size for first, size in zip(start, shape, strict=True)))
        for step in (0, 3, 10**6):
            found = np.asarray(locations(key, step, index, boxes=(box,), patch_size=48))
            np.testing.assert_array_equal(found - start, former_locations(key, step, index, shape, 48))

    def test_the_seeds_keys_are_those_of_the_first_version(self):
        keys, seed = domain_keys(11), jax.random.key(11)
        labelled, target = jax.random.split(seed)
        for name, key in {"labelled": labelled, "target": target, "joint": jax.random.fold_in(seed, 4)}.items():
            np.testing.assert_array_equal(jax.random.key_data(keys[name]), jax.random.key_data(key))

    def test_a_box_is_drawn_as_often_as_its_patches_are_many(self):
        """Chi-squared over 4 boxes of 5, 24, 60 and 11 places: 3 degrees of freedom, below 16.3 with probability 0.999."""
        shapes = [(5, 8, 8), (2, 11, 10), (3, 12, 11), (1, 8, 18)]
        boxes = tuple(Box((10 * number, 0, 0), (10 * number + shape[0], *shape[1:])) for number, shape in enumerate(shapes))
        counts = np.bincount(self.draw(10000, boxes=boxes)[:, 0] // 10, minlength=4)
        expected = 10000 * np.array([5, 24, 60, 11]) / 100
        assert ((counts - expected) ** 2 / expected).sum() < 16.3

    def test_the_place_in_a_box_does_not_depend_on_which_box_it_is(self):
        boxes = tuple(Box((10 * number, 0, 0), (10 * number + 3, 12, 11)) for number in range(3))
        corners = self.draw(9000, boxes=boxes)
        box, section = corners[:, 0] // 10, corners[:, 0] % 10
        for places in (section, corners[:, 1], corners[:, 2]):
            assert independent(box, places) < 1

    def test_the_bits_that_choose_the_box_are_not_those_of_the_corner(self):
        """The first of two boxes is chosen by 3 bits that are 0. Of 2^30 sections a number keeps its upper bits, also those."""
        boxes = (Box((0, 0, 0), (2**30, 8, 8)), Box((0, 100, 0), (2**30, 114, 8)))
        corners = self.draw(8000, boxes=boxes)
        box, eighth = (corners[:, 1] >= 100).astype(int), corners[:, 0] // 2**27
        assert independent(box, eighth) < 1

    def test_a_sample_does_not_depend_on_the_batch(self):
        several = (Box((0, 0, 0), (2, 11, 10)), Box((4, 20, 30), (5, 28, 43)))
        for boxes in (self.BOXES, several):
            whole, some = self.draw(40, boxes=boxes), np.array([31, 2, 17])
            np.testing.assert_array_equal(locations(jax.random.key(0), 0, some, boxes=boxes, patch_size=self.PATCH), whole[some])

    def test_steps_and_keys_draw_anew(self):
        assert (self.draw(40) != self.draw(40, step=1)).any()
        assert (self.draw(40) != self.draw(40, key=1)).any()

    def test_patch_as_large_as_the_box_has_one_place(self):
        corners = np.asarray(locations(jax.random.key(0), 0, np.arange(50), boxes=(Box.whole((1, 8, 8)),), patch_size=8))
        assert (corners == 0).all()


@pytest.mark.parametrize(("section", "expected"), [(0, [0, 0, 0, 1, 2]), (2, [0, 1, 2, 3, 4]), (4, [2, 3, 4, 4, 4])])
def test_beyond_the_ends_the_outermost_section_is_repeated(section, expected):
    assert section_numbers(section, 5, 5).tolist() == expected


@pytest.mark.parametrize("sections", [1, 3, 7])
def test_section_numbers_are_numpy_for_numpy_and_the_same_when_traced(sections):
    traced = jax.jit(lambda section: section_numbers(section, sections, 5))
    for section in range(5):
        for given in (section, np.int32(section)):
            found = section_numbers(given, sections, 5)
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, traced(section))
    assert isinstance(section_numbers(jnp.int32(2), sections, 5), jax.Array)


def test_the_largest_patch_fits_into_every_part():
    region = random_region(0, 10.0)
    assert region.largest_patch == 56  # 61 rows without the 3 first and the 2 last
    parts = (Box((1, 3, 2), (2, 40, 70)), Box((2, 3, 2), (3, 50, 14)))
    assert region._replace(parts=parts).largest_patch == 12
