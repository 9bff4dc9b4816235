"""A first look at volumes in files: of drawn ones nothing is wrong, and what is done to them is found."""

import json

import numpy as np
import pytest
import tensorstore as ts
import tifffile
from PIL import Image
from tiny import counted, experiment

import yseg
from yseg.config import Domain, Experiment, InputError, Model, Sampling, TargetLabels
from yseg.data import domain as domains
from yseg.data.box import Box
from yseg.data.domain import Volume
from yseg.data.grid import Grid
from yseg.data.patches import Region
from yseg.data.split import split
from yseg.studies import first_look
from yseg.volumes.phantom import phantom

SHAPE = (8, 384, 448)


@pytest.fixture(scope="module")
def arrays():
    """Image and labels of both domains."""
    return {name: phantom(name, SHAPE, seed=5) for name in ("source", "target")}


@pytest.fixture
def checked(arrays, tmp_path, monkeypatch):
    """Look at both domains, some of whose arrays are replaced: returns the report, whose folder is tmp_path / "out"."""
    def run(changes=None, source=None, target=None, picture=False, **fields):
        if not picture:  # which takes longer than all the rest
            monkeypatch.setattr(first_look, "first_look", lambda *_: None)
        given = {"source": {"pixel_size_nm": 5.0, "validation_fraction": 0.2, **(source or {})},
                 "target": {"pixel_size_nm": 4.6, "test_fraction": 0.3, **(target or {})}}
        for name, (image, labels) in arrays.items():
            for what, values in (("image", image), ("labels", labels)):
                values = (changes or {}).get(f"{name}.{what}", values)
                tifffile.imwrite(tmp_path / f"{name}_{what}.tif", values, photometric="minisblack")
                given[name].setdefault(what, str(tmp_path / f"{name}_{what}.tif"))
        config = Experiment(**{"source": Domain(**given["source"]), "target": Domain(**given["target"]),
                               "sampling": Sampling(working_pixel_size_nm=10.0, patch_size=48),
                               "model": Model(levels=2, features=4)} | fields)
        return yseg.check(config, tmp_path / "out", quiet=True)
    return run


def rules(report):
    return [(finding["rule"], finding["domain"]) for finding in report["findings"]]


def broken(image):
    """A section that is lost and one that is too bright, of 8."""
    image = image.copy()
    image[2] = 0
    image[6] = 130 + image[6] // 3
    return image


def test_of_drawn_volumes_nothing_looks_wrong_and_what_was_measured_is_written(checked, arrays, tmp_path):
    report = checked(picture=True)
    assert report["findings"] == []
    assert json.loads((tmp_path / "out" / "check.json").read_text()) == json.loads(json.dumps(report))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["check.json", "check.png"]
    with Image.open(report["picture"]) as picture:
        assert min(picture.size) > 1000
    source, target = report["volumes"].values()
    train = arrays["source"][1][..., :358]
    assert source["labels"]["share"] == pytest.approx(train.mean(), abs=0.01)
    assert source["sections"]["means"] == pytest.approx(arrays["source"][0][..., :358].mean((1, 2)))
    assert 20 < source["labels"]["typical_diameter"] < 60
    assert "labels" not in target
    assert target["working_shape"][2] == pytest.approx(0.7 * 448 * 0.46, abs=2)


@pytest.mark.parametrize(("changes", "expected"), [
    (lambda arrays: {"target.image": 255 - arrays["target"][0]}, [("inverted", "both")]),
    (lambda arrays: {name + ".image": 255 - images[0] for name, images in arrays.items()}, []),
    (lambda arrays: {"target.image": broken(arrays["target"][0])}, [("lost_sections", "target"), ("uneven_sections", "target")]),
    (lambda arrays: {"source.labels": arrays["source"][1][:, ::-1]}, [("misfit", "source")]),
    (lambda arrays: {"source.labels": np.roll(arrays["source"][1], 24, 2)}, [("misfit", "source")]),
    (lambda arrays: {"target.image": np.clip(arrays["target"][0], 0, 195)}, [("saturated", "target")]),
    (lambda arrays: {"target.image": arrays["source"][0]}, [("same_volume", "both")]),
])
def test_what_is_done_to_a_volume_is_found_and_nothing_else(changes, expected, checked, arrays):
    assert rules(checked(changes(arrays))) == expected


def test_a_pixel_size_that_cannot_be_meant_is_found(checked):
    fine = checked(source={"pixel_size_nm": 2.5, "section_nm": 15.0}, sampling=Sampling(working_pixel_size_nm=16.0, patch_size=8))
    assert ("object_size", "source") in rules(fine)
    coarse = checked(source={"pixel_size_nm": 12.0, "section_nm": 15.0})
    assert ("spacing", "source") in rules(coarse)


