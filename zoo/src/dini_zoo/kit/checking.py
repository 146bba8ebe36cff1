"""Checks of what is given: an exception where it is known, a mark of NaN where it is traced.

A check of values returns whether it holds: `True` where it could look, a traced Boolean where it could not. What is
computed is then `marked` with it: under `jit` and `vmap` no exception can depend on a value, but a result of NaN can.
A public function whose annotations are enforced (`enforcing.py`) marks what it returns with the checks that it made,
and a constructor the arrays of its object: only what is marked otherwise, entry by entry say, calls `marked` itself.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

type Right = bool | jax.Array
"""Whether what is given is right; traced where it depends on values that are traced."""


def traced(value: Any) -> bool:
    """Whether a value, or a part of it, is one of a program that is being traced."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def known(value: Any) -> bool:
    """Whether a value is a number that can be looked at, and not one of a program that is being traced."""
    if value is None or traced(value) or isinstance(value, str):
        return False
    dtype = getattr(value, "dtype", None)
    # bfloat16 and its like are numbers to JAX alone
    dtype = np.asarray(value).dtype if dtype is None else dtype
    return jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_)


class _Calls(threading.local):
    """Of the calls that are under way: where JAX was when each began, and its checks of traced values since then."""

    def __init__(self) -> None:
        self.stack: list[tuple[Any, list[jax.Array]]] = []


_calls = _Calls()


@contextlib.contextmanager
def gathered() -> Iterator[list[jax.Array]]:
    """Whether what is checked in the block holds, of values that are traced, and not within a loop or branch of it."""
    here: list[jax.Array] = []
    _calls.stack.append((jax.extend.core.get_opaque_trace_state(), here))
    try:
        yield here
    finally:
        _calls.stack.pop()


def gather(*right: Right) -> None:
    """Tell the call that is under way, if it is of the same trace."""
    doubted = [one for one in right if one is not True]
    if doubted and _calls.stack and _calls.stack[-1][0] == jax.extend.core.get_opaque_trace_state():
        _calls.stack[-1][1].extend(map(jnp.asarray, doubted))


def holds(value: Any, test: Callable[[Any], Any], raised: Callable[[], str]) -> Right:
    """Raise `ValueError` with words where a value that is known fails a test; else whether it passes.

    Examples
    --------
    >>> odd = lambda n: holds(n, lambda n: n % 2 == 1, lambda: f"n must be odd: given {n}.")
    >>> odd(3), jax.vmap(odd)(jnp.array([3, 4])).tolist()
    (True, [True, False])
    """
    if known(value):
        if not np.all(test(_plain(value))):
            raise ValueError(raised())
        return True
    if not traced(value):
        return True
    right = jnp.all(test(jnp.asarray(value)))
    gather(right)
    return right


def _plain(value: Any) -> np.ndarray:
    """As an array of NumPy, of a kind that it has."""
    array = np.asarray(value)
    return array if array.dtype.kind in "biufc" else array.astype(np.float32)


def marked(tree: Any, *right: Right) -> Any:
    """A tree of results where all that was checked is right; where not, each number with a fraction is NaN.

    It costs nothing where everything was known.

    Examples
    --------
    >>> def half(x):
    ...     return marked(x / 2, positive("x", x))
    >>> print(jax.vmap(half)(jnp.array([3.0, -1.0])))
    [1.5 nan]
    """
    doubted = [one for one in right if one is not True]
    if not doubted:
        return tree
    sure = jnp.stack([jnp.all(jnp.asarray(one)) for one in doubted]).all()
    mark = lambda leaf: jnp.where(sure, leaf, jnp.nan).astype(jnp.result_type(leaf)) if floating(leaf) else leaf
    return jax.tree.map(mark, tree)


def positive(name: str, value: Any) -> Right:
    """Raise `ValueError` unless a value that is known is positive and finite, every entry of it."""
    test = lambda given: (given > 0) & (given < np.inf)
    return holds(value, test, lambda: f"{name} must be positive and finite: given {value}.")


