"""Chandrupatla's method."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .. import trees
from ._base import solver
from .shared._bracketing import Bracketing, State


@solver
class Chandrupatla(Bracketing):
    r"""Chandrupatla's method, for scalar equations and arrays of them.

    Inverse quadratic interpolation where the last three points say that the function is nearly straight, bisection
    otherwise: as safe as :class:`dini.Bisection`, superlinear, and in most cases faster than Brent's method. The trial
    is :math:`a + t (b - a)`, with the last point ``a``, the end ``b`` on the other side of the root and the point ``c``
    that the bracket has lost. Where (2) holds ``t`` is that of (3), otherwise one half:

    .. math::
        \begin{aligned}
        \xi &= \frac{a - b}{c - b}, \quad \phi = \frac{f_a - f_b}{f_c - f_b}, \qquad (1) \\
        \phi^2 &< \xi, \quad (1 - \phi)^2 < 1 - \xi, \qquad (2) \\
        t &= \frac{f_a}{f_b - f_a} \frac{f_c}{f_b - f_c}
        + \frac{c - a}{b - a} \frac{f_a}{f_c - f_a} \frac{f_b}{f_c - f_b} . \qquad (3)
        \end{aligned}

    A trial keeps a distance of half the tolerance from both ends. Brackets, their ends, and the error are those of
    :class:`dini.Bisection`.

    Parameters
    ----------
    lower, upper
        The ends of the bracket: scalars, arrays that broadcast against the unknown, or trees like it.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function without using
    derivatives", Advances in Engineering Software 1997.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> solver = dini.Chandrupatla(0.0, 2.0)
    >>> x = dini.root(lambda x, a: x**2 - a, jnp.ones(2), jnp.array([2.0, 3.0]), solver=solver).x
    >>> print(x.round(3))
    [1.414 1.732]
    """

    def _propose(self, state: State, tol: Any) -> Any:
        a, b, c, at_a, at_b, at_c = state.a, state.b, state.c, state.at_a, state.at_b, state.at_c
        safe = lambda d: jnp.where(d != 0, d, 1)
        # (1): f_a = at_a, f_b = at_b, f_c = at_c
        xi = (a - b) / safe(c - b)
        phi = (at_a - at_b) / safe(at_c - at_b)
        # (2)
        straight = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi) & (c != b) & (at_c != at_b) & (at_c != at_a)
        # (3): t = inverse
        inverse = at_a / safe(at_b - at_a) * at_c / safe(at_b - at_c)
        inverse = inverse + (c - a) / safe(b - a) * at_a / safe(at_c - at_a) * at_b / safe(at_c - at_b)
        share = jnp.where(straight & jnp.isfinite(inverse), inverse, 0.5)
        # a trial this close to an end crosses the root once the end has come close to it
        width = jnp.abs(b - a)
        least = jnp.maximum(0.5 * tol, 2 * trees.eps(a) * jnp.abs(a)) / safe(width)
        least = jnp.minimum(least, 0.5)
        return jnp.clip(share, least, 1 - least)
