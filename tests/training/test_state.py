"""The state, the optimiser and the statistics that inference uses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from yseg.config import METHODS, Experiment, Optimizer
from yseg.models import segmentation_network
from yseg.training.state import TrainState, create_state, inference_variables, make_optimizer, make_schedule


def rate(step, config):
    return float(make_schedule(config)(step))


class TestLearningRate:
    def test_constant(self):
        config = Optimizer(schedule="constant", warmup_steps=0, learning_rate=0.2)
        assert [rate(step, config) for step in (0, 1, 10**6)] == pytest.approx([0.2] * 3)

    @pytest.mark.parametrize("schedule", ["constant", "exponential", "cosine"])
    def test_warm_up_is_linear_and_starts_above_0(self, schedule):
        config = Optimizer(schedule=schedule, warmup_steps=4, steps=100, learning_rate=1.0)
        assert [rate(step, config) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])

    @pytest.mark.parametrize("warmup", [0, 10])
    def test_exponential(self, warmup):
        config = Optimizer(schedule="exponential", warmup_steps=warmup, learning_rate=0.5, decay_rate=0.9, decay_steps=20)
        steps = np.array([0, 19, 20, 39, 40, 399])
        np.testing.assert_allclose([rate(warmup + step, config) for step in steps], 0.5 * 0.9 ** (steps // 20), rtol=1e-5)

    @pytest.mark.parametrize("warmup", [0, 10])
    def test_cosine_ends_at_0(self, warmup):
        config = Optimizer(schedule="cosine", warmup_steps=warmup, steps=110, learning_rate=0.5)
        steps = np.array([0, 1, 50, 77, 110 - warmup])
        expected = 0.5 * (1 + np.cos(np.pi * steps / (110 - warmup))) / 2
        np.testing.assert_allclose([rate(warmup + step, config) for step in steps], expected, rtol=1e-5, atol=1e-8)

    @pytest.mark.parametrize("schedule", ["constant", "exponential", "cosine"])
    def test_warm_up_longer_than_the_training_still_rises(self, schedule):
        config = Optimizer(schedule=schedule, warmup_steps=50, steps=5, learning_rate=1.0)
        rates = [rate(step, config) for step in range(5)]
        assert all(np.diff(rates) > 0)
        assert 0 < rates[0] < rates[-1] < 1


def updates_of(config, gradients, params, count=1):
    """Parameters after some steps with the same gradients."""
    optimizer = make_optimizer(config)
    state = optimizer.init(params)
    for _ in range(count):
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return params


PARAMS = {"kernel": jnp.array([[1.0, -2.0], [3.0, 4.0]]), "bias": jnp.array([5.0, 6.0])}
GRADIENTS = {"kernel": jnp.array([[0.3, 0.0], [-0.4, 0.0]]), "bias": jnp.array([1.2, 0.0])}  # norm 1.3


class TestOptimizer:
    @pytest.mark.parametrize("name", ["adam", "sgd"])
    def test_weight_decay_shrinks_kernels_only(self, name):
        config = Optimizer(name=name, schedule="constant", warmup_steps=0, learning_rate=0.1, weight_decay=0.5)
        after = updates_of(config, jax.tree.map(jnp.zeros_like, PARAMS), PARAMS, count=2)
        np.testing.assert_allclose(after["kernel"], PARAMS["kernel"] * (1 - 0.1 * 0.5) ** 2, rtol=1e-6)
        np.testing.assert_array_equal(after["bias"], PARAMS["bias"])

    def test_first_step_of_adam_is_the_sign(self):
        config = Optimizer(name="adam", schedule="constant", warmup_steps=0, learning_rate=0.1)
        after = updates_of(config, GRADIENTS, PARAMS)
        for name, value in PARAMS.items():
            np.testing.assert_allclose(after[name], value - 0.1 * np.sign(GRADIENTS[name]), atol=1e-6)

    @pytest.mark.parametrize("momentum", [0.0, 0.5])
    def test_sgd_with_momentum(self, momentum):
        config = Optimizer(name="sgd", schedule="constant", warmup_steps=0, learning_rate=0.1, momentum=momentum)
        after = updates_of(config, GRADIENTS, PARAMS, count=2)
        for name, value in PARAMS.items():
            np.testing.assert_allclose(after[name], value - 0.1 * (2 + momentum) * GRADIENTS[name], rtol=1e-6)

    @pytest.mark.parametrize(("norm", "factor"), [(0.0, 1.0), (2.0, 1.0), (0.13, 0.1)])
    def test_clipping_is_of_the_global_norm(self, norm, factor):
        config = Optimizer(name="sgd", schedule="constant", warmup_steps=0, learning_rate=1.0, momentum=0.0, clip_norm=norm)
        after = updates_of(config, GRADIENTS, PARAMS)
        for name, value in PARAMS.items():
            np.testing.assert_allclose(after[name], value - factor * GRADIENTS[name], rtol=1e-5)


def experiment(method="ft", **model):
    config = Experiment(method=method)
    config.model.levels, config.model.features = 2, 4
    for name, value in model.items():
        setattr(config.model, name, value)
    return config


def shapes_of(config):
    return jax.eval_shape(lambda key: create_state(config, key), jax.random.key(0))


class TestCreateState:
    def test_depends_on_the_key_alone(self):
        config = experiment("dann", normalization="instance")
        first, again, other = (create_state(config, jax.random.key(seed)) for seed in (0, 0, 1))
        jax.tree.map(np.testing.assert_array_equal, first, again)
        kernels = [state.params["network"]["encoder"]["level_0"]["Conv_0"]["kernel"] for state in (first, other)]
        assert (kernels[0] != kernels[1]).all()
        assert first.step == 0
        assert first.step.dtype == jnp.int32

    @pytest.mark.parametrize("method", METHODS)
    def test_methods_share_the_segmentation_network(self, method):
        state = shapes_of(experiment(method))
        assert set(state.params) == {"network"} | ({"classifiers"} if method == "dann" else set())
        unet = shapes_of(experiment()).params["network"]
        assert {part: state.params["network"][part] for part in unet} == unet
        assert set(state.params["network"]) - set(unet) == ({"reconstruction"} if method == "ynet" else set())

    def test_there_is_a_classifier_for_each_level(self):
        classifiers = shapes_of(experiment("dann")).params["classifiers"]
        inputs = {name: tree["Dense_0"]["kernel"].shape[0] for name, tree in classifiers.items()}
        assert inputs == {"level_0": 4, "level_1": 8, "level_2": 16}

    @pytest.mark.parametrize("method", METHODS)
    def test_target_statistics_are_those_of_the_segmentation_network(self, method):
        state = shapes_of(experiment(method))
        assert set(state.target_stats) == {"encoder", "decoder"}
        assert state.target_stats == {part: state.batch_stats[part] for part in state.target_stats}
        without = shapes_of(experiment(method, normalization="instance"))
        assert jax.tree.leaves((without.batch_stats, without.target_stats)) == []

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_all_but_the_step_is_float32(self, dtype):
        state = shapes_of(experiment("ynet", compute_dtype=dtype))
        leaves = jax.tree.leaves((state.params, state.batch_stats, state.target_stats))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


class TestInferenceVariables:
    @pytest.fixture
    def state(self):
        random = np.random.default_rng(0)

        def layer():
            return {"BatchNorm_0": {"mean": random.normal(size=3), "var": random.uniform(0.5, 2, size=3)}}

        running = {"encoder": {"a": layer(), "b": layer()}, "decoder": layer(), "reconstruction": layer()}
        target = {"encoder": {"a": layer(), "b": layer()}, "decoder": layer()}
        params = {"network": {"encoder": {"w": 1}, "decoder": {"w": 2}, "reconstruction": {"w": 3}}, "classifiers": {"w": 4}}
        return TrainState(0, params, running, target, None)

    @pytest.mark.parametrize("statistics", ["training", "target", "mixed"])
    def test_only_the_segmentation_network_is_left(self, state, statistics):
        variables = inference_variables(state, statistics)
        assert variables["params"] == {"encoder": {"w": 1}, "decoder": {"w": 2}}
        assert set(variables["batch_stats"]) == {"encoder", "decoder"}

    def test_training_and_target_are_the_domains_own(self, state):
        running = {part: state.batch_stats[part] for part in ("encoder", "decoder")}
        assert inference_variables(state, "training")["batch_stats"] == running
        assert inference_variables(state, "target")["batch_stats"] == state.target_stats

    def test_mixed_has_the_moments_of_half_of_each(self, state):
        mixed = inference_variables(state, "mixed")["batch_stats"]["encoder"]
        random = np.random.default_rng(1)
        for layer in ("a", "b"):
            normal = random.normal(size=(10**5, 1))
            normal = (normal - normal.mean()) / normal.std()
            both = np.concatenate([
                stats["mean"] + np.sqrt(stats["var"]) * normal
                for stats in (domain["encoder"][layer]["BatchNorm_0"] for domain in (state.batch_stats, state.target_stats))])
            np.testing.assert_allclose(mixed[layer]["BatchNorm_0"]["mean"], both.mean(0), rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(mixed[layer]["BatchNorm_0"]["var"], both.var(0), rtol=1e-6)

    @pytest.mark.parametrize("normalization", ["batch", "instance"])
    def test_they_are_the_variables_of_the_plain_network(self, normalization):
        config = experiment("ynet", normalization=normalization)
        network = segmentation_network(config.model)

        def segment(key):
            variables = inference_variables(create_state(config, key), "mixed")
            return network.apply(variables, jnp.zeros((1, 8, 8, 1)))

        assert jax.eval_shape(segment, jax.random.key(0)).shape == (1, 8, 8, 2)
