"""`ft`: the source alone, the baseline without adaptation; the target waits for fine-tuning (Roels et al. 2019)."""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from yseg.methods.method import Batch, Context, Method
from yseg.methods.parts import LABELLED_DROPOUT, apply_part, sample_keys, segmentation_term


def loss(variables: dict[str, Any], batch: Batch, key: PRNGKeyArray, *, progress: Float[Array, ""],
         context: Context) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """The segmentation loss of the labelled patches; arguments and results as `yseg.methods.method.MethodLoss`."""
    del progress
    keys = sample_keys(key, LABELLED_DROPOUT, batch.index)
    activations, statistics = apply_part(context, variables, variables["batch_stats"], "encode", inputs=batch.labelled, keys=keys)
    segmentation, statistics = segmentation_term(context, variables, statistics, activations=activations, labels=batch.labels,
                                                 keys=keys)
    return segmentation, ({"segmentation": segmentation}, statistics)


METHOD = Method("ft", "source only", loss, sees_target=False)
