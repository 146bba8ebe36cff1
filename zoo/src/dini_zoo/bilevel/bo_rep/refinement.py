r"""The start of the inner variable, refined once: SGD in stages, each in a smaller ball and with smaller steps.

Stage :math:`s` takes :math:`T_s = 2^s T_0` steps :math:`\gamma_s = 2^{-s} \gamma_0` in the ball of radius
:math:`D_s = 2^{-s/2} D_0` around its start, and the next one starts from the average of its points.

References
----------
E. Hazan, S. Kale, "Beyond the regret minimization barrier: optimal algorithms for stochastic strongly-convex
optimization", JMLR 2014. S. Ghadimi, G. Lan, "Optimal stochastic approximation algorithms for strongly convex
stochastic composite optimization, II", SIAM J. Optim. 2013.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from dini_zoo.kit.checking import at_least, floats, holds, positive, same_tree

from .momentum import length

Tree = Any


def within(tree: Tree, center: Tree, radius: Any) -> tuple[Tree, Bool[Array, ""]]:
    """The nearest tree in a ball, and whether the given one was outside."""
    away = jax.tree.map(jnp.subtract, tree, center)
    distance = length(away)
    # NaN is not inside
    outside = ~(distance <= radius)
    share = jnp.where(outside, radius / jnp.where(outside, distance, 1), 1)
    # what is inside stays as it is, to the last bit
    back = lambda leaf, c, a: jnp.where(outside, c + share.astype(leaf.dtype) * a, leaf)
    return jax.tree.map(back, tree, center, away), outside


def project_to_ball(tree: Tree, center: Tree, radius: Any) -> Tree:
    r"""The Euclidean projection :math:`c + (v - c) \min(1, R / \|v - c\|)` of a whole tree.

    Parameters
    ----------
    tree, center
        Trees of arrays of the same shapes.
    radius
        :math:`R`, positive; it may be infinite.

    Examples
    --------
    >>> print(project_to_ball(jnp.array([3.0, 4.0]), jnp.zeros(2), 1.0))
    [0.6 0.8]
    """
    check_radius("radius", radius)
    same_tree("tree", tree, "center", center)
    return within(floats(tree), center, radius)[0]


def check_radius(name: str, radius: Any) -> None:
    """Raise `ValueError` unless a radius that is known is positive; it may be infinite."""
    holds(radius, lambda radius: radius > 0, lambda: f"{name} must be positive, or infinite: given {radius}.")


def epoch_sgd(
    gradient: Callable[[Tree, Array], Tree],
    y: Tree,
    key: Array,
    *,
    step: Any,
    steps: int,
    stages: int,
    radius: Any = jnp.inf,
) -> Tree:
    """Minimize a strongly convex function from stochastic gradients, in stages.

    Parameters
    ----------
    gradient
        `gradient(y, key)`: an unbiased estimate.
    y
        Where the first stage starts.
    key
        Each gradient is given one of its own.
    step, steps, radius
        Those of the first stage. With an infinite radius nothing is projected.
    stages
        About the logarithm, to base two, of the factor by which the squared error is to fall.

    Returns
    -------
    Tree
        The average of the last stage.

    Raises
    ------
    ValueError
        For less than one step or stage, and for a step or radius that is not positive.

    Examples
    --------
    >>> noisy = lambda y, key: y - 3 + jax.random.normal(key)
    >>> found = epoch_sgd(noisy, jnp.array(0.0), jax.random.key(0), step=0.2, steps=10, stages=8)
    >>> bool(abs(found - 3) < 0.1)
    True
    """
    at_least("steps", steps, 1)
    at_least("stages", stages, 1)
    positive("step", step)
    check_radius("radius", radius)
    stage = np.repeat(np.arange(stages), steps * 2 ** np.arange(stages))
    place = np.concatenate([np.arange(1, steps * 2**s + 1) for s in range(stages)])
    last = np.append(np.diff(stage) > 0, True)

    def one(carried: Any, given: Any) -> Any:
        center, v, mean = carried
        s, t, ends, key = given
        slope = gradient(v, key)
        v = jax.tree.map(lambda v, d: v - (step * 0.5**s).astype(v.dtype) * d, v, slope)
        v = within(v, center, radius * 0.5 ** (s / 2))[0]
        mean = jax.tree.map(lambda m, v: m + (v - m) / t.astype(v.dtype), mean, v)
        begun = lambda new, old: jax.tree.map(lambda new, old: jnp.where(ends, new, old), new, old)
        return (begun(mean, center), begun(mean, v), mean), None

    y = jax.tree.map(jnp.asarray, y)
    kind = jnp.result_type(*jax.tree.leaves(y))
    steps_and_keys = (jnp.asarray(stage, kind), jnp.asarray(place, kind), last, jax.random.split(key, len(stage)))
    (_, _, mean), _ = jax.lax.scan(one, (y, y, y), steps_and_keys)
    return mean
