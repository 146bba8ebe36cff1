"""Gradient guidance: a reverse kernel whose mean is moved along the gradient of a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import positive

from ..kernels import GaussianReverse


class Guided(eqx.Module):
    r"""Gradient guidance: the kernel's mean is moved by :math:`s_t^2 \nabla v_t(x_t) / a`.

    For values that have a gradient, such as a :class:`PosteriorMean`'s of a smooth reward: a method of its own, and a
    proposal for :func:`svdd_sample`, which corrects it by `log_ratio`.

    Parameters
    ----------
    kernel
        The kernel.
    value
        Of points and their level.
    temperature
        :math:`a > 0`.
    """

    kernel: GaussianReverse
    value: Callable[[Array, Any], Array]
    temperature: Any

    def __init__(self, kernel: GaussianReverse, value: Callable[[Array, Any], Array], temperature: Any):
        positive("temperature", temperature)
        self.kernel, self.value, self.temperature = kernel, value, temperature

    @property
    def steps(self) -> int:
        """The kernel's."""
        return self.kernel.steps

    @property
    def random(self) -> bool:
        """As the kernel."""
        return self.kernel.random

    def start(self, key: Array, n: int) -> Array:
        """As the kernel."""
        return self.kernel.start(key, n)

    def predict(self, x: Array, t: Any) -> tuple[Array, Array]:
        """The data prediction, and the gradient of the value."""
        slope = jax.grad(lambda x: jnp.sum(self.value(x, t)))(x)
        return self.kernel.predict(x, t), slope

    def _shift(self, predicted: tuple[Array, Array], std: Array) -> Array:
        return std**2 / self.temperature * predicted[1]

    def draw(self, key: Array, x: Array, predicted: tuple[Array, Array], t: Any, n: int) -> Array:
        """Candidates."""
        shift = self._shift(predicted, self.kernel.law(x, predicted[0], t)[1])
        return self.kernel.draw(key, x, predicted[0], t, n) + shift[:, None]

    def complete(self, x: Array, predicted: tuple[Array, Array], key: Array | None = None) -> Array:
        """As the kernel."""
        return self.kernel.complete(x, predicted[0], key)

    def log_ratio(self, x: Array, predicted: tuple[Array, Array], candidates: Array, t: Any) -> Float[Array, "n m"]:
        """The log density of the kernel less that of the guided one, of candidates."""
        mean, std = self.kernel.law(x, predicted[0], t)
        shift = self._shift(predicted, std)[:, None]
        z = candidates - mean[:, None] - shift / 2
        # without noise there is no shift, and so no difference
        ratio = -(z * shift) / jnp.where(std > 0, std, 1.0) ** 2
        return jnp.sum(ratio, axis=tuple(range(2, candidates.ndim)))
