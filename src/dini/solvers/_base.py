"""The shape of a solver."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from .. import trees
from ..functions import function_name
from ..hints import missing_method
from ..loop import Outcome
from ..problems import Composite, FixedPoint, LeastSquares, Minimize, Root, check_unknown
from ..settings import require_count, require_number, require_positive
from ..status import Status
from ._by_hand import by_hand

#: accepted steps without gain after which a method has stalled
PATIENCE = 50


def lost_patience(idle: Any, steps: Any) -> Any:
    """Return whether a method without second derivatives has stalled, after so many steps without gain.

    On an ill-conditioned function its gradients rise and fall, near a solution by amounts that values no longer show:
    hundreds of steps may go by between two gains. A quarter of all steps is what they may take.
    """
    return (idle >= PATIENCE) & (4 * idle >= steps)


class Solver:
    """Base of the solvers: settings as a frozen pytree; ``init``, ``step``, and a stopping test.

    A state is a named tuple with a scalar field ``error``, the optimality measure that is compared with ``tol``
    (infinity before the first step), and, where the solver can detect its own failure, a field ``status``.
    One step evaluates the problem's function about once, so that no loop hides in it: a line search spreads its
    trials over steps. By hand, in a loop of your own, each of the two is compiled, as a solve is (inside of ``jit``,
    ``scan``, ``grad`` and ``vmap`` they are plain functions):

    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    >>> solver, x, a = dini.LBFGS(), jnp.zeros(2), jnp.array([1.0, 2.0])
    >>> state = solver.init(problem, x, a)
    >>> while not state.error <= 1e-6:
    ...     x, state = solver.step(problem, x, state, a)
    >>> print(x)
    [1. 2.]
    """

    tol: Any
    max_steps: int

    solves: ClassVar[tuple[type, ...]] = (Minimize, LeastSquares)
    composite: ClassVar[bool] = False
    #: whether the derivative of the method's map in the unknown vanishes at a solution, so that OneStep is exact
    superlinear: ClassVar[bool] = False
    #: whether the points depend smoothly on the parameters, so that Unrolled has something to differentiate
    differentiable: ClassVar[bool] = True
    #: whether no step makes the point worse; for other solvers the loop keeps the best point, for when they fail
    monotone: ClassVar[bool] = False
    #: whether the error of a step is that of the point before it, not of the one that it returns
    lags: ClassVar[bool] = False
    #: whether a point that meets the stopping test may be kept (see :meth:`untested`)
    stops: bool = True
    #: whether no step evaluates the objective: the loop does so once at the end, for one that is NaN is not minimized
    blind: ClassVar[bool] = False
    #: whether step sizes or a model are fitted to the way that is taken: steps need not contract in other directions
    fitted: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "init" in cls.__dict__:
            cls.init = by_hand(_checked(cls.init))
        if "step" in cls.__dict__:
            cls.step = by_hand(_converted(cls.step))

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Say of JAXopt's methods what takes their place."""
            hint = missing_method(name, type(self).__name__, self.solves[0].__name__)
            if hint is None:
                # what is missing is said as always, also of a property that fails
                return object.__getattribute__(self, name)
            raise AttributeError(hint, name=name, obj=self)

    @property
    def name(self) -> str:
        """The name for messages."""
        return type(self).__name__

    def init(self, problem: Any, x: Any, *args: Any) -> Any:
        """Return the state before the first step."""
        raise NotImplementedError

    def step(self, problem: Any, x: Any, state: Any, *args: Any) -> tuple[Any, Any]:
        """Return the next point and state."""
        raise NotImplementedError

    def untested(self) -> Any:
        """Return the solver for a fixed number of steps, which moves on from points that meet its test.

        A point that is kept from the start on has the derivative zero.
        """
        endless = copy.copy(self)
        object.__setattr__(endless, "stops", False)
        return endless

    def believes(self, problem: Any, x: Any, state: Any) -> Any:
        """Return whether the state of an earlier solve can be one of this problem and point."""
        del problem, x, state
        return True

    def value_in(self, problem: Any, state: Any) -> Any:
        """Return the problem's objective at the last accepted point, where the state holds it exactly, or ``None``.

        It is asked of monotone solvers, after a step at least.
        """
        del problem, state

    def derivative_solver(self, problem: Any, x: Any, state: Any) -> Any:
        """Return a linear solver for the derivative at ``x``, made of what the steps have left behind, or ``None``."""
        del problem, x, state

    def _check_settings(self) -> None:
        require_number(f"{self.name}'s tol", self.tol)
        require_positive(f"{self.name}'s tol", self.tol, or_zero=True)
        require_count(f"{self.name}'s max_steps", self.max_steps, 0)

    def check(self, problem: Any, x: Any) -> None:
        """Raise unless the solver can solve the problem."""
        del x
        if not isinstance(problem, self.solves):
            able = ", ".join(kind.__name__ for kind in self.solves)
            raise TypeError(
                f"{self.name} solves problems of the kinds {able}: given {problem.name}. {_suggest(problem)}"
            )
        if getattr(problem, "composite", False) and not self.composite:
            part = problem.constraint if problem.constraint is not None else problem.penalty
            raise TypeError(
                f"{self.name} cannot keep the {'constraint' if problem.constraint is not None else 'penalty'} "
                f"{part.name} of {problem.name}: it would ignore it. {_suggest(problem)}"
            )


