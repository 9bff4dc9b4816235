"""Who computes blocks: this process, or workers of a Dask cluster, which may come, go and be killed.

A block is a function of what is the same for all of them and of its number. It leaves its result where all can see it, so that
none is lost with a process, and doing it twice does no harm. Dask is needed only where it is asked for.
"""

import concurrent.futures
import contextlib
import copyreg
import functools
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from yseg import parallel
from yseg.config import InputError
from yseg.files import storage_problem
from yseg.volumes.opened import first_line

LOCAL, SLURM = "local", "slurm"
TRIES = 3  # of a block
Tell = Callable[[int], object]  # is told of so many more voxels
Work = Callable[[Any, int, Tell], Any]  # (what all blocks share, number of the block, tell of its voxels) -> a result

_AT_ONCE = 16  # blocks that a scheduler knows of, at least; for each thread of the workers two
_CONNECT_SECONDS = 30.0
_CORE = "YSEG_CORE"  # which that is, in a worker's environment
_JOIN_SECONDS = 300.0  # within which a worker of SLURM finds the scheduler


class BlocksFailedError(RuntimeError):
    """Blocks that could not be computed; the others are done."""


def part_of(items: Iterable[int], part: str, flag: str = "--part") -> list[int]:
    """Every n-th of the items, from the i-th on, of "i/n"; all of an empty text. InputError if it is neither."""
    items = list(items)
    if not part:
        return items
    index, _, count = part.partition("/")
    if not (index.isascii() and count.isascii() and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise InputError(f"{flag}={part}: must be i/n with i from 0 to n - 1, for example 0/4")
    return items[int(index)::int(count)]


def check_scheduler(scheduler: str, flag: str = "--scheduler") -> None:
    """InputError unless something like it can be asked to compute; it is not asked yet."""
    kind, _, count = scheduler.partition(":")
    is_local = kind == LOCAL and (scheduler == LOCAL or (count.isascii() and count.isdigit() and int(count) > 0))
    is_file = scheduler.endswith(".json")
    if scheduler and not (is_local or is_file or scheduler == SLURM or "://" in scheduler):
        raise InputError(f"{flag}={scheduler}: must be local, local:N, slurm, the address of a Dask scheduler"
                         " (tcp://HOST:8786), or its file (FILE.json)")
    if scheduler == SLURM and "SLURM_PROCID" not in os.environ:
        raise InputError(f"{flag}={SLURM}: must be run by srun, in tasks of which the first is the scheduler")
    if is_file and scheduler != SLURM and not os.path.isfile(scheduler):
        raise InputError(f"{flag}={scheduler}: no such file")
    if scheduler:
        _distributed(flag)


class Engine:
    """Who computes, see `engine`."""

    def __init__(self, give_out: Callable[..., Iterable[tuple[int, BaseException]]]) -> None:
        """`give_out`: (work, shared, items, size, tell, take) -> the items that failed, with why."""
        self._give_out = give_out

    def compute(self, work: Work, shared: Any, items: Iterable[int], *, size: Callable[[int], int], tell: Tell,
                take: Callable[[int, Any], object] | None = None, name: Callable[[int], str] = str,
                all_or_none: bool = False) -> None:
        """Compute blocks.

        Args:
          work: what computes one; a function of a module, and deterministic.
          shared: its first argument; picklable if there is a scheduler.
          items: numbers of the blocks.
          size: voxels of one.
          tell: told of voxels that are done, or, in this process, on their way as `work` tells of them.
          take: is given each block's number and result, in any order.
          name: of a block, for messages.
          all_or_none: whether the blocks are of no use without one that failed; else the others are computed.

        Raises:
          InputError: the first of a block, at once; or the workers lack yseg.
          BlocksFailedError: some blocks failed on every try; or the scheduler is gone.
          OSError: the disk refuses, at once.
        """
        found = self._give_out(work, shared, items, size, tell, take or (lambda item, result: None))
        failed = dict(itertools.islice(found, 1 if all_or_none else None))
        if failed:
            first = next(iter(failed))
            more = "" if all_or_none else "; the same command tries them again"
            raise BlocksFailedError(f"{len(failed)} of the blocks failed, such as {name(first)}: {first_line(failed[first])}"
                                    f"{more}")


@contextlib.contextmanager
def engine(scheduler: str = "") -> Iterator[Engine]:
    """A context manager that yields an Engine: of this process, or of the workers that a scheduler has; see `check_scheduler`.

    Raises:
      InputError: the scheduler is not there.
      BlocksFailedError: it is gone.
    """
    if not scheduler:
        yield Engine(_here)
        return
    distributed = _distributed("--scheduler")
    with _told_if_gone(distributed, scheduler), _client(distributed, scheduler) as client:
        print(f"Dask's dashboard: {client.dashboard_link}", file=sys.stderr, flush=True)
        yield Engine(functools.partial(_on_cluster, distributed, client, scheduler))


@contextlib.contextmanager
def _told_if_gone(distributed, scheduler, errors=()):
    """A BlocksFailedError where the scheduler ends meanwhile, of which Dask says one thing or another."""
    try:
        yield
    except (distributed.comm.CommClosedError, concurrent.futures.CancelledError, *errors) as error:
        raise BlocksFailedError(f"--scheduler={scheduler}: the scheduler is gone; give the same command again") from error


def _here(work, shared, items, size, tell, take) -> Iterator[tuple[int, BaseException]]:
    """The blocks that failed in this process, with why."""
    for item in items:
        error: BaseException | None = None
        for _ in range(TRIES):
            try:
                take(item, work(shared, item, tell))
                break
            except InputError:
                raise
            except (OSError, ValueError, RuntimeError) as raised:
                if storage_problem(raised):
                    raise
                error = raised
        else:
            assert error is not None
            yield item, error


# --- Dask ---


def _on_cluster(distributed, client, scheduler, *given):
    """The blocks that failed on the workers of a scheduler, with why."""
    with _told_if_gone(distributed, scheduler, [TimeoutError]):
        yield from _given_out(distributed, client, scheduler, *given)


def _given_out(distributed, client, scheduler, work, shared, items, size, tell, take):
    """See `_on_cluster`."""
    same = client.submit(_same, shared, pure=False)  # not scattered: it would be lost with the workers that have it
    waiting, known = iter(items), dict[str, int]()

    def submit():
        count = max(_AT_ONCE, 2 * sum(client.nthreads().values())) - len(known)
        for item in itertools.islice(waiting, max(0, count)):
            future = client.submit(_silently, work, same, item, retries=TRIES - 1, pure=False)
            known[future.key] = item
            yield future

    completed = distributed.as_completed(submit())
    for future in completed:
        item = known.pop(future.key)
        if future.status == "finished":
            result = future.result()
            if isinstance(result, InputError):
                raise result
            take(item, result)
            tell(size(item))
        else:
            error = future.exception() if future.status == "error" else None
            if error is None:
                raise concurrent.futures.CancelledError
            if isinstance(error, ImportError):
                raise InputError(f"--scheduler={scheduler}: its workers must have yseg ({first_line(error)})") from error
            yield item, error
        for more in submit():
            completed.add(more)


def _same(shared):
    return shared


def _silently(work, shared, item):
    """Compute a block on a worker, which keeps to its core if it has one: XLA then makes one thread."""
    _plain_exceptions()
    if os.environ.get(_CORE):
        os.sched_setaffinity(0, {int(os.environ[_CORE])})
    try:
        return work(shared, item, lambda voxels: None)
    except InputError as error:  # returned, as what is raised is tried again
        return error


def _distributed(flag):
    try:
        import distributed
    except ImportError as error:
        raise InputError(f'{flag}: needs Dask: pip install ".[cluster]" in the folder of yseg') from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what fails is told by us
    _plain_exceptions()
    return distributed


def _plain_exceptions():
    """Have exceptions pickled as they are without Dask, which adds tracebacks: TensorStore, which brings those of our readers
    from its threads to ours, does not understand them then.
    """
    for kind in [kind for kind in copyreg.dispatch_table if isinstance(kind, type) and issubclass(kind, BaseException)]:
        del copyreg.dispatch_table[kind]


@contextlib.contextmanager
def _client(distributed, scheduler):
    """A client of a scheduler, which is started if it is one of our own."""
    if scheduler == SLURM:
        file = _scheduler_file()
        with _cluster(distributed, {}, {"host": "", "port": 0, "scheduler_file": str(file)}) as cluster, \
                distributed.Client(cluster) as client:
            try:
                yield client
            finally:
                client.retire_workers(close_workers=True)
                file.unlink(missing_ok=True)
        return
    if scheduler.partition(":")[0] == LOCAL:
        with _cluster(distributed, _own_workers(distributed, scheduler), {"host": "127.0.0.1", "port": 0}) as cluster, \
                distributed.Client(cluster) as client:
            yield client
        return
    given = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
    try:
        client = distributed.Client(**given, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(f"--scheduler={scheduler}: no Dask scheduler answers there ({first_line(error)})") from error
    with client:
        if not client.nthreads():
            print(f"waiting for workers of {scheduler}", file=sys.stderr, flush=True)
        yield client


def _cluster(distributed, workers, options):
    return distributed.SpecCluster(workers, {"cls": distributed.Scheduler, "options": {**options, "dashboard_address": ":0"}})


def _own_workers(distributed, scheduler):
    """Workers of this machine: one for each GPU, else one for each core; or as many as "local:N" says.

    One without a GPU keeps to one core: a convolution is summed up in another order on another number of cores, and its last bits
    are others.
    """
    gpus, cores = parallel.gpus(), sorted(os.sched_getaffinity(0))
    count = int(scheduler.partition(":")[2] or len(gpus) or len(cores))
    workers = {}
    for number in range(count):
        own = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {_CORE: str(cores[number % len(cores)])}
        workers[number] = {"cls": distributed.Nanny, "options": {
            "nthreads": 1, "memory_limit": 0, "env": own, "dashboard_address": ":0", "host": "127.0.0.1",
            "silence_logs": logging.CRITICAL}}
    return workers


# --- SLURM ---


def serves(scheduler: str) -> bool:
    """Whether this process has served another one's scheduler: under SLURM all tasks but the first do, until it ends.

    Raises:
      InputError: see `check_scheduler`.
      BlocksFailedError: there is no scheduler.
    """
    check_scheduler(scheduler)
    if scheduler != SLURM or os.environ.get("SLURM_PROCID", "0") == "0":
        return False
    import asyncio
    import time

    distributed, file = _distributed("--scheduler"), _scheduler_file()
    until = time.monotonic() + _JOIN_SECONDS
    while not file.exists():
        if time.monotonic() > until:
            raise BlocksFailedError(f"no scheduler has written {file} within {_JOIN_SECONDS:.0f} s; all tasks must share this"
                                    " folder")
        time.sleep(0.2)

    async def work():
        options = {"nthreads": 1, "memory_limit": 0, "death_timeout": _CONNECT_SECONDS}
        async with distributed.Worker(scheduler_file=str(file), **options) as worker:
            await worker.finished()

    asyncio.run(work())
    return True


def _scheduler_file() -> Path:
    """By which the tasks of a step find their scheduler: in the folder in which all of them were started."""
    return Path(f".yseg-{os.environ.get('SLURM_JOB_ID', '')}.{os.environ.get('SLURM_STEP_ID', '')}.json").absolute()
