"""The shape of a condition, and those that are the problem's own residual or the user's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.records import record
from ..functions import as_function, close
from ..linear import Linearized, Reduction
from ..protocols import AnyProblem, Equations
from ..trees import Tree


class Condition:
    """Base of the conditions; subclasses stand under the decorator ``record``."""

    #: whether the derivative of the condition has the kinks of the problem's projection or proximal operator
    kinked: bool = True

    #: whether the residual is a smooth function, whose derivative is what is linearized
    smooth: bool = False

    def __call__(self, problem: Any, x: Tree, *args: Tree) -> Tree:
        """Return the residual ``F``, a tree like ``x``."""
        raise NotImplementedError

    def at(self, problem: Any, x: Tree, *args: Tree) -> Condition:
        """Return the condition with what is left open (such as a step size) fixed at ``x``."""
        del problem, x, args
        return self

    def settled_like(self, other: Any) -> Condition:
        """Return this condition with what :meth:`at` fixed in ``other``."""
        del other
        return self

    def closed(self, x: Tree, *args: Tree) -> Condition:
        """Return the condition with everything that its functions close over made explicit."""
        del x, args
        return self

    def structure(self, problem: Any) -> Any:
        """Return what is known of the derivative of ``F`` in ``x``."""
        del problem
        return None

    def is_fixed_point(self, problem: Any) -> bool:
        """Return whether ``F`` is ``x - T(x)``, so that its derivative is the identity minus that of a map."""
        del problem
        return False

    def linearize(self, problem: Any, x: Tree, *args: Tree) -> tuple[Callable[[Any], Any], Reduction | None]:
        """Return the derivative of ``F`` in ``x`` as a linear function, and a positive semidefinite stand-in."""
        return Linearized(lambda u: self(problem, u, *args), x), None

    def kinks(self, problem: Any, x: Tree, *args: Tree) -> tuple[Any, Any, Any] | None:
        """Return what has kinks in the condition, fixed at ``x``, or ``None`` where it is smooth.

        It is a projection or proximal operator: its argument as a function of the unknown, the operator, and the
        distance of an argument from a kink.
        """
        if not (problem.composite and self.kinked):
            return None
        step = getattr(self, "step_size", None)
        step = jnp.ones((), trees.real_dtype(x)) if step is None else step
        return (
            lambda u: problem.prox_argument(u, step, *args),
            lambda y: problem.prox(y, step),
            lambda y: problem.kink_distance(y, step),
        )

    def sound(self, problem: Any, x: Tree, *args: Tree) -> Any:
        """Return whether the point can be what the problem asks for, as far as its derivative does not tell."""
        del problem, x, args
        return True

    def forces(self, problem: Any, x: Tree, *args: Tree) -> Any:
        """Return the residual in units of a gradient, where it is one, ``None`` elsewhere."""
        del problem, x, args

    def error(self, problem: Any, x: Tree, *args: Tree) -> jax.Array:
        """Return the norm of the residual, in units of the gradient where there is one."""
        return trees.sized_norm(self.at(problem, x, *args)(problem, x, *args))


def _kinks_of(fun: Any, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Any, Any] | None:
    own = getattr(fun, "kinks", None)
    return None if own is None else own(x, *args)


@record
class Residual(Condition):
    """The residual that the problem states itself: ``F(x)`` of a root, ``x - T(x)`` of a fixed point."""

    smooth: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, problem: Equations, x: Tree, *args: Tree) -> Tree:
        """Return the problem's residual."""
        return problem.residual(x, *args)

    def kinks(self, problem: Equations, x: Tree, *args: Tree) -> tuple[Any, Any, Any] | None:
        """Return those of the function, where it says that it has some."""
        return _kinks_of(getattr(problem, "fun", None), x, args)

    def structure(self, problem: AnyProblem) -> Any:
        """Return what the problem declares."""
        return problem.structure

    def is_fixed_point(self, problem: AnyProblem) -> bool:
        """Return whether the problem is a fixed point."""
        return hasattr(problem, "map")


@record
class Given(Condition):
    """A user's function ``F(x, *args)``; ``fixed_point`` says that it is ``x - T(x, *args)``."""

    smooth: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]

    fun: Any
    fixed_point: bool = field(default=False, metadata={"static": True})

    def is_fixed_point(self, problem: AnyProblem) -> bool:
        """Return what was declared."""
        del problem
        return self.fixed_point

    def __call__(self, problem: AnyProblem, x: Tree, *args: Tree) -> Tree:
        """Return ``F(x, *args)``."""
        del problem
        output = self.fun(x, *args)
        trees.require_same("The output of the condition", output, x, "the unknown x")
        return output

    def kinks(self, problem: AnyProblem, x: Tree, *args: Tree) -> tuple[Any, Any, Any] | None:
        """Return those of the function, where it says that it has some."""
        del problem
        return _kinks_of(self.fun, x, args)

    def closed(self, x: Tree, *args: Tree) -> Given:
        """Return the condition with everything that its function closes over made explicit."""
        return dataclasses.replace(self, fun=close(self.fun, x, *args))


@record
class _FixedPointResidual:
    map: Any

    def __call__(self, x: Tree, *args: Tree) -> Tree:
        return trees.sub(x, self.map(x, *args))


def fixed_point(map: Any) -> Given:
    """Return the condition ``x - T(x, *args) = 0`` of a user's map ``T``.

    Examples
    --------
    >>> import dini, jax
    >>> T = lambda x, a: 0.5 * (x + a / x)
    >>> mode = dini.Implicit(condition=dini.conditions.fixed_point(T))
    >>> problem = dini.Root(lambda x, a: x**2 - a)
    >>> root = lambda a: dini.solve(problem, dini.Newton(), 1.0, a, differentiation=mode).x
    >>> round(float(jax.grad(root)(4.0)), 4)
    0.25
    """
    return Given(_FixedPointResidual(as_function(map, "T")), fixed_point=True)


def as_condition(condition: Any) -> Condition:
    """Return a condition for one of dini's or for a plain function ``F(x, *args)``."""
    if isinstance(condition, Condition):
        return condition
    if callable(condition):
        return Given(as_function(condition, "condition"))
    raise TypeError(f"condition must be one of dini.conditions' or a function F(x, *args): given {condition!r}.")
