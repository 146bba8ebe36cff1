r"""What the methods that enclose roots of scalar functions share.

With the last point ``a``, the end ``b`` on the other side of the root, and the share ``t`` that the method chooses,

.. math::
    \begin{aligned}
    x &= a + t (b - a), \qquad (1) \\
    (a, b, c) &\leftarrow \begin{cases} (x, b, a) & \text{where } f(x) \text{ has the sign of } f(a), \\
    (x, a, b) & \text{else,} \end{cases} \qquad (2)
    \end{aligned}

where ``c`` is the point that the bracket has lost. The error is half the width of the widest bracket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ... import trees
from ...checks.settings import require_ordered
from ...loop import threshold, tolerances
from ...numerics.separable import map_with, require_broadcast
from ...problems import FixedPoint, Root
from ...protocols import AnyProblem, Equations
from ...status import Status
from ...trees import Scalar, Tree
from .._base import Solver, infinity, running


class State(NamedTuple):
    """Carried from step to step, as vectors with one element for each scalar equation.

    ``a`` is the last point, ``b`` the one on the other side of the root, ``c`` the one before; with their values.
    ``fell`` holds the first difference of the values at the ends, and the width and the difference when it last halved.
    ``extent`` is the larger end of the first bracket, ``scales`` what the loop looks at.
    """

    error: Scalar
    a: Any
    b: Any
    c: Any
    at_a: Any
    at_b: Any
    at_c: Any
    fell: Any
    trial: Tree
    extent: Any
    scales: Any
    steps: Scalar
    status: Any


@dataclass(frozen=True)
class Bracketing(Solver):
    """Base of the bracketing methods: each element of the unknown is one scalar equation; all are solved together."""

    lower: Any
    upper: Any
    max_steps: int = field(default=200, metadata={"static": True})

    solves = (Root, FixedPoint)
    tests_elements = True
    superlinear = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)

    def _check_settings(self, tol: Any = None) -> None:
        super()._check_settings(tol)
        ends = jax.tree.leaves(self.lower), jax.tree.leaves(self.upper)
        for low, high in zip(*ends, strict=False):
            require_ordered(f"{self.name}'s lower", low, "upper", high)

    def check(self, problem: AnyProblem, x: Tree) -> None:
        """Raise unless the ends of the brackets fit the unknown."""
        super().check(problem, x)
        for name in ("lower", "upper"):
            require_broadcast(self.name, name, getattr(self, name), x)

    def init(self, problem: AnyProblem, x: Tree, *args: Tree) -> State:
        """Return the state before the first two steps, which evaluate the function at the ends."""
        del problem, args
        inf = infinity(x)
        low, high = (
            ravel_pytree(map_with(lambda u, end: jnp.broadcast_to(end, u.shape), x, end))[0].astype(inf.dtype)
            for end in (self.lower, self.upper)
        )
        nothing, steps = jnp.zeros_like(low), jnp.zeros((), jnp.int32)
        extent = jnp.maximum(jnp.abs(low), jnp.abs(high))
        return State(
            inf, high, low, low, nothing, nothing, nothing, jnp.stack([nothing] * 3), low, extent,
            jnp.zeros(2, inf.dtype), steps, running(),
        )  # fmt: skip

    def readings(self, x: Tree, state: State) -> dict[str, Any]:
        """Return the two ends as ``bracket`` (the last point first), and ``bracket_values``."""
        unravel = ravel_pytree(x)[1]
        ends = unravel(state.a), unravel(state.b)
        return super().readings(x, state) | {
            "bracket": ends,
            "bracket_values": (unravel(state.at_a), unravel(state.at_b)),
        }

    def _propose(self, state: State, tol: Any) -> Any:
        """Return how far the next trial lies on the way from ``a`` to ``b``."""
        raise NotImplementedError

    @staticmethod
    def _continuity(now: State, width: Any, start: Any) -> tuple[Any, Any]:
        """Return the new ``fell``, and where the function changes sign without passing through zero.

        The values at the ends of a bracket come together as it shrinks where the function is continuous, however
        slowly. Where their difference grows, or has not halved on a bracket a hundred times narrower, there is a pole
        or a jump, or a step so steep that a narrower bracket has to resolve it. Differences at the level of rounding,
        beside the first one, say nothing.
        """
        difference = jnp.abs(now.at_a - now.at_b)
        first, wide, last = now.fell
        first = jnp.where(start, difference, first)
        # late, by more: at a jump, a trial may find the value between
        halved = start | (difference <= jnp.where(width < 1e-2 * wide, 0.25, 0.5) * last)
        wide, last = jnp.where(halved, width, wide), jnp.where(halved, difference, last)
        broken = (width < 1e-2 * wide) | (difference > last)
        broken = broken & (width > 0) & (difference > trees.eps(difference) ** 0.5 * first)
        return jnp.stack([first, wide, last]), broken

    @staticmethod
    def _coupled(problem: Equations, unravel: Any, best: Any, now: State, done: Any, args: Any) -> Any:
        """Return whether the values at the end are not those that were found for each element on its own."""

        def differs(_: Any) -> Any:
            values = ravel_pytree(problem.residual(unravel(best), *args))[0].astype(now.at_a.dtype)
            known = jnp.where(jnp.abs(now.at_a) <= jnp.abs(now.at_b), now.at_a, now.at_b)
            first = jnp.maximum(now.fell[0], jnp.abs(now.at_a - now.at_b))
            return jnp.any(~(jnp.abs(values - known) <= trees.eps(best) ** 0.5 * first))

        return jax.lax.cond(done, differs, lambda _: jnp.asarray(False), None)

    def step(self, problem: Equations, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Evaluate the function at one point of each bracket."""
        dtype, k = state.error.dtype, state.steps
        flat, unravel = ravel_pytree(x)
        values = ravel_pytree(problem.residual(unravel(state.trial.astype(flat.dtype)), *args))[0].astype(dtype)
        now = _narrowed(state, values)
        best = jnp.where(jnp.abs(now.at_a) <= jnp.abs(now.at_b), now.a, now.b)
        found = (now.at_a == 0) | (now.at_b == 0)
        # where the root is zero, the bracket says what is small
        size = jnp.maximum(jnp.abs(best), trees.eps(x) ** 0.25 * state.extent)
        width = jnp.where(found, 0, jnp.abs(now.b - now.a))
        fell, broken = self._continuity(now, width, k == 1)
        enclosed = jnp.all(found | (jnp.sign(now.at_a) != jnp.sign(now.at_b)))
        # a narrow bracket without a root is not a solution
        half = 0.5 * jnp.where(broken, fell[1], width)
        error = jnp.where((k == 0) | ~enclosed, jnp.inf, jnp.max(half)).astype(dtype)
        error = jnp.where(jnp.all(jnp.isfinite(values)), error, jnp.nan)
        scale = self._scale(half, size)
        scales = jnp.stack([scale, jnp.zeros_like(scale)])
        rtol, atol = tolerances(self, x)
        share = jnp.asarray(self._propose(now, rtol * size + atol), dtype)
        # (1): t = share, x = trial
        trial = now.a + share * (now.b - now.a)
        # the caller's starting point is the first inner trial where it lies inside
        inside = (flat - now.a.astype(flat.dtype)) * (flat - now.b.astype(flat.dtype)) < 0
        trial = jnp.where((k == 1) & inside, flat.astype(dtype), trial)
        trial = jnp.where(found, best, jnp.where(k == 0, now.trial, trial))
        status = jnp.where((k == 1) & ~enclosed, Status.NO_BRACKET, state.status)
        # no trial has to hit the pole itself
        narrow = jnp.all(width <= jnp.where(broken, 64, 4) * trees.eps(x) * size) & (k > 1) & ~jnp.all(found)
        end = jnp.where(jnp.any(broken), Status.DISCONTINUOUS, Status.STALLED)
        status = jnp.where(narrow, end, status).astype(jnp.int32)
        if best.size > 1:
            met = error <= threshold(self, x, scales)
            coupled = self._coupled(problem, unravel, best.astype(flat.dtype), now, met, args)
            error = jnp.where(coupled, state.error, error)
            status = jnp.where(coupled, Status.CONDITION, status).astype(jnp.int32)
        now = now._replace(error=error, fell=fell, trial=trial, scales=scales.astype(dtype), steps=k + 1, status=status)
        return trees.where(k == 0, x, unravel(best.astype(flat.dtype))), now

    @staticmethod
    def _scale(half: Any, size: Any) -> Any:
        """Return the scale of the error: each element is measured by its own size."""
        relative = jnp.max(jnp.where(half > 0, half / jnp.where(size > 0, size, 1), 0))
        return jnp.where(relative > 0, jnp.max(half) / jnp.where(relative > 0, relative, 1), jnp.max(size))

    def differentiable_step(self, problem: Equations, x: Tree, state: State, *args: Tree) -> Any:
        """Return one Newton step, elementwise."""
        del state
        values, slopes = jax.jvp(lambda u: problem.residual(u, *args), (x,), (jax.tree.map(jnp.ones_like, x),))
        return jax.tree.map(lambda u, f, slope: u - f / slope, x, values, slopes)


def _narrowed(state: State, values: Any) -> State:
    """Return the brackets after an evaluation at the last trial (2); the first two are at the ends.

    The new point takes the place of the end on its side; the end that is left goes to ``c``.
    """
    same = jnp.sign(values) == jnp.sign(state.at_a)
    other = lambda near, far: jnp.where(same, near, far)
    # (2)
    moved = state._replace(
        a=state.trial, b=other(state.b, state.a), c=other(state.a, state.b), at_a=values,
        at_b=other(state.at_b, state.at_a), at_c=other(state.at_a, state.at_b), trial=state.trial,
    )  # fmt: skip
    lowest = state._replace(at_b=values, at_c=values, b=state.trial, c=state.trial, trial=state.a)
    highest = state._replace(at_a=values)
    return trees.where(state.steps == 0, lowest, trees.where(state.steps == 1, highest, moved))
