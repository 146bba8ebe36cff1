r"""Steps of one length along a momentum.

.. math:: m_{k+1} = \beta m_k + (1 - \beta) h_k, \qquad x_{k+1} = x_k - \eta_k \frac{m_{k+1}}{\|m_{k+1}\|} .

Averages are normalized, not gradients: where noise dominates, :math:`E[h / \|h\|]` is not parallel to :math:`E[h]`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import holds, positive

Tree = Any


def length(tree: Tree) -> Float[Array, ""]:
    """The Euclidean norm of a whole tree, of numbers of any size: the largest is divided out first."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves]))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return scale * jnp.sqrt(jnp.sum(jnp.stack([jnp.sum(jnp.square(leaf / scale)) for leaf in leaves])))


def normalize() -> optax.GradientTransformation:
    """Divide the updates by the norm of all of them; zero stays zero."""

    def update(updates: Tree, state: Any, params: Tree | None = None) -> tuple[Tree, Any]:
        norm = length(updates)
        # in two steps: the reciprocal of a tiny norm is infinite
        return jax.tree.map(lambda leaf: leaf / jnp.where(norm > 0, norm, 1).astype(leaf.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def normalized_momentum(eta: optax.ScalarOrSchedule, beta: float = 0.9) -> optax.GradientTransformation:
    r"""Steps of length :math:`\eta` along an average of gradients, from zero and without correction of its bias.

    Parameters
    ----------
    eta
        The length of a step, of the whole tree; or an optax schedule of it.
    beta
        :math:`\beta`, from 0 to less than 1.

    Raises
    ------
    ValueError
        For a length that is not positive, and :math:`\beta` out of range.

    Examples
    --------
    >>> step = normalized_momentum(0.5)
    >>> x = {"a": jnp.array([3e9, 0.0]), "b": jnp.array(-4e9)}
    >>> updates, _ = step.update(x, step.init(x))
    >>> print(updates["a"].round(3), updates["b"].round(3))
    [-0.3 -0. ] 0.4
    """
    if not callable(eta):
        positive("eta", eta)
    holds(
        beta,
        lambda beta: (beta >= 0) & (beta < 1),
        lambda: f"beta must be from 0 to less than 1: given {beta}.",
    )
    return optax.chain(optax.ema(beta, debias=False), normalize(), optax.scale_by_learning_rate(eta))
