"""The training step: pure, in strict modes, and able to learn."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from yseg.config import METHODS, Adaptation, Augmentation, Loss, Model, Optimizer, SelfTraining, no_augmentation
from yseg.data.grey_levels import z_score
from yseg.methods import METHODS as RECORDS
from yseg.models import segmentation_network
from yseg.runs.resolve import resolve
from yseg.training.state import create_state, inference_variables
from yseg.training.step import make_batch, make_step
from yseg.volumes.phantom import phantom

FAST = {"xla_backend_optimization_level": 0}  # compiling takes most of the time


def experiment(method="ft", **fields):
    """Resolved: the weights are the method's."""
    model = Model(**{"levels": 1, "features": 4, "dropout": 0.2} | fields.pop("model", {}))
    defaults = {"method": method, "model": model, "adaptation": Adaptation(pixels=8), "augmentation": Augmentation()}
    return resolve(tiny.experiment(**defaults | fields))


def network_of(config):
    return RECORDS[config.method].network(config.model)


def raw_of(config, seed=0, count=3, size=16, indices=None):
    random = np.random.default_rng(seed)
    shape = (count, size, size, config.model.sections)
    raw = {"index": np.arange(count, dtype=np.int32) if indices is None else np.array(indices, np.int32),
           "labelled": random.integers(0, 256, shape, np.uint8), "labels": random.integers(-1, 2, shape[:3]).astype(np.int8),
           "labelled_statistics": np.array([120, 60], np.float32)}
    if config.method != "ft":
        raw |= {"target": random.integers(0, 256, shape, np.uint8), "target_statistics": np.array([90, 30], np.float32)}
    if RECORDS[config.method].teaches_itself:
        raw["target_labels"] = random.integers(-1, 2, shape[:3]).astype(np.int8)
    return raw


@functools.cache
def prepared(method):
    config = experiment(method)
    step = jax.jit(make_step(config, network_of(config)), compiler_options=FAST)
    return config, step, create_state(config, jax.random.key(0))


def test_step_is_pure_to_the_bit_and_counts():
    config, step, state = prepared("dann")
    before = jax.tree.map(np.array, state)
    first, again = (step(state, raw_of(config), jax.random.key(1)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, state, before)
    assert int(first[0].step) == 1
    later, _ = step(first[0], raw_of(config), jax.random.key(1))
    assert int(later.step) == 2


def test_metrics_are_scalars_with_the_norm_and_the_rate_of_this_step():
    config, step, state = prepared("dann")
    after, metrics = step(state, raw_of(config), jax.random.key(1))
    assert metrics.keys() == {"loss", "segmentation", "adaptation", "domain_accuracy", "learning_rate", "gradient_norm"}
    assert {(x.shape, x.dtype) for x in metrics.values()} == {((), jnp.dtype("float32"))}
    assert float(metrics["learning_rate"]) == pytest.approx(config.optimizer.learning_rate / (config.optimizer.warmup_steps + 1))
    first_moment = optax.tree_utils.tree_get(after.opt_state, "mu")  # 0.1 g after one step of Adam
    norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(first_moment)))
    assert float(metrics["gradient_norm"]) == pytest.approx(10 * norm, rel=1e-4)


@pytest.mark.parametrize("options", [
    {"compute_dtype": "bfloat16"}, {"batch_pass": "joint"}, {"sections": 3}, {"residual": True}, {"activation": "gelu"},
    {"compute_dtype": "bfloat16", "normalization": "instance", "dropout": 0.0}, {"normalization": "none"},
    {"normalization": "group", "groups": 2, "classes": 3}], ids=str)
@pytest.mark.parametrize("method", ["dann", "ynet"])  # classifiers, both decoders
def test_every_option_keeps_the_states_shapes_and_types(method, options):
    _keeps_shapes_and_types(method, options, augmentation=no_augmentation())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_states_shapes_and_types(method):
    _keeps_shapes_and_types(method, {})


def _keeps_shapes_and_types(method, options, **fields):
    """In strict rank promotion, which holds in all tests."""
    assert jax.config.jax_numpy_rank_promotion == "raise"
    config = experiment(method, model=options, **fields)
    network = network_of(config)

    def one_step(key):
        state = create_state(config, key)
        return state, *make_step(config, network)(state, raw_of(config), key)

    before, after, metrics = jax.eval_shape(one_step, jax.random.key(0))
    assert after == before
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}
    assert {(x.shape, x.dtype) for x in metrics.values()} == {((), jnp.dtype("float32"))}


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "jaccard_cross_entropy", "soft_dice", "soft_jaccard", "tversky"])
def test_every_loss_can_be_trained(name):
    config = experiment(loss=Loss(name, (1.0, 3.0)))
    state = jax.eval_shape(lambda key: create_state(config, key), jax.random.key(0))
    after, _ = jax.eval_shape(make_step(config, network_of(config)), state, raw_of(config), jax.random.key(0))
    assert after == state


