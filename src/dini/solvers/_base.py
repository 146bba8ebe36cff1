"""The shape of a solver."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..checks.records import record
from ..checks.settings import require_count, require_number, require_positive
from ..explanations import missing_method
from ..problems import (
    LeastSquares,
    Minimize,
    check_unknown,
)
from ..status import Status
from ..trees import Tree
from .shared._by_hand import by_hand

#: what states tell by fields of these names
_VECTORS = ("gradient", "direction", "velocity", "extrapolated")
_READ = ("error", "status", "value", "aux", "step_size", "momentum")


def require_new_names(cls: type, **names: str) -> None:
    """Raise where a solver's class defines a method by an old name, which nothing calls anymore."""
    for old, new in names.items():
        if old in vars(cls):
            raise TypeError(
                f"{cls.__name__} defines {old}: dini calls this method {new} since version 0.3. Rename it to {new}."
            )


@dataclass(frozen=True, kw_only=True)
class Solver:
    r"""Base of the solvers: settings as a frozen pytree; ``init``, ``step``, and a stopping test.

    This is all that the rest of dini knows of a solver. A subclass, under the decorator :func:`dini.solver`, defines
    :meth:`init` and :meth:`step`; everything else has a default: the attributes below, which may be properties of the
    settings, and the methods :meth:`check`, :meth:`accepts_state`, :meth:`last_value`, :meth:`derivative_solver`,
    :meth:`readings` and :meth:`fixed_steps`.

    A state is a named tuple with a scalar field ``error``, an optimality measure (infinity before the first step), and,
    where the solver can detect its own failure, a field ``status``. A solve ends where

    .. math:: \text{error} \le \max(\text{rtol} \cdot \text{scale} + \text{atol}, \text{rounding}) .

    The scale is the error of a point that is wrong by as much as the solution's own size, so that ``rtol`` is about
    the relative error of ``x``, in whatever units the problem is stated; the steps show it. The rounding is what a few
    units in the last place of ``x`` do to the error. A field ``scales`` of the state holds both; without one the error
    is taken for a relative one, with the scale one and no rounding. With ``rtol=0``, ``atol`` is all that counts.
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
    stops
        Whether a point that meets the stopping test may be kept. With a fixed number of steps that are differentiated
        it may not: a point that is kept from the start on has the derivative zero.

    Attributes
    ----------
    solves
        The kinds of problems that it takes.
    composite
        Whether it keeps constraints and penalties, through ``problem.prox``.
    monotone
        Whether no step makes the point worse; of other solvers the best point is kept, for when they fail.
    error_before_step
        Whether the error of a step is that of the point before it, not of the one that it returns.
    gradient_only
        Whether no step evaluates the objective, so that it is looked at once at the end: where it is NaN, nothing was
        minimized.
    superlinear
        Whether the derivative of the method's map in the unknown vanishes at a solution, so that
        :class:`dini.OneStep` is exact.
    differentiable
        Whether the points depend smoothly on the parameters, so that :class:`dini.Unrolled` has something to
        differentiate.
    adaptive
        Whether step sizes or a model are fitted to the way that is taken, so that steps need not contract in other
        directions: ``Unrolled(steps=...)`` tests these solvers as well.
    differentiable_step
        A method ``differentiable_step(problem, x, state, *args)``, the step that :class:`dini.OneStep` differentiates,
        or ``None``.
    takes_steps
        Whether there are steps: not of a solver with a method ``run(problem, x, args)``, which returns all at once, as
        those do that call other libraries.
    scales_unknowns
        Whether it takes its steps in scaled variables: a method ``begin(problem, x, scales, args)`` returns the state
        before the first step, with the scales of :mod:`dini.scaling`, or ``None`` where there are none.
    tests_elements
        Whether its stopping test for equations holds for each element of the unknown relative to its own size; results
        of others are verified.
    steps_to_take
        How many steps are taken, whatever the test says and ``max_steps`` is; ``None`` leaves that to the test. The
        argument ``steps`` of :func:`dini.solve` sets it.

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
    stops: bool = field(default=True, repr=False, metadata={"static": True})

    if TYPE_CHECKING:  # every solver has its own default
        max_steps: int

    solves: ClassVar[tuple[type, ...]] = (Minimize, LeastSquares)
    composite: ClassVar[bool] = False
    monotone: ClassVar[bool] = False
    error_before_step: ClassVar[bool] = False
    gradient_only: ClassVar[bool] = False
    superlinear: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    adaptive: ClassVar[bool] = False
    scales_unknowns: ClassVar[bool] = False
    tests_elements: ClassVar[bool] = False
    steps_to_take: ClassVar[int | None] = None

    if TYPE_CHECKING:

        def differentiable_step(self, problem: Any, x: Tree, state: Any, *args: Tree) -> Any: ...
        def run(self, problem: Any, x: Tree, args: tuple[Tree, ...]) -> Any: ...

    else:
        differentiable_step = None

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Say of JAXopt's methods what takes their place."""
            hint = missing_method(name, type(self).__name__, self.solves[0].__name__)
            if hint is None:
                # the usual error for a missing name, also of a property that fails
                return object.__getattribute__(self, name)
            raise AttributeError(hint, name=name, obj=self)

    @property
    def name(self) -> str:
        """The name for messages."""
        return type(self).__name__

    @property
    def takes_steps(self) -> bool:
        """Whether there are steps, and no method ``run`` in their place."""
        return not hasattr(type(self), "run")

    def init(self, problem: Any, x: Tree, *args: Tree) -> Any:
        """Return the state before the first step."""
        raise NotImplementedError

    def step(self, problem: Any, x: Tree, state: Any, *args: Tree) -> tuple[Any, Any]:
        """Return the next point and state."""
        raise NotImplementedError

    def begin(self, problem: Any, x: Tree, scales: Tree | None, args: tuple[Tree, ...]) -> Any:
        """Return the state before the first step; ``scales`` are those of the unknowns, for a solver that uses them."""
        del scales
        return self.init(problem, x, *args)

    def fixed_steps(self) -> Any:
        """Return the solver for a fixed number of steps, which moves on from points that meet its test."""
        fixed = copy.copy(self)  # settings were checked once, and may be other things than numbers by now
        object.__setattr__(fixed, "stops", False)
        return fixed

    def accepts_state(self, problem: Any, x: Tree, state: Any, *args: Tree) -> Any:
        """Return whether the state of an earlier solve can be one of this problem, its arguments and this point."""
        del problem, x, state, args
        return True

    def last_value(self, problem: Any, state: Any) -> Any:
        """Return the problem's objective at the last accepted point, where the state holds it exactly, or ``None``.

        It is asked of monotone solvers, after a step at least.
        """
        del problem, state

    def derivative_solver(self, problem: Any, x: Tree, state: Any) -> Any:
        """Return a linear solver for the derivative at ``x``, made of what the steps have left behind, or ``None``."""
        del problem, x, state

    def readings(self, x: Tree, state: Any) -> dict[str, Any]:
        """Return what the state at the point ``x`` tells, by name, however the method keeps it.

        Always ``error``. Of the others those that the method has: ``status``; ``value``, ``gradient`` and ``aux`` (the
        objective, its gradient and the auxiliary output, where the error is that of), ``step_size`` (of the next trial,
        of a method with given steps that of the last one), ``direction``, ``velocity``, ``momentum`` and
        ``extrapolated``; and what one family alone has, as the solver's own page says. Before the first step values are
        infinity.

        Examples
        --------
        >>> import dini, jax.numpy as jnp
        >>> problem, solver, x = dini.Minimize(lambda x: jnp.sum(x**2)), dini.GradientDescent(0.25), jnp.ones(2)
        >>> x, state = solver.step(problem, x, solver.init(problem, x))
        >>> print(solver.readings(x, state)["gradient"], solver.readings(x, state)["step_size"])
        [2. 2.] 0.25
        """
        found = {name: getattr(state, name) for name in _READ if hasattr(state, name)}
        vectors = {name: _in_structure(getattr(state, name, None), x) for name in _VECTORS}
        return found | {name: vector for name, vector in vectors.items() if vector is not None}

    def __init_subclass__(cls, **settings: Any) -> None:
        """Refuse a method by its old name."""
        super().__init_subclass__(**settings)
        require_new_names(cls, untested="fixed_steps")

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

    def check(self, problem: Any, x: Tree) -> None:
        """Raise unless the solver can solve the problem."""
        del x
        reason = None
        if not isinstance(problem, self.solves):
            able = ", ".join(kind.__name__ for kind in self.solves)
            reason = f"{self.name} solves problems of the kinds {able}: given {problem.name}"
        elif problem.composite and not self.composite:
            what, part = (
                ("penalty", problem.penalty) if problem.constraint is None else ("constraint", problem.constraint)
            )
            reason = f"{self.name} cannot handle the {what} {part.name} of {problem.name}: it would ignore it"
        if reason is not None:
            from ..explanations import parts

            raise TypeError(f"{reason}. {parts.other_solver(problem)}")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def solver[Class: type](cls: Class) -> Class:
    """Make a subclass of :class:`Solver` a solver: the decorator above each.

    The class becomes a frozen dataclass of settings and a pytree (fields whose metadata say ``static`` are not leaves),
    whose constructor explains what it does not take. Its ``init`` and ``step`` get checks for a user's own loops:
    ``init`` refuses what the solver cannot solve, ``step`` takes Python's numbers, and where nothing is traced both are
    compiled. Inside of ``jit``, ``scan``, ``grad`` and ``vmap`` they are the functions of the class.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> from typing import Any, NamedTuple
    >>> class State(NamedTuple):
    ...     error: Any
    >>> @dini.solver
    ... class FixedStep(dini.Solver):
    ...     step_size: Any = 0.1
    ...     max_steps = 1000
    ...     def init(self, problem, x, *args):
    ...         return State(jnp.inf)
    ...     def step(self, problem, x, state, *args):
    ...         gradient = problem.gradient(x, *args)
    ...         return x - self.step_size * gradient, State(jnp.linalg.norm(gradient))
    >>> print(dini.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(2), solver=FixedStep(0.4)).x.round(3))
    [1. 1.]
    """
    made: Any = record(cls)
    for name, checks in (("init", _checked), ("step", _converted)):
        method = getattr(cls, name)
        if not hasattr(method, "checked"):  # that of a base class is checked already
            setattr(made, name, by_hand(checks(method)))
    return made


