"""2x2 max-pooling, in the form that is fastest on each kind of device."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float


def max_pool(x: Float[Array, "batch y x channel"]) -> Float[Array, "batch y//2 x//2 channel"]:
    """Half the size: the maximum of every 2x2 pixels. Of equal ones, the first row's first has the gradient."""
    return lax.platform_dependent(x, cpu=selected_maximum, default=window_maximum)


def window_maximum(x: Float[Array, "batch y x channel"]) -> Float[Array, "batch y//2 x//2 channel"]:
    """`max_pool` as a reduced window."""
    return nn.max_pool(x, (2, 2), strides=(2, 2))


@jax.custom_vjp
def selected_maximum(x: Float[Array, "batch y x channel"]) -> Float[Array, "batch y//2 x//2 channel"]:
    """`max_pool` as selections among the four strided views. The backward pass keeps which was selected, a byte for each."""
    return _selected(x)[0]


def _selected(x):
    """(the maxima, which of the four pixels each is: uint8, row by row)."""
    first, second, third, fourth = (x[:, row::2, column::2] for row in range(2) for column in range(2))
    is_first, is_third = first >= second, third >= fourth
    upper, lower = jnp.where(is_first, first, second), jnp.where(is_third, third, fourth)
    is_upper = upper >= lower
    number = jnp.where(is_upper, jnp.where(is_first, jnp.uint8(0), jnp.uint8(1)),
                       jnp.where(is_third, jnp.uint8(2), jnp.uint8(3)))
    return jnp.where(is_upper, upper, lower), number


def _backward(number, gradient):
    batch, height, width, channels = gradient.shape
    shape = (batch, height, 2, width, 2, channels)
    own = lax.broadcasted_iota(jnp.uint8, shape, 2) * jnp.uint8(2) + lax.broadcasted_iota(jnp.uint8, shape, 4)
    chosen, spread = (lax.broadcast_in_dim(values, shape, (0, 1, 3, 5)) for values in (number, gradient))
    return (jnp.where(chosen == own, spread, jnp.zeros((), gradient.dtype)).reshape(batch, 2 * height, 2 * width, channels),)


selected_maximum.defvjp(_selected, _backward)
