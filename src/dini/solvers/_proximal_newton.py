"""Proximal Newton on a working set."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..checks.settings import require_count
from ..trees import Scalar, Tree
from ..trees.products import dot
from ._base import solver
from .judge._margins import relative_rounding
from .shared._working_set import Model, NewtonStep, WorkingSet, finished, lowest

#: parts of a Newton step that are tried, and of a step that moves each element on its own
_NEWTON_PARTS = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125)
_PLAIN_PARTS = (1.0, 0.3, 0.1)
_SINGLE_PARTS = (1.0, 0.25, 0.0625, 0.015625)
_LIMIT = 50
_ELEMENTS_A_ROUGH_STEP = 20


class _Inner(NamedTuple):
    u: Tree
    slope: Scalar
    value: Any
    error: Scalar
    steps: Scalar
    going: Any
    newton: Any


@solver
class ProximalNewton(WorkingSet):
    r"""Proximal Newton with working sets, for a smooth function plus an elementwise convex penalty or set.

    .. math::
        \begin{aligned}
        u^\star &= \arg\min_u\ \tfrac12 d^\top H d + \nabla f(x)^\top d + g(u), \qquad d = u - x, \qquad (1) \\
        r(u) &= \mathrm{prox}_{D^{-1}g}\bigl(u - D^{-1}(Hd + \nabla f(x))\bigr) - u, \qquad D = \mathrm{diag}\,H,
        \qquad (2) \\
        \bigl(I - K (I - D^{-1} H)\bigr)\, \Delta u &= r(u), \qquad K = \partial\,\mathrm{prox}_{D^{-1}g} \qquad (3)
        \end{aligned}

    A step computes the gradient, takes a working set (the elements that are not held by a kink of the penalty, and
    those that violate the optimality condition most, at most as many more as there are) and minimizes the quadratic
    model (1) on it. The model's minimizer is the zero of (2), found by semismooth Newton steps (3), each one Cholesky
    factorization: the active elements move to the minimizer of the face, and are stopped where they reach a kink (zero,
    or a bound); of some fractions of that step and of steps that move each element on its own the one with the lowest
    value is taken. So the Lasso is solved to rounding in a handful of factorizations of the size of its support. Where
    the objective does not fall as the model says, ``H`` is damped.

    Only a block of the Hessian is needed: objectives :class:`dini.LinearComposite` and :class:`dini.Quadratic` give it
    at the cost of a matrix product; for others it is one Hessian product an element. The error is :math:`\|x -
    \mathrm{prox}_{\eta g}(x - \eta \nabla f)\|_2 / \eta` at the point before the step, with :math:`\eta = \min(1,
    \|x\| / \|\nabla f\|)` (one at zero). Without penalty this is Newton's method.

    A path of penalties, each solution the start of the next: put :func:`dini.solve` into :func:`jax.lax.scan`.

    Parameters
    ----------
    largest
        The largest working set; a block is that number squared. With more active elements the method still converges,
        block by block.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Lee, Sun, Saunders, "Proximal Newton-type methods for minimizing composite functions", SIAM J. Optim. 2014; Massias,
    Gramfort, Salmon, "Celer: a fast solver for the Lasso with dual extrapolation", ICML 2018 (working sets);
    Hintermüller, Ito, Kunisch, "The primal-dual active set strategy as a semismooth Newton method", SIAM J. Optim.
    2002.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> lasso = dini.LinearComposite(lambda z, w, X, y: 0.5 * jnp.mean((z - y) ** 2), lambda X, y: X.T)
    >>> X, y = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([3.0, 1.0])
    >>> def fit(w, strength):
    ...     problem = dini.Minimize(lasso, penalty=dini.penalties.L1(strength))
    ...     w = dini.solve(problem, dini.ProximalNewton(), w, X, y).x
    ...     return w, w
    >>> print(jax.lax.scan(fit, jnp.zeros(2), jnp.array([2.0, 0.5]))[1])
    [[0.   0.  ]
     [2.   0.25]]
    """

    largest: int = field(default=1024, metadata={"static": True})
    max_steps: int = field(default=200, metadata={"static": True})

    superlinear = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_count("ProximalNewton's largest", self.largest)

    def minimize_model(self, model: Model) -> jax.Array:
        """Return the model's minimizer."""
        fixed = model.fixed()
        diagonal, step_sizes = jnp.diagonal(fixed.hessian), fixed.step_sizes()
        # one over a bound on the largest eigenvalue: such a step never fails
        safe = 1 / jnp.maximum(jnp.max(jnp.sum(jnp.abs(fixed.hessian), axis=1)), jnp.finfo(diagonal.dtype).tiny)

        parts = lambda values: jnp.asarray(values, diagonal.dtype)

        def body(now: _Inner) -> _Inner:
            u, slope = now.u, now.slope
            near, kept = fixed.part.slope(u - step_sizes * slope, step_sizes)
            # (2): r(u) = single, and kept is the diagonal K
            single = near - u
            system = NewtonStep.at(fixed, kept, step_sizes)
            # (3): the rows of the active elements, those with K > 0, times D / K
            newton = system.step(fixed, single)
            side = jnp.where(u != 0, u, near)
            tried = jnp.concatenate(
                [
                    jax.vmap(lambda t: u + t * newton)(parts(_PLAIN_PARTS)),
                    jax.vmap(lambda t: fixed.part.clip(u + t * newton, side))(parts(_NEWTON_PARTS)),
                    jax.vmap(lambda t: u + t * single)(parts(_SINGLE_PARTS)),
                    fixed.part.prox(u - safe * slope, safe)[None],
                ]
            )
            slopes = fixed.gradient[None, :] + dot(tried - fixed.x[None, :], fixed.hessian)
            # (1)
            values = jax.vmap(fixed.value)(tried, slopes)
            best = lowest(values, relative_rounding(now.value))
            u, slope, value = tried[best], slopes[best], values[best]
            error = fixed.error(u, slope)
            moving = jnp.any(u != now.u) & ((value < now.value) | (error < now.error))
            # a point that a whole Newton step has reached has the active elements of that step
            going = moving & ((error > fixed.tol) | (best > 0))
            return _Inner(u, slope, value, error, now.steps + 1, going, system)

        def rough(_: Any, carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
            u, slope, value = carry
            single = fixed.part.prox(u - step_sizes * slope, step_sizes) - u
            product = dot(single, fixed.hessian)
            tried = jax.vmap(lambda t: u + t * single)(parts(_SINGLE_PARTS))
            values = jax.vmap(fixed.value)(tried, jax.vmap(lambda t: slope + t * product)(parts(_SINGLE_PARTS)))
            best = lowest(values, 0)
            t = jnp.where(values[best] < value, parts(_SINGLE_PARTS)[best], 0)
            return u + t * single, slope + t * product, jnp.minimum(values[best], value)

        # cheap steps first: most elements that would be active at once are not so for long
        first = fixed.x, fixed.gradient, fixed.part.value(fixed.x)
        u, slope, value = jax.lax.fori_loop(0, diagonal.size // _ELEMENTS_A_ROUGH_STEP, rough, first)
        start = _Inner(
            u,
            slope,
            value,
            fixed.error(u, slope),
            jnp.zeros((), jnp.int32),
            jnp.asarray(True),
            NewtonStep(fixed.x != 0, jnp.ones_like(fixed.x), fixed.hessian),
        )
        end = jax.lax.while_loop(lambda now: now.going & (now.steps < _LIMIT), body, start)
        end = jax.lax.stop_gradient(end)
        return finished(model, end.u, step_sizes, end.newton, end.error <= model.tol)
