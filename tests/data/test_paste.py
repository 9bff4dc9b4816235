"""Pasting of the source's foreground on patches of the target."""

import jax
import jax.numpy as jnp
import numpy as np

from yseg.data.paste import RIM, SOFT, paste_foreground


def pasted(probability, seed=0, count=4):
    random = np.random.default_rng(seed)
    target, source = (jnp.asarray(random.normal(size=(count, 24, 24, 1)), jnp.float32) for _ in range(2))
    labels = jnp.asarray(random.integers(-1, 2, (count, 24, 24)), jnp.int32)
    source_labels = jnp.zeros((count, 24, 24), jnp.int32).at[:, 10:14, 8:12].set(1).at[:, 2, 2].set(-1)
    keys = jax.random.split(jax.random.key(seed), count)
    return target, labels, source, source_labels, *paste_foreground(
        keys, target, labels, pasted=source, pasted_labels=source_labels, probability=probability)


def test_the_foreground_and_its_rim_come_from_the_source_and_the_rest_stays():
    target, labels, source, source_labels, images, found = pasted(1.0)
    whole, outside = slice(10 - RIM + SOFT, 14 + RIM - SOFT), np.ones((24, 24), bool)
    np.testing.assert_allclose(images[:, whole, 8 - RIM + SOFT:12 + RIM - SOFT], source[:, whole, 8 - RIM + SOFT:12 + RIM - SOFT],
                               atol=1e-6)
    covered = slice(10 - RIM, 14 + RIM), slice(8 - RIM, 12 + RIM)
    np.testing.assert_array_equal(found[:, *covered], source_labels[:, *covered])
    outside[10 - RIM - SOFT:14 + RIM + SOFT, 8 - RIM - SOFT:12 + RIM + SOFT] = False
    np.testing.assert_array_equal(images[:, outside], target[:, outside])
    np.testing.assert_array_equal(found[:, outside], labels[:, outside])
    assert ((images >= jnp.minimum(target, source) - 1e-6) & (images <= jnp.maximum(target, source) + 1e-6)).all()


def test_never_is_never_and_some_samples_are_left_alone_as_their_keys_say():
    target, labels, _, _, images, found = pasted(0.0)
    np.testing.assert_array_equal(images, target)
    np.testing.assert_array_equal(found, labels)
    target, _, _, _, images, _ = pasted(0.5, count=200)
    share = float((images != target).any(axis=(1, 2, 3)).mean())
    assert 0.35 < share < 0.65


def test_a_sample_depends_on_its_own_key_and_patches_alone():
    *given, images, found = pasted(0.5, count=6)
    keys = jax.random.split(jax.random.key(0), 6)
    target, labels, source, source_labels = (each[2:3] for each in given)
    alone = paste_foreground(keys[2:3], target, labels, pasted=source, pasted_labels=source_labels, probability=0.5)
    np.testing.assert_array_equal(alone[0][0], images[2])
    np.testing.assert_array_equal(alone[1][0], found[2])
