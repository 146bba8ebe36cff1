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
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import linear, trees
from ..products import vdot
from ..settings import require_count, require_positive
from ..status import SolveError, Status
from ._base import Set, believed

#: sweeps of Dykstra's method between two trials of a Newton step
_SWEEPS = 4


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
    size = lambda v: jnp.sqrt(jnp.sum(v**2))
    scale = jnp.maximum(size(now), 4 * jnp.finfo(y.dtype).eps / tol * size(y))
    return jnp.where(scale > 0, scale, 1)


@partial(jax.jit, static_argnums=(0, 1))
def _dykstra(tol: float, max_steps: int, parts: tuple[Any, ...], x: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return increments, the largest distance of the point from a set (in units of the scale), and the sweeps."""
    y, unravel = ravel_pytree(x)
    projections = [_flat(part, unravel) for part in parts]
    dtype = y.dtype

    def sweep(_: Any, p: jax.Array) -> jax.Array:
        now = y - jnp.sum(p, axis=0)
        for i, project in enumerate(projections):
            z = now + p[i]
            now = project(z)
            p = p.at[i].set(z - now)
        return p

    def errors(p: jax.Array) -> tuple[jax.Array, list[Any]]:
        now = y - jnp.sum(p, axis=0)
        pairs = [jax.linearize(project, now + p[i]) for i, project in enumerate(projections)]
        return now[None, :] - jnp.stack([value for value, _ in pairs]), [
            _complement(derivative) for _, derivative in pairs
        ]

    size = lambda residual: jnp.sqrt(jnp.max(jnp.sum(residual**2, axis=1)))
    scale = lambda p: _scale(tol, y, y - jnp.sum(p, axis=0))

    solve = partial(_conjugate_residuals, rtol=float(jnp.finfo(dtype).eps ** 0.75))

    def body(carry: Any) -> Any:
        count, p, _ = carry
        p = jax.lax.fori_loop(0, _SWEEPS, sweep, p)
        residual, complements = errors(p)
        newton = p + _moved(complements, solve, jnp.zeros_like(y), -residual)
        here, there = size(residual), size(errors(newton)[0])
        # a step that is not finite is no better, either
        better = there < 0.5 * here
        return count + _SWEEPS, jnp.where(better, newton, p), jnp.where(better, there, here)

    start = (jnp.zeros((), jnp.int32), jnp.zeros((len(parts), y.size), dtype), jnp.asarray(jnp.inf, dtype))
    going = lambda c: (c[0] < max_steps) & ~(c[-1] <= tol * scale(c[1]))
    count, p, missed = jax.lax.while_loop(going, body, start)
    return p, missed / scale(p), count


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _increments(tol: float, max_steps: int, parts: tuple[Any, ...], x: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _dykstra(tol, max_steps, parts, x)


@_increments.defjvp
@partial(jax.jit, static_argnums=(0, 1))
def _(tol: float, max_steps: int, primals: Any, tangents: Any) -> Any:
    parts, x = primals
    dparts, dx = tangents
    p, error, count = _increments(tol, max_steps, parts, x)
    y, unravel = ravel_pytree(x)
    now = y - jnp.sum(p, axis=0)
    b = []
    complements = []
    for i, (part, dpart) in enumerate(zip(parts, dparts, strict=True)):
        z = now + p[i]
        b.append(jax.jvp(lambda part, z=z: _flat(part, unravel)(z), (part,), (dpart,))[1])
        complements.append(_complement(jax.linearize(_flat(part, unravel), z)[1]))
    solver = _ConjugateResiduals(float(jnp.finfo(y.dtype).eps ** 0.75))
    solve = partial(
        linear.solve,
        structure="positive definite",
        solver=solver,
        on_failure="nan",
        name="a projection onto an intersection",
    )
    dp = _moved(complements, solve, ravel_pytree(dx)[0], jnp.stack(b))
    return (p, error, count), (dp, jnp.zeros_like(error), np.zeros(count.shape, jax.dtypes.float0))


@trees.register
@dataclass(frozen=True)
class Intersection(Set):
    r"""The intersection :math:`C_1 \cap \dots \cap C_k` of sets that are given by their projections.

    The projection is found by Dykstra's method, with steps of Newton's method wherever they reduce the error: for
    polyhedral sets it ends exactly as soon as the right faces are found. The derivative is that of the
    equations which characterize the projection: ``x`` is :math:`y - \sum_i p_i` and the projection of
    :math:`x + p_i` onto every set. With the Jacobians :math:`D_i` of these projections, it is the minimizer ``t`` of
    :math:`\|t - \dot y\|^2 + \sum_i \langle t, (D_i^+ - I) t \rangle` in the ranges of all :math:`D_i`; of polyhedral
    sets, the projection onto these ranges. The sets' parameters are differentiated, too.

    Cost: some projections onto each set for a sweep, and the Jacobian products of a Krylov method for a Newton step and
    for the derivative. Where one of the named sets is the intersection (:class:`BoxSection`, :class:`Polyhedron`), that
    is faster.

    Parameters
    ----------
    sets
        A sequence of sets.
    tol
        The largest distance from one of the sets, relative to one plus the norm of the point, at which to stop.
        Default: three quarters of the digits, ``eps**0.75``.
    max_steps
        Limit on the number of sweeps.

    Raises
    ------
    TypeError
        Where something else than sets is given.
    ValueError
        Where a set is not convex or does not fit the unknown, or ``tol`` or ``max_steps`` is not positive.
    SolveError
        Where the projection does not reach the tolerance, as for an empty intersection; it is NaN where it
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

    def _solved(self, x: Any) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
        """Return the point as a vector, the increments, the error, and the way back."""
        y, unravel = ravel_pytree(x)
        parts = tuple(part.closed(x) for part in self.sets)
        p, error, _ = _increments(self._tolerance(y), self.max_steps, parts, x)
        return y, p, error, unravel

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

    def project(self, x: Any) -> Any:
        """Take the increments off."""
        if not trees.size(x):
            return x
        y, p, error, unravel = self._solved(x)
        error, tol, now = jax.lax.stop_gradient(error), self._tolerance(y), y - jnp.sum(p, axis=0)
        size = jnp.sqrt(jnp.sum(now**2))
        # of a point that is very far away, rounding errors may leave no digit, unless its projection is zero
        tiny = size <= 1e3 * jnp.finfo(y.dtype).eps * jnp.sqrt(jnp.sum(y**2))
        good = (error <= tol) & (tiny | (error * _scale(tol, y, now) <= 1e-2 * size))
        return unravel(believed(now, (self, x), good, self._failure, error))

    def _failure(self, error: Any) -> Exception:
        return SolveError(
            f"The projection onto an Intersection of {', '.join(part.name for part in self.sets)} did not reach its "
            f"tolerance in {self.max_steps} sweeps: the point is {float(error):.1e} from one of the sets (relative to "
            "its norm). The intersection may be empty, or the sets meet at a very small angle. Check that they have a "
            "common point, raise `max_steps`, or loosen `tol`.",
            Status.MAX_STEPS,
        )

    def kink_distance(self, x: Any) -> jax.Array:
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
        _, p, _, _ = self._solved(unravel(y))
        return (y - jnp.sum(p, axis=0))[None, :] + p

    def closed(self, x: Any) -> Intersection:
        """Return the set with closed parts."""
        return dataclasses.replace(self, sets=tuple(part.closed(x) for part in self.sets))

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether all of the sets do."""
        return all(part.separates_rows(x) for part in self.sets)

    def row(self, i: Any, x: jax.Array) -> Intersection:
        """Return the intersection of one row."""
        return dataclasses.replace(self, sets=tuple(part.row(i, x) for part in self.sets))

    def check(self, x: Any) -> None:
        """Raise unless all sets fit ``x``."""
        for part in self.sets:
            part.check(x)
