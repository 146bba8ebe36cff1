r"""What a claim of a minimum must stand: the one look at the objective where a run ends.

A solver stops where what it sees is small: a gradient beside the curvature of its steps. Two things it cannot see, and
they are looked for here, once, at the point that it is about to call a minimum.

**Unlike units.** A gradient sees little of an element whose unit is a millionth of the others', and steps along the
gradient show nothing of its curvature. Let :math:`w_i` be the curvature of each element beside all others, the row norm
that a symmetric scaling makes equal,

.. math:: \sum_j (H_{ij})^2 / (w_i w_j) = 1 , \qquad (1)

which a few products of the Hessian with random signs find (Bradley and Murray). The step of steepest descent with every
element in its own unit, :math:`p_i = -g_i / w_i`, and its length by the curvature along it,

.. math:: \alpha = -g^\top p / p^\top H p , \qquad (2)

do not depend on the units of the elements. If the objective at :math:`x + \alpha p` is lower than at ``x`` by more than

.. math:: \text{rtol} \cdot \max\Big(f(x_0) - f(x),\; \tfrac{1}{2} \sum_i w_i x_i^2\Big) , \qquad (3)

what the run has gained and what the point itself weighs, then ``x`` is no minimum to that tolerance. Since a lower
point is shown, no solution is refused by an estimate that is off.

**No minimum.** A function that falls for ever, as :math:`e^{-x}` does, has a gradient that vanishes as well. Let
:math:`v = x - x_0` be the way from the start, and ``q`` its elements that nothing holds any more,
:math:`|v_i (H v)_i| \le \delta (f(x_0) - f(x))`. Where the way of these elements was worth something,
:math:`\Delta = f(x - q) - f(x)`, and the objective is no higher at :math:`x + q`, the way is looked at: an end that is
reached at :math:`t_e` is approached as :math:`(t_e - t)^k`, so that the last hundredth and the last ten-thousandth of
the gain are left at nearly the same place. Of a function that only tends to its bound, the second lies farther out by a
factor: 2 for an exponential, 1.4 for a Gaussian, 100 for :math:`1/x`.

References
----------
Bradley and Murray, "Matrix-free approximate equilibration", 2011.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from . import trees
from .functions.costs import cost
from .problems import LeastSquares, Minimize
from .sets._boxes import bounds_of, has_bounds
from .status import Status
from .trees import Tree

#: products that find the units: each takes the square root of what is wrong with them, and 24 decades become a third
ROUNDS = 6
#: the share of a gain, or of a slope, that counts as nothing
NOTHING = 1e-6
#: a difference of two values is known to so many units of rounding
ROUNDING = 32
#: what is left of a gain at the two places that are compared, and the factor between these
LEFT = (1e-2, 1e-4)
FARTHER = 1.35
#: halvings, on a logarithmic scale of the way, that find a place; where the search begins
_HALVINGS, _NEAREST = 12, 1e-9


def status(problem: Any, solver: Any, rtol: Any, start: Tree, end: Any, args: tuple[Tree, ...]) -> Any:
    """Return the status of an end, where ``CONVERGED`` stays only where the claim stands.

    ``UNLIKE_UNITS`` takes its place where a step in the elements' own units leads further down, ``DIVERGED`` where the
    function has no minimum where it was followed. Of objectives that have no products with their Hessian, or that hold
    a loop of unknown length (a solve, say), nothing is seen. Solvers of residuals have a test of their own, of what a
    Gauss-Newton step promises.
    """
    if not isinstance(problem, Minimize | LeastSquares) or Minimize not in getattr(solver, "solves", ()):
        return end.status
    if getattr(problem, "penalty", None) is not None:
        return end.status
    if problem.constraint is not None and not has_bounds(problem.constraint):
        return end.status
    x, start, args = jax.lax.stop_gradient((end.x, start, args))
    program = _linearized(lambda u: problem.gradient(u, *args), x)
    if program is None:
        return end.status
    claimed = (end.status == Status.CONVERGED) & trees.all_finite(x)
    fine = lambda: jnp.asarray(Status.CONVERGED, jnp.int32)
    seen = jax.lax.cond(claimed, lambda: _seen(problem, program, rtol, start, x, args), fine)
    return jnp.where(claimed, seen, end.status).astype(jnp.int32)


def _linearized(gradient: Any, x: Tree) -> Any:
    """Return the gradient and its derivative's product as one program, unless there is none or it is too dear."""
    try:
        both, shape = jax.make_jaxpr(lambda u, v: jax.jvp(gradient, (u,), (v,)), return_shape=True)(x, x)
    except Exception:  # no forward mode: a call of the host, say, or a rule for reverse mode only
        return None
    if cost(both.jaxpr, [True] * len(both.jaxpr.invars)).unbounded:
        return None
    tree = jax.tree.structure(shape)
    return lambda *at: jax.tree.unflatten(tree, jax.core.eval_jaxpr(both.jaxpr, both.consts, *jax.tree.leaves(at)))


class _Curvature(NamedTuple):
    """What products with the Hessian have shown; a loop's carry."""

    #: (1), as the factors of a scaling, which are one where no product has reached
    scales: Tree
    #: the step of steepest descent in the elements' own units, the slope and the curvature along it
    down: Tree
    slope: Any
    bend: Any
    #: the last direction times its product, element by element: at the end, that of the way from the start
    parts: Tree


