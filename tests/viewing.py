"""What the tests of tests/viewers need."""

import importlib.util
import shutil

import pytest


def needs(programs, packages):
    """Skip a test, with the reason, unless programs and Python packages are installed."""
    absent = [name for name in programs if not shutil.which(name)]
    absent += [name for name in packages if not importlib.util.find_spec(name)]
    if absent:
        pytest.skip(f"{', '.join(absent)}: not installed, see tests/viewers/install.sh")
