"""Normalisation of feature maps and the activation that follows it.

That of batches has a backward pass of its own. It keeps the maps that come in and computes the others again, where the derived
one writes several to memory and reads them back, which on a CPU takes longer than computing them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from yseg import parallel

MOMENTUM = 0.98  # of the running statistics of batch normalisation: they remember some 50 steps
EPSILON = 1e-5

Activation = Callable[[Array], Array]


def unchanged(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """No activation."""
    return x


def normalized(x: Float[Array, "batch y x channel"], scale: Float[Array, "channel"], offset: Float[Array, "channel"], *,
               activate: Activation = unchanged, axis_name: str | None = None) -> tuple[Float[Array, "batch y x channel"],
                                                                                       Float[Array, "channel"],
                                                                                       Float[Array, "channel"]]:
    """Batch normalisation (Ioffe and Szegedy 2015), in float32, and an activation.

    Args:
      x: [batch, y, x, channel].
      scale, offset: [channel].
      activate: of single numbers.
      axis_name: of the devices whose batches are one; None = this one's.

    Returns:
      (activate((x - mean) / sqrt(variance + EPSILON) scale + offset) [batch, y, x, channel], mean [channel],
      variance [channel]), all float32. Mean and variance are of the global batch, and no gradient goes through these two results.
    """
    return _normalized(x, scale, offset, activate, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _normalized(x, scale, offset, activate, axis_name):
    mean, variance = _moments(x, axis_name)
    return activate(_affine(x, mean, lax.rsqrt(variance + EPSILON) * scale, offset)), mean, variance


def _moments(x, axis_name):
    """Mean and variance [channel] of the global batch."""
    x = x.astype(jnp.float32)
    mean, square = parallel.mean(jnp.stack([x.mean((0, 1, 2)), (x * x).mean((0, 1, 2))]), axis_name)
    return mean, jnp.maximum(square - mean * mean, 0.0)


def _affine(x, mean, factor, offset):
    mean, factor, offset = map(_on_maps, (mean, factor, offset))
    return (x.astype(jnp.float32) - mean) * factor + offset


def _on_maps(values):
    """[channel] as [1, 1, 1, channel]."""
    return values[None, None, None]


def _forward(x, scale, offset, activate, axis_name):
    result = _normalized(x, scale, offset, activate, axis_name)
    return result, (x, scale, offset, *result[1:])


def _backward(activate, axis_name, kept, gradients):
    x, scale, offset, mean, variance = kept
    x, inverse = x.astype(jnp.float32), lax.rsqrt(variance + EPSILON)
    (gradient,) = jax.vjp(activate, _affine(x, mean, inverse * scale, offset))[1](gradients[0])  # of what is activated
    of_offset = gradient.sum((0, 1, 2))
    # Not a sum over x - mean, which would be written to memory; the variance loses as much by the same difference.
    of_scale = ((gradient * x).sum((0, 1, 2)) - mean * of_offset) * inverse
    # What goes through mean and variance comes from the pixels of all devices, see the head of `yseg.parallel`.
    through_scale, through_offset = parallel.mean(jnp.stack([of_scale, of_offset]), axis_name) / (x.size // x.shape[-1])
    factor = scale * inverse
    slope = -factor * inverse * through_scale
    of_x = _on_maps(factor) * gradient + _on_maps(slope) * x - _on_maps(factor * through_offset + slope * mean)
    return of_x.astype(kept[0].dtype), of_scale, of_offset


_normalized.defvjp(_forward, _backward)


class BatchNorm(nn.Module):
    """Batch normalisation of `[batch, y, x, channel]`, with running statistics, and an activation. See `normalized`."""

    activate: Activation = unchanged
    dtype: str = "float32"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch y x channel"], train: bool) -> Float[Array, "batch y x channel"]:
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        variance = self.variable("batch_stats", "var", jnp.ones, shape)
        scale, offset = (self.param(name, start, shape) for name, start in (("scale", nn.initializers.ones),
                                                                            ("bias", nn.initializers.zeros)))
        if not train:
            factor = lax.rsqrt(variance.value + EPSILON) * scale
            return self.activate(_affine(x, mean.value, factor, offset)).astype(self.dtype)
        y, *found = normalized(x, scale, offset, activate=self.activate, axis_name=self.axis_name)
        if not self.is_initializing():
            for running, new in zip((mean, variance), found, strict=True):
                running.value = MOMENTUM * running.value + (1 - MOMENTUM) * new
        return y.astype(self.dtype)


class Normalization(nn.Module):
    """Batch, instance, group or no normalisation of `[batch, y, x, channel]`, with a learned scale and offset; and an activation.

    Batch normalisation sees the global batch: its statistics are averaged over `axis_name` where there is one.
    """

    kind: str = "batch"
    groups: int = 8
    activate: Activation = unchanged
    dtype: str = "float32"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch y x channel"], train: bool) -> Float[Array, "batch y x channel"]:
        if self.kind == "batch":
            return BatchNorm(self.activate, self.dtype, self.axis_name if train else None)(x, train)
        if self.kind == "instance":
            x = nn.GroupNorm(num_groups=None, group_size=1, dtype=self.dtype)(x)
        elif self.kind == "group":
            x = nn.GroupNorm(num_groups=self.groups, dtype=self.dtype)(x)
        return self.activate(x)
