"""Patches: drawn from (seed, step, index) alone, inside the training box, the same from either reader."""

import jax
import numpy as np
import pytest
import tensorstore as ts

from yseg.config import Experiment, InputError
from yseg.data.box import Box
from yseg.data.grid import Grid
from yseg.data.labels import label_rule
from yseg.data.patches import Region, ResidentReader, StreamingReader, check_patch_fits, locations, make_reader, section_numbers


def experiment(**sampling):
    config = Experiment()
    config.sampling.patch_size, config.sampling.batch_size = 8, 6
    for name, value in sampling.items():
        setattr(config.sampling, name, value)
    return config


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


class TestReaders:
    @pytest.mark.parametrize(("dtype", "pixel_size_nm", "sections"), [
        (np.uint8, 4.6, 3), (np.uint8, 10.0, 1), (np.uint16, 17.0, 3), (np.float32, 4.6, 1)])
    def test_resident_and_streaming_patches_have_the_same_bits(self, dtype, pixel_size_nm, sections):
        config = experiment()
        config.model.sections = sections
        source, target = random_region(0, pixel_size_nm, dtype), random_region(1, 4.6, dtype, labelled=False)
        resident, streaming = ResidentReader(source, target, config), StreamingReader(source, target, config)
        for step in (0, 1, 2, 7, 3):  # in order, and with jumps
            one, other = resident.batch(step), streaming.batch(step)
            assert one.keys() == other.keys() == {"index", "source", "source_statistics", "labels", "target", "target_statistics"}
            for name in one:
                assert one[name].dtype == other[name].dtype, name
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            assert one["source"].shape == (1, 6, 8, 8, sections)
            assert one["labels"].shape == (1, 6, 8, 8)
        assert set(np.unique(one["labels"])) <= {-1, 0, 1}

    def test_without_target_there_is_no_target(self):
        for reader in ("resident", "streaming"):
            raw = make_reader(random_region(0, 10.0), None, experiment(reader=reader)).batch(0)
            assert raw.keys() == {"index", "source", "source_statistics", "labels"}

    @pytest.mark.parametrize("reader", ["resident", "streaming"])
    def test_patch_and_labels_are_cut_from_the_working_grid_where_locations_says(self, reader):
        config = experiment(reader=reader)
        config.seed, config.model.sections = 3, 3
        source, target = random_region(0, 4.6), random_region(1, 7.0)
        raw = make_reader(source, target, config).batch(5)
        source_key, target_key = jax.random.split(jax.random.key(3))
        for key, name, region in ((source_key, "source", source), (target_key, "target", target)):
            volume = region.grid.image(region.image, region.box)
            labels = region.grid.labels(region.labels, region.rule, region.box)
            corners = np.asarray(locations(key, 5, np.arange(6), region.patch_boxes, 8))
            for place, (z, y, x) in enumerate(corners):
                numbers = np.clip([z - 1, z, z + 1], 0, len(volume) - 1)
                cut = volume[numbers, y:y + 8, x:x + 8].transpose(1, 2, 0)
                np.testing.assert_array_equal(raw[name][0, place], cut)
                if name == "source":
                    np.testing.assert_array_equal(raw["labels"][0, place], labels[z, y:y + 8, x:x + 8])

    @pytest.mark.parametrize("reader", ["resident", "streaming"])
    def test_batches_depend_on_seed_and_step_alone(self, reader):
        def batch(step, seed=0, before=()):
            config = experiment(reader=reader)
            config.seed = seed
            made = make_reader(random_region(0, 10.0), random_region(1, 10.0), config)
            for earlier in before:
                made.batch(earlier)
            return jax.device_get(made.batch(step))

        fresh, later = batch(4), batch(4, before=(2, 3, 1))
        for name in fresh:
            np.testing.assert_array_equal(fresh[name], later[name])
        assert (batch(5)["source"] != fresh["source"]).any()
        assert (batch(4, seed=1)["source"] != fresh["source"]).any()

    @pytest.mark.parametrize("reader", ["resident", "streaming"])
    def test_patches_lie_inside_the_box(self, reader):
        """All that is outside is poisoned; the working grid has the volume's pixels, so that no pixel mixes both."""
        box = Box((1, 5, 9), (3, 25, 31))
        image, labels = np.full((4, 30, 40), 255, np.uint8), np.full((4, 30, 40), 9, np.uint8)
        image[box.slices], labels[box.slices] = 1, 0
        config = experiment(reader=reader, batch_size=32)
        config.model.sections = 3
        raw = make_reader(region_of(image, box=box, labels=labels), region_of(image, box=box), config).batch(0)
        assert {*np.unique(raw["source"]), *np.unique(raw["target"])} == {1}
        assert set(np.unique(raw["labels"])) == {0}

    @pytest.mark.parametrize("reader", ["resident", "streaming"])
    def test_no_voxel_outside_the_split_reaches_a_patch(self, reader):
        """At a ratio that is not whole, with the box that the grid says is computed from the split's voxels alone."""
        split = Box((0, 0, 10), (3, 60, 50))
        image, labels = np.full((3, 60, 80), 255, np.uint8), np.full((3, 60, 80), 9, np.uint8)
        image[split.slices], labels[split.slices] = 1, 0
        inside = Grid(image.shape, 4.6, 10.0).inside(split)
        region = region_of(image, 4.6, box=inside, labels=labels)
        raw = make_reader(region, region, experiment(reader=reader, batch_size=32)).batch(0)
        assert {*np.unique(raw["source"]), *np.unique(raw["target"])} == {1}
        assert set(np.unique(raw["labels"])) == {0}

    @pytest.mark.parametrize("reader", ["resident", "streaming"])
    def test_no_label_outside_the_parts_is_used(self, reader):
        parts = (Box((1, 5, 9), (2, 25, 31)), Box((3, 0, 0), (4, 10, 40)))
        image, labels = np.zeros((5, 30, 40), np.uint8), np.full((5, 30, 40), 9, np.uint8)
        for part in parts:
            labels[part.slices] = 1
        region = region_of(image, box=Box((1, 0, 0), (5, 30, 40)), labels=labels)._replace(parts=parts)
        raw = make_reader(region, None, experiment(reader=reader, batch_size=32)).batch(0)
        assert set(np.unique(raw["labels"])) == {1}

    def test_auto_keeps_in_memory_what_fits(self):
        source, target = random_region(0, 10.0), random_region(1, 10.0)
        voxels = 2 * np.prod(source.box.shape) + np.prod(target.box.shape) * 2  # one byte of image and one of labels each
        for factor, kind in ((1.01, ResidentReader), (0.99, StreamingReader)):
            config = experiment(reader="auto", resident_limit_gib=float(factor * voxels / 2**30))
            assert type(make_reader(source, target, config)) is kind


