"""Two or more sides of a comparison, each in a process of its own, timed in turn so that a drifting machine favours none."""

import multiprocessing
import statistics
import time
import traceback

from yseg.parallel import keep_memory

WARM_UP = 2  # calls that are not timed: they compile, and fill caches


class Side:
    """One side: a process that builds something, warms it up, and times a call of it whenever it is asked to.

    While it is not asked it waits at a pipe. What is built must do nothing then, so that sides do not disturb each other.
    """

    def __init__(self, build, *args):
        """`build(*args)` -> (run, facts) in the process: `run()` is what is timed, `facts` a dict to report."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, args))
        self._process.start()
        theirs.close()  # else it would not be found out that the process has ended
        self.facts = self._answer()

    def time(self):
        """Seconds of one call."""
        self._pipe.send(True)
        return self._answer()

    def close(self):
        """End the process."""
        self._pipe.close()
        self._process.join()

    def _answer(self):
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise RuntimeError("a side of the benchmark ended before it answered") from None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def _serve(pipe, build, args):
    keep_memory()  # as the programs do; for PyTorch, too
    try:
        run, facts = build(*args)
        for _ in range(WARM_UP):
            run()
        pipe.send(facts)
        while True:
            pipe.recv()
            began = time.perf_counter()
            run()
            pipe.send(time.perf_counter() - began)
    except EOFError:  # it is no longer needed
        pass
    except Exception:
        pipe.send(traceback.format_exc())


def compare(sides, rounds):
    """Time all sides in turn, `rounds` times, each round starting with another one.

    Args:
      sides: dict from a name to (build, *args), see `Side`.
      rounds: how often.

    Returns:
      (dict from a name to its seconds [round], dict from a name to its facts)
    """
    opened = {}
    try:
        for name, (build, *args) in sides.items():
            opened[name] = Side(build, *args)
        seconds, names = {name: [] for name in opened}, list(opened)
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                seconds[name].append(opened[name].time())
        return seconds, {name: side.facts for name, side in opened.items()}
    finally:
        for side in opened.values():
            side.close()


def ratio(ours, theirs):
    """(ratio of the medians, half the interquartile range of the ratios of the rounds)."""
    pairs = sorted(mine / other for mine, other in zip(ours, theirs, strict=True))
    low, _, high = statistics.quantiles(pairs, n=4)
    return statistics.median(ours) / statistics.median(theirs), (high - low) / 2


def row(suite, what, ours, theirs, goal, against, note="", units=1):
    """A line of the table: medians in ms of each of the `units` in a call, the ratio with its spread, and the goal, if any."""
    value, spread = ratio(ours, theirs)
    return {"suite": suite, "what": what, "ours, ms": 1000 * statistics.median(ours) / units, "against": against,
            "its ms": 1000 * statistics.median(theirs) / units, "ratio": value, "±": spread, "goal": goal,
            "met": None if goal is None else "yes" if value <= goal else "no", "note": note}
