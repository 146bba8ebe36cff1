r"""Intersections of sets, each given by its projection.

At the projection ``x`` of ``y`` there are *increments* :math:`p_i`, normal to :math:`C_i` at ``x``, that add up to what
is taken off:

.. math:: x = y - \sum_i p_i, \qquad x = \Pi_i(x + p_i) \quad\text{for every } i .

Dykstra's method is block coordinate ascent on the dual problem in the increments. It always converges to the
projection, but slowly. Newton's method on these equations is fast, once it is near.

**The linear system of both Newton's method and the derivative.** Let :math:`D_i` be the Jacobian of :math:`\Pi_i` at
:math:`x + p_i`, which is symmetric with eigenvalues in [0, 1], and :math:`b_i` what the parameters of :math:`C_i` (or
an error of the equation) move there. With :math:`w_i = \dot x + \dot p_i`, the equations say
:math:`\dot p_i = (I - D_i) w_i - b_i` and :math:`\dot y - \sum_j \dot p_j = D_i w_i + b_i`. Multiplied by
:math:`I - D_i`, this is

.. math:: (I - D_i) \sum_j (I - D_j) w_j + (I - D_i) D_i w_i = (I - D_i) (\dot y + \sum_{j \ne i} b_j),

a symmetric positive semidefinite system, whose diagonal blocks are :math:`I - D_i`. Where normals of several sets are
dependent it is singular: the increments are not unique, but :math:`\dot x` is.

**From far away** the digits of the sets are lost in comparison with those of ``y`` and of the increments. But on the
ray from ``x`` through ``y`` all points have the same projection, with increments in proportion: :math:`x + \tau (y -
x)` has :math:`\tau p_i`. So with an estimate of ``x`` the projection is found again from a closer point, until it
stays. The Jacobian of a polyhedral set is the same at :math:`x + \tau p_i` as at :math:`x + p_i`, and its :math:`b_i`
is affine in :math:`\tau`; those of a curved set are taken at :math:`x + p_i`. There the system is nearly singular,
since :math:`D_i` vanishes: that does no harm to a derivative in ``y``, but where it leaves no digits of one in a
parameter, this is NaN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.flatten_util import ravel_pytree

from .. import linear, trees
from ..checks.records import record
from ..checks.settings import require_count, require_positive
from ..status import SolveError, Status
from ..trees import Tree
from ..trees.products import vdot
from ._base import Set, believed
from ._bounds import NonNegative
from ._cones import Cone
from ._order import IsotonicCone
from ._scalar import norm

#: sweeps of Dykstra's method between two trials of a Newton step
_SWEEPS = 4
#: a point further away than ``eps**-_FAR`` times the size of the projection is moved closer, to ``_NEAR`` times
_FAR, _NEAR = 0.4, 64
#: sweeps for an estimate from further away
_ROUGH = 40


@dataclass(frozen=True)
class _ConjugateResiduals:
    """Conjugate residuals for positive semidefinite maps: a least-squares solution where the map is singular.

    Only products of residuals enter its coefficients, so that a part of the right-hand side which no solution reaches
    does no harm.
    """

    rtol: float
    least_squares = True

    def __call__(self, matvec: Any, b: jax.Array, structure: Any) -> tuple[jax.Array, jax.Array]:
        """Return the solution and whether it is finite."""
        del structure
        w = _conjugate_residuals(matvec, b, self.rtol)
        return w, ~jnp.all(jnp.isfinite(w))

    def accept(self, eps: float) -> float:
        """Return how much of a residual, relative to the map's size, another solution may remove."""
        return eps**0.5


