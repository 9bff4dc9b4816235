"""The segmentation network of yseg as a module of PyTorch, of which this file is all that is needed.

A package of bioimage.io holds a copy of it, so it imports nothing of yseg. yseg does not import it where PyTorch is missing.
"""

from typing import Any

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "silu": nn.SiLU}


class Block(nn.Module):
    """Two 3x3 convolutions, each normalised and activated; with `residual` the input is added before the last activation."""

    def __init__(self, inputs: int, features: int, *, normalization: str, groups: int, activation: str, residual: bool) -> None:
        super().__init__()
        bias = normalization == "none"
        self.convolution_0 = nn.Conv2d(inputs, features, 3, padding=1, bias=bias)
        self.convolution_1 = nn.Conv2d(features, features, 3, padding=1, bias=bias)
        self.normalization_0 = _normalization(normalization, features, groups)
        self.normalization_1 = _normalization(normalization, features, groups)
        self.activate = nn.GELU(approximate="tanh") if activation == "gelu" else ACTIVATIONS[activation]()
        self.residual = residual
        self.shortcut = nn.Conv2d(inputs, features, 1, bias=False) if residual and inputs != features else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, inputs, y, x] -> [batch, features, y, x]."""
        result = self.activate(self.normalization_0(self.convolution_0(x)))
        result = self.normalization_1(self.convolution_1(result))
        return self.activate(result + self.shortcut(x) if self.residual else result)


class UNet(nn.Module):
    """Normalised sections [batch, section, y, x], float32 -> probabilities [batch, class, y, x].

    y and x are multiples of 2 to the power of `levels`. There is no dropout, which plays a part in training alone.

    Args:
      levels: how often the encoder halves the size.
      features: maps of the first level; twice as many at each further one.
      sections: channels of the input: the section that is segmented, in the middle, and those around it.
      classes: channels of the output; the first is background.
      normalization: "batch", "instance", "group" or "none".
      groups: of maps, with "group".
      activation: "relu", "leaky_relu", "elu", "gelu" or "silu".
      residual: whether a block's input is added to its result.
    """

    def __init__(self, levels: int, features: int, *, sections: int = 1, classes: int = 2, normalization: str = "batch",
                 groups: int = 8, activation: str = "relu", residual: bool = False) -> None:
        super().__init__()
        maps = [features * 2**level for level in range(levels + 1)]
        kind: dict[str, Any] = {"normalization": normalization, "groups": groups, "activation": activation, "residual": residual}
        self.encoder = nn.ModuleList(
            Block(inputs, outputs, **kind) for inputs, outputs in zip([sections, *maps[:-1]], maps, strict=True))
        self.pool = nn.MaxPool2d(2)
        # A transposed convolution of stride 2 has one offset a map; yseg's upsampling has one for each of the four pixels.
        self.upsample = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * size, 4 * size, 1), nn.PixelShuffle(2)) for size in maps[:-1])
        self.decoder = nn.ModuleList(Block(2 * size, size, **kind) for size in maps[:-1])
        self.output = nn.Conv2d(features, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities [batch, class, y, x]."""
        return torch.softmax(self.logits(x), dim=1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """What the probabilities are the softmax of, for those who train on: [batch, class, y, x]."""
        activations = []
        for level, block in enumerate(self.encoder):
            x = block(self.pool(x) if level else x)
            activations.append(x)
        for level in reversed(range(len(self.decoder))):
            x = torch.cat([activations[level], self.upsample[level](x)], dim=1)
            x = self.decoder[level](x)
        return self.output(x)


def _normalization(kind, features, groups):
    if kind == "none":
        return nn.Identity()
    if kind == "batch":
        return nn.BatchNorm2d(features, eps=1e-5, momentum=0.02)  # PyTorch's momentum is the share of what is new
    return nn.GroupNorm({"instance": features, "group": groups}[kind], features, eps=1e-6)
