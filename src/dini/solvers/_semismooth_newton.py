"""A semismooth Newton method for variational inequalities."""

from __future__ import annotations

from dataclasses import field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import linear, trees
from ..linear._krylov import wrap_linear_solver
from ..loop import met
from ..problems import VariationalInequality
from ..status import Status
from ..trees import Scalar, Tree
from ._base import infinity, running, solver
from ._newton_equations import newton_direction
from .judge import _equations, _newton_steps
from .judge._units import Units
from .shared import _natural

#: a trial at the share s of the direction must make the residual smaller by a tenth of s
_DECREASE = 0.1
#: what a failed trial leaves of the share, and the smallest that is tried
_CUT, _LEAST = 0.25, 0.05
#: extragradient steps after Newton steps have failed, at first and at most
_PAUSE, _LONGEST = 5, 80
#: Newton steps that may begin from points that are worse than the best one
_RELAXED = 20
#: the direction's system has this power of rounding, and at most this much, on its diagonal
_SHIFT, _MOST = 0.42, 1e-2


class State(NamedTuple):
    """Carried from step to step.

    ``operator`` and ``force`` are the operator and the residual at the point, ``direction`` the Newton direction there,
    ``share`` how much of it is tried next; ``pause`` is the number of extragradient steps before the next Newton step,
    ``wait`` that of the next time; ``step_size`` that of the extragradient steps, ``width`` that of the residual.
    """

    error: Scalar
    operator: Tree
    force: Tree
    direction: Tree
    share: Any
    pause: Any
    wait: Any
    relaxed: Any
    best: Any
    step_size: Any
    width: Any
    steps: Any
    extent: Any
    scaling: Any
    scales: Any
    status: Any


class _Equation(NamedTuple):
    """The natural residual as an equation, with what is added to the diagonal of the operator's Jacobian."""

    problem: Any
    at: Tree
    width: Any
    shift: Any

    @property
    def structure(self) -> Any:
        """Return that nothing is known of the Jacobian."""

    def residual(self, x: Tree, *args: Tree) -> Any:
        """Return the residual."""
        forward = trees.axpy(-self.width, self.problem.operator(x, *args), x)
        # within the projection, so that what a bound holds goes to it in one step
        forward = trees.axpy(-self.shift, trees.sub(x, self.at), forward)
        return trees.sub(x, self.problem.prox(forward, self.width))


