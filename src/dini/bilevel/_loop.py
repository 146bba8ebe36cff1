"""The outer loop of the bilevel methods: a state, one step, and many at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_count
from ..functions import all_arrays
from ..functions.traces import untraced
from ..status import Status
from ..trees import Tree
from ._batches import Batches, part
from ._checks import require_real
from ._problem import Bilevel


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
        Norm of the last estimate of the gradient (of its proximal map, where there is a constraint or penalty).
    steps
        Number of steps.
    status
        A :class:`dini.Status`: ``RUNNING``, or ``NONFINITE`` after a step that is not finite, which is not taken and
        after which nothing moves.
    memory
        What estimators and rules remember.
    """

    theta: Tree
    x: Tree
    v: Tree
    error: Any
    steps: Any
    status: Any
    memory: Any


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
        self, state: State, steps: int, outer: Batches | None = None, inner: Batches | None = None, key: Any = None
    ) -> State:
        """Take so many steps in one compiled loop, on batches that are drawn at random."""
        require_count("steps", steps)
        for name, batches in (("outer", outer), ("inner", inner)):
            if batches is not None and not isinstance(batches, Batches):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"{name} must be dini.bilevel.Batches(data, size) or None: given {type(batches).__name__}."
                )
        if key is None and (outer is not None or inner is not None):
            raise TypeError("key must be a random key, such as jax.random.key(0), for batches are drawn: given None.")
        taken = _run_compiled if _compilable(self, state, outer, inner) else _run
        return taken(self, state, steps, outer, inner, key)

    @property
    def batches(self) -> tuple[int, int]:
        """How many outer and inner batches a step uses, if it is given so many."""
        raise NotImplementedError

    def _remembered(self, theta: Tree, x: Tree, outer: Any, inner: Any) -> tuple[Any, Any]:
        """Return the first adjoint and memory."""
        raise NotImplementedError

    def _advance(self, state: State, outer: Any, inner: Any) -> State:
        """Return the next state, whatever its numbers are."""
        raise NotImplementedError


def visible(tree: Tree, direction: Tree) -> Any:
    """Return what a projection has made of a step, and NaN where the direction was not finite.

    A projection may make a finite point of a step that is not.
    """
    return trees.where(trees.all_finite(direction), tree, trees.scale(jnp.nan, tree))


def _compilable(*given: Any) -> bool:
    """Return whether a program can be kept: nothing is traced, and all are arrays."""
    return untraced() and all_arrays(given)


def _init(method: Method, theta: Tree, x: Tree, outer: Any, inner: Any) -> State:
    v, memory = method._remembered(theta, x, outer, inner)  # pyright: ignore[reportPrivateUsage]
    error = jnp.full((), jnp.inf, trees.real_dtype(theta))
    running = jnp.asarray(Status.RUNNING, jnp.int32)
    return State(theta, x, v, error, jnp.zeros((), jnp.int32), running, memory)


def _step(method: Method, state: State, outer: Any, inner: Any) -> State:
    new = method._advance(state, outer, inner)  # pyright: ignore[reportPrivateUsage]
    points = new.theta, new.x, new.v, new.error
    sound = trees.all_finite(points) & (state.status == Status.RUNNING)
    # a step that is not finite is not taken; what is remembered of it is never looked at again
    theta, x, v, error = trees.where(sound, points, (state.theta, state.x, state.v, state.error))
    status = jnp.where(sound, state.status, Status.NONFINITE).astype(jnp.int32)
    return State(theta, x, v, error, state.steps + sound.astype(jnp.int32), status, new.memory)


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


_init_compiled, _step_compiled = jax.jit(_init), jax.jit(_step)
_run_compiled = jax.jit(_run, static_argnums=2)
