r"""Optima in closed form: both objectives are quadratic in the reconstruction, so one linear solve finds it.

The solves are dini's: what they return is differentiable in the noise's scale and in the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import known, not_negative, one_of, positive


def rcae_on_grid(log_density: Callable[[Array], Array], grid: Float[Array, " n"], s: Any) -> Float[Array, " n"]:
    r"""The reconstruction on a line that the contractive objective has its minimum at.

    .. math:: \min_r \int p\, \big( (r - x)^2 + s^2 (r')^2 \big)\, dx, \qquad
              r - x = s^2 \big( r'' + (\log p)'\, r' \big), \quad r' p = 0 \text{ at the ends},

    on a grid, by a tridiagonal system for the displacement.

    Parameters
    ----------
    log_density
        :math:`\log p`, up to a constant, of a vector of points.
    grid
        Rising points, in equal steps.
    s
        The scale, positive.

    Returns
    -------
    Array
        :math:`r` at the points. It is differentiable in `s`, and in what `log_density` holds.

    Raises
    ------
    ValueError
        For an `s` that is not positive and a grid that is not in equal rising steps.

    Examples
    --------
    >>> grid = jnp.linspace(-5.0, 5.0, 2001)
    >>> r = rcae_on_grid(lambda x: -x**2 / 2, grid, 0.5)  # of normal data x / (1 + s²)
    >>> bool(abs(r[1200] - grid[1200] / 1.25) < 1e-4)
    True
    """
    positive("s", s)
    grid = jnp.asarray(grid)
    if grid.ndim != 1 or len(grid) < 3:
        raise ValueError(f"grid must be a vector of at least 3 points: given shape {grid.shape}.")
    if known(grid):
        steps = np.diff(np.asarray(grid))
        if not (np.all(steps > 0) and np.ptp(steps) < 1e-2 * steps.mean()):
            raise ValueError("grid must rise in equal steps.")
    h = (grid[-1] - grid[0]) / (len(grid) - 1)
    at, between = log_density(grid), log_density((grid[1:] + grid[:-1]) / 2)
    # each row is divided by its own density, so that tiny ones do no harm
    stiff = (s / h) ** 2
    above = jnp.pad(stiff * jnp.exp(between - at[:-1]), (0, 1))
    below = jnp.pad(stiff * jnp.exp(between - at[1:]), (1, 0))

    def matvec(u: Array) -> Array:
        forward, backward = jnp.pad(jnp.diff(u), (0, 1)), jnp.pad(jnp.diff(u), (1, 0))
        return u - above * forward + below * backward

    solver = dini.linear.Banded(1, check=False)
    return grid + dini.linear.solve(matvec, h * (above - below), solver=solver, name="the contractive objective")


type Features = Callable[[Array], Array]


class LinearReconstruction(eqx.Module):
    r""":math:`r(x) = x + \phi(x)\, c`, with fixed features."""

    features: Features
    coefficients: Float[Array, "m d"]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Of a batch."""
        return x + jax.vmap(self.features)(x) @ self.coefficients


def linear_reconstruction(
    features: Features,
    x: Float[Array, "n d"],
    s: Float[Array, ""] | float,
    *,
    objective: Literal["contractive", "denoising"] = "contractive",
    ridge: Any = 1e-8,
    key: Array | None = None,
) -> LinearReconstruction:
    r"""The best reconstruction :math:`x + \phi(x)\, c` of data, by one linear solve.

    .. math:: \big( E[\phi^\top \phi + s^2\, \partial\phi^\top \partial\phi] + \rho\, \tau I \big)\, c
              = -s^2 E[\partial\phi]^\top

    for the contractive objective, with :math:`\tau` the mean of the diagonal; for the denoising one
    :math:`E[\phi^\top \phi]\, c = -s E[\phi^\top e]` at the noisy points.

    Parameters
    ----------
    features
        Of one point `(d,)`: a vector `(m,)`.
    x
        The data.
    s
        The scale, positive. The solution is differentiable in it.
    objective
        Which one.
    ridge
        :math:`\rho`, which keeps features apart that are nearly dependent.
    key
        Of the noise of the denoising objective, in pairs of opposites.

    Raises
    ------
    ValueError
        For another objective, settings out of range, and a denoising objective without a key.
    DerivativeError
        Where the features are dependent and there is no ridge.
    """
    positive("s", s)
    not_negative("ridge", ridge)
    one_of("objective", objective, ("contractive", "denoising"))
    n = len(x)
    if objective == "contractive":
        phi = jax.vmap(features)(x)
        slopes = jax.vmap(jax.jacfwd(features))(x)
        # divided by s², so that nothing vanishes with it
        A = phi.T @ phi / (n * s**2) + jnp.einsum("nid,njd->ij", slopes, slopes) / n
        right = -jnp.mean(slopes, axis=0)
    else:
        if key is None:
            raise ValueError("The denoising objective needs a key for its noise: given none.")
        noise = jax.random.normal(key, x.shape, x.dtype)
        noise = jnp.concatenate([noise, -noise])
        phi = jax.vmap(features)(jnp.concatenate([x, x]) + s * noise)
        A, right = phi.T @ phi / (2 * n * s**2), -phi.T @ noise / (2 * n * s)
    A = A + ridge * jnp.trace(A) / len(A) * jnp.eye(len(A), dtype=A.dtype)
    solver = dini.linear.Dense("cholesky")
    column = lambda b: dini.linear.solve(
        lambda c: A @ c, b, structure="positive definite", solver=solver, name="the reconstruction"
    )
    return LinearReconstruction(features, jax.vmap(column, in_axes=1, out_axes=1)(right))


def score_matching_loss(score: Callable[[Array], Array], x: Float[Array, "n d"]) -> Float[Array, ""]:
    r"""Hyvärinen's :math:`E[\tfrac12 \|\psi\|^2 + \mathrm{div}\, \psi]`: of all fields least for the data's score.

    It needs no true score, and so is what a scale can be chosen by on data that were not fitted.
    """
    value = score(x)
    J = jax.vmap(jax.jacfwd(lambda x: score(x[None])[0]))(x)
    return jnp.mean(0.5 * jnp.sum(value**2, axis=-1) + jnp.trace(J, axis1=1, axis2=2))
