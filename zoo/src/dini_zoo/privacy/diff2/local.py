r"""Rounds with many local steps: one client goes on alone from the server's estimate, by differences of its batches.

In a round one client :math:`p` starts at :math:`y_0 = x_{r-1}` with :math:`w_1 = v_r` and takes :math:`K` steps,

.. math::

    y_k = y_{k-1} - \eta\,\bigl(w_k + \nabla h(y_{k-1})\bigr), \qquad
    w_k = w_{k-1} + \frac1b \sum_{z \in I_k} \operatorname{clip}\bigl(g(y_{k-1}, z) - g(y_{k-2}, z), C_{3,k}\bigr)
        + N\bigl(0, (C_{3,k} s_3)^2 I\bigr),

with :math:`C_{3,k} = C_3 \|y_{k-1} - y_{k-2}\|` and batches :math:`I_k` of :math:`b` of its records without
replacement. Its :math:`y_K` is :math:`x_r`. Other clients' records enter by :math:`v_r` alone: what this misses is
proportional to how much the clients' *Hessians* differ, not their gradients.

References
----------
Murata and Suzuki, "Bias-variance reduced local SGD for less heterogeneous federated learning", ICML 2021
(arXiv 2102.03198); "DIFF2", ICML 2023 (arXiv 2302.03884), for the private one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from dini_zoo.kit.checking import Right, above_zero, at_least, known, marked, not_negative, positive, within

from ..ledger import Ledger
from .budget import LocalNoise, local_spent
from .clipping import Clients, Vectors, tree_norm, weighted_sum
from .estimator import Diff2Estimator, EstimatorState, noisy
from .loops import Descent, Public, add, descend, nothing


def draw_batch(key: Array, clients: Clients, client: Any, batch: int) -> Int[Array, " b"]:
    """Indices of `batch` records of one client, each set of so many with the same probability."""
    within("client", client, len(clients.sizes))
    at_least("batch", batch, 1)
    if batch > clients.smallest:
        raise ValueError(f"batch must be at most {clients.smallest}, the smallest client's records: given {batch}.")
    most = max(clients.sizes)
    size, offset = jnp.asarray(clients.sizes)[client], jnp.asarray(clients.offsets)[client]
    # the order of independent uniform numbers is a uniform order; those of other clients' records come last
    score = jnp.where(jnp.arange(most) < size, jax.random.uniform(key, (most,)), -1.0)
    return offset + jax.lax.top_k(score, batch)[1]


def _check(clients: Clients, order: Any, learning_rate: Any, steps: int, batch: int) -> tuple[Right, Right]:
    at_least("steps", steps, 1)
    right = positive("learning_rate", learning_rate), within("order", order, len(clients.sizes))
    at_least("batch", batch, 1)
    if batch > clients.smallest:
        raise ValueError(f"batch must be at most {clients.smallest}, the smallest client's records: given {batch}.")
    return right


def diff2_local(
    estimator: Diff2Estimator,
    params: Any,
    clients: Clients,
    key: Array,
    *,
    order: Int[Array, " R"],
    learning_rate: Any,
    steps: int,
    batch: int,
    local_clip: Any,
    local_noise: Any = 0.0,
    public: Public = nothing,
    observe: Public | None = None,
) -> Descent:
    r"""DIFF2-BVR-L-SGD: each round one client takes many cheap steps by variance-reduced differences.

    Parameters
    ----------
    estimator
        Of `diff2_estimator`: it is updated once a round, with all clients.
    params
        :math:`x_0`, which must not depend on the data.
    clients
        The records.
    key
        Secret, the caller's, for nothing else: all noise and the batches, which must stay secret, are from it.
    order
        The client of each round, `(R,)`: of `round_robin` or `random_order`.
    learning_rate
        :math:`\eta`. Of the order of :math:`\min(1/L, 1/(\zeta K), \sqrt b/(K L))`, with the smoothness :math:`L` and
        the difference :math:`\zeta` of the clients' Hessians; the published constants are not known here.
    steps
        :math:`K`; with one step it is DIFF2-GD.
    batch
        :math:`b`, at most the smallest client's records.
    local_clip
        :math:`C_3`, as `difference_clip` of the estimator.
    local_noise
        :math:`s_3`, of `calibrate_local`.
    public, observe
        As in `diff2_gd`; the public gradient is added in each local step.

    Returns
    -------
    Descent
        `clipped` is of the server's estimate.

    Raises
    ------
    ValueError
        For a batch that is larger than the smallest client, a client that there is not, less than one step, a learning
        rate or a radius that is not positive.

    Examples
    --------
    >>> from dini_zoo.privacy.diff2 import diff2_estimator
    >>> clients = Clients.equal(jnp.arange(8.0), 2)
    >>> fun = lambda x, z: x - z
    >>> estimator = diff2_estimator(fun, gradient_clip=10.0, difference_clip=2.0, restart_every=2)
    >>> options = {"order": jnp.array([0, 1, 0]), "steps": 4, "batch": 2}
    >>> found = diff2_local(
    ...     estimator, 0.0, clients, jax.random.key(0), learning_rate=0.3, local_clip=2.0, local_noise=1.0, **options
    ... )
    >>> bool(abs(found.params - 3.5) < 1)
    True
    >>> local_ledger(estimator, found.state, clients, noise=1.0, **options).releases[-1]
    SampledRelease(name='local steps', multiplier=1.0, batch=2, population=4, count=6)
    """
    right = (
        *_check(clients, order, learning_rate, steps, batch),
        above_zero("local_clip", local_clip),
        not_negative("local_noise", local_noise),
    )
    if known(local_clip) and known(local_noise) and not np.isfinite(local_clip) and local_noise > 0:
        raise ValueError(f"local_clip must be finite where there is noise: given {local_clip}.")
    order = jnp.asarray(order)
    server, client_key, draw = jax.random.split(key, 3)
    step = lambda y, w: jax.tree.map(lambda a, b: a - learning_rate * b, y, add(w, public(y)))
    share = np.full(batch, 1 / batch)

    def one(loop: tuple[Any, EstimatorState], numbered: Any) -> Any:
        (start, state), (r, client) = loop, numbered
        estimate, state = estimator.update(state, start, clients, server)
        estimate = marked(estimate, *right)

        def local(inner: Any, k: Any) -> Any:
            y, before, w = inner
            mine, noise = jax.random.split(jax.random.fold_in(jax.random.fold_in(client_key, r), k))
            chosen = draw_batch(mine, clients, client, batch)
            length = tree_norm(jax.tree.map(jnp.subtract, y, before))
            radius = jnp.where(length == 0, 0.0, local_clip * length)
            difference = lambda z: jax.tree.map(jnp.subtract, estimator.fun(y, z), estimator.fun(before, z))
            records = jax.tree.map(lambda leaf: leaf[chosen], clients.data)
            change = weighted_sum(difference, records, share, radius, estimator.microbatch).mean
            change = noisy("local_noise", change, noise, radius, local_noise)
            w = jax.tree.map(lambda old, one: (old + one).astype(old.dtype), w, change)
            return (step(y, w), y, w), None

        first = (step(start, estimate), start, estimate)
        (last, _, _), _ = jax.lax.scan(local, first, jnp.arange(1, steps))
        return last, state, state.clipped

    params = jax.tree.map(jnp.asarray, params)
    numbered = (jnp.arange(len(order)), order)
    return descend(one, params, estimator.init(params), draw, len(order), observe, numbered)


def local_ledger(
    estimator: Diff2Estimator,
    state: EstimatorState,
    clients: Clients,
    *,
    order: Int[Array, " R"],
    steps: int,
    batch: int,
    noise: Any,
) -> Ledger:
    """What a run of `diff2_local` has released, for the client that worked most often; `noise` is its `local_noise`."""
    within("order", order, len(clients.sizes))
    visits = int(np.max(np.bincount(np.asarray(order))))
    rounds = int(state.rounds)
    if rounds != len(order):
        raise ValueError(f"order must be of the {rounds} rounds of the state: given {len(order)}.")
    return local_spent(
        LocalNoise(estimator.noise.restart, estimator.noise.difference, noise),
        rounds=rounds,
        restart_every=int(estimator.restart_every),
        sizes=clients.sizes,
        batch=batch,
        steps=steps,
        visits=visits,
    )


def local_sgd(
    fun: Vectors,
    params: Any,
    clients: Clients,
    key: Array,
    *,
    order: Int[Array, " R"],
    learning_rate: Any,
    steps: int,
    batch: int,
    public: Public = nothing,
    observe: Public | None = None,
) -> Descent:
    r"""Local SGD, a baseline without privacy: each round one client takes :math:`K` plain steps by its own batches.

    .. math:: y_k = y_{k-1} - \eta\,\Bigl(\frac1b \sum_{z \in I_k} g(y_{k-1}, z) + \nabla h(y_{k-1})\Bigr)

    Arguments as in `diff2_local`; what is raised, too. It stops at a distance that its batches' noise and the clients'
    differences keep.

    Examples
    --------
    >>> clients = Clients.equal(jnp.arange(8.0), 2)
    >>> options = {"order": jnp.array([0, 1, 0]), "learning_rate": 0.3, "steps": 4, "batch": 4}
    >>> found = local_sgd(lambda x, z: x - z, 0.0, clients, jax.random.key(0), **options)
    >>> print(f"{found.params:.3f}")
    2.209
    """
    right = _check(clients, order, learning_rate, steps, batch)
    order, learning_rate = jnp.asarray(order), marked(learning_rate, *right)
    client_key, draw = jax.random.split(key)

    def one(loop: Any, numbered: Any) -> Any:
        (start, none), (r, client) = loop, numbered

        def local(y: Any, k: Any) -> Any:
            chosen = draw_batch(jax.random.fold_in(jax.random.fold_in(client_key, r), k), clients, client, batch)
            records = jax.tree.map(lambda leaf: leaf[chosen], clients.data)
            mean = jax.tree.map(lambda leaf: jnp.mean(leaf, 0), jax.vmap(lambda z: fun(y, z))(records))
            return jax.tree.map(lambda a, b: a - learning_rate * b, y, add(mean, public(y))), None

        last, _ = jax.lax.scan(local, start, jnp.arange(steps))
        return last, none, jnp.zeros(())

    numbered = (jnp.arange(len(order)), order)
    return descend(one, params, None, draw, len(order), observe, numbered)
