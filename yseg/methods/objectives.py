"""The methods: what is minimised, as pure functions.

Each is `method(variables, batch, key, progress, context) -> (loss, (metrics, batch_stats))`:

  variables    {"params": {"network": ..., what the method adds}, "batch_stats": running statistics of the network}
  batch        a `Batch`, augmented and normalised
  key          random key of the step; a sample's draws depend on it and on the sample's global index alone
  progress     share of the training that is done, in [0, 1]
  context      a `Context`: the network, the config and the name of the device axis

The loss and the metrics are those of the global batch, the same on every device (see `yseg.parallel`).

The running statistics of batch normalisation are those of the source, or of both domains where they pass jointly. A target
that passes apart is normalised by the statistics of its batch and leaves the running ones alone.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from yseg import losses, parallel
from yseg.config import Experiment, level_weights, uses_target
from yseg.models import DomainClassifier


class Batch(NamedTuple):
    """This device's share of a step's patches.

    source and target: float32 [batch, y, x, section]; labels (of the source): int32 [batch, y, x], -1 = no label;
    index: int32 [batch], the samples' places in the global batch. Target fields are None for a method without target.
    labelled, labelled_labels: further patches of the target and their labels, None without (see `with_target_labels`).
    """

    index: jax.Array
    source: jax.Array
    labels: jax.Array
    target: jax.Array | None = None
    labelled: jax.Array | None = None
    labelled_labels: jax.Array | None = None


class Context(NamedTuple):
    """What a method needs besides arrays: a network of `yseg.models`, the config, and the device axis (None = one device)."""

    network: Any
    config: Experiment
    axis_name: str | None = None


def sample_keys(key, purpose, index):
    """One key per sample [batch], from the step's key, a number that says what for, and the samples' global indices."""
    key = jax.random.fold_in(key, purpose)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(index)


SOURCE_DROPOUT, TARGET_DROPOUT, SOURCE_PIXELS, TARGET_PIXELS = range(4)  # the pixels of level i: these + 2 i
LABELLED_DROPOUT = 100


def _apply(context, variables, statistics, method, inputs, keys):
    """One part of the network in training mode: (outputs, updated running statistics)."""
    outputs, updated = context.network.apply(
        {"params": variables["params"]["network"], "batch_stats": statistics}, inputs, True, keys, method=method,
        mutable=["batch_stats"])
    return outputs, updated.get("batch_stats", statistics)


def _both(context, variables, statistics, method, source, target, keys):
    """One part of the network on both domains, apart or jointly: (source outputs, target outputs, updated statistics)."""
    source_keys, target_keys = keys
    if context.config.model.batch_pass == "apart":
        source_outputs, updated = _apply(context, variables, statistics, method, source, source_keys)
        target_outputs, _ = _apply(context, variables, statistics, method, target, target_keys)
        return source_outputs, target_outputs, updated
    joint = jax.tree.map(lambda s, t: jnp.concatenate([s, t]), source, target)
    outputs, updated = _apply(context, variables, statistics, method, joint, jnp.concatenate(keys))
    count = keys[0].shape[0]
    return jax.tree.map(lambda x: x[:count], outputs), jax.tree.map(lambda x: x[count:], outputs), updated


def _keys(key, batch):
    return tuple(sample_keys(key, purpose, batch.index) for purpose in (SOURCE_DROPOUT, TARGET_DROPOUT))


def _segmentation(context, variables, statistics, activations, labels, keys):
    """Decode the source's activations and score them: (segmentation loss, statistics)."""
    logits, statistics = _apply(context, variables, statistics, "decode", activations, keys)
    loss = losses.segmentation_loss(context.config.loss)(logits, labels, context.axis_name)
    return loss, statistics


def source_only(variables, batch, key, progress, context):
    """`ft`: the segmentation loss of the source alone; the target waits for fine-tuning."""
    del progress
    keys = sample_keys(key, SOURCE_DROPOUT, batch.index)
    activations, statistics = _apply(context, variables, variables["batch_stats"], "encode", batch.source, keys)
    loss, statistics = _segmentation(context, variables, statistics, activations, batch.labels, keys)
    return loss, ({"segmentation": loss}, statistics)


def sample_features(activations, keys, pixels):
    """Feature vectors of random pixels, the samples that MMD, CORAL and the domain classifier compare.

    Args:
      activations: `[batch, y, x, channel]` of one level.
      keys: one random key per sample `[batch]`.
      pixels: how many pixels of each sample, drawn with replacement.

    Returns:
      float32 `[batch * pixels, channel]`.
    """
    batch, height, width, channels = activations.shape
    places = jax.vmap(lambda key: jax.random.randint(key, (pixels,), 0, height * width))(keys)
    flat = activations.reshape(batch, height * width, channels)
    return jnp.take_along_axis(flat, places[:, :, None], axis=1).reshape(batch * pixels, channels).astype(jnp.float32)


