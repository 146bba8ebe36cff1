"""Checks of settings. Values that are not known yet (traced arrays) pass."""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def _known(value: Any) -> np.ndarray | None:
    if isinstance(value, jax.core.Tracer) or not isinstance(value, jax.Array | np.ndarray | np.generic | int | float):
        return None
    return np.asarray(value)


def require_positive(name: str, value: Any, *, or_zero: bool = False) -> None:
    """Raise ``ValueError`` unless every element of a known value is positive (or zero)."""
    given = _known(value)
    if given is not None and not np.all(given >= 0 if or_zero else given > 0):
        raise ValueError(f"{name} must be {'nonnegative' if or_zero else 'positive'}: given {value}.")


def require_number(name: str, value: Any) -> None:
    """Raise unless a setting is one real number, or ``None``."""
    if value is None:
        return
    if not isinstance(value, jax.Array | np.ndarray | np.generic | int | float) or jnp.iscomplexobj(value):
        raise TypeError(f"{name} must be a number: given {value!r}.")
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} must be one number: given shape {jnp.shape(value)}.")


def require_between(name: str, value: Any, low: float, high: float, *, or_low: bool = False) -> None:
    """Raise ``ValueError`` unless a known value is inside an interval, which is open (or has its lower end)."""
    given = _known(value)
    if given is not None and not np.all(((given >= low) if or_low else (given > low)) & (given < high)):
        raise ValueError(f"{name} must be in {'[' if or_low else '('}{low}, {high}): given {value}.")


def require_all_positive(name: str, value: Any, *, or_zero: bool = False) -> None:
    """Raise ``ValueError`` unless every leaf of a tree of known values is positive (or zero)."""
    for leaf in jax.tree.leaves(value):
        require_positive(name, leaf, or_zero=or_zero)


def known(*values: Any) -> bool:
    """Return whether no value in some trees is traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def positive(tree: Any, *, or_zero: bool = False) -> Any:
    """Return a tree with NaN for what is not positive (or zero).

    What a user passes is checked before, unless it is traced; what an update of a tree makes of it is not.
    """

    def one(value: Any) -> Any:
        if known(value):
            array = np.asarray(value)
            right = array >= 0 if or_zero else array > 0
            return value if right.all() else jnp.where(right, value, jnp.nan)
        return jnp.where(value >= 0 if or_zero else value > 0, value, jnp.nan)

    return jax.tree.map(one, tree)


def require_all_above(name: str, value: Any, minimum: float) -> None:
    """Raise ``ValueError`` unless every leaf of a tree of known values is above a number."""
    for leaf in jax.tree.leaves(value):
        given = _known(leaf)
        if given is not None and not np.all(given > minimum):
            raise ValueError(f"{name} must be above {minimum}: given {leaf}.")


def require_ordered(name_low: str, low: Any, name_high: str, high: Any) -> None:
    """Raise ``ValueError`` unless ``low <= high`` in every element of two known values."""
    known_low, known_high = _known(low), _known(high)
    if known_low is not None and known_high is not None and not np.all(known_low <= known_high):
        raise ValueError(f"{name_low} must not be above {name_high}: given {low} and {high}.")


def require_count(name: str, value: Any, minimum: int = 1) -> None:
    """Raise unless a static setting is an integer of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a Python integer: given {value!r}.")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}: given {value}.")


def require_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise ``ValueError`` unless a static setting is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}: given {value!r}.")
