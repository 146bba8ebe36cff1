"""Nonlinear conjugate gradients."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_choice
from ..trees import Scalar, Tree
from ._base import solver
from .shared._line_search import HagerZhang, LineSearch
from .shared._quasi_newton import Pair, QuasiNewton, softest, softest_step


class Last(NamedTuple):
    """The squared norms of the last gradient and direction, and the number of directions since the last restart.

    ``soft`` is the largest inverse curvature of the last steps.
    """

    gradient: Tree
    direction: Tree
    soft: Any
    count: Any


@solver
class NonlinearCG(QuasiNewton):
    r"""Nonlinear conjugate gradients: the memory of gradient descent, and often the pace of L-BFGS.

    .. math::
        \begin{aligned}
        x &\leftarrow x + t d, \qquad d \leftarrow -g + \beta d, \qquad (1) \\
        \beta &= \max\Bigl(\Bigl(y - 2 d \frac{y^\top y}{d^\top y}\Bigr)^\top \frac{g}{d^\top y},
        \frac{-1}{\|d\| \min(0.01, \|g_{\text{old}}\|)}\Bigr), \qquad (2) \\
        \beta &= \max(0, g^\top y / g_{\text{old}}^\top g_{\text{old}}), \qquad (3) \\
        \beta &= \max(0, g^\top y / d^\top y), \qquad (4)
        \end{aligned}

    with :math:`y = g - g_{\text{old}}`: (2) is ``"hager-zhang"``, with which each direction descends, (3)
    ``"polak-ribiere"``, (4) ``"hestenes-stiefel"``.

    A direction that does not descend, or one step that meets no positive curvature, starts again from the gradient.
    Each trial of the line search is one step. The error is :math:`\|\nabla f\|_2`.

    Steps are taken in the variables :math:`x_i / d_i`, in which each element has a curvature of about one: the scales
    :math:`d` are estimated once, when the solve starts, by ten products with the Hessian (where there are none, as of a
    call of the host or another solve, they are one, and the first step is short).

    Parameters
    ----------
    formula
        One of the three names above.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps, that is of function evaluations.
    line_search
        One of :mod:`dini.solvers`; conjugate directions need one that looks at the slope: ``HagerZhang()`` or
        ``StrongWolfe(curvature=0.1)``.

    References
    ----------
    Hager and Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search", SIAM J.
    Optim. 2005; Nocedal and Wright, "Numerical optimization", 2006, chapter 5.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> print(dini.solve(rosenbrock, dini.NonlinearCG(tol=1e-3), jnp.zeros(2)).x.round(2))
    [1. 1.]
    """

    formula: str = field(default="hager-zhang", metadata={"static": True})
    max_steps: int = field(default=5000, metadata={"static": True})
    line_search: LineSearch = field(default=HagerZhang(), metadata={"static": True})

    # without a model of the Hessian, slopes among rounding are no sign of the end; after 200 such steps some solves are
    # still to converge
    patience = 240

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_choice("NonlinearCG's formula", self.formula, ("hager-zhang", "polak-ribiere", "hestenes-stiefel"))

    def empty(self, x: Tree, dtype: Any) -> Last:
        """Return no directions."""
        del x
        return Last(jnp.ones((), dtype), jnp.ones((), dtype), jnp.ones((), dtype), jnp.zeros((), jnp.int32))

    def forget(self, model: Last, forget: Any) -> Last:
        """Return the model whose direction starts again as minus the gradient."""
        direction = jnp.where(forget, model.gradient, model.direction)
        return model._replace(direction=direction, count=jnp.where(forget, 0, model.count))

    def first_trial(self, old: Any, model: Any, slope: Scalar) -> Any:
        """Return the step that predicts the same decrease to first order as the last one."""
        del model
        falls = slope < 0
        return old.trial * jnp.where(falls, jnp.minimum(old.slope / jnp.where(falls, slope, -1), 10), 1)

    def take_in(self, model: Last, pair: Pair, old: Tree, keep: Any, accept: Any) -> tuple[Last, Any, Any]:
        r"""Return the new direction, :math:`-g + w s`: as a multiple of the step, most formulas need no step size.

        So :math:`w = \beta / t`, and the last direction is :math:`d = s / t`.
        """
        del old
        gram = pair.products
        safe = lambda v: jnp.where(keep, v, 1)
        sy = safe(gram.sy)
        # the step size, by which a step is longer than its direction
        t = jnp.sqrt(safe(gram.ss) / model.direction)
        if self.formula == "hager-zhang":
            # (2): model.direction = ||d||^2, model.gradient = ||g_old||^2
            weight = (gram.yg - 2 * gram.yy * gram.sg / sy) / sy
            floor = -1 / (jnp.sqrt(model.direction * jnp.minimum(1e-4, model.gradient)) * t)
            weight = jnp.maximum(weight, floor)
        elif self.formula == "polak-ribiere":
            # (3)
            weight = jnp.maximum(gram.yg / (model.gradient * t), 0)
        else:
            # (4)
            weight = jnp.maximum(gram.yg / sy, 0)
        # A constant of differentiation: with constant coefficients the derivative follows the same recurrence as the
        # iterates and converges with them, while the coefficients' own derivatives would lag behind.
        weight = jax.lax.stop_gradient(jnp.where(keep, weight, 0))
        # (1)
        direction = trees.axpy(weight, pair.move, trees.neg(pair.gradient))
        squared = gram.gg - 2 * weight * gram.sg + weight**2 * gram.ss
        last = Last(
            jnp.where(accept & (gram.gg > 0), gram.gg, model.gradient),
            jnp.where(accept & (squared > 0), squared, model.direction),
            softest(model.soft, gram, keep),
            model.count + keep.astype(jnp.int32),
        )
        return last, direction, -gram.gg + weight * gram.sg

    def newton_step(self, model: Last, direction: Tree, pair: Pair, gradient: Tree) -> Tree:
        """Return the estimate of the error by the largest inverse curvature of the last steps."""
        del direction
        return softest_step(model.soft, pair, gradient)
