"""The 3x3 convolution of the networks, with a weight gradient that is fast on a CPU.

On a CPU, XLA writes the gradient of the weights as a convolution whose kernel is as large as the image, which takes longer
than the forward pass and the gradient of the input together. As three matrix products the same sums take a third to three
quarters of that, by the shape; where one is used it takes no longer.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

LAYOUT = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def convolution(x: Float[Array, "batch y x channel"],
                kernel: Float[Array, "3 3 channel feature"]) -> Float[Array, "batch y x feature"]:
    """3x3 convolution (cross-correlation) of stride 1, with zeros beyond the border.

    Args:
      x: [batch, y, x, channel].
      kernel: [3, 3, channel, feature].

    Returns:
      [batch, y, x, feature].
    """
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)


def _forward(x, kernel):
    return convolution(x, kernel), (x, kernel)


def _backward(inputs, gradient):
    x, kernel = inputs
    # The transpose of a 3x3 convolution is one with the kernel turned by half a turn, inputs and outputs swapped.
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return convolution(gradient, turned), lax.platform_dependent(x, gradient, cpu=kernel_gradient, default=_by_convolution)


convolution.defvjp(_forward, _backward)


def _by_convolution(x, gradient):
    """The gradient of the kernel as XLA derives it."""
    kernel = jnp.zeros((3, 3, x.shape[-1], gradient.shape[-1]), x.dtype)
    plain = lambda kernel: lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT)  # noqa: E731
    return jax.linear_transpose(plain, kernel)(gradient)[0]


def kernel_gradient(x: Float[Array, "batch y x channel"],
                    gradient: Float[Array, "batch y x feature"]) -> Float[Array, "3 3 channel feature"]:
    """The gradient of `convolution`'s kernel as matrix products over all pixels.

    The three shifts along x are stacked as features of the gradient, and the padded image gives three shifts along y. Many pixels
    of few maps take one product, [3 channel, pixel] x [pixel, 3 feature], in two halves of the pixels, which a CPU computes
    faster than one long sum; the others take three, [channel, pixel] x [pixel, 3 feature], without stacking the rows.

    Args:
      x: [batch, y, x, channel].
      gradient: of the output, [batch, y, x, feature].

    Returns:
      [3, 3, channel, feature].
    """
    batch, height, width, channels = x.shape
    pixels, features = batch * height * width, gradient.shape[-1]
    padded = jnp.pad(gradient, ((0, 0), (0, 0), (1, 1), (0, 0)))
    shifted = jnp.concatenate([padded[:, :, 2 - column:2 - column + width] for column in range(3)], axis=-1)
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    rows = [padded[:, row:row + height] for row in range(3)]
    if pixels >= 8 * channels * features and pixels % 2 == 0:
        stacked = jnp.concatenate(rows, axis=-1).reshape(2, pixels // 2, 3 * channels)
        products = jnp.einsum("hpc,hpf->hcf", stacked, shifted.reshape(2, pixels // 2, 3 * features)).sum(0)
    else:
        products = jnp.stack([row.reshape(pixels, channels).T @ shifted.reshape(pixels, 3 * features) for row in rows])
    return products.reshape(3, channels, 3, features).swapaxes(1, 2)
