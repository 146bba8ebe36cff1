"""Arguments that are looked at before anything is computed of them."""

from __future__ import annotations

import operator
from typing import Any

import jax
import numpy as np


def positive(name: str, values: Any, least: int) -> None:
    """Refuse what is no row of at least so many positive numbers. Numbers that a program computes are not known."""
    shape = np.shape(values)
    if len(shape) != 1 or shape[0] < least:
        raise ValueError(f"{name} must be a row of at least {least} numbers: given the shape {shape}.")
    if isinstance(values, jax.core.Tracer):
        return
    known = np.asarray(values, float)
    wrong = ~(np.isfinite(known) & (known > 0))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must be finite and positive: given {known[i]} at index {i}, {wrong.sum()} such numbers of "
            f"{len(known)}."
        )


def whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least so much."""
    try:
        number = operator.index(value)
    except TypeError:
        # also what a transformation of JAX or `optax.inject_hyperparams` computes with
        raise ValueError(f"{name} must be a whole number that is known beforehand: given {value!r}.") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}: given {number}.")
    return number
