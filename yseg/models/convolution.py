"""The 3x3 convolution of the networks, with a weight gradient that is fast on a CPU.

On a CPU, XLA writes the gradient of the weights as a convolution whose kernel is as large as the image, which takes longer
than the forward pass and the gradient of the input together. As three matrix products the same sums take a third to three
quarters of that, by the shape.
"""

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def convolution(x, kernel):
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


def kernel_gradient(x, gradient):
    """The gradient of `convolution`'s kernel as matrix products over all pixels.

    With the three shifts along x stacked as features of the gradient, and the three along y as rows of the padded image, it takes
    three products [channel, pixel] x [pixel, 3 feature].

    Args:
      x: [batch, y, x, channel].
      gradient: of the output, [batch, y, x, feature].

    Returns:
      [3, 3, channel, feature].
    """
    height, width, channels = x.shape[1:]
    features = gradient.shape[-1]
    padded = jnp.pad(gradient, ((0, 0), (0, 0), (1, 1), (0, 0)))
    shifted = jnp.concatenate([padded[:, :, 2 - column:2 - column + width] for column in range(3)], axis=-1)
    shifted = shifted.reshape(-1, 3 * features)
    rows = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))
    products = [rows[:, row:row + height].reshape(-1, channels).T @ shifted for row in range(3)]
    return jnp.stack(products).reshape(3, channels, 3, features).swapaxes(1, 2)