def _compare_levels(variables, batch, key, context, term):
    """Segmentation loss of the source plus sum_i term(i, source features, target features) over the encoder levels i.

    The features are those of sampled pixels of the global batch, `[n, channel]` each.
    """
    keys = _keys(key, batch)
    source, target, statistics = _both(context, variables, variables["batch_stats"], "encode", batch.source, batch.target, keys)
    segmentation, statistics = _segmentation(context, variables, statistics, source, batch.labels, keys[0])
    adaptation = 0.0
    for level in range(len(source)):
        samples = []
        for purpose, activations in ((SOURCE_PIXELS, source), (TARGET_PIXELS, target)):
            pixel_keys = sample_keys(key, purpose + 2 * level, batch.index)
            features = sample_features(activations[level], pixel_keys, context.config.adaptation.pixels)
            samples.append(parallel.gather(features, context.axis_name))
        adaptation += term(level, *samples)
    return segmentation + adaptation, ({"segmentation": segmentation, "adaptation": adaptation}, statistics)


def mmd(variables, batch, key, progress, context):
    """`mmd`: lambda_i times the maximum mean discrepancy of the features of level i (Long et al. 2015)."""
    del progress
    multiples, weights = jnp.asarray(context.config.adaptation.bandwidths), level_weights(context.config)

    def term(level, source, target):
        return weights[level] * losses.mmd(source, target, losses.median_bandwidths(source, target, multiples))

    return _compare_levels(variables, batch, key, context, term)


def coral(variables, batch, key, progress, context):
    """`coral`: lambda_i times the distance of the covariances of the features of level i (Sun and Saenko 2016)."""
    del progress
    weights = level_weights(context.config)
    return _compare_levels(variables, batch, key, context,
                           lambda level, source, target: weights[level] * losses.coral(source, target))


def dann(variables, batch, key, progress, context):
    """`dann`: a classifier at each level learns to tell the domains apart; the encoder, by the reversed gradient, prevents it.

    The reversal's strength is lambda_i times Ganin's schedule, so that each classifier learns at full rate whatever the encoder
    feels of it (Ganin et al. 2016, section 5.2.2).
    """
    config = context.config.adaptation
    schedule = losses.reversal_schedule(progress, config.reversal_gamma)
    weights = level_weights(context.config)
    classifier = DomainClassifier(config.hidden)
    accuracies = []

    def term(level, source, target):
        parameters = variables["params"]["classifiers"][f"level_{level}"]
        logits = [classifier.apply({"params": parameters}, losses.reverse_gradient(features, weights[level] * schedule))
                  for features in (source, target)]
        accuracies.append(losses.domain_accuracy(*logits))
        return losses.domain_loss(*logits)

    loss, (metrics, statistics) = _compare_levels(variables, batch, key, context, term)
    return loss, ({**metrics, "domain_accuracy": sum(accuracies) / len(accuracies)}, statistics)


def ynet(variables, batch, key, progress, context):
    """`ynet`: a second decoder rebuilds the images of both domains from the shared bottleneck (Roels et al. 2019)."""
    del progress
    config, keys = context.config.adaptation, _keys(key, batch)
    source, target, statistics = _both(context, variables, variables["batch_stats"], "encode", batch.source, batch.target, keys)
    segmentation, statistics = _segmentation(context, variables, statistics, source, batch.labels, keys[0])
    *rebuilt, statistics = _both(context, variables, statistics, "reconstruct", source[-1:], target[-1:], keys)
    of_source, of_target = (losses.reconstruction(prediction, image, config.reconstruction_loss, context.axis_name)
                            for prediction, image in zip(rebuilt, (batch.source, batch.target), strict=True))
    loss = segmentation + config.reconstruction_source * of_source + config.reconstruction_target * of_target
    metrics = {"segmentation": segmentation, "reconstruction_source": of_source, "reconstruction_target": of_target}
    return loss, (metrics, statistics)


def with_target_labels(method):
    """The method of this module plus the segmentation loss of labelled target patches, from the first step on.

    Roels et al. 2019 found such joint training to limit the network and fine-tune instead. The patches are normalised by the
    statistics of their batch and leave the running ones alone, whatever `config.model.batch_pass` says of the others.
    """
    def joint(variables, batch, key, progress, context):
        loss, (metrics, statistics) = method(variables, batch, key, progress, context)
        keys = sample_keys(key, LABELLED_DROPOUT, batch.index)
        activations, own = _apply(context, variables, variables["batch_stats"], "encode", batch.labelled, keys)
        target, _ = _segmentation(context, variables, own, activations, batch.labelled_labels, keys)
        return loss + target, ({**metrics, "segmentation_target": target}, statistics)

    return joint


METHODS = {"ft": source_only, "mmd": mmd, "coral": coral, "dann": dann, "ynet": ynet}


def objective(config):
    """What an experiment minimises: its method, and with `config.semi_supervised` "joint" the loss of labelled target patches."""
    method = METHODS[config.method]
    return with_target_labels(method) if config.semi_supervised == "joint" else method


def images_per_step(config):
    """How many patches a step takes, of all domains and devices together."""
    return config.sampling.batch_size * (1 + uses_target(config.method) + (config.semi_supervised == "joint"))
