"""How a solve and the certificate of its derivative may end: what was found, and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np

#: the end of an explanation that does not apply in double precision
_PRECISELY = ", or compute in float64"


def for_precision(explanation: str, dtype: Any) -> str:
    """Return an explanation without the advice to compute in float64 where that is what was done."""
    return explanation.replace(_PRECISELY, "") if dtype == np.float64 else explanation


#: by the names of :class:`dini.Status`
OF_SOLVES = {
    "CONVERGED": "The stopping test was met.",
    "RUNNING": "The solver has not been run to its stopping test.",
    "MAX_STEPS": "The solver reached `max_steps` before its stopping test. Raise `max_steps`, loosen `rtol`, "
    "start closer to the solution, or choose a solver that suits the problem better.",
    "STALLED": "The solver can make no further progress: neither the objective nor the optimality error improves, "
    "usually because the tolerance is below the rounding error of the gradient or because the function is not smooth "
    f"there. Loosen `rtol`{_PRECISELY}.",
    "NONFINITE": "The objective, its derivative or the step became NaN or infinite. Start from a point inside the "
    "function's domain, reduce the step size, check the parameters of sets and penalties (lower bounds below upper "
    "ones, a positive radius), or look for NaN with `jax.debug_nans`.",
    "SINGULAR": "The linear system of the solver's step is singular to working precision. Regularize the problem, "
    "or use a solver that does not factorize it.",
    "CONDITION": "The point returned by the solver does not satisfy the optimality condition of the problem. "
    "Check that the solver solves this problem (with its constraint or penalty and its sign convention), and to "
    "sufficient accuracy.",
    "DIVERGED": "The iterates move away from a solution. The objective is unbounded below, or its gradient vanishes "
    "only at infinity, or the optimality error grows without bound, as at a kink or a pole, or is small only in "
    "comparison with earlier ones. Check the sign of the objective and that it has a minimum (a penalty ensures one), "
    "reduce a step size that you have set, or start closer to the solution.",
    "STEP_TOO_SMALL": "The solver's step became smaller than the rounding error of `x` before its stopping test. "
    "The function may not be smooth there, its derivative may be wrong, or the tolerance is below its rounding "
    f"errors: loosen `rtol`{_PRECISELY}.",
    "TIME_LIMIT": "The time limit was reached before the stopping test. Allow more time, or continue from the "
    "saved state with `solve(..., state=solution.state)`.",
    "NO_BRACKET": "The function has the same sign at both ends of a bracket, which need not contain a root. "
    "Move `lower` or `upper`, or use a solver that needs no bracket, such as Newton.",
    "DISCONTINUOUS": "The function changes its sign inside a bracket without passing through zero: there is a "
    "pole or a jump, and no root. Move `lower` or `upper` to one side of it, or multiply by the denominator.",
    "STOPPED": "A callback stopped the solve before its stopping test.",
    "PRIMAL_INFEASIBLE": "No point satisfies all constraints: a lower bound is above its upper one, or a "
    "combination of constraints, whose multipliers were found, is a contradiction. Loosen or drop constraints, or "
    "add a penalized slack variable.",
    "DUAL_INFEASIBLE": "The objective decreases without bound along a ray that was found, on which all "
    "constraints hold. Check the sign of the objective, and bound the unknown or add a quadratic term.",
    "NOT_CONVEX": "The quadratic term has a direction of negative curvature, so that the program is not convex: "
    "its `Q` (a cone program's `P`) must be positive semidefinite. Check its sign, or use a solver for nonlinear "
    "problems.",
    "LOCALLY_INFEASIBLE": "The constraints cannot be satisfied near the point that was reached: their violation "
    "has a local minimum there. Check the signs of the constraints (inequalities are g(x) <= 0) and the bounds, or "
    "start elsewhere: other points may satisfy nonlinear constraints.",
    "NO_MINIMUM": "The stopping test was met, but the objective can still decrease, along a Newton or Gauss-Newton "
    "step or a direction of negative curvature. The unknown is probably badly scaled. Rescale it so that its elements "
    "have similar sizes (minimize fun(units * z) over z), start elsewhere, or use a solver that computes the Hessian, "
    "such as Newton or TrustRegionNewtonCG (for residuals, LevenbergMarquardt).",
}

#: by the names of :class:`dini.certified.Verdict`
OF_DERIVATIVES = {
    "RELIABLE": "The derivative is right to the estimated error.",
    "UNCONVERGED": "The point is too far from a solution of the problem's condition for its derivative to be "
    "near the solution's. Tighten `rtol` and raise `max_steps`, and check that the solver solves this problem (with "
    "its constraint or penalty and its sign convention).",
    "LINEAR_SOLVE": "The linear system of the derivative was not solved to its tolerance. Give another "
    "`linear_solver`, more steps or a preconditioner, or compute in float64.",
    "ILL_CONDITIONED": "The linear system of the derivative is singular or so ill-conditioned that rounding "
    "errors spoil its solution. Add a ridge to the problem, use dini.linear.Ridge or ask for the minimum-norm "
    "derivative, or compute in float64.",
    "TIE": "The solution is at a kink (an active constraint with a zero multiplier, a proximal operator at its "
    "threshold), where it has only one-sided derivatives. Ask for a one-sided or a smoothed derivative.",
    "NONFINITE": "The condition, its derivative or the cotangent is NaN or infinite. Look for NaN with "
    "`jax.debug_nans`.",
    "NO_MINIMUM": "The Hessian has a direction of negative curvature: the point is a maximum or a saddle point "
    "of the objective, not a minimum. Check the objective's sign, start elsewhere, or use a solver that leaves saddle "
    "points (dini.TrustRegionNewtonCG). To solve for a stationary point, use dini.root.",
}
