"""The segmentation network as it is applied: batch normalisation is part of the convolution before it.

With running statistics, normalisation is a factor and an offset for each map. The factor goes into the kernel.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yseg.config import Model
from yseg.models import onednn
from yseg.models.blocks import ACTIVATIONS, Upsample
from yseg.models.normalization import EPSILON
from yseg.models.pooling import max_pool

Folded = dict[str, Any]
_BLOCKS = ("encoder", "decoder")


def can_fold(model: Model) -> bool:
    """Whether the network has nothing that depends on a whole tile, and computes in float32."""
    return model.normalization in ("batch", "none") and model.compute_dtype == "float32"


def fold(model: Model, variables: Mapping[str, Mapping[str, Any]]) -> Folded:
    """Kernels and offsets of a network, in NumPy arrays, for `folded_logits`.

    Args:
      model: of the network, see `can_fold`.
      variables: {"params": {"encoder", "decoder"}, "batch_stats"} of a U-Net; without normalisation no "batch_stats".
    """
    params, statistics = variables["params"], variables.get("batch_stats", {})
    found: Folded = {"output": params["decoder"]["output"], "up": {}, **{part: {} for part in _BLOCKS}}
    for level in range(model.levels):
        found["up"][f"{level}"] = params["decoder"][f"up_{level}"]["Dense_0"]
    for part in _BLOCKS:
        for name, block in params[part].items():
            if name.startswith("level_"):
                own = statistics[part][name] if model.normalization == "batch" else {}
                found[part][name] = {f"{number}": _layer(block, own, number) for number in range(2)} | (
                    {"shortcut": block["Dense_0"]["kernel"]} if "Dense_0" in block else {})
    return found


def _layer(block, statistics, number):
    """(kernel, offset) of a convolution and the normalisation after it, in float64 before they are rounded."""
    convolution = block[f"Conv_{number}"]
    kernel = np.asarray(convolution["kernel"], np.float64)
    if not statistics:
        return {"kernel": np.float32(kernel), "offset": np.float32(convolution["bias"])}
    given, running = (tree[f"Normalization_{number}"]["BatchNorm_0"] for tree in (block, statistics))
    mean, variance, scale, offset = (np.asarray(each, np.float64) for each in
                                     (running["mean"], running["var"], given["scale"], given["bias"]))
    factor = scale / np.sqrt(variance + EPSILON)
    return {"kernel": np.float32(kernel * factor), "offset": np.float32(offset - mean * factor)}


def folded_logits(model: Model, folded: Folded, images: Float[Array, "batch y x section"], *,
                  by_onednn: bool = False) -> Float[Array, "batch y x class"]:
    """Logits [batch, y, x, class], float32, of images [batch, y, x, section].

    Args:
      model: of the network.
      folded: see `fold`.
      images: as for the network.
      by_onednn: whether `yseg.models.onednn` computes the convolutions; it must be available.
    """
    x, activations = images, []
    for level in range(model.levels + 1):
        if level:
            x = max_pool(x)
        x = _block(model, folded["encoder"][f"level_{level}"], x, by_onednn)
        activations.append(x)
    for level in reversed(range(model.levels)):
        upsampled: Any = Upsample(model.features * 2**level).apply({"params": {"Dense_0": folded["up"][f"{level}"]}}, x)
        x = jnp.concatenate([activations[level], upsampled], axis=-1)
        x = _block(model, folded["decoder"][f"level_{level}"], x, by_onednn)
    output = folded["output"]
    return (x.reshape(-1, x.shape[-1]) @ output["kernel"] + output["bias"][None]).reshape(*x.shape[:-1], -1)


def _block(model, layers, x, by_onednn):
    activate: Callable[..., Any] = ACTIVATIONS[model.activation]
    shortcut = x
    for number in range(2):
        is_sum = number == 1 and model.residual
        layer, relu = layers[f"{number}"], model.activation == "relu" and not is_sum
        by = onednn.convolve if by_onednn else onednn.plain
        x = by(x, layer["kernel"], layer["offset"], relu=relu)
        if is_sum:
            x = x + (shortcut @ layers["shortcut"] if "shortcut" in layers else shortcut)
        if not relu:
            x = activate(x)
    return x
