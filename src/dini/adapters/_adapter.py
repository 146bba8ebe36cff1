"""The shape of an adapter: a point is found elsewhere, and held against the problem's own condition."""

from __future__ import annotations

import importlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from .. import trees
from ..loop import Outcome
from ..protocols import AnyProblem
from ..sets._boxes import has_bounds
from ..solvers import Solver
from ..solvers.judge._judged import judged
from ..trees import Tree
from ._conversation import Found


@dataclass(frozen=True, kw_only=True)
class Adapter(Solver):
    """Base of the adapters, which stand under the decorator ``record`` and define :meth:`found`.

    What another library calls success is not believed: the point that it returns is held against the problem's own
    condition, as that of a plain function is (:class:`dini.solvers.Function`). Where it does not hold, the status says
    why the other solver gave up, or ``CONDITION`` where that has not noticed.
    """

    composite = True
    differentiable = False

    def found(self, problem: Any, x: Tree, args: tuple[Tree, ...]) -> tuple[Any, Found]:
        """Return a point like ``x``, and what is known of how it was found."""
        raise NotImplementedError

    def run(self, problem: AnyProblem, x: Tree, args: tuple[Tree, ...]) -> Outcome:
        """Solve elsewhere, and test what is found."""
        # a point is a constant of differentiation
        problem, start, args = jax.lax.stop_gradient((problem, x, args))
        point, found = self.found(problem, start, args)
        return judged(self, problem, point, start, args, found.steps, found.status)


def require_bounds(name: str, problem: AnyProblem) -> None:
    """Raise unless a problem has no penalty, and no constraint but bounds and functions."""
    penalty, constraint = problem.penalty, problem.constraint
    if penalty is not None:
        raise TypeError(f"{name} cannot handle the penalty {penalty.name}. Use ProximalGradient.")
    if constraint is not None and not has_bounds(constraint):
        raise TypeError(
            f"{name} takes bounds as constraint (dini.sets.Box or another set of bounds): given {constraint.name}. "
            "State other constraints by equality= and inequality=, or use ProjectedGradient."
        )


def package(owner: str, name: str, install: str | None = None) -> Any:
    """Import a package that an adapter needs, or raise with what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        needed = install or name.partition(".")[0]
        raise ImportError(f"{owner} needs {needed}, which is not installed: pip install {needed}.") from error


def frozen_options(owner: str, options: Any) -> tuple[tuple[str, Any], ...]:
    """Return options by name as a tuple that can be compared, or raise."""
    items = tuple(sorted(dict(options or {}).items()))
    for name, value in items:
        if not isinstance(name, str) or not isinstance(value, Hashable) or isinstance(value, jax.Array):
            raise TypeError(
                f"{owner}'s options must be a dictionary of hashable values that are not traced (numbers, strings, "
                f"tuples): given {name}={value!r}."
            )
    return items


def flattened(x: Tree) -> tuple[jax.Array, Any]:
    """Return a tree as one vector of at least single precision, and the way back."""
    flat, unravel = ravel_pytree(x)
    return flat.astype(trees.real_dtype(x)), lambda vector: unravel(vector.astype(flat.dtype))


def raveled(tree: Tree, dtype: Any) -> jax.Array:
    """Return the numbers of a tree, complex ones as pairs, as one vector."""
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(trees.to_real(tree))]
    return jnp.concatenate([leaf.astype(dtype) for leaf in leaves]) if leaves else jnp.zeros(0, dtype)
