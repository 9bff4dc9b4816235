"""The parts that every network here is made of: dropout, convolution block, upsampling."""

import functools
import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from yseg.models import onednn
from yseg.models.convolution import convolution
from yseg.models.normalization import Normalization, unchanged
from yseg.models.pooling import max_pool

ACTIVATIONS = {"relu": nn.relu, "leaky_relu": nn.leaky_relu, "elu": nn.elu, "gelu": nn.gelu, "silu": nn.silu}


def drop_maps(x: Float[Array, "batch y x channel"], keys: Key[Array, "batch"], rate: float) -> Float[Array, "batch y x channel"]:
    """Set a share `rate` of the feature maps of each sample to 0 and scale the others by 1 / (1 - rate).

    Args:
      x: activations `[batch, y, x, channel]`.
      keys: one random key per sample `[batch]`, so that a sample's mask does not depend on the batch it is in.
      rate: share of the maps to drop, in [0, 1).
    """
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, (1, 1, x.shape[-1])))(keys)
    return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros((), x.dtype))


def block_keys(keys: Key[Array, "batch"], path: tuple[str, ...]) -> Key[Array, "batch"]:
    """Sample keys `[batch]` for the block at a path in the network, such as ("decoder", "level_0"): no two blocks share one."""
    number = zlib.crc32("/".join(path).encode())
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def _convolution(convolve, x, kernel, strides, padding, *, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count,
                 precision):
    """A `convolution` in the form that `nn.Conv` calls. ValueError for what it does not compute."""
    del dimension_numbers  # `nn.Conv` has no others than `convolution`
    given = {"strides": (strides, (1, 1)), "padding": (padding, "SAME"), "input_dilation": (lhs_dilation, (1, 1)),
             "kernel_dilation": (rhs_dilation, (1, 1)), "feature_group_count": (feature_group_count, 1),
             "precision": (precision, None)}
    for name, (value, only) in given.items():
        if value != only:
            raise ValueError(f"{name}={value}: must be {only}")
    return convolve(x, kernel)


class Block(nn.Module):
    """Two 3x3 convolutions, each normalised and activated; a residual sum and dropout if asked for.

    With `by_onednn`, `yseg.models.onednn` computes the convolutions, see there.

    Args of the call: activations `[batch, y, x, channel]`, `train`, and sample keys `[batch]` for dropout (None = no dropout).
    Returns `[batch, y, x, features]`.
    """

    features: int
    normalization: str = "batch"
    groups: int = 8
    dropout: float = 0.0
    activation: str = "relu"
    residual: bool = False
    dtype: str = "float32"
    axis_name: str | None = None
    by_onednn: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "batch y x channel"], train: bool,
                 keys: Key[Array, "batch"] | None = None) -> Float[Array, "batch y x feature"]:
        activate = ACTIVATIONS[self.activation]
        convolve = functools.partial(_convolution, onednn.convolution if self.by_onednn else convolution)
        shortcut = x
        for number in range(2):
            x = nn.Conv(self.features, (3, 3), use_bias=self.normalization == "none", dtype=self.dtype,
                        kernel_init=nn.initializers.he_normal(), conv_general_dilated=convolve)(x)
            is_sum = number == 1 and self.residual
            x = Normalization(self.normalization, self.groups, unchanged if is_sum else activate, self.dtype,
                              self.axis_name)(x, train)
            if is_sum:
                if shortcut.shape[-1] != self.features:
                    shortcut = nn.Dense(self.features, use_bias=False, dtype=self.dtype)(shortcut)
                x = activate(x + shortcut)
        if train and self.dropout > 0 and keys is not None:
            x = drop_maps(x, block_keys(keys, self.path), self.dropout)
        return x


class Upsample(nn.Module):
    """Twice the size: every pixel becomes 2x2 pixels through one dense layer.

    This is the 2x2 transposed convolution of stride 2, written as a matrix product, which is many times faster on CPU.
    `[batch, y, x, channel] -> [batch, 2 y, 2 x, features]`.
    """

    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "batch y x channel"]) -> Float[Array, "batch 2*y 2*x feature"]:
        batch, height, width, channels = x.shape
        # Over rows: for the gradient of the weights of a layer over maps, XLA transposes the whole map on a CPU.
        x = nn.Dense(4 * self.features, dtype=self.dtype)(x.reshape(-1, channels))
        x = x.reshape(batch, height, width, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(batch, 2 * height, 2 * width, self.features)


class Encoder(nn.Module):
    """Blocks with 2x2 max-pooling between them; maps double from level to level.

    Returns the last activation of each level, full resolution first, the bottleneck last: `levels + 1` arrays.
    """

    levels: int
    features: int
    block: Callable[..., Block]

    @nn.compact
    def __call__(self, x: Float[Array, "batch y x section"], train: bool,
                 keys: Key[Array, "batch"] | None = None) -> tuple[Float[Array, "batch _ _ _"], ...]:
        activations = []
        for level in range(self.levels + 1):
            if level:
                x = max_pool(x)
            x = self.block(self.features * 2**level, name=f"level_{level}")(x, train, keys)
            activations.append(x)
        return tuple(activations)


class Decoder(nn.Module):
    """From the bottleneck back to full resolution, with skips (segmentation) or without (reconstruction).

    Takes the encoder's activations; returns `[batch, y, x, outputs]` in float32.
    """

    levels: int
    features: int
    outputs: int
    block: Callable[..., Block]
    skips: bool = True
    dtype: str = "float32"

    @nn.compact
    def __call__(self, activations: Sequence[Float[Array, "batch _ _ _"]], train: bool,
                 keys: Key[Array, "batch"] | None = None) -> Float[Array, "batch y x output"]:
        x = activations[-1]
        for level in reversed(range(self.levels)):
            x = Upsample(self.features * 2**level, self.dtype, name=f"up_{level}")(x)
            if self.skips:
                x = jnp.concatenate([activations[level], x], axis=-1)
            x = self.block(self.features * 2**level, name=f"level_{level}")(x, train, keys)
        outputs = nn.Dense(self.outputs, dtype="float32", name="output")(x.astype("float32").reshape(-1, x.shape[-1]))
        return outputs.reshape(*x.shape[:-1], self.outputs)
