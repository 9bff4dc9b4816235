"""yseg.files: whatever happens in the middle of a write, what was there before is there, or the new, whole."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import yseg
from yseg.files import whole_file, whole_folder, write_whole


def contents(folder):
    """Relative path -> text of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in Path(folder).rglob("*") if path.is_file()}


def start(code, *arguments):
    """Another Python that runs `code`, its standard output piped."""
    environment = {**os.environ, "PYTHONPATH": str(Path(yseg.__file__).parents[1])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def killed(code, *arguments):
    """Run `code`, which must end by SIGKILL."""
    process = start(code, *arguments)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def old(tmp_path):
    """A folder that holds one file."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old.txt").write_text("old")
    return tmp_path / "a"


@pytest.fixture
def umask():
    """Whoever creates files lets the group read them, and no one else."""
    before = os.umask(0o027)
    yield
    os.umask(before)


# --- Files ---


def test_a_file_is_there_when_the_block_has_ended_and_not_before(tmp_path):
    with whole_file(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("new")
        assert unfinished.parent == tmp_path
        assert unfinished.name.startswith(".a.txt.")
        assert unfinished.name.endswith(".unfinished")
        assert not (tmp_path / "a.txt").exists()
    assert contents(tmp_path) == {"a.txt": "new"}
    write_whole(str(tmp_path / "a.txt"), "µm\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc2\xb5m\n"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_exception_the_old_file_is_as_it_was(tmp_path, raised):
    write_whole(tmp_path / "a.txt", "old")
    with pytest.raises(raised), whole_file(tmp_path / "a.txt") as unfinished:  # noqa: PT012
        unfinished.write_text("ne")
        raise raised
    assert contents(tmp_path) == {"a.txt": "old"}


def test_a_block_that_writes_nothing_is_an_error_and_changes_nothing(tmp_path):
    write_whole(tmp_path / "a.txt", "old")
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt"):
        pass
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "b") as unfinished:
        unfinished.rmdir()
    assert contents(tmp_path) == {"a.txt": "old"}


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    texts = [str(number) * 100_000 for number in range(8)]
    writers = [threading.Thread(target=write_whole, args=(tmp_path / "a.txt", text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "a.txt").read_text() in texts
    assert os.listdir(tmp_path) == ["a.txt"]


def test_modes_are_those_of_any_new_file_and_folder(tmp_path, umask):
    write_whole(tmp_path / "a.txt", "")
    with whole_folder(tmp_path / "b"):
        pass
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o750


def test_a_link_is_followed(tmp_path, old):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "file").symlink_to(old / "old.txt")
    (tmp_path / "links" / "folder").symlink_to(old)
    write_whole(tmp_path / "links" / "file", "new")
    assert contents(old) == {"old.txt": "new"}
    with whole_folder(tmp_path / "links" / "folder", replace=True) as unfinished:
        (unfinished / "new.txt").write_text("new")
    assert contents(old) == {"new.txt": "new"}
    assert sorted(os.listdir(tmp_path / "links")) == ["file", "folder"]
    assert os.listdir(tmp_path / "links" / "folder") == ["new.txt"]


def test_a_reader_never_meets_half_a_file_and_neither_does_who_looks_after_a_kill(tmp_path):
    path, size = tmp_path / "a.txt", 3_000_000
    whole = {(frozenset(letter), size) for letter in "ab"}
    process = start("import sys; from yseg.files import write_whole\n"
                    "while True:\n"
                    "    for letter in 'ab':\n"
                    f"        write_whole(sys.argv[1], letter * {size})\n"
                    "        print(letter, flush=True)", path)
    seen = set()
    try:
        assert process.stdout.readline() == "a\n"
        for _ in range(200):
            text = path.read_text()
            seen.add((frozenset(text), len(text)))
    finally:
        process.kill()
        process.communicate()
    text = path.read_text()
    assert seen | {(frozenset(text), len(text))} <= whole
    left = [name for name in os.listdir(tmp_path) if name != "a.txt"]
    assert all(name.startswith(".a.txt.") and name.endswith(".unfinished") for name in left)
    write_whole(path, "c")
    assert path.read_text() == "c"


# --- Folders ---


def test_a_folder_is_there_when_the_block_has_ended_and_not_before(tmp_path):
    path = tmp_path / "missing" / "parents" / "a"
    with whole_folder(path) as unfinished:
        assert unfinished.parent == path.parent
        assert unfinished.name.startswith(".a.")
        assert unfinished.name.endswith(".unfinished")
        (unfinished / "new.txt").write_text("new")
        assert not path.exists()
    assert contents(tmp_path) == {"missing/parents/a/new.txt": "new"}


def test_a_relative_path_means_the_folder_in_which_the_block_began(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with whole_folder("a") as unfinished:
        (unfinished / "new.txt").write_text("new")
        monkeypatch.chdir("elsewhere")
    with whole_file("b") as unfinished:
        unfinished.write_text("new")
        monkeypatch.chdir(tmp_path)
    assert contents(tmp_path) == {"a/new.txt": "new", "elsewhere/b": "new"}


def test_a_folder_is_replaced_only_on_demand(tmp_path, old):
    with pytest.raises(FileExistsError), whole_folder(old):
        pytest.fail("the block was entered")
    assert contents(tmp_path) == {"a/old.txt": "old"}
    with whole_folder(old, replace=True) as unfinished:
        (unfinished / "new.txt").write_text("new")
        assert contents(old) == {"old.txt": "old"}
    assert contents(tmp_path) == {"a/new.txt": "new"}
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_is_never_replaced_by_a_folder(tmp_path, old):
    with pytest.raises(FileExistsError), whole_folder(old / "old.txt", replace=True):
        pytest.fail("the block was entered")
    with pytest.raises(FileExistsError), whole_folder(old / "old.txt" / "new"):  # the parent is a file
        pytest.fail("the block was entered")
    assert contents(tmp_path) == {"a/old.txt": "old"}


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_exception_the_old_folder_is_as_it_was_and_nothing_is_left_of_the_new(tmp_path, old, raised):
    for path in (old, tmp_path / "b"):
        with pytest.raises(raised), whole_folder(path, replace=True) as unfinished:  # noqa: PT012
            (unfinished / "new.txt").write_text("ne")
            raise raised
        assert contents(tmp_path) == {"a/old.txt": "old"}
        assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("taken_by", ["a file", "a folder", "an empty folder"])
def test_what_appears_during_the_block_is_kept_and_so_is_the_new_folder(tmp_path, taken_by):
    path = tmp_path / "a"
    with pytest.raises(FileExistsError) as caught, whole_folder(path) as unfinished:  # noqa: PT012
        (unfinished / "new.txt").write_text("new")
        if taken_by == "a file":
            path.write_text("other")
        else:
            path.mkdir()
        if taken_by == "a folder":
            (path / "other.txt").write_text("other")
    kept = unfinished.with_suffix(".kept")
    assert f"stays in {kept}" in str(caught.value)
    assert str(path) in str(caught.value)
    other = {"a file": {"a": "other"}, "a folder": {"a/other.txt": "other"}, "an empty folder": {}}[taken_by]
    assert contents(tmp_path) == {f"{kept.name}/new.txt": "new", **other}
    assert path.exists()
    if taken_by != "a file":
        with whole_folder(path, replace=True):
            pass
        assert contents(kept) == {"new.txt": "new"}  # the next writing does not clear it away


FULL = OSError(errno.ENOSPC, "No space left on device")


def failing_rename(monkeypatch, *failing, before=None, raised=FULL):
    """Make some of the following renames of a Path fail, counted from 1."""
    rename, calls = Path.rename, []

    def fails(path, target):
        calls.append(path)
        if before and len(calls) == failing[0]:
            before()
        if len(calls) in failing:
            raise raised
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize("raised", [FULL, KeyboardInterrupt()])
def test_if_a_rename_fails_the_old_folder_is_restored_and_the_new_one_kept(tmp_path, old, monkeypatch, failing, raised):
    failing_rename(monkeypatch, failing, raised=raised)
    with pytest.raises(type(raised)) as caught, whole_folder(old, replace=True) as unfinished:
        (unfinished / "new.txt").write_text("new")
    kept = unfinished.with_suffix(".kept")
    assert contents(tmp_path) == {"a/old.txt": "old", f"{kept.name}/new.txt": "new"}
    if isinstance(raised, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert f"stays in {kept}" in str(caught.value)


def test_if_the_old_folder_cannot_be_restored_both_are_kept(tmp_path, old, monkeypatch):
    failing_rename(monkeypatch, 2, 3)
    with pytest.raises(OSError, match="No space left") as caught, whole_folder(old, replace=True) as unfinished:
        (unfinished / "new.txt").write_text("new")
    replaced, kept = unfinished.with_suffix(".replaced"), unfinished.with_suffix(".kept")
    assert contents(tmp_path) == {f"{replaced.name}/old.txt": "old", f"{kept.name}/new.txt": "new"}
    assert str(kept) in str(caught.value)
    assert str(replaced) in str(caught.value)


def test_if_another_takes_the_name_between_the_renames_all_three_are_kept(tmp_path, old, monkeypatch):
    def take():
        old.mkdir()
        (old / "other.txt").write_text("other")

    failing_rename(monkeypatch, 2, before=take)
    with pytest.raises(OSError, match="No space left") as caught, whole_folder(old, replace=True) as unfinished:
        (unfinished / "new.txt").write_text("new")
    replaced, kept = unfinished.with_suffix(".replaced"), unfinished.with_suffix(".kept")
    assert contents(tmp_path) == {"a/other.txt": "other", f"{replaced.name}/old.txt": "old", f"{kept.name}/new.txt": "new"}
    assert str(replaced) in str(caught.value)


# --- Killed ---


KILLED = """
import os, pathlib, signal, sys
from yseg.files import whole_folder
rename, calls = pathlib.Path.rename, []
def killing(path, target):
    calls.append(path)
    if sys.argv[2] == f"before rename {len(calls)}":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, target)
