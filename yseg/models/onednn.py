"""3x3 convolutions by oneDNN on a CPU, which can add an offset, another map, and apply ReLU before anything is written.

jaxlib carries oneDNN, and XLA knows calls of it by a name that is not documented. So it is tried once whether they compute what
they should; where they do not, XLA's own convolution is used.
"""

import functools
import json
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yseg.models.convolution import convolution

_TARGET = "__onednn$convolution"


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
    y = convolution(x, kernel) + offset[None, None, None]
    return jnp.maximum(y, 0) if relu else y


@functools.cache
def available() -> bool:
    """Whether this jaxlib has the call, on this CPU, and it computes a convolution."""
    if jax.default_backend() != "cpu":
        return False
    random = np.random.default_rng(0)
    x, kernel, offset = (random.normal(size=shape).astype(np.float32) for shape in ((2, 6, 5, 3), (3, 3, 3, 4), (4,)))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Error writing persistent compilation cache")  # what has the call cannot be kept
            found = jax.jit(functools.partial(convolve, relu=True))(x, kernel, offset)
    except jax.errors.JaxRuntimeError:
        return False
    return bool(np.allclose(found, jax.jit(functools.partial(plain, relu=True))(x, kernel, offset), atol=1e-4))


def _call(x, kernel, more, operations: Sequence[str]):
    """The convolution, and after it operations that are fused with it, with their operands."""
    maps = {"batch_dim": "0", "feature_dim": "3", "spatial_dims": ["1", "2"]}
    config = {
        "dims": "4", "feature_groups": "1", "input": {"dims": "4", "data": maps}, "output": {"dims": "4", "data": maps},
        "kernel": {"dims": "4", "filter": {"input_feature_dim": "2", "output_feature_dim": "3", "spatial_dims": ["0", "1"],
                                           "shape": [str(size) for size in kernel.shape]}},
        "window": {"size": ["3", "3"], "pad_left": ["1", "1"], "pad_right": ["1", "1"], "strides": ["1", "1"],
                   "window_dilations": ["1", "1"]},
        "fusions": {"ops": list(operations)}}
    result = jax.ShapeDtypeStruct((*x.shape[:3], kernel.shape[3]), x.dtype)
    return jax.ffi.ffi_call(_TARGET, result, custom_call_api_version=2, vmap_method="sequential",
                            legacy_backend_config=json.dumps({"onednn_conv_config": config}))(x, kernel, *more)
