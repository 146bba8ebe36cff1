r"""Geometries of target space: how far the outputs of a model may move from where their gradient was taken.

A metric is :math:`D(z, z')`, one number for a batch of targets :math:`z, z' \in \mathbb{R}^{b \times m}` (or trees of
such arrays), a sum over its examples. `Euclidean` and `Diagonal` are quadratic, so that the surrogate is a problem of
least squares; `Divergence` is any other, those of dini's mirror descent among them. `NewtonDiagonal` and `AdaGrad` make
another `Diagonal` for each batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...kit.checking import within
from .checks import Targets, require_positive, total


class Euclidean(eqx.Module):
    r"""Half of the squared distance, :math:`D(z, z') = \tfrac12 \|z - z'\|^2`."""

    def __call__(self, z: Targets, center: Targets) -> Float[Array, ""]:
        """The sum over examples."""
        return total(jax.tree.map(lambda u, v: 0.5 * (u - v) ** 2, z, center))

    def weights(self, z: Targets) -> Targets:
        """The diagonal of its second derivative: ones."""
        return jax.tree.map(jnp.ones_like, z)


class Diagonal(eqx.Module):
    r"""Half of a weighted squared distance, :math:`D(z, z') = \tfrac12 \sum_{ij} h_{ij} (z_{ij} - z'_{ij})^2`.

    Parameters
    ----------
    diagonal
        :math:`h > 0`, of the shape of the targets, or of one that broadcasts to it.

    Raises
    ------
    ValueError
        Where a weight is not positive, if that is known when it is made.
    """

    diagonal: Targets

    def __check_init__(self) -> None:
        for leaf in jax.tree.leaves(self.diagonal):
            # placeholders of JAX's are no weights
            if isinstance(leaf, jax.Array | np.ndarray | float | int):
                require_positive("A diagonal metric", leaf)

    def __call__(self, z: Targets, center: Targets) -> Float[Array, ""]:
        """The sum over examples."""
        return total(jax.tree.map(lambda h, u, v: 0.5 * h * (u - v) ** 2, self.weights(z), z, center))

    def weights(self, z: Targets) -> Targets:
        """The diagonal of its second derivative."""
        return jax.tree.map(lambda h, u: jnp.broadcast_to(h, u.shape).astype(u.dtype), self.diagonal, z)


class Divergence(eqx.Module):
    r"""Any other measure: a function :math:`D(z, z')`, or a geometry of dini's mirror descent.

    With ``Divergence(dini.conditions.KL())`` and targets that are probabilities, the surrogate is, up to a constant,
    :math:`\mathrm{KL}(p(\theta) \,\|\, p_{1/2})` over the step size, where
    :math:`\log p_{1/2} = \log p_t - \eta G + \text{const}` is the mirror step.

    Parameters
    ----------
    measure
        A function of two batches of targets that returns a sum over examples, or an object with such a function as
        ``divergence``. It must vanish, with its derivative, where both are the same.
    """

    measure: Any

    def __call__(self, z: Targets, center: Targets) -> Float[Array, ""]:
        """The sum over examples."""
        return getattr(self.measure, "divergence", self.measure)(z, center)


Metric = Euclidean | Diagonal | Divergence


class NewtonDiagonal(eqx.Module):
    r"""Weights that are the loss's own second derivatives in the targets, :math:`h_{ij} = \ell''_{ij}(z_t) + \epsilon`.

    Parameters
    ----------
    curvature
        Takes the targets and the batch to the second derivatives, of the shape of the targets: :math:`p (1 - p)` for
        the logistic loss.
    floor
        :math:`\epsilon`, which keeps what is flat from moving without bound. With zero, no second derivative may be.

    Raises
    ------
    ValueError
        Where the floor is negative.
    """

    curvature: Callable[[Targets, Any], Targets]
    floor: float = 1e-5

    def __check_init__(self) -> None:
        if not self.floor >= 0:
            raise ValueError(f"NewtonDiagonal's floor must not be negative: given {self.floor}.")

    def init(self, z: Targets) -> None:
        """Nothing is remembered."""

    def update(self, state: None, z: Targets, gradients: Targets, batch: Any, index: Any) -> tuple[Diagonal, None]:
        """The weights at the targets of a batch."""
        return Diagonal(jax.tree.map(lambda h: h + self.floor, self.curvature(z, batch))), None


class Accumulated(NamedTuple):
    """What AdaGrad remembers: sums of squares of the gradients so far, of the whole data's shape, or scalars."""

    squares: Any


class AdaGrad(eqx.Module):
    r"""Weights that grow with the gradients seen so far, :math:`h_{ij} = \epsilon + \sqrt{\sum_s G_{s,ij}^2}`.

    Each example has sums of its own, over its visits :math:`s`; without ``examples`` one scalar is kept for all,
    :math:`\sum_s \|G_s\|^2 / b`.

    Parameters
    ----------
    examples
        The number of examples of the whole data, of which each batch tells the ``index``.
    floor
        :math:`\epsilon`.

    Raises
    ------
    ValueError
        Where there is no example, the floor is not positive, or a batch comes without its index or with one that is
        out of range; a traced one that is too large moves nothing.
    """

    examples: int | None = eqx.field(default=None, static=True)
    floor: float = 1e-8

    def __check_init__(self) -> None:
        if self.examples is not None and self.examples < 1:
            raise ValueError(f"AdaGrad's examples must be at least 1: given {self.examples}.")
        if not self.floor > 0:
            raise ValueError(f"AdaGrad's floor must be positive: given {self.floor}.")

    def init(self, z: Targets) -> Accumulated:
        """Sums of nothing, for targets of a batch like ``z``."""
        if self.examples is None:
            return Accumulated(total(z) * 0)
        return Accumulated(jax.tree.map(lambda u: jnp.zeros((self.examples, *u.shape[1:]), u.dtype), z))

    def update(
        self, state: Accumulated, z: Targets, gradients: Targets, batch: Any, index: Int[Array, " b"] | None
    ) -> tuple[Diagonal, Accumulated]:
        """The weights with the gradients of this batch in them."""
        squares = jax.tree.map(jnp.square, gradients)
        if self.examples is None:
            count = len(jax.tree.leaves(z)[0])
            one = state.squares + total(squares) / count
            return Diagonal(jax.tree.map(lambda u: self.floor + jnp.sqrt(one), z)), Accumulated(one)
        if index is None:
            raise ValueError("AdaGrad with examples needs the index of each example of the batch: given none.")
        within("index", index, self.examples)
        # an index that could not be checked must not become that of the last example
        own = lambda acc: acc.at[index].get(mode="fill", fill_value=jnp.nan)
        sums = jax.tree.map(lambda acc, new: acc.at[index].add(new), state.squares, squares)
        return Diagonal(jax.tree.map(lambda acc: self.floor + jnp.sqrt(own(acc)), sums)), Accumulated(sums)
