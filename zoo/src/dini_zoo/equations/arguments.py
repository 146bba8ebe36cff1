"""Tolerances and intervals, looked at before anything is computed of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kit.checking import holds, known, not_negative, real


def tolerances(rtol: Any, atol: Any) -> None:
    """Raise `ValueError` unless both are zero or more and finite, and not both zero."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        not_negative(name, value)
    both = np.add(rtol, atol) if known(rtol) and known(atol) else rtol + atol
    holds(both, lambda both: both > 0, lambda: "rtol and atol must not both be zero: errors are in units of them.")


def interval(t0: Any, t1: Any) -> None:
    """Raise `ValueError` unless the ends of an interval that are known are finite and differ."""
    for name, value in (("t0", t0), ("t1", t1)):
        real(name, value)
    if known(t0) and known(t1) and np.any(np.asarray(t0) == np.asarray(t1)):
        raise ValueError(f"t0 and t1 must differ, there is no step between them else: given {t0} for both.")
