"""Which domain is it from? The classifier of features (DANN) and the discriminator of outputs (AdaptSegNet)."""

import jax.numpy as jnp
from flax import linen as nn


class DomainClassifier(nn.Module):
    """Which domain is a feature vector from? Two hidden layers: features `[n, channel]` -> logits `[n]`, positive = target.

    Ganin et al. 2016.
    """

    hidden: int = 64

    @nn.compact
    def __call__(self, features):
        x = features.astype(jnp.float32)
        for _ in range(2):
            x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(1)(x)[:, 0]


class OutputDiscriminator(nn.Module):
    """Which domain are the outputs of a segmentation network from? A decision for every 8 x 8 pixels and 15 around.

    Three 4x4 convolutions of stride 2 with leaky rectifiers, of `hidden`, `2 hidden` and `4 hidden` maps, then a 3x3 one: class
    probabilities `[batch, y, x, class]` -> logits float32 `[batch, y / 8, x / 8]`, rounded up, positive = target. There is no
    normalisation, so that a sample's logits are its own. As Tsai et al. 2018 (section 4.3) with three levels for five: an EM
    patch is some tenth as wide as their images.
    """

    hidden: int = 64

    @nn.compact
    def __call__(self, probabilities):
        x = probabilities.astype(jnp.float32)
        for level in range(3):
            # A 4x4 convolution of stride 2 is a 2x2 one over cells of 2x2 pixels: on a CPU twice as fast, forward and backward.
            convolution = nn.Conv(self.hidden * 2**level, (2, 2), padding="VALID", kernel_init=nn.initializers.he_normal())
            x = nn.leaky_relu(convolution(_cells(x)), 0.2)
        return nn.Conv(1, (3, 3))(x)[..., 0]


def _cells(x):
    """`[batch, y, x, channel]` framed by zeros, as cells of 2x2 pixels: `[batch, y / 2 + 1, x / 2 + 1, 4 channel]`."""
    x = jnp.pad(x, ((0, 0), *((1, 1 + size % 2) for size in x.shape[1:3]), (0, 0)))
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)