class TestBatch:
    def make(self, raw, key=3, augmentation=Augmentation()):  # noqa: B008
        return jax.jit(lambda raw: make_batch(raw, jax.random.key(key), augmentation), compiler_options=FAST)(raw)

    def test_a_sample_does_not_depend_on_the_others(self):
        config = experiment("ynet")
        raw, other = raw_of(config), raw_of(config, seed=1)
        mixed = {name: other[name].copy() for name in ("labelled", "target", "labels")}
        for name, values in mixed.items():
            values[1] = raw[name][1]
        first, second = self.make(raw), self.make(raw | mixed)
        for name in ("labelled", "target", "labels"):
            np.testing.assert_array_equal(getattr(first, name)[1], getattr(second, name)[1])
            assert (getattr(first, name)[0] != getattr(second, name)[0]).any()

    def test_a_sample_depends_on_its_global_index_not_on_its_place(self):
        config = experiment("ynet")
        raw = raw_of(config, indices=[4, 5, 6])
        turned = {name: values if name.endswith("statistics") else values[::-1] for name, values in raw.items()}
        first, second = self.make(raw), self.make(turned)
        np.testing.assert_array_equal(first.index, second.index[::-1])
        for name in ("labelled", "target", "labels"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name)[::-1])

    def test_domains_draw_apart(self):
        config = experiment("ynet")
        raw = raw_of(config)
        for name in ("target", "joint"):
            raw |= {name: raw["labelled"], f"{name}_statistics": raw["labelled_statistics"]}
        batch = self.make(raw | {"joint_labels": raw["labels"]})
        for one, other in itertools.combinations((batch.labelled, batch.target, batch.joint), 2):
            assert (one != other).any(axis=(1, 2, 3)).all()
        alone = self.make({name: values for name, values in raw.items() if not name.startswith(("target", "joint"))})
        np.testing.assert_array_equal(alone.labelled, batch.labelled)
        assert alone.target is alone.joint is alone.joint_labels is None

    def test_labels_of_every_domain_move_with_their_image(self):
        """With labels for grey levels, and no transform of these: what the labels become is what the image becomes."""
        labels = np.random.default_rng(0).integers(0, 2, (3, 16, 16)).astype(np.int8)
        one = np.array([0, 1], np.float32)
        raw = {"index": np.arange(3, dtype=np.int32), "labelled": labels[..., None], "labels": labels, "labelled_statistics": one,
               "joint": labels[..., None], "joint_labels": labels, "joint_statistics": one}
        batch = self.make(raw, augmentation=dataclasses.replace(no_augmentation(), rotate=True, flip=True))
        for image, moved in ((batch.labelled, batch.labels), (batch.joint, batch.joint_labels)):
            np.testing.assert_array_equal(image[..., 0], moved)
            assert (moved != labels).any()
            assert moved.dtype == jnp.int32

    def test_without_augmentation_it_is_the_z_scored_patch(self):
        raw = raw_of(experiment("ynet"))
        batch = self.make(raw, augmentation=no_augmentation())
        np.testing.assert_allclose(batch.labelled, (raw["labelled"].astype(np.float64) - 120) / 60, atol=1e-6)
        np.testing.assert_allclose(batch.target, (raw["target"].astype(np.float64) - 90) / 30, atol=1e-6)
        np.testing.assert_array_equal(batch.labels, raw["labels"])
        assert (batch.labelled.dtype, batch.labels.dtype) == (jnp.float32, jnp.int32)

    def test_types_are_never_promoted_by_chance(self, strict_dtypes):
        config = experiment("ynet")
        batch = jax.eval_shape(lambda raw: make_batch(raw, jax.random.key(0), Augmentation()), raw_of(config))
        assert batch.labelled.dtype == jnp.float32


@functools.cache
def eight_patches():
    """Raw patches of the phantom's domains, with much of the foreground and its border in the first."""
    raw = {"index": np.arange(8, dtype=np.int32)}
    for domain, name in (("source", "labelled"), ("target", "target")):
        image, labels = phantom(domain, (8, 128, 128), seed=1)
        places = itertools.product(range(96), repeat=2)
        y, x = max(places, key=lambda place: labels[0, place[0]:, place[1]:][:32, :32].std())
        raw[name] = image[:, y:y + 32, x:x + 32, None]
        raw[f"{name}_statistics"] = np.array([image.mean(), image.std()], np.float32)
        if name == "labelled":
            raw["labels"] = labels[:, y:y + 32, x:x + 32].astype(np.int8)
    return raw


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_overfits_eight_patches(method):
    weight = {"weight": 0.1} if "weight" in RECORDS[method].weights else {}
    config = experiment(method, model={"dropout": 0.0}, augmentation=no_augmentation(),
                        adaptation=Adaptation(pixels=16, **weight), self_training=SelfTraining(average=0.9),
                        optimizer=Optimizer(steps=90, learning_rate=2e-2, warmup_steps=5))
    raw = eight_patches()
    assert 0.2 < raw["labels"].mean() < 0.8
    if method == "ft":
        raw = {name: value for name, value in raw.items() if not name.startswith("target")}
    if RECORDS[method].teaches_itself:
        raw = {**raw, "target_labels": np.full_like(raw["labels"], -1)}

    step = jax.jit(make_step(config, network_of(config)), donate_argnums=0)
    state = create_state(config, jax.random.key(0))
    for _ in range(config.optimizer.steps):
        state, _ = step(state, raw, jax.random.key(1))

    images = z_score(raw["labelled"], raw["labelled_statistics"])
    logits = segmentation_network(config.model).apply(inference_variables(state, "training"), images)
    found, truth = np.argmax(logits, -1) == 1, raw["labels"] == 1
    assert (found & truth).sum() / (found | truth).sum() > 0.95
