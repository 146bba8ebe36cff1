r"""The stable neo-Hookean solid: energy and stress as functions of the deformation gradient, and its constants.

.. math::
    W(F) = \tfrac{\mu}{2} (I_C - 3) - \tfrac{\mu}{2} \log \tfrac{I_C + 1}{4} + \tfrac{\lambda}{2} (J - \alpha)^2
    - \tfrac{\lambda}{2} (1 - \alpha)^2, \qquad
    P(F) = \mu \Bigl(1 - \frac{1}{I_C + 1}\Bigr) F + \lambda (J - \alpha) \frac{\partial J}{\partial F},

with :math:`I_C = \operatorname{tr} F^\top F`, :math:`J = \det F` and :math:`\alpha = 1 + \tfrac34 \mu / \lambda`, so
that the rest state has neither stress nor energy. It is finite for every ``F``, inverted ones as well.

The constants of this energy are not Lamé's: for small strains it is linear elasticity with :math:`\mu_L = \tfrac34 \mu`
and :math:`\lambda_L = \lambda - \tfrac58 \mu`. :func:`lame_stable` inverts this.

References
----------
Smith, de Goes, Kim, "Stable neo-Hookean flesh simulation", ACM Transactions on Graphics 37, 2018.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import known, positive

#: The entries of 3 × 3 matrices as nine arrays: a compiler makes one loop of what is done with them.
type Components = tuple[tuple[Any, ...], ...]


def lame(E: Any, nu: Any) -> tuple[Any, Any]:
    r"""Lamé's constants :math:`\mu = E / (2 (1 + \nu))` and :math:`\lambda = E \nu / ((1 + \nu) (1 - 2 \nu))`.

    Raises ``ValueError`` for a modulus that is not positive, or a Poisson ratio outside of (-1, 1/2).
    """
    positive("E, Young's modulus,", E)
    if known(nu) and not np.all((np.asarray(nu) > -1) & (np.asarray(nu) < 0.5)):
        raise ValueError(f"nu, Poisson's ratio, must be between -1 and 1/2: given {nu}.")
    return E / (2 * (1 + nu)), E * nu / ((1 + nu) * (1 - 2 * nu))


def lame_stable(E: Any, nu: Any) -> tuple[Any, Any]:
    r"""The constants with which the stable neo-Hookean energy has this modulus and ratio for small strains.

    .. math:: \mu = \tfrac43 \mu_L, \qquad \lambda = \lambda_L + \tfrac56 \mu_L
    """
    mu, lam = lame(E, nu)
    return 4 / 3 * mu, lam + 5 / 6 * mu


def linearized(mu: Any, lam: Any) -> tuple[Any, Any]:
    r"""Lamé's constants of the energy for small strains: :math:`\tfrac34 \mu` and :math:`\lambda - \tfrac58 \mu`."""
    return 0.75 * mu, lam - 0.625 * mu


def components(F: Float[Array, "*n 3 3"]) -> Components:
    """The nine entries of matrices as arrays of their own, row by row."""
    return tuple(tuple(F[..., i, j] for j in range(3)) for i in range(3))


def stacked(rows: Components) -> Float[Array, "*n 3 3"]:
    """The matrices with these entries."""
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def cofactor_components(F: Components) -> Components:
    """Those of the derivative of the determinant."""
    (a, b, c), (d, e, f), (g, h, i) = F
    return (
        (e * i - f * h, f * g - d * i, d * h - e * g),
        (c * h - b * i, a * i - c * g, b * g - a * h),
        (b * f - c * e, c * d - a * f, a * e - b * d),
    )


def _invariants(F: Components) -> tuple[Array, Array, Components]:
    cofactors = cofactor_components(F)
    determinant = sum(f * c for f, c in zip(F[0], cofactors[0], strict=True))
    return sum(f * f for row in F for f in row), determinant, cofactors


def energy_of_components(F: Components, mu: Any, lam: Any) -> Array:
    """:func:`stable_neo_hookean_energy` of the nine entries of ``F``."""
    trace, J, _ = _invariants(F)
    # (J - α)² - (1 - α)² without the cancellation of large terms; log1p for the same reason
    stretch = trace - 3
    volume = 0.5 * lam * (J - 1) ** 2 - 0.75 * mu * (J - 1)
    return 0.5 * mu * (stretch - jnp.log1p(0.25 * stretch)) + volume


def stress_of_components(F: Components, mu: Any, lam: Any) -> Components:
    """:func:`stable_neo_hookean` of the nine entries of ``F``."""
    trace, J, cofactors = _invariants(F)
    shear, pressure = mu * (1 - 1 / (trace + 1)), lam * (J - 1) - 0.75 * mu
    pairs = (zip(row, others, strict=True) for row, others in zip(F, cofactors, strict=True))
    return tuple(tuple(shear * f + pressure * c for f, c in row) for row in pairs)


def stable_neo_hookean_energy(F: Float[Array, "*n 3 3"], mu: Any, lam: Any) -> Float[Array, "*n"]:
    """The energy density of deformation gradients; constants broadcast against the leading axes."""
    return energy_of_components(components(F), mu, lam)


def stable_neo_hookean(F: Float[Array, "*n 3 3"], mu: Any, lam: Any) -> Float[Array, "*n 3 3"]:
    """The first Piola-Kirchhoff stress of deformation gradients; constants broadcast against the leading axes."""
    return stacked(stress_of_components(components(F), mu, lam))
