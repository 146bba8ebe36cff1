"""A user's check of one gradient."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import trees
from ..differentiation import Differentiation, Implicit, Unrolled
from ..entry import Problem
from ..explanations import explained
from ..explanations.arguments import CHECKED
from ..solvers import Solver
from ..solving import solve


@dataclass(frozen=True)
class GradientCheck:
    """The outcome of :func:`check_gradient`.

    Attributes
    ----------
    rows
        One dictionary a direction: the directional derivative of a random linear function of the solution by each
        method.
    tolerance
        Relative disagreement that counts as an error.
    """

    rows: tuple[dict[str, float], ...]
    tolerance: float

    def error(self, method: str) -> float:
        """Return the largest relative disagreement of a method with finite differences."""
        errors = []
        for row in self.rows:
            scale = max(
                abs(row["finite differences"]), max(abs(r["finite differences"]) for r in self.rows) * 1e-3, 1e-12
            )
            errors.append(abs(row[method] - row["finite differences"]) / scale)
        return float(np.max(errors))  # NaN if one is

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods compared with finite differences."""
        return tuple(name for name in self.rows[0] if name not in ("finite differences", "uncertainty"))

    @property
    def wrong(self) -> tuple[str, ...]:
        """The methods that disagree with finite differences."""
        return tuple(name for name in self.methods if not self.error(name) <= self.tolerance)

    @property
    def ok(self) -> bool:
        """Whether every method agrees."""
        return not self.wrong

    def __str__(self) -> str:
        width = max(len(name) for name in self.rows[0])
        lines = []
        for name in ("finite differences", *self.methods):
            values = "  ".join(f"{row[name]: .8e}" for row in self.rows)
            verdict = "" if name == "finite differences" else f"  error {self.error(name):.1e}"
            mark = "  <- disagrees" if name in self.wrong else ""
            lines.append(f"{name:<{width}}  {values}{verdict}{mark}")
        uncertainty = max(row["uncertainty"] for row in self.rows)
        lines.append(f"{'':<{width}}  (relative uncertainty of the finite differences {uncertainty:.1e})")
        if any(np.isnan(list(row.values())).any() for row in self.rows):
            lines.append(f"{'':<{width}}  (nan: a solve, or the linear system of a derivative, failed)")
        return "\n".join(lines)


@explained
def check_gradient(
    problem: Problem,
    solver: Any,
    init: Any,
    *args: Any,
    differentiation: Differentiation | None = None,
    unrolled: bool = True,
    directions: int = 3,
    step: float = 1e-4,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> GradientCheck:
    """Compare the derivative of a solution with finite differences, on your own problem and point.

    A random linear function of the solution is differentiated along random directions of all parameters (``args`` and
    the arrays in the problem) at once: by ``differentiation`` in forward and in reverse mode, by unrolling, and by
    central differences of solves at two step sizes. Everything is computed in float64, with the solver's tolerance
    lowered to ``1e-11``.

    Parameters
    ----------
    problem, solver, init, *args
        As for :func:`dini.solve`.
    differentiation
        The mode to check. Default: :class:`dini.Implicit`.
    unrolled
        Whether to unroll, too.
    directions
        Number of random directions.
    step
        Step of the finite differences, relative to the size of the parameters.
    tolerance
        Relative disagreement that counts as an error.
    seed
        Of the random directions.

    Raises
    ------
    TypeError
        For a function in place of a problem, or without a solver and a starting point.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from dini.testing import check_gradient
    >>> problem = dini.Root(lambda x, a: x**3 + x - a)
    >>> report = check_gradient(problem, dini.Newton(), 1.0, 9.9)
    >>> report.ok
    True
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a Minimize, LeastSquares, Root or the like: given {problem!r}. {CHECKED}")
    mode = Implicit() if differentiation is None else differentiation
    with jax.enable_x64(True):
        widen = lambda leaf: jnp.asarray(np.asarray(leaf)).astype(_wide(leaf)) if trees.is_inexact(leaf) else leaf
        problem, init, args = jax.tree.map(widen, (problem, init, args))
        given = [each for each in (getattr(solver, name, 0.0) for name in ("rtol", "atol")) if each is not None]
        if not given or all(isinstance(each, float) and each > 1e-11 for each in given):
            solver = dataclasses.replace(solver, rtol=1e-11, atol=None)
        base, merge = trees.parted((problem, args), trees.is_inexact)
        base = list(map(jnp.asarray, base))
        rng = np.random.default_rng(seed)

        def value(some: list[Any], differentiation: Any) -> Any:
            problem, args = merge(some)
            # a solve that fails has no derivative to be compared
            x = solve(problem, solver, init, *args, differentiation=differentiation, on_failure="nan").x
            return sum((jnp.vdot(w, u).real for w, u in zip(weights, jax.tree.leaves(x), strict=True)), jnp.zeros(()))

        shapes = jax.tree.leaves(jax.tree.map(jnp.asarray, init))
        weights = [_random(rng, leaf) for leaf in shapes]
        reverse = jax.grad(lambda some: value(some, mode))(base)
        rows = []
        for _ in range(directions):
            t = [_random(rng, leaf) for leaf in base]
            scale = max(1.0, max((float(jnp.max(jnp.abs(b))) for b in base if b.size), default=1.0))

            def along(h: float, t: Any = t) -> float:
                ahead = [b + h * d for b, d in zip(base, t, strict=True)]
                return float(value(ahead, mode))

            h = step * scale
            coarse, fine = (along(h) - along(-h)) / (2 * h), (along(h / 2) - along(-h / 2)) / h
            row = {
                "finite differences": (4 * fine - coarse) / 3,
                "forward mode": float(jax.jvp(lambda some: value(some, mode), (base,), (t,))[1]),
                "reverse mode": float(sum(jnp.sum((g * d).real) for g, d in zip(reverse, t, strict=True))),
            }
            if unrolled and isinstance(solver, Solver) and solver.takes_steps:
                row["unrolled"] = float(jax.jvp(lambda some: value(some, Unrolled()), (base,), (t,))[1])
            row["uncertainty"] = abs(fine - coarse) / max(abs(fine), 1e-12)
            rows.append(row)
    return GradientCheck(tuple(rows), tolerance)


def _wide(leaf: Any) -> Any:
    return jnp.complex128 if jnp.iscomplexobj(leaf) else jnp.float64


def _random(rng: np.random.Generator, leaf: jax.Array) -> jax.Array:
    draw = rng.standard_normal(leaf.shape)
    if jnp.iscomplexobj(leaf):
        return jnp.asarray(draw + 1j * rng.standard_normal(leaf.shape))
    return jnp.asarray(draw)
