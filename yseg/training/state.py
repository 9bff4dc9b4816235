"""The training state: all that changes from step to step, and all that a checkpoint holds."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray

from yseg.config import Experiment, Optimizer
from yseg.methods import METHODS


@flax.struct.dataclass
class TrainState:
    """step: int32 scalar, the steps done; params: {"network", "classifiers", ...} and batch_stats: see `yseg.methods.method`.

    target_stats: the target's statistics of the segmentation network, as of the last estimate, see `yseg.training.statistics`.
    Both statistics are empty without batch normalisation. average: moving average of the segmentation network's parameters, for a
    method that teaches itself, else empty.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    target_stats: Any
    opt_state: Any
    average: Any = flax.struct.field(default_factory=dict)


def make_schedule(optimizer: Optimizer) -> optax.Schedule:
    """The learning rate of a step; its warm-up starts at 1/n of the peak, as a first step at 0 would change nothing."""
    peak, warmup = optimizer.learning_rate, min(optimizer.warmup_steps, optimizer.steps)
    if optimizer.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif optimizer.schedule == "exponential":
        after = optax.exponential_decay(peak, optimizer.decay_steps, optimizer.decay_rate, staircase=True)
    else:
        after = optax.cosine_decay_schedule(peak, max(optimizer.steps - warmup, 1))
    if not warmup:
        return after
    # Joined here: optax's own schedules with a warm-up branch on the peak, which is traced where several trainings share a step.
    return optax.join_schedules([optax.linear_schedule(peak / (warmup + 1), peak, warmup), after], [warmup])


def make_optimizer(optimizer: Optimizer) -> optax.GradientTransformation:
    """The optax transformation of a `yseg.config.Optimizer`."""
    schedule, decay = make_schedule(optimizer), optimizer.weight_decay
    kernels = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)  # what decays: no offsets, no scales
    if optimizer.name == "adam":
        update = optax.adamw(schedule, weight_decay=decay, mask=kernels) if decay else optax.adam(schedule)
    elif decay:  # optax has no SGD whose decay is decoupled from the gradient
        update = optax.chain(optax.trace(optimizer.momentum), optax.add_decayed_weights(decay, mask=kernels),
                             optax.scale_by_learning_rate(schedule))
    else:
        update = optax.sgd(schedule, optimizer.momentum)
    return optax.chain(optax.clip_by_global_norm(optimizer.clip_norm), update) if optimizer.clip_norm else update


def create_state(config: Experiment, key: PRNGKeyArray) -> TrainState:
    """The state before the first step, on the host's default device.

    Args:
      config: what it says of method, network, adaptation and optimiser.
      key: random key of the initialisation.
    """
    method = METHODS[config.method]
    network = method.network(config.model)
    optimizer, side = make_optimizer(config.optimizer), network.multiple

    @jax.jit  # one program, not one for every parameter
    def create(key):
        network_key, method_key = jax.random.split(key)
        images = jnp.zeros((1, side, side, config.model.sections), jnp.float32)
        variables = network.init(network_key, images, method=method.entry)
        batch_stats = variables.get("batch_stats", {})
        params = {"network": variables["params"], **method.parameters(method_key, config.model, config.adaptation)}
        average = segmentation_part(params["network"]) if method.teaches_itself else {}
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, segmentation_part(batch_stats), optimizer.init(params),
                          average)

    return create(key)


def segmentation_part(tree: dict[str, Any]) -> dict[str, Any]:
    """What belongs to the segmentation network in the parameters or statistics of any method's network."""
    return {part: tree[part] for part in ("encoder", "decoder") if part in tree}


def inference_parameters(state: TrainState) -> dict[str, Any]:
    """The parameters of the segmentation network that are applied: their average where the method has one."""
    return state.average or segmentation_part(state.params["network"])


def inference_variables(state: TrainState, statistics: str) -> dict[str, Any]:
    """Variables of the segmentation network alone, for inference.

    Args:
      state: TrainState.
      statistics: what batch normalisation uses: "training" = the running statistics of the training, "target" = the estimate of
        the target's, "mixed" = mean and variance of a half-and-half mixture of the two.
    """
    training = segmentation_part(state.batch_stats)
    chosen = {"training": lambda: training, "target": lambda: state.target_stats,
              "mixed": lambda: _mix(training, state.target_stats)}
    return {"params": inference_parameters(state), "batch_stats": chosen[statistics]()}


def _mix(one, other):
    if "mean" in one and "var" in one:
        half_distance = (one["mean"] - other["mean"]) / 2
        return {"mean": (one["mean"] + other["mean"]) / 2, "var": (one["var"] + other["var"]) / 2 + half_distance**2}
    return {name: _mix(one[name], other[name]) for name in one}
