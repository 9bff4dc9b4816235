"""Histogram matching of the target to the source: from opened volumes to what is trained, scored and segmented."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tensorstore as ts
import zarr

import yseg
from yseg.config import Domain, Experiment, Inference, InputError, Model, Optimizer, Record, Sampling
from yseg.data.grid import Grid
from yseg.data.patches import ResidentReader, StreamingReader
from yseg.data.prepare import QUANTILES, Volume, grey_levels, image_statistics, intensity_statistics, open_domain, training_region
from yseg.data.split import Box, split
from yseg.data.volume import create_volume, open_volume
from yseg.runs import load_state, read_config
from yseg.shift import domain_shift
from yseg.training.step import z_score

PHANTOM = "phantom://{}/{}?shape=4,64,64&seed=0"
# Increasing maps of 16 grey levels that are no shift and no scaling.
CURVES = {"plain": np.arange(16), "bent": np.arange(16) ** 2 + 3, "other": 1000 - (16 - np.arange(16)) ** 2}


def volume_of(image, pixel_size_nm=10.0, **fields):
    parts = split(image.shape, "x", fields.pop("validation_fraction", 0.0), fields.pop("test_fraction", 0.0), "--config.target")
    return Volume(ts.array(image), None, None, Grid(image.shape, pixel_size_nm, 10.0), parts, pixel_size_nm,
                  fields.pop("flag", "--config.target.image"), "a volume")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_grey_levels_are_the_order_statistics_of_the_training_box(dtype):
    image = np.random.default_rng(0).normal(100, 20, (3, 30, 60)).astype(dtype)
    found = grey_levels(volume_of(image, validation_fraction=0.2, test_fraction=0.3))
    image[:, :, 30:] = 99  # validation and test box
    part = np.sort(image[:, :, :30].ravel().astype(np.float64))
    assert (found.shape, found.dtype) == ((QUANTILES,), np.float64)
    np.testing.assert_allclose(found, part[np.rint(np.linspace(0, part.size - 1, QUANTILES)).astype(int)])


def test_grey_levels_are_those_of_the_working_grid():
    image = np.random.default_rng(0).integers(0, 256, (2, 40, 40), np.uint8)  # noise: resampling narrows its histogram
    volume = volume_of(image, 4.0)
    working = volume.grid.image(volume.image, volume.grid.inside(Box.whole(image.shape)))
    found = grey_levels(volume)
    assert (found[0], found[-1]) == (working.min(), working.max())
    assert found[-1] - found[0] < 200


def test_values_that_are_not_finite_are_refused():
    image = np.zeros((2, 30, 30), np.float32)
    image[1, 1, 1] = np.nan
    with pytest.raises(InputError, match=r"--config\.target\.image: .*section 1"):
        grey_levels(volume_of(image))


def written(path, image, pixel_size_nm=10.0):
    with create_volume(str(path), image.shape, image.dtype, pixel_size_nm) as store:
        store.write(image).result()
    return str(path)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Targets of 16 grey levels: paths, by the name of their curve; and a source of 8 bits with its labels."""
    folder = tmp_path_factory.mktemp("volumes")
    image = open_volume(PHANTOM.format("target", "image")).read().result()
    steps = (image.astype(int) - image.min()) * 16 // (int(image.max()) - int(image.min()) + 1)
    paths = {name: written(folder / f"{name}.zarr", curve[steps].astype(np.uint16)) for name, curve in CURVES.items()}
    for name in ("image", "labels"):
        paths[f"source_{name}"] = written(folder / f"source_{name}.zarr",
                                          open_volume(PHANTOM.format("source", name)).read().result())
    paths["labels"] = written(folder / "labels.zarr", open_volume(PHANTOM.format("target", "labels")).read().result())
    return paths


def experiment(volumes, name, alignment="histogram", **fields):
    """A config on the working grid's own pixels, so that a curve of the volume is one of its patches."""
    defaults = {
        "method": "coral",
        "source": Domain(image=volumes["source_image"], labels=volumes["source_labels"], foreground=">0", pixel_size_nm=10.0,
                         validation_fraction=0.3),
        "target": Domain(image=volumes[name], pixel_size_nm=10.0),
        "sampling": Sampling(patch_size=16, batch_size=2, intensity_alignment=alignment), "model": Model(levels=1, features=4),
        "optimizer": Optimizer(steps=4, warmup_steps=1), "inference": Inference(tile_size=48, overlap=4),
        "record": Record(log_every=2, validate_every=0, images=1)}
    return Experiment(**defaults | fields)


