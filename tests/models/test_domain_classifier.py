"""The domain classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from yseg.losses import domain_accuracy, domain_loss
from yseg.models import DomainClassifier


def test_logits_are_those_of_two_hidden_layers():
    features = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    classifier = DomainClassifier(hidden=6)
    variables = classifier.init(jax.random.key(0), features)
    x = features.astype(np.float64)
    for layer in range(3):
        kernel, bias = (np.asarray(variables["params"][f"Dense_{layer}"][name], np.float64) for name in ("kernel", "bias"))
        x = x @ kernel + bias
        x = np.maximum(x, 0) if layer < 2 else x
    logits = classifier.apply(variables, features)
    assert (logits.shape, logits.dtype) == ((7,), jnp.float32)
    np.testing.assert_allclose(logits, x[:, 0], rtol=1e-4, atol=1e-5)


def test_features_in_bfloat16_give_float32_logits():
    features = jnp.ones((3, 4), jnp.bfloat16)
    classifier = DomainClassifier(hidden=2)
    variables = classifier.init(jax.random.key(0), features)
    assert classifier.apply(variables, features).dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_it_learns_what_no_linear_classifier_can():
    """Source near the origin, target on a ring around it."""
    random = np.random.default_rng(0)
    angle = random.uniform(0, 2 * np.pi, 200)
    target = 3 * np.stack([np.cos(angle), np.sin(angle)], 1) + random.normal(0, 0.2, (200, 2))
    source, target = random.normal(0, 0.5, (200, 2)).astype(np.float32), target.astype(np.float32)
    classifier, optimizer = DomainClassifier(hidden=16), optax.adam(0.02)
    params = classifier.init(jax.random.key(0), source)

    def logits(params):
        return classifier.apply(params, source), classifier.apply(params, target)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(lambda params: domain_loss(*logits(params)))(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(100):
        params, state = step(params, state)
    assert domain_accuracy(*logits(params)) > 0.95
