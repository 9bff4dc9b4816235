"""The architecture of this checkout; and that each rule can be broken, in a small one that keeps them all."""

import itertools
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


def check(folder):
    """Exit code and output of the check of a checkout."""
    done = subprocess.run([sys.executable, "-m", "tests.architecture"], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def check_with(folder, file, text):
    """The same with a file of this text in it."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text)
    return check(folder)


@pytest.fixture
def small(tmp_path):
    """A checkout with the same rules, packages and levels, but with two modules in a package, whose imports follow the arrows."""
    (tmp_path / "tests").mkdir()
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    shutil.copy(CHECKOUT / "tests" / "architecture.py", tmp_path / "tests")
    rules = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]["importlinter"]
    levels = [["launch"], *([f"yseg/{name}" for name in level.split(" | ")] for level in rules["contracts"][0]["layers"]), []]
    for level, below in itertools.pairwise(levels):
        imports = "".join(f"import {name.replace('/', '.')}\n" for name in below)
        for place in (tmp_path / name for name in level):
            if (CHECKOUT / place.relative_to(tmp_path)).is_dir():
                place.mkdir(parents=True)
                (place / "__init__.py").touch()
                (place / "first.py").write_text("from yseg import __version__\nfrom . import second\n")
                (place / "second.py").write_text(imports)
            else:
                place.with_suffix(".py").write_text(imports)
    (tmp_path / "yseg" / "__init__.py").write_text('__version__ = "0"\n\n\ndef f():\n    import yseg.studies.first\n')
    return tmp_path


def test_this_checkout_keeps_the_rules():
    code, output = check(CHECKOUT)
    assert code == 0, output


def test_a_checkout_that_keeps_the_rules_passes(small):
    code, output = check(small)
    assert code == 0, output
    assert "launch > yseg" in output
    assert "experiment > trained | view > runs > training | inference > methods > data | losses | models > volumes" in output


@pytest.mark.parametrize(("file", "text", "said"), [
    ("yseg/volumes/a.py", "import yseg.data.second", "yseg.volumes.a -> yseg.data.second (l.1)"),
    ("yseg/data/a.py", "from yseg import models", "yseg.data.a -> yseg.models (l.1)"),
    ("yseg/inference/a.py", "def f():\n    from yseg.training.first import x", "yseg.inference.a -> yseg.training.first (l.2)"),
    ("yseg/training/a.py", "from yseg.inference import second", "yseg.training.a -> yseg.inference.second (l.1)"),
    ("yseg/config.py", "from . import files", "yseg.config -> yseg.files (l.1)"),
    ("yseg/studies/a.py", "import launch.first", "yseg.studies.a -> launch.first (l.1)"),
    ("yseg/models/second.py", "import yseg.models.first", "No cycle within a package BROKEN"),
    ("yseg/extra.py", "", "- yseg.extra"),
    ("yseg/data/a.py", "import yseg\nyseg.train()", "yseg/data/a.py:2: yseg.train: must be imported from where it is defined"),
    ("yseg/data/a.py", "from yseg import train", "yseg/data/a.py:1: yseg.train: must be imported from where it is defined"),
    ("yseg/data/a.py", "import importlib\nimportlib.import_module('yseg.models')", "yseg/data/a.py:2: import_module may occur"),
    ("yseg/data/inner/a.py", "", "yseg/data/inner/a.py: must have an __init__.py"),
    ("yseg/data/a.py", "pass\n" * 401, "yseg/data/a.py: 401 lines"),
    ("tests/data/test_a.py", "pass\n" * 401, "tests/data/test_a.py: 401 lines"),
    ("yseg/data/a.py", "\nn = jax.local_device_count()", "yseg/data/a.py:2: jax.local_device_count( may occur"),
    ("yseg/models/a.py", "f = jax.pmap(g)", "yseg/models/a.py:1: jax.pmap may occur"),
    ("yseg/data/a.py", "import pickle", "yseg/data/a.py:1: import pickle may occur in no file"),
    ("yseg/data/a.py", "a = np.load(path, allow_pickle=True)", "yseg/data/a.py:1: allow_pickle=True may occur"),
    ("yseg/data/a.py", "a = eval(text)", "yseg/data/a.py:1: eval( may occur"),
    ("launch/a.py", "archive.extractall(folder)", "launch/a.py:1: extractall( may occur"),
    ("yseg/data/a.py", 'raise ValueError("--config.model.classes")', "yseg/data/a.py:1: --config may occur"),
])
def test_what_breaks_a_rule_is_named(small, file, text, said):
    code, output = check_with(small, file, text)
    assert code == 1
    assert said in output


@pytest.mark.parametrize(("file", "text"), [
    ("yseg/data/a.py", "pass\n" * 400),
    ("yseg/data/a.py", "import yseg\nyseg.__version__"),
    ("yseg/data/a.py", "shape = jax.eval_shape(f)\na = np.load(path, allow_pickle=False)  # reads no pickle"),
    ("yseg/parallel.py", "f = jax.pmap(g)"),
    ("tests/test_parallel.py", "n = jax.device_count()"),
    ("yseg/data/domain.py", '"--config.source"'),
    ("launch/a.py", '"--config.source"'),
])
def test_what_the_rules_allow_passes(small, file, text):
    code, output = check_with(small, file, text)
    assert code == 0, output
