"""bioimageio.core, which other programs use, accepts a package, and gives yseg's probabilities."""

import dataclasses

import numpy as np
import pytest
from tiny import experiment

import yseg
from yseg.config import SECTION, VOLUME, Model, Sampling
from yseg.data.patches import section_numbers
from yseg.trained.bioimage import sizes
from yseg.trained.example import z_scored
from yseg.trained.pytorch_weights import import_torch

core = pytest.importorskip("bioimageio.core", reason="see tests/requirements.txt")

NETWORKS = {
    "plain": {},
    "of sections": {"sampling": Sampling(patch_size=16, batch_size=2, normalization=SECTION)},
    "three sections, three classes": {"model": Model(levels=2, features=4, sections=3, classes=3)},
    "of groups": {"model": Model(levels=1, features=4, normalization="group", groups=2, activation="silu", residual=True)}}


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def network(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    yseg.train(experiment(**NETWORKS[request.param]), workdir, quiet=True)
    found = yseg.load_run(workdir)
    inference = dataclasses.replace(found.config.inference, depth_nm=0.0)  # which the network does not do
    return dataclasses.replace(found, config=dataclasses.replace(found.config, inference=inference))


@pytest.fixture(scope="module")
def package(network, tmp_path_factory):
    return yseg.export(network, tmp_path_factory.mktemp("packages") / "package", format="bioimageio")


def test_it_passes_the_test_of_a_model(package):
    check(f"{package}/rdf.yaml")


def test_one_file_passes_the_test_of_a_model(network, tmp_path):
    if network.config.model.normalization == "batch":
        pytest.skip("a file of one network is enough: a package is the same in a file")
    check(yseg.export(network, tmp_path / "package.zip", format="bioimageio"))


def check(source):
    """Let the zoo's program test a model with each of its weights, also with larger inputs than those of the package."""
    summary = core.test_model(source)
    assert summary.status == "passed", [error.msg for detail in summary.details for error in detail.errors]
    for weights in ["onnx", *(["pytorch_state_dict"] if import_torch() else [])]:
        assert any(f"Run {weights} inference" in detail.name and "batch_size: 2 and size parameter n: 2" in detail.name
                   for detail in summary.details)


@pytest.mark.parametrize("weights", ["onnx", "pytorch_state_dict"])
def test_a_tile_gets_the_probabilities_of_yseg(network, package, weights):
    """Without a halo, of which programs and yseg know what to make."""
    if weights == "pytorch_state_dict":
        pytest.importorskip("torch", reason="see tests/requirements.txt")
    model, (smallest, step, _) = network.config.model, sizes(network.config.model)
    shape = (model.sections, smallest + 4 * step, smallest + 9 * step)
    tile = yseg.open_volume("phantom://target/image?shape={},{},{}&seed=3".format(*shape)).read().result().astype(np.float32)
    described = core.load_model_description(package)
    with core.create_prediction_pipeline(described, weight_format=weights) as pipeline:
        sample = core.digest_spec.create_sample_for_model(described, inputs={"raw": tile[None]})
        found = pipeline.predict_sample_without_blocking(sample, skip_input_padding=True, skip_output_cropping=True)
    normalised = z_scored(tile, network.config.sampling.normalization)
    expected = network.predictor()(normalised.transpose(1, 2, 0)[None], (0.0, 1.0))
    np.testing.assert_allclose(np.moveaxis(found.members["probabilities"].to_numpy(), 1, -1), expected, atol=1e-5)
    assert expected.std() > 1e-3


def test_a_volume_in_tiles_gets_the_probabilities_of_yseg_to_its_border(network, package):
    """Beyond which both mirror the image. Sections of which each has its own mean are given one by one."""
    model = network.config.model
    if model.normalization != "batch":
        pytest.skip("group normalisation looks at a whole tile: yseg's tiles are not those of bioimageio.core")
    smallest, step, _ = sizes(model)
    rows, columns = smallest + 4 * step, smallest + 9 * step
    volume = yseg.open_volume(f"phantom://target/image?shape=3,{rows},{columns}&seed=3").read().result()
    volume = np.maximum(volume, 1)  # where sections are normalised, yseg takes 0 for no tissue
    channels = np.stack([volume[section_numbers(number, model.sections, len(volume))] for number in range(len(volume))])
    given = [channels] if network.config.sampling.normalization == VOLUME else channels[:, None]
    found = [core.predict(model=package, inputs={"raw": part.astype(np.float32)}, blocksize_parameter=2) for part in given]
    probabilities = np.concatenate([part.members["probabilities"].to_numpy() for part in found])
    expected = yseg.predict(network, volume)
    np.testing.assert_allclose(np.moveaxis(probabilities, 1, -1), expected, atol=1e-5)
    assert expected.std() > 1e-3
