"""The Dockerfile, read by a linter: no image can be built where the tests run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).with_name("hadolint")


def test_the_linter_of_dockerfiles_has_nothing_to_say():
    if not LINTER.exists():
        pytest.skip("hadolint is not installed, see tests/cluster/install.sh")
    said = subprocess.run([LINTER, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_the_linter_sees_a_mistake(tmp_path):
    if not LINTER.exists():
        pytest.skip("hadolint is not installed, see tests/cluster/install.sh")
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /tmp\n")
    said = subprocess.run([LINTER, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "DL3007" in said.stdout
