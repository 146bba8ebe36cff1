r"""Importance sampling as densities: `marginal`, `normalize`, and the algorithms behind them.

A density that is estimated has two laws, which are not the same. ``random_weighted() -> (w, v)`` estimates the
*reciprocal* density of the value :math:`v` that it draws, ``estimate_logpdf(v) -> w`` the density of any value:

.. math:: E[e^{-w} \mid v] = 1 / p(v), \qquad E[e^{w}] = p(v).

An exact log-density satisfies both. In a bound the guide's side needs the first, the model's side the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from .distributions import Categorical
from .generative import Choices, GenerativeFunction
from .sites import sample
from .strategies import LIMIT, Strategy, reinforce


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Target:
    r"""A generative function with some choices given: the unnormalized density :math:`\gamma(u) = p(u, v)`."""

    model: GenerativeFunction
    args: tuple[Any, ...]
    constraints: Choices

    def log_density(self, choices: Choices) -> Array:
        r""":math:`\log \gamma(u)`."""
        twice = [name for name in choices if name in self.constraints]
        if twice:
            raise ValueError(f"The choices {twice} of {self.model.name} are given by the target already.")
        return self.model.assess({**choices, **self.constraints}, *self.args)[0]


def given(model: GenerativeFunction, constraints: Choices, *args: Any) -> Target:
    """The target of a model's other choices, with these `constraints` observed."""
    return Target(model, args, constraints)


class Algorithm:
    r"""How a target's constant :math:`Z = \int \gamma` is estimated. All methods are programs."""

    def log_evidence(self, target: Target) -> Array:
        """An estimate w with :math:`E[e^w] = Z`."""
        raise NotImplementedError

    def log_evidence_with(self, target: Target, choices: Choices) -> Array:
        r"""An estimate w with :math:`E[e^{-w}] = 1/Z`, where the choices were drawn from :math:`\gamma / Z`."""
        raise NotImplementedError

    def draw(self, target: Target, strategy: Strategy) -> tuple[Array, Choices]:
        r"""Choices from about the normalized target, with the estimate of :math:`\log Z` that came with them.

        `strategy` is that of the choice among particles.
        """
        raise NotImplementedError


def _chosen(log_weights: Array, values: Any, strategy: Strategy) -> Any:
    """One of several values, in proportion to weights."""
    index = sample(Categorical(strategy), jax.nn.softmax(log_weights))
    return jax.tree.map(lambda one: one[index], values)


@partial(jax.tree_util.register_dataclass, data_fields=("proposal", "args"), meta_fields=("n",))
@dataclass(frozen=True)
class ImportanceSampler(Algorithm):
    r"""Importance sampling with n particles :math:`u_j \sim q`, weights :math:`W(u) = \gamma(u) / q(u)`.

    Parameters
    ----------
    n
        Particles.
    proposal
        A distribution over the target's choices: a generative function, or another program with a density. The prior if
        it is not given: W is then the density of the constraints.
    args
        The proposal's arguments; the constraints and the target's arguments if they are not given.
    """

    n: int = 1
    proposal: Any = None
    args: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.n, int) and self.n < 1:
            raise ValueError(f"`n` must be at least 1: given {self.n}.")

    def _proposal_args(self, target: Target) -> tuple[Any, ...]:
        return (target.constraints, *target.args) if self.args is None else self.args

    def _particle(self, target: Target) -> tuple[Array, Choices]:
        if self.proposal is None:
            found = target.model.trace(*target.args, given=target.constraints)
            choices = {name: one for name, one in found.choices.items() if name not in target.constraints}
            return found.log_density_of(target.constraints), choices
        log_q, choices = self.proposal.random_weighted(*self._proposal_args(target))
        return target.log_density(choices) - log_q, choices

    def _log_weight(self, target: Target, choices: Choices) -> Array:
        if self.proposal is None:
            found = target.model.trace(*target.args, given={**choices, **target.constraints})
            return found.log_density_of(target.constraints)
        return target.log_density(choices) - self.proposal.estimate_logpdf(choices, *self._proposal_args(target))

    def _particles(self, target: Target, n: int) -> tuple[Array, Choices]:
        return jax.vmap(lambda _: self._particle(target))(jnp.arange(n))

    def log_evidence(self, target: Target) -> Array:
        r""":math:`\log \frac1n \sum_j W(u_j)`, all particles fresh."""
        return logsumexp(self._particles(target, self.n)[0]) - math.log(self.n)

    def log_evidence_with(self, target: Target, choices: Choices) -> Array:
        r""":math:`\log \frac1n (W(u) + \sum_{j \ge 2} W(u_j))`: the choices are one of the particles."""
        mine = self._log_weight(target, choices)[None]
        if self.n > 1:
            mine = jnp.concatenate([mine, self._particles(target, self.n - 1)[0]])
        return logsumexp(mine) - math.log(self.n)

    def draw(self, target: Target, strategy: Strategy) -> tuple[Array, Choices]:
        """One of the particles, in proportion to their weights: sampling-importance-resampling."""
        log_weights, particles = self._particles(target, self.n)
        return logsumexp(log_weights) - math.log(self.n), _chosen(log_weights, particles, strategy)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Enumerate(Algorithm):
    """The exact sum over all values of the target's choices, whose supports must be finite and independent.

    Parameters
    ----------
    limit
        So many combined values there may be.
    """

    limit: int = LIMIT

    def _all(self, target: Target) -> tuple[Array, Choices]:
        supports = target.model.supports(target.constraints, *target.args)
        total = math.prod(len(one) for one in supports.values())
        if total > self.limit:
            raise ValueError(f"The target's choices have {total} combined values, more than {self.limit}.")
        at = np.unravel_index(np.arange(total), [len(one) for one in supports.values()])
        values = {name: one[index] for (name, one), index in zip(supports.items(), at, strict=True)}
        return jax.vmap(target.log_density)(values), values

    def log_evidence(self, target: Target) -> Array:
        """The exact one."""
        return logsumexp(self._all(target)[0])

    def log_evidence_with(self, target: Target, choices: Choices) -> Array:
        """The exact one."""
        return self.log_evidence(target)

    def draw(self, target: Target, strategy: Strategy) -> tuple[Array, Choices]:
        """An exact draw from the normalized target."""
        log_density, values = self._all(target)
        return logsumexp(log_density), _chosen(log_density, values, strategy)