def test_unequal_sections_do_not_matter_where_each_is_normalised(checked, arrays):
    image = np.clip(arrays["target"][0] * np.linspace(0.3, 1, 8)[:, None, None] + 5, 0, 255).astype(np.uint8)
    assert ("drift", "target") in rules(checked({"target.image": image}))
    by_section = Sampling(working_pixel_size_nm=10.0, patch_size=48, normalization="section")
    report = checked({"target.image": image}, sampling=by_section)
    assert report["findings"] == []
    assert report["volumes"]["target"]["mean"] == pytest.approx(image[..., :314].mean(), rel=0.02)  # as they are stored


def test_labels_of_the_target_are_opened_and_not_read(checked, monkeypatch):
    opened = []

    def refused(place, values, _):
        raise AssertionError("labels of the target are read")

    def read_volume(spec, *arguments, **options):
        found = usual(spec, *arguments, **options)
        if "target_labels" in spec:
            opened.append(spec)
            found = found._replace(store=ts.virtual_chunked(refused, dtype=ts.uint8, shape=found.store.shape))
        return found

    usual = domains.read_volume
    monkeypatch.setattr(domains, "read_volume", read_volume)
    assert checked()["findings"] == []
    assert opened


def test_test_parts_are_not_looked_at(checked, arrays):
    image = arrays["target"][0].clip(0, 240)
    image[..., 314:] = 255
    report = checked({"target.image": image})
    assert report["volumes"]["target"]["grey_levels"]["edges"][-1] <= 240


def test_a_training_on_labels_of_the_target_is_looked_at_where_it_may_be(checked, arrays):
    boxes = ("0:8,0:384,0:150",)
    report = checked({"target.labels": np.where(np.arange(448) < 150, arrays["target"][1], 7).astype(np.uint8)},
                     target_labels=TargetLabels(use="only", boxes=boxes))
    assert [*report["volumes"]] == ["target"]
    assert {value["value"] for value in report["volumes"]["target"]["labels"]["values"]} == {0, 1}


def test_tissue_alone_is_looked_at(checked, arrays):
    image = arrays["target"][0].clip(1)
    image[:, 100:200, 50:120] = 0
    assert rules(checked({"target.image": image})) == [("saturated", "target")]
    masked = checked({"target.image": image}, target={"mask": "nodata=0"})
    assert masked["findings"] == []
    assert masked["volumes"]["target"]["grey_levels"]["edges"][0] >= 1


def test_an_earlier_check_is_replaced_and_anything_else_is_left_alone(checked, tmp_path):
    checked()
    before = (tmp_path / "out" / "check.json").read_text()
    assert checked(name="another")["config"] == "another"
    assert (tmp_path / "out" / "check.json").read_text() != before
    (tmp_path / "out" / "check.json").rename(tmp_path / "out" / "thesis.json")
    with pytest.raises(InputError, match=r"is not empty and holds no check\.json"):
        checked()


def test_of_a_huge_volume_little_is_read():
    shape, read = (3000, 20_000, 20_000), []
    tile = phantom("target", (1, 512, 512), seed=1)[0][0]

    def values(place, array, _):
        read.append(array.size)
        array[...] = np.tile(tile, [-(-size // 512) for size in array.shape[1:]])[None, :array.shape[1], :array.shape[2]]

    store = ts.virtual_chunked(values, dtype=ts.uint8, shape=shape, chunk_layout=ts.ChunkLayout(read_chunk_shape=(1, 512, 512)))
    grid = Grid(shape, 8.0, 16.0)
    volume = Volume(store, None, None, grid, split(shape, "x", 0.0, 0.1), 8.0, "--config.target.image")
    region = Region(store, None, grid, grid.inside(volume.split.train), None, (150.0, 40.0))
    parts = []
    look = first_look._look(Experiment(sampling=Sampling(working_pixel_size_nm=16.0)), "target", volume, region,
                            on_section=parts.append)
    assert sum(read) < 2e9 < 1e-2 * np.prod(shape, dtype=float)
    assert len(look.sections.numbers) == first_look.ALONG_Z
    assert parts == [*range(1, first_look.SECTIONS + 2)]
    assert look.shape == shape


def test_volumes_that_are_hardly_larger_than_a_patch_are_looked_at(tmp_path):
    report = yseg.check(experiment(), tmp_path / "out", quiet=True)
    assert report["volumes"]["source"]["shape"] == (3, 64, 96)


def test_windows_lie_inside_and_hold_tissue():
    mask = np.zeros((30, 64, 64), np.uint8)
    mask[:, :, 20:] = 1
    grid = Grid(mask.shape, 10.0, 10.0)
    store, _ = counted(mask)
    region = Region(store, None, grid, Box((2, 0, 0), (28, 64, 64)), None, (0.0, 1.0), None, store)
    windows = first_look._windows(region)
    assert len(windows) == first_look.SECTIONS
    assert all(region.box.contains(window) for window in windows)
    assert all(mask[window.slices].mean() >= 0.5 for window in windows)
