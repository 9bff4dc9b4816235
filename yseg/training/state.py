"""The training state: all that changes from step to step, and all that a checkpoint holds."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from yseg.config import has_reconstruction, level_weights
from yseg.models import DomainClassifier, build_network


@flax.struct.dataclass
class TrainState:
    """step: int32 scalar, the steps done; params: {"network", "classifiers", ...} and batch_stats: see `yseg.objectives`.

    target_stats: the target's statistics of the segmentation network, as of the last estimate, see `yseg.training.statistics`.
    Both statistics are empty without batch normalisation.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    target_stats: Any
    opt_state: Any


def make_optimizer(config):
    """The optax transformation and the learning-rate schedule (step -> float) of a `yseg.config.Optimizer`."""
    peak, warmup = config.learning_rate, min(config.warmup_steps, config.steps)
    decays = {
        "constant": lambda: optax.constant_schedule(peak),
        "exponential": lambda: optax.exponential_decay(peak, config.decay_steps, config.decay_rate, staircase=True),
        "cosine": lambda: optax.cosine_decay_schedule(peak, max(config.steps - warmup, 1)),
    }
    schedule = decays[config.schedule]()
    if warmup:
        # From 1/n of the peak on, not from 0: the first step would change nothing but Adam's moments.
        schedule = optax.join_schedules([optax.linear_schedule(peak / (warmup + 1), peak, warmup), schedule], [warmup])
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    parts.append(optax.identity() if config.name == "sgd" and not config.momentum
                 else optax.trace(config.momentum) if config.name == "sgd" else optax.scale_by_adam())
    if config.weight_decay:
        kernels = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)  # noqa: E731
        parts.append(optax.add_decayed_weights(config.weight_decay, mask=kernels))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule)), schedule


def create_state(config, key):
    """The state before the first step, on the host's default device.

    Args:
      config: `yseg.config.Experiment`.
      key: random key of the initialisation.
    """
    network = build_network(config.model, config.method)
    optimizer, _ = make_optimizer(config.optimizer)
    side = network.multiple
    whole = "everything" if has_reconstruction(config.method) else None

    @jax.jit  # one program, not one for every parameter
    def create(key):
        network_key, classifier_key = jax.random.split(key)
        variables = network.init(network_key, jnp.zeros((1, side, side, config.model.sections), jnp.float32), method=whole)
        batch_stats = variables.get("batch_stats", {})
        params = {"network": variables["params"]}
        if config.method == "dann":
            classifier = DomainClassifier(config.adaptation.hidden)
            params["classifiers"] = {
                f"level_{level}": classifier.init(jax.random.fold_in(classifier_key, level),
                                                  jnp.zeros((1, config.model.features * 2**level), jnp.float32))["params"]
                for level in range(len(level_weights(config)))}
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, segmentation_part(batch_stats),
                          optimizer.init(params))

    return create(key)


def segmentation_part(tree):
    """What belongs to the segmentation network in the parameters or statistics of any method's network."""
    return {part: tree[part] for part in ("encoder", "decoder") if part in tree}


def inference_variables(state, statistics):
    """Variables of the segmentation network alone, for inference.

    Args:
      state: TrainState.
      statistics: what batch normalisation uses: "source" = the running statistics of the training, "target" = the estimate of the
        target's, "mixed" = mean and variance of a half-and-half mixture of the two.
    """
    source = segmentation_part(state.batch_stats)
    chosen = {"source": lambda: source, "target": lambda: state.target_stats, "mixed": lambda: _mix(source, state.target_stats)}
    return {"params": segmentation_part(state.params["network"]), "batch_stats": chosen[statistics]()}


def _mix(source, target):
    if "mean" in source and "var" in source:
        half_distance = (source["mean"] - target["mean"]) / 2
        return {"mean": (source["mean"] + target["mean"]) / 2, "var": (source["var"] + target["var"]) / 2 + half_distance**2}
    return {name: _mix(source[name], target[name]) for name in source}
