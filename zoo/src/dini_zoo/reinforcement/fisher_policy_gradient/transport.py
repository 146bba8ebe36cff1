r"""Momentum that is carried along when the parameters move: one recursion behind IGT, HARPG and STORM.

.. math:: d_t = (1 - \eta_t)\,(d_{t-1} + v_t) + \eta_t\, g_t

The old mean :math:`d_{t-1}` belongs to :math:`\theta_{t-1}`. Methods differ in how they bring it to :math:`\theta_t`:

======================  =====================================================  =====================================
method                  :math:`g_t` is drawn at                                :math:`v_t`
======================  =====================================================  =====================================
momentum                :math:`\theta_t`                                       0
IGT                     :math:`\theta_t + \frac{1 - \eta_t}{\eta_t}            0
                        (\theta_t - \theta_{t-1})`
HARPG                   :math:`\theta_t`                                       :math:`B(\tau', \theta_q)
                                                                               (\theta_t - \theta_{t-1})`
STORM                   :math:`\theta_t`                                       :math:`g_t - w\, g(\tau, \theta_{t-1})`
======================  =====================================================  =====================================

with :math:`\theta_q` uniform on the segment from :math:`\theta_{t-1}` to :math:`\theta_t`, and importance weights
:math:`w`. The first estimate is :math:`d_0 = g_0`.

References
----------
Cutkosky and Mehta, "Momentum improves normalized SGD", ICML 2020 (arXiv 2002.03305).

Fatkhullin, Barakat, Kireeva and He, "Stochastic policy gradient methods: improved sample complexity for
Fisher-non-degenerate policies", ICML 2023 (arXiv 2302.01734).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from dini_zoo.kit.checking import known, trainable

from .score import require_like


class TransportState(NamedTuple):
    """The state of :func:`transported_momentum`."""

    count: Int[Array, ""]
    """`t`, the number of updates so far."""
    eta: Float[Array, ""]
    r""":math:`\eta_t` of the coming update; one in the first."""
    momentum: optax.Updates
    r""":math:`d_{t-1}`."""
    previous: optax.Params
    r""":math:`\theta_{t-1}`; before the first update the parameters themselves."""
    finite: Bool[Array, ""]
    """Whether all estimates so far were finite."""


def transported_momentum(eta: optax.ScalarOrSchedule, *, corrected: bool) -> optax.GradientTransformationExtraArgs:
    r"""The recursion :math:`d_t = (1 - \eta_t)(d_{t-1} + v_t) + \eta_t g_t` as a transformation of optax.

    It turns an estimate of the gradient into a better one and changes no sign: what follows in a chain makes a step
    of it. `update(g, state, params, transport=v)` must be given the parameters :math:`\theta_t`, also where the
    gradient was drawn at another point. It is linear, so nothing that is not finite is hidden: `state.finite` tells of
    it.

    Parameters
    ----------
    eta
        :math:`\eta_t` in (0, 1], a number or a schedule. In the first update it is one. Where a schedule leaves this
        interval, the estimate is NaN.
    corrected
        Whether updates are given :math:`v_t`.

    Returns
    -------
    optax.GradientTransformationExtraArgs
        With the state :class:`TransportState`.

    Raises
    ------
    ValueError
        Where `eta` is outside of (0, 1]; in updates, where the trees differ, parameters are missing, or `transport`
        is there and not expected or expected and not there.

    Examples
    --------
    >>> optimizer = optax.chain(transported_momentum(0.5, corrected=False), optax.scale(-0.1))
    >>> x = jnp.ones(2)
    >>> state = optimizer.init(x)
    >>> for _ in range(50):
    ...     updates, state = optimizer.update(2 * igt_lookahead(x, state), state, x)
    ...     x = optax.apply_updates(x, updates)
    >>> print(x.round(3))
    [0. 0.]
    """
    schedule = eta if callable(eta) else lambda count: eta
    for count in (1, 2, 10) if callable(eta) else (1,):
        value = schedule(count)
        if known(value) and not 0 < float(value) <= 1:
            at = f" at update {count}" if callable(eta) else ""
            raise ValueError(f"eta must be above 0 and at most 1: given {value}{at}.")

    def share(count: Any) -> Array:
        value = jnp.asarray(schedule(count), float)
        return jnp.where(count == 0, 1.0, jnp.where((value > 0) & (value <= 1), value, jnp.nan))

    def init(params: optax.Params) -> TransportState:
        trainable("params", params)
        # a copy: a program may be given the parameters' memory and the state's to write over
        previous = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), params)
        count = jnp.zeros((), jnp.int32)
        return TransportState(count, share(count), jax.tree.map(jnp.zeros_like, previous), previous, jnp.array(True))

    def update(
        updates: optax.Updates,
        state: TransportState,
        params: optax.Params | None = None,
        *,
        transport: optax.Updates | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, TransportState]:
        del extra
        if params is None:
            raise ValueError(
                "update must be given the parameters, as its third argument: how they move is what counts."
            )
        require_like("the gradient", updates, "the momentum", state.momentum)
        require_like("params", params, "the momentum", state.momentum)
        if corrected and transport is None:
            raise ValueError("update must be given `transport`, how the gradient changed since the last parameters.")
        if not corrected and transport is not None:
            raise ValueError("`transport` has no place in this method: its gradients are drawn at a point further on.")
        if transport is not None:
            require_like("transport", transport, "the momentum", state.momentum)
        carried = state.momentum if transport is None else jax.tree.map(jnp.add, state.momentum, transport)
        momentum = jax.tree.map(
            lambda d, old, g: ((1 - state.eta) * old + state.eta * g).astype(d.dtype), state.momentum, carried, updates
        )
        count = optax.safe_increment(state.count)
        finite = state.finite & _finite(momentum)
        previous = jax.tree.map(lambda leaf, old: jnp.asarray(leaf, old.dtype), params, state.previous)
        return momentum, TransportState(count, share(count), momentum, previous, finite)

    return optax.GradientTransformationExtraArgs(init, update)


def _finite(tree: Any) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def transport_state(state: Any) -> TransportState:
    """The one :class:`TransportState` in the state of a chain; raises `ValueError` where there is not exactly one."""
    is_one = lambda leaf: isinstance(leaf, TransportState)
    found = [leaf for leaf in jax.tree.leaves(state, is_leaf=is_one) if is_one(leaf)]
    if len(found) != 1:
        raise ValueError(
            f"state must hold one state of transported_momentum, as those of n_pg_igt and harpg do: found {len(found)}."
        )
    return found[0]


def igt_lookahead(params: optax.Params, state: Any) -> optax.Params:
    r"""Where IGT draws its gradient: :math:`\theta_t + \frac{1 - \eta_t}{\eta_t} (\theta_t - \theta_{t-1})`.

    If the gradient is linear, old gradients and this one together have the mean :math:`\nabla J(\theta_t)`.

    Parameters
    ----------
    params
        :math:`\theta_t`.
    state
        That of a chain with :func:`transported_momentum` in it.

    Returns
    -------
    A tree like `params`.
    """
    own = transport_state(state)
    require_like("params", params, "the momentum", own.momentum)
    factor = (1 - own.eta) / own.eta
    return jax.tree.map(
        lambda new, old: jnp.asarray(new) + (factor * (new - old)).astype(old.dtype), params, own.previous
    )


def lookahead_norm(params: optax.Params, state: Any) -> Float[Array, ""]:
    r"""How far :func:`igt_lookahead` is from the parameters.

    It is :math:`\gamma_{t-1} (1 - \eta_t) / \eta_t` where steps are normalized, and shrinks slowly. With steps that are
    too long the policy of that point may be unstable where that of the parameters is not.
    """
    ahead = igt_lookahead(params, state)
    return optax.tree.norm(optax.tree.sub(ahead, params))


class Midpoint(NamedTuple):
    """Where HARPG draws its second trajectory, and along what its curvature is taken."""

    params: optax.Params
    r""":math:`q \theta_t + (1 - q) \theta_{t-1}`."""
    move: optax.Params
    r""":math:`\theta_t - \theta_{t-1}`."""


def harpg_midpoint(key: Array, params: optax.Params, state: Any) -> Midpoint:
    r"""A point of the last move: :math:`\theta_q = q \theta_t + (1 - q) \theta_{t-1}`, `q` uniform in [0, 1].

    With a second trajectory, drawn at this point, :math:`B(\tau', \theta_q)(\theta_t - \theta_{t-1})` has the mean

    .. math:: \int_0^1 \nabla^2 J(\theta_q)\, \mathrm{d}q\; (\theta_t - \theta_{t-1})
              = \nabla J(\theta_t) - \nabla J(\theta_{t-1}) .

    Parameters
    ----------
    key
        For :math:`q`; of no other use.
    params
        :math:`\theta_t`.
    state
        That of a chain with :func:`transported_momentum` in it.
    """
    own = transport_state(state)
    require_like("params", params, "the momentum", own.momentum)
    move = jax.tree.map(lambda new, old: jnp.asarray(new) - old, params, own.previous)
    q = jax.random.uniform(key, (), float)
    point = jax.tree.map(lambda old, along: old + (q * along).astype(old.dtype), own.previous, move)
    return Midpoint(point, move)


def storm_transport(gradient: Any, previous_gradient: Any, log_weight: Any) -> Any:
    r"""What STORM passes as `transport`: :math:`g(\tau, \theta_t) - w\, g(\tau, \theta_{t-1})` of one trajectory.

    With it the recursion is :math:`d_t = g_t + (1 - \eta_t)(d_{t-1} - w\, g(\tau, \theta_{t-1}))`.

    Parameters
    ----------
    gradient, previous_gradient
        Of the same trajectory, at the present and at the previous parameters.
    log_weight
        :math:`\log w`, how much more likely the trajectory was at the previous parameters. Nothing is clipped: weights
        that are too large for the precision are infinite, and so is the estimate.
    """
    require_like("previous_gradient", previous_gradient, "gradient", gradient)
    weight = jnp.exp(log_weight)
    return jax.tree.map(lambda new, old: new - (weight * old).astype(old.dtype), gradient, previous_gradient)
