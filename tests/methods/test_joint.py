"""Joint training: what labelled patches of the target add to a method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import experiment

from yseg.config import JOINT, TargetLabels
from yseg.methods import METHODS, Batch, context_of, loss_of
from yseg.runs.resolve import resolve
from yseg.training.state import create_state

BOXES = ("0:1,:,:60",)


@pytest.mark.parametrize("method", ["ft", "dann", "ynet"])
def test_the_loss_is_the_methods_own_and_that_of_the_labelled_patches(method):
    config = resolve(experiment(method=method, target_labels=TargetLabels(JOINT, boxes=BOXES)))
    network, state = METHODS[method].network(config.model), create_state(config, jax.random.key(0))
    random = np.random.default_rng(0)
    images = random.normal(size=(3, 2, 8, 8, 1)).astype(np.float32)
    labels = random.integers(0, 2, (2, 2, 8, 8)).astype(np.int32)
    batch = Batch(np.arange(2), images[0], labels[0], images[1], images[2], labels[1])

    def differentiated(minimised, batch):
        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            return minimised(variables, batch, jax.random.key(1), progress=jnp.float32(0.5), context=context_of(config, network))
        return jax.device_get(jax.jit(jax.value_and_grad(loss, has_aux=True))(state.params))

    (joint, (metrics, statistics)), gradient = differentiated(loss_of(config), batch)
    (alone, (its_metrics, its_statistics)), its_gradient = differentiated(METHODS[method].loss, batch)
    swapped = Batch(np.arange(2), images[2], labels[1])  # what a source-only training on the labelled patches would minimise
    (target, _), target_gradient = differentiated(METHODS["ft"].loss, swapped)
    assert joint == pytest.approx(alone + target, rel=1e-5)
    assert metrics["segmentation_target"] == pytest.approx(target, rel=1e-5)
    assert metrics.keys() - its_metrics.keys() == {"segmentation_target"}
    for name, value in its_metrics.items():
        assert metrics[name] == pytest.approx(value, rel=1e-5)
    close = lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, statistics, its_statistics)
    jax.tree.map(lambda both, one, other: close(both, one + other), gradient, its_gradient, target_gradient)
