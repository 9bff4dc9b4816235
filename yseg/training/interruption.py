"""Ctrl-C and SIGTERM during a training, which must not meet a state that is half changed."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from yseg import parallel

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """What came of SIGINT and SIGTERM: `received` is the number of the signal, None before one has come."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._held = self._waits = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A context manager in which a signal waits; it takes effect when the block has ended well."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waits:
            self._waits = False
            raise KeyboardInterrupt

    def receive(self, number: int, frame: object) -> None:
        """The handler of the signals: KeyboardInterrupt, at once or later."""
        del frame
        self.received = number
        if not self._held:
            raise KeyboardInterrupt
        self._waits = True


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """A context manager that yields an `Interruption`: in it both signals raise KeyboardInterrupt, but for where they are held.

    When it is left, a signal that has come has the effect that it had before: Ctrl-C raises KeyboardInterrupt, and SIGTERM ends
    the process, unless the program has given it another one. A signal that is ignored stays so. Nothing is changed outside the
    main thread, which alone is told of signals, nor in a job of several processes, whose runtime takes SIGTERM for itself.
    """
    interruption = Interruption()
    usual = {}
    if threading.current_thread() is threading.main_thread() and parallel.is_alone():
        usual = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)}
    for number in usual:
        signal.signal(number, interruption.receive)
    try:
        yield interruption
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        if interruption.received is not None:
            signal.raise_signal(interruption.received)
