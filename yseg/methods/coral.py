"""`coral`: the distance of the covariances of source and target features at every encoder level (Sun and Saenko 2016)."""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from yseg import losses
from yseg.config import level_weights
from yseg.methods.features import compare_levels
from yseg.methods.method import Batch, Context, Method


def loss(variables: dict[str, Any], batch: Batch, key: PRNGKeyArray, *, progress: Float[Array, ""],
         context: Context) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Segmentation plus lambda_i CORAL_i over the levels i; arguments and results as `yseg.methods.method.MethodLoss`."""
    del progress
    weights = level_weights(context.adaptation, context.network.levels)

    def term(level, source, target):
        return weights[level] * losses.coral(source, target), {}

    return compare_levels(variables, batch, key, context=context, term=term)


# The weight: see "How the weights were chosen" in configs/README.md.
METHOD = Method("coral", "CORAL", loss, weights={"weight": 1000.0},
                citations=("Sun, Saenko: Deep CORAL: correlation alignment for deep domain adaptation, ECCV workshops 2016",))
