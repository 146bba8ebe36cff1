"""Policies of populations, what they cost, how they are trained, and the search of the best constant one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from dini_zoo.kit.checking import at_least, finite, known, not_negative, positive, within
from dini_zoo.kit.training import Trainer

from .agents import ABM, Policy, Trajectory, simulate
from .estimators import corrected_rollout, mean_field_rollout


class Schedule(eqx.Module):
    """Controls that were chosen beforehand, whatever the counts: those of step `t` are row `t`."""

    u: Float[Array, "T m"]

    @property
    def horizon(self) -> int:
        """`T`."""
        return self.u.shape[-2]

    def __call__(self, x: Any, t: Any) -> Float[Array, " m"]:
        """The control of a step."""
        del x
        return self.u[t]


def constant(u: Any, steps: int) -> Schedule:
    """The same control in all steps; raises `ValueError` for one that is not finite."""
    at_least("steps", steps, 1)
    finite("u", u)
    u = jnp.atleast_1d(jnp.asarray(u, float))
    return Schedule(jnp.broadcast_to(u, (steps, *u.shape)))


@dataclass(frozen=True)
class Inputs:
    """What a controller is given: `x / scale - 1`, the time `t / horizon - 1/2`, and a reference if there is one.

    Parameters
    ----------
    scale
        A usual count of each species.
    horizon
        The number of steps.
    reference
        What is to be reached in each step, given as `reference[t] / mean(reference) - 1`.
    """

    scale: tuple[float, ...]
    horizon: int
    reference: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        positive("scale", self.scale)
        at_least("horizon", self.horizon, 1)
        if self.reference and len(self.reference) != self.horizon:
            raise ValueError(f"reference must have {self.horizon} numbers: given {len(self.reference)}.")

    @property
    def count(self) -> int:
        """How many numbers these are."""
        return len(self.scale) + 1 + bool(self.reference)

    def __call__(self, x: Float[Array, " k"], t: Any) -> Float[Array, " n"]:
        """The inputs of step `t`."""
        parts = [x / jnp.asarray(self.scale, x.dtype) - 1, jnp.atleast_1d(t / self.horizon - 0.5)]
        if self.reference:
            wanted = np.asarray(self.reference) / np.mean(self.reference) - 1
            parts.insert(1, jnp.atleast_1d(jnp.asarray(wanted, x.dtype)[t]))
        return jnp.concatenate(parts)


class Controller(eqx.Module):
    """A feedback by a network: `u = most · sigmoid(MLP(inputs(x, t)))`, of two hidden layers with tanh.

    Weights are normal, of the variance of one over the inputs of a layer; the last bias is -2, near no control, where
    a population still shows what it does by itself.

    Parameters
    ----------
    inputs
        `inputs(x, t)`, such as :class:`Inputs`.
    most
        The largest controls.
    width
        Of the hidden layers.
    key
        For the weights.
    """

    network: eqx.nn.MLP
    inputs: Inputs = eqx.field(static=True)
    most: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, inputs: Inputs, most: Sequence[float], *, width: int = 16, key: Array):
        positive("most", most)
        self.inputs, self.most = inputs, tuple(map(float, most))
        network = eqx.nn.MLP(inputs.count, len(self.most), width, 2, activation=jnp.tanh, key=key)
        keys = jax.random.split(key, len(network.layers))
        weights = [
            jax.random.normal(key, layer.weight.shape) / jnp.sqrt(layer.weight.shape[1])
            for key, layer in zip(keys, network.layers, strict=True)
        ]
        biases = [jnp.zeros_like(layer.bias) for layer in network.layers]
        biases[-1] = biases[-1] - 2.0
        parts = lambda network: [leaf for layer in network.layers for leaf in (layer.weight, layer.bias)]
        new = [leaf for pair in zip(weights, biases, strict=True) for leaf in pair]
        self.network = eqx.tree_at(parts, network, new)

    @property
    def horizon(self) -> int | None:
        """The number of steps that there is a reference for; none without one."""
        return self.inputs.horizon if self.inputs.reference else None

    def __call__(self, x: Float[Array, " k"], t: Any) -> Float[Array, " m"]:
        """The control of step `t`."""
        return jnp.asarray(self.most, x.dtype) * jax.nn.sigmoid(self.network(self.inputs(x, t)))


class TrackingCost(eqx.Module):
    r"""How far counts are from their targets, relative to these, and what is done for it.

    .. math:: J = \frac{1}{|C|} \sum_{t \in C} \sum_i \Bigl(\frac{x_{ti} - r_{ti}}{r_{ti}}\Bigr)^2
              + \frac{c}{T} \sum_t \|u_t\|^2

    over the counts after the steps `C`. For the end alone count only the last step.

    Parameters
    ----------
    target
        `r`, of shape `(T, j)`.
    counted
        Of shape `(T,)`: whether step `t` is in `C`.
    species
        Which `j` of the counts these are, by index.
    effort
        `c`.
    """

    target: Float[Array, "T j"]
    counted: Bool[Array, " T"]
    species: tuple[int, ...] = eqx.field(static=True)
    effort: float = eqx.field(static=True, default=0.0)

    def __check_init__(self) -> None:
        positive("target", self.target)
        not_negative("effort", self.effort)
        if self.target.ndim != 2 or self.target.shape[1] != len(self.species):
            raise ValueError(
                f"target must have a row for each step and a column for each of the {len(self.species)} species: given "
                f"the shape {self.target.shape}."
            )
        if self.counted.shape != self.target.shape[:1]:
            raise ValueError(
                f"counted must have an entry for each of the {self.target.shape[0]} steps of target: given the shape "
                f"{self.counted.shape}."
            )
        if known(self.counted) and not np.any(self.counted):
            raise ValueError("counted must have a step that counts: given none.")

    def __call__(self, x: Float[Array, "T k"], u: Float[Array, "T m"]) -> Float[Array, ""]:
        """The cost of the counts after each step, and of the controls."""
        within("species", self.species, x.shape[1])
        if x.shape[0] != self.target.shape[0]:
            raise ValueError(
                f"x must have a row for each of the {self.target.shape[0]} steps of target: given {x.shape}."
            )
        seen = x[:, jnp.array(self.species, int)]
        missed = jnp.sum(((seen - self.target) / self.target) ** 2, axis=1)
        tracking = jnp.sum(jnp.where(self.counted, missed, 0.0)) / jnp.sum(self.counted)
        return tracking + self.effort * jnp.mean(jnp.sum(u**2, axis=1))


Cost = Callable[[Float[Array, "T k"], Float[Array, "T m"]], Float[Array, ""]]


class Evaluation(NamedTuple):
    """Simulations of a policy, a row for each key."""

    cost: Float[Array, " n"]
    path: Trajectory


@eqx.filter_jit
def evaluate_each(abm: ABM, policies: Any, cost: Cost, keys: Array, steps: int) -> Evaluation:
    """Simulate several policies, each with a key of its own: their arrays have an axis for the policies in front."""

    def one(policy: Policy, key: Array) -> Evaluation:
        path = simulate(abm, policy, key, steps)
        return Evaluation(cost(path.x[1:], path.u), path)

    return eqx.filter_vmap(one, in_axes=(eqx.if_array(0), 0))(policies, keys)


def evaluate(abm: ABM, policy: Policy, cost: Cost, keys: Array, steps: int) -> Evaluation:
    """Simulate a policy with each key. Use other keys than those that it was trained or chosen with."""
    copies = lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)) if eqx.is_array(leaf) else leaf
    return evaluate_each(abm, jax.tree.map(copies, policy), cost, keys, steps)


def constant_policy_search(
    abm: ABM, cost: Cost, grid: Float[Array, "n m"], keys: Array, steps: int
) -> tuple[Float[Array, " m"], Float[Array, " n"]]:
    """The constant control of least mean cost on a grid.

    Returns
    -------
    best
        The control.
    costs
        The mean cost of each one of the grid.
    """
    grid = jnp.asarray(grid, float)
    if grid.ndim != 2 or not len(grid):
        raise ValueError(f"grid must have a control in each row: given the shape {grid.shape}.")
    costs = jnp.stack([jnp.mean(evaluate(abm, constant(u, steps), cost, keys, steps).cost) for u in grid])
    return grid[jnp.argmin(costs)], costs


Rollout = Callable[[Any, Any, Array], tuple[Float[Array, "T+1 k"], Float[Array, "T m"]]]
"""`rollout(policy, g, key)`: counts and controls that can be differentiated in the policy."""


def through_population(abm: ABM, steps: int, *, window: int | None = None) -> Rollout:
    """The population itself, with the derivative of a mean field along its trajectory."""
    at_least("steps", steps, 1)
    return lambda policy, g, key: corrected_rollout(abm, g, policy, key, steps, window=window)[:2]


def through_mean_field(abm: ABM, steps: int) -> Rollout:
    """The mean field alone, from random starts of the population."""
    at_least("steps", steps, 1)
    return lambda policy, g, key: mean_field_rollout(g, policy, abm.observe(abm.init(key)), steps)


def policy_trainer(
    rollout: Rollout,
    cost: Cost,
    optimizer: optax.GradientTransformation,
    *,
    training: int,
    runs: int = 4,
    **options: Any,
) -> Trainer[Any]:
    """A trainer of policies: `policy_trainer(...)(policy, g, key=key)` minimizes the mean cost of fresh simulations.

    At each step it tells, beside the cost, the mean of each control: where it is near 0 or the largest one, a sigmoid
    is saturated, and the derivative vanishes.

    Parameters
    ----------
    rollout
        :func:`through_population`, :func:`through_mean_field`, or any `rollout(policy, g, key)`.
    cost
        `cost(x, u)`, of the counts after each step and the controls.
    optimizer
        An optax transformation.
    training
        Its steps.
    runs
        Simulations a step.
    options
        Of the kit's `Trainer`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, optax
    >>> from dini_zoo.physics.digital_twin_control import MetabolicPathway
    >>> pathway, steps = MetabolicPathway(), 40
    >>> cost = TrackingCost(jnp.full((steps, 1), 60.0), jnp.arange(steps) >= 30, species=(3,))
    >>> inputs = Inputs((30.0, 50.0, 50.0, 80.0), steps)
    >>> trainer = policy_trainer(through_population(pathway, steps), cost, optax.adam(0.1), training=20)
    >>> course = trainer(Controller(inputs, (60.0,), key=jax.random.key(0)), pathway.mean_field, key=jax.random.key(1))
    >>> bool(course.loss[-1] < 0.7 * course.loss[0]), course.aux.shape
    (True, (20, 1))
    """
    at_least("runs", runs, 1)

    def loss(policy: Any, g: Any, key: Array) -> tuple[Array, Array]:
        def one(key: Array) -> tuple[Array, Array]:
            x, u = rollout(policy, g, key)
            return cost(x[1:], u), jnp.mean(u, axis=0)

        costs, controls = jax.vmap(one)(jax.random.split(key, runs))
        return jnp.mean(costs), jnp.mean(controls, axis=0)

    return Trainer(loss, optimizer, steps=training, aux=True, **options)
