"""A run's context: named random keys, phases with progress, and memory of finished parts.

A run that is interrupted goes on from the last part that it finished, if it is asked to (`dini run NAME --resume`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import operator
import os
import pickle
import shutil
import threading
import time
import types
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .measure import side_by_side
from .results import plain, versions

#: Where no progress bar is shown, a long phase reports its progress after so many seconds.
QUIET_SECONDS = 30.0


def _spent(seconds: float) -> str:
    """A time as one says it."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _named(module: str, name: str) -> Any:
    """What a module has under a name."""
    return operator.attrgetter(name)(importlib.import_module(module))


class _Pickler(cloudpickle.Pickler):
    """Pickles a network's functions: compiled ones of a module, such as `jax.nn.relu`, by their names."""

    def reducer_override(self, obj: Any) -> Any:
        if callable(obj) and not isinstance(obj, type | types.FunctionType | types.BuiltinFunctionType):
            module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
            if isinstance(module, str) and isinstance(name, str):
                with contextlib.suppress(ImportError, AttributeError):
                    if _named(module, name) is obj:
                        return _named, (module, name)
        return super().reducer_override(obj)


class Remembered(NamedTuple):
    """A part that an earlier run has finished."""

    value: Any
    seconds: float
    """What it took then."""


class Memory:
    """Finished parts of one experiment with one setting, in a folder.

    The folder's name depends on the settings, on the versions of what is used, and on the source that is given: what
    was computed with other code is not found.
    """

    def __init__(self, name: str, settings: Any, *, source: str = "", root: Path | None = None):
        identity = json.dumps([plain(settings), versions(), source], sort_keys=True)
        self.folder = (root or cache()) / name / hashlib.sha256(identity.encode()).hexdigest()[:16]

    def _path(self, part: str) -> Path:
        return self.folder / f"{zlib.crc32(part.encode()):08x}.pickle"

    def load(self, part: str) -> Remembered | None:
        """The part, or `None` if it is not there."""
        path = self._path(part)
        if not path.exists():
            return None
        with path.open("rb") as file:
            name, *found = pickle.load(file)
        # what was written before times were is written again
        return Remembered(*found) if name == part and len(found) == 2 else None

    def save(self, part: str, value: Any, seconds: float) -> None:
        """Write a part and what it took, all or nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(part)
        beside = path.with_suffix(f".{os.getpid()}")
        try:
            buffer = io.BytesIO()
            _Pickler(buffer).dump((part, value, seconds))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"The part {part!r} of a run must be data that can be written to a file, such as arrays and models in "
                f"dataclasses, to be remembered: given {type(value).__name__} ({error})."
            ) from error
        beside.write_bytes(buffer.getvalue())
        beside.replace(path)

    def clear(self) -> None:
        """Forget all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __len__(self) -> int:
        return len(list(self.folder.glob("*.pickle")))


