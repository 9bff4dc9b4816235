"""The methods: values and gradients against references that are put together in another way."""

import dataclasses
import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yseg import losses
from yseg.config import JOINT, METHODS, ONLY, Adaptation, Experiment, TargetLabels, level_weights
from yseg.methods import METHODS as RECORDS
from yseg.methods import Batch, context_of, images_per_step, loss_of
from yseg.methods.features import sample_features
from yseg.methods.parts import LABELLED_DROPOUT, LABELLED_PIXELS, TARGET_DROPOUT, TARGET_PIXELS, sample_keys
from yseg.models import DomainClassifier
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
    pseudo = np.random.default_rng(seed + 1).integers(-1, 2, (3, 8, 8)).astype(np.int32)
    return Batch(np.arange(3, dtype=np.int32), images[0], labels, images[1], target_labels=pseudo)


@functools.cache
def prepared(method, **model):
    """(config, network, variables, function(params, batch, progress) -> ((loss, (metrics, batch_stats)), gradients))."""
    config = experiment(method, **model)
    network = RECORDS[method].network(config.model)
    state = create_state(config, jax.random.key(0))

    def objective(params, batch, progress):
        variables = {"params": params, "batch_stats": state.batch_stats}
        return RECORDS[method].loss(variables, batch, KEY, progress=progress, context=context_of(config, network))

    compiled = jax.jit(jax.value_and_grad(objective, has_aux=True), compiler_options=FAST)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return config, network, variables, compiled


def run(method, batch, progress=0.3, **model):
    _, _, variables, compiled = prepared(method, **model)
    return compiled(variables["params"], batch, jnp.float32(progress))