@partial(jax.tree_util.register_dataclass, data_fields=("model", "algorithm"), meta_fields=("selection",))
@dataclass(frozen=True)
class Marginal:
    """The distribution of some choices of a generative function; see `marginal`."""

    selection: tuple[str, ...]
    model: GenerativeFunction
    algorithm: Algorithm

    def random_weighted(self, *args: Any) -> tuple[Array, Choices]:
        """An estimate of the reciprocal density, and the selected choices."""
        choices = self.model.trace(*args).choices
        missing = [name for name in self.selection if name not in choices]
        if missing:
            raise ValueError(f"{self.model.name} has no choices {missing}: its addresses are {list(choices)}.")
        selected = {name: choices[name] for name in self.selection}
        others = {name: one for name, one in choices.items() if name not in selected}
        return self.algorithm.log_evidence_with(given(self.model, selected, *args), others), selected

    def estimate_logpdf(self, value: Choices, *args: Any) -> Array:
        """An estimate of the density of the selected choices."""
        if set(value) != set(self.selection):
            raise ValueError(f"The choices of this marginal are {list(self.selection)}: given {list(value)}.")
        return self.algorithm.log_evidence(given(self.model, value, *args))


def marginal(selection: str | Sequence[str], model: GenerativeFunction, algorithm: Algorithm | None = None) -> Marginal:
    r"""The distribution of some choices of a generative function: the others, :math:`u`, are integrated out.

    Parameters
    ----------
    selection
        Addresses :math:`v` that are kept.
    model
        :math:`p(u, v)`.
    algorithm
        How :math:`p(v) = \int p(u, v)` is estimated; one particle from the prior of :math:`u` if it is not given.

    Returns
    -------
    Marginal
        A distribution of dictionaries of the selected choices, with the model's arguments as its parameters. In
        ``random_weighted`` the :math:`u` that was drawn along with :math:`v` is one of the particles, which makes it an
        estimate of the reciprocal; fresh particles alone would not.
    """
    names = (selection,) if isinstance(selection, str) else tuple(selection)
    return Marginal(names, model, ImportanceSampler() if algorithm is None else algorithm)


@partial(jax.tree_util.register_dataclass, data_fields=("target", "algorithm", "strategy"), meta_fields=())
@dataclass(frozen=True)
class Normalized:
    """About the normalized target; see `normalize`."""

    target: Target
    algorithm: Algorithm
    strategy: Strategy

    def random_weighted(self) -> tuple[Array, Choices]:
        """An estimate of the reciprocal density, and choices."""
        log_evidence, choices = self.algorithm.draw(self.target, self.strategy)
        return self.target.log_density(choices) - log_evidence, choices

    def estimate_logpdf(self, value: Choices) -> Array:
        """An estimate of the density of choices."""
        return self.target.log_density(value) - self.algorithm.log_evidence_with(self.target, value)


def normalize(target: Target, algorithm: Algorithm, strategy: Strategy | None = None) -> Normalized:
    r"""The distribution that an algorithm makes of an unnormalized target :math:`\gamma`, such as a posterior.

    Parameters
    ----------
    target
        See `given`.
    algorithm
        `ImportanceSampler` draws n particles and takes one of them; `Enumerate` draws exactly.
    strategy
        Of the choice among the particles; REINFORCE if it is not given. Particles have strategies of their own.

    Returns
    -------
    Normalized
        A distribution of dictionaries of the target's choices, without parameters. Both laws of the module hold for
        every n, but for the *sampler's own output* :math:`p_n(v) = \gamma(v) \, E[n / (W(v) + W_2 + \dots + W_n)]`,
        which tends to the normalized target as n grows; by enumeration it is that.
    """
    return Normalized(target, algorithm, reinforce() if strategy is None else strategy)
