r"""The Navier-Stokes equations in the plane in terms of vorticity, periodic on the unit square.

.. math:: \omega_t + v \cdot \nabla \omega = \nu \Delta \omega, \qquad v = (\psi_y, -\psi_x),
          \quad \Delta \psi = -\omega .

Derivatives in space and the stream function $\psi$ are taken by Fourier transforms, which know that the square is
periodic; those in time by finite differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .constraint import Terms
from .derivatives import FiniteDifference, Spectral


@dataclass(frozen=True)
class NavierStokes2D:
    r"""Vorticity on a regular mesh of times (from zero on) and places, whose initial condition holds exactly.

    Of the network's functions $f$ the basis is $\gamma \frac{t}{T} (f - \bar f)$, $\bar f$ the mean over space and
    $\gamma$ the `gain`; the initial vorticity is added with weight one. So a constraint on it has one function with a
    fixed weight (`fixed=1`), and solves begin at zero (`start=0.0`).
    """

    times: int = 64
    places: int = 64
    duration: float = 5.0
    viscosity: float = 1e-4
    gain: float = 0.005
    edge_order: int = 2

    def __post_init__(self) -> None:
        if self.times < 3 or self.places < 4:
            raise ValueError(
                f"NavierStokes2D needs three times and four places at least: given {self.times} and {self.places}."
            )

    #: The last function of the terms, the initial vorticity, has weight one.
    fixed = 1
    _space = Spectral((1, 2), (1.0, 1.0))

    def inputs(self, initial: Float[Array, "x y"]) -> Float[Array, "t x y 4"]:
        """What the network sees: time and place between zero and one, and the initial vorticity."""
        places = jnp.arange(self.places, dtype=initial.dtype) / self.places
        mesh = jnp.meshgrid(jnp.linspace(0, 1, self.times, dtype=initial.dtype), places, places, indexing="ij")
        return jnp.stack([*mesh, jnp.broadcast_to(initial, mesh[0].shape)], -1)

    def terms(self, basis: Float[Array, "t x y n"], initial: Float[Array, "x y"]) -> Terms:
        """What the residual needs of the basis functions. The derivatives are those on the whole mesh."""
        shape = (self.times, self.places, self.places)
        if basis.shape[:3] != shape:
            raise ValueError(f"basis must be given on a mesh of {shape}: given shape {basis.shape}.")
        ramp = self.gain * jnp.linspace(0, 1, self.times, dtype=basis.dtype)[:, None, None, None]
        free = ramp * (basis - jnp.mean(basis, (1, 2), keepdims=True))
        start = jnp.broadcast_to(initial[None, :, :, None], (*shape, 1))
        return self.fields(jnp.concatenate([free, start], -1))

    def fields(self, vorticity: Float[Array, "t x y n"]) -> Terms:
        """The terms of vorticities as they are."""
        d = self._space
        stream = -d.inverse_laplacian(vorticity)
        step = self.duration / (self.times - 1)
        inside = {
            "w_t": FiniteDifference((step, 1.0, 1.0), self.edge_order)(vorticity, 0),
            "w_x": d(vorticity, 0),
            "w_y": d(vorticity, 1),
            "v_x": d(stream, 1),
            "v_y": -d(stream, 0),
            "laplacian": d.laplacian(vorticity),
        }
        return Terms(vorticity, inside)

    def residual(self, inside: Any, shared: Any = None, data: Any = None) -> Float[Array, ...]:
        """The residual of combined terms."""
        del shared, data
        transport = inside["v_x"] * inside["w_x"] + inside["v_y"] * inside["w_y"]
        return inside["w_t"] + transport - self.viscosity * inside["laplacian"]

    def loss(self, u: Float[Array, "t x y"], initial: Float[Array, "x y"]) -> Float[Array, ""]:
        """The norm of the residual on the whole mesh. The initial condition holds."""
        del initial
        inside = self.fields(u[..., None]).inside
        return jnp.linalg.norm(self.residual({name: leaf[..., 0] for name, leaf in inside.items()}))


def random_vorticity(key: Array, places: int, length_scale: float = 0.8) -> Float[Array, "x y"]:
    r"""A periodic Gaussian random field on the unit square, less its mean.

    Its covariance is $\exp(-2 (\sin^2 \pi d_x + \sin^2 \pi d_y) / \ell^2)$ for points that are $d$ apart.
    """
    if not length_scale > 0:
        raise ValueError(f"random_vorticity's length_scale must be positive: given {length_scale}.")
    distance = jnp.sin(jnp.pi * jnp.arange(places) / places) ** 2
    covariance = jnp.exp(-2 * (distance[:, None] + distance) / length_scale**2)
    # the covariance is circulant: its eigenvalues are its transform, positive up to rounding
    eigenvalues = jnp.maximum(jnp.fft.fft2(covariance).real, 0)
    noise = jnp.fft.fft2(jax.random.normal(key, (places, places), covariance.dtype))
    field = jnp.fft.ifft2(jnp.sqrt(eigenvalues) * noise).real
    return field - jnp.mean(field)
