"""The minimum of a quadratic by one factorization."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ... import trees
from ...linear import Linearized
from ...loop import Outcome, tolerances
from ...problems import Minimize
from ...status import Status
from ...trees import Tree
from .._base import Solver, solver

#: units of rounding that an error may have left
_ROUNDING = 10


@solver
class QuadraticStep(Solver):
    r"""Newton's step for an objective that is quadratic, refined once: :math:`x - H^{-1} \nabla f(x)`.

    The Hessian must be positive definite for the linear solver; else the status is ``SINGULAR``. The error is
    :math:`\|\nabla f\|_2`. What it is compared with is relative to :math:`\|H x\|`, or to a share
    :math:`\epsilon^{1/2}` of the gradient at the start, of which it has then become rounding, where the solution is
    zero; and at least rounding of what :math:`H x` is made of.
    """

    linear_solver: Any = None

    solves = (Minimize,)
    max_steps: ClassVar[int] = 2  # pyright: ignore[reportIncompatibleVariableOverride]

    def run(self, problem: Any, x: Tree, args: tuple[Tree, ...]) -> Outcome:
        """Take the step, and the one that corrects its rounding."""
        at = Linearized(lambda u: problem.gradient(u, *args), x)
        solve = lambda gradient: self.linear_solver(at, trees.neg(gradient), "positive definite")
        step, indefinite = solve(at.value)
        new = trees.add(x, step)
        new = trees.add(new, solve(problem.gradient(new, *args))[0])
        error = trees.norm(problem.gradient(new, *args))
        eps = trees.eps(x)
        scale = jnp.maximum(trees.norm(at(new)), eps**0.5 * trees.norm(at.value))
        # neighbors of opposite signs add up where a matrix takes differences
        signs, varied = trees.signs(new), trees.varied(new)
        stiff = trees.norm(at(varied)) / trees.norm(varied) * trees.norm(new)
        made_of = jnp.maximum(stiff, trees.norm(at(jax.tree.map(lambda s, u: s * jnp.abs(u), signs, new))))
        rtol, atol = tolerances(self, x)
        tol = jnp.maximum(rtol * scale + atol, _ROUNDING * eps * made_of)
        status = jnp.where(error <= tol, Status.CONVERGED, Status.STALLED)
        status = jnp.where(indefinite, Status.SINGULAR, status)
        status = jnp.where(jnp.isfinite(error), status, Status.NONFINITE).astype(jnp.int32)
        return Outcome(new, (), jnp.full((), 2, jnp.int32), status, error, tol=tol)
