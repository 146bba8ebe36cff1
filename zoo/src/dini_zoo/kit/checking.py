"""Checks of what is given, where it is known when a function is traced."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax
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


def decreasing(name: str, values: Any) -> None:
    """Raise `ValueError` unless numbers that are known fall strictly."""
    if known(values) and not np.all(np.diff(np.asarray(values)) < 0):
        raise ValueError(f"{name} must fall from each to the next: given {np.asarray(values)}.")
