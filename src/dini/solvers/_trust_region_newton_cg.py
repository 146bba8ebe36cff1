"""Newton's method in a trust region, by conjugate gradients."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..protocols import AnyProblem, Composed, Minimization
from ..trees import Tree
from ._base import solver
from .shared._line_method import Aim, Outcome, Pair, State
from .shared._quasi_newton import FORGETTING, softest_step
from .shared._trust_region import TrustRegion


class Conjugate(NamedTuple):
    r"""What is remembered: the conjugate gradients of the model, which may still be under way.

    ``squared`` is the squared norm of the residual, ``count`` the number of products in this iteration. ``seen`` is the
    largest inverse curvature :math:`d^\top d / d^\top H d` of this iteration, ``soft`` that of the last ones, and
    ``steepest`` the largest norm of a gradient so far.
    """

    solving: Any
    move: Tree
    residual: Tree
    direction: Tree
    squared: Any
    count: Any
    seen: Any
    soft: Any
    steepest: Any


@solver
class TrustRegionNewtonCG(TrustRegion):
    r"""Newton's method in a trust region, by truncated conjugate gradients (Steihaug).

    .. math::
        \begin{aligned}
        \min_z\ & m(z) = g^\top z + \tfrac12 z^\top H z \quad \text{over} \quad \|z\|_2 \le \Delta, \qquad (1) \\
        z &\leftarrow z + \alpha d, \quad r \leftarrow r + \alpha H d, \quad d \leftarrow -r + \beta d, \quad
        \alpha = \frac{r^\top r}{d^\top H d}, \quad \beta = \frac{r^\top r}{r_{\text{last}}^\top r_{\text{last}}},
        \qquad (2) \\
        \|r\| &= \|Hz + g\| \le \min\bigl(0.5, \sqrt{\|g\| / G}\bigr)\,\|g\|, \qquad (3) \\
        \varrho &= \frac{f(x) - f(x + z)}{-m(z)}, \qquad (4) \\
        z &\leftarrow \tau z, \qquad \tau = \frac{-g^\top z}{2 (f(x + z) - f(x) - g^\top z)} \qquad (5)
        \end{aligned}

    All of this is in the variables :math:`x_i / d_i`, with the scales of :class:`LBFGS` (ones, if a ``radius`` is
    given). The move minimizes the model (1) by conjugate gradients (2), which stop at (3), with the largest norm ``G``
    of a gradient so far, at the boundary, or along a direction of negative curvature there. The radius follows the
    ratio (4) of actual to predicted decrease; a move that is rejected is shortened (5), to a half or less but a tenth
    at least, which needs no new products. Only Hessian-vector products are computed. A step of the solver is one
    product or one evaluation of function and gradient. The error is :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    radius
        The first :math:`\Delta`, in the units of the unknown. Default: the norm of the start, or the distance at which
        the value would vanish along the gradient.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps, that is of products and evaluations together.

    References
    ----------
    Steihaug, "The conjugate gradient method and trust regions in large scale optimization", SIAM J. Numer. Anal. 1983;
    Nocedal and Yuan, "Combining trust region and line search techniques", 1998.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> rosenbrock = dini.Minimize(lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)
    >>> print(dini.solve(rosenbrock, dini.TrustRegionNewtonCG(), jnp.zeros(2)).x.round(2))
    [1. 1.]
    """

    radius: Any = None
    max_steps: int = field(default=5000, metadata={"static": True})

    superlinear = True
    knows_errors = True
    # among rounding, moves may lead around in a circle: one of four points has been seen
    patience = 20

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("TrustRegionNewtonCG's radius", self.radius)

    def start_model(self, problem: AnyProblem, x: Tree, scales: Tree, args: tuple[Tree, ...]) -> Conjugate:
        """Return conjugate gradients that have not begun."""
        del problem, scales, args
        zero, nothing = trees.zeros_like(x), jnp.zeros((), trees.real_dtype(x))
        return Conjugate(jnp.zeros((), bool), zero, zero, zero, nothing, nothing, nothing, nothing + 1, nothing)

    def step(self, problem: Minimization, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Compute one product of the conjugate gradients, or evaluate the function at the move that they found."""
        return jax.lax.cond(
            state.model.solving,
            lambda: (x, self._product(problem, x, state, args)),
            lambda: TrustRegion.step(self, problem, x, state, *args),
        )

    def _product(self, problem: Composed, x: Tree, state: State, args: tuple[Tree, ...]) -> State:
        """Take one iteration of the conjugate gradients, in scaled variables."""
        now, scale = state.model, lambda v: jax.tree.map(jnp.multiply, state.scaling, v)
        # the first radius is known once the gradient at the start is
        search = jnp.where(now.count == 0, self.begin_search(1.0, state, -now.squared), state.search)
        radius, squared, d, z = search[2], now.squared, now.direction, now.move
        product = scale(jax.jvp(lambda u: problem.gradient(u, *args), (x,), (scale(d),))[1])
        finite = trees.all_finite(product)
        product = trees.where(finite, product, trees.zeros_like(product))
        dot = lambda a, b: trees.vdot(a, b).astype(radius.dtype)
        curvature, zd, dd, zz = dot(d, product), dot(z, d), dot(d, d), dot(z, z)
        bends = curvature > 0
        # how far it is along d to the boundary
        room, long = jnp.maximum(radius**2 - zz, 0), jnp.sqrt(jnp.where(dd > 0, dd, 1))
        along = zd / long
        reach = room / (along + jnp.sqrt(jnp.maximum(along**2 + room, jnp.finfo(radius.dtype).tiny)))
        reach = jnp.where(dd > 0, reach / long, 0)
        # (2): alpha = plain, r'r = squared
        plain = squared / jnp.where(bends, curvature, 1)
        boundary = ~bends | (plain >= reach)
        # As in other methods the coefficients are constants of differentiation: the derivative follows the recurrence.
        length = jax.lax.stop_gradient(jnp.where(boundary, reach, plain))
        move, residual = trees.axpy(length, d, z), trees.axpy(length, product, now.residual)
        new = dot(residual, residual)
        size = trees.norm(self.scaled_gradient(state)).astype(radius.dtype)
        # (3): as exactly as the gradient is small compared with the largest one, so that convergence is superlinear
        share = jnp.sqrt(size / jnp.where(now.steepest > 0, now.steepest, 1))
        done = boundary | (jnp.sqrt(new) <= jnp.minimum(0.5, share) * size) | (now.count + 1 >= trees.size(x))
        # (2): beta = growth
        growth = jax.lax.stop_gradient(new / jnp.where(squared > 0, squared, 1))
        seen = jnp.maximum(now.seen, jnp.where(bends, dd / jnp.where(bends, curvature, 1), 0))
        model = Conjugate(
            ~done,
            move,
            residual,
            trees.axpy(growth, d, trees.neg(residual)),
            new,
            now.count + 1,
            jax.lax.stop_gradient(seen),
            jnp.where(done, jnp.maximum(seen, FORGETTING * now.soft), now.soft),
            now.steepest,
        )
        slope = jax.lax.stop_gradient(dot(self.scaled_gradient(state), move))
        return state._replace(model=model, direction=move, search=search.at[1].set(slope))

    def predicted(self, state: State, move: Tree) -> Any:
        """Return the decrease that the model predicts of a multiple of the last move."""
        # H z = residual - g
        gradient, t = self.scaled_gradient(state), self.bracket(state).trial
        bent = trees.vdot(state.model.move, trees.sub(state.model.residual, gradient)).astype(t.dtype)
        return -(trees.vdot(gradient, move).astype(t.dtype) + 0.5 * t**2 * bent)

    def aim(self, problem: Composed, x: Tree, state: State, pair: Pair, now: Outcome, args: tuple[Tree, ...]) -> Aim:
        """Return conjugate gradients that begin at a new point."""
        del problem, x, args
        old, accept, gradient = state.model, now.accept, now.gradient
        zero, nothing = trees.zeros_like(gradient), jnp.zeros_like(old.count)
        move, residual, direction = trees.where(
            accept, (zero, gradient, trees.neg(gradient)), (old.move, old.residual, old.direction)
        )
        squared = jnp.where(accept, pair.products.gg, old.squared).astype(old.squared.dtype)
        steepest = jnp.maximum(old.steepest, jax.lax.stop_gradient(now.slope))
        model = Conjugate(
            accept,
            move,
            residual,
            direction,
            squared,
            jnp.where(accept, nothing, old.count),
            jnp.where(accept, nothing, old.seen),
            old.soft,
            steepest,
        )
        no = jnp.zeros((), bool)
        return Aim(model, state.direction, -squared, jnp.ones_like(squared), no, now.failed, old.steepest > 0)

    def newton_step(self, model: Conjugate, direction: Tree, pair: Pair, gradient: Tree) -> Tree:
        """Return the estimate of the error by the largest inverse curvature of the last products."""
        del direction
        return softest_step(model.soft, pair, gradient)
