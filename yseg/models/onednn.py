"""3x3 convolutions by oneDNN on a CPU, which can add an offset and apply ReLU before anything is written.

jaxlib carries oneDNN, and XLA knows calls of it by a name that is not documented. So it is tried once whether they compute what
they should; where they do not, XLA's own convolution is used. A program with such calls cannot be kept in the cache of compiled
programs.
"""

import functools
import json
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yseg.config import Model
from yseg.models import convolution as xla

_TARGET = "__onednn$convolution"
_SAME = ((1, 1), (1, 1))  # zeros before and behind, in y and x
_PAYS = 5e8  # values of maps at full resolution, in all steps: on two cores 17 s gained, and 8 lost by compiling anew


def convolve(x: Float[Array, "batch y x channel"], kernel: Float[Array, "3 3 channel feature"],
             offset: Float[Array, "feature"], *, relu: bool = False) -> Float[Array, "batch y x feature"]:
    """3x3 convolution of stride 1 with zeros beyond the border, plus an offset, and at least 0 if `relu`.

    Args:
      x: [batch, y, x, channel].
      kernel: [3, 3, channel, feature].
      offset: [feature].
    """
    return _call(x, kernel, (offset,), ("BIAS", "RELU") if relu else ("BIAS",))


def plain(x: Float[Array, "batch y x channel"], kernel: Float[Array, "3 3 channel feature"],
          offset: Float[Array, "feature"], *, relu: bool = False) -> Float[Array, "batch y x feature"]:
    """The same by XLA."""
    y = xla.convolution(x, kernel) + offset[None, None, None]
    return jnp.maximum(y, 0) if relu else y


def pays(model: Model, pixels: int) -> bool:
    """Whether a training gains more by oneDNN than it loses by compiling its step at every start, see the head of this module.

    Args:
      model: the network.
      pixels: that it will see, of all steps and patches together.
    """
    return model.compute_dtype == "float32" and pixels * model.features >= _PAYS and available()


@jax.custom_vjp
def convolution(x: Float[Array, "batch y x channel"],
                kernel: Float[Array, "3 3 channel feature"]) -> Float[Array, "batch y x feature"]:
    """`yseg.models.convolution.convolution` by oneDNN, and its gradients too; float32."""
    return _call(x, kernel)


def _forward(x, kernel):
    return convolution(x, kernel), (x, kernel)


def _backward(inputs, gradient):
    x, kernel = inputs
    turned = kernel.reshape(9, -1)[::-1].reshape(kernel.shape)  # by half a turn
    return _call(gradient, turned, kernel_axes=(0, 1, 3, 2)), kernel_gradient(x, gradient)


convolution.defvjp(_forward, _backward)


def kernel_gradient(x: Float[Array, "batch y x channel"],
                    gradient: Float[Array, "batch y x feature"]) -> Float[Array, "3 3 channel feature"]:
    """The gradient of a convolution's kernel as a convolution, of which x is the image and the gradient the kernel.

    Samples are its maps. Its columns are those of x and the maps of x together, as both lie in memory, so that the kernel's are
    as far apart as there are maps: the result has 3 rows, and columns enough to fill the vectors of a processor.

    Args:
      x: [batch, y, x, channel].
      gradient: of the output, [batch, y, x, feature].
    """
    batch, height, width, channels = x.shape
    image = x.transpose(1, 2, 3, 0).reshape(1, height, width * channels, batch)
    found = _call(image, gradient, kernel_axes=(1, 2, 0, 3), padding=((1, 1), (channels, channels)), dilation=(1, channels))
    return found.reshape(3, 3, channels, -1)


@functools.cache
def available() -> bool:
    """Whether this jaxlib has the call, on this CPU, and it computes a convolution and its gradients."""
    if jax.default_backend() != "cpu":
        return False
    random = np.random.default_rng(0)
    shapes = ((2, 6, 5, 3), (3, 3, 3, 4), (4,), (2, 6, 5, 4))
    given = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Error writing persistent compilation cache")  # what has the call cannot be kept
            found = jax.jit(functools.partial(_tried, convolve, convolution))(*given)
    except jax.errors.JaxRuntimeError:
        return False
    expected = jax.jit(functools.partial(_tried, plain, xla.convolution))(*given)
    return all(np.allclose(mine, own, atol=1e-4) for mine, own in zip(found, expected, strict=True))


def _tried(convolve, convolution, x, kernel, offset, gradient):
    """All that these two compute: the first forwards, the second backwards."""
    _, backward = jax.vjp(convolution, x, kernel)
    return convolve(x, kernel, offset, relu=True), *backward(gradient)


def _call(x, kernel, more=(), operations: Sequence[str] = (), *, kernel_axes=(0, 1, 2, 3), padding=_SAME, dilation=(1, 1)):
    """The convolution of stride 1, and after it operations that are fused with it, with their operands.

    Which axes of the kernel are y, x, channel and feature is up to `kernel_axes`: oneDNN puts it in an order of its own anyway.
    Around the image there are zeros; under the kernel lie pixels of it as far apart as `dilation`.
    """
    maps = {"batch_dim": "0", "feature_dim": "3", "spatial_dims": ["1", "2"]}
    before, behind = ([f"{sizes[end]}" for sizes in padding] for end in range(2))
    *windows, _, features = (kernel.shape[axis] for axis in kernel_axes)
    *spatial, channel, feature = (f"{axis}" for axis in kernel_axes)
    config: dict[str, Any] = {
        "dims": "4", "feature_groups": "1", "input": {"dims": "4", "data": maps}, "output": {"dims": "4", "data": maps},
        "kernel": {"dims": "4", "filter": {"input_feature_dim": channel, "output_feature_dim": feature, "spatial_dims": spatial,
                                           "shape": [f"{size}" for size in kernel.shape]}},
        "window": {"size": [f"{size}" for size in windows], "pad_left": before, "pad_right": behind,
                   "strides": ["1", "1"], "window_dilations": [f"{size}" for size in dilation]}}
    if operations:
        config["fusions"] = {"ops": list(operations)}
    sides = (size + sum(zeros) - apart * (window - 1)
             for size, zeros, apart, window in zip(x.shape[1:3], padding, dilation, windows, strict=True))
    result = jax.ShapeDtypeStruct((x.shape[0], *sides, features), x.dtype)
    return jax.ffi.ffi_call(_TARGET, result, custom_call_api_version=2, vmap_method="sequential",
                            legacy_backend_config=json.dumps({"onednn_conv_config": config}))(x, kernel, *more)
