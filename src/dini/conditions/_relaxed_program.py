"""The conditions of a quadratic program with relaxed complementarity, because it was asked for."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_positive
from ..protocols import AnyProblem, Quadratic
from ..trees import Tree
from ..trees.products import dot
from ._base import Condition
from ._program import units_of

#: passes of Newton's method, shares of a step that are tried in each, and the error at which it has arrived
_PASSES, _SHARES, _ARRIVED = 100, 12, 0.6


@record
class RelaxedKKT(Condition):
    r"""The KKT conditions of a :class:`dini.QuadraticProgram` on its central path: multiplier times slack is ``mu``.

    The solution stays what it is; its derivative is that of the point :math:`x_\mu` of the central path, the minimum
    with a logarithmic barrier,

    .. math:: \min_x \tfrac12 x^\top Q x + c^\top x - \mu \sum_i \log s_i \quad \text{subject to} \quad Ax = b ,

    with the slacks :math:`s` of all inequalities and bounds. In the multipliers :math:`(y, z, \nu)`, with an
    unknown's two bounds at :math:`m \pm r`,

    .. math::
        F = \begin{pmatrix} Q x + c + A^\top y + G^\top z + \nu \\ A x - b \\ G x - h + \mu / z \\
        x - m - \nu r^2 / (\mu + \sqrt{\mu^2 + \nu^2 r^2}) \end{pmatrix} ,

    where the last row is that of :math:`\nu = \mu / (u - x) - \mu / (x - l)` (:math:`x - u + \mu / \nu` with an upper
    bound alone). Its derivative is symmetric, and regular also where a multiplier is zero with its slack, or more
    constraints meet than there are unknowns. A constraint whose multiplier and slack have a product much larger
    than ``mu`` counts as in the exact derivative, up to :math:`O(\mu)`; one near a change of the active set in part.

    The point is found by Newton's method from the solution on, in arrays: for programs of up to some hundred rows.
    It exists where some point satisfies all inequalities strictly and the solutions are bounded; where it is not found
    the derivative fails as that of a singular system does.

    Parameters
    ----------
    mu
        :math:`\mu`, positive, in the units of the objective (multiplier times slack).

    Raises
    ------
    ValueError
        If ``mu`` is not positive.
    TypeError
        For a problem that is no quadratic program.

    References
    ----------
    Howell, Le Cleac'h, Kolter, Schwager, Manchester, "Dojo: a differentiable physics engine for robotics", 2022 (arXiv
    2203.00806). Tracy, Manchester, "On the differentiability of the primal-dual interior-point method", 2024 (arXiv
    2406.11749).

    Examples
    --------
    The weakly active bound of min (x - p)^2 / 2 over x >= 0 at p = 0, whose one-sided derivatives are 0 and 1. On the
    central path :math:`x = (p + \sqrt{p^2 + 4\mu}) / 2`:

    >>> import dini, jax, jax.numpy as jnp
    >>> relaxed = dini.Implicit(condition=dini.conditions.RelaxedKKT(mu=1e-4))
    >>> one = lambda c: dini.quadratic_program(Q=jnp.eye(1), c=c, lower=0.0, differentiation=relaxed)
    >>> solve = lambda p: one(jnp.array([-p])).x[0]
    >>> print(float(solve(0.0)), float(jax.grad(solve)(0.0).round(3)), float(jax.grad(solve)(1.0).round(3)))
    0.0 0.5 1.0
    """

    mu: Any
    shift: Any = field(init=False, repr=False)

    kinked = False

    def __post_init__(self) -> None:
        require_positive("RelaxedKKT's mu", self.mu)
        object.__setattr__(self, "shift", None)

    def point(self, problem: Quadratic, x: Tree) -> Any:
        """Return the point of the central path, from the solution (``problem.start(x, multipliers)``); NaN if none."""
        start, problem = jax.lax.stop_gradient((x, problem.dense))
        return _on_path(problem, start, jnp.asarray(self.mu, start.primal.dtype))

    def at(self, problem: Quadratic, x: Tree, *args: Tree) -> RelaxedKKT:
        """Return the condition with the way from ``x`` to the central path, which is a constant."""
        del args
        if not (hasattr(problem, "dense") and hasattr(x, "dual") and hasattr(problem, "G")):
            raise TypeError(f"RelaxedKKT is a condition of a QuadraticProgram: given {problem.name}.")
        shift = trees.sub(self.point(problem, x), jax.lax.stop_gradient(x))
        return self._shifted(shift)

    def settled_like(self, other: RelaxedKKT) -> RelaxedKKT:
        """Return this condition with the way of ``other``."""
        return self._shifted(other.shift)

    def _shifted(self, shift: Any) -> RelaxedKKT:
        made = dataclasses.replace(self)
        object.__setattr__(made, "shift", shift)
        return made

    def structure(self, problem: AnyProblem) -> Any:
        """Return what is known: the derivative is symmetric."""
        del problem
        return "symmetric"

    def __call__(self, problem: Quadratic, x: Tree, *args: Tree) -> Tree:
        """Return the residual, a tree like ``x``."""
        point, dual = x if self.shift is None else trees.add(x, self.shift)
        mu = jnp.asarray(self.mu, point.dtype)
        stationary, equal, left, at_bounds = problem.gradient(point), None, None, None
        if problem.A is not None:
            stationary = stationary + dot(problem.A.T, dual.equality)
            equal = dot(problem.A, point) - problem.b
        if problem.G is not None:
            z, there = dual.inequality, jnp.isfinite(problem.h)
            stationary = stationary + dot(problem.G.T, z)
            force = mu / jnp.where(there, z, 1)
            left = jnp.where(there, dot(problem.G, point) - jnp.where(there, problem.h, 0) + force, z)
        if dual.bounds is not None:
            stationary = stationary + dual.bounds
            at_bounds = _beside_bounds(problem, point, dual.bounds, mu)
        return type(x)(stationary, type(dual)(equal, left, at_bounds))


def _beside_bounds(problem: Quadratic, x: jax.Array, force: jax.Array, mu: jax.Array) -> jax.Array:
    """Return the residual of the bounds, whose multiplier is ``force``."""
    none = jnp.full(x.shape, jnp.inf, x.dtype)
    lower = -none if problem.lower is None else problem.lower
    upper = none if problem.upper is None else problem.upper
    low, up = jnp.isfinite(lower), jnp.isfinite(upper)
    l, u = jnp.where(low, lower, 0), jnp.where(up, upper, 0)
    both, one = low & up, low ^ up
    m, r = jnp.where(both, 0.5 * (l + u), 0), jnp.where(both, 0.5 * (u - l), 0)
    # a root of two zeros has no derivative, and none is needed between equal bounds
    apart = r > 0
    r = jnp.where(apart, r, 1)
    within = force * r * r / (mu + jnp.sqrt(mu * mu + force * force * r * r))
    beside = x - l - u + mu / jnp.where(one, force, 1)
    return jnp.where(both, x - m - jnp.where(apart, within, 0), jnp.where(one, beside, force))


class _Rows(NamedTuple):
    """All constraints but the equalities as rows ``C x + s = h``: which have a slack, and which have none."""

    C: jax.Array
    h: jax.Array
    live: jax.Array
    fixed: jax.Array

    @classmethod
    def of(cls, problem: Quadratic) -> _Rows:
        n, dtype = problem.c.size, problem.c.dtype
        eye = jnp.eye(n, dtype=dtype)
        parts = [(problem.G, problem.h)] if problem.G is not None else []
        parts += [(s * eye, s * v) for s, v in ((1, problem.upper), (-1, problem.lower)) if v is not None]
        C = jnp.concatenate([jnp.zeros((0, n), dtype), *(part for part, _ in parts)])
        h = jnp.concatenate([jnp.zeros(0, dtype), *(side for _, side in parts)])
        fixed = jnp.zeros(h.size, bool)
        if problem.upper is not None and problem.lower is not None:
            fixed = fixed.at[h.size - 2 * n : h.size - n].set(problem.upper == problem.lower)
            live = jnp.isfinite(h).at[h.size - 2 * n :].min(jnp.tile(problem.upper != problem.lower, 2))
        else:
            live = jnp.isfinite(h)
        return cls(C, jnp.where(live | fixed, h, 0), live, fixed)


class _Pairs(NamedTuple):
    r"""Slacks and multipliers whose products are :math:`\mu`, by one number ``d`` each.

    With a length :math:`\sigma` of each, :math:`s = \sigma (\sqrt{d^2 + 4} - d) / 2` and :math:`z = \mu / s`.
    """

    length: jax.Array
    mu: jax.Array

    def slack(self, d: jax.Array) -> jax.Array:
        larger = 0.5 * (jnp.abs(d) + jnp.sqrt(d * d + 4))
        return self.length * jnp.where(d > 0, 1 / larger, larger)

    def share(self, d: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return how much of ``d`` goes into the multiplier and into the slack; both are positive and sum up to one."""
        larger = 0.5 * (jnp.abs(d) + jnp.sqrt(d * d + 4))
        more, less = larger / (larger + 1 / larger), 1 / larger / (larger + 1 / larger)
        return jnp.where(d > 0, more, less), jnp.where(d > 0, less, more)


