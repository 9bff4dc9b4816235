"""The same training on any number of devices and processes.

This file is also the program that the tests start: `test_parallel.py devices` compares 2 devices with 1, and
`test_parallel.py process ADDRESS ID COUNT` trains as one process of several.
"""

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore as ts

from yseg import parallel
from yseg.config import METHODS, Experiment, InputError, no_augmentation
from yseg.data.grid import Grid
from yseg.data.labels import label_rule
from yseg.data.patches import Region, make_reader
from yseg.models import reconstruction_network, segmentation_network
from yseg.runs.population import population_step
from yseg.training.state import create_state
from yseg.training.step import make_step

STEPS = 3


def experiment(method):
    """A tiny experiment with all that could differ between devices: dropout, batch normalisation, plain SGD; augmentation, which
    is the same for all methods and takes most of the compilation, with one of them.
    """
    config = Experiment(method=method)
    if method != "dann":
        config.augmentation = no_augmentation()
    config.sampling.patch_size, config.sampling.batch_size = 16, 4
    config.model.levels, config.model.features, config.model.dropout = 1, 4, 0.3
    config.adaptation.pixels = 8
    config.adaptation.reversal_gamma = 0.0
    config.optimizer.name, config.optimizer.learning_rate, config.optimizer.warmup_steps = "sgd", 0.05, 0
    return config


def region(seed, pixel_size_nm):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (3, 70, 80), dtype=np.uint8)
    labels = (image > 128).astype(np.uint8)
    grid = Grid(image.shape, pixel_size_nm, 10.0)
    return Region(ts.array(image), ts.array(labels), grid, grid.box, label_rule(">0", "", "--config.source"),
                  (float(image.mean()), float(image.std())))


def reader_of(config):
    return make_reader(region(0, 5.0), region(1, 4.6) if config.method != "ft" else None, config)


def step_of(config, axis_name=None):
    build = reconstruction_network if config.method == "ynet" else segmentation_network
    return make_step(config, build(config.model, axis_name), axis_name)


def mapped_step(config):
    return parallel.map_step(step_of(config, parallel.AXIS))


def parts(params):
    """The parts of the parameters that a wrong factor could hit apart."""
    added = {f"classifier_{name}": value for name, value in params.get("classifiers", {}).items()}
    return {**params["network"], **added}


def differences(one, other):
    """Largest difference of each part, relative to the part's largest value."""
    result = {}
    for (name, first), second in zip(parts(one).items(), parts(other).values(), strict=True):
        first, second = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (first, second))
        result[name] = float(np.abs(first - second).max() / np.abs(first).max())
    return result


def first_gradient(state):
    """SGD's momentum after one step is the gradient."""
    return optax.tree_utils.tree_get(state.opt_state, "trace")


def spread(tree):
    """Largest difference of a value between two devices."""
    def largest(tree, place):
        del place  # pmap wants an argument that is mapped
        return jax.tree.map(lambda x: jnp.max(jax.lax.pmax(x, "d") - jax.lax.pmin(x, "d")), tree)

    mapped = jax.pmap(largest, axis_name="d", in_axes=(None, 0), out_axes=None)
    return max(float(x) for x in jax.tree.leaves(mapped(tree, np.arange(jax.device_count()))))


def compare_devices(method):
    config, key = experiment(method), jax.random.key(5)
    batches = [reader.batch(step) for reader in [reader_of(config)] for step in range(STEPS)]
    start = parallel.on_host(create_state(config, jax.random.key(0)))

    single = jax.jit(step_of(config))
    alone, alone_gradient, alone_losses = start, None, []
    for raw in batches:
        flat = {name: value[0] if name.endswith("statistics") else np.concatenate(np.asarray(value))
                for name, value in raw.items()}
        alone, metrics = single(alone, flat, key)
        alone_gradient = alone_gradient or first_gradient(alone)
        alone_losses.append({name: float(value) for name, value in metrics.items()})

    step, state, losses = mapped_step(config), parallel.replicate(start), []
    for number in range(20):
        state, metrics = step(state, batches[number % STEPS], key)
        if number == 0:
            gradient = parallel.on_host(first_gradient(state))
        if number < STEPS:
            losses.append({name: float(value) for name, value in metrics.items()})
        if number == STEPS - 1:
            after = parallel.on_host(state)

    drift = spread((state.params, state.batch_stats, state.opt_state))
    statistics = [np.abs(np.asarray(a) - np.asarray(b)).max()
                  for a, b in zip(jax.tree.leaves(alone.batch_stats), jax.tree.leaves(after.batch_stats), strict=True)]
    return {
        "gradient": differences(alone_gradient, gradient), "parameters": differences(alone.params, after.params),
        "statistics": float(max(statistics)), "losses": [alone_losses, losses],
        "drift": drift,
        "moved": differences(start.params, after.params),
        "after": np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(alone.params)]).tolist(),
    }