def test_the_aligned_target_has_the_histogram_of_the_source(volumes):
    config = experiment(volumes, "bent")
    domains = {name: open_domain(getattr(config, name), 10.0, f"--config.{name}", False) for name in ("source", "target")}
    statistics = {name: np.asarray(intensity_statistics(volume, config), np.float32) for name, volume in domains.items()}
    assert statistics["source"].shape == (2,)
    assert statistics["target"].shape == (2, 16)
    aligned = {name: np.asarray(z_score(volume.image[volume.split.train.slices].read().result(), statistics[name]))
               for name, volume in domains.items()}
    assert abs(aligned["target"].mean() - aligned["source"].mean()) < 0.02
    ranks = np.linspace(0.02, 0.98, 20)
    steps = np.diff(statistics["target"][1]).max()  # 16 levels are no finer
    difference = np.quantile(aligned["target"], ranks) - np.quantile(aligned["source"], ranks)
    assert np.abs(difference).max() < steps
    assert np.abs(np.quantile(domains["target"].image.read().result(), ranks)
                  - np.quantile(domains["source"].image.read().result(), ranks)).max() > 20


def test_without_alignment_and_for_the_source_they_are_mean_and_deviation(volumes):
    config = experiment(volumes, "plain", "none")
    aligned = experiment(volumes, "plain")
    target = open_domain(config.target, 10.0, "--config.target", False)
    source = open_domain(config.source, 10.0, "--config.source", False)
    given_source = open_domain(config.source, 10.0, "-", False)
    assert intensity_statistics(target, config) == image_statistics(target)
    for volume in (source, given_source):
        assert intensity_statistics(volume, aligned) == image_statistics(volume)
    both = dataclasses.replace(aligned, target=aligned.source)
    assert intensity_statistics(source, both) == image_statistics(source)
    assert intensity_statistics(open_domain(both.target, 10.0, "--config.target", False), both).shape[0] == 2


@pytest.mark.parametrize("reader", [ResidentReader, StreamingReader])
def test_either_reader_hands_the_map_to_every_device(volumes, reader):
    config = experiment(volumes, "other")
    regions = [training_region(open_domain(getattr(config, name), 10.0, f"--config.{name}", labels), config)
               for name, labels in (("source", True), ("target", False))]
    raw = reader(*regions, config).batch(0)
    assert raw["source_statistics"].shape == (1, 2)
    assert raw["target_statistics"].shape == (1, 2, 16)
    for name, region in zip(("source", "target"), regions, strict=True):
        assert raw[f"{name}_statistics"].dtype == np.float32
        np.testing.assert_array_equal(raw[f"{name}_statistics"][0], np.asarray(region.statistics, np.float32))


@pytest.mark.slow
def test_an_increasing_curve_of_the_target_changes_nothing_from_training_to_segmentation(volumes, tmp_path):
    """Patches, statistics of the target, pictures, scores, another volume, the shift, fine-tuning: all see the aligned target."""
    states, scores, shifts = {}, {}, {}
    for name in ("plain", "bent"):
        run = tmp_path / name
        target = Domain(image=volumes[name], labels=volumes["labels"], foreground=">0", pixel_size_nm=10.0)
        yseg.train(experiment(volumes, name, target=target), run, quiet=True)
        states[name] = [leaf.tobytes() for leaf in jax.tree.leaves(load_state(run, read_config(run)))]
        yseg.evaluate(run, region="0:2,:,:", quiet=True)
        results = json.loads((run / "results.json").read_text())
        scores[name] = {key: results[key] for key in results if key not in ("image", "wall_time")}
        shifts[name] = [shift.mmd for shift in domain_shift(run)]
        yseg.finetune(run, tmp_path / f"{name}_tuned", fraction=1.0, steps=2, quiet=True)
        tuned = load_state(tmp_path / f"{name}_tuned", read_config(tmp_path / f"{name}_tuned"))
        states[f"{name}_tuned"] = [leaf.tobytes() for leaf in jax.tree.leaves(tuned)]
        for given in CURVES:
            yseg.segment(run, volumes[given], str(tmp_path / f"{name}_{given}.zarr"), 10.0, threshold=0.45, quiet=True)
    assert states["plain"] == states["bent"]
    assert states["plain_tuned"] == states["bent_tuned"]
    assert states["plain_tuned"] != states["plain"]
    assert scores["plain"] == scores["bent"]
    assert shifts["plain"] == shifts["bent"]
    found = [zarr.open_array(tmp_path / f"{name}_{given}.zarr", mode="r")[:] for name in ("plain", "bent") for given in CURVES]
    assert all((one == found[0]).all() for one in found)
    panels = [(tmp_path / name / "report" / "panels.png").read_bytes() for name in ("plain", "bent")]
    assert all(panel.startswith(b"\x89PNG") for panel in panels)
    yseg.train(experiment(volumes, "plain", "none"), tmp_path / "none", quiet=True)
    other = load_state(tmp_path / "none", read_config(tmp_path / "none"))
    assert [leaf.tobytes() for leaf in jax.tree.leaves(other)] != states["plain"]
