"""The parts of the networks."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from yseg.models.blocks import _convolution
from yseg.models.convolution import convolution


@pytest.mark.parametrize(("name", "value"), [
    ("strides", 2), ("padding", "VALID"), ("padding", 1), ("input_dilation", 2), ("kernel_dilation", 2),
    ("feature_group_count", 2), ("precision", "highest")])
def test_a_convolution_of_another_form_is_refused(name, value):
    layer = nn.Conv(4, (3, 3), conv_general_dilated=functools.partial(_convolution, convolution), **{name: value})
    with pytest.raises(ValueError, match=f"{name}=.*: must be"):
        layer.init(jax.random.key(0), jnp.zeros((1, 8, 8, 2)))