def compare_population(method):
    """Largest differences of two members that step together from each that steps alone, all on two devices."""
    config, keys = experiment(method), [jax.random.key(5), jax.random.key(6)]
    start, raw = parallel.on_host(create_state(config, jax.random.key(0))), reader_of(config).batch(0)
    alone = [parallel.on_host(mapped_step(config)(parallel.replicate(start), raw, key)[0].params) for key in keys]
    both, twice = (lambda *leaves: jnp.stack(leaves)), (lambda leaf: jnp.stack([leaf, leaf], axis=1))
    state, _ = population_step(config)(parallel.replicate(jax.tree.map(both, start, start)), jax.tree.map(twice, raw),
                                       (jnp.stack(keys), {}))
    members = [jax.tree.map(lambda leaf, number=number: leaf[number], state.params) for number in range(2)]
    return {"errors": [differences(*pair) for pair in zip(alone, members, strict=True)], "apart": differences(*alone)}


def devices_program():
    try:
        refused = str(parallel.share(3))
    except InputError as error:
        refused = str(error)
    unreduced = jax.pmap(lambda place: place, out_axes=None)(np.arange(2))
    return {"devices": jax.device_count(), "share": parallel.share(6).tolist(), "refused": refused,
            "drift_of_a_forgotten_reduction": spread(unreduced), "population": compare_population("coral"),
            **{method: compare_devices(method) for method in METHODS}}


def process_program(address, number, count):
    if count > 1:
        jax.distributed.initialize(address, num_processes=count, process_id=number)
    config = experiment("dann")
    reader, step, state = reader_of(config), mapped_step(config), parallel.replicate(create_state(config, jax.random.key(0)))
    for place in range(STEPS):
        state, metrics = step(state, reader.batch(place), jax.random.key(5))
    parallel.wait_for_all("the end")
    return {"processes": jax.process_count(), "share": parallel.share(4).tolist(), "main": parallel.is_main(),
            "loss": float(metrics["loss"]),
            "after": np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(parallel.on_host(state.params))]).tolist()}


