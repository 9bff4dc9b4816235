"""The segmentation network as an ONNX model: the layers of `yseg.models.UNet` once more, in ONNX's own operators.

Of what a config can choose, every architecture is computed as yseg does, but for the type of activations: they are float32
here. Dropout and rematerialisation play no part where a network is applied.
"""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from flax import linen as nn

from yseg.config import InputError, Model
from yseg.models.normalization import EPSILON

OPSET, IR_VERSION = 17, 8  # of 2022: runners that are not updated often have them
INPUT, OUTPUT = "raw", "probabilities"
EXTRA = 'which pip install ".[bioimageio]" in the folder of yseg brings'
_LARGEST = 2**31 - 2**20  # bytes of the weights: a file of protocol buffers holds 2 GiB


def import_onnx(flag: str) -> ModuleType:
    """The package onnx; InputError, naming the flag that needs it, if it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"{flag}: needs onnx, {EXTRA}") from error
    return onnx


def onnx_model(model: Model, variables: dict[str, Any], flag: str = "format") -> Any:
    """The network of a config, with its softmax, as an `onnx.ModelProto` of opset 17.

    Its input "raw" is float32 [batch, section, y, x], normalised; batch, y and x are free, and y and x multiples of
    2 to the power of `model.levels`. Its output "probabilities" is float32 [batch, class, y, x].

    Args:
      model: the architecture.
      variables: {"params": {"encoder", "decoder"}, "batch_stats"} of the segmentation network; batch normalisation uses these
        statistics.
      flag: what messages call the wish for it.

    Raises:
      InputError: onnx is not installed, or the network is too large for one file.
    """
    onnx = import_onnx(flag)
    graph = _Graph(onnx, model)
    encoder, decoder = (_merged(variables, part) for part in ("encoder", "decoder"))
    activations, x = [], INPUT
    for level in range(model.levels + 1):
        if level:
            x = graph.add("MaxPool", [x], f"encoder/pool_{level}", kernel_shape=[2, 2], strides=[2, 2])
        x = graph.block(x, encoder[f"level_{level}"], f"encoder/level_{level}")
        activations.append(x)
    for level in reversed(range(model.levels)):
        x = graph.upsampled(x, decoder[f"up_{level}"], f"decoder/up_{level}")
        x = graph.add("Concat", [activations[level], x], f"decoder/skip_{level}", axis=1)
        x = graph.block(x, decoder[f"level_{level}"], f"decoder/level_{level}")
    x = graph.dense(x, decoder["output"], "decoder/output")
    graph.add("Softmax", [x], OUTPUT, axis=1)
    if sum(weight.ByteSize() for weight in graph.weights) > _LARGEST:
        raise InputError(f"{flag}: a network of model.features={model.features} and model.levels={model.levels} has over 2 GiB"
                         " of weights; must have less for one ONNX file")
    return graph.finished()


def _merged(variables, part):
    """{"level_0": {"Conv_0": {"kernel"}, ...}}: the parameters of a part of the network, its batch statistics among them."""
    def merge(params, statistics):
        return {name: merge(params.get(name, {}), statistics.get(name, {}))
                if isinstance(params.get(name, statistics.get(name)), dict) else params.get(name, statistics.get(name))
                for name in {**params, **statistics}}

    return merge(variables["params"][part], variables.get("batch_stats", {}).get(part, {}))


class _Graph:
    """An ONNX graph that grows: each method adds what a layer takes and returns the name of its result, [batch, map, y, x]."""

    def __init__(self, onnx: ModuleType, model: Model) -> None:
        self._onnx, self._model = onnx, model
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """One operator, whose result gets its name."""
        self.nodes.append(self._onnx.helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        """An array that the graph holds."""
        self.weights.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name

    def dense(self, x: str, variables: dict[str, Any], name: str) -> str:
        """`nn.Dense` of every pixel: a 1x1 convolution."""
        kernel = np.asarray(variables["kernel"]).T[:, :, None, None]
        return self._convolution(x, kernel, variables.get("bias"), name, [0, 0, 0, 0])

    def upsampled(self, x: str, variables: dict[str, Any], name: str) -> str:
        """`yseg.models.blocks.Upsample`. ONNX's transposed convolution has one bias a map, not 2x2."""
        x = self.dense(x, variables["Dense_0"], f"{name}/dense")
        return self.add("DepthToSpace", [x], name, blocksize=2, mode="DCR")

    def block(self, x: str, variables: dict[str, Any], name: str) -> str:
        """`yseg.models.blocks.Block`."""
        shortcut = x
        for number in range(2):
            convolution = variables[f"Conv_{number}"]
            kernel = np.asarray(convolution["kernel"]).transpose(3, 2, 0, 1)
            x = self._convolution(x, kernel, convolution.get("bias"), f"{name}/convolution_{number}", [1, 1, 1, 1])
            x = self._normalised(x, variables.get(f"Normalization_{number}"), f"{name}/normalisation_{number}")
            if number and self._model.residual:
                if "Dense_0" in variables:
                    shortcut = self.dense(shortcut, variables["Dense_0"], f"{name}/shortcut")
                x = self.add("Add", [x, shortcut], f"{name}/sum")
            x = self._activated(x, f"{name}/activation_{number}")
        return x

    def finished(self) -> Any:
        """The `onnx.ModelProto` of what was added, checked."""
        helper, model = self._onnx.helper, self._model
        kind = self._onnx.TensorProto.FLOAT
        given = helper.make_tensor_value_info(INPUT, kind, ["batch", model.sections, "y", "x"])
        result = helper.make_tensor_value_info(OUTPUT, kind, ["batch", model.classes, "y", "x"])
        graph = helper.make_graph(self.nodes, "unet", [given], [result], initializer=self.weights)
        opset = helper.make_opsetid("", OPSET)
        made = helper.make_model(graph, producer_name="yseg", opset_imports=[opset], ir_version=IR_VERSION)
        self._onnx.checker.check_model(made)
        return made

    def _convolution(self, x, kernel, bias, name, pads):
        inputs = [x, self.constant(f"{name}/kernel", kernel)]
        if bias is not None:
            inputs.append(self.constant(f"{name}/bias", bias))
        return self.add("Conv", inputs, name, kernel_shape=list(kernel.shape[2:]), pads=pads)

    def _normalised(self, x, variables, name):
        """`yseg.models.normalization.Normalization`."""
        kind = self._model.normalization
        if kind == "none" or variables is None:
            return x
        if kind == "batch":
            found = variables["BatchNorm_0"]
            inputs = [self.constant(f"{name}/{part}", found[part]) for part in ("scale", "bias", "mean", "var")]
            return self.add("BatchNormalization", [x, *inputs], name, epsilon=EPSILON)
        found = variables["GroupNorm_0"]
        maps = len(found["scale"])
        groups = maps if kind == "instance" else self._model.groups
        # A group of maps is an "instance" of one long row; its maps have their own scale and offset, as [map, 1, 1].
        rows = self.add("Reshape", [x, self.constant(f"{name}/rows", [0, groups, -1], np.int64)], f"{name}/as_rows")
        ones, zeros = (self.constant(f"{name}/{value}", np.full(groups, value)) for value in (1, 0))
        rows = self.add("InstanceNormalization", [rows, ones, zeros], f"{name}/z_score", epsilon=nn.GroupNorm.epsilon)
        shape = self.add("Shape", [x], f"{name}/shape")
        x = self.add("Reshape", [rows, shape], f"{name}/as_maps")
        scale, bias = (self.constant(f"{name}/{part}", np.asarray(found[part])[:, None, None]) for part in ("scale", "bias"))
        return self.add("Add", [self.add("Mul", [x, scale], f"{name}/scaled"), bias], name)

    def _activated(self, x, name):
        """`yseg.models.blocks.ACTIVATIONS`."""
        kind = self._model.activation
        if kind == "leaky_relu":
            return self.add("LeakyRelu", [x], name, alpha=0.01)
        if kind == "silu":
            return self.add("Mul", [x, self.add("Sigmoid", [x], f"{name}/sigmoid")], name)
        if kind == "gelu":
            return self._gelu(x, name)
        return self.add({"relu": "Relu", "elu": "Elu"}[kind], [x], name)

    def _gelu(self, x, name):
        """JAX's `gelu`, the approximation by tanh: x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
        value = {part: self.constant(f"{name}/{part}", number) for part, number in (
            ("three", 3.0), ("cubic", 0.044715), ("slope", math.sqrt(2 / math.pi)), ("one", 1.0), ("half", 0.5))}
        cube = self.add("Pow", [x, value["three"]], f"{name}/cube")
        inner = self.add("Add", [x, self.add("Mul", [cube, value["cubic"]], f"{name}/share")], f"{name}/inner")
        tanh = self.add("Tanh", [self.add("Mul", [inner, value["slope"]], f"{name}/sloped")], f"{name}/tanh")
        gate = self.add("Mul", [self.add("Add", [tanh, value["one"]], f"{name}/raised"), value["half"]], f"{name}/gate")
        return self.add("Mul", [x, gate], name)