pathlib.Path.rename = killing
with whole_folder(sys.argv[1], replace=True) as unfinished:
    (unfinished / "new.txt").write_text("new")
    if sys.argv[2] == "in the block":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["in the block", "before rename 1", "before rename 2"])
def test_what_a_killed_process_leaves_has_the_documented_names_and_is_cleared_by_the_next(tmp_path, old, moment):
    killed(KILLED, old, moment)
    left = contents(tmp_path)
    (new,) = (Path(path).parent for path, text in left.items() if text == "new")
    assert new.match(".a.????????.unfinished")
    kept = new.name.replace(".unfinished", ".replaced") if moment == "before rename 2" else "a"
    assert left == {f"{kept}/old.txt": "old", f"{new}/new.txt": "new"}
    with whole_folder(old, replace=True) as unfinished:
        (unfinished / "newer.txt").write_text("newer")
        assert contents(old) == {"new.txt": "new"} if moment == "before rename 2" else {"old.txt": "old"}
    assert contents(tmp_path) == {"a/newer.txt": "newer"}
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_that_was_being_removed_when_the_process_was_killed_is_removed_by_the_next(tmp_path, old):
    (tmp_path / ".a.0123abcd.replaced").mkdir()
    (tmp_path / ".a.0123abcd.replaced" / "older.txt").write_text("older")
    for other in (".a.0123abcd.kept", ".b.0123abcd.unfinished", ".a.mine.unfinished", ".a.0123abcd.unfinished.txt"):
        (tmp_path / other).mkdir()
    (tmp_path / ".a.0123abcd.kept").rename(tmp_path / ".a.4567abcd.kept")
    with whole_folder(old, replace=True):
        pass
    assert sorted(os.listdir(tmp_path)) == [".a.0123abcd.unfinished.txt", ".a.4567abcd.kept", ".a.mine.unfinished",
                                            ".b.0123abcd.unfinished", "a"]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    code = """
import sys
from yseg.files import whole_folder
with whole_folder(sys.argv[1]) as unfinished:
    (unfinished / "theirs.txt").write_text("theirs")
    print(unfinished, flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    environment = {**os.environ, "PYTHONPATH": str(Path(yseg.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    theirs = Path(process.stdout.readline().strip())
    with whole_folder(tmp_path / "a") as ours:
        assert contents(theirs) == {"theirs.txt": "theirs"}
        (ours / "ours.txt").write_text("ours")
    assert contents(tmp_path) == {"a/ours.txt": "ours", f"{theirs.name}/theirs.txt": "theirs"}
    process.kill()
    process.communicate()
    with whole_folder(tmp_path / "a", replace=True):
        assert not theirs.exists()
