"""What methods are made of: random keys by sample, and parts of the network in training mode."""

import jax
import numpy as np
import pytest

from yseg.config import Experiment, Model
from yseg.methods import context_of
from yseg.methods.method import Batch
from yseg.methods.parts import (
    JOINT_DROPOUT,
    LABELLED_DROPOUT,
    LABELLED_PIXELS,
    TARGET_DROPOUT,
    TARGET_PIXELS,
    apply_to_both,
    dropout_keys,
    sample_keys,
)
from yseg.models import segmentation_network

KEY = jax.random.key(7)


def test_sample_keys_depend_on_purpose_and_global_index_alone():
    keys = jax.random.key_data(sample_keys(KEY, 1, np.array([4, 9])))
    np.testing.assert_array_equal(keys[1], jax.random.key_data(sample_keys(KEY, 1, np.array([9, 0, 3])))[0])
    many = np.concatenate([jax.random.key_data(sample_keys(KEY, purpose, np.arange(20))) for purpose in range(10)])
    assert len(np.unique(many, axis=0)) == 200


def test_no_two_purposes_are_one_up_to_the_deepest_network():
    """The pixels of level i have the purposes of level 0 plus 2 i; a network has 7 levels and a bottleneck at most."""
    pixels = [purpose + 2 * level for purpose in (LABELLED_PIXELS, TARGET_PIXELS) for level in range(8)]
    assert len({*pixels, LABELLED_DROPOUT, TARGET_DROPOUT, JOINT_DROPOUT}) == 19


@pytest.mark.parametrize("batch_pass", ["apart", "joint"])
def test_both_domains_pass_as_they_are_told(batch_pass):
    """Apart, the source's outputs do not know of the target, and leave their statistics; jointly they are normalised with it."""
    config = Experiment(model=Model(levels=1, features=4, batch_pass=batch_pass))
    network, random = segmentation_network(config.model), np.random.default_rng(0)
    images = random.normal(size=(3, 2, 8, 8, 1)).astype(np.float32)
    variables = network.init(KEY, images[0])
    context, batch = context_of(config, network), Batch(np.arange(2), images[0], np.zeros((2, 8, 8), np.int32))
    given = {"params": {"network": variables["params"]}, "batch_stats": variables["batch_stats"]}

    def both(target):
        return apply_to_both(context, given, variables["batch_stats"], "encode", inputs=(images[0], target),
                             keys=dropout_keys(KEY, batch))

    (source, target, statistics), (other_source, other_target, others) = both(images[1]), both(3 * images[2])
    assert [x.shape for x in source] == [x.shape for x in target] == [(2, 8, 8, 4), (2, 4, 4, 8)]
    assert (np.abs(target[0] - other_target[0]) > 1e-3).any()
    leaves = [jax.tree.leaves((outputs, found["encoder"])) for outputs, found in ((source, statistics), (other_source, others))]
    same = [np.array_equal(one, other) for one, other in zip(*leaves, strict=True)]
    assert all(same) if batch_pass == "apart" else not any(same)
