r"""The penalized discriminator of linear features as an inner problem, through which a policy is differentiated.

.. math:: w^\star(p) = \operatorname*{argmin}_w\; \mathbb{E}_p \log(1 + e^{w \cdot \phi(p)})
          + \mathbb{E}_e \log(1 + e^{-w \cdot \phi(e)})
          + \lambda\, \mathbb{E}_z \max\bigl(0, |J_\phi(z)^\top w| - k\bigr)^2

is convex: the norm of something linear, and a square that grows, are. Without the penalty there is no minimizer where
a plane divides policy from expert: gradient descent grows like the logarithm of its steps, and so does the slope of
the reward. With it there is one, and it is a differentiable function of the policy's points, of :math:`\lambda` and
of :math:`k`: a game of two players has a total derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini

from ...kit.checking import at_least, one_length, positive
from ..lipschitz import gradient_penalty
from .discriminator import Form, discriminator_loss, imitation_reward


def best_discriminator(
    policy_batch: Float[Array, "m d"],
    expert_batch: Float[Array, "n d"],
    lam: float | Array = 10.0,
    k: float | Array = 1.0,
    *,
    features: Callable[[Array], Array] | None = None,
    points: Float[Array, "l d"] | None = None,
    **options: Any,
) -> dini.Solution:
    r"""The best discriminator of linear features under a penalty on its slope.

    Parameters
    ----------
    policy_batch, expert_batch
        :math:`p` and :math:`e`.
    lam, k
        :math:`\lambda` and :math:`k`, both positive: without a penalty there may be no minimizer, and at :math:`k = 0`
        the penalty has a kink where all weights are zero.
    features
        :math:`\phi` of one example, a vector; the example itself if it is not given.
    points
        :math:`z`, where the slope is penalized; the policy's and the expert's points if they are not given.
    options
        Of `dini.minimize`, such as `solver` and `differentiation`.

    Returns
    -------
    dini.Solution
        With :math:`w^\star` as `x`. Its derivatives are implicit, with respect to all that is given.

    Raises
    ------
    ValueError
        For empty batches, examples of different lengths, and numbers that are not positive.

    Examples
    --------
    >>> p, e = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
    >>> with jax.enable_x64(True):
    ...     print(best_discriminator(p, e).x.round(4))
    [-0.7234  0.7234]
    """
    positive("lam", lam)
    positive("k", k)
    shapes = (np.shape(policy_batch), np.shape(expert_batch))
    for name, batch in (("policy_batch", policy_batch), ("expert_batch", expert_batch)):
        at_least(f"the number of examples of {name}", one_length(name, batch), 1)
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f"policy_batch and expert_batch must be matrices with as many columns: given the shapes {shapes[0]} and "
            f"{shapes[1]}."
        )
    phi = (lambda z: z) if features is None else features
    score = lambda w, z: w @ phi(z)
    points = jnp.concatenate([policy_batch, expert_batch]) if points is None else points

    def loss(w: Array, p: Array, e: Array, z: Array, lam: Array, k: Array) -> Array:
        plain = discriminator_loss(score, w, jax.random.key(0), p, e, entropy=0.0, label_smoothing=None, penalty=None)
        return plain + lam * gradient_penalty(score, w, z, target=k)

    like = jax.eval_shape(phi, jax.ShapeDtypeStruct(shapes[0][1:], jnp.result_type(policy_batch, expert_batch)))
    start = jnp.zeros(like.shape, like.dtype)
    return dini.minimize(loss, start, policy_batch, expert_batch, points, lam, k, **options)


def reward_of_the_best(
    policy_batch: Float[Array, "m d"],
    expert_batch: Float[Array, "n d"],
    lam: float | Array = 10.0,
    k: float | Array = 1.0,
    *,
    form: Form = "minimax",
    features: Callable[[Array], Array] | None = None,
    **options: Any,
) -> Float[Array, ""]:
    r"""The mean reward of a policy's points from the discriminator that is best against them.

    .. math:: J(p) = \mathbb{E}_p\, r\bigl(w^\star(p) \cdot \phi(p)\bigr), \qquad
              \frac{dJ}{dp} = \frac{\partial J}{\partial p}
                            + \frac{\partial J}{\partial w} \frac{dw^\star}{dp}.

    Imitation learning follows the first term alone. Arguments and errors are those of `best_discriminator`.
    """
    w = best_discriminator(policy_batch, expert_batch, lam, k, features=features, **options).x
    phi = (lambda z: z) if features is None else features
    return jnp.mean(imitation_reward(jax.vmap(phi)(policy_batch) @ w, form))
