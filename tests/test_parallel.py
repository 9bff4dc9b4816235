"""The same training on any number of devices and processes."""

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
import parallel_programs
import pytest

from yseg import parallel
from yseg.config import InputError
from yseg.methods import METHODS
from yseg.training.state import create_state


def start(*arguments, devices=1):
    """Start one of `parallel_programs`: (process, the file into which it prints)."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
                   "JAX_NUMPY_RANK_PROMOTION": "raise", "PYTHONPATH": str(Path(parallel.__file__).parents[1])}
    # Not a pipe: processes that wait for each other must not wait for a reader too.
    printed = tempfile.TemporaryFile("w+")  # noqa: SIM115
    command = [sys.executable, parallel_programs.__file__, *map(str, arguments)]
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
def some():
    return answers([start("some", devices=3)])[0]


@pytest.fixture(scope="session")
def processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return answers([start("process", address, number, 2, devices=2) for number in range(2)])


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


def assert_trained_like_one_device(found, one_device):
    reference = np.array(one_device["after"])
    for after in (found["after"], found["again"]):
        np.testing.assert_allclose(after, reference, rtol=0, atol=2e-5 * np.abs(reference).max())
    np.testing.assert_allclose(found["losses"], [losses["loss"] for losses in one_device["losses"][0]], rtol=1e-4)


@pytest.mark.slow
def test_a_batch_that_not_all_devices_can_share_trains_on_some_like_on_one(devices, some):
    assert (some["devices"], some["used"], some["local"], some["where"]) == (3, [0, 1], [0, 1], [0, 1])
    assert some["share"] == [[0, 1], [2, 3]]
    assert_trained_like_one_device(some, devices["coral"])


@pytest.mark.slow
def test_the_most_devices_that_divide_a_batch_are_used_and_the_others_told_of(some):
    assert some["counts"] == [max(count for count in (1, 2, 3) if batch % count == 0) for batch in range(1, 13)]
    told = "uses {} of 3 devices: a batch of {} cannot be divided among more; sampling.batch_size={} would use all"
    assert some["idle"] == [None, told.format(2, 4, 6), None, told.format(1, 7, 9)]


@pytest.mark.slow
def test_two_processes_train_like_one_device(devices, processes):
    """Each on one device of two."""
    assert [(one["processes"], one["devices"], one["used"]) for one in processes] == [(2, 4, [0, 1])] * 2
    assert [one["main"] for one in processes] == [True, False]
    assert [one["local"] for one in processes] == [[0], [1]]
    assert [one["share"] for one in processes] == [[[0, 1]], [[2, 3]]]
    assert processes[0]["after"] == processes[1]["after"]
    assert processes[0]["loss"] == processes[1]["loss"]
    assert_trained_like_one_device(processes[0], devices["coral"])


@pytest.mark.slow
def test_a_batch_that_the_processes_cannot_share_is_refused(processes):
    told = "sampling.batch_size=3: must be a multiple of the number of processes, 2"
    assert [one["refused"] for one in processes] == [told, told]
    assert "uses 2 of 4 devices: a batch of 2" in processes[0]["idle"]


@pytest.mark.slow
def test_what_the_main_process_raises_ends_the_others_too(processes):
    main, other = (one["outcomes"] for one in processes)
    assert main == [["returned", "written"], ["InputError", "workdir: is in use"], ["OSError", "no space left"]]
    assert other == [["returned", None], ["InputError", "workdir: is in use"],
                     ["RuntimeError", "another process failed: OSError: no space left"]]


@pytest.mark.slow
def test_what_processes_share_out_is_whole_on_each_and_what_one_raises_ends_all(processes):
    for one in processes:
        assert one["shares"] == [[[0, 0], [10, 1], [20, 2], [30, 3], [40, 4]], [[0, 0]]]
        assert one["outcomes_of_shares"] == [["InputError", "section 4: is damaged"], ["OSError", "no space left"]]


def test_one_process_has_the_only_share():
    assert parallel.in_shares(parallel_programs.tens, 2).tolist() == [[0, 0], [10, 1]]


def test_one_process_is_the_main_one():
    assert parallel.on_main(divmod, 7, 2) == (3, 1)
    with pytest.raises(OSError, match="no space left"):
        parallel.on_main(parallel_programs.fail)


def test_however_much_is_said_of_an_error_arrives_from_its_beginning():
    with pytest.raises(InputError) as raised:
        parallel._raise_encoded(parallel._encoded(InputError("µm " * 5000)))
    assert str(raised.value).startswith("µm µm µm")


def test_without_a_device_axis_the_helpers_change_nothing():
    x = jnp.arange(6.0).reshape(3, 2)
    for helper in (parallel.total, parallel.gather, parallel.mean):
        assert helper(x) is x


def test_share_of_one_device_is_the_whole_batch():
    assert parallel.share(4 * jax.device_count()).ravel().tolist() == list(range(4 * jax.device_count()))


def test_a_batch_that_does_not_divide_among_the_given_devices_is_a_mistake():
    device = jax.devices()[0]
    with pytest.raises(ValueError, match="global_batch=3: must be a multiple of the number of devices, 2"):
        parallel.share(3, parallel.Devices((device, device), (device,)))


def test_a_mapped_function_is_compiled_once_for_each_kind_of_arguments():
    traced = []

    def function(shared, share, more):
        traced.append(jax.tree.map(jax.typeof, (shared, share)))
        return jax.tree.map(lambda leaf: 2 * leaf + shared, share)

    mapped = parallel.map_shares(function)
    ones = [np.ones((1, 2), np.float32), np.ones((1, 3), np.float32), np.ones((1, 3), np.int32), {"a": np.ones((1, 3), np.int32)}]
    for share in ones + ones[::-1]:
        result = mapped(np.int32(3), share, 0.0)
        assert jax.tree.structure(result) == jax.tree.structure(share)
        for leaf, given in zip(jax.tree.leaves(result), jax.tree.leaves(share), strict=True):
            assert (leaf.shape, leaf.dtype) == (given.shape, given.dtype)
            np.testing.assert_array_equal(leaf, 5)
    assert len(traced) == len(ones)


def test_a_step_reuses_the_memory_of_the_old_state_and_says_what_it_costs():
    step = parallel.map_step(lambda state, batch, key: (state @ state, {"sum": jnp.sum(batch)}))
    old, batch, key = parallel.replicate(np.eye(8, dtype=np.float32)), np.ones((1, 4), np.float32), jax.random.key(0)
    assert step.lower(old, batch, key).cost_analysis()["flops"] >= 2 * 8**3
    state, metrics = step(old, batch, key)
    assert old.is_deleted()
    assert (metrics["sum"], state.shape) == (4, (8, 8))


def test_on_host_copies_survive_a_step_that_reuses_the_memory():
    config = parallel_programs.experiment("ft")
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


def test_what_is_mapped_is_compiled_with_the_options(monkeypatch):
    monkeypatch.setattr(parallel, "_compiler_options", lambda: {"xla_cpu_no_such_option": "1"})
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        parallel.map_shares(lambda shared, share, more: share)(1.0, np.ones((1, 2)), 2.0)


def test_outside_a_cluster_starting_processes_fails_in_one_line():
    code = "from yseg import parallel\ntry:\n parallel.start_processes()\nexcept parallel.InputError as error:\n print(error)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "TPU"))}
    environment["PYTHONPATH"] = str(Path(parallel.__file__).parents[1])
    printed = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, timeout=120,
                             check=True).stdout
    assert printed.startswith("--multihost: no cluster")
    assert printed.count("\n") == 1
