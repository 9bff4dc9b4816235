"""Devices and processes: all that the project knows of them.

The convention everywhere: a loss is the global value, the same on every device (`total` and `gather` inside the differentiated
function), and the gradients of the devices are averaged afterwards (`mean`). The transposes of psum and all_gather each add up
the devices' cotangents, so every device's gradient holds its own share times the number of devices; their mean is exact.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int32, Num, PyTree

from yseg.config import InputError

AXIS = "batch"
_LEFT = "yseg/left/"  # keys of the processes that have lost another, see `lost_processes`
_REFUSED, _FAILED, _OUTCOME_BYTES = 1, 2, 4096  # how a call on the main process ended, and what is told of it
# On a CPU, XLA 0.10 gives most convolutions to YNNPACK, which computes them on one core. Its other form uses
# all; what is listed here is left to YNNPACK. XLA also prefers vectors of 256 bits, where the processor may have 512.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
                "xla_cpu_prefer_vector_width": "512"}
_MALLOC = {-8: 1, -4: 0, -1: -1}  # one arena; nothing by mmap; nothing given back: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD


def total(x: Num[Array, "..."], axis_name: str | None = None) -> Num[Array, "..."]:
    """Sum of `x` over the devices of `axis_name`, the same on each; `x` itself if that is None, or one device."""
    return x if _is_one(axis_name) else lax.psum(x, axis_name)


def gather(x: Num[Array, "n ..."], axis_name: str | None = None) -> Num[Array, "all ..."]:
    """The devices' `x` [n, ...] one after another, [devices * n, ...], the same on each; `x` itself as for `total`."""
    return x if _is_one(axis_name) else lax.all_gather(x, axis_name, axis=0, tiled=True)


def mean(tree: PyTree, axis_name: str | None = None) -> PyTree:
    """Mean of every leaf over the devices of `axis_name`, the same on each; the tree itself as for `total`."""
    return tree if _is_one(axis_name) else lax.pmean(tree, axis_name)


def _is_one(axis_name):
    """Whether there is nothing to exchange; XLA would copy what one device reduces."""
    return axis_name is None or lax.axis_size(axis_name) == 1


def start_processes(coordinator: str | None = None, processes: int | None = None, process: int | None = None, *,
                    heartbeat_timeout: int = 100) -> None:
    """Join this process with the others of the job.

    Args:
      coordinator: HOST:PORT at which the first process listens, the same for all.
      processes: how many there are; process: which this is, from 0 on. What is None is found in the environment of SLURM, a TPU
        pod and the like.
      heartbeat_timeout: seconds after which a process that is not heard of any more ends all others.

    Raises:
      InputError: no such environment was found, or the values are none.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process, heartbeat_timeout_seconds=heartbeat_timeout)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--multihost: no cluster to join was found ({str(error).splitlines()[0]})") from error


def must_go(turn: int) -> bool:
    """Whether this job of several processes has been told to end, by SIGTERM of any: all of them answer True in the same turn.

    Args:
      turn: 0, 1, 2, ... in the calls of every process.
    """
    return jax.process_count() > 1 and bool(multihost_utils.reached_preemption_sync_point(turn))


def may_have_lost_another(error: BaseException) -> bool:
    """Whether an error may be that another process of the job has died, which is then heard of in the next exchange with it."""
    own = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "OUT_OF_RANGE")  # such as memory that is full
    return isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1 and not str(error).startswith(own)


def lost_processes(seconds: float = 3.0) -> list[int]:
    """The processes of this job that have probably died; none if that cannot be told.

    All that have lost another call this at about the same time: those that do not within some seconds are the lost.
    """
    try:
        from jax._src.distributed import global_state  # the store that all processes share has no public name

        client: Any = global_state.client
        client.key_value_set(f"{_LEFT}{jax.process_index()}", "", allow_overwrite=True)
        time.sleep(seconds)
        left = {int(key.rpartition("/")[2]) for key, _ in client.key_value_dir_get(_LEFT)}
    except (ImportError, AttributeError, TypeError):
        return []
    except jax.errors.JaxRuntimeError:  # the store is the first process's
        return [0]
    return sorted({*range(jax.process_count())} - left)


def is_main() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Whether this process is the only one of its job."""
    return jax.process_count() == 1


