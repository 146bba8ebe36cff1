r"""Diffusion with sorption: the equation, its conditions, and the loss of a prediction.

A contaminant diffuses from $x = 0$ through porous ground that holds part of it back,

.. math:: u_t = \frac{D}{R(u)} u_{xx}, \qquad R(u) = 1 + \frac{1 - \phi}{\phi} \varrho_s k n_f u^{n_f - 1},
          \qquad x \in (0, 1),\; t \in (0, T],

with $u(0, t) = 1$, $u(1, t) = D u_x(1, t)$ and a given $u(x, 0)$. The power has no derivative at $u = 0$: it is taken
of $\max(u, 0) + 10^{-6}$.

References
----------
Takamoto et al., "PDEBench: an extensive benchmark for scientific machine learning", NeurIPS 2022 (arXiv 2210.07182).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .constraint import Terms
from .derivatives import FiniteDifference

#: What is added to the concentration in the power law.
FLOOR = 1e-6


class Residuals(NamedTuple):
    """Of the equation at points, of the initial condition relative to it, and at both ends."""

    equation: Float[Array, ...]
    initial: Float[Array, " x"]
    left: Float[Array, " t"]
    right: Float[Array, " t"]


@dataclass(frozen=True)
class DiffusionSorption:
    """Diffusion-sorption on a regular mesh of times (from zero on) and places, both ends included.

    `weights` multiply the residuals of the equation, the initial condition and the boundary conditions.
    """

    times: int = 32
    places: int = 64
    duration: float = 500.0
    diffusivity: float = 5e-4
    porosity: float = 0.29
    density: float = 2880.0
    sorption: float = 3.5e-4
    exponent: float = 0.874
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    edge_order: int = 1

    def __post_init__(self) -> None:
        if min(self.times, self.places) < 3:
            raise ValueError(
                f"DiffusionSorption needs three times and places at least: given {self.times} and {self.places}."
            )
        if not 0 < self.porosity < 1:
            raise ValueError(f"DiffusionSorption's porosity must lie between 0 and 1: given {self.porosity}.")

    @property
    def t(self) -> Float[np.ndarray, " t"]:
        """The times."""
        return np.linspace(0, self.duration, self.times)

    @property
    def x(self) -> Float[np.ndarray, " x"]:
        """The places."""
        return np.linspace(0, 1, self.places)

    @property
    def difference(self) -> FiniteDifference:
        """The derivatives on the mesh of `(times, places)`."""
        return FiniteDifference((self.t[1].item(), self.x[1].item()), self.edge_order)

    @property
    def sorption_strength(self) -> float:
        """The factor of the power in `R`."""
        return (1 - self.porosity) / self.porosity * self.density * self.sorption * self.exponent

    def retardation(self, u: Float[Array, ...]) -> Float[Array, ...]:
        """The factor `R`, with a finite derivative everywhere."""
        positive = u > 0
        base = jnp.where(positive, jnp.where(positive, u, 1) + FLOOR, FLOOR)
        # through the logarithm, so that the derivative needs no power of its own
        return 1 + self.sorption_strength * jnp.exp((self.exponent - 1) * jnp.log(base))

    def inputs(self, initial: Float[Array, " x"]) -> Float[Array, "t x 3"]:
        """What the network sees: time and place between zero and one, and the initial concentration."""
        t, x = jnp.meshgrid(jnp.asarray(self.t / self.duration), jnp.asarray(self.x), indexing="ij")
        return jnp.stack([t, x, jnp.broadcast_to(initial, t.shape)], -1)

    def terms(self, basis: Float[Array, "t x n"], initial: Float[Array, " x"]) -> Terms:
        """What the residuals need of the basis functions. The derivatives are those on the whole mesh."""
        if basis.shape[:2] != (self.times, self.places):
            raise ValueError(
                f"basis must be given at {self.times} times and {self.places} places: given shape {basis.shape}."
            )
        d = self.difference
        u_x = d(basis, 1)
        inside = {"u": basis, "u_t": d(basis, 0), "u_xx": d(u_x, 1)}
        # at time zero the end has its initial value: the boundary conditions hold from the next time on
        shared = {
            "initial": basis[0],
            "left": basis[1:, 0],
            "right": basis[1:, -1],
            "right_x": u_x[1:, -1],
        }
        return Terms(basis, inside, shared, initial)

    def residual(self, inside: Any, shared: Any, initial: Float[Array, " x"]) -> Residuals:
        """The weighted residuals of combined terms."""
        equation, start, boundary = self.weights
        flux = self.diffusivity / self.retardation(inside["u"]) * inside["u_xx"]
        return Residuals(
            equation * (inside["u_t"] - flux),
            start * (shared["initial"] - initial) / initial,
            boundary * (shared["left"] - 1),
            boundary * (shared["right"] - self.diffusivity * shared["right_x"]),
        )

    def loss(self, u: Float[Array, "t x"], initial: Float[Array, " x"]) -> Float[Array, ""]:
        """How badly a prediction satisfies the equation, without a solution to compare with.

        The norm of the equation's residual on the whole mesh, the relative error of the initial condition, and the root
        mean square of the boundary conditions' residuals.
        """
        terms = self.terms(u[..., None], initial)
        one = lambda tree: {name: leaf[..., 0] for name, leaf in tree.items()}
        found = self.residual(one(terms.inside), one(terms.shared), initial)
        boundary = jnp.concatenate([found.left, found.right])
        relative = jnp.linalg.norm(found.initial * initial) / jnp.linalg.norm(initial)
        return jnp.linalg.norm(found.equation) + relative + jnp.sqrt(jnp.mean(boundary**2))
