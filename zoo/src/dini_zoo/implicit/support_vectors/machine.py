r"""The multiclass support vector machine of Crammer and Singer, through its dual.

With `m` training points in the rows of :math:`X` and their classes in the rows of :math:`Y`, the machine

.. math:: \min_W \; \tfrac{\theta}{2} \|W\|^2 + \sum_i \max_c \big( 1 - Y_{ic} + (XW)_{ic} - (XW)_{i y_i} \big)

has the dual

.. math:: \min_{x \in \Delta^m} \; \tfrac{\theta}{2} \|W(x, \theta)\|^2 + \langle x, Y \rangle,
          \qquad W(x, \theta) = X^\top (Y - x) / \theta,

over the product of `m` simplices, one a row. The regularization :math:`\theta` may be one number or one a class. A row
of `x` is at the vertex :math:`Y_i` where the point is classified with a margin of more than one. More points than
features can leave several optimal `x`, yet one `W`: differentiate `W`.

References
----------
Crammer and Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR 2001. Blondel
et al., "Efficient and Modular Implicit Differentiation", NeurIPS 2022 (arXiv 2105.15183), section 4.1.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import positive
from dini_zoo.kit.data import Sample


def _outer(z: Array, x: Array, theta: Array, X: Array, Y: Array) -> Array:
    # z is X^T x, so that a change of one row of x costs one row of X
    return 0.5 * jnp.sum((X.T @ Y - z) ** 2 / theta) + jnp.vdot(x, Y)


def _rows(theta: Array, X: Array, Y: Array) -> Array:
    return X


#: The dual, a function of `x` and the parameters `(theta, X, Y)`.
dual = dini.Minimize(dini.LinearComposite(_outer, _rows), constraint=dini.sets.Simplex(axis=-1))


def center(Y: Float[Array, "m k"]) -> Float[Array, "m k"]:
    """The point of the product of simplices with all elements equal, where every solver can start.

    Examples
    --------
    >>> print(center(jnp.eye(2)))
    [[0.5 0.5]
     [0.5 0.5]]
    """
    return jnp.full(Y.shape, 1 / Y.shape[1], Y.dtype)


def weights(x: Float[Array, "m k"], theta: Array, train: Sample) -> Float[Array, "p k"]:
    """The primal solution that belongs to a dual one.

    Examples
    --------
    >>> print(weights(jnp.array([[0.75, 0.25]]), jnp.array(0.5), Sample(jnp.array([[2.0]]), jnp.array([[1.0, 0.0]]))))
    [[ 1. -1.]]
    """
    positive("theta", theta)
    return train.X.T @ (train.Y - x) / theta


def accuracy(W: Float[Array, "p k"], sample: Sample) -> Array:
    """The share of points in the class of the highest score; NaN where a score is.

    Examples
    --------
    >>> print(accuracy(jnp.array([[1.0, -1.0]]), Sample(jnp.array([[2.0], [3.0]]), jnp.eye(2))))
    0.5
    """
    scores = sample.X @ W
    right = jnp.argmax(scores, axis=1) == jnp.argmax(sample.Y, axis=1)
    return jnp.where(jnp.isnan(scores).any(), jnp.nan, jnp.mean(right, dtype=W.dtype))


def tie_margin(x: Float[Array, "m k"], theta: Array, train: Sample) -> Array:
    """The smallest multiplier of an element of `x` that is zero.

    A solver that stops with a residual above it cannot tell that the element is zero, and the derivative changes with
    every element that joins or leaves the support.
    """
    gradient = train.Y - train.X @ weights(x, theta, train)
    return jnp.min(jnp.where(x > 0, jnp.inf, gradient - jnp.min(gradient, axis=1, keepdims=True)))
