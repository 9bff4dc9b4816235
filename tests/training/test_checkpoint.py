import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import yseg
from yseg import parallel
from yseg.config import Experiment, Model
from yseg.training.checkpoint import Checkpoints, DamagedCheckpoint
from yseg.training.state import create_state

CONFIG = Experiment(method="dann", model=Model(levels=1, features=4))


@functools.cache
def created_state():
    return parallel.on_host(create_state(CONFIG, jax.random.key(0)))


def drawn_state(step, seed=0):
    """A state of random bits: NaN and subnormal numbers are among them."""
    random = np.random.default_rng(seed)

    def draw(leaf):
        if leaf.dtype != np.float32:
            return np.full(leaf.shape, step, leaf.dtype)
        return random.integers(0, 2**32, leaf.shape, np.uint32).view(np.float32)

    return jax.tree.map(draw, created_state())


def assert_identical(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for leaf, same in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        assert (leaf.dtype, leaf.shape) == (same.dtype, same.shape)
        assert leaf.tobytes() == same.tobytes()


@pytest.fixture(scope="module")
def state():
    return drawn_state(7)


def test_a_state_comes_back_to_the_bit_with_its_types_and_structure(state, tmp_path):
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        checkpoints.save(state)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.last_step == 7
        assert_identical(checkpoints.restore(state), state)


def test_a_saved_state_is_a_copy_that_later_changes_do_not_reach(state, tmp_path):
    changing = jax.tree.map(np.array, state)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(changing)
        for leaf in jax.tree.leaves(changing):
            leaf[...] = 0
    with Checkpoints(tmp_path) as checkpoints:
        assert_identical(checkpoints.restore(state), state)


def test_a_replicated_state_is_saved_as_it_is_on_the_host(tmp_path):
    state = created_state()
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(parallel.replicate(state))
    with Checkpoints(tmp_path) as checkpoints:
        assert_identical(checkpoints.restore(state), state)


def test_the_last_ones_are_kept_and_the_last_is_restored(state, tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (2, 9, 10):
            checkpoints.save(drawn_state(step, seed=step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "9"]
    with Checkpoints(tmp_path) as checkpoints:
        assert_identical(checkpoints.restore(state), drawn_state(10, seed=10))


def test_without_a_checkpoint_there_is_nothing_to_restore(state, tmp_path):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.last_step is None
        assert checkpoints.restore(state) is None


def test_an_unfinished_checkpoint_is_ignored_and_removed_by_the_next_run(state, tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(state)
    unfinished = tmp_path / "8.orbax-checkpoint-tmp"  # as a killed run leaves it
    (unfinished / "default").mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.last_step == 7
    assert unfinished.exists()  # a reader may come while another process is writing
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert_identical(checkpoints.restore(state), state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7"]


# --- Damage ---


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with the checkpoints of steps 7 and 9."""
    folder = tmp_path_factory.mktemp("two")
    with Checkpoints(folder, keep=2) as checkpoints:
        for step in (7, 9):
            checkpoints.save(drawn_state(step, seed=step))
    return folder


def largest(folder):
    return max(folder.glob("default/ocdbt.process_0/d/*"), key=lambda path: path.stat().st_size)


def cut(step):
    os.truncate(largest(step), largest(step).stat().st_size // 2)


def flip_a_bit(step):
    content = bytearray(largest(step).read_bytes())
    content[len(content) // 2] ^= 1
    largest(step).write_bytes(content)


def remove_all(pattern):
    return lambda step: [path.unlink() for path in step.glob(pattern)]


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


DAMAGE = {
    "cut": cut, "a bit": flip_a_bit, "a missing file": lambda step: largest(step).unlink(), "an empty folder": empty,
    "no metadata": remove_all("default/_METADATA"), "no manifest": remove_all("default/**/manifest.ocdbt"),
    "no arrays": lambda step: shutil.rmtree(step / "default"),
    "metadata": lambda step: (step / "default" / "_METADATA").write_text("{"),
    "other metadata": lambda step: (step / "default" / "_METADATA").write_text("[]"),
    "manifest": lambda step: (step / "default" / "manifest.ocdbt").write_bytes(b"")}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_the_last_good_checkpoint_is_taken_and_that_is_said_in_one_line(damage, two, state, tmp_path, capfd):
    folder = shutil.copytree(two, tmp_path / "c")
    damage(folder / "9")
    with Checkpoints(folder) as checkpoints:
        assert_identical(checkpoints.restore(state), drawn_state(7, seed=7))
        with pytest.raises(DamagedCheckpoint, match="/9: is damaged"):
            checkpoints.restore(state, 9)
    said = capfd.readouterr().err
    assert said.startswith(f"{folder / '9'}: is damaged")
    assert said.endswith("; step 7 is used instead\n")
    assert said.count("\n") == 1
    damage(folder / "7")
    with Checkpoints(folder) as checkpoints, pytest.raises(DamagedCheckpoint, match="/9: is damaged") as caught:
        checkpoints.restore(state)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_run_that_goes_on_replaces_what_is_damaged(two, state, tmp_path, capfd):
    folder = shutil.copytree(two, tmp_path / "c")
    cut(folder / "9")
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.discard_damaged(state)
        assert checkpoints.last_step == 7
        checkpoints.save(drawn_state(9, seed=1))
    assert "step 7 is used instead" in capfd.readouterr().err
    with Checkpoints(folder, keep=2) as checkpoints:
        checkpoints.discard_damaged(state)
        assert_identical(checkpoints.restore(state), drawn_state(9, seed=1))
    assert capfd.readouterr().err == ""


def test_a_checkpoint_imports_nothing_that_it_names(two, state, tmp_path, monkeypatch):
    folder = shutil.copytree(two, tmp_path / "c")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'done')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    metadata = folder / "9" / "_CHECKPOINT_METADATA"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"item_handlers": {"default": "evil.Evil"}}))
    with Checkpoints(folder) as checkpoints:
        assert_identical(checkpoints.restore(state, 9), drawn_state(9, seed=9))
    assert not (tmp_path / "done").exists()


FULL = """
import sys
sys.path.insert(0, sys.argv[2])
from test_checkpoint import Checkpoints, drawn_state
with Checkpoints(sys.argv[1] + "/c", keep=1) as checkpoints:
    state = drawn_state(7)
    big = state.replace(params={"x": drawn_state(7).step + __import__("numpy").random.default_rng(0).random(2**18)})
    try:
        checkpoints.save(big)
        checkpoints.wait()
    except OSError as error:
        print(error.errno, error.filename)
"""


@pytest.mark.slow
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    command = f"mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -c '{FULL}' {tmp_path} {Path(__file__).parent}"
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    done = subprocess.run(["unshare", "-m", "sh", "-c", command.replace('"numpy"', '\"numpy\"')], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(Path(yseg.__file__).parents[1])}, timeout=120)
    code, name = done.stdout.split(maxsplit=1)
    assert int(code) == errno.ENOSPC, done.stderr
    assert name.startswith(f"{tmp_path}/c/7.")
    assert not done.stderr or done.stderr.rstrip().endswith("Event loop is closed")  # Orbax's own, sometimes, as the process ends
