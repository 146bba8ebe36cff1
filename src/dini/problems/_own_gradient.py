"""Objectives that know their gradient."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..checks.records import record
from ..functions import Module, UserFunction, as_function, close
from ..trees import Tree


@record
class OwnGradient:
    """An objective of the user's with its method ``value_and_gradient``, both as callable pytrees.

    ``pair`` is ``None`` for a pytree, whose arrays stand in ``fun`` and would stand here again.
    """

    fun: Any
    pair: Any = None

    @classmethod
    def of(cls, fun: Any) -> Any:
        """Return an objective with its own gradient where it has one that its wrapper hides, else the objective."""
        if isinstance(fun, UserFunction):
            # a method of the object's class: an attribute of a function may be another's, which a wrapper copied
            if fun.args or not callable(getattr(type(fun.func), "value_and_gradient", None)):
                return fun
            own: Any = fun.func
            return cls(fun, as_function(partial(own.value_and_gradient, **fun.keywords), "value_and_gradient"))
        inside = fun.restored() if isinstance(fun, Module) else fun
        wrapped = isinstance(fun, Module) or not hasattr(fun, "close")
        return cls(fun) if wrapped and callable(getattr(inside, "value_and_gradient", None)) else fun

    @property
    def func(self) -> Any:
        """The user's object, for its name in messages."""
        return getattr(self.fun, "func", self.fun)

    def __call__(self, x: Tree, *args: Tree) -> Any:
        """Return the value."""
        return self.fun(x, *args)

    def value_and_gradient(self, x: Tree, *args: Tree) -> Any:
        """Return the value and the gradient in ``x``, as the user's method does."""
        if self.pair is not None:
            return self.pair(x, *args)
        inside = self.fun.restored() if isinstance(self.fun, Module) else self.fun
        return inside.value_and_gradient(x, *args)

    def close(self, x: Tree, *args: Tree) -> OwnGradient:
        """Return the objective with all that it closes over as leaves."""
        return OwnGradient(close(self.fun, x, *args), close(self.value_and_gradient, x, *args))
