"""The architecture: python -m tests.architecture, from the checkout, prints what it found; exit code 1 if a rule is broken.

import-linter checks that imports follow the levels, that nothing imports the programs and that packages have no cycles, by the
contracts in pyproject.toml. Here are the rules that it has no contract for.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from importlinter.api import read_configuration
from importlinter.cli import lint_imports

RULES = "pyproject.toml"
PACKAGES = ("yseg", "launch")
LINES = 400  # of a module, at most
# Words that only some files may hold. A path that ends in / is a folder.
WORDS = {
    r"jax\.(local_)?devices\(|jax\.(local_)?device_count\(|jax\.process_(index|count)\(|jax\.distributed|jax\.pmap|shard_map":
        ("yseg/parallel.py",),
    r"--config": ("launch/", "yseg/config.py", "yseg/knobs.py", "yseg/data/domain.py"),
    # What could execute something that is in a file: pickles, texts, archives that write where they like.
    r"\b(pickle|dill|marshal|shelve|joblib)\.|import (pickle|dill|marshal|shelve|joblib)|allow_pickle=True|"
    r"(?<![\w.])(eval|exec)\(|\bextractall\(|unpack_archive|yaml\.(unsafe_|full_)?load\b": (),
    r"import_module|__import__": ("yseg/__init__.py", "yseg/methods/__init__.py"),  # imports that import-linter does not see
}


def violations(root: Path) -> Iterator[str]:
    """A line for each place below `root` that breaks one of the rules of this module: "path:line: what must be"."""
    for path in sorted(path for folder in (*PACKAGES, "tests") for path in (root / folder).rglob("*.py")):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        lines = text.splitlines()
        if len(lines) > LINES:
            yield f"{name}: {len(lines)} lines: must be at most {LINES}"
        if name.startswith("tests/"):
            continue
        if not (path.parent / "__init__.py").exists():
            yield f"{name}: must have an __init__.py beside it, without which its imports are not seen"
        for number, line in enumerate(lines, 1):
            for pattern, allowed in WORDS.items():
                found = re.search(pattern, line)
                if found and not any(name == place or (place.endswith("/") and name.startswith(place)) for place in allowed):
                    where = f"{', '.join(allowed)} only" if allowed else "no file"
                    yield f"{name}:{number}: {found[0]} may occur in {where}"
        if name.startswith("yseg/") and name != "yseg/__init__.py":
            for number, read in _from_the_face(ast.parse(text)):
                if read != "__version__" and not _is_module(root / "yseg" / read):
                    yield f"{name}:{number}: yseg.{read}: must be imported from where it is defined"


def _from_the_face(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, NAME) of each `from yseg import NAME` and each `yseg.NAME`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "yseg":
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "yseg":
            yield node.lineno, node.attr


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def main() -> int:
    """Print the levels and the violations; returns the exit code."""
    print("Levels, from high to low:")
    for contract in read_configuration(RULES)["contracts_options"]:
        if contract["type"] == "layers":
            print(f"  {contract['name']}: {' > '.join(contract['layers'])}")
    broken = lint_imports(config_filename=RULES, no_cache=True, no_logo=True)
    found = list(violations(Path()))
    print(*found, f"{len(found)} violations of rules without a contract", sep="\n")
    return 1 if broken or found else 0


if __name__ == "__main__":
    sys.exit(main())
