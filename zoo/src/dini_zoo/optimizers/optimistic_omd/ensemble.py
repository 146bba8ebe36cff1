r"""Two layers, for comparators that move: learners of many step sizes, and one that weighs them.

Base learners :math:`i` take optimistic gradient steps of constant size :math:`\eta_i`, all with the gradient
:math:`g_t = \nabla f_t(x_t)` of the combined point :math:`x_t = \sum_i p_{t,i} x_{t,i}`. The weights are an optimistic
Hedge whose losses also punish what moves:

.. math::
    \ell_{t,i} &= \langle g_t, x_{t,i} \rangle + 2 L \|x_{t,i} - x_{t-1,i}\|^2, \\
    p_{t,i} &\propto \exp\Big(-\varepsilon_{t-1} \big(\textstyle\sum_{s<t} \ell_{s,i} + \langle g_{t-1}, x_{t,i} \rangle
               + 2 L \|x_{t,i} - x_{t-1,i}\|^2\big)\Big) .

The regret against any sequence of points with a path of length :math:`P` is of the order of
:math:`P + \sqrt{1 + P} \, (\sigma + \Sigma)`, with the noise and the drift of all rounds. It need not know :math:`P`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least

from .geometry import Euclidean, inside
from .learner import Flags, Learner, check_set, checked, floating, kept, no_flags
from .steps import require_positive


class EnsembleState(NamedTuple):
    """Carried from round to round; what belongs to base learners has an axis for them in front."""

    centers: Any
    points: Any
    """Of the round to come."""
    before: Any
    """Of the last round."""
    last: Any
    losses: Float[Array, " N"]
    """Sums over the rounds."""
    variation: Array
    count: Array
    flags: Flags


def pool(D: float, G: float, L: float, horizon: int) -> Float[np.ndarray, " N"]:
    r"""The step sizes of the base learners: from :math:`D / (G \sqrt{8 T})`, each twice the last, up to :math:`1/(8L)`.

    Examples
    --------
    >>> pool(D=2.0, G=1.8, L=1.0, horizon=2000).round(4).tolist()
    [0.0088, 0.0176, 0.0351, 0.0703, 0.125]
    """
    require_positive(D=D, G=G, L=L)
    at_least("horizon", horizon, 1)
    count = max(1, int(np.ceil(0.5 * np.log2(G**2 * horizon / (8 * L**2 * D**2)))) + 1)
    return np.minimum(1 / (8 * L), np.sqrt(D**2 / (8 * G**2 * horizon)) * 2.0 ** np.arange(count))


def dynamic_ensemble(
    constraint: Any, *, D: float, G: float, L: float, horizon: int, etas: Any = None, uniform: Any = False
) -> Learner:
    r"""The two-layer learner.

    Parameters
    ----------
    constraint
        A bounded convex set of dini.
    D, G, L
        Its diameter, a bound on the norms of gradients, and how smooth the expected losses are.
    horizon
        :math:`T`, the number of rounds; the `pool` depends on it.
    etas
        Step sizes in place of the pool's.
    uniform
        Whether all base learners weigh the same: what the weights are worth shows beside it.

    Raises
    ------
    ValueError
        Where a setting is not positive.

    Examples
    --------
    >>> import dini, jax, jax.numpy as jnp
    >>> from dini_zoo.optimizers.optimistic_omd import follow
    >>> learner = dynamic_ensemble(dini.sets.L2Ball(1.0), D=2.0, G=2.0, L=1.0, horizon=200)
    >>> angle = jnp.linspace(0, 3, 200)
    >>> items = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    >>> points, _ = jax.jit(lambda items: follow(learner, lambda x, a: x - a, items, jnp.zeros(2)))(items)
    >>> print(jnp.linalg.norm(points[-1] - items[-1]).round(1))
    0.2
    """
    check_set(constraint)
    require_positive(D=D, G=G, L=L)
    at_least("horizon", horizon, 1)
    sizes = jnp.asarray(pool(D, G, L, horizon) if etas is None else etas)
    if sizes.ndim != 1 or not len(sizes):
        raise ValueError(f"etas must be a vector of step sizes: given shape {sizes.shape}.")
    require_positive(etas=sizes)
    count = len(sizes)
    correction, longest = 2 * L, 1 / (8 * D**2 * L)
    move = jax.vmap(lambda x, eta, g: Euclidean().step(x, g, eta, constraint), (0, 0, None))

    def init(x: Any) -> EnsembleState:
        start = inside(constraint, floating(x))
        copies = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), start)
        nothing = jax.tree.map(jnp.zeros_like, start)
        zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(start)))
        losses = jnp.zeros(count, zero.dtype)
        return EnsembleState(copies, copies, copies, nothing, losses, zero, jnp.zeros((), jnp.int32), no_flags())

    def judged(state: EnsembleState, g: Any) -> Float[Array, " N"]:
        """The losses of the base learners' points, for a gradient."""

        def one(x: Any, before: Any) -> Array:
            return optax.tree.vdot(g, x) + correction * optax.tree.norm(optax.tree.sub(x, before), squared=True)

        return jax.vmap(one)(state.points, state.before)

    def play(state: EnsembleState) -> Any:
        # nothing has varied in the first two rounds
        varied = state.variation > 0
        rate = jnp.sqrt(float(np.log(count)) / jnp.where(varied, D**2 * state.variation, 1))
        rate = jnp.where(varied, jnp.minimum(longest, rate), longest)
        scores = state.losses + judged(state, state.last)
        weights = jnp.where(uniform, 1 / count, jax.nn.softmax(-rate * scores))
        return jax.tree.map(lambda leaf: jnp.tensordot(weights.astype(leaf.dtype), leaf, 1), state.points)

    def update(state: EnsembleState, gradient: Any) -> EnsembleState:
        like = jax.tree.map(lambda leaf: leaf[0], state.centers)
        g, flags = checked(gradient, like, state.flags, G)
        change = optax.tree.norm(optax.tree.sub(g, state.last), squared=True)
        centers = move(state.centers, sizes, g)
        new = EnsembleState(
            centers,
            move(centers, sizes, g),
            state.points,
            g,
            state.losses + judged(state, g),
            state.variation + jnp.where(state.count > 0, change, 0),
            state.count + 1,
            flags,
        )
        return kept(new, state, gradient)

    return Learner(init, play, update)
