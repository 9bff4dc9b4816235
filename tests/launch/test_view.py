"""launch.view: its flags, what it prints, and how it ends. What a browser shows is in tests/viewers."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import pytest

from launch import program, view

ROOT = Path(__file__).parents[2]
IMAGE = "--image=phantom://source/image?shape=2,20,30"


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A package with a client of one file."""
    folder = tmp_path / "packages" / "neuroglancer" / "static" / "client"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("the client")
    (tmp_path / "packages" / "neuroglancer" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        program.run(view.PROGRAM, ["view", *arguments])
    assert exit_.value.code == 2
    found = capsys.readouterr()
    assert not found.out
    assert found.err.count("\n") == 1
    return found.err


@pytest.mark.usefixtures("client")
def test_flags_that_do_not_go_together_are_an_error_of_one_line(capsys, monkeypatch):
    assert refused(capsys, "--noopen").startswith("--workdir is missing")
    assert refused(capsys, "--workdir=w", IMAGE, "--noopen").startswith("--image=phantom")
    assert refused(capsys, "--workdir=w", "--channel=1", "--noopen").startswith("--channel=1: must come with --image")
    assert refused(capsys, IMAGE, "--data_dir=d", "--noopen").startswith("--data_dir: must come with --workdir")
    assert refused(capsys, IMAGE, "--port=65536", "--noopen").startswith("--port=65536")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        assert refused(capsys, IMAGE).startswith("--open: there is no display here")


@pytest.mark.slow
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("number", "code", "said"), [
    (signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, "terminated\n")])
def test_it_prints_the_url_and_serves_until_it_is_interrupted(number, code, said, capsys):
    command = [sys.executable, "-m", "launch.view", IMAGE, "--pixel_size_nm=5", "--noopen"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            page, _, fragment = url.partition("#!")
            assert urllib.request.urlopen(page, timeout=20).read() == b"the client"
            source = json.loads(unquote(fragment))["layers"][0]["source"].removeprefix("zarr3://")
            assert len(urllib.request.urlopen(f"{source}/0/c/0/0/0", timeout=20).read()) == 2 * 20 * 30
            port = page.split(":")[2].split("/")[0]
            taken = refused(capsys, IMAGE, "--pixel_size_nm=5", "--noopen", f"--port={port}")
            assert taken.startswith(f"--port={port}: is taken")
            os.kill(process.pid, number)
            assert process.communicate(timeout=60) == ("", said)
        finally:
            process.kill()
    assert process.returncode == code
