"""The catalogue of sets for the tests: each with its constraints in CVXPY, written independently of the library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import jax.numpy as jnp
import numpy as np

from dini import sets


@dataclass(frozen=True)
class Example:
    """One set on an unknown of one shape."""

    set: sets.Set
    shape: tuple[int, ...]
    #: constraints on a variable of that shape
    constraints: Callable[[cp.Variable], list[Any]]


@dataclass(frozen=True)
class Case:
    name: str
    #: from a size and a generator of random numbers
    make: Callable[[int, np.random.Generator], Example]
    #: whether the projection is piecewise affine
    polyhedral: bool = True
    #: what kink_distance returns: "exact", "bound" or "unknown"
    kink: str = "exact"
    #: whether the support function is known
    support: bool = True
    #: makes a direction of the parameters one along which the set stays what it is
    consistent: Callable[[Any], Any] = lambda direction: direction


def _nonnegative(n, rng):
    return Example(sets.NonNegative(), (n,), lambda v: [v >= 0])


def _box(n, rng):
    low = -np.abs(rng.standard_normal(n))
    high = low + np.abs(rng.standard_normal(n)) + 0.1
    return Example(sets.Box(jnp.asarray(low), jnp.asarray(high)), (n,), lambda v: [v >= low, v <= high])


def _simplex(n, rng):
    return Example(sets.Simplex(1.5), (n,), lambda v: [v >= 0, cp.sum(v) == 1.5])


def _rows(n, rng):
    return Example(sets.Simplex(0.7, axis=-1), (3, n), lambda v: [v >= 0, cp.sum(v, axis=1) == 0.7])


def _l1(n, rng):
    return Example(sets.L1Ball(1.2), (n,), lambda v: [cp.norm1(v) <= 1.2])


def _l2(n, rng):
    return Example(sets.L2Ball(0.8), (n,), lambda v: [cp.norm2(v) <= 0.8])


CASES = [
    Case("nonnegative", _nonnegative),
    Case("box", _box),
    Case("simplex", _simplex),
    Case("simplices in rows", _rows),
    Case("l1 ball", _l1),
    Case("l2 ball", _l2, polyhedral=False),
]
