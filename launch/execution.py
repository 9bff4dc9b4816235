"""How a program is run once its flags are known: libraries kept quiet, signals, and an exit code with one line for what fails."""

import contextlib
import os
import signal
import sys
import threading
import warnings

from absl import logging

from launch.complaints import BAD_INPUT, DONE, FAILED, INTERRUPTED, TERMINATED, complain
from yseg.config import InputError
from yseg.files import DISK, Terminated, storage_problem


def execute(main, values, continues):
    """Do what a program does; returns the exit code.

    Args:
      main: the program's function of its flags.
      values: FlagValues.
      continues: whether the same command goes on with what was interrupted.
    """
    _quieten()
    _cache_compiled(values.compilation_cache)
    from yseg.parallel import keep_memory, lost_processes, may_have_lost_another  # imports JAX, see there

    keep_memory()
    more = "; the same command continues" if continues else ""
    try:
        with _terminable(), _notices():
            main(values)
    except InputError as error:
        return complain(error, BAD_INPUT)
    except Terminated:
        return complain(f"terminated{more}", TERMINATED)
    except KeyboardInterrupt:
        return complain(f"interrupted{more}", INTERRUPTED)
    except Exception as error:
        problem = storage_problem(error)
        if problem:
            return complain(f"{problem.filename}: {problem.strerror}", FAILED if problem.errno in DISK else BAD_INPUT)
        if isinstance(error, RuntimeError) and type(error).__module__.startswith("yseg."):
            return complain(error, FAILED)  # such as a training that diverged: nothing is wrong with the program
        if may_have_lost_another(error):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of srun: this job has failed, and was not told to end and saved
            said, lost = str(error).splitlines()[0], " and ".join(map(str, lost_processes()))
            which = f"process {lost} of the job" if lost else "another process of the job"
            complain(f"{which} has ended, see what it said ({said}){more}", FAILED)
            os._exit(FAILED)  # the runtime would wait for the other, and then abort
        raise
    return DONE


@contextlib.contextmanager
def _terminable():
    """A context manager in which SIGTERM raises `Terminated`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number, frame):
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _notices():
    """Show what is to be known of a volume as a line, and not as a line of source text."""
    from yseg.volumes.opened import VolumeNotice

    with warnings.catch_warnings():
        usual = warnings.showwarning
        warnings.showwarning = lambda message, category, *place, **options: (
            print(message, file=sys.stderr, flush=True) if issubclass(category, VolumeNotice)
            else usual(message, category, *place, **options))
        yield


def _quieten():
    """Keep the libraries' logs off the terminal, but for errors."""
    logging.set_verbosity(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _cache_compiled(folder):
    """Keep compiled programs in a folder; None = where JAX_COMPILATION_CACHE_DIR says or in the user's cache, "" = nowhere."""
    import jax  # takes a second, for which --help and a bad flag need not wait

    given = folder if folder is not None else os.environ.get("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_compilation_cache_dir", (_usual_cache() if given is None else given) or None)


def _usual_cache():
    """The folder of compiled programs in the user's cache; None if there is no home folder, or nothing can be written there."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(home, "yseg", "compiled")
    if home.startswith("~"):
        return None
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
