"""Arguments of this field's methods, looked at before anything is computed of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import jax
import numpy as np


def known(value: Any) -> bool:
    """Whether a value is a number that can be looked at, and not one of a program that is being traced."""
    return not isinstance(value, jax.core.Tracer) and value is not None and np.asarray(value).dtype.kind in "biuf"


def one_of(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise `ValueError` unless a value is one of several words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}: given {value!r}.")


def positive(name: str, value: Any) -> None:
    """Raise `ValueError` unless a number that is known is positive and finite."""
    if known(value) and not (np.all(np.asarray(value) > 0) and np.all(np.isfinite(value))):
        raise ValueError(f"{name} must be positive and finite: given {value}.")


def tolerances(rtol: Any, atol: Any) -> None:
    """Raise `ValueError` unless both are zero or more and finite, and not both zero."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if known(value) and not (np.all(np.asarray(value) >= 0) and np.all(np.isfinite(value))):
            raise ValueError(f"{name} must be zero or more, and finite: given {value}.")
    if known(rtol) and known(atol) and not np.any(np.asarray(rtol) + np.asarray(atol) > 0):
        raise ValueError("rtol and atol must not both be zero: errors are measured in units of atol + rtol |y|.")


def interval(t0: Any, t1: Any) -> None:
    """Raise `ValueError` unless the ends of an interval that are known are finite and differ."""
    for name, value in (("t0", t0), ("t1", t1)):
        if known(value) and not np.all(np.isfinite(value)):
            raise ValueError(f"{name} must be finite: given {value}.")
    if known(t0) and known(t1) and np.any(np.asarray(t0) == np.asarray(t1)):
        raise ValueError(f"t0 and t1 must differ, there is no step between them else: given {t0} for both.")
