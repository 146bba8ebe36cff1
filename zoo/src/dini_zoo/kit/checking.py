"""Checks of what is given, where it is known when a function is traced."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def known(value: Any) -> bool:
    """Whether a value is a number that can be looked at, and not one of a program that is being traced."""
    return not isinstance(value, jax.core.Tracer) and value is not None and np.asarray(value).dtype.kind in "biuf"


def positive(name: str, value: Any) -> None:
    """Raise `ValueError` unless a value that is known is positive and finite, every entry of it."""
    if known(value) and not (np.all(np.asarray(value) > 0) and np.all(np.isfinite(value))):
        raise ValueError(f"{name} must be positive and finite: given {value}.")


def not_negative(name: str, value: Any) -> None:
    """Raise `ValueError` unless a value that is known is zero or more, and finite, every entry of it."""
    if known(value) and not (np.all(np.asarray(value) >= 0) and np.all(np.isfinite(value))):
        raise ValueError(f"{name} must be zero or more, and finite: given {value}.")


def at_least(name: str, value: int, least: int) -> None:
    """Raise `ValueError` unless a count is at least `least`."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}: given {value}.")


def one_of(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise `ValueError` unless a value is one of several."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}: given {value!r}.")


def same_shape(name: str, value: Any, other: str, shape: tuple[int, ...]) -> None:
    """Raise `ValueError` unless an array has the shape of another one."""
    if np.shape(value) != tuple(shape):
        raise ValueError(f"{name} must have the shape of {other}, {tuple(shape)}: given {np.shape(value)}.")


def _floating(leaf: Any) -> bool:
    """Whether something is a number or an array of numbers with a fraction, traced or not."""
    return isinstance(leaf, float | complex) or jnp.issubdtype(getattr(leaf, "dtype", int), jnp.inexact)


def finite(name: str, tree: Any) -> None:
    """Raise `ValueError` unless all numbers of a tree that are known are finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.core.Tracer) or not _floating(leaf):
            continue
        wrong = int(np.sum(~np.isfinite(np.asarray(leaf))))
        if wrong:
            place = f" at {jax.tree_util.keystr(path)}" if path else ""
            raise ValueError(f"{name} must be finite: given {wrong} of {np.size(leaf)} numbers that are not{place}.")


def trainable(name: str, tree: Any) -> None:
    """Raise `TypeError` unless a tree has nothing but numbers that can be differentiated by."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if _floating(leaf):
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


def within(name: str, indices: Any, count: int) -> None:
    """Raise `ValueError` unless indices that are known are those of `count` things.

    JAX takes the last one in the place of one that is too large, and says nothing.
    """
    if not known(indices) or not np.size(indices):
        return
    least, most = int(np.min(np.asarray(indices))), int(np.max(np.asarray(indices)))
    if least < 0 or most >= count:
        raise ValueError(f"{name} must be from 0 to {count - 1}: given {least} to {most}.")


def decreasing(name: str, values: Any) -> None:
    """Raise `ValueError` unless numbers that are known fall strictly."""
    if known(values) and not np.all(np.diff(np.asarray(values)) < 0):
        raise ValueError(f"{name} must fall from each to the next: given {np.asarray(values)}.")


def increasing(name: str, values: Any) -> None:
    """Raise `ValueError` unless numbers that are known rise strictly."""
    if known(values) and not np.all(np.diff(np.asarray(values)) > 0):
        raise ValueError(f"{name} must rise from each to the next: given {np.asarray(values)}.")
