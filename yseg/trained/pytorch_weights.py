"""The segmentation network for PyTorch: `yseg.trained.pytorch_unet.UNet` with the weights of yseg's."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from yseg.config import Model

ARCHITECTURE = Path(__file__).with_name("pytorch_unet.py")
CALLABLE = "UNet"
_FIELDS = ("levels", "features", "sections", "classes", "normalization", "groups", "activation", "residual")


def import_torch() -> ModuleType | None:
    """PyTorch; None if it is not installed, which yseg does without."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def arguments(model: Model) -> dict[str, Any]:
    """What `UNet` takes to become the network of a config."""
    return {name: getattr(model, name) for name in _FIELDS}


def state_dict(model: Model, variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """{name of PyTorch: float32 array}, all that `UNet` learns.

    Args:
      model: the architecture.
      variables: {"params": {"encoder", "decoder"}, "batch_stats"} of the segmentation network.
    """
    params, statistics = variables["params"], variables.get("batch_stats", {})
    found: dict[str, Any] = {}
    for part in ("encoder", "decoder"):
        for level in range(model.levels + (part == "encoder")):
            name = f"level_{level}"
            found.update({f"{part}.{level}.{key}": value
                          for key, value in _block(params[part][name], statistics.get(part, {}).get(name, {}))})
    for level in range(model.levels):
        dense = params["decoder"][f"up_{level}"]["Dense_0"]
        for key, value in (("weight", np.asarray(dense["kernel"]).T[..., None, None]), ("bias", np.asarray(dense["bias"]))):
            # Of the four pixels, yseg has all maps of one together, PyTorch all pixels of one map.
            value = value.reshape(4, -1, *value.shape[1:]).swapaxes(0, 1)
            found[f"upsample.{level}.0.{key}"] = value.reshape(-1, *value.shape[2:])
    output = params["decoder"]["output"]
    found |= {"output.weight": np.asarray(output["kernel"]).T[..., None, None], "output.bias": output["bias"]}
    return {name: np.ascontiguousarray(value, np.float32) for name, value in found.items()}


def pytorch_network(model: Model, variables: dict[str, Any]) -> Any:
    """The `UNet` of a config, with these variables, see `state_dict`, ready to be applied. PyTorch must be installed."""
    import torch

    from yseg.trained.pytorch_unet import UNet

    network = UNet(**arguments(model)).eval()
    network.load_state_dict({name: torch.from_numpy(values) for name, values in state_dict(model, variables).items()})
    return network


def _block(params, statistics) -> Iterator[tuple[str, Any]]:
    for number in range(2):
        convolution = params[f"Conv_{number}"]
        yield f"convolution_{number}.weight", np.asarray(convolution["kernel"]).transpose(3, 2, 0, 1)
        if "bias" in convolution:
            yield f"convolution_{number}.bias", convolution["bias"]
        for found in params.get(f"Normalization_{number}", {}).values():
            yield f"normalization_{number}.weight", found["scale"]
            yield f"normalization_{number}.bias", found["bias"]
        for found in statistics.get(f"Normalization_{number}", {}).values():
            yield f"normalization_{number}.running_mean", found["mean"]
            yield f"normalization_{number}.running_var", found["var"]
    if "Dense_0" in params:
        yield "shortcut.weight", np.asarray(params["Dense_0"]["kernel"]).T[..., None, None]
