"""`yseg.predict`: probabilities of an array, as of a volume with its values, and without a file."""

import os

import numpy as np
import pytest
import zarr
from tiny import experiment

import yseg
from yseg.data.box import Box
from yseg.data.domain import given_domain, open_domain
from yseg.runs.folder import read_config
from yseg.volumes.arrays import create_array
from yseg.volumes.volume import open_volume

BOTH = ("run", "model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and what was exported of it."""
    folder = tmp_path_factory.mktemp("runs")
    yseg.train(experiment(), folder / "run", quiet=True)
    yseg.export(folder / "run", folder / "model")
    return folder


@pytest.fixture(scope="module")
def image(folder):
    """Grey levels, uint8 [z, y, x]."""
    return open_volume(read_config(folder / "run").target.image).read().result()


def network_in(folder, name):
    """The network of a run, or of a released model."""
    return {"run": yseg.load_run, "model": yseg.load_model}[name](folder / name)


def of_volume(network, array, path, pixel_size_nm):
    """What `segment`'s network says of a Zarr volume with these values, float32 [z, y, x, class]."""
    with create_array(str(path), array.shape, array.dtype, pixel_size_nm) as store:
        store.write(array).result()
    known = given_domain(network.config, str(path), pixel_size_nm=pixel_size_nm)
    volume = open_domain(known, network.config.sampling, "-", with_labels=False)
    return np.concatenate([values for _, values in network.predict(volume, [Box.whole(array.shape)])])


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("pixel_size_nm", [10.0, 7.3])
def test_an_array_gets_the_bits_that_a_volume_with_its_values_gets(folder, image, tmp_path, name, dtype, pixel_size_nm):
    network, array = network_in(folder, name), image.astype(dtype)
    found = yseg.predict(network, array, pixel_size_nm=pixel_size_nm)
    assert (found.dtype, found.shape) == (np.float32, (*array.shape, 2))
    assert found.std() > 0
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(found, of_volume(network, array, tmp_path / "image.zarr", pixel_size_nm))


def test_its_classes_are_those_that_are_segmented(folder, image, tmp_path):
    target = read_config(folder / "run").target
    classes = zarr.open_group(yseg.segment(folder / "run", target.image, tmp_path / "s.zarr", quiet=True), mode="r")["0"][:]
    np.testing.assert_array_equal(yseg.predict(folder / "run", image)[..., 1] >= 0.5, classes)


def test_without_a_pixel_size_the_array_is_on_the_grid_of_the_network(folder, image):
    network = network_in(folder, "run")
    np.testing.assert_array_equal(yseg.predict(network, image), yseg.predict(network, image, pixel_size_nm=10.0))
    assert (yseg.predict(network, image) != yseg.predict(network, image, pixel_size_nm=5.0)).any()


def test_a_section_is_a_volume_of_one(folder, image):
    network = network_in(folder, "run")
    found = yseg.predict(network, image[0])
    assert found.shape == (*image.shape[1:], 2)
    np.testing.assert_array_equal(found, yseg.predict(network, image[:1])[0])


@pytest.mark.parametrize("change", [
    lambda image: image[:, ::-1, ::2], lambda image: np.asfortranarray(image), lambda image: image.tolist(),
    lambda image: image.astype(">u2"), lambda image: image.astype(np.int64), lambda image: image > 100])
def test_the_layout_of_an_array_does_not_count_and_it_stays_as_it_is(folder, image, change):
    array = change(image)
    before, plain = np.array(array), np.ascontiguousarray(np.array(array, np.float32))
    network = network_in(folder, "run")
    np.testing.assert_allclose(yseg.predict(network, array), yseg.predict(network, plain), atol=1e-5)
    np.testing.assert_array_equal(np.array(array), before)


def test_it_does_not_depend_on_scale_or_offset_of_the_grey_levels(folder, image):
    """They are normalised by the array's own mean and deviation."""
    network = network_in(folder, "run")
    np.testing.assert_allclose(yseg.predict(network, image.astype(np.float32) * 3 + 100), yseg.predict(network, image), atol=1e-4)


def test_other_statistics_are_those_of_the_network(folder, image):
    network = network_in(folder, "run")
    found = yseg.predict(folder / "run", image, batch_statistics="source")
    np.testing.assert_array_equal(found, yseg.predict(network.with_statistics("training"), image))
    assert (found != yseg.predict(network, image)).any()


@pytest.mark.parametrize("shape", [(), (7,), (1, 3, 16, 16), (0, 16, 16), (16, 0)])
def test_an_array_of_another_shape_is_a_value_error_that_says_so(folder, shape):
    with pytest.raises(ValueError, match=r"^array\b.*shape.*: must be \[z, y, x\] or \[y, x\]|^array: shape .*; must be"):
        yseg.predict(folder / "run", np.zeros(shape, np.uint8))


@pytest.mark.parametrize("array", [np.zeros((16, 16), complex), np.full((16, 16), "a"), np.full((16, 16), None)])
def test_an_array_of_another_type_is_a_value_error(folder, array):
    with pytest.raises(ValueError, match="array"):
        yseg.predict(folder / "run", array)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("section", [0, 1])
def test_values_that_are_not_finite_are_a_value_error_wherever_they_are(folder, wrong, section):
    """Of many sections the mean and the deviation look at some alone."""
    array = np.random.default_rng(0).normal(size=(40, 32, 32)).astype(np.float32)
    array[section, 20, 3] = wrong
    with pytest.raises(ValueError, match=r"not finite"):
        yseg.predict(folder / "run", array)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan")])
def test_a_pixel_size_that_is_none_is_a_value_error(folder, size):
    with pytest.raises(ValueError, match="pixel_size_nm"):
        yseg.predict(folder / "run", np.zeros((2, 2), np.uint8), pixel_size_nm=size)


@pytest.mark.parametrize("name", BOTH)
def test_nothing_is_written_anywhere(folder, image, tmp_path, monkeypatch, name):
    def state():
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for place in (folder, tmp_path) for path in place.rglob("*")}

    monkeypatch.chdir(tmp_path)
    before = state()
    yseg.predict(network_in(folder, name), image)
    if name == "run":
        yseg.predict(folder / "run", image)
    assert state() == before
    assert os.listdir() == []
