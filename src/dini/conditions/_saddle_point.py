"""The fixed point of primal-dual methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..checks.records import record
from ..linear import Linearized, Reduction
from ..protocols import Composed
from ..trees import Tree
from ._descent import ProximalGradient


@record
class SaddlePoint(ProximalGradient):
    r"""The saddle point of :math:`f(x) + g(x) + \langle Kx, y\rangle - h^*(y)`, as a fixed point.

    It is :class:`ProximalGradient` with the monotone operator :math:`(\nabla f + K^\top y, -Kx)` in place of the
    gradient:

    .. math:: F = \begin{pmatrix} x - \mathrm{prox}_{\eta g}(x - \eta(\nabla_1 f + K^\top y)) \\
              y - \mathrm{prox}_{\eta h^*}(y + \eta K x) \end{pmatrix} .

    The operator's derivative is not symmetric, so there is no definite reduction.
    """

    def linearize(self, problem: Composed, x: Tree, *args: Tree) -> tuple[Callable[[Any], Any], Reduction | None]:
        """Return the derivative in ``x``."""
        return Linearized(lambda u: self(problem, u, *args), x), None