def _checked(init: Callable[..., Any]) -> Callable[..., Any]:
    """Return an ``init`` that refuses what the solver cannot solve: a user's own loop has no other check."""

    @functools.wraps(init)
    def checked(self: Any, problem: Any, x: Tree, *args: Tree) -> Any:
        x = check_unknown(x)
        if trees.has_complex(x):
            raise TypeError(
                f"{self.name} takes steps with real unknowns: given {trees.describe(x)}. dini.solve takes complex "
                "ones; in your own loop use problem.real_view() with pairs of real and imaginary parts."
            )
        self.check(problem, x)
        return init(self, problem, x, *args)

    return checked


def _converted(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``step`` that takes Python's numbers, too."""

    @functools.wraps(step)
    def converted(self: Any, problem: Any, x: Tree, state: Any, *args: Tree) -> Any:
        return step(self, problem, jax.tree.map(jnp.asarray, x), state, *args)

    return converted


def _in_structure(vector: Any, x: Tree) -> Any:
    """Return a vector, which a state may hold as one array, in the structure of the unknown; ``None`` for none."""
    if vector is None:
        return None
    (leaves, structure), (like, needed) = jax.tree.flatten(vector), jax.tree.flatten(x)
    if structure == needed and all(jnp.shape(a) == jnp.shape(b) for a, b in zip(leaves, like, strict=True)):
        return vector
    return ravel_pytree(x)[1](vector) if isinstance(vector, jax.Array) and vector.shape == (trees.size(x),) else None


def infinity(x: Tree) -> Any:
    """Return infinity in the dtype of scalars that belong to ``x``."""
    return jnp.full((), jnp.inf, trees.real_dtype(x))


def running() -> Any:
    """Return the status of a solver that has found no failure."""
    return jnp.asarray(Status.RUNNING, jnp.int32)
