"""yseg.volumes.catalog: what a data set fills in, and what it does not."""

import dataclasses
import os

import pytest

from yseg.config import Domain, InputError
from yseg.data.labels import apply_rule, label_rule
from yseg.volumes.catalog import DATASETS, resolve
from yseg.volumes.pairs import check_pair
from yseg.volumes.volume import read_volume


@pytest.fixture
def data_set(monkeypatch):
    """The name of a data set whose rule for foreground is not the default."""
    known = dataclasses.replace(DATASETS["epfl"], image="cells/raw.tif", labels="cells/labels.tif", foreground="==2")
    monkeypatch.setitem(DATASETS, "cells", known)
    return "cells"


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_fills_what_is_empty(name):
    domain = Domain(dataset=name)
    before = dataclasses.asdict(domain)
    filled = resolve(domain, "data")
    assert dataclasses.asdict(domain) == before
    assert filled == Domain(dataset=name, image=os.path.join("data", DATASETS[name].image),
                            labels=os.path.join("data", DATASETS[name].labels), pixel_size_nm=DATASETS[name].pixel_size_nm,
                            foreground=DATASETS[name].foreground)
    assert filled.pixel_size_nm > 0
    label_rule(filled.foreground, filled.unlabelled, "source")


def test_what_the_domain_says_goes_before_the_data_set(data_set):
    given = {"pixel_size_nm": 3.0, "foreground": "==1", "unlabelled": "==9", "split_axis": "z", "test_fraction": 0.5}
    filled = resolve(Domain(dataset=data_set, **given), "data")
    assert {name: getattr(filled, name) for name in given} == given
    assert (filled.dataset, filled.image) == (data_set, os.path.join("data", "cells", "raw.tif"))


def test_with_another_image_nothing_comes_from_the_data_set(data_set):
    given = {"image": "mine.tif", "pixel_size_nm": 3.0}
    for data_dir in ("data", "", os.path.join("data", "cells")):
        assert resolve(Domain(dataset=data_set, **given), data_dir) == Domain(**given)
        assert resolve(Domain(dataset=data_set, labels="b.tif", **given), data_dir) == Domain(
            labels="b.tif", foreground=">0", **given)
        with pytest.raises(InputError) as caught:
            resolve(Domain(dataset=data_set, image="mine.tif"), data_dir, "--config.source")
        assert str(caught.value) == ("--config.source.pixel_size_nm=0.0: must be given for mine.tif, in nm and above 0; that of"
                                     " --config.source.dataset=cells is not used, as --config.source.image is given")
    other = Domain(dataset="epfl", image=os.path.join("data", "cells", "raw.tif"), pixel_size_nm=3.0)
    assert resolve(other, "data").dataset == ""  # it is the data set's own of another data set
    assert resolve(Domain(dataset="epfl", image="phantom://target/image"), "data").pixel_size_nm == pytest.approx(4.6)


def test_the_image_of_the_data_set_may_be_spelt_otherwise(data_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for image in (tmp_path / "data" / "cells" / "raw.tif", "data/cells/../cells/raw.tif", "~/data/cells/raw.tif"):
        for data_dir in ("data", tmp_path / "data", "./data/", "~/data"):
            filled = resolve(Domain(dataset=data_set, image=str(image)), str(data_dir))
            assert (filled.dataset, filled.image, filled.foreground) == (data_set, str(image), "==2")


def test_other_labels_get_the_default_rule_and_keep_the_rest(data_set):
    filled = resolve(Domain(dataset=data_set, labels="mine.tif"), "data")
    assert (filled.dataset, filled.labels, filled.foreground) == (data_set, "mine.tif", ">0")
    assert (filled.image, filled.pixel_size_nm) == (os.path.join("data", "cells", "raw.tif"), 5.0)
    assert resolve(Domain(dataset=data_set, labels="mine.tif", foreground="==7"), "data").foreground == "==7"
    own = Domain(dataset=data_set, labels=os.path.abspath(os.path.join("data", "cells", "labels.tif")))
    assert resolve(own, "data").foreground == "==2"


@pytest.mark.parametrize("given", [
    {}, {"labels": "mine.tif"}, {"pixel_size_nm": 3.0}, {"foreground": "==1"}, {"image": "mine.tif", "pixel_size_nm": 3.0},
    {"image": "mine.tif", "labels": "b.tif", "pixel_size_nm": 3.0}, {"image": "phantom://source/image"}])
@pytest.mark.parametrize("data_dir", ["data", "~/data", "../data"])
def test_a_result_can_be_resolved_again_even_after_its_paths_were_made_absolute(data_set, given, data_dir):
    once = resolve(Domain(dataset=data_set, **given), data_dir)
    assert resolve(once, data_dir) == once
    absolute = {name: path if not path or "://" in path else os.path.abspath(os.path.expanduser(path))
                for name, path in (("image", once.image), ("labels", once.labels), ("data_dir", data_dir))}
    moved = dataclasses.replace(once, image=absolute["image"], labels=absolute["labels"])
    assert resolve(moved, absolute["data_dir"]) == moved


def test_labels_without_a_rule_are_foreground_above_0():
    assert resolve(Domain(image="a.tif", labels="b.tif", pixel_size_nm=3.0), "").foreground == ">0"
    assert resolve(Domain(image="a.tif", pixel_size_nm=3.0), "").foreground == ""


def test_a_phantom_knows_its_pixel_size():
    assert resolve(Domain(image="phantom://target/image?seed=1"), "").pixel_size_nm == pytest.approx(4.6)


@pytest.mark.parametrize(("domain", "data_dir", "named"), [
    (Domain(dataset="hela"), "data", "--config.target.dataset=hela: must be one of epfl"),
    (Domain(dataset="vnc"), "", "--config.data_dir is empty"),
    (Domain(dataset="vnc", labels="b.tif"), "", "--config.data_dir is empty"),
    (Domain(dataset="hela", image="a.tif", pixel_size_nm=3.0), "data", "--config.target.dataset=hela"),
    (Domain(), "data", "--config.target.image"),
    (Domain(image="a.tif"), "data", "--config.target.pixel_size_nm=0.0"),
])
def test_what_is_missing_is_named_in_one_line(domain, data_dir, named):
    with pytest.raises(InputError) as caught:
        resolve(domain, data_dir, "--config.target", "--config.data_dir")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError) as caught:
        resolve(domain, data_dir)
    assert named.replace("--config.target", "domain").replace("--config.", "") in str(caught.value)
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(("name", "shape", "share"), [("epfl", (52, 768, 1024), 5.75), ("vnc", (20, 1024, 1024), 5.39)])
def test_the_published_volumes_have_their_shape_and_share_of_mitochondria(real_data, name, shape, share):
    domain = resolve(Domain(dataset=name), str(real_data))
    opened, masks = read_volume(domain.image), read_volume(domain.labels, labels=True)
    check_pair(opened, masks, "--config.source.image", "--config.source.labels")
    assert opened.voxel_nm == masks.voxel_nm == (None, None, None)
    image, labels = opened.store, masks.store
    if name == "epfl" and image.shape[0] == 165:
        pytest.skip("the figures are of every third section")
    assert image.shape == shape
    classes = apply_rule(labels.read().result(), label_rule(domain.foreground, "", "--config.source"))
    assert 100 * classes.mean() == pytest.approx(share, abs=0.005)
