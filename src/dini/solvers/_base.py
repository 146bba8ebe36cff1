"""The shape of a solver."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from .. import trees
from ..functions import function_name
from ..hints import missing_method
from ..loop import Outcome
from ..problems import Composite, FixedPoint, LeastSquares, Minimize, NonlinearProgram, Root, check_unknown
from ..settings import require_count, require_number, require_positive
from ..status import Status
from ._by_hand import by_hand
from ._scales import PROBE, Scales

#: accepted steps without gain after which a method has stalled
PATIENCE = 50


def lost_patience(idle: Any, steps: Any) -> Any:
    """Return whether a method without second derivatives has stalled, after so many steps without gain.

    On an ill-conditioned function its gradients rise and fall, near a solution by amounts that values no longer show:
    hundreds of steps may go by between two gains. A quarter of all steps is what they may take.
    """
    return (idle >= PATIENCE) & (4 * idle >= steps)


@dataclass(frozen=True, kw_only=True)
class Solver:
    r"""Base of the solvers: settings as a frozen pytree; ``init``, ``step``, and a stopping test.

    A state is a named tuple with a scalar field ``error``, an optimality measure (infinity before the first step), and,
    where the solver can detect its own failure, a field ``status``. A solve ends where

    .. math:: \text{error} \le \max(\text{rtol} \cdot \text{scale} + \text{atol}, \text{rounding}) .

    The scale is the error of a point that is wrong by as much as the solution's own size, so that ``rtol`` is about
    the relative error of ``x``, in whatever units the problem is stated; the steps show it. The rounding is what a few
    units in the last place of ``x`` do to the error. A field ``scales`` of the state holds both; without one the error
    is taken for a relative one, with the scale one.
    One step evaluates the problem's function about once, so that no loop hides in it: a line search spreads its
    trials over steps.

    Parameters
    ----------
    rtol
        Relative tolerance. Default: the square root of the unit roundoff, or zero where ``atol`` is given.
    atol
        Absolute tolerance, in the units of the error. Default: zero.
    tol
        JAXopt's name for ``atol``.

    Examples
    --------
    By hand, in a loop of your own, each of the two is compiled, as a solve is (inside of ``jit``, ``scan``, ``grad``
    and ``vmap`` they are plain functions):

    >>> import dini, jax.numpy as jnp
    >>> problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    >>> solver, x, a = dini.LBFGS(), jnp.zeros(2), jnp.array([1.0, 2.0])
    >>> state = solver.init(problem, x, a)
    >>> while not state.error <= 1e-6:
    ...     x, state = solver.step(problem, x, state, a)
    >>> print(x)
    [1. 2.]
    """

    rtol: Any = None
    atol: Any = None
    tol: InitVar[Any] = None

    if TYPE_CHECKING:  # every solver has its own default
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
    stops: ClassVar[bool] = True
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

    def __post_init__(self, tol: Any = None) -> None:  # noqa: RUF033  # a solver of a user's may have its own field tol
        self._check_settings(tol)

    def _check_settings(self, tol: Any = None) -> None:
        if tol is not None:
            if self.atol is not None:
                raise TypeError(f"{self.name}'s tol is another name for atol: give one of them.")
            require_number(f"{self.name}'s tol", tol)
            require_positive(f"{self.name}'s tol", tol, or_zero=True)
            object.__setattr__(self, "atol", tol)
        for name in ("rtol", "atol"):
            require_number(f"{self.name}'s {name}", getattr(self, name))
            require_positive(f"{self.name}'s {name}", getattr(self, name), or_zero=True)
        require_count(f"{self.name}'s max_steps", getattr(self, "max_steps", 1), 0)

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
    if isinstance(problem, NonlinearProgram):
        return "Use NonlinearInteriorPoint."
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


def natural_length(value: Any, size: Any, slope: Any) -> Any:
    """Return a length in the unknown's units, at a start of norm ``size``: that norm.

    Where it is zero, it is the distance in which the value would fall to zero along the gradient, of norm ``slope``;
    where the value is zero as well nothing is known, and it is one.
    """
    ahead = jnp.where(slope > 0, jnp.abs(value) / jnp.where(slope > 0, slope, 1), 0)
    return jnp.where(size > 0, size, jnp.where((ahead > 0) & jnp.isfinite(ahead), ahead, 1))


def probe_length(value: Any, size: Any, slope: Any, eps: Any) -> Any:
    """Return the step size of a first step along minus a gradient, which shows the curvature there.

    It moves the point by the cube root of the unit roundoff of the :func:`natural_length`. Any other length would be
    one in the units of the unknown.
    """
    return eps**PROBE * natural_length(value, size, slope) / jnp.where(slope > 0, slope, 1)


def cold_length(scales: Scales, size: Any, slope: Any) -> Any:
    """Return the step size along minus a gradient of norm ``slope`` where no model of the curvature is left.

    It is the inverse curvature of the last steps, if one is known, and moves the point, of norm ``size``, no farther
    than that, or than the start was large.
    """
    far = jnp.maximum(size, scales.origin)
    own = jnp.where(far > 0, far, 1) / jnp.where(slope > 0, slope, 1)
    return jnp.where(scales.soft > 0, jnp.minimum(scales.soft, own), own)


def residual_step(x: Any, gradient: Any, *, convex: bool = True) -> Any:
    r"""Return the step size :math:`\eta` of the residual :math:`\|x - P(x - \eta g)\| / \eta` that a solver tests.

    It moves the point by its own size: with one in other units, a move would be cut off by a bound, or a bound be out
    of reach, whatever the gradient. At zero, where no size is known, it is one, and at most one for parts that are not
    ``convex``: their proximal operators are for steps that are short beside their own curvature.
    """
    size, slope = trees.norm(x), trees.norm(gradient)
    known = (size > 0) & (slope > 0)
    own = jnp.where(known, size / jnp.where(known, slope, 1), 1.0)
    return jax.lax.stop_gradient(own if convex else jnp.minimum(own, 1))


def proximal_residual(problem: Any, x: Any, gradient: Any) -> jax.Array:
    """Return the norm of the residual of the proximal gradient step, in units of the gradient."""
    parts = (getattr(problem, name, None) for name in ("constraint", "penalty"))
    eta = residual_step(x, gradient, convex=all(getattr(part, "convex", True) for part in parts))
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
    must be at most ``rtol`` times that at a point which is away by the solution's own size (by that of ``init`` where
    the solution is zero, by one where both are), or ten times that at a tenth of this distance, if it is smaller. A
    residual of ``atol`` is always good enough.

    Parameters
    ----------
    fun
        The function.
    rtol
        Default: the fourth root of the unit roundoff, or zero where ``atol`` is given.
    atol
        Default: zero.

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

    solves = (Minimize, LeastSquares, Root, FixedPoint, Composite)
    composite = True
    max_steps: ClassVar[int] = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def name(self) -> str:
        """The function's name."""
        return function_name(self.fun)

    def run(self, problem: Any, x: Any, args: tuple[Any, ...]) -> Outcome:
        """Call the function and test what it returns."""
        solution = self.fun(problem, x, *args)
        trees.require_same(f"The solution returned by {self.name}", solution, x, "init")
        away, size, start = trees.varied(x), trees.norm(solution), trees.norm(x)
        size = jnp.where(size > 0, size, jnp.where(start > 0, start, 1)) / jnp.maximum(trees.norm(away), trees.eps(x))
        moved = lambda share: trees.axpy(share * size, away, solution)
        error, far, near = (problem.condition.error(problem, u, *args) for u in (solution, moved(1), moved(0.1)))
        # a point where the residual has grown exponentially vouches for nothing
        scale = jnp.minimum(*(jnp.where(jnp.isfinite(each), each, jnp.inf) for each in (far, 10 * near)))
        scale = jnp.where(jnp.isfinite(scale), scale, 0)
        rtol = self.rtol
        if rtol is None:
            rtol = trees.eps(x) ** 0.25 if self.atol is None else 0.0
        tol = rtol * scale + (0.0 if self.atol is None else self.atol)
        status = jnp.where(error <= tol, Status.CONVERGED, Status.CONDITION)
        status = jnp.where(jnp.isfinite(error), status, Status.NONFINITE).astype(jnp.int32)
        return Outcome(solution, (), jnp.ones((), jnp.int32), status, error, tol=tol)
