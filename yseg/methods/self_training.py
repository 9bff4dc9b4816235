"""`self_training`: a trained network goes on with pseudo-labels of the target, which the average of its parameters makes.

The average as a teacher is that of Tarvainen and Valpola, Mean teachers are better role models, NIPS 2017; pseudo-labels of
another domain are those of Zou et al., ECCV 2018. What is believed: `yseg.data.pseudo_labels`; when: `yseg.runs.renewal`.
"""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from yseg.config import weight_of
from yseg.methods.method import Batch, Context, Method
from yseg.methods.parts import apply_to_both, dropout_keys, segmentation_term


def loss(variables: dict[str, Any], batch: Batch, key: PRNGKeyArray, *, progress: Float[Array, ""],
         context: Context) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Segmentation of the source plus the weight times that of the target; see `yseg.methods.method.MethodLoss`."""
    del progress
    if batch.target is None or batch.target_labels is None:
        raise ValueError("batch.target, batch.target_labels: must be given")
    keys = dropout_keys(key, batch)
    source, target, statistics = apply_to_both(context, variables, variables["batch_stats"], "encode",
                                               inputs=(batch.labelled, batch.target), keys=keys)
    of_source, updated = segmentation_term(context, variables, statistics, activations=source, labels=batch.labels, keys=keys[0])
    of_target, _ = segmentation_term(context, variables, statistics, activations=target, labels=batch.target_labels, keys=keys[1])
    total = of_source + weight_of(context.adaptation, "weight") * of_target
    return total, ({"segmentation": of_source, "pseudo_labels": of_target}, updated)


METHOD = Method("self_training", "self-training", loss, weights={"weight": 1.0}, teaches_itself=True,
                citations=("Zou, Yu, Kumar, Wang: Unsupervised domain adaptation for semantic segmentation via class-balanced"
                           " self-training, ECCV 2018",
                           "Tarvainen, Valpola: Mean teachers are better role models: weight-averaged consistency targets improve"
                           " semi-supervised deep learning results, NIPS 2017"))
