"""Systems of equations."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax

from .. import conditions
from ..checks.records import record
from ..trees import Tree
from ._base import Problem, check_like_unknown


@record
class Root(Problem):
    r"""Find ``x`` with :math:`F(x, \theta) = 0`.

    Parameters
    ----------
    fun
        ``F(x, *args)``; returns a tree like ``x`` (with ``has_aux``: a pair of it and any pytree).
    has_aux
        Whether ``fun`` returns an auxiliary output.
    symmetric
        Declare that the Jacobian of ``F`` in ``x`` is symmetric.

    Examples
    --------
    >>> import dini
    >>> problem = dini.Root(lambda x, a: x**3 + x - a)
    >>> float(dini.solve(problem, dini.Newton(rtol=1e-6), 1.0, 10.0).x)
    2.0
    """

    fun: Any
    has_aux: bool = field(default=False, metadata={"static": True})
    symmetric: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        self._wrap()

    @property
    def condition(self) -> conditions.Condition:
        """The equation itself."""
        return conditions.Residual()

    @property
    def structure(self) -> Any:
        """What is known of the Jacobian of the condition."""
        return "symmetric" if self.symmetric else None

    def residual(self, x: Tree, *args: Tree) -> Any:
        """Return ``F(x, *args)``."""
        return self._output(x, *args)

    def check(self, x: Tree, *args: Tree) -> None:
        """Raise unless ``F`` returns a tree like ``x``."""
        output = jax.eval_shape(self.residual, x, *args)
        check_like_unknown("The output of Root's fun", output, x)