def above_zero(name: str, value: Any) -> Right:
    """Raise `ValueError` unless a value that is known is positive; it may be infinite."""
    return holds(value, lambda given: given > 0, lambda: f"{name} must be positive: given {value}.")


def not_negative(name: str, value: Any) -> Right:
    """Raise `ValueError` unless a value that is known is zero or more, and finite, every entry of it."""
    test = lambda given: (given >= 0) & (given < np.inf)
    return holds(value, test, lambda: f"{name} must be zero or more, and finite: given {value}.")


def real(name: str, value: Any) -> Right:
    """Raise `ValueError` unless a value that is known is finite, every entry of it."""
    return holds(value, lambda given: abs(given) < np.inf, lambda: f"{name} must be finite: given {value}.")


def between(name: str, value: Any, low: float, high: float) -> Right:
    """Raise `ValueError` unless a value that is known is from `low` to `high`, both included, every entry of it."""
    test = lambda given: (given >= low) & (given <= high)
    return holds(value, test, lambda: f"{name} must be from {low:g} to {high:g}: given {value}.")


def probabilities(name: str, value: Any, axis: int = -1) -> Right:
    """Raise `ValueError` unless numbers that are known are not negative and add up to one along an axis."""
    near = lambda given: 1e-3 if given.dtype.itemsize < 8 else 1e-6
    test = lambda given: (given >= 0).all(axis) & (abs(given.sum(axis) - 1) <= near(given))
    return holds(
        value, test, lambda: f"{name} must be probabilities, which add up to one along axis {axis}: given {value}."
    )


def at_least(name: str, value: Any, least: int) -> None:
    """Raise `ValueError` unless a count is a whole number, and at least `least`."""
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}: given {value}.")
    whole(name, value)


def whole(name: str, value: Any) -> None:
    """Raise `TypeError` unless a count is a whole number, of Python or NumPy, or an integer array that is known."""
    if isinstance(value, bool) or not jnp.issubdtype(getattr(value, "dtype", type(value)), np.integer):
        raise TypeError(f"{name} must be a whole number: given {value!r}.")


def one_of(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise `ValueError` unless a value is one of several."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}: given {value!r}.")


def some_of(name: str, values: Collection[Any], choices: Collection[Any]) -> None:
    """Raise `ValueError` unless all of some values are among several."""
    for value in values:
        one_of(name, value, choices)


def same_shape(name: str, value: Any, other: str, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless an array has the shape of another one."""
    if np.shape(value) != tuple(shape):
        raise ValueError(f"{name} must have the shape of {other}, {tuple(shape)}: given {np.shape(value)}.")


def same_tree(name: str, tree: Any, other: str, like: Any) -> None:
    """Raise `ValueError` unless a tree has the form of another one, with arrays of the same shapes."""
    if jax.tree.structure(tree) != jax.tree.structure(like):
        given, meant = jax.tree.structure(tree), jax.tree.structure(like)
        raise ValueError(f"{name} must be a tree like {other}, {meant}: given {given}.")
    for (path, leaf), meant in zip(jax.tree.leaves_with_path(tree), jax.tree.leaves(like), strict=True):
        same_shape(f"{name}{jax.tree_util.keystr(path)}", leaf, other, np.shape(meant))


def floating(leaf: Any) -> bool:
    """Whether something is a number or an array of numbers with a fraction, traced or not."""
    return isinstance(leaf, float | complex) or jnp.issubdtype(getattr(leaf, "dtype", int), jnp.inexact)


def finite(name: str, tree: Any) -> None:
    """Raise `ValueError` unless all numbers of a tree that are known are finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.core.Tracer) or not floating(leaf):
            continue
        wrong = int(np.sum(~np.isfinite(np.asarray(leaf))))
        if wrong:
            place = f" at {jax.tree_util.keystr(path)}" if path else ""
            raise ValueError(f"{name} must be finite: given {wrong} of {np.size(leaf)} numbers that are not{place}.")


