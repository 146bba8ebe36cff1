"""The outer loop of the bilevel methods: a state, one step, and many at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_count
from ..functions import all_arrays
from ..functions.compiled import compiled
from ..functions.traces import untraced
from ..status import OnFailure, Report, SolveError, Status, check_on_failure, guard
from ..trees import Tree
from ._batches import Batches, part
from ._checks import require_real
from ._problem import Bilevel
from ._progress import Reach


class State(NamedTuple):
    """Carried from step to step.

    Attributes
    ----------
    theta
        The outer unknown.
    x
        The inner unknown.
    v
        The adjoint; what a method without one keeps in its place.
    error
        Norm of the last estimate of the gradient; where there is a constraint or penalty, of its projected or proximal
        gradient, in the same units and whatever the length of the steps is.
    residual
        The same of the inner problem: the norm of the last (proximal) gradient in ``x``, or the error of the last inner
        solve. An ``error`` says little where this one is large.
    steps
        Number of steps.
    status
        A :class:`dini.Status`: ``RUNNING``; ``NONFINITE`` after a step that is not finite, ``DIVERGED`` where an
        unknown diverges (see :class:`Reach`). Such a step is not taken, and nothing moves any more.
    memory
        What estimators and rules remember.
    reach
        The :class:`Reach` of ``x``, ``v`` and ``theta``.
    """

    theta: Tree
    x: Tree
    v: Tree
    error: Any
    residual: Any
    steps: Any
    status: Any
    memory: Any
    reach: Any


class Moved(NamedTuple):
    """What a method has made of a state: the next one, the inner and the outer gradient that it was made with."""

    state: State
    inner: Tree
    outer: Tree


class Method:
    """Base of the bilevel methods: settings with ``init`` and ``step``, under the decorator ``record``.

    A subclass has a field ``problem`` and defines ``_remembered``, ``_advance`` and ``batches``.
    """

    problem: Bilevel

    def init(self, theta: Tree, x: Tree, outer_batch: Any = None, inner_batch: Any = None) -> State:
        """Return the state before the first step; batches show the shapes, or what is remembered of all of them."""
        theta, x = require_real("theta", theta), require_real("x", x)
        self.problem.check(x, theta, part(outer_batch, 0), part(inner_batch, 0))
        return self._started(theta, x, outer_batch, inner_batch)

    def _started(self, theta: Tree, x: Tree, outer_batch: Any, inner_batch: Any) -> State:
        """Return the state before the first step at unknowns that were checked."""
        made = _init_compiled if _compilable(self, theta, x, outer_batch, inner_batch) else _init
        return made(self, theta, x, outer_batch, inner_batch)

    def step(self, state: State, outer_batch: Any = None, inner_batch: Any = None) -> State:
        """Take one step; outside of ``jit`` and ``scan`` it is compiled."""
        taken = _step_compiled if _compilable(self, state, outer_batch, inner_batch) else _step
        return taken(self, state, outer_batch, inner_batch)

    def run(
        self,
        state: State,
        steps: int,
        outer: Batches | None = None,
        inner: Batches | None = None,
        key: Any = None,
        *,
        on_failure: OnFailure = "raise",
    ) -> State:
        """Take so many steps in one compiled loop, on batches that are drawn at random.

        Parameters
        ----------
        state
            From :meth:`init`, or of an earlier run.
        steps
            How many.
        outer, inner
            The data of either objective, or ``None`` where it takes none.
        key
            A random key, for the batches.
        on_failure
            What to do where a step is not finite or an unknown diverges, as in :func:`dini.solve`: ``"raise"`` (under
            ``vmap``, NaN in the lanes that failed), ``"warn"``, ``"nan"``, or ``"ignore"``, which returns the last
            finite state, whose ``status`` says so.

        Raises
        ------
        SolveError
            If a step is not finite, or an unknown diverges (under ``jit``, JAX wraps it in its own exception).
        TypeError, ValueError
            For input that does not fit.
        """
        require_count("steps", steps)
        check_on_failure(on_failure)
        if not isinstance(state, State):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"state must be what init, step or run have returned: given {type(state).__name__}.")
        for name, batches in (("outer", outer), ("inner", inner)):
            if batches is not None and not isinstance(batches, Batches):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"{name} must be dini.bilevel.Batches(data, size) or None: given {type(batches).__name__}."
                )
        if key is None and (outer is not None or inner is not None):
            raise TypeError("key must be a random key to draw batches, such as jax.random.key(0): given None.")
        taken = _run_compiled if _compilable(self, state, outer, inner) else _run
        end = taken(self, state, steps, outer, inner, key)
        figures = jnp.stack([jnp.asarray(figure, end.error.dtype) for figure in (end.status, end.steps, end.residual)])
        failed, report = end.status != Status.RUNNING, _Failure(type(self).__name__, self.remedy)
        points = end.theta, end.x, end.v, end.error, end.residual
        theta, x, v, error, residual = guard(points, failed, report, (figures,), on_failure)
        return end._replace(theta=theta, x=x, v=v, error=error, residual=residual)

    @property
    def remedy(self) -> str:
        """What to do where a run fails."""
        return (
            "Reduce the step sizes: those of x and v must be less than two over the largest eigenvalue of the inner "
            "Hessian, and that of theta small enough for x and v to follow. Start where both objectives are finite, "
            "and bound theta by a constraint."
        )

    @property
    def batches(self) -> tuple[int, int]:
        """How many outer and inner batches a step uses, if it is given so many."""
        raise NotImplementedError

    def _remembered(self, theta: Tree, x: Tree, outer: Any, inner: Any) -> tuple[Any, Any]:
        """Return the first adjoint and memory."""
        raise NotImplementedError

    def _advance(self, state: State, outer: Any, inner: Any) -> Moved:
        """Return the next state, whatever its numbers are."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Failure(Report):
    method: str
    remedy: str

    def __call__(self, *figures: Any) -> SolveError:
        """Return the exception."""
        status, steps, residual = figures[0]
        end = Status(int(status))
        seen = "the unknowns diverged" if end == Status.DIVERGED else "a step became NaN or infinite"
        return SolveError(
            f"{self.method} has failed: {end.name}, {seen} after {int(steps)} steps, where the inner problem's "
            f"residual was {float(residual):.1e}. {self.remedy} To get the last finite state instead, pass "
            'on_failure="ignore".',
            end,
        )