class _PathEquations(NamedTuple):
    """The equations of a point of the central path in ``(x, y, d)``, in units of their own, and Newton's direction.

    ``size`` holds the largest element of each row.
    """

    rows: _Rows
    Q: jax.Array
    c: jax.Array
    A: jax.Array
    b: jax.Array
    pairs: _Pairs
    mu: jax.Array
    size: jax.Array
    length: jax.Array
    slope: jax.Array

    def multipliers(self, d: jax.Array) -> jax.Array:
        """Return the multipliers of all rows."""
        return jnp.where(self.rows.live, self.mu / self.pairs.slack(d), jnp.where(self.rows.fixed, d, 0))

    def residual(self, now: tuple[jax.Array, ...]) -> jax.Array:
        """Return what is left of each equation, as a share of its unit."""
        (x, y, d), rows = now, self.rows
        stationary = dot(self.Q, x) + self.c + dot(self.A.T, y) + dot(rows.C.T, self.multipliers(d))
        left = dot(rows.C, x) - rows.h + jnp.where(rows.live, self.pairs.slack(d), 0)
        left = jnp.where(rows.live | rows.fixed, left / self.size, 0) / self.length
        return jnp.concatenate([stationary / self.slope, (dot(self.A, x) - self.b) / self.length, left])

    def direction(self, now: tuple[jax.Array, ...], rest: jax.Array) -> tuple[jax.Array, ...]:
        """Return the step of Newton's method."""
        d, rows, n, many = now[2], self.rows, self.c.size, self.b.size
        up, down = self.pairs.share(d)
        weight = jnp.where(rows.live, self.pairs.slack(d) ** 2 / self.mu, jnp.where(rows.fixed, 0, 1))
        C = jnp.where((rows.live | rows.fixed)[:, None], rows.C, 0)
        B = jnp.concatenate([self.A, C])
        corner = jnp.diag(jnp.concatenate([jnp.zeros(many, self.c.dtype), -weight]))
        own = jnp.concatenate([jnp.full(n, self.slope), jnp.full(many, self.length), self.length * self.size])
        step = _solved(jnp.block([[self.Q, B.T], [B, corner]]), -own * rest)
        dx, dw = step[:n], step[n + many :]
        # by the multiplier where that moves more, else by the slack
        by_slack = (own * rest)[n + many :] + dot(rows.C, dx)
        moved = jnp.where(up >= down, dw * self.pairs.length / (self.mu * up), by_slack / (self.pairs.length * down))
        return dx, step[n : n + many], jnp.where(rows.live, moved, jnp.where(rows.fixed, dw, 0))


