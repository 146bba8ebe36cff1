r"""Gradients and curvatures of means over a law that depends on the parameters.

Of :math:`J(\theta) = \mathbb{E}_{z \sim p_\theta}\, \ell(z, \theta)`, with the score
:math:`S = \nabla_\theta \log p_\theta(z)`,

.. math:: \nabla J = \mathbb{E}\,[g], \quad g = \nabla_\theta \ell + \ell\, S, \qquad
          \nabla^2 J\, u = \mathbb{E}\,[B u], \quad B u = (\nabla_\theta g)\, u + g\, \langle S, u \rangle .

The second term of :math:`B u` says how the law of the sample moves; a derivative of :math:`g` alone leaves it out. The
sample may be a trajectory, the noise of a simulator, or the draw of a stochastic bilevel problem, in which
:math:`\ell` is an outer objective at an argmin that dini finds and differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dini_zoo.kit.checking import trainable


def score_gradient(
    value_and_grad: Callable[[Any], tuple[Any, Any]], log_density: Callable[[Any], Any], params: Any, offset: Any = 0.0
) -> Any:
    r"""The gradient estimate :math:`g = \nabla_\theta \ell + (\ell - b)\, S` of one sample.

    It can itself be differentiated by the parameters, as :func:`score_hvp` does: the factor :math:`\ell` of the score
    is not held fixed.

    Parameters
    ----------
    value_and_grad
        :math:`\ell(z, \theta)` and :math:`\nabla_\theta \ell(z, \theta)` of the sample as a function of
        :math:`\theta`: what `jax.value_and_grad` makes, or value and gradient of
        `dini.bilevel.value_and_hypergradient`.
    log_density
        :math:`\log p_\theta(z)` as a function of :math:`\theta`, up to a constant, with the sample held fixed.
    params
        :math:`\theta`, a tree of arrays, at which the sample was drawn.
    offset
        :math:`b`, a number that does not depend on the sample: it takes variance away, and adds no bias.

    Returns
    -------
    A tree like `params`.

    Raises
    ------
    TypeError
        Where `params` holds anything but floats.

    Examples
    --------
    For a normal sample with the mean :math:`\theta` and :math:`\ell = z^2`:

    >>> z = 2.0
    >>> print(score_gradient(jax.value_and_grad(lambda t: z**2 + 0 * t), lambda t: -0.5 * (z - t) ** 2, 0.5))
    6.0
    """
    trainable("params", params)
    value, slope = value_and_grad(params)
    score = jax.grad(log_density)(params)
    return jax.tree.map(lambda d, s: d + ((value - offset) * s).astype(d.dtype), slope, score)


def score_hvp(gradient: Callable[[Any], Any], log_density: Callable[[Any], Any], params: Any, tangent: Any) -> Any:
    r"""The estimate :math:`B u = (\nabla_\theta g)\, u + g\, \langle S, u \rangle` of one sample.

    It is one of the Hessian of :math:`J` times :math:`u`. One derivative of `gradient` along :math:`u`, and one inner
    product: no matrix is formed. Both factors of the second term belong to the same sample, so means over samples are
    taken of what this returns, never of the factors.

    Parameters
    ----------
    gradient
        :math:`g(z, \cdot)` of the sample, a tree like `params`: an estimate of :math:`\nabla J` without bias.
    log_density
        :math:`\log p_\theta(z)` as a function of :math:`\theta`, with the sample held fixed.
    params
        :math:`\theta`, at which the sample was drawn.
    tangent
        :math:`u`, a tree like `params`.

    Returns
    -------
    A tree like `params`.

    Raises
    ------
    TypeError
        Where `params` holds anything but floats.
    ValueError
        Where `tangent` is no tree like `params`.

    Examples
    --------
    For a normal sample with the mean :math:`\theta` and :math:`g = z^2 (z - \theta)`:

    >>> z = 2.0
    >>> print(score_hvp(lambda t: z**2 * (z - t), lambda t: -0.5 * (z - t) ** 2, 0.5, 1.0))
    5.0
    """
    trainable("params", params)
    require_like("tangent", tangent, "params", params)
    params = jax.tree.map(jnp.asarray, params)
    tangent = jax.tree.map(lambda u, p: jnp.asarray(u, p.dtype), tangent, params)
    (g, _), (moved, along) = jax.jvp(lambda theta: (gradient(theta), log_density(theta)), (params,), (tangent,))
    return jax.tree.map(lambda d, own: d + (own * along).astype(d.dtype), moved, g)


def require_like(name: str, tree: Any, other: str, like: Any) -> None:
    """Raise `ValueError` unless two trees have the same structure and shapes."""
    shapes = lambda tree: [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if jax.tree.structure(tree) != jax.tree.structure(like) or shapes(tree) != shapes(like):
        raise ValueError(
            f"{name} must be a tree like {other}: given {jax.tree.structure(tree)} of shapes {shapes(tree)}, needed "
            f"{jax.tree.structure(like)} of shapes {shapes(like)}."
        )