def _checked(init: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ``init`` that refuses what the solver cannot solve: in a loop by hand there is no other door."""

    @functools.wraps(init)
    def checked(self: Any, problem: Any, x: Any, *args: Any) -> Any:
        x = check_unknown(x)
        if trees.has_complex(x):
            raise TypeError(
                f"{self.name} takes steps with real unknowns: given {trees.describe(x)}. dini.solve takes complex "
                "ones; in a loop by hand use problem.real_view() with pairs of real and imaginary parts."
            )
        self.check(problem, x)
        return init(self, problem, x, *args)

    return checked


def _converted(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``step`` that takes Python's numbers, too."""

    @functools.wraps(step)
    def converted(self: Any, problem: Any, x: Any, state: Any, *args: Any) -> Any:
        return step(self, problem, jax.tree.map(jnp.asarray, x), state, *args)

    return converted


def _suggest(problem: Any) -> str:
    if isinstance(problem, Composite):
        return "Use CondatVu, ADMM or DouglasRachford."
    part = getattr(problem, "constraint", None) or getattr(problem, "penalty", None)
    if getattr(problem, "composite", False) and part is not None and part.elementwise:
        if isinstance(problem, LeastSquares) and part is problem.constraint:
            return "Use LevenbergMarquardt, ProjectedNewton or LBFGSB."
        return (
            "Use ProjectedNewton or LBFGSB."
            if part is problem.constraint
            else "Use ProximalNewton or ProximalGradient."
        )
    if getattr(problem, "composite", False):
        return "Use ProximalGradient, ProjectedGradient, BlockCoordinateDescent or MirrorDescent."
    options = {
        Minimize: "LBFGS, Newton or GradientDescent",
        LeastSquares: "LevenbergMarquardt, GaussNewton or LBFGS",
        Root: "Newton, LevenbergMarquardt or Broyden",
        FixedPoint: "FixedPointIteration, Anderson or Newton",
    }
    return f"Use {options.get(type(problem), 'a solver that fits it')}."


def first_length(x: Any, direction: Any, norms: Any = None) -> Any:
    """Return the step size to try first along minus a gradient, where nothing is known of the curvature.

    The move is of length one at most. One from a start of that size may end exactly at zero, where the gradient of an
    even function vanishes, be it a minimum or not: such a one is shorter. ``norms`` are those of the direction and of
    ``x``, where they are known.
    """
    size, start = trees.norms(direction, x) if norms is None else norms
    long = size > 1
    length = 1 / jnp.where(long, size, 1)
    (end,) = trees.norms(trees.axpy(length, direction, x))
    return jnp.where(long & (end <= trees.eps(x) ** 0.5 * start), 0.93, 1.0) * length


def residual_step(x: Any, gradient: Any) -> Any:
    r"""Return the step size :math:`\eta` of the residual :math:`\|x - P(x - \eta g)\| / \eta` that a solver tests.

    One, or less where that would move the point by more than its own size: beside an unknown in small units any move is
    cut off by a bound, and :math:`\|x - P(x - g)\|` is small whatever the gradient.
    """
    size, slope = trees.norm(x), trees.norm(gradient)
    far = (size > 0) & (slope > size)
    return jax.lax.stop_gradient(jnp.where(far, size / jnp.where(far, slope, 1), 1.0))


def proximal_residual(problem: Any, x: Any, gradient: Any) -> jax.Array:
    """Return the norm of the residual of the proximal gradient step, in units of the gradient."""
    eta = residual_step(x, gradient)
    return trees.norm(trees.sub(x, problem.prox(trees.axpy(-eta, gradient, x), eta))) / eta


def relative_rounding(value: Any) -> Any:
    """Return a few units of rounding error of a function's value: smaller differences between values mean nothing."""
    return 10 * jnp.finfo(value.dtype).eps * jnp.abs(value)


def hidden_difference(value: Any) -> Any:
    """Return the difference from a function's value below which its slopes say more than its values do.

    That is more than :func:`relative_rounding`: a value that is small by cancellation, such as a sum of squares whose
    residuals are small beside the data, has lost further digits, which slopes have not. Hager and Zhang ("A new
    conjugate gradient method with guaranteed descent and an efficient line search", 2005) take a millionth; this is
    what double precision needs where the data are some 100,000 times the residuals.
    """
    return jnp.maximum(relative_rounding(value), 1e-2 * jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value))


