"""Fixed points."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax

from .. import conditions, trees
from ..checks.records import record
from ..trees import Tree
from ._base import Problem, check_like_unknown


@record
class FixedPoint(Problem):
    r"""Find ``x`` with :math:`x = T(x, \theta)`.

    The map need not be a contraction for the derivative to exist: :math:`I - \partial_1 T` must be invertible.

    Parameters
    ----------
    fun
        ``T(x, *args)``; returns a tree like ``x`` (with ``has_aux``: a pair of it and any pytree).
    has_aux
        Whether ``fun`` returns an auxiliary output.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> problem = dini.FixedPoint(lambda x, a: 0.5 * (x + a / x))
    >>> round(float(dini.solve(problem, dini.FixedPointIteration(), 1.0, 9.0).x), 4)
    3.0
    """

    fun: Any
    has_aux: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        self._wrap()

    @property
    def condition(self) -> conditions.Condition:
        """The residual of the map, ``x - T(x)``."""
        return conditions.Residual()

    @property
    def structure(self) -> Any:
        """Nothing is known of the Jacobian."""
        return None

    def map(self, x: Tree, *args: Tree) -> Any:
        """Return ``T(x, *args)``."""
        return self._output(x, *args)

    def residual(self, x: Tree, *args: Tree) -> Any:
        """Return ``x - T(x, *args)``."""
        return trees.sub(x, self.map(x, *args))

    def check(self, x: Tree, *args: Tree) -> None:
        """Raise unless ``T`` returns a tree like ``x``."""
        check_like_unknown("The output of FixedPoint's fun", jax.eval_shape(self.map, x, *args), x)