def _on_path(problem: Quadratic, x: Any, mu: jax.Array) -> Any:
    """Return the point of the central path near a solution, NaN where Newton's method does not arrive."""
    units, rows = units_of(problem, x), _Rows.of(problem)
    n, dtype = x.primal.size, x.primal.dtype
    Q = jnp.zeros((n, n), dtype) if problem.Q is None else 0.5 * (problem.Q + problem.Q.T)
    A, b = (jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)) if problem.A is None else (problem.A, problem.b)
    y = jnp.zeros(0, dtype) if problem.A is None else x.dual.equality
    w = [] if problem.G is None else [x.dual.inequality]
    signs = [s for s, bound in ((1, problem.upper), (-1, problem.lower)) if bound is not None]
    w = jnp.concatenate([jnp.zeros(0, dtype), *w, *(s * x.dual.bounds for s in signs)])
    w = jnp.where(rows.fixed, w, jnp.where(rows.live, jnp.maximum(w, 0), 0))
    size = jnp.max(jnp.abs(rows.C), axis=1, initial=0)
    size = jnp.where(size > 0, size, 1)
    slack = jnp.maximum(rows.h - dot(rows.C, x.primal), 0)
    # what a slack and a multiplier are on the path where both are zero at the solution
    typical = jnp.sqrt(mu * units.length / units.slope)
    s = jnp.where(rows.live, slack + size * typical, 1)
    z = jnp.where(rows.live, w + mu / (size * typical), 1)
    pairs = _Pairs(jnp.sqrt(mu * s / z), mu)
    d = jnp.where(rows.live, w * pairs.length / mu - slack / pairs.length, w)
    path = _PathEquations(rows, Q, problem.c, A, b, pairs, mu, size, units.length, units.slope)
    (found, y, d), arrived = _newton(path, (x.primal, y, d))
    w, dual, p = path.multipliers(d), x.dual, 0 if problem.G is None else problem.h.size
    bounds = None
    for i, sign in enumerate(signs):
        bounds = (0 if bounds is None else bounds) + sign * w[p + i * n : p + (i + 1) * n]
    dual = type(dual)(
        None if dual.equality is None else y,
        None if dual.inequality is None else w[:p],
        None if dual.bounds is None else bounds,
    )
    return jax.tree.map(lambda part: jnp.where(arrived, part, jnp.nan), type(x)(found, dual))


