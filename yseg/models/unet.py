"""The U-Net (Ronneberger et al. 2015) as the paper uses it: 2-D, encoder and decoder with skips."""

import functools
from collections.abc import Sequence

from flax import linen as nn
from jaxtyping import Array, Float, Key

from yseg.models.blocks import Block, Decoder, Encoder


def receptive_radius(levels: int) -> int:
    """How far, in pixels, an output pixel sees in y or x, at the worst position on the pooling lattice."""
    radius = 0
    for pixel in range(2**levels):
        first = last = pixel
        for _ in range(levels):  # decoder, from full resolution down: a block, then the pixel below that was upsampled
            first, last = (first - 2) // 2, (last + 2) // 2
        first, last = first - 2, last + 2  # the bottleneck's block
        for _ in range(levels):  # encoder, upwards: the pixels that were pooled, then a block
            first, last = 2 * first - 2, 2 * last + 1 + 2
        radius = max(radius, pixel - first, last - pixel)
    return radius


class UNet(nn.Module):
    """2-D U-Net: images `[batch, y, x, section]` -> logits `[batch, y, x, class]`; y and x are multiples of `2**levels`.

    `encode` gives the last activation of every encoder level (the paper's f_i), `decode` turns them into logits. Dropout needs
    `keys`, one random key per sample. See `yseg.config.Model` for the fields, and `Block`.
    """

    levels: int = 4
    features: int = 32
    classes: int = 2
    normalization: str = "batch"
    groups: int = 8
    dropout: float = 0.0
    activation: str = "relu"
    residual: bool = False
    dtype: str = "float32"
    rematerialise: bool = False
    axis_name: str | None = None
    by_onednn: bool = False

    def setup(self) -> None:
        self.encoder = Encoder(self.levels, self.features, self._block())
        self.decoder = Decoder(self.levels, self.features, self.classes, self._block(), dtype=self.dtype)

    def _block(self):
        # Argument 2 is `train`, a Python bool.
        block = nn.remat(Block, static_argnums=(2,)) if self.rematerialise else Block
        return functools.partial(
            block, normalization=self.normalization, groups=self.groups, dropout=self.dropout, activation=self.activation,
            residual=self.residual, dtype=self.dtype, axis_name=self.axis_name, by_onednn=self.by_onednn)

    def encode(self, images: Float[Array, "batch y x section"], train: bool = False,
               keys: Key[Array, "batch"] | None = None) -> tuple[Float[Array, "batch _ _ _"], ...]:
        """Activations of every encoder level and the bottleneck: `[batch, y / 2**i, x / 2**i, features * 2**i]` for level i."""
        return self.encoder(images, train, keys)

    def decode(self, activations: Sequence[Float[Array, "batch _ _ _"]], train: bool = False,
               keys: Key[Array, "batch"] | None = None) -> Float[Array, "batch y x class"]:
        """Logits `[batch, y, x, class]`, float32, from the activations of `encode`."""
        return self.decoder(activations, train, keys)

    def __call__(self, images: Float[Array, "batch y x section"], train: bool = False,
                 keys: Key[Array, "batch"] | None = None) -> Float[Array, "batch y x class"]:
        """Logits `[batch, y, x, class]`, float32."""
        return self.decode(self.encode(images, train, keys), train, keys)

    @property
    def multiple(self) -> int:
        """Sizes and positions of images are multiples of this many pixels."""
        return 2**self.levels

    @property
    def halo(self) -> int:
        """Pixels around a tile that its inner part depends on, a multiple of `multiple`."""
        return -(-receptive_radius(self.levels) // self.multiple) * self.multiple