def features_of(config, network, params, variables, batch):
    """Sampled features of each level: [(source [n, channel], target [n, channel]), ...], put together domain by domain."""
    sampled = []
    for images, dropout, pixels in ((batch.labelled, LABELLED_DROPOUT, LABELLED_PIXELS),
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


# --- The records ---


def test_a_record_is_listed_under_the_name_of_its_module():
    assert tuple(RECORDS) == METHODS
    for name, method in RECORDS.items():
        assert method is importlib.import_module(f"yseg.methods.{name}").METHOD
        assert method.name == name
    assert len({method.title for method in RECORDS.values()}) == len(METHODS)
    assert {name for name, method in RECORDS.items() if not method.sees_target} == {"ft"}


@pytest.mark.parametrize("method", METHODS)
def test_the_weights_of_a_method_are_knobs_and_all_that_change_its_loss(method):
    weights = RECORDS[method].weights
    knobs = {field.name for field in dataclasses.fields(Adaptation) if field.default is None}
    assert set(weights) <= knobs
    assert all(value > 0 for value in weights.values())
    config, network, variables, _ = prepared(method)

    def loss(values):
        context = context_of(dataclasses.replace(config, adaptation=dataclasses.replace(config.adaptation, **values)), network)
        return RECORDS[method].loss(variables, batch_of(), KEY, progress=jnp.float32(0.3), context=context)[0]

    loss, given = jax.jit(loss, compiler_options=FAST), {name: getattr(config.adaptation, name) for name in knobs}
    for name in knobs:
        # The weight of `dann` is that of the reversed gradient: it leaves the value.
        changes = name in weights and method != "dann"
        assert (abs(float(loss(given | {name: given[name] + 1}) - loss(given))) > 1e-4) == changes, name


def test_without_target_labels_the_loss_is_the_methods_own():
    for method in METHODS:
        assert loss_of(Experiment(method=method)) is RECORDS[method].loss
        assert loss_of(Experiment(method=method, target_labels=TargetLabels(JOINT))) is not RECORDS[method].loss
    assert loss_of(Experiment(target_labels=TargetLabels(ONLY))) is RECORDS["ft"].loss


@pytest.mark.parametrize(("method", "use", "count"), [("ft", "none", 2), ("ft", JOINT, 4), ("ft", ONLY, 2), ("ynet", "none", 4),
                                                      ("ynet", JOINT, 6), ("mmd", "none", 4)])
def test_a_step_takes_the_patches_of_the_domains_that_it_sees(method, use, count):
    config = Experiment(method=method, target_labels=TargetLabels(use))
    config.sampling.batch_size = 2
    assert images_per_step(config) == count


@pytest.mark.parametrize("method", METHODS)
def test_added_parameters_lie_beside_the_networks_and_depend_on_their_key(method):
    config = experiment(method)
    added = [RECORDS[method].parameters(jax.random.key(seed), config.model, config.adaptation) for seed in (0, 0, 1)]
    assert "network" not in added[0]
    assert bool(added[0]) == (method == "dann")
    jax.tree.map(np.testing.assert_array_equal, added[0], added[1])
    kernels = [[leaf for leaf in jax.tree.leaves(tree) if leaf.ndim > 1] for tree in added]
    assert all((one != other).any() for one, other in zip(kernels[0], kernels[2], strict=True))


# --- The losses ---


TERMS = {"ft": set(), "mmd": {"adaptation"}, "coral": {"adaptation"}, "dann": {"adaptation", "domain_accuracy"},
         "ynet": {"reconstruction_source", "reconstruction_target"}, "self_training": {"pseudo_labels"}}


@pytest.mark.parametrize("method", METHODS)
def test_metrics_are_the_terms_of_the_loss(method):
    config, *_ = prepared(method)
    (loss, (metrics, _)), _ = run(method, batch_of())
    assert metrics.keys() == {"segmentation"} | TERMS[method]
    assert {x.dtype for x in (loss, *metrics.values())} == {jnp.dtype("float32")}
    total = metrics["segmentation"] + metrics.get("adaptation", 0.0)
    total += config.adaptation.weight * metrics.get("pseudo_labels", 0.0)
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
    weights = level_weights(config.adaptation, config.model.levels)
    np.testing.assert_allclose(metrics["adaptation"], np.dot(weights, each), rtol=1e-4)
    assert min(each) > 1e-4


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
        for weight, reference in zip(level_weights(config.adaptation, config.model.levels), references, strict=True):
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


    def test_tracing_twice_gives_the_same_metrics(self):
        """Nothing is left of one tracing in the next, such as a list that has grown."""
        config, network, variables, _ = prepared("dann")
        traced = []

        def loss(params, batch):
            traced.append(batch.labelled.shape)
            return RECORDS["dann"].loss(variables | {"params": params}, batch, KEY, progress=jnp.float32(0.3),
                                        context=context_of(config, network))

        def program():
            return jax.make_jaxpr(lambda *given: loss(*given), return_shape=True)(variables["params"], batch_of())

        (first, shapes), (second, same) = program(), program()
        assert len(traced) == 2
        assert str(first) == str(second)
        assert shapes == same
        compiled = [jax.jit(lambda *given: loss(*given), compiler_options=FAST)(variables["params"], batch_of())
                    for _ in range(2)]
        assert len(traced) == 4
        jax.tree.map(np.testing.assert_array_equal, *compiled)
        (_, (metrics, _)), _ = run("dann", batch_of())
        assert compiled[1][1][0].keys() == metrics.keys()
        np.testing.assert_allclose(compiled[1][1][0]["domain_accuracy"], metrics["domain_accuracy"])

    def test_the_accuracy_is_the_mean_of_the_levels(self):
        config, network, variables, _ = prepared("dann")
        (_, (metrics, _)), _ = run("dann", batch_of())
        right = []
        for level, pair in enumerate(features_of(config, network, variables["params"], variables, batch_of())):
            logits = [DomainClassifier(config.adaptation.hidden).apply(
                {"params": variables["params"]["classifiers"][f"level_{level}"]}, features) for features in pair]
            right.append(float(losses.domain_accuracy(*logits)))
        assert metrics["domain_accuracy"] == pytest.approx(np.mean(right), abs=1e-6)


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
        both = jnp.concatenate([batch.labelled, batch.target])
        x = jax.lax.conv_general_dilated(both, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = np.asarray(x, np.float64)
        found = stats["encoder"]["level_0"]["Normalization_0"]["BatchNorm_0"]
        np.testing.assert_allclose(found["mean"], 0.02 * x.mean((0, 1, 2)), atol=1e-6)  # from 0 and 1, with momentum 0.98
        np.testing.assert_allclose(found["var"], 0.98 + 0.02 * x.var((0, 1, 2)), rtol=1e-5)

    def test_without_batch_normalisation_there_are_none(self):
        (_, (_, stats)), _ = run("ft", batch_of(), normalization="instance")
        assert jax.tree.leaves(stats) == []