def _newton(path: _PathEquations, start: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Return where Newton's method with shares of its steps comes to, and whether that is a solution."""
    dtype = path.c.dtype
    shares = 0.5 ** jnp.arange(_SHARES, dtype=dtype)

    def step(now: Any) -> Any:
        count, at, rest, _ = now
        to = path.direction(at, rest)
        trials = jax.vmap(lambda t: jax.tree.map(lambda u, du: u + t * du, at, to))(shares)
        rests = jax.vmap(path.residual)(trials)
        sizes = jnp.max(jnp.abs(rests), axis=1)
        best = jnp.argmin(jnp.where(jnp.isfinite(sizes), sizes, jnp.inf))
        falls = sizes[best] < 0.99 * jnp.max(jnp.abs(rest))
        pick = lambda new, old: jnp.where(falls, new[best], old)
        return count + 1, jax.tree.map(pick, trials, at), pick(rests, rest), falls

    going = lambda now: now[3] & (now[0] < _PASSES)
    first = (jnp.zeros((), jnp.int32), start, path.residual(start), jnp.asarray(True))
    _, found, rest, _ = jax.lax.while_loop(going, step, first)
    return found, jnp.max(jnp.abs(rest)) <= jnp.finfo(dtype).eps ** _ARRIVED


def _solved(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solve a symmetric system whose rows are of unlike units, with one step of refinement."""
    scales = jnp.ones_like(right)
    for _ in range(2):
        size = jnp.max(jnp.abs(matrix) * scales[:, None] * scales[None, :], axis=1)
        scales = scales / jnp.sqrt(jnp.where((size > 0) & jnp.isfinite(size), size, 1))
    factor = jax.scipy.linalg.lu_factor(matrix * scales[:, None] * scales[None, :], check_finite=False)
    solve = lambda r: scales * jax.scipy.linalg.lu_solve(factor, scales * r, check_finite=False)
    v = solve(right)
    return v + solve(right - dot(matrix, v))
