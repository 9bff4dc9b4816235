"""How much memory a training step takes, from the compiler's own account of it."""

import jax
import jax.numpy as jnp

from yseg.config import JOINT, ResolvedExperiment
from yseg.data.patches import LABELS, PSEUDO_LABELS
from yseg.methods import METHODS
from yseg.training.state import create_state
from yseg.training.step import make_step


def step_memory_mib(config: ResolvedExperiment) -> float | None:
    """Memory of one training step of an experiment, in MiB; None if the compiler does not tell.

    It is what XLA plans for the step with its whole batch on one device: arguments, outputs and temporary buffers, where the new
    state takes the place of the old one. It is the same definition on every kind of device, and needs neither the volumes nor a
    run; it is not what a process takes in all, which also holds volumes, the program and its libraries. The step is compiled for
    that, which takes as long as at the start of a training.

    Args:
      config: resolved; patches are taken to be of 8 bits.
    """
    step = make_step(config, METHODS[config.method].network(config.model))
    state = jax.eval_shape(lambda key: create_state(config, key), jax.random.key(0))
    compiled = jax.jit(step, donate_argnums=(0,)).lower(state, _raw(config), jax.random.key(0)).compile()
    planned = compiled.memory_analysis()
    if planned is None:
        return None
    sizes = (planned.argument_size_in_bytes, planned.output_size_in_bytes, planned.temp_size_in_bytes,
             -planned.alias_size_in_bytes)
    return sum(sizes) / 2**20


def _raw(config):
    """Shapes of the raw patches of a step, see `yseg.training.step.make_batch`."""
    batch, side = config.sampling.batch_size, config.sampling.patch_size
    image = jax.ShapeDtypeStruct((batch, side, side, config.model.sections), jnp.uint8)
    labels, statistics = jax.ShapeDtypeStruct((batch, side, side), jnp.int8), jax.ShapeDtypeStruct((2,), jnp.float32)
    names = ["labelled", *(["target"] if METHODS[config.method].sees_target else []),
             *(["joint"] if config.target_labels.use == JOINT else [])]
    raw = {"index": jax.ShapeDtypeStruct((batch,), jnp.int32)}
    for name in names:
        raw |= {name: image, f"{name}_statistics": statistics} | ({LABELS[name]: labels} if name in LABELS else {})
    return raw | ({PSEUDO_LABELS: labels} if METHODS[config.method].teaches_itself else {})
