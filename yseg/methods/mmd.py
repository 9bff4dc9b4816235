"""`mmd`: the maximum mean discrepancy of source and target features at every encoder level (Long et al. 2015)."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from yseg import losses
from yseg.config import level_weights
from yseg.methods.features import compare_levels
from yseg.methods.method import Batch, Context, Method


def loss(variables: dict[str, Any], batch: Batch, key: PRNGKeyArray, *, progress: Float[Array, ""],
         context: Context) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Segmentation plus lambda_i MMD_i over the levels i; arguments and results as `yseg.methods.method.MethodLoss`."""
    del progress
    multiples = jnp.asarray(context.adaptation.bandwidths)
    weights = level_weights(context.adaptation, context.network.levels)

    def term(level, source, target):
        return weights[level] * losses.mmd(source, target, losses.median_bandwidths(source, target, multiples)), {}

    return compare_levels(variables, batch, key, context=context, term=term)


# The weight: see "How the weights were chosen" in configs/README.md.
METHOD = Method("mmd", "MMD", loss, weights={"weight": 10.0},
                citations=("Long, Cao, Wang, Jordan: Learning transferable features with deep adaptation networks, ICML 2015",))
