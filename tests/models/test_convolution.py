"""The 3x3 convolution against XLA's own, and its kernel gradient against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg.models.convolution import _by_convolution, convolution, kernel_gradient

# The first two take one product, the others three.
SHAPES = [(2, 8, 8, 3, 5), (3, 6, 10, 2, 1), (1, 1, 1, 2, 3), (3, 5, 9, 1, 4), (2, 1, 6, 4, 1)]


def arrays(shape):
    batch, height, width, channels, features = shape
    random = np.random.default_rng(0)
    return (jnp.asarray(random.normal(size=size), jnp.float32)
            for size in ((batch, height, width, channels), (3, 3, channels, features), (batch, height, width, features)))


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_those_of_the_plain_convolution(shape):
    x, kernel, gradient = arrays(shape)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    expected, expected_backward = jax.vjp(plain, x, kernel)
    found, found_backward = jax.vjp(convolution, x, kernel)
    np.testing.assert_array_equal(found, expected)
    for mine, reference in zip(found_backward(gradient), expected_backward(gradient), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_gradient_is_the_correlation_of_input_and_gradient(shape):
    x, _, gradient = (np.asarray(array, np.float64) for array in arrays(shape))
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = [[np.einsum("byxc,byxf->cf", padded[:, row:row + height, column:column + width], gradient)
                 for column in range(3)] for row in range(3)]
    inputs = [jnp.asarray(array, jnp.float32) for array in (x, gradient)]
    for form in (kernel_gradient, _by_convolution):  # on a CPU, and elsewhere
        np.testing.assert_allclose(form(*inputs), expected, rtol=1e-4, atol=1e-4)
