"""Variable projection for separable least squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.settings import require_choice
from ..linear._materialize import images
from ..problems import LeastSquares
from ..protocols import Residuals
from ..trees import Scalar, Tree
from ..trees.products import dot
from ._base import solver
from ._levenberg_marquardt import LevenbergMarquardt
from .shared._residual_model import Point, Space, as_vector


class Separated(Space):
    r"""Residuals :math:`r(a, c) = r(a, 0) + \Phi(a)\, c` as a function of ``a``, with the best ``c`` for each."""

    def __init__(self, problem: Residuals, x: Tree, args: tuple[Tree, ...], part: Any, exact: bool):
        others, linear = _split(x, part)
        super().__init__(problem, others, args)
        self.exact = exact
        inner = self.unravel
        flat, rebuild = ravel_pytree(linear)
        self.count: int = flat.size

        def joined(u: Tree, c: Any) -> Any:
            return _join(inner(u), rebuild(c.astype(flat.dtype)), x, part)

        self.joint: Callable[[Any, Any], Any] = lambda u, c: as_vector(problem.residuals(joined(u, c), *args)).astype(
            self.dtype
        )
        self.unravel = lambda u: joined(u, self.coefficients(u)[0])
        self.residuals = lambda u: self.joint(u, self.coefficients(u)[0])

    def coefficients(self, u: Tree) -> tuple[Any, Callable[[Any], Any], Any]:
        """Return the best linear part at a point, the projection of residuals onto the range of its matrix, and units.

        The unit of an element is what makes its column as long as the residuals without any. A column that depends on
        those before it gets the coefficient zero.
        """
        zero = jnp.zeros(self.count, self.dtype)
        r, push = jax.linearize(lambda c: self.joint(u, c), zero)
        matrix = images(push, zero).T
        norms = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(matrix**2, 0)))
        scale = jnp.where(norms > 0, norms, 1)
        columns = matrix / scale[None, :]

        def factorized(columns: Any, damping: Scalar) -> Any:
            return tuple(jnp.linalg.qr(jnp.concatenate([columns, jnp.diag(damping)])))

        # a trace of damping, far below rounding in what it changes, keeps the triangle regular
        floor = jnp.full(self.count, self.count * jnp.finfo(self.dtype).eps, self.dtype)
        q, triangle = factorized(columns, floor)
        # of a column that depends on others only rounding errors are left, in a direction of their own
        spare = jnp.abs(jnp.diagonal(jax.lax.stop_gradient(triangle))) <= 10 * floor
        without = lambda _: factorized(jnp.where(spare[None, :], 0, columns), jnp.where(spare, 1, floor))
        q, triangle = jax.lax.cond(jnp.any(spare), without, lambda _: (q, triangle), None)
        q = q[: r.size]
        # (1): u = a, and q times triangle is Phi with its columns scaled
        c = -jax.scipy.linalg.solve_triangular(triangle, dot(q.T, r), check_finite=False) / scale
        unit = jax.lax.stop_gradient(trees.norm(r)) * jnp.where(norms > 0, 1 / scale, 0)
        return c, lambda v: dot(q, dot(q.T, v)), unit

    def evaluate(self, u: Tree, *, eager: bool, apart: bool = False) -> Point:
        """Evaluate the residuals with the best linear part; the gradient is that of the whole problem."""
        del eager, apart
        c, _, unit = self.coefficients(u)
        r, pull = jax.vjp(self.joint, u, c)
        gradient, rest = pull(r)
        bend, terms = self._bend(u, c, r, unit)
        # what is left in the linear part shows that it is not linear, or not determined to working precision
        given = jax.lax.stop_gradient(jnp.max(jnp.abs(rest) * unit, initial=0))
        relative = jnp.maximum(given / jnp.where(terms > 0, terms, 1) ** 2, bend / jnp.where(terms > 0, terms, 1))
        return Point(0.5 * jnp.sum(r * r), gradient, r, None, jnp.sum(rest * rest) + bend**2, relative)

    def _bend(self, u: Tree, c: Any, r: Any, unit: Any) -> tuple[Any, Any]:
        """Return the residuals' second difference in the linear part, zero but for rounding errors, and its terms."""
        # a column of zeros, of an even function say, has no unit
        step = jnp.maximum(jnp.abs(c), jnp.where(unit > 0, unit, 1)) * trees.signs(c)
        ahead, back = self.joint(u, c + step), self.joint(u, c - step)
        bend = ahead - 2 * r + back
        terms = jnp.sqrt(jnp.sum(ahead * ahead) + jnp.sum(r * r) + jnp.sum(back * back))
        size = jnp.sqrt(jnp.sum(bend * bend))
        rounding = jnp.sqrt(jnp.finfo(self.dtype).eps) * terms
        return jax.lax.stop_gradient((jnp.where(size > rounding, size, 0), terms))

    def jacobian(self, u: Tree) -> Any:
        """Return the Jacobian of the projected residuals, transposed: Kaufman's, or that of Golub and Pereyra."""
        if self.exact:
            return super().jacobian(u)
        c, project, _ = self.coefficients(u)
        push = jax.linearize(lambda s: self.joint(s, c), u)[1]
        rows = images(push, u)
        # (2)
        return jax.vmap(lambda v: v - project(v))(rows)