def cache() -> Path:
    """The folder of finished parts: `DINI_CACHE`, or `dini` in the user's folder of caches."""
    chosen = os.environ.get("DINI_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dini"


class Phase:
    """A part of a run on its way."""

    def __init__(self, name: str, total: int | None, tell: Callable[[Phase], None]):
        self.name, self.total, self.done, self.start = name, total, 0, time.perf_counter()
        self._tell = tell

    def advance(self, steps: int = 1) -> None:
        """So many of the phase's steps have been taken."""
        self.reach(self.done + steps)

    def reach(self, done: int) -> None:
        """So many of its steps have been taken in all."""
        self.done = done
        self._tell(self)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.start

    @property
    def left(self) -> float | None:
        """The seconds that it still takes, if it goes on like this; `None` if unknown."""
        if not self.total or not self.done:
            return None
        return self.seconds * max(self.total - self.done, 0) / self.done


class Run:
    """What an experiment is given beside its settings.

    Parameters
    ----------
    settings
        The experiment's settings. Random keys depend on its `seed`, if it has one.
    console
        Where progress goes; nowhere if it is not given.
    memory
        Where finished parts are kept; nowhere if it is not given.
    resume
        Whether parts that are in memory are used; else it is emptied first.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> run = Run(SimpleNamespace(seed=0))
    >>> first = run.random("data").normal()
    >>> first == Run(SimpleNamespace(seed=0)).random("data").normal()
    True
    >>> run.each("squares", (1, 2, 3), lambda n, phase: n**2)
    [1, 4, 9]
    """

    def __init__(
        self,
        settings: Any,
        console: Console | None = None,
        memory: Memory | None = None,
        *,
        resume: bool = False,
    ):
        self.settings = settings
        self.console = console or Console(file=io.StringIO())
        self.phases: dict[str, float] = {}
        """What each phase took, in seconds, with what its remembered parts took when they were made."""
        self.remembered: dict[str, float] = {}
        """What of it was remembered from earlier runs, by phase."""
        self._memory, self._plan = memory, {}
        self._depth, self._bar, self._said, self._lock = 0, None, 0.0, threading.Lock()
        if memory is not None and not resume:
            memory.clear()

    # chance

    def key(self, *names: str | int) -> jax.Array:
        """The random key of that name, such as `run.key("training", seed)`. Other names have independent keys."""
        return jax.random.fold_in(jax.random.key(self._seed), self._crc(names))

    def random(self, *names: str | int) -> np.random.Generator:
        """NumPy's generator of that name."""
        return np.random.default_rng((self._seed, self._crc(names)))

    @property
    def _seed(self) -> int:
        return int(getattr(self.settings, "seed", 0))

    @staticmethod
    def _crc(names: tuple[str | int, ...]) -> int:
        return zlib.crc32("/".join(map(str, names)).encode())

    # progress

    def plan(self, seconds: Mapping[str, float]) -> None:
        """Tell about how long each phase takes, in its order: what is left is then known from the first one on.

        Only the ratios count: they are scaled by what the phases before took.
        """
        self._plan = dict(seconds)

    @contextlib.contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """A phase of the run, of `total` steps if they can be counted: it leaves a line when it is done."""
        phase = Phase(name, total, self._show)
        outermost = self._depth == 0
        self._depth += 1
        bar = None
        if outermost and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            bar = self._bar = Progress(*columns, console=self.console, transient=True)
            bar.add_task(name, total=total)
            bar.start()
        self._said = time.perf_counter()
        try:
            yield phase
        finally:
            self._depth -= 1
            if bar is not None:
                bar.stop()
                self._bar = None
        self.phases[name] = self.phases.get(name, 0.0) + phase.seconds
        if outermost:
            self.note(f"{name}: {_spent(phase.seconds)}{self._left()}")

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self, phase: Phase) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=phase.done, description=phase.name)
        elif time.perf_counter() - self._said > QUIET_SECONDS:
            self._said = time.perf_counter()
            of = f" of {phase.total}" if phase.total else ""
            left = "" if phase.left is None else f", about {_spent(phase.left)} left of it"
            self.note(f"  {phase.name}: {phase.done}{of}{left}")

    def _left(self) -> str:
        """How long the phases that are left will take."""
        done = [name for name in self._plan if name in self.phases]
        left = [seconds for name, seconds in self._plan.items() if name not in self.phases]
        if not done or not left:
            return ""
        pace = sum(self.phases[name] for name in done) / sum(self._plan[name] for name in done)
        return f", about {_spent(pace * sum(left))} left"

    # memory

    def part[T](self, name: str, fun: Callable[[Phase], T], total: int | None = None) -> T:
        """A phase whose value is remembered: `fun(phase)`, or what it returned before an interruption.

        The value must be data: numbers, strings, arrays, models, and containers and dataclasses of them.
        """
        found = self._recall(name, name)
        if found is not None:
            self.note(f"{name}: remembered, {_spent(found.seconds)} when it was made{self._left()}")
            return found.value
        with self.phase(name, total) as phase:
            value = fun(phase)
        self._remember(name, value, phase.seconds)
        return value

    def shared[T](
        self, name: str, among: str, recipe: Any, fun: Callable[[Phase], T], *, source: str, total: int | None = None
    ) -> T:
        """As `part`, for what several experiments need, such as one trained network: the first one makes it.

        It is kept under the name `among`, for a `recipe` of plain data and a digest of the `source` that it depends on,
        whether or not this run goes on with an earlier one's parts.
        """
        if self._memory is None:
            return self.part(name, fun, total)
        mine, self._memory = self._memory, Memory(among, recipe, source=source, root=self._memory.folder.parent.parent)
        try:
            return self.part(name, fun, total)
        finally:
            self._memory = mine

    def each[T, U](
        self,
        name: str,
        items: Iterable[U],
        fun: Callable[[U, Phase], T],
        steps: int | None = None,
        *,
        pairs: bool = False,
    ) -> list[T]:
        """A phase that does the same for each item, such as a seed, and remembers each result.

        `fun(item, phase)` calls `phase.advance` for each of its `steps`; without `steps` the items are counted. With
        `pairs` two items are done at a time: programs that are too small for two cores leave one idle.
        """
        items = list(enumerate(items))
        counted = 0.0
        with self.phase(name, len(items) * (steps or 1)) as phase:

            def one(numbered: tuple[int, U]) -> T:
                nonlocal counted
                i, item = numbered
                part = f"{name}/{i}"
                found = self._recall(part, name)
                if found is None:
                    value = fun(item, phase)
                    with self._lock:  # of two that are done at a time each second counts once
                        seconds, counted = phase.seconds - counted, phase.seconds
                    self._remember(part, value, seconds)
                if found is not None or not steps:
                    phase.advance(steps or 1)
                return value if found is None else found.value

            return side_by_side(one, items) if pairs else [one(item) for item in items]

    def _recall(self, part: str, phase: str) -> Remembered | None:
        found = None if self._memory is None else self._memory.load(part)
        if found is not None:
            with self._lock:
                for times in (self.phases, self.remembered):
                    times[phase] = times.get(phase, 0.0) + found.seconds
        return found

    def _remember(self, part: str, value: Any, seconds: float) -> None:
        if self._memory is not None:
            self._memory.save(part, value, seconds)
