"""One training step: augment, differentiate the objective, update. Pure."""

import jax
import jax.numpy as jnp
import optax

from yseg import parallel
from yseg.data.augment import augment_batch
from yseg.data.grey_levels import z_score
from yseg.methods.objectives import Batch, Context, objective, sample_keys
from yseg.training.state import TrainState, make_optimizer

# Keys of augmentation come from another branch than the objective's, so that a method can draw more without changing the images.
AUGMENTATION, OBJECTIVE = 0, 1
SOURCE, TARGET, LABELLED = 0, 1, 2


def make_batch(raw, key, config):
    """The augmented, normalised `Batch` of raw patches.

    Args:
      raw: dict of one device: index [batch]; source, target [batch, y, x, section] in the volumes' own types; labels
        [batch, y, x]; source_statistics, target_statistics, see `z_score`. Without target for a source-only method. With
        labelled patches of the target also labelled, labelled_labels and labelled_statistics.
      key: random key of the step.
      config: `yseg.config.Experiment`.
    """
    def augmented(domain, name, labels):
        images = z_score(raw[name], raw[f"{name}_statistics"])
        return augment_batch(sample_keys(key, domain, raw["index"]), images, labels, config.augmentation)

    source, labels = augmented(SOURCE, "source", raw["labels"].astype(jnp.int32))
    target = augmented(TARGET, "target", None)[0] if "target" in raw else None
    labelled = (None, None)
    if "labelled" in raw:
        labelled = augmented(LABELLED, "labelled", raw["labelled_labels"].astype(jnp.int32))
    return Batch(raw["index"], source, labels, target, *labelled)


def make_step(config, network, axis_name=None, method=None):
    """The training step of an experiment: `step(state, raw, key) -> (state, metrics)`, a pure function.

    `raw` is one device's share of the patches (see `make_batch`), `key` the key of the whole run; the step's own is derived from
    it and `state.step`. Metrics are float32 scalars: loss, its terms, learning_rate and gradient_norm. `method` is a function as
    those of `yseg.objectives`; None = the config's.
    """
    optimizer, schedule = make_optimizer(config.optimizer)
    context, method = Context(network, config, axis_name), method or objective(config)

    def step(state, raw, key):
        key = jax.random.fold_in(key, state.step)
        batch = make_batch(raw, jax.random.fold_in(key, AUGMENTATION), config)
        progress = state.step.astype(jnp.float32) / config.optimizer.steps

        def loss_of(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            return method(variables, batch, jax.random.fold_in(key, OBJECTIVE), progress, context)

        (loss, (metrics, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        gradients = parallel.mean(gradients, axis_name)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {"loss": loss, **metrics, "learning_rate": schedule(state.step), "gradient_norm": optax.tree.norm(gradients)}
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, state.target_stats, opt_state), metrics

    return step
