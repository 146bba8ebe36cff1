"""Nonlinear least squares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from .. import conditions, trees
from ._base import Problem, hessian_block


@register_dataclass
@dataclass(frozen=True)
class LeastSquares(Problem):
    r"""Minimize :math:`\tfrac12 \|r(x, \theta)\|^2`.

    The condition is :math:`(\partial_1 r)^\top r = 0`; its derivative is the full Hessian, not the Gauss-Newton matrix,
    which would be wrong wherever the residual does not vanish.

    Parameters
    ----------
    fun
        ``r(x, *args)``, any pytree of floating-point arrays (with ``has_aux``: a pair of it and any pytree).
    has_aux
        Whether ``fun`` returns an auxiliary output.

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

    def __post_init__(self) -> None:
        self._wrap()

    composite = False

    @property
    def condition(self) -> conditions.Condition:
        """Stationarity of half the squared residual."""
        return conditions.Stationary()

    @property
    def structure(self) -> Any:
        """The Hessian of a nondegenerate minimum is positive definite."""
        return "positive definite"

    def residuals(self, x: Any, *args: Any) -> Any:
        """Return ``r(x, *args)``."""
        return self._output(x, *args)

    def value(self, x: Any, *args: Any) -> jax.Array:
        """Return half the squared norm of the residuals."""
        r = self.residuals(x, *args)
        return 0.5 * trees.vdot(r, r)

    objective = value

    def value_and_gradient(self, x: Any, *args: Any) -> tuple[jax.Array, Any]:
        """Return half the squared norm and its gradient in ``x``."""
        return jax.value_and_grad(self.value)(x, *args)

    def gradient(self, x: Any, *args: Any) -> Any:
        """Return the gradient in ``x``."""
        return jax.grad(self.value)(x, *args)

    def hessian_block(self, x: Any, rows: jax.Array, *args: Any) -> jax.Array:
        """Return the rows and columns of the smooth part's Hessian that belong to some elements of ``x``."""
        return hessian_block(self, x, rows, *args)

    def prox(self, x: Any, step_size: Any) -> Any:
        """Return ``x``: there is no penalty."""
        del step_size
        return x

    def check(self, x: Any, *args: Any) -> None:
        """Raise unless the residuals are floating-point arrays."""
        leaves = jax.tree.leaves(jax.eval_shape(self.residuals, x, *args))
        if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves):
            raise TypeError(
                f"LeastSquares' fun must return floating-point residuals: given "
                f"{[f'{leaf.dtype.name}{list(leaf.shape)}' for leaf in leaves]}."
            )
