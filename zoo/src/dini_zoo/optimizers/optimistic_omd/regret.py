"""How well a learner has done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float


def regret(loss: Callable[[Any, Any], Array], items: Any, points: Any, comparator: Any) -> Float[Array, " T"]:
    r"""The regret after each round, :math:`\sum_{s \le t} f_s(x_s) - f_s(u_s)`.

    Parameters
    ----------
    loss
        Takes a point and an item to the loss of the round.
    items
        A tree of arrays with rounds along their first axes.
    points
        What was played, likewise.
    comparator
        One point, :math:`u`, or one for each round, :math:`u_s`.

    Raises
    ------
    ValueError
        Where the comparator is neither.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(regret(lambda x, a: (x - a) ** 2, jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0]), 1.0))
    [1. 4.]
    """
    given, needed = (jax.tree.map(jnp.shape, tree) for tree in (comparator, points))
    fixed = given == jax.tree.map(lambda leaf: jnp.shape(leaf)[1:], points)
    if not fixed and given != needed:
        raise ValueError(f"The comparator must be a point, or have a point for each round, {needed}: given {given}.")
    theirs = jax.vmap(loss, (None if fixed else 0, 0))(comparator, items)
    return jnp.cumsum(jax.vmap(loss)(points, items) - theirs)


def path_length(points: Any) -> Float[Array, ""]:
    r"""How far a sequence of points goes, :math:`\sum_{t \ge 2} \|u_t - u_{t-1}\|`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(path_length(jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])))
    6.0
    """
    moves = jax.tree.map(lambda leaf: jnp.diff(leaf, axis=0), points)
    return jnp.sum(jax.vmap(optax.tree.norm)(moves))


def convex_bound(D: float, G: float, L: float, noise: Any, drift: Any) -> Any:
    r"""What the paper proves for smooth convex losses and `adaptive_variation`.

    .. math:: E \, \mathrm{Reg} \le 5 \sqrt{10} D^2 L + \tfrac{5 \sqrt 5}{2} D G
              + 5 \sqrt2 D \sqrt{\sigma_{1:T}^2} + 5 D \sqrt{\Sigma_{1:T}^2}

    Parameters
    ----------
    D, G, L
        The set's diameter, the bound on gradients, the smoothness.
    noise
        :math:`\sigma_{1:T}^2`, the variance of the gradients summed over rounds.
    drift
        :math:`\Sigma_{1:T}^2`, the squared changes of the mean gradient summed over rounds, the first from zero.
    """
    start = 5 * np.sqrt(10) * D**2 * L + 2.5 * np.sqrt(5) * D * G
    return start + 5 * np.sqrt(2) * D * np.sqrt(noise) + 5 * D * np.sqrt(drift)
