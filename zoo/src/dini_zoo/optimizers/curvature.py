"""Second derivatives of losses as operators on trees: the Hessian, and its Gauss-Newton part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array

from ..kit.checking import trainable

Tree = Any


def hessian_operator(loss: Callable[..., Array], params: Tree, *arguments: Any) -> Callable[[Tree], Tree]:
    r"""The linear function :math:`v \mapsto \nabla^2_w \ell(w, \ldots) \, v`.

    The loss is linearized once, for all products.

    Parameters
    ----------
    loss
        `loss(params, *arguments)`: a number, with second derivatives. A network with kinks, such as ReLU, has them
        almost everywhere.
    params
        Where: a tree of arrays of floats. Raises `TypeError` if it holds anything else, as an Equinox module may.
    arguments
        Such as a batch.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> product = hessian_operator(lambda w, a: a * w[0] ** 2 * w[1], jnp.array([1.0, 2.0]), 3.0)
    >>> print(product(jnp.array([1.0, 0.0])))
    [12.  6.]
    """
    trainable("params", params)
    _, product = jax.linearize(jax.grad(lambda params: loss(params, *arguments)), params)
    return product


def gauss_newton_operator(
    outputs: Callable[..., Tree], loss: Callable[[Tree], Array], params: Tree, *arguments: Any
) -> Callable[[Tree], Tree]:
    r"""The linear function :math:`v \mapsto J^\top \nabla^2 \ell(z) J v` of a loss of scores.

    The scores are :math:`z = f(w, \ldots)`, and :math:`J = \partial_w f`. This part of the Hessian leaves out the
    curvature of the network itself, and is positive semidefinite where the loss is convex.

    Parameters
    ----------
    outputs
        `outputs(params, *arguments)`: a network's scores, a tree of arrays.
    loss
        `loss(scores)`: a number.
    params
        As in :func:`hessian_operator`.
    arguments
        Such as a batch.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> product = gauss_newton_operator(lambda w: w[0] * w[1], lambda z: 0.5 * z**2, jnp.array([1.0, 2.0]))
    >>> print(product(jnp.array([1.0, 0.0])))
    [4. 2.]
    """
    trainable("params", params)
    scores, forward = jax.linearize(lambda params: outputs(params, *arguments), params)
    backward = jax.linear_transpose(forward, params)
    curvature = hessian_operator(loss, scores)

    def product(v: Tree) -> Tree:
        (found,) = backward(curvature(forward(v)))
        return found

    return product
