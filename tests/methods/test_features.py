"""The feature pixels that methods compare."""

import jax
import jax.numpy as jnp
import numpy as np

from yseg.methods.features import sample_features

KEY = jax.random.key(7)


def test_rows_are_pixels_of_their_own_sample_where_the_key_says():
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    expected = [x[sample].reshape(20, 6)[np.asarray(jax.random.randint(keys[sample], (7,), 0, 20))] for sample in range(3)]
    np.testing.assert_array_equal(sample_features(x, keys, 7), np.concatenate(expected))


def test_every_pixel_is_equally_likely():
    """Chi-squared over 12 pixels: 11 degrees of freedom, below 31.3 with probability 0.999."""
    places = np.asarray(sample_features(np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1), jax.random.split(KEY, 1), 6000))
    counts = np.bincount(places[:, 0].astype(int), minlength=12)
    assert ((counts - 500) ** 2 / 500).sum() < 31.3


def test_bfloat16_features_are_compared_in_float32():
    assert sample_features(jnp.ones((1, 2, 2, 3), jnp.bfloat16), jax.random.split(KEY, 1), 2).dtype == jnp.float32
