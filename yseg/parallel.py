"""Devices and processes: all that the project knows of them.

The convention everywhere: a loss is the global value, the same on every device (`total` and `gather` inside the differentiated
function), and the gradients of the devices are averaged afterwards (`mean`). The transposes of psum and all_gather each add up
the devices' cotangents, so every device's gradient holds its own share times the number of devices; their mean is exact.
"""

import ctypes
import functools

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from yseg.config import InputError

AXIS = "batch"
# On a CPU, XLA 0.10 gives most convolutions to YNNPACK, which computes them on one core. Its other form uses
# all; what is listed here is left to YNNPACK. XLA also prefers vectors of 256 bits, where the processor may have 512.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
                "xla_cpu_prefer_vector_width": "512"}
_MALLOC = {-8: 1, -4: 0, -1: -1}  # one arena; nothing by mmap; nothing given back: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD


def total(x, axis_name=None):
    """Sum of `x` over the devices of `axis_name`, the same on each; `x` itself if `axis_name` is None."""
    return x if axis_name is None else lax.psum(x, axis_name)


def gather(x, axis_name=None):
    """The devices' `x` [n, ...] one after another, [devices * n, ...], the same on each; `x` itself if `axis_name` is None."""
    return x if axis_name is None else lax.all_gather(x, axis_name, axis=0, tiled=True)


def mean(tree, axis_name=None):
    """Mean of every leaf over the devices of `axis_name`, the same on each; the tree itself if `axis_name` is None."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def start_processes():
    """Join this process with the others of the job, as found in the environment of SLURM, a TPU pod and the like.

    Raises:
      InputError: no such environment was found.
    """
    try:
        jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--multihost: no cluster to join was found ({str(error).splitlines()[0]})") from error


def is_main():
    """Whether this process is the one that writes files and speaks."""
    return jax.process_index() == 0


def wait_for_all(name):
    """Wait until every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def share(global_batch):
    """Global indices of the samples of this process: int32 [local device, samples of a device].

    Raises:
      InputError: the batch cannot be divided among all devices.
    """
    devices = jax.device_count()
    if global_batch % devices:
        raise InputError(f"--config.sampling.batch_size={global_batch}: must be a multiple of the number of devices, {devices}")
    mine = [device.id for device in jax.local_devices()]
    order = {device.id: place for place, device in enumerate(jax.devices())}
    return np.arange(global_batch, dtype=np.int32).reshape(devices, -1)[[order[device] for device in mine]]


def replicate(tree):
    """The tree on every local device, without a device axis."""
    return jax.device_put(tree, NamedSharding(Mesh(jax.local_devices(), (AXIS,)), PartitionSpec()))


def map_step(step):
    """`step(state, batch, key) -> (state, metrics)` on all devices: the batch has a leading device axis, nothing else has.

    The old state's memory is reused: it must not be read afterwards. The step has to reduce over `AXIS` all that it returns.
    """
    return _map(step, (PartitionSpec(), PartitionSpec(AXIS), PartitionSpec()), PartitionSpec(), jax.devices(), (0,))


def map_steps(step, cut, count):
    """`steps(state, volumes, index, key) -> (state, metrics [count])`: `count` steps in one call, which cut their own patches.

    Args:
      step: as for `map_step`; what is given to the result is used as there, too.
      cut: `cut(volumes, index, step)` are the raw patches of one device, see `yseg.data.patches.ResidentReader`.
      count: how many steps.
    """
    def steps(state, volumes, index, key):
        return lax.scan(lambda state, _: step(state, cut(volumes, index, state.step), key), state, length=count)

    return _map(steps, (PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS), PartitionSpec()), PartitionSpec(), jax.devices(),
                (0,))


def map_shares(function):
    """`function(shared, share, more)` on the local devices; share and result have a leading device axis, the others none."""
    return _map(function, (PartitionSpec(), PartitionSpec(AXIS), PartitionSpec()), PartitionSpec(AXIS), jax.local_devices())


def _map(function, given, returned, devices, donated=()):
    """The compiled function on some devices; `given` and `returned` say which arguments are shared out, and if the result is."""
    mesh, shared_out = Mesh(devices, (AXIS,)), PartitionSpec(AXIS)

    def of_one_device(*arguments):
        arguments = [jax.tree.map(lambda leaf: leaf[0], argument) if spec == shared_out else argument
                     for argument, spec in zip(arguments, given, strict=True)]
        result = function(*arguments)
        return jax.tree.map(lambda leaf: leaf[None], result) if returned == shared_out else result

    mapped = jax.jit(jax.shard_map(of_one_device, mesh=mesh, in_specs=given, out_specs=returned, check_vma=False),
                     donate_argnums=donated, compiler_options=_compiler_options())
    if mesh.is_multi_process:
        return lambda *arguments: multihost_utils.global_array_to_host_local_array(
            mapped(*multihost_utils.host_local_array_to_global_array(arguments, mesh, given)), mesh, returned)
    return mapped


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


def keep_memory():
    """Have this process use the memory that it has freed again instead of giving it back to the system.

    XLA takes the temporary memory of a step anew each time. As the C library returns large blocks at once, the system hands it
    out again page by page, zeroed: on a CPU a tenth of the step of a small network. The price is that a process keeps the most
    that it has ever taken. To be called before the first step; without effect where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for parameter, value in _MALLOC.items() if mallopt else ():
        mallopt(parameter, value)


def local_device_count():
    """How many devices this process has."""
    return jax.local_device_count()


def has_accelerator():
    """Whether the devices are GPUs or TPUs, and not a CPU."""
    return jax.default_backend() != "cpu"


def on_host(tree):
    """A copy of the tree in NumPy arrays, which later steps cannot change."""
    return jax.tree.map(np.array, jax.device_get(tree))


def to_global(tree):
    """A replicated tree as arrays that span all processes, as a checkpoint wants them; on one process the tree itself."""
    if jax.process_count() == 1:
        return tree
    return multihost_utils.host_local_array_to_global_array(tree, Mesh(jax.devices(), (AXIS,)), PartitionSpec())