def trainable(name: str, tree: Any) -> None:
    """Raise `TypeError` unless a tree has nothing but numbers that can be differentiated by."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if floating(leaf):
            continue
        given = str(getattr(leaf, "dtype", None) or repr(leaf))
        place = f" at {jax.tree_util.keystr(path)}" if path else ""
        raise TypeError(
            f"{name} must be a tree of arrays of floats: given {given}{place}. Of a model of Equinox take "
            "`arrays, static = equinox.partition(model, equinox.is_inexact_array)`: the arrays are the parameters, and "
            "the loss calls `equinox.combine(arrays, static)`."
        )


def one_length(name: str, tree: Any) -> int:
    """The common length of the first axes of a tree's arrays; raises `ValueError` if they have none."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
    lengths = {shape[0] if shape else None for shape in shapes}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(f"{name} must have arrays with an axis of examples in front, as long in each: given {shapes}.")
    (length,) = lengths
    assert length is not None
    return length


def within(name: str, indices: Any, count: int) -> Right:
    """Raise `ValueError` unless indices that are known are whole numbers, of `count` things.

    JAX takes the last one in place of one that is too large, and says nothing.
    """
    right = inside(name, indices, count)
    if right is True:
        return True
    right = jnp.all(right)
    gather(right)
    return right


def inside(name: str, indices: Any, count: int) -> Right:
    """As :func:`within`, of each entry where they are traced: for what marks each result by itself."""
    if indices is None or not np.size(indices):
        return True
    dtype = jnp.result_type(indices) if traced(indices) else getattr(indices, "dtype", np.asarray(indices).dtype)
    if not jnp.issubdtype(dtype, np.integer):
        raise TypeError(f"{name} must be whole numbers, from 0 to {count - 1}: given numbers of {dtype}.")
    test = lambda given: (given >= 0) & (given < count)
    if traced(indices):
        return test(jnp.asarray(indices))
    said = lambda: f"{name} must be from 0 to {count - 1}: given {np.min(indices)} to {np.max(indices)}."
    return holds(indices, test, said)


def decreasing(name: str, values: Any) -> Right:
    """Raise `ValueError` unless numbers that are known fall strictly."""
    test = lambda given: given[1:] < given[:-1]
    return holds(values, test, lambda: f"{name} must fall from each to the next: given {np.asarray(values)}.")


def increasing(name: str, values: Any) -> Right:
    """Raise `ValueError` unless numbers that are known rise strictly."""
    test = lambda given: given[1:] > given[:-1]
    return holds(values, test, lambda: f"{name} must rise from each to the next: given {np.asarray(values)}.")


def scalar(name: str, value: Any) -> None:
    """Raise `ValueError` unless something is one number: an array in its place would broadcast."""
    if np.shape(value):
        raise ValueError(f"{name} must be one number: given an array of shape {np.shape(value)}.")


def of_length(name: str, values: Sequence[Any] | Any, other: str, length: int) -> None:
    """Raise `ValueError` unless something has as many entries along its first axis as something else."""
    given = np.shape(values)[:1] if hasattr(values, "shape") else (len(values),)
    if given != (length,):
        raise ValueError(f"{name} must have {length} entries, as many as {other}: given {given[0] if given else None}.")


def floats(value: Any) -> Any:
    """A tree whose arrays and numbers are multiplied by fractions: integers and Booleans become floats, once."""
    make = lambda leaf: leaf if floating(leaf) else jnp.asarray(leaf, jnp.result_type(float))
    return jax.tree.map(make, value)


def returned(name: str, value: Any, shape: tuple[int, ...]) -> Any:
    """What a function of the caller's returned; raises `ValueError` where another shape of it would broadcast."""
    if jnp.shape(value) != tuple(shape):
        raise ValueError(f"{name} must return an array of shape {tuple(shape)}: given {jnp.shape(value)}.")
    return value


def taken(name: str, table: Any, indices: Any) -> Any:
    """`table[indices]` along its first axis, where indices that are known must be some, as `within` says.

    At an index that is traced, and none, it is NaN: JAX would take the last row, or count from the end.
    """
    table = jnp.asarray(table)
    right = inside(name, indices, len(table))
    found = table[indices]
    return (
        found
        if right is True
        else jnp.where(right.reshape(*right.shape, *[1] * (found.ndim - right.ndim)), found, jnp.nan)
    )
