"""Compiled programs that are kept between processes: JAX's persistent cache, set for what a solve compiles.

A solve compiles a few programs, each of them in less time than JAX keeps programs for by default (a second). They are
the same in every process: nothing in them depends on a name, an address or an order that changes.

JAX bounds a cache by ``jax_compilation_cache_max_size``, for which it needs the package filelock, locks the folder at
each look-up, and reads the time of every program at each write. So the bound is held here, when a process begins.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax

__all__ = ["Kept", "keep_programs"]

_SUFFIX, _TIME = "-cache", "-atime"
_FOLDER, _ON = "jax_compilation_cache_dir", "jax_enable_compilation_cache"


@dataclass(frozen=True)
class Kept:
    """What became of :func:`keep_programs`; printed, it is a sentence.

    Attributes
    ----------
    folder
        Where programs are kept; ``None`` where they are not.
    changed
        Whether this call has set JAX's cache.
    programs
        How many there are.
    bytes
        How large they are together.
    removed
        How many were removed, those first that have not been used for longest.
    """

    folder: Path | None
    changed: bool
    programs: int = 0
    bytes: int = 0
    removed: int = 0

    def __str__(self) -> str:
        if self.folder is None:
            return f"No programs are kept: JAX's compilation cache is switched off ({_ON})."
        if not self.changed:
            return f"Programs are kept in {self.folder}, as JAX was set already: nothing has been changed."
        there = f"{self.programs} of {self.bytes / 2**20:.0f} MiB are there"
        gone = f", {self.removed} have been removed" if self.removed else ""
        return f"Programs are kept in {self.folder}: {there}{gone}."


class _File(NamedTuple):
    used: float
    size: int
    path: str


def default_folder() -> Path:
    """Return the folder for programs among the user's caches on this platform."""
    home, absolute = Path.home(), lambda name: Path(os.environ.get(name, ""))
    if sys.platform == "darwin":
        caches = home / "Library" / "Caches"
    elif sys.platform == "win32":
        caches = absolute("LOCALAPPDATA") if absolute("LOCALAPPDATA").is_absolute() else home / "AppData" / "Local"
    else:
        caches = absolute("XDG_CACHE_HOME") if absolute("XDG_CACHE_HOME").is_absolute() else home / ".cache"
    return caches / "dini" / "programs"


def _files(folder: Path) -> list[_File]:
    found: list[_File] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIX):
                with contextlib.suppress(FileNotFoundError):  # another process removes what is old, too
                    stat = entry.stat()
                    found.append(_File(max(stat.st_atime, stat.st_mtime), stat.st_size, entry.path))
    return found


def _pruned(folder: Path, max_bytes: int) -> tuple[int, int, int]:
    """Return the number of programs in a folder, their size, and how many were removed to make it so."""
    files, removed = sorted(_files(folder)), 0
    total = sum(file.size for file in files)
    while total > max_bytes:
        for path in (files[removed].path, files[removed].path.removesuffix(_SUFFIX) + _TIME):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        total -= files[removed].size
        removed += 1
    return len(files) - removed, total, removed


def keep_programs(folder: str | os.PathLike[str] | None = None, *, max_bytes: int = 2**30) -> Kept:
    """Keep all programs that JAX compiles, so that the next process reads them and compiles nothing again.

    It sets JAX's persistent compilation cache, for everything that JAX compiles in this process from now on: a folder,
    and no least time or size. A cache that is set already (``JAX_COMPILATION_CACHE_DIR``,
    ``jax.config.update("jax_compilation_cache_dir", ...)``, an earlier call) is left as it is, and so is one that is
    switched off (``JAX_ENABLE_COMPILATION_CACHE=false``). A program is found again by the same versions of JAX, on the
    same kind of machine, under the same flags.

    Parameters
    ----------
    folder
        Where to; it is made if it is not there, for this user alone: anyone who can write to it decides what runs here.
        By default ``dini/programs`` among the user's caches: in ``$XDG_CACHE_HOME`` or ``~/.cache``, in
        ``~/Library/Caches`` on macOS, in ``%LOCALAPPDATA%`` on Windows.
    max_bytes
        Programs that have not been used for longest are removed at this call, until the others are no larger together.

    Returns
    -------
    Kept
        What was done: the folder, whether JAX's settings were changed, what is there. Printed, it is a sentence.

    Raises
    ------
    TypeError
        If the folder is no path.
    ValueError
        If programs are kept in another folder than the one that is given, and for a bound that is not positive.
    OSError
        If the folder cannot be made or written to.

    Examples
    --------
    >>> import dini, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +SKIP
    ...     print(dini.keep_programs(folder))
    Programs are kept in /tmp/tmp8x3u: 0 of 0 MiB are there.
    """
    if not isinstance(max_bytes, int) or isinstance(max_bytes, bool) or max_bytes <= 0:
        raise ValueError(f"keep_programs: max_bytes must be a positive number of bytes, an int: given {max_bytes!r}.")
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise TypeError(f"keep_programs: folder must be a path, as a string or a Path: given {folder!r}.")
    asked = None if folder is None else Path(folder).expanduser().absolute()
    if not getattr(jax.config, _ON):
        return Kept(None, changed=False)
    if there := getattr(jax.config, _FOLDER):
        if asked is not None and str(asked) != str(there) and asked.resolve() != Path(there).resolve():
            raise ValueError(
                f"keep_programs: folder is {str(asked)!r}, but programs are kept in {there!r} already. Leave it out, "
                f"or set the folder before anything is compiled: JAX reads {_FOLDER} once."
            )
        return Kept(Path(there), changed=False)
    where = asked or default_folder()
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(where, os.W_OK | os.X_OK):
        raise PermissionError(f"keep_programs: folder {str(where)!r} cannot be written to.")
    programs, size, removed = _pruned(where, max_bytes)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update(_FOLDER, str(where))
    return Kept(where, changed=True, programs=programs, bytes=size, removed=removed)