@solver
class VariableProjection(LevenbergMarquardt):
    r"""Variable projection for residuals that are linear (affine) in a part of the unknown.

    .. math::
        \begin{aligned}
        r(a, c) &= r(a, 0) + \Phi(a)\, c, \qquad c(a) = -\Phi(a)^+ r(a, 0), \qquad (1) \\
        \min_a\ & \tfrac12 \|r(a, c(a))\|^2, \qquad J = (I - \Phi \Phi^+)\, \partial_a r(a, c(a)) \qquad (2)
        \end{aligned}

    The unknown is a pair or dictionary of ``a`` and a linear part ``c``. For each ``a`` the best ``c`` (1) is found by
    a QR factorization, and :class:`dini.LevenbergMarquardt` minimizes what is left as a function of ``a`` alone (2),
    where :math:`\partial_a` leaves ``c`` as it is. The start of ``c`` has no influence, the steps are fewer, and the
    problem is better conditioned than in both parts together. The error is the norm of the gradient in all unknowns, so
    a residual that is not linear in ``c`` is never reported as solved. Derivatives are those of the problem in both
    parts.

    Parameters
    ----------
    linear
        Where the linear part stands in the unknown: the key of a dictionary or the index of a tuple.
    approximation
        Of the Jacobian: ``"kaufman"``, the ``J`` of (2), leaves out the term that is proportional to the residual;
        ``"none"`` is that of Golub and Pereyra, at about twice the cost.
    damping, strategy, linear_solver, hessian, geodesic, rtol, atol, max_steps
        As for :class:`dini.LevenbergMarquardt`, for the steps in ``a``.

    References
    ----------
    Golub, Pereyra, "Separable nonlinear least squares: the variable projection method and its applications", Inverse
    Problems 2003. Kaufman, "A variable projection method for solving separable nonlinear least squares problems", BIT
    1975.

    Examples
    --------
    A sum of two exponentials:

    >>> import dini, jax.numpy as jnp
    >>> t = jnp.linspace(0.0, 4.0, 20)
    >>> def residuals(x, y):
    ...     return jnp.exp(-t[:, None] * x["rates"]) @ x["weights"] - y
    >>> y = 2 * jnp.exp(-0.5 * t) + jnp.exp(-3 * t)
    >>> start = {"rates": jnp.array([0.5, 2.0]), "weights": jnp.zeros(2)}
    >>> solver = dini.VariableProjection(linear="weights")
    >>> x = dini.solve(dini.LeastSquares(residuals), solver, start, y).x
    >>> print(x["rates"].round(2), x["weights"].round(2))
    [0.5 3. ] [2. 1.]
    """

    linear: str | int = field(kw_only=True, metadata={"static": True})
    approximation: Literal["kaufman", "none"] = field(default="kaufman", kw_only=True, metadata={"static": True})

    solves = (LeastSquares,)
    composite = False
    # a Gauss-Newton step of the reduced problem is not the derivative's map: for `OneStep` there is none, as `Solver`'s
    # contract has it, where the class above has a method
    differentiable_step = None  # type: ignore[assignment]

    def __post_init__(self, tol: Any) -> None:
        super().__post_init__(tol)
        require_choice("VariableProjection's approximation", self.approximation, ("kaufman", "none"))

    def check(self, problem: Residuals, x: Tree) -> None:
        """Raise unless the unknown has the linear part and the problem no robust loss."""
        super().check(problem, x)
        parts = tuple(x) if type(x) is dict else tuple(range(len(x))) if type(x) is tuple else ()
        if self.linear not in parts or len(parts) < 2:
            raise TypeError(
                "VariableProjection needs an unknown that is a dictionary or a tuple of at least two parts, one of "
                f"them linear={self.linear!r}: given {trees.describe(x)}."
            )
        if problem.loss is not None:
            raise TypeError(
                f"VariableProjection needs a plain sum of squares, to solve for the linear part: given "
                f"{problem.name} with a robust loss. Use LevenbergMarquardt."
            )

    def _space(self, problem: Residuals, x: Tree, args: tuple[Tree, ...]) -> Separated:
        return Separated(problem, x, args, self.linear, self.approximation == "none")


def _split(x: Tree, part: Any) -> tuple[Any, Any]:
    if isinstance(x, dict):
        return {key: value for key, value in x.items() if key != part}, x[part]
    return tuple(value for i, value in enumerate(x) if i != part), x[part]


def _join(others: Any, linear: Any, x: Tree, part: Any) -> Any:
    if isinstance(x, dict):
        return {key: linear if key == part else others[key] for key in x}
    rest = iter(others)
    return tuple(linear if i == part else next(rest) for i in range(len(x)))