def _compilable(*given: Any) -> bool:
    """Return whether a program can be kept: nothing is traced, and all are arrays."""
    return untraced() and all_arrays(given)


def _init(method: Method, theta: Tree, x: Tree, outer: Any, inner: Any) -> State:
    v, memory = method._remembered(theta, x, outer, inner)  # pyright: ignore[reportPrivateUsage]
    unknown = jnp.full((), jnp.inf, trees.real_dtype(theta))
    running = jnp.asarray(Status.RUNNING, jnp.int32)
    reach = Reach.start(x, v, theta)
    return State(theta, x, v, unknown, unknown, jnp.zeros((), jnp.int32), running, memory, reach)


def _step(method: Method, state: State, outer: Any, inner: Any) -> State:
    new, along_x, along_theta = method._advance(state, outer, inner)  # pyright: ignore[reportPrivateUsage]
    points = new.theta, new.x, new.v, new.error, jnp.asarray(new.residual, state.residual.dtype)
    running, finite = state.status == Status.RUNNING, trees.all_finite(points[:4])
    reach, diverged = state.reach.after((along_x, new.x), (along_theta, new.v), (along_theta, new.theta))
    sound = running & finite & ~diverged
    # a step that failed is not taken; what is remembered of it is never looked at again
    old = state.theta, state.x, state.v, state.error, state.residual
    theta, x, v, error, residual = trees.where(sound, points, old)
    failed = jnp.where(finite, Status.DIVERGED, Status.NONFINITE)
    status = jnp.where(sound | ~running, state.status, failed).astype(jnp.int32)
    steps = state.steps + sound.astype(jnp.int32)
    return State(theta, x, v, error, residual, steps, status, new.memory, reach)


def _run(method: Method, state: State, steps: int, outer: Any, inner: Any, key: Any) -> State:
    several = method.batches

    def body(state: State, key: Any) -> tuple[State, None]:
        keys = (None, None) if key is None else jax.random.split(key)
        drawn = [
            None if batches is None else batches.draw(k, None if many == 1 else many)
            for batches, k, many in zip((outer, inner), keys, several, strict=True)
        ]
        return _step(method, state, *drawn), None

    keys = None if key is None else jax.random.split(key, steps)
    return jax.lax.scan(body, state, keys, length=steps)[0]


_init_compiled, _step_compiled = compiled(_init), compiled(_step)
_run_compiled = compiled(_run, static_argnums=2)
