"""Bisection."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ._base import solver
from .shared._bracketing import Bracketing, State


@solver
class Bisection(Bracketing):
    r"""Bisection, for scalar equations and arrays of them.

    Element ``i`` of the residual must depend on element ``i`` of the unknown alone, be continuous, and have different
    signs at the ends ``a`` and ``b`` of the bracket. The brackets of all elements are halved side by side,

    .. math:: x = a + \tfrac12 (b - a), \qquad (1)

    and the values at the end tell where the equations are coupled. The error is the largest half width, a bound of the
    distance to a root. The first step evaluates the lower ends, the second the upper ends, the third the starting point
    where it lies inside.

    Parameters
    ----------
    lower, upper
        The ends of the bracket: scalars, arrays that broadcast against the unknown, or trees like it.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> solver = dini.Bisection(0.0, 2.0)
    >>> x = dini.root(lambda x, a: x**2 - a, jnp.ones(2), jnp.array([2.0, 3.0]), solver=solver).x
    >>> print(x.round(3))
    [1.414 1.732]
    """

    def _propose(self, state: State, tol: Any) -> Any:
        del tol
        # (1); the rest of it, and which end x replaces, is (1) and (2) of the base
        return jnp.full_like(state.a, 0.5)
