r"""Neural constitutive laws that turn with the body and bear no stress when it is not deformed, by construction.

Of a deformation gradient :math:`F = R S` with singular values :math:`\sigma` the features are

.. math:: z = [\sigma - 1,\; F^\top F - I,\; \det F - 1],

and a network without biases makes of them a symmetric matrix :math:`X(z)`. Then with any rotation :math:`Q`

.. math:: P(F) = s\, R\, X(z), \quad \tau = P F^\top: \qquad P(QF) = Q P(F), \quad P(Q) = 0; \qquad
    F \leftarrow F + \alpha\, R\, X(z)

for elasticity and plasticity. Isotropy, :math:`P(FQ) = P(F) Q`, is not imposed: a body may have a grain.

References
----------
Ma, Chen, Deng, Tenenbaum, Du, Gan and Matusik, "Learning neural constitutive laws from motion observations for
generalizable PDE dynamics", ICML 2023 (arXiv 2304.14369).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, positive

from ..decompositions import determinant, polar_and_values, singular_values
from ..materials import Material

type Matrix = Float[Array, "d d"]


def invariants(F: Matrix) -> Float[Array, " k"]:
    r"""The features :math:`z`, zero for rotations, the same for :math:`QF` as for :math:`F`: 13, in the plane 7."""
    return _invariants(F, singular_values(F))


def _invariants(F: Matrix, sigma: Any) -> Any:
    C = F.T @ F - jnp.eye(len(F), dtype=F.dtype)
    return jnp.concatenate([sigma - 1, C.ravel(), (determinant(F) - 1)[None]])


def displacement_gradient(F: Matrix) -> Float[Array, " k"]:
    r"""The features :math:`F - I`, which know nothing of rotations."""
    return (F - jnp.eye(len(F), dtype=F.dtype)).ravel()


class Layers(eqx.Module):
    """A multilayer perceptron with exact GELU and weights by Glorot's uniform law; biases, if any, start at zero."""

    weights: list[Float[Array, "m n"]]
    biases: list[Float[Array, " m"]] | None

    def __init__(self, key: Array, sizes: tuple[int, ...], *, biased: bool = False):
        init = jax.nn.initializers.glorot_uniform(in_axis=1, out_axis=0, dtype=jnp.result_type(float))
        keys = jax.random.split(key, len(sizes) - 1)
        self.weights = [init(k, (m, n)) for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)]
        self.biases = [jnp.zeros(m) for m in sizes[1:]] if biased else None

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, " m"]:
        for i, W in enumerate(self.weights):
            x = jax.nn.gelu(x, approximate=False) if i else x
            x = W @ x
            x = x if self.biases is None else x + self.biases[i]
        return x


class NeuralLaw(eqx.Module):
    r"""The matrix that both laws are made of: :math:`R\, X(z)`, or of a plain network with biases, :math:`X(F - I)`.

    Parameters
    ----------
    key
        Of the weights.
    width
        Of the two hidden layers.
    dim
        2 or 3.
    plain
        Without what is built in: features :math:`F - I`, biases, no rotation, and :math:`X` as it comes.
    """

    layers: Layers
    plain: bool = eqx.field(static=True)

    def __init__(self, key: Array, width: int = 64, *, dim: int = 3, plain: bool = False):
        at_least("width", width, 1)
        if dim not in (2, 3):
            raise ValueError(f"dim must be 2 or 3: given {dim}.")
        features = dim**2 if plain else dim + dim**2 + 1
        self.layers = Layers(key, (features, width, width, dim**2), biased=plain)
        self.plain = plain

    def matrix(self, F: Matrix) -> Matrix:
        """The network's matrix, without a scale."""
        if self.plain:
            return self.layers(displacement_gradient(F)).reshape(F.shape)
        R, sigma = polar_and_values(F)
        X = self.layers(_invariants(F, sigma)).reshape(F.shape)
        return R @ (X + X.T) / 2


class NeuralElasticity(NeuralLaw):
    r"""The Kirchhoff stress :math:`\tau = s\, R\, X(z) F^\top` of a deformation gradient.

    The scale :math:`s`, of the size of stresses in pascal, is fixed: weights of size one then make stresses that
    matter, and rates of learning are those of any other network.
    """

    scale: float = eqx.field(static=True)

    def __init__(self, key: Array, width: int = 64, *, dim: int = 3, plain: bool = False, scale: float = 3e4):
        super().__init__(key, width, dim=dim, plain=plain)
        positive("scale", scale)
        self.scale = scale

    def piola(self, F: Matrix) -> Matrix:
        r"""The first Piola-Kirchhoff stress :math:`P`, with :math:`\tau = P F^\top`."""
        return self.scale * self.matrix(F)

    def __call__(self, F: Matrix) -> Matrix:
        return self.piola(F) @ F.T


class NeuralPlasticity(NeuralLaw):
    r"""The return map :math:`F \leftarrow F + \alpha\, R\, X(z)`, near to none at first."""

    alpha: float = eqx.field(static=True)

    def __init__(self, key: Array, width: int = 64, *, dim: int = 3, plain: bool = False, alpha: float = 1e-3):
        super().__init__(key, width, dim=dim, plain=plain)
        positive("alpha", alpha)
        self.alpha = alpha

    def __call__(self, F: Matrix) -> Matrix:
        return F + self.alpha * self.matrix(F)


def neural_material(key: Array, width: int = 64, *, dim: int = 3, plain: bool = False, scale: float = 3e4) -> Any:
    """Both laws as a material that no one has trained."""
    one, other = jax.random.split(key)
    return Material(
        NeuralElasticity(one, width, dim=dim, plain=plain, scale=scale),
        NeuralPlasticity(other, width, dim=dim, plain=plain),
    )
