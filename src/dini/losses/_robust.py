"""Robust losses of squared residuals, for :class:`dini.LeastSquares`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..checks.records import record
from ..checks.settings import positive, require_positive


class RobustLoss:
    r"""Base of the robust losses: :math:`\rho_c(s) = c^2\, \rho(s / c^2)` of a squared residual ``s``.

    :math:`\rho(0) = 0` and :math:`\rho'(0) = 1`, so that residuals much smaller than the scale ``c`` count as in
    ordinary least squares. The scale is a scalar, or a vector with an element for each residual (in the order of
    ``ravel_pytree``); solutions are differentiable in it.
    """

    scale: Any

    def __post_init__(self) -> None:
        require_positive(f"{type(self).__name__}'s scale", self.scale)

    def unit(self, z: jax.Array) -> jax.Array:
        r"""Return :math:`\rho(z)`."""
        raise NotImplementedError

    def __call__(self, squared: jax.Array | float) -> jax.Array:
        r"""Return :math:`\rho_c(s)` elementwise."""
        squared = jnp.asarray(squared)
        if not jnp.issubdtype(squared.dtype, jnp.floating):
            squared = squared.astype(float)
        shape = jnp.shape(self.scale)
        if shape not in ((), squared.shape):
            raise ValueError(
                f"{type(self).__name__}'s scale must be a scalar or have an element for each residual: given shape "
                f"{shape}, needed {squared.shape}."
            )
        c2 = jnp.asarray(positive(self.scale), squared.dtype) ** 2
        return c2 * self.unit(squared / c2)

    def close(self, squared: Any) -> RobustLoss:
        """Return the loss itself, which closes over nothing."""
        del squared
        return self


@record
class Huber(RobustLoss):
    r"""Huber's loss: :math:`\rho(z) = z` for :math:`z \le 1` and :math:`2\sqrt z - 1` beyond.

    Parameters
    ----------
    scale
        :math:`c > 0`, a scalar or a vector with an element for each residual: where the square ends.

    References
    ----------
    Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 1964.

    Examples
    --------
    The median lies among most of the data, the mean does not:

    >>> import dini, jax.numpy as jnp
    >>> y = jnp.array([1.0, 1.1, 0.9, 10.0])
    >>> problem = dini.LeastSquares(lambda x, y: x - y, loss=dini.losses.Huber(0.3))
    >>> round(float(dini.solve(problem, dini.LevenbergMarquardt(), 0.0, y).x), 3)
    1.1
    """

    scale: Any = 1.0

    def unit(self, z: jax.Array) -> jax.Array:
        """Return the loss at unit scale."""
        # where the root is not used it is not taken: its derivative at zero is infinite
        return jnp.where(z <= 1, z, 2 * jnp.sqrt(jnp.where(z <= 1, 1, z)) - 1)


@record
class SoftL1(RobustLoss):
    r"""The smooth absolute value: :math:`\rho(z) = 2(\sqrt{1 + z} - 1)`.

    Parameters
    ----------
    scale
        :math:`c > 0`, a scalar or a vector with an element for each residual.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.losses import SoftL1
    >>> print(SoftL1()(jnp.array([0.0, 3.0])))
    [0. 2.]
    """

    scale: Any = 1.0

    def unit(self, z: jax.Array) -> jax.Array:
        """Return the loss at unit scale."""
        # as a quotient it keeps its digits for small residuals, and as a difference its limit for an infinite one
        small = jnp.where(z <= 1, z, 0)
        return jnp.where(z <= 1, 2 * small / (jnp.sqrt(1 + small) + 1), 2 * (jnp.sqrt(1 + z) - 1))


@record
class Cauchy(RobustLoss):
    r"""Cauchy's (Lorentzian) loss: :math:`\rho(z) = \log(1 + z)`. Not convex: far residuals hardly pull.

    Parameters
    ----------
    scale
        :math:`c > 0`, a scalar or a vector with an element for each residual.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.losses import Cauchy
    >>> print(Cauchy(2.0)(jnp.array([0.0, 4.0])).round(3))
    [0.    2.773]
    """

    scale: Any = 1.0

    def unit(self, z: jax.Array) -> jax.Array:
        """Return the loss at unit scale."""
        return jnp.log1p(z)


@record
class Arctan(RobustLoss):
    r"""The bounded loss :math:`\rho(z) = \arctan z`. Not convex: far residuals do not pull.

    Parameters
    ----------
    scale
        :math:`c > 0`, a scalar or a vector with an element for each residual.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dini.losses import Arctan
    >>> print(Arctan()(jnp.array([0.0, 1.0])).round(3))
    [0.    0.785]
    """

    scale: Any = 1.0

    def unit(self, z: jax.Array) -> jax.Array:
        """Return the loss at unit scale."""
        # the second derivative would be inf/inf where a residual is infinite
        small = jnp.where(z <= 1, z, 0)
        return jnp.where(z <= 1, jnp.arctan(small), jnp.pi / 2 - jnp.arctan(1 / jnp.where(z <= 1, 1, z)))