def start(*arguments, devices=1):
    """Start this file as a program of its own: (process, the file into which it prints)."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
                   "JAX_NUMPY_RANK_PROMOTION": "raise", "PYTHONPATH": str(Path(parallel.__file__).parents[1])}
    # Not a pipe: processes that wait for each other must not wait for a reader too.
    printed = tempfile.TemporaryFile("w+")  # noqa: SIM115
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=printed, stderr=subprocess.STDOUT), printed


def answers(started):
    """What the programs printed in their last lines."""
    try:
        codes = [process.wait(timeout=600) for process, _ in started]
    finally:
        for process, _ in started:
            process.kill()
    texts = []
    for _, printed in started:
        with printed:
            printed.seek(0)
            texts.append(printed.read())
    assert codes == [0] * len(started), "\n".join(text[-3000:] for text in texts)
    return [json.loads(text.splitlines()[-1]) for text in texts]


@pytest.fixture(scope="session")
def devices():
    return answers([start("devices", devices=2)])[0]


@pytest.fixture(scope="session")
def processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return answers([start("process", address, number, 2) for number in range(2)])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
class TestTwoDevices:
    def test_gradient_of_every_part_is_that_of_one_device(self, devices, method):
        assert devices["devices"] == 2
        errors = devices[method]["gradient"]
        assert {"encoder", "decoder"} <= set(errors)
        assert max(errors.values()) < 2e-5, errors

    def test_parameters_after_sgd_steps_are_those_of_one_device(self, devices, method):
        errors = devices[method]["parameters"]
        assert max(errors.values()) < 2e-5, errors
        assert min(devices[method]["moved"].values()) > 1e-3  # else equality would mean nothing

    def test_loss_metrics_and_running_statistics_are_those_of_one_device(self, devices, method):
        alone, both = devices[method]["losses"]
        for one, other in zip(alone, both, strict=True):
            assert one.keys() == other.keys()
            np.testing.assert_allclose([*other.values()], [*one.values()], rtol=1e-4)
        assert devices[method]["statistics"] < 1e-5

    def test_replicas_are_identical_after_20_steps(self, devices, method):
        assert devices[method]["drift"] == 0
        assert devices["drift_of_a_forgotten_reduction"] == 1  # so a drift would be seen


@pytest.mark.slow
def test_members_of_a_population_step_on_two_devices_as_each_alone(devices):
    errors = devices["population"]["errors"]
    assert max(value for member in errors for value in member.values()) < 2e-5, errors
    assert max(devices["population"]["apart"].values()) > 1e-3  # the members differ


@pytest.mark.slow
def test_samples_are_shared_out_in_order(devices):
    assert devices["share"] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.slow
def test_two_processes_train_like_one_device(devices, processes):
    assert [one["processes"] for one in processes] == [2, 2]
    assert [one["main"] for one in processes] == [True, False]
    assert [one["share"] for one in processes] == [[[0, 1]], [[2, 3]]]
    assert processes[0]["after"] == processes[1]["after"]
    assert processes[0]["loss"] == processes[1]["loss"]
    reference = np.array(devices["dann"]["after"])
    np.testing.assert_allclose(processes[0]["after"], reference, rtol=0, atol=2e-5 * np.abs(reference).max())


def test_without_a_device_axis_the_helpers_change_nothing():
    x = jnp.arange(6.0).reshape(3, 2)
    for helper in (parallel.total, parallel.gather, parallel.mean):
        assert helper(x) is x


def test_share_of_one_device_is_the_whole_batch():
    assert parallel.share(4 * jax.device_count()).ravel().tolist() == list(range(4 * jax.device_count()))


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_named(devices):
    assert devices["refused"] == "--config.sampling.batch_size=3: must be a multiple of the number of devices, 2"


def test_on_host_copies_survive_a_step_that_reuses_the_memory():
    config = experiment("ft")
    state = parallel.replicate(create_state(config, jax.random.key(0)))
    copy, again = parallel.on_host(state), parallel.on_host(state)
    jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(state)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(copy))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, copy, again)))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the GNU C library")
def test_kept_memory_is_not_asked_of_the_system_again():
    """A page fault for every page of 100 MB, written and freed ten times; with kept memory only in the first round."""
    code = ("import resource, sys\nimport numpy as np\nfrom yseg.parallel import keep_memory\nif sys.argv[1:]:\n keep_memory()\n"
            "def faults():\n return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
            "np.ones(12_500_000)\nbefore = faults()\nfor _ in range(9):\n np.ones(12_500_000)\nprint(faults() - before)")
    environment = {**os.environ, "PYTHONPATH": str(Path(parallel.__file__).parents[1])}
    given, kept = (int(subprocess.run([sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE,
                                      text=True, timeout=120, check=True).stdout) for arguments in ((), ("keep",)))
    assert kept < 1000
    assert kept < given


def test_options_that_xla_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(parallel, "_CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    parallel._compiler_options.cache_clear()
    try:
        assert parallel._compiler_options() is None
        mapped = parallel.map_shares(lambda shared, share, more: shared + share + more)
        assert mapped(1.0, np.ones((1, 2)), 2.0).tolist() == [[4.0, 4.0]]
    finally:
        parallel._compiler_options.cache_clear()


def test_outside_a_cluster_starting_processes_fails_in_one_line():
    code = "from yseg import parallel\ntry:\n parallel.start_processes()\nexcept parallel.InputError as error:\n print(error)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "TPU"))}
    environment["PYTHONPATH"] = str(Path(parallel.__file__).parents[1])
    printed = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, timeout=120,
                             check=True).stdout
    assert printed.startswith("--multihost: no cluster")
    assert printed.count("\n") == 1


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    print(json.dumps(devices_program() if kind == "devices" else process_program(rest[0], *map(int, rest[1:]))), flush=True)
