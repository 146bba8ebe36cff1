r"""The dual loss of a value function on recorded transitions, and its four gradients.

With the residual :math:`y_{V, U} = r + \gamma U(s') - V(s)`, where a terminal :math:`s'` has the value zero,

.. math::

    \mathcal L(V) = (1 - \lambda)\, E_D[V(s)] + \lambda\, E_D[f^*(y_{V, V})].

Let :math:`\bar V` be a slowly moving copy. The *forward* gradient :math:`g_f` is that of
:math:`\lambda E_D[f^*(y_{V, \bar V})]`, the *backward* one :math:`g_b` that of
:math:`\lambda \eta E_D[f^*(y_{\bar V, V})]`, each by the parameters of :math:`V`. To the gradient of the first term

* ``"orthogonal"`` adds :math:`g_f + g_b - \frac{\langle g_b, g_f \rangle}{\langle g_f, g_f \rangle} g_f`;
* ``"semi"`` adds :math:`g_f`;
* ``"sum"`` adds :math:`g_f + g_b`;
* ``"true"`` adds the gradient of :math:`\lambda E_D[f^*(y_{V, V})]`, in which there is no copy.

A record that the logger cut, at a time limit or the edge of what a sensor sees, is not terminal: its next state keeps
its value, and only the backward gradient sees a state that is never left in the data.

References
----------
Mao, Xu, Zhang, Zhan, "ODICE: Revealing the mystery of distribution correction estimation via orthogonal-gradient
update", ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from dini_zoo.kit.checking import finite, holds, not_negative, one_length, one_of, trainable

from ..environments import Transition
from ..gradient_surgery import combine
from ..grids import discount_factor
from .conjugates import Divergence, conjugate_f

type Mode = Literal["orthogonal", "semi", "sum", "true"]
"""Which gradient."""
MODES: tuple[str, ...] = get_args(Mode.__value__)

#: The published guard of the projection, on the squared norm of the forward gradient.
EPS = 1e-10

NO_RECORDS = "transitions must hold at least one record: given none."


class Transitions(eqx.Module):
    """Recorded transitions, one behind the other; raises `ValueError` for none, unequal lengths, or rewards like NaN.

    Observations and actions may be trees of arrays with the records along their first axes. `terminal` says where the
    process was *over*; a record that was merely cut is not terminal. `weight` is the frequency of each record, up to a
    factor; one for each if it is not given.
    """

    observation: PyTree[Array]
    action: PyTree[Array]
    reward: Float[Array, " n"]
    next_observation: PyTree[Array]
    terminal: Bool[Array, " n"]
    weight: Float[Array, " n"] | None = None

    def __check_init__(self) -> None:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__ if getattr(self, name) is not None}
        if one_length("transitions", data) == 0:
            raise ValueError(NO_RECORDS)
        finite("reward", self.reward)
        if self.weight is not None:
            not_negative("weight", self.weight)

    @classmethod
    def of(cls, seen: Transition, *, drop_truncated: bool = False) -> Self:
        """Records of an environment. Those that were cut keep their bootstrap, unless they are dropped.

        With them go the states that only a bootstrap reaches, which are what the backward gradient is there for.
        """
        kept = ~np.asarray(seen.truncated) if drop_truncated else slice(None)
        parts = (seen.observation, seen.action, seen.reward, seen.next_observation, seen.terminal)
        return cls(*jax.tree.map(lambda leaf: leaf[kept], parts))

    def shares(self, axis_name: str | None = None) -> Float[Array, " n"]:
        """The weight of each record in a mean over the data; over all parts of a batch that is divided."""
        reward = jnp.asarray(self.reward)
        if not len(reward):
            raise ValueError(NO_RECORDS)
        weight = jnp.ones_like(reward) if self.weight is None else jnp.asarray(self.weight, reward.dtype)
        whole = jnp.sum(weight)
        return weight / (whole if axis_name is None else jax.lax.psum(whole, axis_name))

    def rows(self, indices: Array) -> Transitions:
        """Some of the records."""
        return jax.tree.map(lambda leaf: leaf[indices], self)


class Aux(NamedTuple):
    """What the gradients were made of."""

    loss: Float[Array, ""]
    r""":math:`(1 - \lambda) E[V] + \lambda E[f^*(y_{V, \bar V})]`; no mode but the first two descends it."""
    residual: Float[Array, " n"]
    r""":math:`y_{V, \bar V}`, from which the weights of actions come; of an ensemble the mean."""
    forward: Any
    backward: Any
    coefficient: Float[Array, ""]
    r""":math:`\langle g_b, g_f \rangle / \langle g_f, g_f \rangle`."""
    cosine: Float[Array, ""]


def trade_off(name: str, value: Any) -> None:
    """Raise `ValueError` unless a number that is known is in (0, 1); a traced one makes the result NaN."""
    holds(value, lambda given: (given > 0) & (given < 1), lambda: f"{name} must be in (0, 1): given {value}.")


def lowest(values: Array) -> Array:
    """Of an ensemble, with its members along the first of two axes, the least; a single value as it is."""
    return jnp.min(values, axis=0) if values.ndim == 2 else values


def dice_gradients(
    value_fn: Callable[[Any, Any], Array],
    params: Any,
    target_params: Any,
    batch: Transitions,
    *,
    lam: Float[Array, ""] | float,
    gamma: Float[Array, ""] | float,
    eta: Float[Array, ""] | float = 1.0,
    mode: Mode = "orthogonal",
    divergence: Divergence = "pearson_chi2",
    eps: Any = EPS,
    leafwise: bool = False,
    axis_name: str | None = None,
) -> tuple[Any, Aux]:
    r"""The gradient of a mode by the parameters of :math:`V`, and what it was made of.

    Parameters
    ----------
    value_fn
        `value_fn(params, states)`: a value for each of `n` states, or an array `(k, n)` of an ensemble, whose loss is
        the mean over members and whose bootstrap is the least of them.
    params, target_params
        Of :math:`V` and :math:`\bar V`: trees of arrays of floats.
    batch
        The records.
    lam
        :math:`\lambda` in (0, 1). Above one half the mean residual is negative.
    gamma
        The discount, in [0, 1).
    eta
        :math:`\eta`, of the backward gradient alone; with zero ``"orthogonal"`` and ``"sum"`` are ``"semi"``.
    mode
        See above.
    divergence
        See `conjugate_f`.
    eps
        Of the projection, see `project_orthogonal`: the published one. Where all weights vanish, so does :math:`g_f`.
    leafwise
        Project each leaf of the parameters by itself.
    axis_name
        Over which mapped axis the batch is divided: gradients are summed over it *before* the projection.

    Raises
    ------
    TypeError
        For parameters that are not floats.
    ValueError
        For numbers out of their range, another mode or divergence, or values that are not one for each state.
    """
    trade_off("lam", lam)
    discount_factor("gamma", gamma)
    not_negative("eta", eta)
    one_of("mode", mode, MODES)
    trainable("params", params)
    conjugate = conjugate_f(divergence)
    reward, weight = jnp.asarray(batch.reward), batch.shares(axis_name)
    total = lambda tree: tree if axis_name is None else jax.lax.psum(tree, axis_name)

    def mean(values: Array) -> Array:
        """Over the data, and over an ensemble."""
        return jnp.sum(weight * values) / (len(values) if values.ndim == 2 else 1)

    def values_of(params: Any, states: Any) -> Array:
        found = value_fn(params, states)
        if found.ndim not in (1, 2) or found.shape[-1] != reward.shape[0]:
            raise ValueError(
                f"value_fn must return a value for each of {reward.shape[0]} states, or rows of them for an ensemble: "
                f"given {found.shape}."
            )
        return found

    def residual(here: Array, there: Array) -> Array:
        return reward + gamma * jnp.where(batch.terminal, 0.0, there) - here

    def dual(here: Array, there: Array) -> Array:
        return lam * mean(conjugate.value(residual(here, there)))

    fixed_here = lowest(jax.lax.stop_gradient(values_of(target_params, batch.observation)))
    fixed_there = lowest(jax.lax.stop_gradient(values_of(target_params, batch.next_observation)))

    def first_part(params: Any) -> tuple[Array, Array]:
        """The first term: its value; and the residuals."""
        here = values_of(params, batch.observation)
        return (1 - lam) * mean(here), here

    def forward_part(params: Any) -> Array:
        return dual(values_of(params, batch.observation), fixed_there)

    def backward_part(params: Any) -> Array:
        return eta * dual(fixed_here, values_of(params, batch.next_observation))

    def true_part(params: Any) -> Array:
        return dual(values_of(params, batch.observation), lowest(values_of(params, batch.next_observation)))

    (level, here), first = jax.value_and_grad(first_part, has_aux=True)(params)
    value, forward = jax.value_and_grad(forward_part)(params)
    backward = jax.grad(backward_part)(params)
    loss, first, forward, backward = total((level + value, first, forward, backward))
    how = {"orthogonal": "orthogonal", "sum": "sum"}.get(mode, "main")
    both = combine(forward, backward, how, eps=eps, leafwise=leafwise)
    dual_gradient = total(jax.grad(true_part)(params)) if mode == "true" else both.gradient
    found = residual(here, fixed_there)
    found = jnp.mean(found, axis=0) if found.ndim == 2 else found
    aux = Aux(loss, found, forward, backward, both.coefficient, both.cosine)
    aux = jax.lax.stop_gradient(aux)
    return jax.tree.map(jnp.add, first, dual_gradient), aux