@solver
class SemismoothNewton(_natural.NaturalSolver):
    r"""A semismooth Newton method on the natural residual, made global by extragradient steps.

    .. math::
        \begin{aligned}
        R(x) &= x - \Pi_C(x - \eta F(x)), \qquad (1) \\
        V d &= -R(x), \qquad V = I - \Pi_C'\,(I - \eta F'(x) - \mu I), \qquad (2) \\
        x(s) &= \Pi_C(x + s d), \qquad \|R(x(s))\| \le (1 - s / 10)\,\|R\| \qquad (3)
        \end{aligned}

    But for the shift :math:`\mu`, ``V`` is an element of the generalized Jacobian of ``R``, with the derivative of the
    projection that JAX takes, and :math:`\eta` is one over the size of :math:`F'(x)`. The shift, which vanishes with
    ``R`` down to :math:`\epsilon^{0.42}`, lets solutions be degenerate and not isolated (a game with several
    equilibria, flows on paths). Trials are (3) with ``s`` one, a quarter and a sixteenth; where all fail, steps of
    :class:`dini.Extragradient` follow, which converge for monotone ``F``, and after 5, 10, ... of them another
    direction is tried. After 20 Newton steps from points that are worse than the best one so far, a Newton step must
    improve on that, so that for monotone ``F`` no cycle is possible. Near a solution at which the generalized Jacobian
    is regular, convergence is quadratic. Where ``F`` is not monotone nothing is guaranteed but that a failure says so.

    Each trial is one step and one evaluation of ``F``; an extragradient step is two. The error is
    :math:`\|R(x)\|_2 / \eta`; that it is small enough is read from the Newton direction, which is the error of ``x``.
    Unknowns that are not alike are scaled first, each where ``C`` leaves it independent (bounds), those that ``C``
    couples together; all of the above is in scaled variables then.

    Parameters
    ----------
    linear_solver
        One of :mod:`dini.linear`, a Lineax solver or a function ``solve(matvec, b)``, used for (2). Default: dense
        factorization for small problems, a Krylov method for large ones.
    rtol, atol
        Relative and absolute tolerance on the error, see :class:`dini.Solver`.
    max_steps
        Limit on the number of steps.

    References
    ----------
    Qi and Sun, "A nonsmooth version of Newton's method", Math. Programming 1993. Facchinei and Pang,
    "Finite-dimensional variational inequalities and complementarity problems", 2003, chapters 7 and 8. Korpelevich,
    "The extragradient method for finding saddle points and other problems", Matecon 1976.

    Examples
    --------
    The nonlinear complementarity problem of Kojima and Shindo:

    >>> import dini, jax.numpy as jnp
    >>> def F(x):
    ...     a, b, c, d = x
    ...     return jnp.stack([
    ...         3 * a**2 + 2 * a * b + 2 * b**2 + c + 3 * d - 6, 2 * a**2 + a + b**2 + 10 * c + 2 * d - 2,
    ...         3 * a**2 + a * b + 2 * b**2 + 2 * c + 9 * d - 9, a**2 + 3 * b**2 + 2 * c + 3 * d - 3,
    ...     ])
    >>> problem = dini.VariationalInequality(F, dini.sets.NonNegative())
    >>> print(dini.solve(problem, dini.SemismoothNewton(), jnp.ones(4)).x.round(3) + 0.0)
    [1.225 0.    0.    0.5  ]
    """

    linear_solver: Any = None
    max_steps: int = field(default=2000, metadata={"static": True})

    solves = (VariationalInequality,)
    composite = True
    superlinear = True

    def __post_init__(self, tol: Any) -> None:
        self._check_settings(tol)
        object.__setattr__(self, "linear_solver", wrap_linear_solver(self.linear_solver))

    def init(self, problem: VariationalInequality, x: Tree, *args: Tree) -> State:
        """Return the state before the first step, with the scales of the unknowns."""
        inf, zero, none = infinity(x), trees.zeros_like(x), jnp.zeros((), jnp.int32)
        one = jnp.ones_like(inf)
        return State(
            inf, zero, zero, zero, one, none, none + _PAUSE, none, inf, one, one, none, _newton_steps.no_sizes(x),
            _natural.scales_of(problem, x, args), Units.unknown(x), running(),
        )  # fmt: skip

    def advance(self, problem: _natural.Scaled, x: Tree, state: State, *args: Tree) -> tuple[Any, State]:
        """Try one step."""
        first, eps = state.steps == 0, trees.eps(x)
        newton = ~first & (state.pause == 0)
        now, value, accept, step_size = self._tried(problem, x, state, first, newton, args)
        width = jax.lax.cond(first, lambda: self._width(problem, now, value, args), lambda: state.width)
        extent, units = _natural.sizes(now, state.extent, accept, eps)
        old = Units.of(state.scales)
        error, known = self._seen(problem, x, state, now, value, width, accept, first, units)

        pause, wait, share = self._schedule(state, newton, accept, error < 0.5 * state.best)
        # that a step says the point is good enough, a Newton direction has to confirm
        needed = accept & ((pause == 0) | met(self, x, error, known.packed(error.dtype)))
        width, direction, fresh = jax.lax.cond(
            needed,
            lambda: self._direction(problem, now, value, width, error, extent, args),
            lambda: (width, state.direction, jnp.zeros((), bool)),
        )
        pause = jnp.where(needed, jnp.where(fresh, 0, wait), pause)
        # where the operator is flat, a residual with the old step size would drown in the rounding of the point
        width = jnp.where(newton | first, width, _natural.followed(width, step_size))
        force = _natural.force(problem, now, value, width)
        error = _natural.norm_of(force, error)
        known = _equations.before_step(known, fresh, direction, units, error, eps)
        begins = jnp.maximum(_natural.norm_of(now, error), width * error)
        known = known._replace(origin=jnp.where(first, begins, old.origin))
        step_size = jnp.where(fresh & (newton | first), 0.7 * width, step_size).astype(error.dtype)
        relaxed = state.relaxed + (newton & accept & (state.error > state.best)).astype(jnp.int32)

        # the end: rounding, or no end
        runs = accept & fresh & (error > 0) & (error <= eps * known.steepest)
        runs &= _newton_steps.diverging(now, extent, trees.sub(now, x), direction)
        status = jnp.where(runs | _natural.far(now, known.origin, eps), Status.DIVERGED, Status.RUNNING)
        rounded = newton & ~accept & _equations.failed_by_rounding(old, error, eps)
        status = jnp.where(rounded, Status.CONVERGED, status).astype(jnp.int32)
        return now, State(
            error, value, force, direction, share, pause, wait, relaxed, jnp.fmin(state.best, error), step_size, width,
            state.steps + 1, extent, state.scaling, known.packed(error.dtype), status,
        )  # fmt: skip

    def _tried(
        self, problem: _natural.Scaled, x: Tree, state: State, first: Any, newton: Any, args: tuple[Tree, ...]
    ) -> _natural.Trial:
        """Return what becomes of a trial: the start's projection, a Newton step, or an extragradient step."""
        along = trees.axpy(state.share, state.direction, x)
        away = trees.axpy(-state.step_size, state.operator, x)
        point = problem.prox(trees.where(first, x, trees.where(newton, along, away)), state.step_size)
        value = problem.operator(point, *args)

        def plain(_: Any) -> _natural.Trial:
            # (3)
            size = _natural.norm_of(_natural.force(problem, point, value, state.width), state.error)
            beside = jnp.where(state.relaxed < _RELAXED, jnp.maximum(state.error, state.best), state.best)
            fits = first | (size <= (1 - _DECREASE * state.share) * beside)
            return _natural.Trial(point, value, fits, state.step_size)

        extra = lambda _: _natural.extragradient(problem, x, state.operator, point, value, state.step_size, args)
        tried = jax.lax.cond(newton | first, plain, extra, None)
        point, value = trees.where(tried.accept, (tried.point, tried.value), (x, state.operator))
        return tried._replace(point=point, value=value)

    def _seen(
        self,
        problem: _natural.Scaled,
        x: Tree,
        state: State,
        now: Tree,
        value: Tree,
        width: Any,
        accept: Any,
        first: Any,
        units: Any,
    ) -> tuple[Any, Units]:
        """Return the error at the point, and what the step that has led there shows of the units."""
        force = _natural.force(problem, now, value, width)
        error = _natural.norm_of(force, state.error)
        move, change = trees.sub(now, x), trees.sub(force, state.force)
        old, eps = Units.of(state.scales), trees.eps(x)
        return error, _equations.after_step(
            old, accept, first, move, change, units, error, state.error, eps, each=False
        )[0]

    def _schedule(self, state: State, newton: Any, accept: Any, better: Any) -> tuple[Any, Any, Any]:
        """Return how many extragradient steps come next, how many the next time, and the share of the direction."""
        failed = newton & ~accept
        share = jnp.where(failed, _CUT * state.share, jnp.ones_like(state.share))
        rests = failed & (share < _LEAST)
        done = jnp.where(newton, 0, jnp.maximum(state.pause - accept.astype(jnp.int32), 0))
        pause = jnp.where(rests, state.wait, done)
        longer = jnp.where(rests, jnp.minimum(2 * state.wait, _LONGEST), state.wait)
        # Newton steps that lead to where they led before are no progress
        wait = jnp.where(newton & accept & better, _PAUSE, longer)
        return pause, wait, jnp.where(rests, 1, share)

    def _width(self, problem: _natural.Scaled, x: Tree, value: Tree, args: tuple[Tree, ...]) -> Any:
        dtype = trees.real_dtype(x)
        return _natural.natural_step(problem, x, args, _natural.first_length(x, value, dtype)).astype(dtype)

    def _direction(
        self,
        problem: _natural.Scaled,
        x: Tree,
        value: Tree,
        width: Any,
        error: Any,
        extent: Any,
        args: tuple[Tree, ...],
    ) -> tuple[Any, Any, Any]:
        """Return the residual's step size, the direction (2), and whether that solves its equations."""
        width = _natural.natural_step(problem, x, args, width)
        residual = trees.sub(x, _natural.ahead(problem, x, value, width))
        size = trees.norm(jax.lax.stop_gradient(extent)).astype(width.dtype)
        ratio = jax.lax.stop_gradient(width * error / jnp.where(size > 0, size, 1))
        shift = jnp.clip(jnp.where(size > 0, ratio, 0), trees.eps(x) ** _SHIFT, _MOST).astype(width.dtype)
        equation: Any = _Equation(problem, x, width, shift)
        direction, fresh = newton_direction(equation, x, residual, args, self.linear_solver)
        return width, direction, fresh & trees.all_finite(direction)

    def differentiable_step(self, problem: VariationalInequality, x: Tree, state: State, *args: Tree) -> Any:
        """Return one full Newton step, without a shift."""
        scaled = _natural.Scaled(problem, state.scaling)
        u = scaled.inside(x)
        equation = _Equation(scaled, u, jax.lax.stop_gradient(state.width), 0.0)
        matvec = linear.Linearized(lambda u: equation.residual(u, *args), u)
        name = f"the Newton step of {problem.name}"
        return scaled.outside(trees.sub(u, linear.solve(matvec, matvec.value, solver=self.linear_solver, name=name)))