def _curvature(program: Any, x: Tree, way: Tree, bounds: Any) -> _Curvature:
    """Return what products with random signs, down and along the way show.

    They are steps of one loop, since a program is compiled as often as it is written down.
    """
    dtype = trees.real_dtype(x)

    def fit(s: Any, v: Any) -> Any:
        row = s * jnp.abs(v).astype(dtype)
        known = (row > 0) & jnp.isfinite(row)
        return jnp.where(known, s * jax.lax.rsqrt(jnp.where(known, row, 1)), s)

    def descent(g: Any, s: Any, u: Any, low: Any = -jnp.inf, high: Any = jnp.inf) -> Any:
        held = (s == 1) | ((u <= low) & (g > 0)) | ((u >= high) & (g < 0))
        return jnp.where(held, 0, -g * jnp.square(s)).astype(g.dtype)

    def one(k: Any, now: _Curvature) -> _Curvature:
        signs = jax.tree.map(lambda s, z, u: (s * z).astype(u.dtype), now.scales, _signs(x, k), x)
        along = trees.where(k < ROUNDS, signs, trees.where(k == ROUNDS, now.down, way))
        gradient, product = program(x, along)
        scales = trees.where(k < ROUNDS, jax.tree.map(fit, now.scales, product), now.scales)
        down = jax.tree.map(descent, gradient, scales, x, *(bounds or ()))
        bend = jnp.where(k <= ROUNDS, trees.vdot(along, product), now.bend)
        return _Curvature(scales, down, -trees.vdot(gradient, down), bend, jax.tree.map(jnp.multiply, along, product))

    zero, none = trees.zeros_like(x), jnp.zeros((), dtype)
    fresh = _Curvature(jax.tree.map(lambda u: jnp.ones(u.shape, dtype), x), zero, none, none, zero)
    return jax.lax.fori_loop(0, ROUNDS + 2, one, fresh)


def _signs(x: Tree, k: Any) -> Any:
    """Return a vector of plus and minus ones like ``x``, another one for each ``k``."""

    def one(u: Any) -> jax.Array:
        i = jnp.arange(1, u.size + 1, dtype=jnp.uint32).reshape(u.shape) * jnp.uint32(2654435761)
        i = (i ^ (i >> 15) ^ (jnp.asarray(k, jnp.uint32) * jnp.uint32(40503))) * jnp.uint32(2246822519)
        return jnp.where((i ^ (i >> 13)) >> 31, -1.0, 1.0)

    return jax.tree.map(one, x)


def _seen(problem: Any, program: Any, rtol: Any, start: Tree, x: Tree, args: tuple[Tree, ...]) -> Any:
    """Return the status that the curvature at a point leaves, and values of the objective at a few others.

    These are the start, the point, the end of the step down, and both ends of the way that nothing holds; halvings
    between two places of it follow where these may show something.
    """
    dtype = trees.real_dtype(x)
    bounds = None if problem.constraint is None else bounds_of(problem.constraint, x)
    way = trees.sub(x, start)
    found = _curvature(program, x, way, bounds)
    # (2); along a direction without positive curvature, one step in the elements' own units
    alpha = jnp.where(found.bend > 0, found.slope / jnp.where(found.bend > 0, found.bend, 1), 1)
    shares = jnp.asarray([[-1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], dtype)

    def value(f: Any, share: Any) -> Any:
        loose = lambda v, part: jnp.where(jnp.abs(part) <= NOTHING * (f[0] - f[1]), v, 0)
        point = trees.axpy(share[0], way, trees.axpy(share[1] * alpha, found.down, x))
        point = trees.axpy(share[2], jax.tree.map(loose, way, found.parts), point)
        point = point if bounds is None else jax.tree.map(jnp.clip, point, *bounds)
        return problem.value(point, *args).astype(dtype)

    def blur(f: Any) -> Any:
        return ROUNDING * jnp.finfo(dtype).eps * jnp.maximum(jnp.abs(f[0]), jnp.abs(f[1]))

    def unheld(f: Any) -> Any:
        worth = f[3] - f[1]
        return (worth > blur(f) / LEFT[1]) & (f[4] - f[1] <= LEFT[0] * worth)

    def step(now: Any) -> Any:
        k, f, ends = now
        place = (k - len(shares)) // _HALVINGS
        middle = jnp.sqrt(jnp.prod(ends[place]))
        halves = k >= len(shares)
        f_k = value(f, jnp.where(halves, jnp.stack([0 * middle, 0 * middle, middle - 1]), shares[k]))
        above = f_k - f[1] > jnp.asarray(LEFT, dtype)[place] * (f[3] - f[1])
        ends = ends.at[jnp.where(halves, place, 2), jnp.where(above, 0, 1)].set(middle, mode="drop")
        return k + 1, f.at[k].set(f_k, mode="drop"), ends

    def going(now: Any) -> Any:
        k, f, _ = now
        return (k < len(shares)) | ((k < len(shares) + 2 * _HALVINGS) & unheld(f))

    nothing = (
        jnp.zeros((), jnp.int32),
        jnp.zeros(len(shares), dtype),
        jnp.asarray([[_NEAREST, 1], [_NEAREST, 1]], dtype),
    )
    _, f, ends = jax.lax.while_loop(going, step, nothing)
    weight = jax.tree.map(lambda s, u: jnp.sum(jnp.square(jnp.where(s == 1, 0, u.astype(dtype) / s))), found.scales, x)
    own = 0.5 * trees.total(jax.tree.leaves(weight))
    # (3)
    unlike = f[1] - f[2] > jnp.where(rtol > 0, rtol, jnp.inf) * jnp.maximum(f[0] - f[1], own) + blur(f)
    seen = jnp.where(unlike, Status.UNLIKE_UNITS, Status.CONVERGED)
    return jnp.where(unheld(f) & (ends[1, 1] > FARTHER * ends[0, 1]), Status.DIVERGED, seen).astype(jnp.int32)
