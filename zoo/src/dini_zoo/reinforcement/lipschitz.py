r"""How steep a function is: penalties on the norms of its gradients, local Lipschitz constants, bounds on a value's.

For a score :math:`D` and points :math:`z_i`, with :math:`n_i = |\nabla D(z_i)|_2`, the penalties are

.. math:: \frac1m \sum_i (n_i - k)^2 \quad\text{(two-sided)}, \qquad
          \frac1m \sum_i \max(0, n_i - k)^2 \quad\text{(one-sided)}.

Points are trees of arrays with an axis of examples in front, such as a pair of states and actions; the norm is that of
all of an example's entries together. None of it knows of rewards: critics of generative models, Lyapunov functions and
contractive layers are penalized alike.

References
----------
I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville, "Improved training of Wasserstein GANs", NeurIPS 2017.
N. Kodali, J. Abernethy, J. Hays, Z. Kira, "On convergence and stability of GANs", 2017 (``"dragan"``). L. Blondé,
P. Strasser, A. Kalousis, "Lipschitzness is all you need to tame off-policy generative adversarial imitation learning",
Machine Learning 111, 2022 (``"nagard"``, and the bounds).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from ..kit.checking import at_least, known, not_negative, one_length, one_of, positive

Tree = Any
Kind = Literal["wgan", "dragan", "nagard"]
#: Where gradients are penalized: between policy and expert, around the expert, around the policy.
KINDS = ("wgan", "dragan", "nagard")

#: Products with a Jacobian and its transpose that a spectral norm takes at most: exact up to half as many unknowns.
PRODUCTS = 40


def euclidean(tree: Tree) -> Float[Array, ""]:
    """The norm of all entries of a tree, in any units: no square overflows or vanishes. Its slope at zero is zero."""
    leaves = jax.tree.leaves(tree)
    largest = jax.lax.stop_gradient(jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0.0) for leaf in leaves])))
    scale = jnp.where(largest > 0, largest, 1.0)
    square = sum(jnp.sum((leaf / scale) ** 2) for leaf in leaves)
    # the root's slope at zero is infinite, and times a slope of zero it would be NaN
    none = square == 0
    return scale * jnp.where(none, jnp.zeros_like(square), jnp.sqrt(jnp.where(none, 1.0, square)))


def gradient_norms(fn: Callable[[Tree], Array], points: Tree) -> Float[Array, " m"]:
    """The norm of a function's gradient at each point, for a function of one example that returns one number.

    Raises `ValueError` where the points' arrays differ in length or there is none, and where the function returns
    something else than one number.
    """
    at_least("the number of points", one_length("points", points), 1)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf)[1:], jnp.asarray(leaf).dtype), points)
    found = jax.eval_shape(fn, one)
    if getattr(found, "shape", None) != ():
        raise ValueError(
            f"A function whose gradient is taken must return one number for one example: given {found}. "
            "It is called for each example alone, without an axis of examples."
        )
    return jax.vmap(lambda point: euclidean(jax.grad(fn)(point)))(points)


def gradient_penalty(
    score_fn: Callable[[Any, Tree], Array],
    params: Any,
    points: Tree,
    *,
    target: float | Array = 1.0,
    one_sided: bool = True,
) -> Float[Array, ""]:
    r"""The mean square by which a score's slope is above a target, or off it.

    Parameters
    ----------
    score_fn
        `score_fn(params, point)`: the score :math:`D` of one example, a number. Of an Equinox module `D` it is
        `lambda D, z: D(z)`.
    params
        What the penalty is differentiated by: through the inner gradient, too.
    points
        The :math:`m` points :math:`z_i`, a tree of arrays with an axis of examples in front.
    target
        :math:`k`, zero or more.
    one_sided
        Whether slopes below the target are left alone.

    Returns
    -------
    Array
        The penalty. Its derivative where a gradient is exactly zero is that of least norm, zero.

    Raises
    ------
    ValueError
        For a negative target, no points, and a score that is not one number.

    Examples
    --------
    >>> linear = lambda w, z: w @ z
    >>> w = jnp.array([3.0, 4.0])
    >>> float(gradient_penalty(linear, w, jnp.zeros((7, 2)), target=2.0))
    9.0
    """
    not_negative("target", target)
    excess = gradient_norms(partial(score_fn, params), points) - target
    return jnp.mean((jnp.maximum(excess, 0.0) if one_sided else excess) ** 2)


def interpolate_points(
    key: Array,
    policy_batch: Tree,
    expert_batch: Tree,
    kind: Kind = "wgan",
    shared: bool = True,
    std: float = 10.0,
) -> Tree:
    r"""Points at which a discriminator's gradient is penalized.

    ========== ==========================================
    ``wgan``   :math:`u p + (1 - u) e`, :math:`u \sim U(0, 1)`
    ``dragan`` :math:`e + N(0, \sigma^2 I)`
    ``nagard`` :math:`p + N(0, \sigma^2 I)`
    ========== ==========================================

    Parameters
    ----------
    key
        Of the points.
    policy_batch, expert_batch
        :math:`p` and :math:`e`: trees of one structure and of the same shapes, with an axis of examples in front.
    kind
        A row of the table.
    shared
        Whether one :math:`u` an example serves all arrays of the tree, so that points lie on the lines between the
        two; else each array has its own, as published code has it for states and actions.
    std
        :math:`\sigma`. The default is published code's: with data of order one a cloud far wider than they are.

    Raises
    ------
    ValueError
        For an unknown kind, batches of different structure or shapes, no examples, and a `std` that is not positive.
    """
    one_of("kind", kind, KINDS)
    positive("std", std)
    shapes = [jax.tree.map(np.shape, batch) for batch in (policy_batch, expert_batch)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"policy_batch and expert_batch must have the same arrays: given {shapes[0]} and {shapes[1]}.")
    count = one_length("expert_batch", expert_batch)
    at_least("the number of examples", count, 1)
    leaves, structure = jax.tree.flatten(policy_batch)
    if kind == "wgan":
        # numbers of several precisions may be drawn otherwise in each: one draw for all
        draw = lambda key: jax.random.uniform(key, (count,), jnp.result_type(*leaves))
        drawn = [draw(key)] * len(leaves) if shared else map(draw, jax.random.split(key, len(leaves)))
        along = [
            u.astype(jnp.result_type(leaf)).reshape((count,) + (1,) * (np.ndim(leaf) - 1))
            for u, leaf in zip(drawn, leaves, strict=True)
        ]
        mix = lambda u, p, e: u * p + (1 - u) * e
        return jax.tree.map(mix, jax.tree.unflatten(structure, along), policy_batch, expert_batch)
    center = expert_batch if kind == "dragan" else policy_batch
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))
    noisy = lambda key, leaf: leaf + std * jax.random.normal(key, np.shape(leaf), jnp.result_type(leaf))
    return jax.tree.map(noisy, keys, center)


def spectral_norm(fn: Callable[[Tree], Tree], point: Tree) -> Float[Array, ""]:
    r"""The spectral norm of a function's Jacobian :math:`J` at a point, without the matrix.

    It is the largest eigenvalue of the map :math:`(u, v) \mapsto (J v, J^\top u)`, by `dini.linear.ritz_values`: from
    below, and exact where inputs and outputs have together at most 40 entries.
    """
    out, push = jax.linearize(fn, point)
    pull = jax.linear_transpose(push, point)
    leaves, structure = jax.tree.flatten((out, point))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    drawn = [
        jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, map(jnp.asarray, leaves), strict=True)
    ]
    product = lambda pair: (push(pair[1]), pull(pair[0])[0])
    # squares of entries in other units would overflow or vanish
    scale = euclidean(product(jax.tree.unflatten(structure, drawn)))
    scale = jnp.where(scale > 0, scale, 1.0)
    scaled = lambda pair: jax.tree.map(lambda leaf: leaf / scale, product(pair))
    size = sum(np.size(leaf) for leaf in leaves)
    return scale * dini.linear.ritz_values(scaled, (out, point), min(size, PRODUCTS))[-1]


def local_lipschitz(fn: Callable[[Tree], Tree], points: Tree) -> Float[Array, ""]:
    r"""The largest slope of a function over some points: :math:`\max_i |J(z_i)|_2`.

    Parameters
    ----------
    fn
        A function of one example. Where it returns one number, its slope is the norm of its gradient; else it is the
        spectral norm of its Jacobian.
    points
        A tree of arrays with an axis of examples in front.

    Raises
    ------
    ValueError
        For points whose arrays differ in length, and no points.

    Examples
    --------
    >>> z = jnp.array([[1.0, 0.0], [0.0, -3.0]])
    >>> float(local_lipschitz(lambda z: z @ z / 2, z))
    3.0
    """
    at_least("the number of points", one_length("points", points), 1)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf)[1:], jnp.asarray(leaf).dtype), points)
    if getattr(jax.eval_shape(fn, one), "shape", None) == ():
        return jnp.max(gradient_norms(fn, points))
    return jnp.max(jax.vmap(partial(spectral_norm, fn))(points))


def _checked(delta: Any, A: Any, B: Any, gamma: Any, horizon: int | None) -> None:
    for name, value in (("delta", delta), ("A", A), ("B", B)):
        not_negative(name, value)
    if known(gamma) and not (np.all(np.asarray(gamma) >= 0) and np.all(np.asarray(gamma) <= 1)):
        raise ValueError(f"gamma must be from 0 to 1: given {gamma}.")
    if horizon is not None:
        at_least("horizon", horizon, 1)


def _geometric(ratio: Any, horizon: int | None) -> Array:
    """The sum of so many powers of a ratio, from the zeroth; infinite where all of them have no sum."""
    ratio = jnp.asarray(ratio, float)
    if horizon is not None:
        return jnp.polyval(jnp.ones(horizon, ratio.dtype), ratio)
    converges = ratio < 1
    return jnp.where(converges, 1 / (1 - jnp.where(converges, ratio, 0.0)), jnp.inf)


def lipschitz_bound(
    delta: float | Array, A: float | Array, B: float | Array, gamma: float | Array, horizon: int | None = None
) -> Float[Array, ""]:
    r"""An upper bound on the slope of an action value, from those of reward, dynamics and policy.

    With deterministic dynamics :math:`|J_f| \le A`, a policy :math:`|J_\mu| \le B` and a reward
    :math:`|\nabla r| \le \delta`, the Bellman equation :math:`Q(s, a) = r(s, a) + \gamma Q(s', \mu(s'))` and the
    triangle inequality give

    .. math:: |\nabla_{s,a} Q| \le \delta \sum_{t < n} q^t \le \frac{\delta}{1 - q},
              \qquad q = \gamma A \sqrt{1 + B^2}.

    Parameters
    ----------
    delta, A, B
        Zero or more; spectral norms of the Jacobians, or anything larger, such as Frobenius norms.
    gamma
        The discount, from 0 to 1.
    horizon
        :math:`n`, the number of rewards; infinitely many if it is not given.

    Returns
    -------
    Array
        The bound; infinite, which bounds nothing, where :math:`q \ge 1` and the horizon is infinite.

    Raises
    ------
    ValueError
        For numbers outside of these ranges.
    """
    _checked(delta, A, B, gamma, horizon)
    return jnp.asarray(delta) * _geometric(gamma * A * jnp.sqrt(1 + jnp.asarray(B, float) ** 2), horizon)


def lipschitz_bound_sqrt(
    delta: float | Array, A: float | Array, B: float | Array, gamma: float | Array, horizon: int | None = None
) -> Float[Array, ""]:
    r"""The constant as it is published, which is a heuristic and no bound.

    .. math:: \delta \sqrt{\sum_{t < n} (\gamma^2 C)^t} \le \frac{\delta}{\sqrt{1 - \gamma^2 C}},
              \qquad C = A^2 \max(1, B^2).

    Slopes of successive rewards are added here as if they were orthogonal, which they are not: where the state stays
    as it is and the reward is :math:`\delta s`, the true slope is :math:`\delta / (1 - \gamma)`, 10 :math:`\delta` at
    :math:`\gamma = 0.9`, and this is 2.29 :math:`\delta`. `lipschitz_bound` holds; arguments and errors are its own.
    """
    _checked(delta, A, B, gamma, horizon)
    ratio = jnp.asarray(gamma) ** 2 * jnp.asarray(A) ** 2 * jnp.maximum(1.0, jnp.asarray(B) ** 2)
    return jnp.asarray(delta) * jnp.sqrt(_geometric(ratio, horizon))
