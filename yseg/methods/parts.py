"""What the losses of several methods are made of: random keys by sample, and the parts of a network in training mode."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from yseg import losses
from yseg.methods.method import Batch, Context

# Purposes of keys; those of the pixels of level i are the latter two + 2 i.
LABELLED_DROPOUT, TARGET_DROPOUT, LABELLED_PIXELS, TARGET_PIXELS = range(4)
JOINT_DROPOUT = 100

Activations = tuple[Float[Array, "batch y x channel"], ...]


def sample_keys(key: PRNGKeyArray, purpose: int, index: Int[Array, "batch"]) -> Key[Array, "batch"]:
    """One key per sample, from the step's key, a number that says what for, and the samples' global indices."""
    key = jax.random.fold_in(key, purpose)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(index)


def dropout_keys(key: PRNGKeyArray, batch: Batch) -> tuple[Key[Array, "batch"], Key[Array, "batch"]]:
    """The samples' keys for dropout, of the labelled patches and of the target's."""
    return sample_keys(key, LABELLED_DROPOUT, batch.index), sample_keys(key, TARGET_DROPOUT, batch.index)


def apply_part(context: Context, variables: dict[str, Any], statistics: Any, part: str, *, inputs: Any,
               keys: Key[Array, "batch"]) -> tuple[Any, Any]:
    """One part of the network, such as "encode", in training mode: (outputs, updated running statistics)."""
    outputs, updated = context.network.apply(
        {"params": variables["params"]["network"], "batch_stats": statistics}, inputs, True, keys, method=part,
        mutable=["batch_stats"])
    return outputs, updated.get("batch_stats", statistics)


def apply_to_both(context: Context, variables: dict[str, Any], statistics: Any, part: str, *, inputs: tuple[Any, Any],
                  keys: tuple[Key[Array, "batch"], Key[Array, "batch"]]) -> tuple[Any, Any, Any]:
    """One part of the network on both domains, apart or jointly: (labelled outputs, target outputs, updated statistics).

    `inputs` and `keys` are those of the labelled patches and of the target's.
    """
    if context.batch_pass == "apart":
        labelled_outputs, updated = apply_part(context, variables, statistics, part, inputs=inputs[0], keys=keys[0])
        target_outputs, _ = apply_part(context, variables, statistics, part, inputs=inputs[1], keys=keys[1])
        return labelled_outputs, target_outputs, updated
    joint = jax.tree.map(lambda labelled, target: jnp.concatenate([labelled, target]), *inputs)
    outputs, updated = apply_part(context, variables, statistics, part, inputs=joint, keys=jnp.concatenate(keys))
    count = keys[0].shape[0]
    return jax.tree.map(lambda x: x[:count], outputs), jax.tree.map(lambda x: x[count:], outputs), updated


def segmentation_term(context: Context, variables: dict[str, Any], statistics: Any, *, activations: Activations,
                      labels: Int[Array, "batch y x"], keys: Key[Array, "batch"]) -> tuple[Float[Array, ""], Any]:
    """Decode activations and score them against labels: (segmentation loss, updated statistics)."""
    logits, statistics = apply_part(context, variables, statistics, "decode", inputs=activations, keys=keys)
    return losses.segmentation_loss(context.segmentation)(logits, labels, context.axis_name), statistics
