"""What methods share that compare the features of source and target at every level of the encoder."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from yseg import parallel
from yseg.methods.method import Batch, Context
from yseg.methods.parts import (
    LABELLED_PIXELS,
    TARGET_PIXELS,
    apply_to_both,
    dropout_keys,
    sample_keys,
    segmentation_term,
)

# term(level, source features [n, channel], target features [m, channel]) -> (what is added to the loss, metrics)
Term = Callable[[int, Float[Array, "n channel"], Float[Array, "m channel"]],
                tuple[Float[Array, ""], dict[str, Float[Array, ""]]]]


def sample_features(activations: Float[Array, "batch y x channel"], keys: Key[Array, "batch"],
                    pixels: int) -> Float[Array, "n channel"]:
    """Feature vectors of random pixels, the samples that MMD, CORAL and the domain classifier compare.

    Args:
      activations: of one level.
      keys: one random key per sample.
      pixels: how many pixels of each sample, drawn with replacement.

    Returns:
      float32 `[batch * pixels, channel]`.
    """
    batch, height, width, channels = activations.shape
    places = jax.vmap(lambda key: jax.random.randint(key, (pixels,), 0, height * width))(keys)
    flat = activations.reshape(batch, height * width, channels)
    return jnp.take_along_axis(flat, places[:, :, None], axis=1).reshape(batch * pixels, channels).astype(jnp.float32)


def compare_levels(variables: dict[str, Any], batch: Batch, key: PRNGKeyArray, *, context: Context,
                   term: Term) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Any]]:
    """Segmentation loss of the source plus sum_i term(i, source features, target features) over the encoder levels i.

    The features are those of sampled pixels of the global batch. The metrics of the terms are averaged over the levels.
    """
    keys = dropout_keys(key, batch)
    source, target, statistics = apply_to_both(context, variables, variables["batch_stats"], "encode",
                                               inputs=(batch.labelled, batch.target), keys=keys)
    segmentation, statistics = segmentation_term(context, variables, statistics, activations=source, labels=batch.labels,
                                                 keys=keys[0])
    adaptation, metrics = jnp.float32(0), []
    for level in range(len(source)):
        samples = []
        for purpose, activations in ((LABELLED_PIXELS, source), (TARGET_PIXELS, target)):
            pixel_keys = sample_keys(key, purpose + 2 * level, batch.index)
            features = sample_features(activations[level], pixel_keys, context.adaptation.pixels)
            samples.append(parallel.gather(features, context.axis_name))
        added, of_level = term(level, *samples)
        adaptation += added
        metrics.append(of_level)
    means = {name: sum(each[name] for each in metrics) / len(metrics) for name in metrics[0]}
    return segmentation + adaptation, ({"segmentation": segmentation, "adaptation": adaptation, **means}, statistics)
