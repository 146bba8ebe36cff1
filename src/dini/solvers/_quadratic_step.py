"""The minimum of a quadratic by one factorization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from .. import trees
from ..linear import Linearized
from ..loop import Outcome, tolerances
from ..problems import Minimize
from ..status import Status
from ._base import Solver


@trees.register
@dataclass(frozen=True)
class QuadraticStep(Solver):
    r"""Newton's step for an objective that is quadratic, refined once: :math:`x - H^{-1} \nabla f(x)`.

    The Hessian must be positive definite for the linear solver; else the status is ``SINGULAR``. The error is
    :math:`\|\nabla f\|_2`, relative to :math:`\|H x\|` (of a solution that is zero, to the gradient at the start).
    """

    linear_solver: Any = None

    solves = (Minimize,)
    max_steps: ClassVar[int] = 2  # pyright: ignore[reportIncompatibleVariableOverride]

    def run(self, problem: Any, x: Any, args: tuple[Any, ...]) -> Outcome:
        """Take the step, and the one that corrects its rounding."""
        at = Linearized(lambda u: problem.gradient(u, *args), x)
        solve = lambda gradient: self.linear_solver(at, trees.neg(gradient), "positive definite")
        step, indefinite = solve(at.value)
        new = trees.add(x, step)
        new = trees.add(new, solve(problem.gradient(new, *args))[0])
        error = trees.norm(problem.gradient(new, *args))
        scale = trees.norm(at(new))
        rtol, atol = tolerances(self, x)
        tol = rtol * jnp.where(scale > 0, scale, trees.norm(at.value)) + atol
        status = jnp.where(error <= tol, Status.CONVERGED, Status.STALLED)
        status = jnp.where(indefinite, Status.SINGULAR, status)
        status = jnp.where(jnp.isfinite(error), status, Status.NONFINITE).astype(jnp.int32)
        return Outcome(new, (), jnp.full((), 2, jnp.int32), status, error, tol=tol)