def _conjugate_residuals(matvec: Any, b: jax.Array, rtol: float) -> jax.Array:
    image = matvec(b)
    energy = vdot(b, image)
    target = rtol**2 * energy

    def body(carry: Any) -> Any:
        count, w, r, s, Ar, As, rAr = carry
        step = rAr / vdot(As, As)
        w, r = w + step * s, r - step * As
        Ar = matvec(r)
        new = vdot(r, Ar)
        ratio = new / rAr
        return count + 1, w, r, r + ratio * s, Ar, Ar + ratio * As, new

    start = (jnp.zeros((), jnp.int32), jnp.zeros_like(b), b, b, image, image, energy)
    running = lambda carry: (carry[0] < b.size + 10) & (carry[-1] > target) & (carry[-1] > 0)
    return jax.lax.while_loop(running, body, start)[1]


def _flat(part: Any, unravel: Callable[[jax.Array], Any]) -> Callable[[jax.Array], jax.Array]:
    return lambda z: ravel_pytree(part.project(unravel(z)))[0]


def _system(complements: list[Any]) -> Any:
    """Return the matrix-vector product of the system above, for functions that multiply by ``I - D_i``."""

    def matvec(w: jax.Array) -> jax.Array:
        parts = [outside(w[i]) for i, outside in enumerate(complements)]
        total = trees.total(parts)
        # (I - D) D w is (I - D) w less (I - D)^2 w
        return jnp.stack([outside(total + w[i] - parts[i]) for i, outside in enumerate(complements)])

    return matvec


def _moved(complements: list[Any], solve: Any, dy: jax.Array, b: jax.Array) -> jax.Array:
    """Return how the increments move."""
    others = (dy + jnp.sum(b, axis=0))[None, :] - b
    right = jnp.stack([outside(others[i]) for i, outside in enumerate(complements)])
    w = solve(_system(complements), right)
    return jnp.stack([outside(w[i]) for i, outside in enumerate(complements)]) - b


def _complement(derivative: Any) -> Any:
    return lambda t: t - derivative(t)


def _scale(tol: float, y: jax.Array, now: jax.Array) -> jax.Array:
    """Return what an error at a point is measured by: the point's size, or rounding errors of the projected one."""
    scale = jnp.maximum(norm(now), 4 * jnp.finfo(y.dtype).eps / tol * norm(y))
    return jnp.where(scale > 0, scale, 1)


class _Found(NamedTuple):
    """The projection, with the increments of a point that is closer by a ratio, and how it was found.

    The error is the largest distance from a set in units of the scale; the projection has converged if it stayed where
    it was as points came closer.
    """

    x: jax.Array
    increments: jax.Array
    ratio: jax.Array
    error: jax.Array
    sweeps: jax.Array
    converged: jax.Array


def _cones(parts: tuple[Any, ...]) -> bool:
    """Return whether all sets are known to be cones, whose intersection looks alike from everywhere."""
    return all(isinstance(part, Cone | NonNegative | IsotonicCone) for part in parts)


