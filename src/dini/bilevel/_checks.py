"""Checks of the arguments of bilevel problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .. import trees
from ..checks.settings import known
from ..problems import check_unknown
from ..problems._minimize import check_scalar
from ..trees import Tree


def require_real(name: str, tree: Tree) -> Any:
    """Return an unknown as arrays of fixed type, or raise: it must be a tree of real floating-point arrays."""
    tree = check_unknown(tree, name)
    if trees.has_complex(tree):
        raise TypeError(
            f"{name} must be real: given {trees.describe(tree)}. State the problem in real and imaginary parts."
        )
    return tree


def check_outer(name: str, fun: Callable[..., Any], x: Tree, theta: Tree, *args: Any) -> None:
    """Raise unless an objective is callable and returns one real number."""
    if not callable(fun):
        raise TypeError(f"{name} must be a function of (x, theta, ...): given {fun!r}.")
    check_scalar(jax.eval_shape(fun, x, theta, *args), name, has_aux=False)


def require_share(name: str, value: Any) -> None:
    """Raise unless a known value is in (0, 1]."""
    if known(value) and not (0 < float(np.asarray(value)) <= 1):
        raise ValueError(f"{name} must be in (0, 1]: given {value}.")
