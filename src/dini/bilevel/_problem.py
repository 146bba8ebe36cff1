"""A bilevel problem for methods that take steps on both levels at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from ..checks.records import record
from ..functions import as_function
from ..penalties import Penalty
from ..problems import LeastSquares, Minimize
from ..problems._minimize import check_part
from ..sets import Set
from ..trees import Tree
from ._batches import example, on_batch
from ._checks import check_outer
from ._progress import residual


class Point(NamedTuple):
    """Where a bilevel method is: the inner unknown, the adjoint, the outer unknown."""

    x: Tree
    v: Tree
    theta: Tree


@record
class Bilevel:
    r"""Minimize an outer objective at the minimum of an inner one.

    .. math:: \min_{\theta \in C} h(\theta) = f(x^*(\theta), \theta) + r(\theta), \qquad
              x^*(\theta) = \operatorname*{arg\,min}_x g(x, \theta)

    With :math:`v^* = -(\nabla_{11}^2 g)^{-1} \nabla_1 f` at the inner solution, the gradient of the smooth part is
    :math:`\nabla h = \nabla_{21}^2 g\, v^* + \nabla_2 f`. So the three directions

    .. math::
        \begin{aligned}
        D_x &= \nabla_1 g(x, \theta), \\
        D_v &= \nabla_{11}^2 g(x, \theta)\, v + \nabla_1 f(x, \theta), \\
        D_\theta &= \nabla_{21}^2 g(x, \theta)\, v + \nabla_2 f(x, \theta)
        \end{aligned}

    vanish together exactly at a stationary point (Dagréou et al. 2022), and each is a sum over the samples of both
    objectives. One product of the derivative of :math:`\nabla_1 g` in both unknowns, transposed, with ``v`` gives both
    second-order terms.

    Where the inner problem has a constraint or a penalty, its solution is the fixed point of :math:`x =
    \mathrm{prox}(x - \eta D_x)`. With ``P`` the derivative of the proximal operator there, which is symmetric, the
    adjoint is the fixed point of :math:`v = P(v - \eta D_v)`, and :math:`D_\theta` is as before. (Where the minimum of
    ``h`` is a kink, since the active constraints change there, the steps end near it and oscillate.)

    Parameters
    ----------
    outer
        ``f(x, theta)``, or with batches ``f(x, theta, batch)``: one real number.
    inner
        ``g(x, theta)``, or with batches ``g(x, theta, batch)``: a function, strongly convex in ``x``, or a
        :class:`dini.Minimize` or :class:`dini.LeastSquares` of it with a constraint or penalty that does not depend on
        ``theta``. (For others there is :func:`value_and_hypergradient`.)
    constraint, penalty
        A set ``C`` of :mod:`dini.sets` and a penalty ``r`` of :mod:`dini.penalties`, on ``theta``; at most one.

    Raises
    ------
    TypeError, ValueError
        For parts that do not fit.

    References
    ----------
    Dagréou, Ablin, Vaiter, Moreau, "A framework for bilevel optimization that enables stochastic and global variance
    reduction algorithms", NeurIPS 2022 (arXiv 2201.13409).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.bilevel.Bilevel(
    ...     lambda x, t: jnp.sum((x - 1) ** 2), lambda x, t: jnp.sum((x - t) ** 2), dini.sets.NonNegative()
    ... )
    """

    outer: Any
    inner: Any
    constraint: Any = None
    penalty: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "outer", as_function(self.outer, "Bilevel's outer"))
        if not isinstance(self.inner, Minimize | LeastSquares):
            if not callable(self.inner):
                raise TypeError(
                    "Bilevel's inner must be a function of (x, theta, ...), a dini.Minimize or a dini.LeastSquares: "
                    f"given {self.inner!r}."
                )
            object.__setattr__(self, "inner", Minimize(self.inner))
        for what, kind, given in (("constraint", Set, self.constraint), ("penalty", Penalty, self.penalty)):
            if given is not None:
                check_part("Bilevel", what, given, kind)
        if self.constraint is not None and self.penalty is not None:
            raise ValueError("Bilevel takes a constraint or a penalty on theta, not both.")

    def check(self, x: Tree, theta: Tree, outer: Any, inner: Any) -> None:
        """Raise unless the objectives fit the unknowns and their batches."""
        check_outer("outer", self.outer, x, theta, *example(outer))
        self.inner.check(x, theta, *example(inner))
        for given in (self.constraint, self.penalty):
            if given is not None:
                given.check(theta)

    def outer_terms(self, point: Point, batch: Any) -> dict[str, Any]:
        """Return what the outer objective on a batch gives to the directions."""
        along_x, along_theta = self.outer_gradient(point.x, point.theta, batch)
        return {"v": along_x, "theta": along_theta}

    def outer_gradient(self, x: Tree, theta: Tree, batch: Any) -> Any:
        """Return the outer objective's partial gradients on a batch."""
        return on_batch(lambda *args: jax.grad(self.outer, argnums=(0, 1))(x, theta, *args), batch)

    def slope(self, x: Tree, theta: Tree, batch: Any) -> Any:
        """Return the gradient of the inner objective's smooth part in the inner unknown, on a batch."""
        return on_batch(lambda *args: self.inner.gradient(x, theta, *args), batch)

    def inner_gradient(self, point: Point, batch: Any) -> dict[str, Any]:
        """Return the inner gradient on a batch."""
        return {"x": self.slope(point.x, point.theta, batch)}

    def inner_terms(self, point: Point, batch: Any) -> dict[str, Any]:
        """Return what the inner objective on a batch gives to the directions."""
        return on_batch(lambda *args: self._products(point, args), batch)

    def _products(self, point: Point, args: tuple[Any, ...]) -> dict[str, Any]:
        gradient, pull = jax.vjp(lambda x, theta: self.inner.gradient(x, theta, *args), point.x, point.theta)
        # the Hessian is symmetric: its product and the cross product are one transposed product
        hessian, cross = pull(point.v)
        return {"x": gradient, "v": hessian, "theta": cross}

    def outer_error(self, theta: Tree, direction: Tree, moved: Tree, length: Any) -> Any:
        """Return the norm of an outer gradient, projected where there is a constraint or penalty."""
        prox = None if self.constraint is None and self.penalty is None else self.prox
        return residual(prox, theta, direction, moved, length, penalized=self.penalty is not None)

    def inner_residual(self, step: tuple[Tree, Tree], moved: Tree, length: Any) -> Any:
        """Return the same of an inner step, which is where it began and its gradient."""
        x, direction = step
        prox = self.inner.prox if self.inner.composite else None
        penalized = self.inner.penalty is not None
        return residual(prox, x, direction, moved, length, penalized=penalized)

    def prox(self, theta: Tree, step_size: Any) -> Any:
        """Return the proximal point of the outer penalty, or the projection onto the outer constraint."""
        if self.constraint is not None:
            return self.constraint.project(theta)
        return theta if self.penalty is None else self.penalty.prox(theta, step_size)
