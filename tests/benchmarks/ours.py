"""Our side: the training step, and variants of it that say what its parts cost."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.setting import raw_batch, z_scored
from yseg import parallel
from yseg.losses import soft_jaccard
from yseg.methods import METHODS
from yseg.methods.parts import apply_to_both, dropout_keys, segmentation_term
from yseg.models import onednn, segmentation_network
from yseg.training.state import create_state
from yseg.training.step import make_step

SIDE = 2048  # of the matrix product that stands for what the machine can do


def encoder_on_both(variables, batch, key, *, progress, context):
    """The least that any adaptation costs: `ft`, and the encoder on the target too, forward and backward.

    The term is the mean of the target's bottleneck, whose gradient passes through the whole encoder.
    """
    del progress
    keys = dropout_keys(key, batch)
    source, target, statistics = apply_to_both(context, variables, variables["batch_stats"], "encode",
                                               inputs=(batch.labelled, batch.target), keys=keys)
    loss, statistics = segmentation_term(context, variables, statistics, activations=source, labels=batch.labels, keys=keys[0])
    term = jnp.mean(target[-1].astype(jnp.float32))
    return loss + 1e-6 * term, ({"segmentation": loss, "adaptation": term}, statistics)


def as_trained(network):
    """The network as a long training has it.

    Raises:
      RuntimeError: a CPU's convolutions would be XLA's, not oneDNN's: other figures than those that are compared here.
    """
    by_onednn = jax.default_backend() == "cpu" and network.dtype == "float32"
    if by_onednn and not onednn.available():
        raise RuntimeError("oneDNN does not compute what it should here, or this jaxlib has none: yseg.models.onednn falls back")
    return network.clone(by_onednn=by_onednn)


def step_of(config, loss=None, counts=False):
    """(step, state, raw): the compiled training step on one device, its first state, and the patches of a batch.

    Args:
      config: `yseg.config.Experiment`.
      loss: of both domains, instead of the method's, see `yseg.methods.method.MethodLoss`.
      counts: whether its operations are to be counted: oneDNN's would be left out, so none are in it.
    """
    method = METHODS[config.method]
    network = method.network(config.model, parallel.AXIS)
    step = parallel.map_step(make_step(config, network if counts else as_trained(network), parallel.AXIS, loss))
    raw = raw_batch(config)
    if not (method.sees_target or loss):
        raw = {name: value for name, value in raw.items() if not name.startswith("target")}
    state = parallel.replicate(parallel.on_host(create_state(config, jax.random.key(0))))
    return step, state, jax.device_put(raw)


def build_step(config, steps, loss=None):
    """A side: `steps` training steps on one and the same batch. Facts: floating-point operations of a step."""
    key = jax.random.key(1)
    step, *given = step_of(config, loss, counts=True)
    facts = {"flops": step.lower(*given, key).cost_analysis()["flops"]}
    step, state, raw = step_of(config, loss)

    def run():
        nonlocal state
        for _ in range(steps):
            state, metrics = step(state, raw, key)
        jax.block_until_ready((state, metrics))

    return run, facts


def build_encoder_on_both(config, steps):
    """A side: the step of `encoder_on_both`."""
    return build_step(config, steps, encoder_on_both)


def build_product(dtype):
    """A side: a product of two large square matrices. Facts: its floating-point operations."""
    random = np.random.default_rng(0)
    a, b = (jnp.asarray(random.normal(size=(SIDE, SIDE)), dtype) for _ in range(2))
    product = jax.jit(jnp.matmul)
    return lambda: product(a, b).block_until_ready(), {"flops": 2 * SIDE**3}


def check_values(config):
    """What PyTorch has to agree with, in NumPy: variables, images [batch, y, x, 1], labels, logits in training, and the loss.

    Computed in float32, whatever the config's type.
    """
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, compute_dtype="float32"))
    network = as_trained(segmentation_network(config.model))
    state = create_state(config, jax.random.key(0))
    raw = raw_batch(config)
    images, labels = z_scored(raw["labelled"][0]), raw["labels"][0].astype(np.int32)
    variables = {"params": state.params["network"], "batch_stats": state.batch_stats}

    @jax.jit
    def loss_of(params):
        logits, _ = network.apply(variables | {"params": params}, images, True, None, mutable=["batch_stats"])
        return soft_jaccard(logits, labels), logits

    with jax.default_matmul_precision("highest"):  # a GPU otherwise rounds the factors
        (loss, logits), gradient = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
    first = gradient["encoder"]["level_0"]["Conv_0"]["kernel"]
    return parallel.on_host({"variables": variables, "images": images, "labels": labels, "logits": logits, "loss": loss,
                             "first_gradient": first})
