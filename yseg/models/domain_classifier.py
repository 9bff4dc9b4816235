"""The domain classifier of DANN."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class DomainClassifier(nn.Module):
    """Which domain is a feature vector from? Two hidden layers: features `[n, channel]` -> logits `[n]`, positive = target.

    Ganin et al. 2016.
    """

    hidden: int = 64

    @nn.compact
    def __call__(self, features: Float[Array, "n channel"]) -> Float[Array, "n"]:
        x = features.astype(jnp.float32)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(1)(x)[:, 0]
