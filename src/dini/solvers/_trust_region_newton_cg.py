"""Newton's method in a trust region, by conjugate gradients."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import require_positive
from ..protocols import AnyProblem, Composed
from ..trees import Tree
from ._base import infinity, solver
from .judge import _units
from .judge._descent import Descent, Proposal, Ruling, State, Trial, Verdict, ratio
from .judge._lengths import natural_length
from .judge._margins import DECREASE


class Region(NamedTuple):
    """What is remembered: the conjugate gradients of the model, which may still be under way, and the radius.

    ``squared`` is the squared norm of the residual, ``count`` the number of products in this iteration.
    """

    solving: Any
    move: Tree
    residual: Tree
    direction: Tree
    radius: Any
    squared: Any
    count: Any


@solver
class TrustRegionNewtonCG(Descent):
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

    The move minimizes the model (1) by conjugate gradients (2), which stop at (3), with the largest norm ``G`` of a
    gradient so far, at the boundary, or along a direction of negative curvature there. The radius follows the ratio (4)
    of actual to predicted decrease; a move that is rejected is shortened (5), to a half or less but a tenth at least,
    which needs no new products. Only Hessian-vector products are computed. A step of the solver is one product or one
    evaluation of function and gradient. The error is :math:`\|\nabla f\|_2`.

    Parameters
    ----------
    radius
        The first :math:`\Delta`.
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
    adaptive = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        require_positive("TrustRegionNewtonCG's radius", self.radius)

    def remember(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> Region:
        """Return a move of no length: the first trial is the start itself."""
        del problem, args
        inf, zero = infinity(x), trees.zeros_like(x)
        nothing = jnp.zeros_like(inf)
        return Region(jnp.zeros((), bool), zero, zero, zero, inf, nothing, nothing)

    def step(self, problem: Composed, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Compute one product of the conjugate gradients, or evaluate the function at the move that they found."""
        return jax.lax.cond(
            state.memory.solving,
            lambda: (x, state._replace(memory=self._product(problem, x, state, args))),
            lambda: Descent.step(self, problem, x, state, *args),
        )

    def _product(self, problem: Composed, x: Tree, state: State, args: tuple[Tree, ...]) -> Region:
        """Take one iteration of the conjugate gradients."""
        memory = state.memory
        radius, squared, d, z = memory.radius, memory.squared, memory.direction, memory.move
        product = jax.jvp(lambda u: problem.gradient(u, *args), (x,), (d,))[1]
        finite = trees.all_finite(product)
        product = trees.where(finite, product, trees.zeros_like(product))
        dot = lambda a, b: trees.vdot(a, b).astype(radius.dtype)
        curvature, zd, dd, zz = dot(d, product), dot(z, d), dot(d, d), dot(z, z)
        bends = curvature > 0
        # how far it is along d to the boundary
        room = jnp.maximum(radius**2 - zz, 0)
        reach = room / (zd + jnp.sqrt(jnp.maximum(zd**2 + dd * room, jnp.finfo(radius.dtype).tiny)))
        reach = jnp.where(dd > 0, reach, 0)
        # (2): alpha = plain, r'r = squared
        plain = squared / jnp.where(bends, curvature, 1)
        boundary = ~bends | (plain >= reach)
        # As in other methods the coefficients are constants of differentiation: the derivative follows the recurrence.
        length = jax.lax.stop_gradient(jnp.where(boundary, reach, plain))
        move, residual = trees.axpy(length, d, z), trees.axpy(length, product, memory.residual)
        new = dot(residual, residual)
        size = jnp.sqrt(dot(state.gradient, state.gradient))
        # (3): as exactly as the gradient is small compared with the largest one, so that convergence is superlinear
        steepest = _units.Units.of(state.scales).steepest
        share = jnp.sqrt(size / jnp.where(steepest > 0, steepest, 1))
        done = boundary | (jnp.sqrt(new) <= jnp.minimum(0.5, share) * size) | (memory.count + 1 >= trees.size(x))
        # (2): beta = growth
        growth = jax.lax.stop_gradient(new / jnp.where(squared > 0, squared, 1))
        return Region(~done, move, residual, trees.axpy(growth, d, trees.neg(residual)), radius, new, memory.count + 1)

    def trial(self, problem: AnyProblem, x: Tree, state: State) -> tuple[Tree, Tree]:
        """Return the end of the move."""
        del problem
        return trees.add(x, state.memory.move), state.memory.move

    def judge(self, memory: Region, trial: Trial) -> Ruling:
        """Return whether the decrease is what the model predicts; the radius follows, and the move, if it is not."""
        before, z = trial.before, memory.move
        dot = lambda a, b: trees.vdot(a, b).astype(memory.radius.dtype)
        slope, length = dot(before.gradient, z), jnp.sqrt(trial.products.ss)
        # (4): -m(z) = predicted, g + H z = residual
        rho = ratio(trial, -0.5 * (slope + dot(z, memory.residual)))
        fits = rho > DECREASE
        # (5): a rejected move is shortened to the minimizer of a parabola; NaN and infinity give a tenth
        parabola = -0.5 * slope / (trial.value - before.value - slope)
        shorter = jnp.where((parabola > 0.1) & (parabola < 0.5), parabola, jnp.where(parabola >= 0.5, 0.5, 0.1))
        shorter = jax.lax.stop_gradient(shorter)
        grown = jnp.where(length > 0.9 * memory.radius, 2.5 * memory.radius, memory.radius)
        radius = jnp.where(rho > 0.75, grown, jnp.where(rho < 0.25, 0.5 * length, memory.radius))
        radius = jax.lax.stop_gradient(jnp.where(fits, radius, shorter * length))
        bent = trees.axpy(shorter, trees.sub(memory.residual, before.gradient), before.gradient)
        return Ruling(fits, memory._replace(move=trees.scale(shorter, z), residual=bent, radius=radius))

    def propose(
        self, problem: AnyProblem, memory: Region, trial: Trial, verdict: Verdict, args: tuple[Tree, ...]
    ) -> Proposal:
        """Return conjugate gradients that begin at a new point, or the shorter move."""
        del problem, args
        accept, gradient = verdict.accept, trial.gradient
        # a first move to zero would end where an even function is stationary, be it a maximum
        start = 0.93 * natural_length(trial.value, trial.extent, trial.size) if self.radius is None else self.radius
        start = jax.lax.stop_gradient(jnp.asarray(start, memory.radius.dtype))
        radius = jnp.where(trial.first, start, memory.radius)
        fresh = trees.zeros_like(gradient), gradient, trees.neg(gradient)
        vectors = trees.where(accept, fresh, (memory.move, memory.residual, memory.direction))
        squared, count = jnp.where(accept, trial.products.gg, memory.squared), jnp.where(accept, 0, memory.count)
        move, residual, direction = vectors
        return Proposal(Region(accept, move, residual, direction, radius, squared, count), verdict.exhausted)
