r"""The bound on the error of a Jacobian that is taken at an inexact solution.

Let :math:`F(x^\star(\theta), \theta) = 0`, :math:`A = -\partial_1 F`, :math:`B = \partial_2 F`, and let
:math:`J(\hat x, \theta)` solve :math:`A(\hat x, \theta)\, J = B(\hat x, \theta)`. If around :math:`x^\star`

.. math:: \|A(x) v\| \ge \alpha \|v\|, \quad \|A(x) - A(x^\star)\| \le \gamma \|x - x^\star\|, \quad
          \|B(x) - B(x^\star)\| \le \beta \|x - x^\star\|, \quad \|B(x^\star)\| \le R,

then, in operator norms,

.. math:: \|J(\hat x, \theta) - \partial x^\star(\theta)\|
          \le \Big( \frac{\beta}{\alpha} + \frac{\gamma R}{\alpha^2} \Big) \|\hat x - x^\star(\theta)\| .

References
----------
Blondel et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022 (arXiv 2105.15183), theorem 1.
"""

from __future__ import annotations

from typing import NamedTuple


class Constants(NamedTuple):
    """What the theorem needs to know of an optimality condition around its root."""

    alpha: float
    """Lower bound on the singular values of `A`."""
    beta: float
    """Lipschitz constant of `B`."""
    gamma: float
    """Lipschitz constant of `A`."""
    R: float
    """Upper bound on the norm of `B` at the root."""

    @property
    def slope(self) -> float:
        """The error of the Jacobian for each unit of error of the solution, at most."""
        return self.beta / self.alpha + self.gamma * self.R / self.alpha**2