@partial(jax.jit, static_argnums=(0, 1))
def _dykstra(tol: float, max_steps: int, parts: tuple[Any, ...], x: Tree) -> _Found:
    y, unravel = ravel_pytree(x)
    projections = [_flat(part, unravel) for part in parts]
    dtype, eps = y.dtype, float(jnp.finfo(y.dtype).eps)
    solve = partial(_conjugate_residuals, rtol=eps**0.75)
    size = lambda residual: jnp.max(jax.vmap(norm)(residual))

    def far(now: jax.Array, away: jax.Array) -> jax.Array:
        return away > eps**-_FAR * (norm(now) + 4 * eps * away)

    def search(target: jax.Array, p: jax.Array, count: jax.Array) -> Any:
        """Return the sweeps in all, increments of a target, and the largest distance from a set."""

        def sweep(_: Any, p: jax.Array) -> jax.Array:
            now = target - jnp.sum(p, axis=0)
            for i, project in enumerate(projections):
                z = now + p[i]
                now = project(z)
                p = p.at[i].set(z - now)
            return p

        def errors(p: jax.Array) -> tuple[jax.Array, list[Any]]:
            now = target - jnp.sum(p, axis=0)
            pairs = [jax.linearize(project, now + p[i]) for i, project in enumerate(projections)]
            return now[None, :] - jnp.stack([value for value, _ in pairs]), [
                _complement(derivative) for _, derivative in pairs
            ]

        def body(carry: Any) -> Any:
            count, p, _ = carry
            p = jax.lax.fori_loop(0, _SWEEPS, sweep, p)
            residual, complements = errors(p)
            newton = p + _moved(complements, solve, jnp.zeros_like(y), -residual)
            here, there = size(residual), size(errors(newton)[0])
            # a step that is not finite is no better, either
            better = there < 0.5 * here
            return count + _SWEEPS, jnp.where(better, newton, p), jnp.where(better, there, here)

        def going(carry: Any) -> jax.Array:
            swept, p, missed = carry
            now = target - jnp.sum(p, axis=0)
            # from far away, where rounding errors may allow no better, an estimate will do
            rough = far(now, norm(target - now)) & (swept >= count + _ROUGH)
            return (swept < max_steps) & ~(missed <= tol * _scale(tol, target, now)) & ~rough

        return jax.lax.while_loop(going, body, (count, p, jnp.asarray(jnp.inf, dtype)))

    def closer(carry: Any) -> Any:
        count, found, _ = carry
        away, pull = norm(y - found.x), norm(jnp.sum(found.increments, axis=0))
        reach = norm(found.x) + 4 * eps * pull
        ratio = jnp.where(away > _NEAR * reach, _NEAR * reach / jnp.where(away > 0, away, 1), 1)
        target = found.x + ratio * (y - found.x)
        sweeps, p, missed = search(target, found.increments * (ratio / found.ratio), found.sweeps)
        now = target - jnp.sum(p, axis=0)
        scale = _scale(tol, target, now)
        converged = (count == 0) | (norm(now - found.x) <= tol * scale)
        distant = far(now, norm(target - now))
        again = (distant | ((missed <= tol * scale) & ~converged)) & (sweeps < max_steps)
        return count + 1, _Found(now, p, ratio, missed / scale, sweeps, converged), again

    zero, one = jnp.zeros((), jnp.int32), jnp.ones((), dtype)
    found = _Found(y, jnp.zeros((len(parts), y.size), dtype), one, one, zero, jnp.asarray(True))
    rounds = 1 if _cones(parts) else 12
    start = (zero, found, jnp.asarray(True))
    return jax.lax.while_loop(lambda c: c[-1] & (c[0] < rounds), closer, start)[1]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _projected(tol: float, max_steps: int, parts: tuple[Any, ...], x: Tree) -> _Found:
    return _dykstra(tol, max_steps, parts, x)


@partial(_projected.defjvp, symbolic_zeros=True)
def _(tol: float, max_steps: int, primals: Tree, tangents: Tree) -> Any:
    dparts, dx = tangents
    # constant sets have no part in the program
    moving = not all(isinstance(t, SymbolicZero) for t in jax.tree.leaves(dparts))

    def full(t: Any) -> Any:
        if not isinstance(t, SymbolicZero):
            return t
        shape, dtype = t.aval.shape, t.aval.dtype  # pyright: ignore[reportAttributeAccessIssue]
        return np.zeros(shape, dtype) if dtype == jax.dtypes.float0 else jnp.zeros(shape, dtype)

    dparts, dx = jax.tree.map(full, (dparts, dx))
    return _projected_along(tol, max_steps, moving, *primals, dparts, dx)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _projected_along(tol: float, max_steps: int, moving: bool, parts: Any, x: Tree, dparts: Any, dx: Tree) -> Any:
    found = _projected(tol, max_steps, parts, x)
    y, unravel = ravel_pytree(x)
    eps, ratio = float(jnp.finfo(y.dtype).eps), found.ratio
    b = []
    complements = []
    for part, dpart, q in zip(parts, dparts, found.increments, strict=True):

        def along(z: jax.Array, part: Any = part, dpart: Any = dpart) -> jax.Array:
            return jax.jvp(lambda part: _flat(part, unravel)(z), (part,), (dpart,))[1]

        z = found.x + q / (1 if part.polyhedral else ratio)
        here = along(z) if moving else jnp.zeros_like(y)
        if moving and part.polyhedral and not _cones(parts):
            here = here + (1 / ratio - 1) * (along(z + q) - here)
        b.append(here)
        complements.append(_complement(jax.linearize(_flat(part, unravel), z)[1]))
    solver = _ConjugateResiduals(eps**0.75)
    solve = partial(
        linear.solve,
        structure="positive definite",
        solver=solver,
        on_failure="nan",
        name="a projection onto an intersection",
    )
    dy = ravel_pytree(dx)[0]
    dp = _moved(complements, solve, dy, jnp.stack(b))
    moved = dy - jnp.sum(dp, axis=0)
    if moving and not all(part.polyhedral for part in parts):
        # errors are of the rounding unit times the squared distance: two digits at least
        moved = moved * jnp.where(ratio < 10 * _NEAR * eps**0.5, jnp.nan, 1).astype(moved.dtype)
    none: Any = np.zeros(found.sweeps.shape, jax.dtypes.float0)
    return found, _Found(moved, ratio * dp, jnp.zeros_like(ratio), jnp.zeros_like(found.error), none, none)


