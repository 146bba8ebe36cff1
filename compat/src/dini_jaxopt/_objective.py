"""A user's functions with JAXopt's arguments, as functions of dini's problems: ``(x, (args, kwargs))``."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax.numpy as jnp

import dini
from dini.extend import as_function, close, function_name, record

from ._known import known
from .prox import prox_none

#: positional and keyword arguments of a call
Given = tuple[tuple[Any, ...], dict[str, Any]]


@record
class Bound:
    """A function ``fun(x, *args, **kwargs)`` as one of ``x`` and the pair of its arguments."""

    fun: Any

    @property
    def name(self) -> str:
        """The user's name of it, for messages."""
        return function_name(self.fun)

    def __call__(self, x: Any, given: Given) -> Any:
        """Call the function."""
        args, kwargs = given
        return self.fun(x, *args, **kwargs)


@record
class Evaluated:
    """An objective whose gradient the user gives: ``both`` returns ``(value, gradient)``.

    With ``has_aux`` the value is a pair ``(value, aux)``. ``alone`` returns what stands in place of the value,
    where it can be computed without the gradient.
    """

    both: Any
    alone: Any = None
    has_aux: bool = field(default=False, metadata={"static": True})

    @property
    def name(self) -> str:
        """The user's name of it, for messages."""
        return function_name(self.both)

    def __call__(self, x: Any, given: Given) -> Any:
        """Return the value, or the pair of it and the auxiliary output."""
        return self._pair(x, given)[0] if self.alone is None else self.alone(x, given)

    def value_and_gradient(self, x: Any, given: Given) -> Any:
        """Return the value and its gradient."""
        value, gradient = self._pair(x, given)
        return (value[0] if self.has_aux else value), gradient

    def _pair(self, x: Any, given: Given) -> Any:
        found = self.both(x, given)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise TypeError(
                f"With value_and_grad, {self.name} must return the pair (value, gradient), as jax.value_and_grad does: "
                f"it returned {type(found).__name__}. Leave value_and_grad out where it returns the value alone."
            )
        return found

    def close(self, x: Any, given: Given) -> Evaluated:
        """Return the objective with everything that its functions close over made explicit."""
        alone = None if self.alone is None else close(self.alone, x, given)
        return Evaluated(close(self.both, x, given), alone, self.has_aux)


def bound(fun: Any, name: str = "fun") -> Bound:
    """Return a user's function as one of a problem."""
    return Bound(as_function(fun, name))


def objective(fun: Any, value_and_grad: Any = False, has_aux: bool = False) -> Any:
    """Return a user's objective as that of a problem; ``value_and_grad`` is a boolean or the function of both."""
    if callable(value_and_grad):
        return Evaluated(bound(value_and_grad, "value_and_grad"), bound(fun), has_aux)
    return Evaluated(bound(fun), has_aux=has_aux) if value_and_grad else bound(fun)


@record
class Proximal:
    """A proximal operator ``prox(x, hyperparams, scale)`` at given hyperparameters."""

    fun: Any
    hyperparams: Any

    def __call__(self, x: Any, step_size: Any) -> Any:
        """Return the proximal point."""
        return self.fun(x, self.hyperparams, step_size)


@record
class Projection:
    """A projection ``projection(x, hyperparams)`` at given hyperparameters."""

    fun: Any
    hyperparams: Any

    def __call__(self, x: Any) -> Any:
        """Return the projection."""
        return self.fun(x, self.hyperparams)


def penalty(prox: Any, hyperparams: Any) -> Any:
    """Return the penalty of a proximal operator, or ``None`` for that of zero.

    A proximal operator that is one of a known penalty says so by a mark of its own.
    """
    make = known(prox, "penalty")
    if prox is prox_none:
        return None
    if make is not None:
        return make(hyperparams)
    return dini.penalties.Custom(prox=Proximal(as_function(prox, "prox"), _arrays(hyperparams)))


def constraint(projection: Any, hyperparams: Any) -> Any:
    """Return the set of a projection; one onto a known set says so by a mark of its own."""
    make = known(projection, "set")
    if make is not None:
        return make(hyperparams)
    return dini.sets.Custom(Projection(as_function(projection, "projection"), _arrays(hyperparams)))


def _arrays(hyperparams: Any) -> Any:
    # a number of Python's would be a weak type, and another program than the same number as an array
    return jnp.asarray(hyperparams) if isinstance(hyperparams, int | float) else hyperparams
