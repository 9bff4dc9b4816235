"""The network for PyTorch gives yseg's probabilities, whatever architecture a config chooses; its file needs PyTorch alone."""

import ast
import dataclasses
import subprocess
import sys

import jax
import numpy as np
import pytest
from networks import CHOICES, variables_of

from yseg.config import Inference, Model
from yseg.inference.predictor import make_predictor
from yseg.models import segmentation_network
from yseg.trained.pytorch_weights import ARCHITECTURE, arguments, import_torch, pytorch_network, state_dict

torch = pytest.importorskip("torch", reason="see tests/requirements.txt")

SMALL = Model(levels=2, features=8, groups=4)


def difference(model, shape):
    """(largest difference of the probabilities of PyTorch and yseg, spread of yseg's)."""
    variables = variables_of(model)
    images = np.random.default_rng(1).normal(size=(*shape, model.sections)).astype(np.float32)
    expected = make_predictor(model, Inference(), variables)(images, (0.0, 1.0))
    with torch.no_grad():
        found = pytorch_network(model, variables)(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    assert found.dtype == np.float32
    return np.abs(found.transpose(0, 2, 3, 1) - expected).max(), expected.std()


@pytest.mark.parametrize("normalization", CHOICES["normalization"])
@pytest.mark.parametrize("activation", CHOICES["activation"])
@pytest.mark.parametrize("residual", [False, True])
def test_every_normalisation_and_activation_of_a_config_is_computed_as_yseg_does(normalization, activation, residual):
    model = dataclasses.replace(SMALL, normalization=normalization, activation=activation, residual=residual)
    found, spread = difference(model, (2, 24, 40))
    assert found < 1e-5
    assert spread > 0.02


@pytest.mark.parametrize("fields", [
    {"levels": 1}, {"levels": 4, "features": 4}, {"features": 3}, {"classes": 7}, {"sections": 5, "classes": 4},
    {"dropout": 0.5}], ids=str)
def test_so_are_depth_maps_classes_sections_and_what_only_training_knows(fields):
    found, spread = difference(dataclasses.replace(SMALL, **fields), (1, 48, 32))
    assert found < 1e-5
    assert spread > 0.02


def test_it_has_a_weight_for_each_of_yseg_and_none_besides():
    variables = variables_of(SMALL)
    names = {*state_dict(SMALL, variables)}
    own = {name for name in pytorch_network(SMALL, variables).state_dict() if not name.endswith("num_batches_tracked")}
    assert names == own
    sizes = sum(values.size for values in state_dict(SMALL, variables).values())
    assert sizes == sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_trained_on_it_computes_what_yseg_does_in_training():
    """Statistics of the batch, and the share of them that the running ones take."""
    variables = variables_of(SMALL)
    images = np.random.default_rng(1).normal(size=(2, 24, 40, 1)).astype(np.float32)
    network = pytorch_network(SMALL, variables).train()
    found = network.logits(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    expected, changed = segmentation_network(SMALL).apply(variables, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(found.detach().numpy().transpose(0, 2, 3, 1), expected, atol=1e-4)
    mean = network.state_dict()["encoder.1.normalization_0.running_mean"]
    ours = changed["batch_stats"]["encoder"]["level_1"]["Normalization_0"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, ours, atol=1e-5)


def test_its_file_imports_nothing_that_has_to_be_installed_but_pytorch():
    tree = ast.parse(ARCHITECTURE.read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} <= {"torch", "typing"}


@pytest.mark.slow
def test_a_program_without_yseg_reads_it(tmp_path):
    variables = variables_of(SMALL)
    (tmp_path / "unet.py").write_bytes(ARCHITECTURE.read_bytes())
    network = pytorch_network(SMALL, variables)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    images = np.random.default_rng(1).normal(size=(1, 1, 16, 16)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    program = f"""
import sys, numpy, torch, unet
network = unet.UNet(**{arguments(SMALL)!r}).eval()
network.load_state_dict(torch.load("weights.pt", weights_only=True))
with torch.no_grad():
    numpy.save("found.npy", network(torch.from_numpy(numpy.load("images.npy"))).numpy())
assert not {{name for name in sys.modules if name.partition(".")[0] in ("yseg", "jax", "flax")}}
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    expected = make_predictor(SMALL, Inference(), variables)(images.transpose(0, 2, 3, 1), (0.0, 1.0))
    np.testing.assert_allclose(np.load(tmp_path / "found.npy").transpose(0, 2, 3, 1), expected, atol=1e-5)


def test_without_pytorch_there_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert import_torch() is None
