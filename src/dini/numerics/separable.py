"""What sets and penalties share: parameters that broadcast over a tree, and being taken apart into blocks."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .. import trees
from ..checks.settings import known, positive
from ..trees import Tree


def leaves_like(parameter: Any, x: Tree) -> Any:
    """Return a parameter as a tree like ``x``: it is one already, or one scalar or array that serves every leaf."""
    if jax.tree.structure(parameter) == jax.tree.structure(x):
        return parameter
    return jax.tree.map(lambda _: parameter, x)


def map_with(fun: Callable[..., Any], x: Tree, *parameters: Any) -> Any:
    """Map ``fun(leaf, *parameters)`` over the leaves of ``x``, parameters broadcast by :func:`leaves_like`."""
    spread = [leaves_like(parameter, x) for parameter in parameters]
    return jax.tree.map(lambda leaf, *rest: fun(leaf, *(jnp.asarray(r, leaf.dtype) for r in rest)), x, *spread)


def require_broadcast(owner: str, name: str, parameter: Any, x: Tree) -> None:
    """Raise unless a parameter broadcasts against ``x`` without changing its shape."""
    if parameter is None:
        return
    spread = jax.tree.structure(parameter)
    if not jax.tree_util.treedef_is_leaf(spread) and spread != jax.tree.structure(x):
        raise ValueError(
            f"{name} of {owner} must be a number, an array, or a tree like the unknown x (with -jnp.inf or jnp.inf "
            f"where there is no bound): given {trees.describe(parameter)}, needed {trees.describe(x)}."
        )
    for part, leaf in zip(jax.tree.leaves(leaves_like(parameter, x)), jax.tree.leaves(x), strict=True):
        if jnp.iscomplexobj(part) and not jnp.iscomplexobj(leaf):
            raise TypeError(f"{name} of {owner} must be real, as the unknown x is: given {part!r}.")
        shape = jnp.shape(part)
        try:
            fits = jnp.broadcast_shapes(shape, leaf.shape) == leaf.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"{name} of {owner} must broadcast against the unknown x: given shape {shape}, needed {leaf.shape}."
            )


def _at_floats(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a point that takes integers, too: a projection of them is not one of integers."""

    @functools.wraps(method)
    def at_floats(self: Any, x: Tree, *args: Tree, **kwargs: Any) -> Any:
        return method(self, trees.inexact(x), *args, **kwargs)

    return at_floats


def _at_positive_steps(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a proximal operator that is NaN for a step size below zero, where that is known at run time only."""

    @functools.wraps(method)
    def at_positive_steps(self: Any, x: Tree, *steps: Any, **named: Any) -> Any:
        # a user's own may have a default for the step, or another name
        steps = tuple(step if known(step) else positive(step, or_zero=True) for step in steps)
        return method(self, x, *steps, **named)

    return at_positive_steps


def _in_shape(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operator that says what does not fit its point, also where parameters broadcast it to another shape."""

    @functools.wraps(method)
    def in_shape(self: Any, x: Tree, *args: Tree, **kwargs: Any) -> Any:
        try:
            out = method(self, x, *args, **kwargs)
        except (TypeError, ValueError, IndexError):
            self.check(x)
            raise
        if list(map(jnp.shape, jax.tree.leaves(out))) != list(map(jnp.shape, jax.tree.leaves(x))):
            self.check(x)
            trees.require_same(f"The output of {self.name}'s {method.__name__}", out, x, "the point")
        return out

    return in_shape


class Separable:
    """Base of sets and penalties: how they split over the blocks of an unknown."""

    #: whether the set or penalty treats each element of the unknown on its own
    elementwise: bool = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in ("project", "project_kl", "support", "value", "prox", "kink_distance"):
            method = cls.__dict__.get(name)
            if isinstance(method, types.FunctionType):
                if name in ("project", "prox"):
                    method = _in_shape(method)
                setattr(cls, name, _at_floats(_at_positive_steps(method) if name == "prox" else method))

    @property
    def name(self) -> str:
        """The name for messages."""
        return type(self).__name__

    def check(self, x: Tree) -> None:
        """Raise unless the parameters fit the unknown."""

    def closed(self, x: Tree) -> Any:
        """Return the object with everything that its functions close over made explicit."""
        del x
        return self

    def separates_rows(self, x: jax.Array) -> bool:
        """Return whether each row ``x[i]`` of an array is treated on its own."""
        del x
        return self.elementwise

    def row(self, i: Any, x: jax.Array) -> Any:
        """Return the set or penalty of row ``i`` of ``x``: parameters with an entry for each row give that entry."""

        def one(parameter: Any) -> Any:
            parameter = jnp.asarray(parameter)
            per_row = parameter.ndim == x.ndim and parameter.shape[0] == x.shape[0] > 1
            return parameter[i] if per_row else parameter

        return jax.tree.map(one, self)


def smallest(parts: Any, x: Tree) -> jax.Array:
    """Return the smallest element of a tree of arrays (infinity if there is none) in the real dtype of ``x``."""
    least = [jnp.min(part, initial=jnp.inf) for part in jax.tree.leaves(parts)]
    return functools.reduce(jnp.minimum, least, jnp.asarray(jnp.inf)).astype(trees.real_dtype(x))
