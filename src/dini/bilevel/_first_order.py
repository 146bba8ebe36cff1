"""Bilevel methods that take gradients of both objectives and no second derivatives."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..checks.settings import require_choice, require_count, require_positive
from ..trees import Tree
from ._batches import on_batch, part
from ._loop import Method, Moved, State
from ._problem import Bilevel
from ._progress import visible
from ._rules import as_rule


def _inner_gradient(problem: Bilevel, x: Tree, theta: Tree, batch: Any) -> tuple[Any, Any]:
    return on_batch(lambda *args: jax.grad(problem.inner.value, argnums=(0, 1))(x, theta, *args), batch)


def _moved(problem: Bilevel, outer_step: Any, state: State, direction: Tree, rule: Any) -> Any:
    """Return the next outer point, the state of its rule, and the norm of the (projected) gradient."""
    theta, rule = outer_step.step(state.theta, direction, rule, state.steps)
    length = outer_step.length(state.steps)
    theta = problem.prox(theta, length)
    error = visible(problem.outer_error(state.theta, direction, theta, length), direction)
    return theta, rule, error.astype(state.error.dtype)


@record
class F2SA(Method):
    r"""Fully first-order bilevel descent: the hypergradient as a difference quotient of a value function.

    With :math:`g_\nu = g + \nu f`, the value :math:`\ell_\nu(\theta) = \min_x g_\nu(x, \theta)` has the derivative
    :math:`\nabla \ell_\nu = \nabla_2 g_\nu(x_\nu, \theta)` at its minimum :math:`x_\nu`, and :math:`\nabla h` is the
    derivative of that in :math:`\nu` at zero. So with :math:`\nu = 1/\lambda`

    .. math::
        \begin{aligned}
        \nabla h &\approx \lambda\,(\nabla \ell_\nu - \nabla \ell_0) =
            \nabla_2 f(x_\nu, \theta) + \lambda\,(\nabla_2 g(x_\nu, \theta) - \nabla_2 g(x_0, \theta)), && (1) \\
        \nabla h &\approx \tfrac{\lambda}{2}\,(\nabla \ell_\nu - \nabla \ell_{-\nu}), && (2)
        \end{aligned}

    whose errors are of the first and of the second order in :math:`1/\lambda`. The minima are followed by
    ``inner_steps`` gradient steps each in a step, from where they were. No second derivative is taken, and the inner
    problem may have a constraint or a penalty: then the steps are proximal, and this is the penalty method of the value
    function.

    Parameters
    ----------
    problem
        A :class:`Bilevel`.
    inner_step, outer_step
        Numbers, functions of the step's number, or transformations of optax.
    multiplier
        :math:`\lambda`: a number, or a function of the step's number. Of order two, :math:`g - f / \lambda` must be
        convex.
    order
        1 or 2.
    inner_steps
        Steps of each inner unknown in each step.

    Raises
    ------
    TypeError, ValueError
        For settings that do not fit.

    References
    ----------
    Kwon, Kwon, Wright, Nowak, "A fully first-order method for stochastic bilevel optimization", ICML 2023 (arXiv
    2301.10945). Chen, Li, Chayti, Zhang, "Faster gradient methods for highly-smooth stochastic bilevel optimization",
    ICLR 2026 (arXiv 2509.02937), for the second order.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.bilevel.Bilevel(lambda x, t: jnp.sum((x - 1) ** 2), lambda x, t: jnp.sum(x**2 - t * x))
    >>> method = dini.bilevel.F2SA(problem, inner_step=0.3, outer_step=0.3, multiplier=100.0, order=2)
    >>> print(method.run(method.init(jnp.zeros(1), jnp.zeros(1)), 300).theta.round(3))
    [2.]
    """

    problem: Bilevel
    inner_step: Any
    outer_step: Any
    multiplier: Any
    order: int = field(default=1, metadata={"static": True})
    inner_steps: int = field(default=1, metadata={"static": True})

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Bilevel):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"problem must be a dini.bilevel.Bilevel: given {type(self.problem).__name__}.")
        composite = self.problem.inner.composite
        object.__setattr__(self, "inner_step", as_rule("inner_step", self.inner_step, sized=composite))
        sized = self.problem.penalty is not None
        object.__setattr__(self, "outer_step", as_rule("outer_step", self.outer_step, sized=sized))
        object.__setattr__(self, "multiplier", as_rule("multiplier", self.multiplier, sized=True))
        require_choice("order", self.order, (1, 2))
        require_count("inner_steps", self.inner_steps)

    @property
    def batches(self) -> tuple[int, int]:
        """How many outer and inner batches a step uses, if it is given so many."""
        return self.inner_steps + 1, self.inner_steps + 1

    def _remembered(self, theta: Tree, x: Tree, outer: Any, inner: Any) -> tuple[Any, Any]:
        del outer, inner
        rule = self.inner_step.init(x)
        return (x, x), (rule, rule, self.outer_step.init(theta))

    def _advance(self, state: State, outer: Any, inner: Any) -> Moved:
        above, below = state.v
        first, second, third = state.memory
        theta, problem = state.theta, self.problem
        nu = 1 / jnp.asarray(self.multiplier.length(state.steps))
        down = -nu if self.order == 2 else jnp.zeros_like(nu)

        def descend(x: Tree, weight: Any, rule: Any, turn: Any) -> Any:
            before = x
            along = problem.slope(x, theta, part(inner, turn))
            along = trees.axpy(weight, problem.outer_gradient(x, theta, part(outer, turn))[0], along)
            x, rule = self.inner_step.step(x, along, rule, state.steps)
            return visible(problem.inner.prox(x, self.inner_step.length(state.steps)), along), rule, (before, along)

        def both(turn: Any, carry: Any) -> Any:
            above, below, first, second, _ = carry
            above, first, up = descend(above, nu, first, turn)
            below, second, low = descend(below, down, second, turn)
            return above, below, first, second, (up, low)

        carry = above, below, first, second, ((above, above), (below, below))
        above, below, first, second, (up, low) = jax.lax.fori_loop(0, self.inner_steps, both, carry)
        length = self.inner_step.length(state.steps)
        residual = jnp.maximum(problem.inner_residual(up, above, length), problem.inner_residual(low, below, length))
        last = part(outer, self.inner_steps), part(inner, self.inner_steps)
        upper = problem.outer_gradient(above, theta, last[0])[1]
        change = trees.sub(
            _inner_gradient(problem, above, theta, last[1])[1], _inner_gradient(problem, below, theta, last[1])[1]
        )
        if self.order == 2:
            upper = trees.scale(0.5, trees.add(upper, problem.outer_gradient(below, theta, last[0])[1]))
            x, direction = trees.scale(0.5, trees.add(above, below)), trees.axpy(0.5 / nu, change, upper)
        else:
            x, direction = below, trees.axpy(1 / nu, change, upper)
        theta, third, error = _moved(problem, self.outer_step, state, direction, third)
        memory = first, second, third
        new = state._replace(theta=theta, x=x, v=(above, below), error=error, residual=residual, memory=memory)
        return Moved(new, (up[1], low[1]), direction)


@record
class BOME(Method):
    r"""Descent in both unknowns along a direction that also lowers the inner problem's gap: no second derivatives.

    With :math:`\hat x` from ``inner_steps`` gradient steps on ``g`` from ``x``, a constant, the gap is
    :math:`q(x, \theta) = g(x, \theta) - g(\hat x, \theta)`, and

    .. math:: (x, \theta) \leftarrow (x, \theta) - \gamma\,(\nabla f + \lambda \nabla q), \qquad
              \lambda = \max\Bigl(0,\; \eta - \frac{\langle \nabla f, \nabla q\rangle}{\|\nabla q\|^2}\Bigr) ,

    so that :math:`q` falls at a rate of at least :math:`\eta \|\nabla q\|^2`. The inner problem need not be convex.

    Parameters
    ----------
    problem
        A :class:`Bilevel` whose inner problem has no constraint or penalty.
    inner_step
        Length of the gradient steps to :math:`\hat x`.
    outer_step
        :math:`\gamma`, of both unknowns.
    inner_steps
        Gradient steps to :math:`\hat x`.
    eta
        :math:`\eta > 0`.

    Raises
    ------
    ValueError
        If the inner problem has a constraint or a penalty.

    References
    ----------
    Ye, Liu, Wright, Stone, Liu, "BOME! Bilevel optimization made easy: a simple first-order approach", NeurIPS 2022
    (arXiv 2209.08709).

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.bilevel.Bilevel(lambda x, t: jnp.sum((x - 1) ** 2), lambda x, t: jnp.sum(x**2 - t * x))
    >>> method = dini.bilevel.BOME(problem, inner_step=0.4, outer_step=0.05)
    >>> print(method.run(method.init(jnp.zeros(1), jnp.zeros(1)), 3000).theta.round(1))
    [2.]
    """

    problem: Bilevel
    inner_step: Any
    outer_step: Any
    inner_steps: int = field(default=10, metadata={"static": True})
    eta: Any = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Bilevel):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"problem must be a dini.bilevel.Bilevel: given {type(self.problem).__name__}.")
        if self.problem.inner.composite:
            name = self.problem.inner.name
            raise ValueError(f"BOME takes an inner problem without constraint and penalty: given {name}.")
        object.__setattr__(self, "inner_step", as_rule("inner_step", self.inner_step))
        sized = self.problem.penalty is not None
        object.__setattr__(self, "outer_step", as_rule("outer_step", self.outer_step, sized=sized))
        require_count("inner_steps", self.inner_steps)
        require_positive("eta", self.eta)

    @property
    def batches(self) -> tuple[int, int]:
        """How many outer and inner batches a step uses, if it is given so many."""
        return 1, self.inner_steps + 1

    def _remembered(self, theta: Tree, x: Tree, outer: Any, inner: Any) -> tuple[Any, Any]:
        del outer, inner
        return x, (self.inner_step.init(x), self.outer_step.init(x), self.outer_step.init(theta))

    def _advance(self, state: State, outer: Any, inner: Any) -> Moved:
        problem, theta = self.problem, state.theta
        first, second, third = state.memory

        def descend(turn: Any, carry: Any) -> Any:
            x, rule = carry
            along = problem.slope(x, theta, part(inner, turn))
            return self.inner_step.step(x, along, rule, state.steps)

        x_hat, _ = jax.lax.fori_loop(0, self.inner_steps, descend, (state.x, first))
        last = part(inner, self.inner_steps)
        of_f = problem.outer_gradient(state.x, theta, part(outer, 0))
        in_x, in_theta = _inner_gradient(problem, state.x, theta, last)
        of_q = in_x, trees.sub(in_theta, _inner_gradient(problem, x_hat, theta, last)[1])
        squared = trees.vdot(of_q, of_q)
        ratio = trees.vdot(of_f, of_q) / jnp.where(squared > 0, squared, 1)
        multiplier = jnp.where(squared > 0, jnp.maximum(0, self.eta - ratio), 0)
        along_x, along_theta = trees.axpy(multiplier, of_q, of_f)
        x, second = self.outer_step.step(state.x, along_x, second, state.steps)
        theta, third, error = _moved(problem, self.outer_step, state, along_theta, third)
        memory = first, second, third
        new = state._replace(
            theta=theta,
            x=x,
            v=x_hat,
            error=error,
            residual=trees.sized_norm(jax.lax.stop_gradient(in_x)),
            memory=memory,
        )
        return Moved(new, in_x, along_theta)