class TestLocations:
    BOXES, PATCH = (Box.whole((3, 11, 10)),), 8

    def draw(self, count, key=0, step=0):
        return np.asarray(locations(jax.random.key(key), step, np.arange(count), self.BOXES, self.PATCH))

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
        corners = np.asarray(locations(jax.random.key(0), 0, np.arange(6000), boxes, self.PATCH))
        places, counts = np.unique(corners, axis=0, return_counts=True)
        assert len(places) == 30
        assert all(any(box.contains(Box(tuple(place), (place[0] + 1, place[1] + 8, place[2] + 8))) for box in boxes)
                   for place in places)
        assert ((counts - 200) ** 2 / 200).sum() < 58.3

    def test_a_sample_does_not_depend_on_the_batch(self):
        whole = self.draw(40)
        some = np.array([31, 2, 17])
        np.testing.assert_array_equal(locations(jax.random.key(0), 0, some, self.BOXES, self.PATCH), whole[some])

    def test_steps_and_keys_draw_anew(self):
        assert (self.draw(40) != self.draw(40, step=1)).any()
        assert (self.draw(40) != self.draw(40, key=1)).any()

    def test_patch_as_large_as_the_box_has_one_place(self):
        corners = np.asarray(locations(jax.random.key(0), 0, np.arange(50), (Box.whole((1, 8, 8)),), 8))
        assert (corners == 0).all()


@pytest.mark.parametrize(("section", "expected"), [(0, [0, 0, 0, 1, 2]), (2, [0, 1, 2, 3, 4]), (4, [2, 3, 4, 4, 4])])
def test_beyond_the_ends_the_outermost_section_is_repeated(section, expected):
    assert section_numbers(section, 5, 5).tolist() == expected


def test_a_patch_that_does_not_fit_is_named():
    region = random_region(0, 10.0)
    check_patch_fits(region, 56, "--config.target")  # 61 rows without the 3 first and the 2 last
    with pytest.raises(InputError, match=r"sampling\.patch_size=57: must be at most 56, .* of --config\.target \(56 x 73"):
        check_patch_fits(region, 57, "--config.target")
