r"""Derivatives on a regular mesh, by finite differences and by Fourier transforms.

Both are linear in the function, so that the derivative of a combination $b\,w$ of basis functions is the combination of
their derivatives. They act on leading axes; further axes, such as that of the basis functions, are carried along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float


@dataclass(frozen=True)
class FiniteDifference:
    """Central differences inside, one-sided ones at both ends.

    A second derivative is the first one applied twice (`twice`).

    Parameters
    ----------
    spacings
        The distance of neighboring points along each axis of the mesh.
    edge_order
        Order of accuracy of the one-sided differences: 1 (two points) or 2 (three points).
    """

    spacings: tuple[float, ...]
    edge_order: int = 1

    def __post_init__(self) -> None:
        if not self.spacings or not all(h > 0 for h in self.spacings):
            raise ValueError(
                f"FiniteDifference's spacings must be positive numbers, one an axis: given {self.spacings}."
            )
        if self.edge_order not in (1, 2):
            raise ValueError(f"FiniteDifference's edge_order must be 1 or 2: given {self.edge_order}.")

    def __call__(self, f: Float[Array, ...], axis: int) -> Float[Array, ...]:
        """The first derivative along an axis of the mesh. Raises if there are fewer than three points on it."""
        if not 0 <= axis < len(self.spacings):
            raise ValueError(f"axis must be one of the mesh's {len(self.spacings)}: given {axis}.")
        n, h = f.shape[axis], self.spacings[axis]
        if n < 3:
            raise ValueError(f"A finite difference needs three points on its axis: given {n} on axis {axis}.")
        f = jnp.moveaxis(f, axis, 0)
        inside = (f[2:] - f[:-2]) / (2 * h)
        if self.edge_order == 1:
            first, last = (f[1] - f[0]) / h, (f[-1] - f[-2]) / h
        else:
            first, last = (4 * f[1] - 3 * f[0] - f[2]) / (2 * h), (3 * f[-1] - 4 * f[-2] + f[-3]) / (2 * h)
        return jnp.moveaxis(jnp.concatenate([first[None], inside, last[None]]), 0, axis)

    def twice(self, f: Float[Array, ...], axis: int) -> Float[Array, ...]:
        """The second derivative: the first one, applied twice."""
        return self(self(f, axis), axis)


@dataclass(frozen=True)
class Spectral:
    r"""Derivatives of functions that are periodic along some axes: exact for what the mesh resolves.

    A wave $e^{2\pi i k x/\ell}$ is multiplied by $2\pi i k/\ell$. The highest wave of an even number of points has no
    first derivative on the mesh and loses it.

    Parameters
    ----------
    axes
        The periodic axes of the mesh.
    lengths
        The period along each of them.
    """

    axes: tuple[int, ...]
    lengths: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.lengths) or not all(length > 0 for length in self.lengths):
            raise ValueError(
                f"Spectral needs a positive period for each axis: given axes {self.axes} and lengths {self.lengths}."
            )

    def waves(self, f: Float[Array, ...], which: int) -> Float[Array, ...]:
        """The wave numbers along the periodic axis of that index, in the shape of a factor of a transform of `f`."""
        axis, n = self.axes[which], f.shape[self.axes[which]]
        k = 2 * jnp.pi / self.lengths[which] * n * jnp.fft.fftfreq(n, dtype=f.dtype)
        return k.reshape([-1 if i == axis else 1 for i in range(f.ndim)])

    def __call__(self, f: Float[Array, ...], which: int) -> Float[Array, ...]:
        """The first derivative along the periodic axis of that index."""
        axis, n = self.axes[which], f.shape[self.axes[which]]
        k = self.waves(f, which)
        if n % 2 == 0:
            k = jnp.where(jnp.abs(k) == jnp.max(jnp.abs(k)), 0, k)
        return jnp.fft.ifft(1j * k * jnp.fft.fft(f, axis=axis), axis=axis).real

    def laplacian(self, f: Float[Array, ...]) -> Float[Array, ...]:
        """The sum of the second derivatives along the periodic axes."""
        return self._multiplied(f, lambda squares: -squares)

    def inverse_laplacian(self, f: Float[Array, ...]) -> Float[Array, ...]:
        """The function without mean whose Laplacian is `f` without its mean."""
        return self._multiplied(f, lambda squares: jnp.where(squares > 0, -1 / jnp.where(squares > 0, squares, 1), 0))

    def _multiplied(self, f: Float[Array, ...], factor: Callable[[Any], Any]) -> Float[Array, ...]:
        squares = sum(self.waves(f, which) ** 2 for which in range(len(self.axes)))
        transform: Complex[Array, ...] = jnp.fft.fftn(f, axes=self.axes)
        return jnp.fft.ifftn(factor(squares) * transform, axes=self.axes).real
