"""The training state: all that changes from step to step, and all that a checkpoint holds."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from yseg.config import level_weights
from yseg.models import DomainClassifier, build_network
from yseg.objectives import uses_target


@flax.struct.dataclass
class TrainState:
    """step: int32 scalar, the steps done; params: {"network", "classifiers"}; batch_stats: {"source", "target"}.

    For the latter two see `yseg.objectives`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
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
    network_key, classifier_key = jax.random.split(key)
    network = build_network(config.model, config.method)
    side = network.multiple
    images = jnp.zeros((1, side, side, config.model.sections), jnp.float32)
    whole = "everything" if config.method == "ynet" else None
    variables = jax.jit(lambda key: network.init(key, images, method=whole))(network_key)
    statistics = variables.get("batch_stats", {})
    batch_stats = {"source": statistics}
    if uses_target(config.method) and config.model.batch_pass == "apart":
        # The target does not pass through the segmentation decoder in training.
        batch_stats["target"] = jax.tree.map(jnp.copy, {part: values for part, values in statistics.items() if part != "decoder"})
    params = {"network": variables["params"]}
    if config.method == "dann":
        classifier = DomainClassifier(config.adaptation.hidden)
        params["classifiers"] = {
            f"level_{level}": classifier.init(jax.random.fold_in(classifier_key, level),
                                              jnp.zeros((1, config.model.features * 2**level), jnp.float32))["params"]
            for level in range(len(level_weights(config)))}
    optimizer, _ = make_optimizer(config.optimizer)
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))


def inference_variables(state, statistics):
    """Variables of the segmentation network alone, for inference.

    Args:
      state: TrainState.
      statistics: whose running statistics batch normalisation uses: "source", "target" or "mixed". Where the state has none of
        the target, because the method never saw it or both domains passed jointly, it is the source's. Mixed are the mean and
        variance of a half-and-half mixture of both domains.
    """
    source, target = state.batch_stats["source"], state.batch_stats.get("target", {})
    chosen = {**source, **target}
    if statistics == "source":
        chosen = source
    elif statistics == "mixed":
        chosen = {**source, **{part: _mix(source[part], target[part]) for part in target}}
    parts = {"params": state.params["network"], "batch_stats": chosen}
    return {collection: {part: tree[part] for part in ("encoder", "decoder") if part in tree}
            for collection, tree in parts.items()}


def _mix(source, target):
    if "mean" in source and "var" in source:
        half_distance = (source["mean"] - target["mean"]) / 2
        return {"mean": (source["mean"] + target["mean"]) / 2, "var": (source["var"] + target["var"]) / 2 + half_distance**2}
    return {name: _mix(source[name], target[name]) for name in source}