def doubtful_difference(value: Any) -> Any:
    """Return the difference from a function's value below which a test of values gives way to one of gradients.

    That may be more than :func:`hidden_difference`, which must keep a line search from climbing by itself: a step that
    was too long shows in the next gradient, at any size.
    """
    return jnp.finfo(value.dtype).eps ** 0.5 * jnp.abs(value)


def shown_by_gradients(value: Any, new: Any, promised: Any, error: Any, size: Any) -> Any:
    """Return whether gradients show that a step is good whose values drown in rounding.

    What it promised and what came of it, ``value`` less ``new``, are below :func:`doubtful_difference`, and the
    gradient falls from ``error`` to ``size``: to half where the value rises by more than rounding.
    """
    doubtful, rises = doubtful_difference(value), new - value > relative_rounding(value)
    return (promised <= doubtful) & (new - value <= doubtful) & (size < jnp.where(rises, 0.5, 1) * error)


def kept_value(value: Any, new: Any, hidden: Any) -> Any:
    """Return the value that stands for an accepted point, of the last one and its own.

    It is the smaller one, so that rises by rounding, up to ``hidden``, do not add up. One that is larger, which
    :func:`shown_by_gradients` has allowed, is where the point is: beside the last value no step from there would do.
    """
    return jnp.where(new > value + hidden, new, jnp.minimum(value, new))


def judged(excess: Any, gap: Any, value: Any, first: Any) -> tuple[Any, Any]:
    """Return whether to accept a step by its quadratic upper bound, and whether rounding left that test its meaning.

    ``excess`` is what the new value has over the bound, ``gap`` the bound's last term. A test that drowns in rounding
    is passed, except by the first step, whose length is a guess; :func:`shortened` has to look at what follows.
    """
    slack = relative_rounding(value)
    tested = (excess <= slack) & (gap > slack)
    return (excess <= slack) | (~first & (excess <= doubtful_difference(value))), tested


