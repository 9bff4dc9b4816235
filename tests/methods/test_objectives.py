"""The methods: values and gradients against references that are put together in another way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg import losses
from yseg.config import METHODS, Experiment, level_weights, uses_target
from yseg.methods.objectives import METHODS as OBJECTIVES
from yseg.methods.objectives import (
    SOURCE_DROPOUT,
    SOURCE_PIXELS,
    TARGET_DROPOUT,
    TARGET_PIXELS,
    Batch,
    Context,
    sample_features,
    sample_keys,
)
from yseg.models import DomainClassifier, build_network
from yseg.training.state import create_state

FAST = {"xla_backend_optimization_level": 0}  # compiling takes most of the time
KEY = jax.random.key(7)


def experiment(method, **model):
    config = Experiment(method=method)
    config.model.levels, config.model.features, config.model.dropout = 1, 4, 0.2
    config.adaptation.pixels, config.adaptation.weight, config.adaptation.hidden = 8, 3.0, 8
    config.adaptation.reconstruction_source, config.adaptation.reconstruction_target = 0.5, 2.0
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


def batch_of(seed=0, labelled=True):
    random = np.random.default_rng(seed)
    images = random.normal(size=(2, 3, 8, 8, 1)).astype(np.float32) * np.array([1, 2], np.float32).reshape(2, 1, 1, 1, 1)
    labels = random.integers(0, 2, (3, 8, 8)).astype(np.int32) if labelled else np.full((3, 8, 8), -1, np.int32)
    return Batch(np.arange(3, dtype=np.int32), images[0], labels, images[1])


@functools.cache
def prepared(method, **model):
    """(config, network, variables, function(params, batch, progress) -> ((loss, (metrics, batch_stats)), gradients))."""
    config = experiment(method, **model)
    network = build_network(config.model, method)
    state = create_state(config, jax.random.key(0))

    def objective(params, batch, progress):
        variables = {"params": params, "batch_stats": state.batch_stats}
        return OBJECTIVES[method](variables, batch, KEY, progress, Context(network, config))

    compiled = jax.jit(jax.value_and_grad(objective, has_aux=True), compiler_options=FAST)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return config, network, variables, compiled


def run(method, batch, progress=0.3, **model):
    _, _, variables, compiled = prepared(method, **model)
    return compiled(variables["params"], batch, jnp.float32(progress))


def features_of(config, network, params, variables, batch):
    """Sampled features of each level: [(source [n, channel], target [n, channel]), ...], put together domain by domain."""
    sampled = []
    for images, dropout, pixels in ((batch.source, SOURCE_DROPOUT, SOURCE_PIXELS),
                                    (batch.target, TARGET_DROPOUT, TARGET_PIXELS)):
        activations, _ = network.apply({"params": params["network"], "batch_stats": variables["batch_stats"]}, images, True,
                                       sample_keys(KEY, dropout, batch.index), method="encode", mutable=["batch_stats"])
        sampled.append([sample_features(x, sample_keys(KEY, pixels + 2 * level, batch.index), config.adaptation.pixels)
                        for level, x in enumerate(activations)])
    return list(zip(*sampled, strict=True))


def assert_trees_close(tree, expected):
    for (path, leaf), other in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(expected), strict=True):
        largest = max(float(np.abs(other).max()), 1e-3)
        np.testing.assert_allclose(leaf, other, rtol=0, atol=2e-5 * largest, err_msg=jax.tree_util.keystr(path))


TERMS = {"ft": set(), "mmd": {"adaptation"}, "coral": {"adaptation"}, "dann": {"adaptation", "domain_accuracy"},
         "ynet": {"reconstruction_source", "reconstruction_target"}}


@pytest.mark.parametrize("method", METHODS)
def test_metrics_are_the_terms_of_the_loss(method):
    config, *_ = prepared(method)
    (loss, (metrics, _)), _ = run(method, batch_of())
    assert metrics.keys() == {"segmentation"} | TERMS[method]
    assert {x.dtype for x in (loss, *metrics.values())} == {jnp.dtype("float32")}
    total = metrics["segmentation"] + metrics.get("adaptation", 0.0)
    if "reconstruction_source" in metrics:
        total += (config.adaptation.reconstruction_source * metrics["reconstruction_source"]
                  + config.adaptation.reconstruction_target * metrics["reconstruction_target"])
    np.testing.assert_allclose(loss, total, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_segmentation_term_is_that_of_source_only(method):
    """Apart, the target cannot touch the source's segmentation: neither through the statistics nor through the draws."""
    (alone, _), _ = run("ft", batch_of())
    (_, (metrics, _)), _ = run(method, batch_of())
    np.testing.assert_allclose(metrics["segmentation"], alone, rtol=1e-6)


