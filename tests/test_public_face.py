"""What yseg shows: annotations and docstrings of every public function, arguments by position, and names that mean one thing."""

import ast
import functools
import importlib
import importlib.util
import inspect
from pathlib import Path

import pytest

import yseg

ROOT = Path(yseg.__file__).parent
PATHS = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
         for path in sorted(ROOT.rglob("*.py"))}
PACKAGES = [name for name, path in PATHS.items() if path.name == "__init__.py"]
AT_MOST = 4  # arguments by position
# The architecture that packages for PyTorch contain.
OF_PYTORCH = "yseg.trained.pytorch_unet"
without_pytorch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
every_module = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=without_pytorch) if name == OF_PYTORCH else name for name in PATHS])


def written(value, module):
    """The function behind decorators, properties and the like if it is written in the module, else None."""
    value = getattr(value, "__func__", value)  # of a class method or a static method
    value = value.fget if isinstance(value, property) else value
    value = value.func if isinstance(value, functools.cached_property) else value
    value = inspect.unwrap(value) if callable(value) else value
    return value if inspect.isfunction(value) and value.__code__.co_filename == module.__file__ else None


def public_functions(module):
    """(name, function) of the public functions that are written in a module."""
    for name, value in vars(module).items():
        if not name.startswith("_") and not inspect.isclass(value) and (function := written(value, module)):
            yield name, function


def public_methods(module):
    """(Class.name, function, parameters without self and cls) of public classes; __init__ and __call__ are public too."""
    for title, each in vars(module).items():
        if title.startswith("_") or not inspect.isclass(each) or each.__module__ != module.__name__:
            continue
        for name, value in vars(each).items():
            if (not name.startswith("_") or name in ("__init__", "__call__")) and (function := written(value, module)):
                bound = not isinstance(value, staticmethod)
                yield f"{title}.{name}", function, list(inspect.signature(function).parameters.values())[bound:]


def callables(module):
    """(name, function, parameters) of the public functions and methods of a module."""
    for name, function in public_functions(module):
        yield name, function, list(inspect.signature(function).parameters.values())
    yield from public_methods(module)


def without_annotation(module):
    """"NAME: parameter, ..., return" of each function and method that lacks one."""
    found = []
    for name, function, parameters in callables(module):
        lacking = [each.name for each in parameters if each.annotation is each.empty]
        lacking += ["return"] * (inspect.signature(function).return_annotation is inspect.Signature.empty)
        if lacking:
            found.append(f"{name}: {', '.join(lacking)}")
    return found


def with_many_by_position(module):
    """"NAME: parameter, ..." of each function and method with more than AT_MOST that may be given by position."""
    found = []
    for name, _, parameters in callables(module):
        positional = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        if len(positional) > AT_MOST:
            found.append(f"{name}: {', '.join(positional)}")
    return found


def without_docstring(module):
    """Names of the public functions without one."""
    return [name for name, function in public_functions(module) if not (function.__doc__ or "").strip()]


def shadowed(package, tree):
    """Names of modules of a package that its __init__, parsed, gives to something else."""
    names = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names if f"{node.module}.{alias.name}" not in PATHS]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if f"{package}.{name}" in PATHS]


@every_module
def test_every_public_function_and_method_is_annotated(name):
    assert without_annotation(importlib.import_module(name)) == []


@every_module
def test_every_public_function_has_a_docstring(name):
    assert without_docstring(importlib.import_module(name)) == []


@every_module
def test_no_more_than_four_arguments_are_taken_by_position(name):
    assert with_many_by_position(importlib.import_module(name)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_gives_the_name_of_a_module_to_that_module_alone(package):
    assert shadowed(package, ast.parse(PATHS[package].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_all_that_a_package_names_is_there(package):
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        assert not inspect.ismodule(value) or value.__name__ == f"{package}.{name}"


def test_dir_shows_the_whole_public_face():
    assert set(yseg.__all__) <= set(dir(yseg))


BAD = '''
import contextlib
import functools
from dataclasses import dataclass

import jax
from os.path import join


def plain(a, b: int, *, c):
    return a


def _private(a):
    return a


@contextlib.contextmanager
def manager(a: int):
    """A manager."""
    yield a


@functools.partial(jax.jit, static_argnums=1)
def compiled(x: int, n) -> int:
    """Compiled."""
    return x


def many(a: int, b: int, c: int, d: int, e: int, *, f: int = 0) -> int:
    """Takes five by position."""
    return a


@dataclass
class Record:
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0

    @property
    def total(self):
        return self.a

    @classmethod
    def made(cls, a: int, b: int, c: int, d: int) -> "Record":
        return cls(a)

    @staticmethod
    def still(a, b: int, c: int, d: int, e: int) -> None:
        pass

    def _hidden(self, a):
        pass


class Net:
    def __init__(self, a):
        self.a = a

    def __call__(self, x: int) -> int:
        return x
'''


def test_what_is_lacking_is_found(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(BAD)
    spec = importlib.util.spec_from_file_location("bad", path)
    bad = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bad)
    assert without_annotation(bad) == ["plain: a, c, return", "manager: return", "compiled: n", "Record.total: return",
                                       "Record.still: a", "Net.__init__: a, return"]
    assert without_docstring(bad) == ["plain"]
    assert with_many_by_position(bad) == ["many: a, b, c, d, e", "Record.still: a, b, c, d, e"]


@pytest.mark.parametrize(("text", "found"), [
    ("from yseg.losses.segmentation import focal, soft_dice as segmentation", ["segmentation"]),
    ("def adversarial(): pass", ["adversarial"]),
    ("segmentation = adversarial = 0", ["segmentation", "adversarial"]),
    ("from yseg.losses import segmentation\nfrom yseg.losses.segmentation import focal", []),
])
def test_a_name_that_hides_a_module_is_found(text, found):
    assert shadowed("yseg.losses", ast.parse(text)) == found


def test_the_modules_are_all_there():
    assert {"yseg", "yseg.losses", "yseg.losses.segmentation", "yseg.parallel"} <= set(PATHS)
    assert {"yseg", "yseg.losses"} <= set(PACKAGES)
