r"""Ridge regression with a strength a feature, and the closed form of its solution and Jacobian.

.. math:: x^\star(\theta) = \arg\min_x \; \tfrac12 \|\Phi x - y\|^2 + \tfrac12 \sum_i \theta_i x_i^2 .

With :math:`H = \Phi^\top \Phi + \operatorname{diag} \theta`, :math:`x^\star = H^{-1} \Phi^\top y` and
:math:`\partial x^\star(\theta) = -H^{-1} \operatorname{diag} x^\star`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from .theorem import Constants


class Data(NamedTuple):
    """`m` points with `p` features in the rows of `Phi`, and what is to be predicted of them."""

    Phi: Float[Array, "m p"]
    y: Float[Array, " m"]


def _objective(x: Array, theta: Array, Phi: Array, y: Array) -> Array:
    return 0.5 * jnp.sum((Phi @ x - y) ** 2) + 0.5 * jnp.sum(theta * x**2)


#: The regression, a function of `x` and the parameters `(theta, Phi, y)`.
ridge = dini.Minimize(_objective)


class Exact(NamedTuple):
    """The solution at one `theta`, from NumPy's linear algebra and nothing of dini's."""

    x: Float[np.ndarray, " p"]
    jacobian: Float[np.ndarray, "p p"]
    eigenvalues: Float[np.ndarray, " p"]
    """Of the Hessian `H`, ascending."""

    @classmethod
    def at(cls, theta: Float[np.ndarray, " p"], data: Data) -> Exact:
        H = data.Phi.T @ data.Phi + np.diag(theta)
        x = np.linalg.solve(H, data.Phi.T @ data.y)
        return cls(x, -np.linalg.solve(H, np.diag(x)), np.linalg.eigvalsh(H))

    @property
    def step_size(self) -> float:
        """One over the Lipschitz constant of the gradient."""
        return 1 / float(self.eigenvalues[-1])

    @property
    def constants(self) -> Constants:
        """Of the stationarity condition, where `A = -H` does not depend on `x` and `B = diag(x)` is linear in it."""
        return Constants(float(self.eigenvalues[0]), beta=1.0, gamma=0.0, R=float(np.abs(self.x).max()))
