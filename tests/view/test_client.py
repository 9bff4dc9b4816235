"""yseg.view.client: the client's files. That they run is seen in tests/viewers."""

import importlib.util
import sys

import pytest

from yseg.config import InputError
from yseg.view.client import client_files


def test_without_the_package_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'^the view needs Neuroglancer: pip install "\.\[view\]" in the folder of yseg$'):
        client_files()


def test_the_package_is_found_and_not_imported(tmp_path, monkeypatch):
    folder = tmp_path / "neuroglancer" / "static" / "client"
    folder.mkdir(parents=True)
    (tmp_path / "neuroglancer" / "__init__.py").write_text("raise RuntimeError")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "path", [str(tmp_path)])
        with pytest.raises(InputError, match="needs Neuroglancer"):
            client_files()
    for name in ("index.html", "main.js", "main.js.map"):
        (folder / name).write_text("x")
    monkeypatch.syspath_prepend(tmp_path)
    assert sorted(client_files()) == ["index.html", "main.js"]
