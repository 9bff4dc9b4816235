"""`ynet`: a second decoder rebuilds the images of both domains from the shared bottleneck (Roels et al. 2019)."""

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from yseg import losses
from yseg.config import weight_of
from yseg.methods.method import Batch, Context, Method
from yseg.methods.parts import apply_to_both, dropout_keys, segmentation_term
from yseg.models import reconstruction_network


def loss(variables: dict[str, Any], batch: Batch, key: PRNGKeyArray, *, progress: Float[Array, ""],
         context: Context) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Segmentation plus lambda_r times the reconstruction error of each domain; see `yseg.methods.method.MethodLoss`."""
    del progress
    if batch.target is None:
        raise ValueError("batch.target: must be given")
    adaptation, keys = context.adaptation, dropout_keys(key, batch)
    source, target, statistics = apply_to_both(context, variables, variables["batch_stats"], "encode",
                                               inputs=(batch.labelled, batch.target), keys=keys)
    segmentation, statistics = segmentation_term(context, variables, statistics, activations=source, labels=batch.labels,
                                                 keys=keys[0])
    *rebuilt, statistics = apply_to_both(context, variables, statistics, "reconstruct", inputs=(source[-1:], target[-1:]),
                                         keys=keys)
    of_source, of_target = (losses.reconstruction(prediction, image, adaptation.reconstruction_loss, context.axis_name)
                            for prediction, image in zip(rebuilt, (batch.labelled, batch.target), strict=True))
    total = (segmentation + weight_of(adaptation, "reconstruction_source") * of_source
             + weight_of(adaptation, "reconstruction_target") * of_target)
    metrics = {"segmentation": segmentation, "reconstruction_source": of_source, "reconstruction_target": of_target}
    return total, (metrics, statistics)


# The weights: see "How the weights were chosen" in configs/README.md.
METHOD = Method("ynet", "Y-Net", loss, weights={"reconstruction_source": 1.0, "reconstruction_target": 1.0},
                network=reconstruction_network, entry="everything")
