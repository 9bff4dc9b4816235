"""yseg.data.catalog: what a data set fills in."""

import dataclasses

import pytest

from yseg.config import Domain, InputError
from yseg.data.labels import apply_rule, label_rule
from yseg.volumes.catalog import DATASETS, resolve
from yseg.volumes.volume import check_pair, open_volume


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_fills_what_is_empty_and_nothing_else(name):
    domain = Domain(dataset=name)
    before = dataclasses.asdict(domain)
    filled = resolve(domain, "data")
    assert dataclasses.asdict(domain) == before
    assert filled.image.startswith("data")
    assert filled.labels != filled.image
    assert filled.pixel_size_nm == DATASETS[name].pixel_size_nm > 0
    label_rule(filled.foreground, filled.unlabelled, "--config.source")
    own = Domain(dataset=name, image="a.tif", labels="b.tif", pixel_size_nm=3.0, foreground="==1")
    assert resolve(own, "") == own


def test_labels_without_a_rule_are_foreground_above_0():
    assert resolve(Domain(image="a.tif", labels="b.tif", pixel_size_nm=3.0), "").foreground == ">0"
    assert resolve(Domain(image="a.tif", pixel_size_nm=3.0), "").foreground == ""


def test_a_phantom_knows_its_pixel_size():
    assert resolve(Domain(image="phantom://target/image?seed=1"), "").pixel_size_nm == pytest.approx(4.6)


@pytest.mark.parametrize(("domain", "data_dir", "named"), [
    (Domain(dataset="hela"), "data", "--config.target.dataset=hela: must be one of epfl"),
    (Domain(dataset="vnc"), "", "--config.data_dir"),
    (Domain(), "data", "--config.target.image"),
    (Domain(image="a.tif"), "data", "--config.target.pixel_size_nm=0.0"),
])
def test_what_is_missing_is_named_in_one_line(domain, data_dir, named):
    with pytest.raises(InputError) as caught:
        resolve(domain, data_dir, "--config.target")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "shape", "share"), [("epfl", (52, 768, 1024), 5.75), ("vnc", (20, 1024, 1024), 5.39)])
def test_the_published_volumes_have_their_shape_and_share_of_mitochondria(real_data, name, shape, share):
    domain = resolve(Domain(dataset=name), str(real_data))
    image, labels = open_volume(domain.image), open_volume(domain.labels)
    check_pair(image, labels, "--config.source.image", "--config.source.labels")
    if name == "epfl" and image.shape[0] == 165:
        pytest.skip("the figures are of every third section")
    assert image.shape == shape
    classes = apply_rule(labels.read().result(), label_rule(domain.foreground, "", "--config.source"))
    assert 100 * classes.mean() == pytest.approx(share, abs=0.005)
