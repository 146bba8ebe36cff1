"""Objectives that know their gradient, and perhaps the nonzeros of their Hessian."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..checks.records import record
from ..functions import Module, UserFunction, as_function, close
from ..trees import Tree


@record
class OwnGradient:
    """An objective of the user's with its method ``value_and_gradient``, both as callable pytrees.

    ``nonzeros`` is its method ``hessian_nonzeros``, or ``None`` if it has none. Of a pytree, whose arrays stand in
    ``fun`` and would stand here again, ``pair`` and ``nonzeros`` are ``None``: its methods are called.
    """

    fun: Any
    pair: Any = None
    nonzeros: Any = None

    @classmethod
    def of(cls, fun: Any) -> Any:
        """Return an objective with its own gradient where it has one that its wrapper hides, else the objective."""
        if isinstance(fun, UserFunction):
            # methods of the object's class: an attribute of a function may be another's, which a wrapper copied
            if fun.args or not _has_gradient(type(fun.func)):
                return fun
            own: Any = fun.func
            bound = lambda name: as_function(partial(getattr(own, name), **fun.keywords), name)
            nonzeros = bound("hessian_nonzeros") if _has_nonzeros(type(own)) else None
            return cls(fun, bound("value_and_gradient"), nonzeros)
        wrapped = isinstance(fun, Module) or not hasattr(fun, "close")
        return cls(fun) if wrapped and _has_gradient(_restored(fun)) else fun

    @property
    def func(self) -> Any:
        """The user's object, for its name in messages."""
        return getattr(self.fun, "func", self.fun)

    def __call__(self, x: Tree, *args: Tree) -> Any:
        """Return the value."""
        return self.fun(x, *args)

    def value_and_gradient(self, x: Tree, *args: Tree) -> Any:
        """Return the value and the gradient in ``x``, as the user's method does."""
        return self.pair(x, *args) if self.pair is not None else _restored(self.fun).value_and_gradient(x, *args)

    @property
    def hessian_nonzeros(self) -> Any:
        """The user's method for the nonzeros of the Hessian, or ``None``."""
        if self.pair is not None:
            return self.nonzeros
        own = _restored(self.fun)
        return own.hessian_nonzeros if _has_nonzeros(own) else None

    def close(self, x: Tree, *args: Tree) -> OwnGradient:
        """Return the objective with all that it closes over as leaves."""
        nonzeros = self.hessian_nonzeros
        return OwnGradient(
            close(self.fun, x, *args),
            close(self.value_and_gradient, x, *args),
            None if nonzeros is None else close(nonzeros, x, *args),
        )


def _restored(fun: Any) -> Any:
    """Return a pytree of the user's with its arrays put back."""
    return fun.restored() if isinstance(fun, Module) else fun


def _has_nonzeros(own: Any) -> bool:
    return callable(getattr(own, "hessian_nonzeros", None))


def _has_gradient(own: Any) -> bool:
    """Return whether an object has a gradient of its own; one with a Hessian must have one."""
    if callable(getattr(own, "value_and_gradient", None)):
        return True
    if _has_nonzeros(own):
        name = own.__name__ if isinstance(own, type) else type(own).__name__
        raise TypeError(
            f"An objective with a method hessian_nonzeros needs the method value_and_gradient(x, *args) too: {name} "
            "has none."
        )
    return False
