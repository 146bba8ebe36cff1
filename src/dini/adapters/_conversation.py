"""Solvers on the host that ask for values of functions, which the device computes and hands them one by one.

A routine of another library wants to call the function that it minimizes. A callback of JAX must not compute with JAX,
and the function may be one of values that are not known before the program runs. So the routine runs in a thread of its
own. Where it calls the function, the thread stops with a question; the loop of the compiled program computes the
reply and brings it by its next callback, which waits for the question after that. Nothing but numbers leaves the
program: it runs on accelerators, under ``jit`` and, lane by lane, under ``vmap``.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..functions.host import call_on_host
from ..status import Status
from ._quiet import quiet

#: sessions that have ended and numbers in their questions that are kept, and the seconds that they are kept in any case
_SESSIONS, _NUMBERS, _KEPT = 10_000, 10_000_000, 10.0
#: seconds after which a session that is not continued is cancelled
_ABANDONED = 3600.0


class Found(NamedTuple):
    """What a solver has found: numbers, how many values it asked for, and why it gave up (``RUNNING``: it did not)."""

    vector: Any
    steps: Any
    status: Any


class _Question(NamedTuple):
    """A vector and the kind of reply; of the last question the kind is -1 and the vector what was found."""

    kind: int
    vector: np.ndarray
    status: int


class Stop(BaseException):
    """Ends a routine from inside of the function that it calls."""


class Ask:
    """What a routine asks by: ``ask(kind, *parts)`` returns the reply to a vector as an array of float64.

    It remembers the best point, which is what was found where the routine does not come to its own end.
    """

    def __init__(self, session: _Session, sizes: tuple[int, ...], limit: int, start: np.ndarray, reply: np.ndarray):
        self._session, self._sizes, self._limit = session, sizes, limit
        self._start, self._first = start, reply
        self._count, self._least, self._slope = 0, np.inf, np.inf
        self._idle = 0
        self.lost = False
        self.best: np.ndarray | None = None
        #: why it was stopped, which a library may not pass on
        self.stopped: Status | None = None
        #: after so many questions without a better point there is none
        self.patience: int | None = None

    def __call__(self, kind: int, *parts: Any) -> np.ndarray:
        """Return the reply to a question."""
        if self.stopped is not None or self._count >= self._limit:
            raise self.stop(self.stopped or Status.MAX_STEPS)
        vector = np.concatenate([np.ravel(np.asarray(part, float)) for part in parts])
        if kind == 0 and np.array_equal(vector, self._start):
            return self._seen(kind, self._first)
        self._count += 1
        self._idle += 1
        if self.patience is not None and self._idle > self.patience:
            raise self.stop(Status.STALLED)
        reply = self._session.ask(_Question(kind, vector, int(Status.RUNNING)))
        if reply is None:
            raise self.stop(Status.STOPPED)
        return self._seen(kind, reply)

    def stop(self, status: Status) -> Stop:
        """Return what ends the routine."""
        self.stopped = status
        return Stop(status)

    def unknown(self, kind: int) -> np.ndarray:
        """Return the reply of a function that is no number anywhere."""
        return np.full(self._sizes[kind], np.nan)

    @property
    def begun(self) -> bool:
        """Whether anything was asked that the start does not tell."""
        return self._count > 0

    def _seen(self, kind: int, reply: np.ndarray) -> np.ndarray:
        reply = reply[: self._sizes[kind]].copy()
        self.lost |= not np.isfinite(reply).all()
        return reply

    def note(self, value: float, point: Any, slope: float = 0.0) -> None:
        """Remember a point if it is the best so far: of values that differ by rounding, the least slope counts."""
        value, slope = (part if np.isfinite(part) else np.inf for part in (value, slope))
        rounding = 1e-13 * abs(self._least) if np.isfinite(self._least) else 0.0
        alike = value <= self._least + rounding and slope < self._slope
        if self.best is None or value < self._least - rounding or alike:
            self._least, self._slope, self.best = min(value, self._least), slope, np.array(point, float)
            self._idle = 0


#: a call of a host's solver, hashable: ``routine(ask, *given)`` returns what it has found and a status
Routine = Callable[..., tuple[Any, int]]


class _Session:
    """One solve on the host: its thread, and all of its questions, so that each is a function of its number alone."""

    def __init__(self, routine: Routine, sizes: tuple[int, ...], limit: int, given: tuple[Any, ...], reply: np.ndarray):
        self._replies: SimpleQueue[Any] = SimpleQueue()
        self._arrived: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()
        self._questions: list[_Question] = []
        self.used = time.monotonic()
        ask = Ask(self, sizes, limit, given[0], reply)
        threading.Thread(target=self._work, args=(routine, ask, given), daemon=True).start()
        self._wait()

    @property
    def ended(self) -> bool:
        """Whether the last question is none."""
        return self._questions[-1].kind < 0

    @property
    def first(self) -> _Question:
        """The first question."""
        return self._questions[0]

    @property
    def size(self) -> int:
        """How many numbers it holds, about."""
        return len(self._questions) * (self._questions[-1].vector.size + 100)

    def _work(self, routine: Routine, ask: Ask, given: tuple[Any, ...]) -> None:
        """Run the routine, in the thread."""
        try:
            with quiet():
                vector, status = routine(ask, *given)
            status = status if ask.stopped is None else ask.stopped
        except Stop as stop:
            vector, status = ask.best, stop.args[0]
        except BaseException as error:
            # of numbers that are none, many things may come; some libraries look for them
            lost = ask.lost or (isinstance(error, ValueError) and "NaN" in str(error))
            # on its way, a library gives up by such errors as well; before that, they are of its settings
            failed = ask.begun and isinstance(error, ArithmeticError | RuntimeError | ValueError)
            if ask.stopped is not None:
                status = ask.stopped
            elif lost:
                status = Status.NONFINITE
            elif isinstance(error, np.linalg.LinAlgError):
                status = Status.SINGULAR
            elif failed:
                status = Status.STALLED
            else:
                self._arrived.put(error)
                return
            vector = ask.best
        vector = np.zeros(0) if vector is None else np.ravel(np.asarray(vector, float))
        self._arrived.put(_Question(-1, vector, int(status)))

    def ask(self, question: _Question) -> np.ndarray | None:
        """Ask, in the thread, and return the reply, ``None`` where there is none any more."""
        self._arrived.put(question)
        return self._replies.get()

    def _wait(self) -> None:
        arrived = self._arrived.get()
        if isinstance(arrived, BaseException):
            raise arrived
        self._questions.append(arrived)

    def after(self, number: int, reply: np.ndarray) -> _Question:
        """Return the question after the one of a number, whose reply this is."""
        with self._lock:
            self.used = time.monotonic()
            if number == len(self._questions) - 1 and not self.ended:
                self._replies.put(reply)
                self._wait()
            return self._questions[min(number + 1, len(self._questions) - 1)]

    def give_up(self) -> None:
        """End the thread."""
        self._replies.put(None)


_sessions: dict[int, _Session] = {}
_numbers, _door = itertools.count(1), threading.Lock()


def _begin(session: _Session) -> int:
    """Register a session; now and then, forget old ones."""
    with _door:
        number = next(_numbers) % 2**31
        _sessions[number] = session
        if number % 64 == 0:
            now, held = time.monotonic(), sum(one.size for one in _sessions.values())
            for key, one in list(_sessions.items()):
                crowded = len(_sessions) > _SESSIONS or held > _NUMBERS
                if now - one.used > (_KEPT if one.ended and crowded else _ABANDONED):
                    held -= one.size
                    del _sessions[key]
                    one.give_up()
        return number


def _padded(question: _Question, width: int) -> tuple[Any, Any, Any]:
    vector = np.full(width, np.nan)
    vector[: question.vector.size] = question.vector
    return np.int32(question.kind), vector, np.int32(question.status)


class _Turn(NamedTuple):
    """One callback: brings the reply to a question of a session, and returns the next one.

    Session zero is no session yet: its reply is that of the start, and begins one. So elements of a batch whose replies
    differ have a session each, and those that are equal in everything share one.
    """

    routine: Routine
    sizes: tuple[int, ...]
    limit: int
    width: int

    def __call__(self, session: Any, number: Any, reply: Any, *given: Any) -> tuple[Any, ...]:
        session, reply = int(session), np.asarray(reply, float)
        if session == 0:
            parts = tuple(np.array(part, float) for part in given)
            begun = _Session(self.routine, self.sizes, self.limit, parts, reply)
            return np.int32(_begin(begun)), *_padded(begun.first, self.width)
        going = _sessions.get(session)
        if going is None:
            raise RuntimeError("The solve on the host was cancelled: its caller did not continue it for an hour.")
        return np.int32(session), *_padded(going.after(int(number), reply), self.width)


class _Talk(NamedTuple):
    """Carried around the loop."""

    session: Any
    number: Any
    kind: Any
    vector: Any
    status: Any


def converse(
    routine: Routine,
    kinds: Sequence[Callable[[jax.Array], jax.Array]],
    width: int,
    limit: int,
    *given: jax.Array,
) -> Found:
    """Run a routine of the host's, whose questions of each kind a function of vectors replies to.

    Parameters
    ----------
    routine
        ``routine(ask, *given)``, hashable.
    kinds
        For each kind of question, what replies: a function from vectors of ``width`` to vectors.
    width
        The largest size of a question's vector, and of what is found.
    limit
        How many questions it may ask.
    given
        Arrays of one type, of which the first is the starting point.
    """
    dtype = given[0].dtype
    vector = jax.ShapeDtypeStruct((width,), dtype)
    whole = jax.ShapeDtypeStruct((), jnp.int32)
    sizes = tuple(jax.eval_shape(reply, vector).size for reply in kinds)
    padded = [
        lambda v, reply=reply, size=size: jnp.pad(reply(v).astype(dtype), (0, max(sizes) - size))
        for reply, size in zip(kinds, sizes, strict=True)
    ]
    turn, out = _Turn(routine, sizes, limit, width), (whole, whole, vector, whole)

    def more(now: _Talk) -> _Talk:
        reply = jax.lax.switch(now.kind, padded, now.vector) if len(kinds) > 1 else padded[0](now.vector)
        session, *asked = call_on_host(turn, out, now.session, now.number, reply, *given)
        return _Talk(session, jnp.where(now.session == 0, 0, now.number + 1), *asked)

    zero = jnp.zeros((), jnp.int32)
    start = jnp.pad(given[0], (0, width - given[0].size))
    first = _Talk(zero, zero, zero, start, zero + Status.RUNNING)
    end = jax.lax.while_loop(lambda now: now.kind >= 0, more, first)
    return Found(end.vector, end.number + 1, end.status)
