"""Devices: the few helpers through which a loss sees the global batch."""

from jax import lax

# The convention of the whole project: a loss is the global value, the same on every device (`total` and `gather` inside the
# differentiated function), and the gradients of the devices are averaged afterwards. The transposes of psum and all_gather each
# add up the devices' cotangents, so every device's gradient holds its own share times the number of devices; their mean is exact.


def total(x, axis_name=None):
    """Sum of `x` over the devices of `axis_name`, the same on each; `x` itself if `axis_name` is None."""
    return x if axis_name is None else lax.psum(x, axis_name)


def gather(x, axis_name=None):
    """The devices' `x` [n, ...] one after another, [devices * n, ...], the same on each; `x` itself if `axis_name` is None."""
    return x if axis_name is None else lax.all_gather(x, axis_name, axis=0, tiled=True)