def shortened(step_size: Any, unsure: Any, rise: Any, room: Any) -> tuple[Any, Any]:
    """Return the step size after a step of which values could not tell whether it was too long, and whether it was.

    It was where the gradient's change along it, ``rise``, is more than ``room`` over the step size: the squared length
    of the move, or what stands for it in another geometry.
    """
    steep = unsure & (step_size * rise > room)
    fits = room / jnp.where(steep, rise, 1)
    return jnp.where(steep, jnp.clip(fits, 1e-3 * step_size, 0.5 * step_size), step_size), steep


def swallowed(x: Any, forward: Any, new: Any, gradient: Any) -> Any:
    r"""Return the squared length of the part of a gradient that rounding has kept from moving the point.

    A gradient step, ``forward``, that is short beside the rounding error of ``x`` leaves elements as they are, or as
    they are after the proximal step to ``new``; an error that is measured by the move, :math:`\|\Delta x\| / \eta`,
    would be zero there. A proximal operator is nonexpansive, so that at most that part of the gradient is missing.
    """

    def one(u: jax.Array, v: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        short = jnp.abs(v - u) <= 2 * jnp.finfo(u.dtype).eps * jnp.abs(u)
        return jnp.sum(jnp.where(short & ((v == u) | (w == u)), g * g, 0))

    parts = jax.tree.leaves(jax.tree.map(one, x, forward, new, gradient))
    return trees.total(parts) if parts else jnp.zeros(())


def infinity(x: Any) -> Any:
    """Return infinity in the dtype of scalars that belong to ``x``."""
    return jnp.full((), jnp.inf, trees.real_dtype(x))


def running() -> Any:
    """Return the status of a solver that has found no failure."""
    return jnp.asarray(Status.RUNNING, jnp.int32)


@trees.register
@dataclass(frozen=True)
class Function(Solver):
    """A plain function ``(problem, init, *args) -> x`` as a solver.

    What it returns is believed only if it satisfies the problem's own condition: the norm of the condition's residual
    (in units of the gradient) must be at most ``tol`` times the residual at ``init``, or at a point that is away by one
    plus the solution's own size, if that is smaller, or one, if that is larger than both.

    Parameters
    ----------
    fun
        The function.
    tol
        Default: the fourth root of the unit roundoff.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    >>> closed_form = lambda problem, init, a: a
    >>> print(jax.jacobian(lambda a: dini.solve(problem, closed_form, jnp.zeros(2), a).x)(jnp.ones(2)))
    [[1. 0.]
     [0. 1.]]
    """

    fun: Callable[..., Any]
    tol: Any = None

    solves = (Minimize, LeastSquares, Root, FixedPoint, Composite)
    composite = True
    max_steps = 1

    @property
    def name(self) -> str:
        """The function's name."""
        return function_name(self.fun)

    def run(self, problem: Any, x: Any, args: tuple[Any, ...]) -> Outcome:
        """Call the function and test what it returns."""
        solution = self.fun(problem, x, *args)
        trees.require_same(f"The solution returned by {self.name}", solution, x, "init")
        away = trees.varied(x)
        length = (1 + trees.norm(solution)) / jnp.maximum(trees.norm(away), trees.eps(x))
        away = trees.add(solution, jax.tree.map(lambda d: (length * d).astype(d.dtype), away))
        error, far, start = (problem.condition.error(problem, u, *args) for u in (solution, away, x))
        tol = trees.eps(x) ** 0.25 if self.tol is None else self.tol
        # a far start vouches for nothing, and neither does a point where the residual has grown exponentially
        scale = jnp.minimum(*(jnp.where(jnp.isfinite(size), size, jnp.inf) for size in (far, start)))
        scale = jnp.where(jnp.isfinite(scale), jnp.maximum(scale, 1), 1)
        tol = tol * scale
        status = jnp.where(error <= tol, Status.CONVERGED, Status.CONDITION)
        status = jnp.where(jnp.isfinite(error), status, Status.NONFINITE).astype(jnp.int32)
        return Outcome(solution, (), jnp.ones((), jnp.int32), status, error, tol=tol)
