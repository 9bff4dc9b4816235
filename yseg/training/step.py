"""One training step: augment, differentiate the method's loss, update. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from yseg import parallel
from yseg.config import Augmentation, Experiment
from yseg.data.augment import augment_geometry, augment_intensities
from yseg.data.grey_levels import z_score
from yseg.methods import Batch, MethodLoss, context_of, loss_of
from yseg.methods.parts import sample_keys
from yseg.training.state import TrainState, make_optimizer, make_schedule, segmentation_part

# Keys of augmentation come from another branch than the loss's, so that a method can draw more without changing the images.
AUGMENTATION, LOSS = 0, 1
LABELLED, TARGET, JOINT = range(3)  # purposes of keys of augmentation


def make_batch(raw: Mapping[str, Array], key: PRNGKeyArray, augmentation: Augmentation) -> Batch:
    """The augmented, normalised `Batch` of raw patches.

    Args:
      raw: dict of one device: index [batch]; labelled, target [batch, y, x, section] in the volumes' own types; labels
        [batch, y, x]; labelled_statistics, target_statistics, see `yseg.data.grey_levels.z_score`. Without target for a method
        that does not see it; with target_labels for one that makes pseudo-labels. With labelled patches beside it also joint,
        joint_labels and joint_statistics.
      key: random key of the step.
      augmentation: of every patch.
    """
    def moved(purpose, name, labels):
        images, keys = z_score(raw[name], raw[f"{name}_statistics"]), sample_keys(key, purpose, raw["index"])
        known = raw[labels].astype(jnp.int32) if labels in raw else None
        return jax.vmap(lambda key, image, label: augment_geometry(key, image, label, augmentation))(keys, images, known)

    def tinted(purpose, images):
        return augment_intensities(sample_keys(key, purpose, raw["index"]), images, augmentation)

    (labelled, labels), target, target_labels = moved(LABELLED, "labelled", "labels"), None, None
    if "target" in raw:
        target, target_labels = moved(TARGET, "target", "target_labels")
        target = tinted(TARGET, target)
    joint, joint_labels = moved(JOINT, "joint", "joint_labels") if "joint" in raw else (None, None)
    joint = None if joint is None else tinted(JOINT, joint)
    return Batch(raw["index"], tinted(LABELLED, labelled), labels, target, joint, joint_labels, target_labels)


def make_step(config: Experiment, network: nn.Module, axis_name: str | None = None,
              loss: MethodLoss | None = None) -> Callable[..., tuple[TrainState, dict[str, Any]]]:
    """The training step of an experiment: `step(state, raw, key) -> (state, metrics)`, a pure function.

    `raw` is one device's share of the patches (see `make_batch`), `key` the key of the whole run; the step's own is derived from
    it and `state.step`. Metrics are float32 scalars: loss, its terms, learning_rate and gradient_norm.

    Args:
      config: `yseg.config.Experiment`.
      network: what the method asks for, see `yseg.methods.method.Method`.
      axis_name: of the devices' axis; None = one device.
      loss: instead of the config's.
    """
    optimizer, schedule = make_optimizer(config.optimizer), make_schedule(config.optimizer)
    context, loss = context_of(config, network, axis_name), loss or loss_of(config)
    decay = config.self_training.average

    def step(state, raw, key):
        key = jax.random.fold_in(key, state.step)
        batch = make_batch(raw, jax.random.fold_in(key, AUGMENTATION), config.augmentation)
        progress = state.step.astype(jnp.float32) / config.optimizer.steps

        def loss_of_parameters(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            return loss(variables, batch, jax.random.fold_in(key, LOSS), progress=progress, context=context)

        (value, (metrics, batch_stats)), gradients = jax.value_and_grad(loss_of_parameters, has_aux=True)(state.params)
        gradients = parallel.mean(gradients, axis_name)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {"loss": value, **metrics, "learning_rate": schedule(state.step), "gradient_norm": optax.tree.norm(gradients)}
        params = optax.apply_updates(state.params, updates)
        average = {}
        if state.average:
            average = optax.incremental_update(segmentation_part(params["network"]), state.average, 1 - decay)
        return TrainState(state.step + 1, params, batch_stats, state.target_stats, opt_state, average), metrics

    return step
