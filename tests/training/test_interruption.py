"""yseg.training.interruption: signals wait while they are held, and have their usual effect in the end."""

import signal
import subprocess
import sys
import threading

import pytest

from yseg.training.interruption import SIGNALS, interruptible


@pytest.fixture(params=SIGNALS, ids=lambda number: number.name)
def number(request):
    """A signal that raises an exception of its own for the time of the test."""
    def usual(number, frame):
        raise ConnectionError

    before = signal.signal(request.param, usual)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_raises_at_once_and_has_its_usual_effect_in_the_end(number):
    steps = []
    with pytest.raises(ConnectionError), interruptible() as interruption:  # noqa: PT012
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            steps.append(interruption.received)
            raise
    assert steps == [number]
    with pytest.raises(ConnectionError):  # as it was before
        signal.raise_signal(number)


def test_a_held_signal_waits_for_the_end_of_the_block(number):
    steps = []
    with pytest.raises(ConnectionError), interruptible() as interruption:  # noqa: PT012
        try:
            with interruption.held():
                signal.raise_signal(number)
                steps.append("held")
            steps.append("not reached")
        except KeyboardInterrupt:
            with interruption.held():  # which has nothing more to wait for
                steps.append("saved")
            steps.append("written")
    assert steps == ["held", "saved", "written"]


def test_an_error_in_a_held_block_is_not_hidden(number):
    with pytest.raises(ConnectionError) as caught, interruptible() as interruption, interruption.held():  # noqa: PT012
        signal.raise_signal(number)
        raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_without_a_signal_nothing_happens_and_an_ignored_one_stays_ignored(number):
    usual = signal.getsignal(number)
    with interruptible() as interruption, interruption.held():
        pass
    assert interruption.received is None
    assert signal.getsignal(number) is usual
    signal.signal(number, signal.SIG_IGN)
    with interruptible() as interruption:
        signal.raise_signal(number)
    assert interruption.received is None
    assert signal.getsignal(number) is signal.SIG_IGN


def test_in_another_thread_signals_are_left_alone(number):
    handlers = []

    def work():
        with interruptible(), threading.Lock():
            handlers.append(signal.getsignal(number))

    usual = signal.getsignal(number)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [usual]


@pytest.mark.slow
def test_sigterm_ends_a_process_that_has_no_other_wish_for_it():
    code = ("import signal; from yseg.training.interruption import interruptible\n"
            "with interruptible():\n"
            "    try: signal.raise_signal(signal.SIGTERM)\n"
            "    except KeyboardInterrupt: print('saved', flush=True)\n"
            "print('not reached')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "saved\n", "")
