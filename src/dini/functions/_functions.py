"""Functions of the user as pytrees.

A problem holds the user's functions. As pytrees they travel through ``jax.jit`` (a plain function is static, with what
it reads besides its arguments; the arrays of a callable module are data), and once *closed* every array that a
function closes over is a leaf too, so that a derivative rule sees it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial, register_pytree_node

from ..checks.records import record
from ..trees import Tree
from ._hoist import hoist
from .captured import Captured


@dataclass(frozen=True)
class _Skeleton:
    """What is static in a callable pytree: its structure and its leaves that are no arrays."""

    treedef: Any
    static: tuple[Hashable, ...]


class _Hole:
    def __repr__(self) -> str:
        return "array"


_HOLE = _Hole()


@record
class Module:
    """A callable pytree (an Equinox module, say) with its arrays apart from leaves such as activation functions."""

    arrays: list[Any]
    skeleton: _Skeleton = field(metadata={"static": True})

    def restored(self) -> Any:
        """Return the object with its arrays put back."""
        arrays = iter(self.arrays)
        leaves = [next(arrays) if leaf is _HOLE else leaf for leaf in self.skeleton.static]
        return jax.tree.unflatten(self.skeleton.treedef, leaves)

    def __call__(self, *args: Tree) -> Any:
        """Call the object with its arrays put back."""
        return self.restored()(*args)


class UserFunction(Partial):
    """A function of the user's with arguments that are bound to it; another one where what it reads has changed."""

    #: the key of the last time
    key: Key | None = None

    def __reduce__(self) -> Any:
        return _user_function, (self.func, self.args, self.keywords)


def _user_function(fun: Any, args: tuple[Tree, ...], keywords: dict[str, Any]) -> UserFunction:
    return UserFunction(fun, *args, **keywords)


class Key:
    """The static part of a user's function: the function, and what it reads at the time."""

    __slots__ = ("captured", "fun")

    def __init__(self, fun: Any) -> None:
        self.fun, self.captured = fun, Captured(fun)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Key) and self.fun == other.fun and self.captured == other.captured)

    def __hash__(self) -> int:
        return hash(self.fun)

    def __repr__(self) -> str:
        return repr(self.fun)


def _flatten(function: UserFunction) -> tuple[Any, Key]:
    key = function.key
    if key is None or not (key.captured.known and key.captured.unchanged([function.func])):
        key = function.key = Key(function.func)
    return (function.args, function.keywords), key


register_pytree_node(UserFunction, _flatten, lambda key, children: _user_function(key.fun, *children))


def all_arrays(tree: Tree) -> bool:
    """Return whether ``jax.jit`` takes a tree as an argument: an object of a class that is no pytree is a leaf."""
    return all(map(_is_array, jax.tree.leaves(tree)))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex | int | bool)


def as_function(fun: Any, name: str) -> Any:
    """Return ``fun`` as a callable pytree whose leaves are arrays."""
    if type(fun) in (Partial, UserFunction):
        return fun
    if not callable(fun):
        raise TypeError(f"{name} must be callable: given {fun!r}.")
    if isinstance(fun, functools.partial) and all_arrays((fun.args, fun.keywords)):
        return UserFunction(fun.func, *fun.args, **fun.keywords)
    leaves, treedef = jax.tree.flatten(fun)
    if len(leaves) == 1 and leaves[0] is fun:
        return UserFunction(fun)
    if all(map(_is_array, leaves)):
        return fun
    static = tuple(_HOLE if _is_array(leaf) else leaf for leaf in leaves)
    return Module([leaf for leaf in leaves if _is_array(leaf)], _Skeleton(treedef, static))


@record
class Closed:
    """A traced function: everything that it closes over is a leaf."""

    consts: list[Any]
    fun: Callable[..., Any] = field(metadata={"static": True})
    name: str = field(default="function", metadata={"static": True})

    def __call__(self, *args: Tree) -> Any:
        """Evaluate the traced program."""
        return self.fun(self.consts, *args)


def close(fun: Any, *example: Any) -> Any:
    """Return ``fun``, traced at ``example``, as a :class:`Closed` function."""
    if isinstance(fun, Closed):
        return fun
    own = getattr(fun, "close", None)
    if own is not None:
        return own(*example)
    hoisted = hoist(fun, *example)
    return Closed(hoisted.consts, hoisted.without_values(), function_name(fun))


def function_name(fun: Any) -> str:
    """Return the name of a user's function, for messages."""
    inner = getattr(fun, "func", fun)
    return getattr(inner, "__name__", None) or getattr(inner, "name", None) or type(inner).__name__