def test_source_only_does_not_see_the_target():
    batch = batch_of()
    first, gradients = run("ft", batch)
    for target in (None, np.full_like(batch.target, np.nan)):
        second, again = run("ft", batch._replace(target=target))
        jax.tree.map(np.testing.assert_array_equal, (first, gradients), (second, again))
    assert not uses_target("ft")
    assert all(map(uses_target, set(METHODS) - {"ft"}))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "ft"])
def test_other_methods_see_the_target(method):
    (first, _), _ = run(method, batch_of())
    (second, _), _ = run(method, batch_of()._replace(target=batch_of(1).target))
    assert abs(float(first - second)) > 1e-4


def mmd_in_numpy(source, target, multiples):
    pooled = np.concatenate([source, target])
    distance = np.linalg.norm(pooled[:, None] - pooled[None], axis=-1)
    typical = np.quantile(distance[np.triu_indices(len(pooled), 1)], 0.5, method="inverted_cdf")  # the lower median
    bandwidths = typical * np.array(multiples)
    kernel = np.mean([np.exp(-distance**2 / (2 * b**2)) for b in bandwidths], axis=0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def coral_in_numpy(source, target, _):
    difference = np.cov(source, rowvar=False) - np.cov(target, rowvar=False)
    return (difference**2).sum() / (4 * source.shape[1] ** 2)


@pytest.mark.parametrize(("method", "distance"), [("mmd", mmd_in_numpy), ("coral", coral_in_numpy)])
def test_adaptation_is_the_weighted_sum_of_the_levels_distances(method, distance):
    config, network, variables, _ = prepared(method)
    batch = batch_of()
    (_, (metrics, _)), _ = run(method, batch)
    features = jax.jit(functools.partial(features_of, config, network), compiler_options=FAST)
    sampled = features(variables["params"], variables, batch)
    each = [distance(*(np.asarray(x, np.float64) for x in pair), config.adaptation.bandwidths) for pair in sampled]
    np.testing.assert_allclose(metrics["adaptation"], np.dot(level_weights(config), each), rtol=1e-4)
    assert min(each) > 1e-4


def test_level_weights_grow_toward_the_bottleneck_and_sum_to_lambda():
    config = experiment("mmd", levels=4)
    weights = level_weights(config)
    assert len(weights) == 5
    assert all(np.diff(weights) > 0)
    assert sum(weights) == pytest.approx(config.adaptation.weight)
    config.adaptation.level_weights = (0.0, 1.0, 1.0, 0.0, 2.0)
    assert level_weights(config) == pytest.approx((0, 0.75, 0.75, 0, 1.5))


@pytest.fixture(scope="module")
def references():
    """Gradients of each level's domain loss, without reversal: [of level 0, of level 1, ...], each of all parameters."""
    config, network, variables, _ = prepared("dann")

    def domain_losses(params):
        return [losses.domain_loss(*(DomainClassifier(config.adaptation.hidden).apply(
            {"params": params["classifiers"][f"level_{level}"]}, features) for features in pair))
            for level, pair in enumerate(features_of(config, network, params, variables, batch_of()))]

    return jax.jit(jax.jacrev(domain_losses), compiler_options=FAST)(variables["params"])


class TestDann:
    @pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
    def test_encoder_feels_minus_lambda_times_schedule(self, references, progress):
        config, *_ = prepared("dann")
        _, gradients = run("dann", batch_of(), progress)
        _, segmentation = run("ft", batch_of())
        schedule = 2 / (1 + np.exp(-config.adaptation.reversal_gamma * progress)) - 1
        expected = segmentation["network"]["encoder"]
        for weight, reference in zip(level_weights(config), references, strict=True):
            scale = weight * schedule
            expected = jax.tree.map(lambda total, g, scale=scale: total - scale * g, expected, reference["network"]["encoder"])
        assert_trees_close(gradients["network"]["encoder"], expected)
        assert_trees_close(gradients["network"]["decoder"], segmentation["network"]["decoder"])

    @pytest.mark.parametrize("progress", [0.0, 1.0])
    def test_classifiers_learn_at_full_rate(self, references, progress):
        _, gradients = run("dann", batch_of(), progress)
        for level, reference in enumerate(references):
            name = f"level_{level}"
            assert_trees_close(gradients["classifiers"][name], reference["classifiers"][name])
            assert np.abs(reference["classifiers"][name]["Dense_0"]["kernel"]).max() > 1e-4


class TestYNet:
    def test_reconstruction_trains_the_encoder_but_not_the_segmentation_decoder(self):
        (loss, _), gradients = run("ynet", batch_of(labelled=False))
        largest = {part: max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
                   for part, tree in gradients["network"].items()}
        assert largest["decoder"] == 0
        assert largest["encoder"] > 1e-4
        assert largest["reconstruction"] > 1e-4
        assert loss > 0

    def test_segmentation_does_not_train_the_reconstruction_decoder(self):
        _, labelled = run("ynet", batch_of())
        _, unlabelled = run("ynet", batch_of(labelled=False))
        for one, other in zip(*(jax.tree.leaves(g["network"]["reconstruction"]) for g in (labelled, unlabelled)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


class TestRunningStatistics:
    @pytest.mark.parametrize("method", ["coral", "ynet"])
    def test_apart_they_are_those_of_source_only(self, method):
        (_, (_, stats)), _ = run(method, batch_of())
        (_, (_, alone)), _ = run("ft", batch_of())
        assert set(alone) == {"encoder", "decoder"}
        assert_trees_close({part: stats[part] for part in alone}, alone)

    def test_jointly_they_are_those_of_both_domains_mixture(self):
        _, _, variables, _ = prepared("coral", batch_pass="joint")
        batch = batch_of()
        (_, (_, stats)), _ = run("coral", batch, batch_pass="joint")
        kernel = variables["params"]["network"]["encoder"]["level_0"]["Conv_0"]["kernel"]
        both = jnp.concatenate([batch.source, batch.target])
        x = jax.lax.conv_general_dilated(both, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = np.asarray(x, np.float64)
        found = stats["encoder"]["level_0"]["Normalization_0"]["BatchNorm_0"]
        np.testing.assert_allclose(found["mean"], 0.02 * x.mean((0, 1, 2)), atol=1e-6)  # from 0 and 1, with momentum 0.98
        np.testing.assert_allclose(found["var"], 0.98 + 0.02 * x.var((0, 1, 2)), rtol=1e-5)

    def test_without_batch_normalisation_there_are_none(self):
        (_, (_, stats)), _ = run("ft", batch_of(), normalization="instance")
        assert jax.tree.leaves(stats) == []


class TestSampleFeatures:
    def test_rows_are_pixels_of_their_own_sample_where_the_key_says(self):
        x = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)
        keys = jax.random.split(jax.random.key(0), 3)
        expected = [x[sample].reshape(20, 6)[np.asarray(jax.random.randint(keys[sample], (7,), 0, 20))] for sample in range(3)]
        np.testing.assert_array_equal(sample_features(x, keys, 7), np.concatenate(expected))

    def test_every_pixel_is_equally_likely(self):
        """Chi-squared over 12 pixels: 11 degrees of freedom, below 31.3 with probability 0.999."""
        places = np.asarray(sample_features(np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1), jax.random.split(KEY, 1), 6000))
        counts = np.bincount(places[:, 0].astype(int), minlength=12)
        assert ((counts - 500) ** 2 / 500).sum() < 31.3

    def test_bfloat16_features_are_compared_in_float32(self):
        assert sample_features(jnp.ones((1, 2, 2, 3), jnp.bfloat16), jax.random.split(KEY, 1), 2).dtype == jnp.float32


def test_sample_keys_depend_on_purpose_and_global_index_alone():
    keys = jax.random.key_data(sample_keys(KEY, 1, np.array([4, 9])))
    np.testing.assert_array_equal(keys[1], jax.random.key_data(sample_keys(KEY, 1, np.array([9, 0, 3])))[0])
    many = np.concatenate([jax.random.key_data(sample_keys(KEY, purpose, np.arange(20))) for purpose in range(10)])
    assert len(np.unique(many, axis=0)) == 200