@record
class Intersection(Set):
    r"""The intersection :math:`C_1 \cap \dots \cap C_k` of sets that are given by their projections.

    The projection is found by Dykstra's method, with steps of Newton's method wherever they reduce the error: for
    polyhedral sets it ends exactly as soon as the right faces are found. The derivative is that of the
    equations which characterize the projection: ``x`` is :math:`y - \sum_i p_i` and the projection of
    :math:`x + p_i` onto every set. With the Jacobians :math:`D_i` of these projections, it is the minimizer ``t`` of
    :math:`\|t - \dot y\|^2 + \sum_i \langle t, (D_i^+ - I) t \rangle` in the ranges of all :math:`D_i`; of polyhedral
    sets, the projection onto these ranges. The sets' parameters are differentiated, too. Far from an intersection with
    curved sets (some hundred times its size in single precision) no digit is left of the latter: they are NaN.

    Cost: some projections onto each set for a sweep, and the Jacobian products of a Krylov method for a Newton step and
    for the derivative. Where one of the named sets is the intersection (:class:`BoxSection`, :class:`Polyhedron`), that
    is faster.

    Parameters
    ----------
    sets
        A sequence of sets.
    tol
        The largest distance from one of the sets, relative to the norm of the projection, at which to stop.
        Default: three quarters of the digits, ``eps**0.75``.
    max_steps
        Limit on the number of sweeps.

    Raises
    ------
    TypeError
        If something else than sets is given.
    ValueError
        If a set is not convex or does not fit the unknown, or ``tol`` or ``max_steps`` is not positive.
    SolveError
        If the projection does not reach the tolerance, as for an empty intersection; it is NaN where it
        cannot raise (in a compiled or transformed function).

    References
    ----------
    Boyle and Dykstra, "A method for finding projections onto the intersection of convex sets in Hilbert spaces", 1986.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.sets import Halfspace, Intersection, L2Ball
    >>> cap = Intersection([L2Ball(1.0), Halfspace(jnp.array([0.0, 1.0]), 0.0)])
    >>> print(cap.project(jnp.array([3.0, 4.0])).round(3))
    [1. 0.]
    """

    sets: Any
    tol: float | None = field(default=None, metadata={"static": True})
    max_steps: int = field(default=5000, metadata={"static": True})

    def __post_init__(self) -> None:
        if not isinstance(self.sets, list | tuple):
            raise TypeError(f"Intersection needs a list of sets: given {self.sets!r}.")
        object.__setattr__(self, "sets", tuple(self.sets))
        for part in self.sets:
            if not isinstance(part, Set):
                raise TypeError(f"Intersection needs sets of dini.sets: given {part!r}.")
            if not part.convex:
                raise ValueError(f"Intersection needs convex sets: given {part.name}.")
        if not self.sets:
            raise ValueError("Intersection needs at least one set: given none.")
        if self.tol is not None:
            require_positive("Intersection's tol", self.tol)
        require_count("Intersection's max_steps", self.max_steps)

    def _solved(self, x: Tree) -> _Found:
        parts = tuple(part.closed(x) for part in self.sets)
        return _projected(self._tolerance(ravel_pytree(x)[0]), self.max_steps, parts, x)

    def _tolerance(self, y: jax.Array) -> float:
        return float(jnp.finfo(y.dtype).eps ** 0.75) if self.tol is None else self.tol

    @property
    def elementwise(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all of the sets are."""
        return all(part.elementwise for part in self.sets)

    @property
    def polyhedral(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all of the sets are."""
        return all(part.polyhedral for part in self.sets)

    def project(self, x: Tree) -> Tree:
        """Take the increments off."""
        if not trees.size(x):
            return x
        y, unravel = ravel_pytree(x)
        found = self._solved(x)
        now, p, _, error, _, converged = jax.lax.stop_gradient(found)
        eps, tol, size = jnp.finfo(y.dtype).eps, self._tolerance(y), norm(now)
        digits = error * _scale(tol, now + jnp.sum(p, axis=0), now) <= 1e-2 * size
        # zero has no digits, and from there is no end of coming closer
        zero = size <= (1e3 * eps if _cones(self.sets) else eps**2) * norm(jax.lax.stop_gradient(y))
        good = (error <= tol) & (zero | (digits & converged))
        return unravel(believed(found.x, (self, x), good, self._failure, error))

    def _failure(self, error: Any) -> Exception:
        return SolveError(
            f"The projection onto an Intersection of {', '.join(part.name for part in self.sets)} did not reach its "
            f"tolerance in {self.max_steps} sweeps: the point is {float(error):.1e} from one of the sets (relative to "
            "its norm). The intersection may be empty, or the sets meet at a very small angle. Check that they have a "
            "common point, raise `max_steps`, or loosen `tol`.",
            Status.MAX_STEPS,
        )

    def kink_distance(self, x: Tree) -> jax.Array:
        r"""Return a lower bound of the distance from the nearest kink, if all sets are polyhedral.

        As long as no set's projection meets a kink, :math:`x + p_i` is affine in the point. So it is the smallest, over
        the sets, of the distance of :math:`x + p_i` from a kink over the norm of its Jacobian. NaN for other sets, and
        for more than 512 elements, whose Jacobians are large.
        """
        y, unravel = ravel_pytree(x)
        if not y.size:
            return jnp.full((), jnp.inf, trees.real_dtype(x))
        if not self.polyhedral or y.size > linear.DENSE_LIMIT:
            return super().kink_distance(x)
        moves = jax.jacfwd(lambda y: self._arguments(y, unravel))(jax.lax.stop_gradient(y))
        norms = jnp.linalg.norm(moves, ord=2, axis=(1, 2))
        arguments = self._arguments(y, unravel)
        distances = jnp.stack([part.kink_distance(unravel(arguments[i])) for i, part in enumerate(self.sets)])
        return jnp.min(distances / jnp.where(norms > 0, norms, 1)).astype(trees.real_dtype(x))

    def _arguments(self, y: jax.Array, unravel: Any) -> jax.Array:
        """Return the points whose projections onto the sets are the projection."""
        found = self._solved(unravel(y))
        return found.x[None, :] + found.increments / found.ratio

    def closed(self, x: Tree) -> Intersection:
        """Return the set with closed parts."""
        return dataclasses.replace(self, sets=tuple(part.closed(x) for part in self.sets))

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether all of the sets do."""
        return all(part.separates_rows(x) for part in self.sets)

    def row(self, i: Any, x: jax.Array) -> Intersection:
        """Return the intersection of one row."""
        return dataclasses.replace(self, sets=tuple(part.row(i, x) for part in self.sets))

    def check(self, x: Tree) -> None:
        """Raise unless all sets fit ``x``."""
        for part in self.sets:
            part.check(x)
