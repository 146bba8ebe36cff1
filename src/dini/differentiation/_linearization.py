"""An optimality condition around a point: what every rule of differentiation needs of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from .. import trees
from ..linear import Reduction, Structure, System
from ..trees import Tree


class Kinks(NamedTuple):
    """A projection or proximal operator in a condition: its argument at ``u``, its value, its distance to a kink."""

    argument: Callable[[Any], Any]
    prox: Callable[[Any], Any]
    distance: Callable[[Any], jax.Array]


class Linearization(NamedTuple):
    r"""A condition ``F`` and its derivative in ``x`` at a point.

    Attributes
    ----------
    x
        The point.
    function
        ``(u, parameters) -> F(u, parameters)``, with what the condition fixes at ``x`` (a step size) held fixed.
    matvec
        The product with :math:`A = \partial_1 F` at ``x``.
    structure
        What is known of ``A``.
    reduction
        A positive semidefinite stand-in for ``A``, or ``None``.
    kinks
        The problem's projection or proximal operator, or ``None`` where nothing is projected.
    declared
        Whether the structure is what a user says, and not what mathematics says.
    sound
        Returns whether the point can be a solution, for certificates: a stationary point may be no minimum.
    smooth
        Whether ``A`` is the derivative of ``function`` in ``u``, which has no kinks.
    """

    x: Tree
    function: Callable[[Any, Any], Any]
    matvec: Callable[[Any], Any]
    structure: Structure = None
    reduction: Reduction | None = None
    kinks: Kinks | None = None
    declared: bool = False
    sound: Callable[[], Any] = lambda: True
    smooth: bool = False

    def system(self, linear_solver: Any) -> System:
        """Return the linear system of the derivative."""
        return System(self.matvec, self.x, self.structure, self.reduction, linear_solver)


class Parameters(NamedTuple):
    """The parameters that move: their values, and how the others complete them."""

    moving: list[Any]
    merge: Callable[[list[Any]], Any]

    @classmethod
    def that_move(cls, leaves: list[Any], tangents: list[Any], treedef: Any) -> tuple[Parameters, list[Any]]:
        """Return those of a tree's leaves whose tangents are not known to be zero, and these tangents."""
        places = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]
        moving, merge = trees.picked(leaves, places)
        completed = lambda some: jax.tree.unflatten(treedef, merge(some))
        return cls(moving, completed), [tangents[i] for i in places]

    @property
    def values(self) -> Any:
        """All parameters."""
        return self.merge(self.moving)

    def apply(self, at: Linearization, u: Tree) -> Any:
        """Return the condition at ``u`` as a function of what moves."""
        return lambda some: at.function(u, self.merge(some))


def instantiated(primals: Tree, tangents: Tree) -> Any:
    """Return tangents as arrays, where they may be symbolic."""
    one = lambda x, dx: jnp.zeros_like(x) if isinstance(dx, SymbolicZero) else dx
    return jax.tree.map(one, primals, tangents)


def linearize(x: Tree, parameters: tuple[Any, tuple[Any, ...], Any]) -> Linearization:
    """Linearize a condition of a problem; ``parameters`` are the problem, its arguments and the condition."""
    problem, args, condition = parameters
    fixed = condition.at(problem, x, *args)
    matvec, reduction = fixed.linearize(problem, x, *args)

    def function(u: Tree, parameters: Any) -> Any:
        problem, args, condition = parameters
        # what `at` fixed is a constant; what the condition holds itself is a parameter
        return condition.settled_like(fixed)(problem, u, *args)

    kinks = fixed.kinks(problem, x, *args)
    kinks = None if kinks is None else Kinks(*kinks)
    declared = problem.symmetric
    sound = lambda: fixed.sound(problem, x, *args)
    smooth = condition.smooth and kinks is None
    return Linearization(x, function, matvec, condition.structure(problem), reduction, kinks, declared, sound, smooth)
