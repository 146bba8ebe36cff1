"""Compiled programs that are kept: a second process compiles nothing; where they are kept, and what is removed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import dini
from dini import kept

HERE = Path(__file__).parent
#: groups of some minutes
SLOW = ["more", "sets", "penalties", "solvers", "estimators"]


def counts(folder, group):
    """Return what a process asked for and compiled, for each case of a group."""
    path = os.pathsep.join(str(HERE / name) for name in ("sets", "penalties", "testing"))
    command = [sys.executable, str(HERE / "kept_cases.py"), str(folder), "--only", group]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])[group]


# two processes each; a failed lane and what is called under jit are among the cases
@pytest.mark.by_default("first")
@pytest.mark.parametrize(
    "group",
    ["first", "verbs", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def test_a_second_process_compiles_nothing(group, tmp_path):
    before, after = counts(tmp_path, group), counts(tmp_path, group)
    assert sum(compiled for _, compiled in before.values()) > 0
    assert {name: asked for name, (asked, _) in before.items()} == {name: asked for name, (asked, _) in after.items()}
    again = {name: f"{compiled} of {asked}" for name, (asked, compiled) in after.items() if compiled}
    assert not again, f"programs that are compiled again: {again}"


@pytest.fixture
def unset():
    """JAX's settings as they are before anybody sets a cache; nothing is compiled meanwhile."""
    names = [
        "jax_compilation_cache_dir",
        "jax_enable_compilation_cache",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.usefixtures("unset")
def test_everything_is_kept_in_a_folder_of_ones_own(tmp_path):
    folder = tmp_path / "a" / "b"
    told = dini.keep_programs(folder)
    assert told == kept.Kept(folder, changed=True)
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    assert jax.config.jax_persistent_cache_min_entry_size_bytes == -1
    assert str(told) == f"Programs are kept in {folder}: 0 of 0 MiB are there."
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0
    # and again
    assert dini.keep_programs(folder) == dini.keep_programs() == kept.Kept(folder, changed=False)


@pytest.mark.usefixtures("unset")
@pytest.mark.parametrize(
    ("platform", "variable", "value", "want"),
    [
        ("linux", "XDG_CACHE_HOME", "{}/x", "{}/x/dini/programs"),
        ("linux", "XDG_CACHE_HOME", "not/absolute", "{}/.cache/dini/programs"),
        ("linux", "XDG_CACHE_HOME", "", "{}/.cache/dini/programs"),
        ("darwin", "XDG_CACHE_HOME", "{}/x", "{}/Library/Caches/dini/programs"),
        ("win32", "LOCALAPPDATA", "{}/x", "{}/x/dini/programs"),
        ("win32", "LOCALAPPDATA", "", "{}/AppData/Local/dini/programs"),
    ],
)
def test_the_folder_is_among_the_users_caches(monkeypatch, tmp_path, platform, variable, value, want):
    monkeypatch.setattr(kept.sys, "platform", platform)
    monkeypatch.setattr(kept.Path, "home", lambda: tmp_path)
    monkeypatch.setenv(variable, value.format(tmp_path))
    assert dini.keep_programs().folder == Path(want.format(tmp_path))
    assert Path(want.format(tmp_path)).is_dir()


@pytest.mark.usefixtures("unset")
def test_a_cache_that_is_set_stays_as_it_is(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    told = dini.keep_programs()
    assert told == kept.Kept(tmp_path / "mine", changed=False)
    assert str(told) == f"Programs are kept in {tmp_path / 'mine'}, as JAX was set already: nothing has been changed."
    with pytest.raises(ValueError, match=r"folder is '.*other', but programs are kept in '.*mine' already"):
        dini.keep_programs(tmp_path / "other")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 7.0
    assert not list(tmp_path.iterdir())
    jax.config.update("jax_enable_compilation_cache", False)
    assert "switched off (jax_enable_compilation_cache)" in str(dini.keep_programs())


@pytest.mark.usefixtures("unset")
def test_what_has_not_been_used_for_longest_is_removed(tmp_path):
    for name, age, size in (("old", 300, 600), ("older", 400, 10), ("new", 100, 500), ("newer", 50, 400)):
        (tmp_path / f"{name}-cache").write_bytes(bytes(size))
        os.utime(tmp_path / f"{name}-cache", (1e9 - age, 1e9 - 500 if name == "new" else 1e9 - age))
    (tmp_path / "older-atime").write_bytes(bytes(8))
    (tmp_path / "mine.txt").write_bytes(bytes(9000))
    told = dini.keep_programs(tmp_path, max_bytes=1000)
    assert (told.programs, told.bytes, told.removed) == (2, 900, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "new-cache", "newer-cache"]


@pytest.mark.usefixtures("unset")
def test_what_cannot_be_is_refused(tmp_path):
    for wrong in (0, -1, 2.0**30, True):
        with pytest.raises(ValueError, match="max_bytes must be a positive number of bytes, an int: given"):
            dini.keep_programs(tmp_path, max_bytes=wrong)
    with pytest.raises(TypeError, match="folder must be a path, as a string or a Path: given 3"):
        dini.keep_programs(3)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        dini.keep_programs(tmp_path / "file" / "programs")
    assert jax.config.jax_compilation_cache_dir is None
