"""Nonlinear least squares, with bounds and robust losses."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import conditions, trees
from ..checks.records import record
from ..functions import as_function, close
from ..sets import Set
from ..trees import Tree
from ._base import Problem, hessian_block
from ._minimize import check_part


@record
class LeastSquares(Problem):
    r"""Minimize :math:`\tfrac12 \sum_i \rho(r_i(x, \theta)^2)` over ``x`` in a set; by default :math:`\rho(s) = s`.

    The condition is :math:`(\partial_1 r)^\top \rho' r = 0`; its derivative is the full Hessian, not the Gauss-Newton
    matrix, which would be wrong wherever the residual does not vanish (``Implicit(hessian="gauss-newton")`` takes it).
    With a constraint it is the fixed point of projected gradient descent.

    Parameters
    ----------
    fun
        ``r(x, *args)``, any pytree of floating-point arrays (with ``has_aux``: a pair of it and any pytree).
    has_aux
        Whether ``fun`` returns an auxiliary output.
    constraint
        A set of :mod:`dini.sets`; the Gauss-Newton methods take bounds, such as :class:`dini.sets.Box`.
    loss
        A robust loss: one of :mod:`dini.losses` (:class:`dini.losses.Huber`, :class:`dini.losses.Cauchy`, ...) or a
        function of the vector of squared residuals, elementwise, with :math:`\rho(0) = 0` and :math:`\rho'(0) = 1`.
        What it holds or closes over is differentiated.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> t = jnp.array([0.0, 1.0, 2.0])
    >>> problem = dini.LeastSquares(lambda rate, y: jnp.exp(-rate * t) - y)
    >>> round(float(dini.solve(problem, dini.LevenbergMarquardt(), 1.0, jnp.exp(-0.5 * t)).x), 4)
    0.5
    """

    fun: Any
    has_aux: bool = field(default=False, metadata={"static": True})
    constraint: Any = None
    loss: Any = None

    def __post_init__(self) -> None:
        self._wrap()
        for what, kind, part in (("constraint", Set, self.constraint),):
            if part is not None:
                check_part(type(self).__name__, what, part, kind)
        if callable(self.loss):
            object.__setattr__(self, "loss", as_function(self.loss, "LeastSquares' loss"))
        elif self.loss is not None and isinstance(self.loss, str | int | float):
            raise TypeError(
                "LeastSquares' loss must be one of dini.losses' robust losses, such as dini.losses.Huber(1.0), or a "
                f"function of the squared residual: given {self.loss!r}."
            )

    @property
    def condition(self) -> conditions.Condition:
        """Stationarity of the sum, or the projected-gradient fixed point."""
        return conditions.ProximalGradient() if self.composite else conditions.Stationary()

    @property
    def structure(self) -> Any:
        """The Hessian of a nondegenerate minimum is positive definite."""
        return None if self.composite else "positive definite"

    def residuals(self, x: Tree, *args: Tree) -> Any:
        """Return ``r(x, *args)``."""
        return self._output(x, *args)

    def cost(self, residuals: Any) -> jax.Array:
        """Return half the sum of the losses of given residuals."""
        if self.loss is None:
            return 0.5 * trees.vdot(residuals, residuals)
        return 0.5 * jnp.sum(self.loss(jnp.square(ravel_pytree(residuals)[0])))

    def value(self, x: Tree, *args: Tree) -> jax.Array:
        """Return half the sum of the losses of the squared residuals."""
        return self.cost(self.residuals(x, *args))

    objective = value

    def value_and_gradient(self, x: Tree, *args: Tree) -> tuple[jax.Array, Any]:
        """Return the value and its gradient in ``x``."""
        return jax.value_and_grad(self.value)(x, *args)

    def gradient(self, x: Tree, *args: Tree) -> Any:
        """Return the gradient in ``x``."""
        return jax.grad(self.value)(x, *args)

    def hessian_block(self, x: Tree, rows: jax.Array, *args: Tree) -> jax.Array:
        """Return the rows and columns of the smooth part's Hessian that belong to some elements of ``x``."""
        return hessian_block(self, x, rows, *args)

    def prox(self, x: Tree, step_size: Any) -> Any:
        """Return the projection onto the constraint, or ``x``."""
        del step_size
        return x if self.constraint is None else self.constraint.project(x)

    def prox_argument(self, x: Tree, step_size: Any, *args: Tree) -> Any:
        """Return the point of a gradient step, to which the projection is applied."""
        return trees.axpy(-jnp.asarray(step_size), self.gradient(x, *args), x)

    def kink_distance(self, y: Any, step_size: Any) -> jax.Array:
        """Return the distance of ``y`` from the nearest kink of the projection; NaN where it is not known."""
        del step_size
        if self.constraint is not None:
            return self.constraint.kink_distance(y)
        return jnp.full((), jnp.inf, trees.real_dtype(y))

    def closed(self, x: Tree, *args: Tree) -> Any:
        """Return the problem with all closures made explicit, checked at ``x``."""
        problem = super().closed(x, *args)
        constraint = None if self.constraint is None else self.constraint.closed(x)
        loss = None if self.loss is None else close(self.loss, self._squared(x, *args))
        return dataclasses.replace(problem, constraint=constraint, loss=loss)

    def _squared(self, x: Tree, *args: Tree) -> Any:
        """Return the shape of the vector of squared residuals, or raise if they are not real."""
        output = jax.eval_shape(self.residuals, x, *args)
        if trees.has_complex(output):
            raise TypeError(
                f"LeastSquares' loss needs real residuals: given {trees.describe(output)}. Return their real and "
                "imaginary parts."
            )
        return jax.eval_shape(lambda tree: ravel_pytree(tree)[0], output)

    def check(self, x: Tree, *args: Tree) -> None:
        """Raise unless the residuals are floating-point arrays and the constraint and the loss fit."""
        leaves = jax.tree.leaves(jax.eval_shape(self.residuals, x, *args))
        if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves):
            raise TypeError(
                f"LeastSquares' fun must return floating-point residuals: given "
                f"{[f'{leaf.dtype.name}{list(leaf.shape)}' for leaf in leaves]}."
            )
        if self.constraint is not None:
            check_part(self.name, "constraint", self.constraint, Set)
            self.constraint.check(x)
        if self.loss is not None:
            squared = self._squared(x, *args)
            output = jax.eval_shape(self.loss, squared)
            if trees.describe(output) != trees.describe(squared):
                raise TypeError(
                    f"LeastSquares' loss must be elementwise: given squared residuals {trees.describe(squared)} it "
                    f"returns {trees.describe(output)}."
                )
