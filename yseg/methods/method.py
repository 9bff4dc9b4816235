"""What a method is, and what its loss is computed from."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from yseg.config import Adaptation, Experiment, Loss, Model
from yseg.models import segmentation_network


class Batch(NamedTuple):
    """This device's share of a step's patches, augmented and normalised.

    index: the samples' places in the global batch. labelled, labels: patches of the domain whose labels are trained on (the
    source; the target in a training on its labels only), -1 = no label. target: patches of the target without labels, None for a
    method that does not see it; target_labels: pseudo-labels of them, for a method that makes some. joint, joint_labels: further
    patches of the target with labels, None without (see `yseg.methods.joint`).
    """

    index: Int[Array, "batch"]  # type: ignore[assignment]  # a tuple has a method of that name
    labelled: Float[Array, "batch y x section"]
    labels: Int[Array, "batch y x"]
    target: Float[Array, "batch y x section"] | None = None
    joint: Float[Array, "batch y x section"] | None = None
    joint_labels: Int[Array, "batch y x"] | None = None
    target_labels: Int[Array, "batch y x"] | None = None


class Context(NamedTuple):
    """What a loss needs besides arrays.

    network: of `yseg.models`; segmentation, adaptation: what the config says of the losses; batch_pass: how source and target go
    through batch normalisation, see `yseg.config.Model`; axis_name: of the devices' axis, None = one device.
    """

    network: nn.Module
    segmentation: Loss
    adaptation: Adaptation
    batch_pass: str = "apart"
    axis_name: str | None = None


def context_of(config: Experiment, network: nn.Module, axis_name: str | None = None) -> Context:
    """The Context of an experiment with that network."""
    return Context(network, config.loss, config.adaptation, config.model.batch_pass, axis_name)


class MethodLoss(Protocol):
    """What a method minimises, a pure function: (loss, (metrics, batch_stats)).

    Loss and metrics are those of the global batch, the same on every device (see `yseg.parallel`). The running statistics of
    batch normalisation are those of the labelled patches, or of both domains where they pass jointly. A target that passes apart
    is normalised by the statistics of its batch and leaves the running ones alone.
    """

    def __call__(self, variables: dict[str, Any], batch: Batch, key: PRNGKeyArray, *, progress: Float[Array, ""],
                 context: Context) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
        """The loss of a batch.

        Args:
          variables: {"params": {"network": ..., what the method adds}, "batch_stats": running statistics of the network}.
          batch: of this device.
          key: random key of the step; a sample's draws depend on it and on the sample's global index alone.
          progress: share of the training that is done, in [0, 1].
          context: what is no array.
        """


def no_parameters(key: PRNGKeyArray, model: Model, adaptation: Adaptation) -> dict[str, Any]:
    """The parameters that most methods add to those of the network: none."""
    del key, model, adaptation
    return {}


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train, all that is known of it.

    name: of its module and on the command line; title: in tables and figures; loss: a MethodLoss, pure; sees_target: whether it
    takes images of the target; weights: the knobs of `yseg.config.Adaptation` that weigh what it adds to the segmentation loss,
    with their defaults; network: (Model, axis_name) -> flax module with `encode` and `decode`; entry: the function of that module
    that reaches all its parameters; parameters: (key, Model, Adaptation) -> what it trains beside the network, by name;
    teaches_itself: whether it trains on pseudo-labels of the target, made by the moving average of its parameters;
    citations: of the papers that it is from, beside that of `yseg` itself.
    """

    name: str
    title: str
    loss: MethodLoss
    sees_target: bool = True
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    network: Callable[..., nn.Module] = segmentation_network
    entry: str = "__call__"
    parameters: Callable[[PRNGKeyArray, Model, Adaptation], dict[str, Any]] = no_parameters
    teaches_itself: bool = False
    citations: tuple[str, ...] = ()