def on_main(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` on the main process, and None on the others, which wait for it.

    Where it raises there, every process raises: the others would otherwise wait for the runtime's time-out.

    Raises:
      InputError: on every process, if the function raises one.
      RuntimeError: on the other processes, if it raises anything else, which the main process raises as it is.
    """
    if jax.process_count() == 1:
        return function(*arguments)
    result, error = None, None
    if is_main():
        try:
            result = function(*arguments)
        except Exception as raised:
            error = raised
    outcome = multihost_utils.broadcast_one_to_all(_encoded(error))
    if error is not None:
        raise error
    _raise_encoded(outcome)
    return result


def in_shares(function: Callable[[range], np.ndarray], count: int) -> np.ndarray:
    """`function(range(count))`, of which each process computes a share: the same array, [count, ...], on all of them.

    Args:
      function: of a range of numbers in a row -> an array with an entry for each; none for an empty range.
      count: of the numbers.

    Raises:
      InputError: on every process, if the function raises one on any.
      RuntimeError: on the other processes, if it raises anything else, which that process raises as it is.
    """
    processes, own = jax.process_count(), jax.process_index()
    if processes == 1:
        return function(range(count))
    most, found, error = -(-count // processes), None, None
    try:
        found = function(range(min(own * most, count), min((own + 1) * most, count)))
    except Exception as raised:
        error = raised
    outcomes = multihost_utils.process_allgather(_encoded(error))
    if error is not None:
        raise error
    for outcome in outcomes:
        _raise_encoded(outcome)
    assert found is not None
    padded = np.pad(found, [(0, most - len(found))] + [(0, 0)] * (found.ndim - 1))
    return multihost_utils.process_allgather(padded).reshape(-1, *found.shape[1:])[:count]


def _encoded(error):
    """What became of a call, as uint8 [_OUTCOME_BYTES]: how it ended, and what was said."""
    if error is None:
        return np.zeros(_OUTCOME_BYTES, np.uint8)
    kind, text = (_REFUSED, f"{error}") if isinstance(error, InputError) else (_FAILED, f"{type(error).__name__}: {error}")
    said = bytes([kind]) + text.encode(errors="replace")
    return np.frombuffer(said[:_OUTCOME_BYTES].ljust(_OUTCOME_BYTES, b"\0"), np.uint8)


def _raise_encoded(outcome):
    """Raise what `_encoded` was given."""
    kind, text = outcome[0], bytes(outcome[1:]).rstrip(b"\0").decode(errors="ignore")
    if kind == _REFUSED:
        raise InputError(text)
    if kind == _FAILED:
        raise RuntimeError(f"another process failed: {text}")


class Devices(NamedTuple):
    """Devices that are used together, in the order in which they share out the samples of a batch.

    all: those of all processes, the same on each; local: those of this process.
    """

    all: tuple[jax.Device, ...]
    local: tuple[jax.Device, ...]


def all_devices() -> Devices:
    """Every device there is."""
    return _devices(jax.devices())


def devices_for(global_batch: int) -> Devices:
    """The most devices among which a batch can be divided, as many of each process.

    Raises:
      InputError: the batch cannot be divided among the processes.
    """
    processes = jax.process_count()
    if global_batch % processes:
        raise InputError(f"sampling.batch_size={global_batch}: must be a multiple of the number of processes, {processes}")
    of_process = [list(group) for _, group in itertools.groupby(all_devices().all, lambda device: device.process_index)]
    count = max(number for number in range(1, min(map(len, of_process)) + 1) if global_batch // processes % number == 0)
    return _devices(device for group in of_process for device in group[:count])


def idle_devices(global_batch: int) -> str | None:
    """What to tell the user where `devices_for` leaves devices idle; None where it does not."""
    used, there = len(devices_for(global_batch).all), jax.device_count()
    if used == there:
        return None
    return (f"uses {used} of {there} devices: a batch of {global_batch} cannot be divided among more;"
            f" sampling.batch_size={-(-global_batch // there) * there} would use all")


def _devices(devices):
    """`Devices` in an order that keeps those of a process together, which `jax.devices()` does not promise."""
    ordered = tuple(sorted(devices, key=lambda device: (device.process_index, device.id)))
    return Devices(ordered, tuple(device for device in ordered if device.process_index == jax.process_index()))


def share(global_batch: int, devices: Devices | None = None) -> Int32[np.ndarray, "device sample"]:
    """Global indices of the samples of this process, [local device, samples of a device].

    Args:
      global_batch: how many samples all processes have together.
      devices: among which they are shared out; None = those of `devices_for`.

    Raises:
      InputError: see `devices_for`.
      ValueError: the batch cannot be divided among `devices`.
    """
    devices = devices or devices_for(global_batch)
    if global_batch % len(devices.all):
        raise ValueError(f"global_batch={global_batch}: must be a multiple of the number of devices, {len(devices.all)}")
    places = [devices.all.index(device) for device in devices.local]
    return np.arange(global_batch, dtype=np.int32).reshape(len(devices.all), -1)[places]


def replicate(tree: PyTree, devices: Devices | None = None) -> PyTree:
    """The tree on every local device (of all, or of `devices`), without a device axis."""
    local = (devices or all_devices()).local
    return jax.device_put(tree, NamedSharding(Mesh(local, (AXIS,)), PartitionSpec()))


def spread(tree: PyTree, devices: Devices | None = None) -> PyTree:
    """The tree on the local devices (of all, or of `devices`), whose leaves have a leading device axis: to each its own entry."""
    local = (devices or all_devices()).local
    return jax.device_put(tree, NamedSharding(Mesh(local, (AXIS,)), PartitionSpec(AXIS)))


def map_step(step: Callable[..., Any], devices: Devices | None = None) -> Callable[..., Any]:
    """`step(state, batch, key) -> (state, metrics)` on all devices: the batch has a leading device axis, nothing else has.

    The old state's memory is reused: it must not be read afterwards. The step has to reduce over `AXIS` all that it returns.

    Args:
      step: of one device.
      devices: those that it runs on, where state and batch are; None = all.
    """
    every = (devices or all_devices()).all
    return _compiled(jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=(None, None), donate_argnums=(0,),
                              devices=every), every)


def map_steps(step: Callable[..., Any], cut: Callable[..., Any], count: int,
              devices: Devices | None = None) -> Callable[..., Any]:
    """`steps(state, volumes, index, key) -> (state, metrics [count])`: `count` steps in one call, which cut their own patches.

    Args:
      step: as for `map_step`; what is given to the result is used as there, too.
      cut: `cut(volumes, index, step)` are the raw patches of one device, see `yseg.data.patches.ResidentReader`.
      count: how many steps.
      devices: as for `map_step`.
    """
    def steps(state, volumes, index, key):
        return lax.scan(lambda state, _: step(state, cut(volumes, index, state.step), key), state, length=count)

    every = (devices or all_devices()).all
    return _compiled(jax.pmap(steps, axis_name=AXIS, in_axes=(None, None, 0, None), out_axes=(None, None), donate_argnums=(0,),
                              devices=every), every)


def map_shares(function: Callable[..., Any], devices: Devices | None = None) -> Callable[..., Any]:
    """`function(shared, share, more)` on the local devices; share and result have a leading device axis, the others none."""
    local = (devices or all_devices()).local
    return _compiled(jax.pmap(function, axis_name=AXIS, in_axes=(None, 0, None), out_axes=0, devices=local), local)


def _compiled(mapped, devices):
    """The mapped function, compiled with `_compiler_options` if that is possible: on the devices of this process alone."""
    local = all(device.process_index == jax.process_index() for device in devices)
    return _Compiled(mapped) if local else mapped


class _Compiled:
    """A function that is compiled when it is first called with arguments of some structure, shapes and types.

    `jax.pmap` takes no options for the compiler, but what it lowers does.
    """

    def __init__(self, mapped):
        self.lower = mapped.lower
        self._programs: dict[Any, Callable[..., Any]] = {}
        self._latest: Callable[..., Any] | None = None

    def __call__(self, *arguments):
        if self._latest is not None:
            try:
                return self._latest(*arguments)  # checks its arguments itself: ours would take longer than the call
            except TypeError:
                pass  # they are others than those of the last call
        leaves, structure = jax.tree.flatten(arguments)
        kinds = (structure, *map(jax.typeof, leaves))
        if kinds not in self._programs:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Error writing persistent compilation cache")  # calls of oneDNN cannot be kept
                self._programs[kinds] = self.lower(*arguments).compile(compiler_options=_compiler_options())
        self._latest = program = self._programs[kinds]
        return program(*arguments)


@functools.cache
def _compiler_options():
    """What XLA is told, or None: nothing on an accelerator, and nothing that this version of it does not know."""
    if has_accelerator():
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return _CPU_OPTIONS


def keep_memory() -> None:
    """Have this process use the memory that it has freed again instead of giving it back to the system.

    XLA takes the temporary memory of a step anew each time. As the C library returns large blocks at once, the system hands it
    out again page by page, zeroed: on a CPU a tenth of the step of a small network. The price is that a process keeps the most
    that it has ever taken. To be called before the first step; without effect where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _MALLOC.items():
            mallopt(parameter, value)


def local_device_count() -> int:
    """How many devices this process has."""
    return jax.local_device_count()


def gpus() -> list[str]:
    """The names of this machine's NVIDIA GPUs, as CUDA_VISIBLE_DEVICES takes them; JAX is not asked, as it takes their memory."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name]
    return sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))


def has_accelerator() -> bool:
    """Whether the devices are GPUs or TPUs, and not a CPU."""
    return jax.default_backend() != "cpu"


def on_host(tree: PyTree) -> PyTree:
    """A copy of the tree in NumPy arrays, which later steps cannot change."""
    return jax.tree.map(np.array, jax.device_get(tree))


def to_global(tree: PyTree) -> PyTree:
    """A replicated tree as arrays that span all processes, as a checkpoint wants them; on one process the tree itself."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.host_local_array_to_global_array(tree, Mesh(all_devices().all, (AXIS,)), PartitionSpec())


def on_the_host() -> contextlib.AbstractContextManager:
    """What JAX computes in this context it computes on the CPU, so that an accelerator is not waited for."""
    return jax.default_device(jax.local_devices(backend="cpu")[0])
