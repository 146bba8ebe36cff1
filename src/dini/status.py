"""How a solve ended, and how a failure is made known.

A :class:`Status` is data: it travels through ``jit`` and ``vmap`` as one integer a lane. A failure that matters is
turned into an exception (outside ``vmap``), a NaN (in its own lane only), a warning or nothing, as the caller asks with
``on_failure``.
"""

from __future__ import annotations

import enum
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_batching import custom_vmap

from . import reports
from .reports import KEEP

OnFailure = Literal["raise", "warn", "nan", "ignore"]


class Status(enum.IntEnum):
    """The end of a solve; ``CONVERGED`` (zero) is the only success."""

    CONVERGED = 0
    RUNNING = 1
    MAX_STEPS = 2
    STALLED = 3
    NONFINITE = 4
    SINGULAR = 5
    CONDITION = 6
    DIVERGED = 7
    STEP_TOO_SMALL = 8
    TIME_LIMIT = 9
    NO_BRACKET = 10
    DISCONTINUOUS = 11
    STOPPED = 12
    PRIMAL_INFEASIBLE = 13
    DUAL_INFEASIBLE = 14
    NOT_CONVEX = 15
    LOCALLY_INFEASIBLE = 16
    NO_MINIMUM = 17

    @property
    def explanation(self) -> str:
        """What was seen, and the remedy."""
        return _EXPLANATIONS[self]


#: a remedy that is none for who computes in double precision, as explanations say it
_PRECISELY = ", or compute in float64"


def for_precision(explanation: str, dtype: Any) -> str:
    """Return an explanation without the advice to compute in float64 where that is what was done."""
    return explanation.replace(_PRECISELY, "") if dtype == np.float64 else explanation


_EXPLANATIONS = {
    Status.CONVERGED: "The stopping test was met.",
    Status.RUNNING: "The solver has not been run to its stopping test.",
    Status.MAX_STEPS: "The solver reached `max_steps` before its stopping test. Raise `max_steps`, loosen `rtol`, "
    "start closer to the solution, or choose a solver that suits the problem better.",
    Status.STALLED: "The solver can make no further progress: neither the objective nor the optimality error improves, "
    "usually because the tolerance is below the rounding error of the gradient or because the function is not smooth "
    f"there. Loosen `rtol`{_PRECISELY}.",
    Status.NONFINITE: "The objective, its derivative or the step became NaN or infinite. Start from a point inside the "
    "function's domain, reduce the step size, see that parameters of sets and penalties are sound (lower bounds below "
    "upper ones, a positive radius), or look for NaN with `jax.debug_nans`.",
    Status.SINGULAR: "The linear system of the solver's step is singular to working precision. Regularize the problem, "
    "or use a solver that does not factorize it.",
    Status.CONDITION: "The point returned by the solver does not satisfy the optimality condition of the problem. "
    "Check that the solver solves this problem (with its constraint or penalty and its sign convention), and to "
    "sufficient accuracy.",
    Status.DIVERGED: "The steps lead away from a solution. Where nothing bounds the iterates they run away: the "
    "objective falls without bound, or its gradient vanishes at infinity only. Within bounds, too, the optimality "
    "error may grow beyond all measure, as at a kink or a pole, or vanish beside what it was before, though nothing is "
    "solved. Check the sign of the objective and that it has a minimum (a penalty gives it one), reduce a step size "
    "that you have set, or start closer to the solution.",
    Status.STEP_TOO_SMALL: "The solver's step became smaller than the rounding error of `x` before its stopping test. "
    "The function may not be smooth or not be differentiated right there, or the tolerance is too small for its "
    f"rounding errors: loosen `rtol`{_PRECISELY}.",
    Status.TIME_LIMIT: "The time limit came before the stopping test. Allow more time, or go on from the saved state "
    "with `solve(..., state=solution.state)`.",
    Status.NO_BRACKET: "The function has the same sign at both ends of a bracket, so that no root is known to lie "
    "inside. Move `lower` or `upper`, or use a solver that needs no bracket, such as Newton.",
    Status.DISCONTINUOUS: "The function changes its sign inside a bracket without passing through zero: there is a "
    "pole or a jump, and no root. Move `lower` or `upper` to one side of it, or multiply by the denominator.",
    Status.STOPPED: "A callback stopped the solve before its stopping test.",
    Status.PRIMAL_INFEASIBLE: "No point satisfies all constraints: a lower bound is above its upper one, or a "
    "combination of constraints, whose multipliers were found, contradicts itself. Loosen or drop constraints, or add "
    "a slack variable with a price to them.",
    Status.DUAL_INFEASIBLE: "The objective falls without bound along a ray that was found, on which all "
    "constraints hold. Check the sign of the objective, and bound the unknown or add a quadratic term.",
    Status.NOT_CONVEX: "The quadratic term has a direction of negative curvature, so that the program is not convex: "
    "its `Q` (a cone program's `P`) must be positive semidefinite. Check its sign, or use a solver for nonlinear "
    "problems.",
    Status.LOCALLY_INFEASIBLE: "The constraints cannot be satisfied near the point that was reached: their violation "
    "is smallest there among its neighbours. Check the signs of the constraints (inequalities are g(x) <= 0) and the "
    "bounds, or start elsewhere: of nonlinear constraints, other points may satisfy them.",
    Status.NO_MINIMUM: "The stopping test was met, and yet conjugate gradients with each element of the unknown in a "
    "unit of its own lead to a point that is lower by more than the tolerance allows, or far away, or a step of Gauss "
    "and Newton promises one: beside the gradient of some elements or directions, that of others is too small to be "
    "seen. Measure the unknown in units in which its elements are alike (fun(units * z) of z), or use a solver that "
    "computes the Hessian, such as Newton or TrustRegionNewtonCG, of residuals LevenbergMarquardt.",
}


