r"""Constitutive laws and return maps of solids, granular matter and fluids, as pure functions of one matrix.

An *elastic law* takes the deformation gradient :math:`F` (2 × 2 or 3 × 3, without units) to the Kirchhoff stress
:math:`\tau = P F^\top` in pascal: force over area of the undeformed body, pushed forward. The Cauchy stress is
:math:`\tau / \det F`. A *return map* takes the deformation of a trial step to one that the material can bear. With
:math:`F = U \operatorname{diag}(\sigma) V^\top` the logarithmic strains are :math:`e = \log \sigma`, and
:math:`\hat e = e - \operatorname{mean}(e)` is their deviator. For many particles use `jax.vmap`.

References
----------
Stomakhin et al., "A material point method for snow simulation", SIGGRAPH 2013 (fixed corotated elasticity).

Klar et al., "Drucker-Prager elastoplasticity for sand animation", SIGGRAPH 2016.

Simo and Hughes, "Computational inelasticity", Springer 1998 (return maps as closest-point projections).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini.sets import Free, L2Ball, Product
from dini_zoo.kit.checking import known, not_negative, positive

from .decompositions import determinant, isotropic, polar, require_matrix
from .elasticity import lame

type Matrix = Float[Array, "d d"]

#: Return maps take smaller singular values for this one: a logarithm of what has collapsed is of no use.
LEAST_STRETCH = 0.05


# elastic laws


def corotated(F: Matrix, mu: Any, lam: Any) -> Matrix:
    r"""Fixed corotated elasticity, :math:`\tau = 2 \mu (F - R) F^\top + \lambda J (J - 1) I` with :math:`F = R S`."""
    J = determinant(F)
    return 2 * mu * (F - polar(F)) @ F.T + lam * J * (J - 1) * jnp.eye(len(F), dtype=F.dtype)


def hencky(F: Matrix, mu: Any, lam: Any) -> Matrix:
    r"""Quadratic in the logarithmic strains, :math:`\tau = U \operatorname{diag}(2\mu e + \lambda \sum e) U^\top`.

    NaN where :math:`\det F \le 0`.
    """
    return isotropic(_hencky_piola, F, mu, lam) @ F.T


def _hencky_piola(sigma: Any, mu: Any, lam: Any) -> Any:
    e = jnp.log(sigma)
    return (2 * mu * e + lam * jnp.sum(e)) / sigma


def weakly_compressible(F: Matrix, lam: Any) -> Matrix:
    r"""A fluid with the bulk modulus :math:`\lambda`: :math:`\tau = \lambda J (J - 1) I`."""
    J = determinant(F)
    return lam * J * (J - 1) * jnp.eye(len(F), dtype=F.dtype)


def stress_free(F: Matrix) -> Matrix:
    """No stress: particles that only exchange momentum by the grid."""
    return jnp.zeros_like(F)


# return maps


def unchanged(F: Matrix) -> Matrix:
    """The return map of what is elastic."""
    return F


def norm_or_zero(x: Any) -> Any:
    """The Euclidean norm, with derivative zero at zero."""
    square = jnp.sum(x * x)
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def _strains(sigma: Any) -> tuple[Any, Any]:
    e = jnp.log(jnp.maximum(sigma, LEAST_STRETCH))
    return e, e - jnp.mean(e)


def _shortened(deviator: Any, size: Any, by: Any) -> Any:
    """Take `by > 0` from the length of a deviator; nothing where `by <= 0`."""
    return jnp.maximum(by, 0) / jnp.where(size > 0, size, 1) * deviator


def von_mises_return(F: Matrix, mu: Any, yield_stress: Any) -> Matrix:
    r"""Where :math:`|\hat e| > \sigma_y / (2 \mu)`, shorten the deviator to this length; the volume stays.

    It is the nearest point, in the strains' Euclidean distance, of the cylinder of strains that the material bears:
    see :func:`von_mises_projection`. With :func:`hencky`, :math:`|\operatorname{dev} \tau| \le \sigma_y` afterwards.
    Singular values below `LEAST_STRETCH` are taken for it.

    Raises `ValueError` unless `mu` and `yield_stress` are positive, where they are known.
    """
    positive("mu", mu)
    positive("yield_stress", yield_stress)
    return isotropic(_von_mises_stretches, F, mu, yield_stress)


def _von_mises_stretches(sigma: Any, mu: Any, yield_stress: Any) -> Any:
    e, deviator = _strains(sigma)
    size = norm_or_zero(deviator)
    return jnp.exp(e - _shortened(deviator, size, size - yield_stress / (2 * mu)))


def von_mises_projection(e: Float[Array, " d"], radius: Any) -> Float[Array, " d"]:
    r"""The Euclidean projection of strains onto :math:`\{e : |\hat e| \le r\}`, by dini's sets and their derivatives.

    In axes of which one is the mean's direction, the cylinder is the product of a line and a ball. The von Mises
    return is this map with :math:`r = \sigma_y / (2 \mu)`.
    """
    axes = _mean_and_deviator(len(e)).astype(e.dtype)
    parts = axes @ e
    cylinder = Product((Free(), L2Ball(radius)))
    return axes.T @ jnp.concatenate(cylinder.project((parts[:1], parts[1:])))


def _mean_and_deviator(d: int) -> np.ndarray:
    """Orthonormal rows, the first along the mean."""
    found = np.linalg.qr(np.column_stack([np.ones(d), np.eye(d)[:, 1:]]))[0].T
    return found * np.sign(found[0, 0])


def friction_slope(angle: Any) -> Any:
    r"""The slope :math:`\alpha = \sqrt{2/3}\; 2 \sin\varphi / (3 - \sin\varphi)` of a friction angle in degrees."""
    sine = jnp.sin(jnp.deg2rad(angle))
    return math.sqrt(2 / 3) * 2 * sine / (3 - sine)


def drucker_prager_return(F: Matrix, mu: Any, lam: Any, angle: Any = 25.0) -> Matrix:
    r"""Dry friction: expanding matter bears nothing, compressed matter a shear in proportion to its pressure.

    Where :math:`\sum e \ge 0`, :math:`e \leftarrow 0`. Else with
    :math:`\delta = |\hat e| + \frac{d \lambda + 2 \mu}{2 \mu} \alpha \sum e` and the slope :math:`\alpha` of
    :func:`friction_slope`, :math:`e \leftarrow e - \max(\delta, 0)\, \hat e / |\hat e|`. The volume stays, so that this
    is no projection onto the cone. It goes with :func:`hencky`. Singular values below `LEAST_STRETCH` are taken for it.

    Raises `ValueError` unless `mu` is positive, `lam` at least zero and the `angle`, in degrees, between 0 and 90.
    """
    positive("mu", mu)
    not_negative("lam", lam)
    if known(angle) and not np.all((np.asarray(angle) >= 0) & (np.asarray(angle) < 90)):
        raise ValueError(f"angle must be at least 0 and less than 90 degrees: given {angle}.")
    return isotropic(_drucker_prager_stretches, F, mu, lam, friction_slope(angle))


def _drucker_prager_stretches(sigma: Any, mu: Any, lam: Any, slope: Any) -> Any:
    e, deviator = _strains(sigma)
    size, volume = norm_or_zero(deviator), jnp.sum(e)
    excess = size + (len(e) * lam + 2 * mu) / (2 * mu) * slope * volume
    return jnp.exp(jnp.where(volume >= 0, 0, e - _shortened(deviator, size, excess)))


def project_fluid(F: Matrix) -> Matrix:
    r"""Forget all shear: :math:`F \leftarrow J^{1/d} I`. NaN where :math:`J < 0`."""
    d = require_matrix("F", F)
    return determinant(F) ** (1 / d) * jnp.eye(d, dtype=F.dtype)


# materials


class Material(eqx.Module):
    """An elastic law and a return map, each a function of one matrix: what a simulator needs to know of a body.

    Both may be Equinox modules or `jax.tree_util.Partial`: their arrays are leaves, and are differentiated by.
    """

    elasticity: Callable[[Any], Any]
    plasticity: Callable[[Any], Any] = unchanged


def _with(fun: Callable[..., Any], **parameters: Any) -> Any:
    return jax.tree_util.Partial(fun, **parameters)


def jelly(E: Any = 1e5, nu: Any = 0.2) -> Material:
    """Elastic: :func:`corotated`."""
    mu, lam = lame(E, nu)
    return Material(_with(corotated, mu=mu, lam=lam))


def plasticine(E: Any = 3e5, nu: Any = 0.25, yield_stress: Any = 5e3) -> Material:
    """Elastic up to a shear stress: :func:`hencky` and :func:`von_mises_return`."""
    mu, lam = lame(E, nu)
    return Material(_with(hencky, mu=mu, lam=lam), _with(von_mises_return, mu=mu, yield_stress=yield_stress))


def sand(E: Any = 1e6, nu: Any = 0.2, angle: Any = 25.0) -> Material:
    """Dry grains: :func:`hencky` and :func:`drucker_prager_return`."""
    mu, lam = lame(E, nu)
    return Material(_with(hencky, mu=mu, lam=lam), _with(drucker_prager_return, mu=mu, lam=lam, angle=angle))


def water(E: Any = 1e5, nu: Any = 0.3) -> Material:
    """A fluid: :func:`weakly_compressible` and :func:`project_fluid`. Raises `ValueError` for a negative `nu`."""
    not_negative("nu", nu)
    return Material(_with(weakly_compressible, lam=lame(E, nu)[1]), _with(project_fluid))
