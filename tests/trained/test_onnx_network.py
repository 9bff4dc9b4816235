"""The ONNX network gives yseg's probabilities, whatever architecture a config chooses."""

import dataclasses
import itertools
import sys

import numpy as np
import pytest
from networks import CHOICES, variables_of

from yseg.config import Inference, InputError, Model
from yseg.inference.predictor import make_predictor
from yseg.trained import onnx_network
from yseg.trained.onnx_network import onnx_model

onnx = pytest.importorskip("onnx", reason="see tests/requirements.txt")
onnxruntime = pytest.importorskip("onnxruntime", reason="see tests/requirements.txt")

SMALL = Model(levels=2, features=8, groups=4)
SHAPES = ((1, 16, 16), (2, 24, 40), (3, 60, 12))  # batch, y, x


def difference(model, variables, shape, reference=None):
    """(largest difference of the probabilities of ONNX Runtime and yseg, spread of yseg's)."""
    images = np.random.default_rng(1).normal(size=(*shape, model.sections)).astype(np.float32)
    expected = make_predictor(reference or model, Inference(), variables)(images, (0.0, 1.0))
    session = onnxruntime.InferenceSession(onnx_model(model, variables).SerializeToString())
    found, = session.run(None, {onnx_network.INPUT: images.transpose(0, 3, 1, 2)})
    assert found.dtype == np.float32
    return np.abs(found.transpose(0, 2, 3, 1) - expected).max(), expected.std()


@pytest.mark.parametrize(("normalization", "activation"), [
    *((name, "relu") for name in CHOICES["normalization"]), *(("batch", name) for name in CHOICES["activation"][1:]),
    *zip(itertools.cycle(CHOICES["normalization"][1:]), CHOICES["activation"][1:])])
@pytest.mark.parametrize("residual", [False, True])
def test_every_normalisation_and_activation_of_a_config_is_computed_as_yseg_does(normalization, activation, residual):
    model = dataclasses.replace(SMALL, normalization=normalization, activation=activation, residual=residual)
    found, spread = difference(model, variables_of(model), SHAPES[1])
    assert found < 1e-5
    assert spread > 0.02


@pytest.mark.parametrize("fields", [
    {"levels": 1}, {"levels": 4, "features": 4}, {"features": 3}, {"classes": 3}, {"classes": 7}, {"sections": 3},
    {"sections": 5, "classes": 4, "normalization": "group", "groups": 2}, {"dropout": 0.5}, {"rematerialise": True}], ids=str)
def test_so_are_depth_maps_classes_sections_and_what_only_training_knows(fields):
    model = dataclasses.replace(SMALL, **fields)
    found, spread = difference(model, variables_of(model), (2, 48, 32))
    assert found < 1e-5
    assert spread > 0.02


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("normalization", ["batch", "group"])
def test_one_network_takes_any_batch_and_any_multiple_in_y_and_x(shape, normalization):
    model = dataclasses.replace(SMALL, normalization=normalization)
    assert difference(model, variables_of(model), shape)[0] < 1e-5


def test_activations_of_bfloat16_are_float32_in_it():
    model = dataclasses.replace(SMALL, compute_dtype="bfloat16")
    variables = variables_of(model)
    plain = dataclasses.replace(model, compute_dtype="float32")
    assert difference(model, variables, SHAPES[1], reference=plain)[0] < 1e-5
    assert 1e-5 < difference(model, variables, SHAPES[1])[0] < 0.1


def test_every_choice_of_the_architecture_is_one_that_is_tested_here():
    assert {*CHOICES} == {"normalization", "activation", "compute_dtype", "batch_pass", "batch_statistics"}
    assert CHOICES["compute_dtype"] == ("float32", "bfloat16")


def test_the_model_is_sound_and_says_its_shapes():
    model = onnx_model(SMALL, variables_of(SMALL))
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", onnx_network.OPSET)]
    given, = model.graph.input
    assert [size.dim_param or size.dim_value for size in given.type.tensor_type.shape.dim] == ["batch", 1, "y", "x"]
    assert {node.domain for node in model.graph.node} == {""}  # operators of ONNX alone


def test_without_onnx_one_line_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = r'^--format=bioimageio: needs onnx, which pip install "\.\[bioimageio\]" in the folder of yseg brings$'
    with pytest.raises(InputError, match=said):
        onnx_model(SMALL, {}, "--format=bioimageio")


def test_a_network_that_one_file_cannot_hold_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_network, "_LARGEST", 1000)
    with pytest.raises(InputError, match="over 2 GiB of weights"):
        onnx_model(SMALL, variables_of(SMALL))