class SolveError(RuntimeError):
    """A solve failed. ``status`` holds the :class:`Status`."""

    def __init__(self, message: str, status: Status | None = None):
        super().__init__(message)
        self.status = status


reports.quiet(SolveError)


class DerivativeError(SolveError):
    """The derivative of a solution could not be computed to its tolerance."""


class SolveWarning(UserWarning):
    """Issued instead of a :class:`SolveError` when ``on_failure="warn"``."""


def check_on_failure(value: str) -> None:
    """Raise unless ``value`` names a policy."""
    if value not in get_args(OnFailure):
        raise ValueError(f"on_failure must be one of {get_args(OnFailure)}: given {value!r}.")


def _factor(
    failed: jax.Array, report: Callable[..., Exception], policy: OnFailure, mark: bool, figures: tuple[Any, ...]
) -> jax.Array:
    """Return one, after an exception or a warning on the host where ``failed`` holds at run time.

    Under ``vmap`` nothing is raised: with ``mark``, the factor is NaN in the failed lanes. The factor comes out
    of the callback, so that the callback lives as long as the value that it multiplies.
    """

    def on_host(*values: Any) -> np.ndarray:
        error = report(*[np.asarray(value) for value in values])
        if policy == "raise":
            raise reports.first_of_all(error)
        if policy == KEEP:  # whoever never comes past has a value that is no number
            reports.keep(error)
            return np.full((), np.nan, np.float32)
        warnings.warn(str(error), SolveWarning, stacklevel=2)
        return np.ones((), np.float32)

    def lanes_on_host(given: Any) -> np.ndarray:
        failed, values = jax.tree.map(np.asarray, given)
        for lane in np.flatnonzero(failed)[:1]:
            on_host(*[value[lane] for value in values])
        return np.where(failed, np.nan, 1).astype(np.float32)

    @custom_vmap
    def tell(failed: jax.Array, figures: tuple[Any, ...]) -> jax.Array:
        factor = jax.ShapeDtypeStruct((), np.float32)
        return jax.lax.cond(
            failed, lambda f: jax.pure_callback(on_host, factor, *f), lambda _: jnp.ones((), np.float32), figures
        )

    @tell.def_vmap
    def _(axis_size: int, batched: Any, failed: jax.Array, figures: tuple[Any, ...]) -> tuple[jax.Array, bool]:
        every = lambda value, known: value if known else jnp.broadcast_to(value, (axis_size, *jnp.shape(value)))
        failed, figures = jax.tree.map(every, (failed, figures), tuple(batched))
        if policy != KEEP:
            return jnp.where(failed & mark, jnp.nan, 1.0).astype(np.float32), True
        # the solve itself is in no batch: a Jacobian is made of several cotangents at once
        factors = jax.ShapeDtypeStruct((axis_size,), np.float32)
        ask = lambda given: jax.pure_callback(lanes_on_host, factors, given, vmap_method="sequential")
        return jax.lax.cond(jnp.any(failed), ask, lambda _: jnp.ones(axis_size, np.float32), (failed, figures)), True

    # a failure report is a constant of differentiation
    return tell(*jax.lax.stop_gradient((failed, figures)))


#: one program for all reports that are equal, so that a program with a guard in it can be recognised
_known_factor = jax.jit(_factor, static_argnums=(1, 2, 3))


class Report:
    """Base of reports that are equal if they say the same: frozen dataclasses, called with the figures."""

    def __call__(self, *figures: Any) -> Exception:
        """Return the exception."""
        raise NotImplementedError


def guard(
    value: Any,
    failed: jax.Array,
    report: Callable[..., Exception],
    figures: tuple[Any, ...],
    on_failure: OnFailure,
    *,
    mark: bool = True,
) -> Any:
    """Return ``value``, made harmless where ``failed`` holds, as the policy says.

    ``raise``: an exception outside ``vmap``, NaN in the failed lanes inside (unless ``mark`` is false). ``warn``: a
    warning outside ``vmap``, the value as it is. ``nan``: NaN in the failed lanes. ``ignore``: the value as it is.
    ``report(*figures)`` builds the exception on the host. The function is linear in ``value``, so that it can be
    transposed.
    """
    if on_failure == "ignore":
        return value
    if on_failure != "nan" and not isinstance(failed, Tracer):  # known by now
        if bool(failed):
            error = report(*map(np.asarray, figures))
            if on_failure != "warn":
                raise error
            warnings.warn(str(error), SolveWarning, stacklevel=2)
        return value
    if on_failure == "nan":
        factor = jnp.where(jax.lax.stop_gradient(failed), jnp.nan, 1.0)
    else:
        told = _known_factor if isinstance(report, Report) else _factor
        factor = told(failed, report, on_failure, mark and on_failure != "warn", figures)
    return jax.tree.map(lambda x: x * factor.astype(x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x, value)
