r"""Strategies: how the derivative of an expectation over one random choice is estimated.

Let :math:`k(v)` be the rest of a program after the choice :math:`v \sim p_\theta`, its *continuation*. A strategy
returns an estimate of :math:`E[k(v)]` whose derivative is an unbiased estimate of the derivative, for plain `jax.grad`:

=====================  =========================================================  ==========================
`reparam`              :math:`k(T(\epsilon, \theta))`                             all orders
`implicit`             the same, :math:`T` by :math:`F_\theta(v) = u`             all orders that F has
`reinforce`            :math:`(k(v) - b) e^{l - \bar l} + b`, :math:`l = \log p`  all orders
`enumerate_`           :math:`\sum_v p_\theta(v) k(v)`                            all orders, no variance
`measure_valued`       :math:`k(v) + (\theta - \bar\theta) c (k(v^+) - k(v^-))`   first order; else it raises
=====================  =========================================================  ==========================

A bar is `jax.lax.stop_gradient`. The first three have the form :math:`e^s k(v) + o`, where score :math:`s` and offset
:math:`o` are zero in value: these pass through loops. The others call the continuation more than once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import stop_gradient

import dini

#: So many continuations one program may enumerate.
LIMIT = 4096


class Rest(Protocol):
    """The continuation of a choice."""

    key: Array
    """Its random key."""
    inputs: tuple[Array, ...]
    """All that the whole program is differentiated in."""

    def __call__(self, value: Any, *, pure: bool = False) -> Array:
        """An estimate of the rest, always with the same key.

        With `pure` all later choices are simply drawn, and the estimate has no derivative.
        """
        ...

    def times(self, evaluations: int, limit: int = LIMIT) -> Rest:
        """The same, to be called so often. Raises `ValueError` where a program then calls more than `limit`."""
        ...

    def keyed(self, key: Array) -> Rest:
        """The same with another key."""
        ...


class Strategy:
    """How the derivative of one choice is estimated."""

    branches = False
    """Whether the continuation is called more than once."""

    def check(self, distribution: Any, params: tuple[Any, ...], where: str) -> None:
        """Raise `TypeError` where a distribution has no derivative of this kind."""

    def draw(self, key: Array, site: Any) -> tuple[Array, Any, Any]:
        """Value, score and offset, of a strategy without branches."""
        raise NotImplementedError

    def estimate(self, key: Array, site: Any, rest: Rest) -> Array:
        """The estimate of the rest of the program."""
        value, score, offset = self.draw(key, site)
        return jnp.exp(score) * rest(value) + offset


@dataclass_transform(frozen_default=True)
def _strategy(*arrays: str) -> Callable[[Any], Any]:
    """A frozen dataclass that is a pytree of some of its fields."""

    def decorate(cls: Any) -> Any:
        made = dataclasses.dataclass(frozen=True)(cls)
        meta = [field.name for field in dataclasses.fields(made) if field.name not in arrays]
        return jax.tree_util.register_dataclass(made, data_fields=list(arrays), meta_fields=meta)

    return decorate


@_strategy()
class Reparam(Strategy):
    """See `reparam`."""

    def check(self, distribution: Any, params: tuple[Any, ...], where: str) -> None:
        if not distribution.pathwise:
            raise TypeError(
                f"A draw at {where} does not move smoothly with its parameters: it has no derivative by "
                "reparametrization. Take `reinforce()`, `enumerate_()`, `measure_valued()` or `implicit()`."
            )

    def draw(self, key: Array, site: Any) -> tuple[Array, Any, Any]:
        return site.draw(key), 0.0, 0.0


@_strategy("baseline")
class Reinforce(Strategy):
    """See `reinforce`."""

    baseline: Any

    def check(self, distribution: Any, params: tuple[Any, ...], where: str) -> None:
        if distribution.moving:
            raise TypeError(
                f"The support of {where} depends on its parameters: the score has no part from its ends, and REINFORCE "
                "would be biased. Take `reparam()`."
            )

    def draw(self, key: Array, site: Any) -> tuple[Array, Any, Any]:
        value = stop_gradient(site.stopped.draw(key))
        log_prob = site.log_prob(value)
        score = log_prob - stop_gradient(log_prob)
        baseline = site.each(lambda distribution, params: distribution.strategy.at(*params))
        return value, jnp.sum(score), jnp.sum(baseline * (1 - jnp.exp(score)))

    def at(self, *params: Any) -> Any:
        """The baseline at the parameters."""
        found = self.baseline(*params) if callable(self.baseline) else self.baseline
        if jnp.ndim(found):
            raise ValueError(f"A baseline must be a scalar: given one of shape {jnp.shape(found)}.")
        return found


@_strategy()
class Enumeration(Strategy):
    """See `enumerate_`."""

    parallel: bool = True
    limit: int = LIMIT
    branches = True

    def check(self, distribution: Any, params: tuple[Any, ...], where: str) -> None:
        if not distribution.finite:
            raise TypeError(
                f"The values of {where} cannot be listed: it has no derivative by enumeration. Take `reinforce()`, or "
                "`reparam()` if it is continuous."
            )

    def estimate(self, key: Array, site: Any, rest: Rest) -> Array:
        values, probabilities = all_values(site, self.limit)
        again = rest.times(len(values), self.limit)
        # the same key in all branches: what they have in common does not blur their differences
        found = jax.vmap(again)(values) if self.parallel else jnp.stack([again(value) for value in values])
        return jnp.sum(probabilities * found)


def all_values(site: Any, limit: int = LIMIT) -> tuple[Array, Array]:
    """All values of a choice along the first axis, and their probabilities; raises `ValueError` beyond a limit."""
    shape = jax.eval_shape(site.draw, jax.eval_shape(lambda: jax.random.key(0))).shape
    support = site.each(lambda distribution, params: distribution.support(*params)[0])
    probabilities = site.each(lambda distribution, params: distribution.support(*params)[1])
    kinds, elements = probabilities.shape[-1], int(np.prod(shape))
    if kinds**elements > limit:
        raise ValueError(
            f"The choice at {site.where} has {kinds}^{elements} values, more than {limit}. Take another strategy, or a "
            "higher limit: `enumerate_(limit=...)`."
        )
    combined = np.stack(np.unravel_index(np.arange(kinds**elements), (kinds,) * elements), axis=-1)
    flat = probabilities.reshape(elements, kinds)
    each = flat[np.arange(elements), combined]
    values = support.reshape(-1, kinds)[0][combined].reshape(-1, *shape)
    return values, jnp.prod(each, axis=-1)


@_strategy()
class MeasureValued(Strategy):
    """See `measure_valued`."""

    branches = True

    def check(self, distribution: Any, params: tuple[Any, ...], where: str) -> None:
        if distribution.pairs is None:
            raise TypeError(
                f"No measure-valued derivative is known of {where}: it is of Normal, Bernoulli, Poisson, Geometric and "
                "Exponential."
            )

    def estimate(self, key: Array, site: Any, rest: Rest) -> Array:
        for_value, for_pairs = jax.random.split(key)
        value = stop_gradient(site.stopped.draw(for_value))
        live = rest(value)
        pairs = site.each(
            lambda distribution, params, key, value: distribution.pairs(key, value, *params),
            site.keys(for_pairs),
            value,
        )
        estimate = live
        for pair in pairs:
            plus = _moved(rest, value, pair.plus)
            minus = live if pair.minus is None else _moved(rest, value, pair.minus)
            slope = stop_gradient(pair.weight) * stop_gradient(plus - minus).reshape(value.shape)
            estimate = estimate + _first_order(pair.theta, slope, rest.inputs)
        return estimate


def _moved(rest: Rest, value: Array, other: Array) -> Array:
    """The rest of the program where one element after another has another value."""
    one = jnp.eye(value.size, dtype=bool).reshape(-1, *value.shape)
    values = jnp.where(one, stop_gradient(other), value)
    return jax.vmap(lambda value: rest(value, pure=True))(values)


@jax.custom_jvp
def _first_order(theta: Array, slope: Array, inputs: Any) -> Array:
    """Zero, with the derivative `slope` in `theta`, which has no derivative itself."""
    return jnp.zeros((), slope.dtype)


def _first_order_jvp(primals: Any, tangents: Any) -> Any:
    theta, slope, inputs = primals
    moved = tangents[0]
    zero = jnp.zeros((), slope.dtype)
    if isinstance(moved, jax.custom_derivatives.SymbolicZero):
        return zero, zero
    return zero, jnp.sum(_no_second_order(slope, (theta, inputs)) * moved)


_first_order.defjvp(_first_order_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _no_second_order(slope: Array, inputs: Any) -> Array:
    return slope


def _no_second_order_jvp(primals: Any, tangents: Any) -> Any:
    if all(isinstance(one, jax.custom_derivatives.SymbolicZero) for one in jax.tree.leaves(tangents[1])):
        return primals[0], jnp.zeros_like(primals[0])
    raise NotImplementedError(
        "A measure-valued choice has a first derivative alone. Take `enumerate_()`, `reparam()` or `reinforce()` for "
        "second ones."
    )


_no_second_order.defjvp(_no_second_order_jvp, symbolic_zeros=True)


@_strategy()
class Implicit(Strategy):
    """See `implicit`."""

    def check(self, distribution: Any, params: tuple[Any, ...], where: str) -> None:
        try:
            value = jax.eval_shape(distribution.draw, jax.eval_shape(lambda: jax.random.key(0)), *params)
            found = jax.eval_shape(distribution.cdf, value, *params)
        except (AttributeError, NotImplementedError):
            found = value = None
        if distribution.discrete or found is None or value is None or found.shape != value.shape:
            raise TypeError(
                f"The implicit derivative needs the distribution function of scalar continuous choices, which {where} "
                "has not. Take `reparam()` or `reinforce()`."
            )

    def draw(self, key: Array, site: Any) -> tuple[Array, Any, Any]:
        drawn = stop_gradient(site.stopped.draw(key))
        return site.each(_attached, drawn), 0.0, 0.0


def _attached(distribution: Any, params: tuple[Any, ...], drawn: Array) -> Array:
    """The drawn value with the derivative of the root of :math:`F_\\theta(v) = u`."""
    level = stop_gradient(distribution.cdf(drawn, *params))
    # the solution is there already: what is left to dini is its derivative
    solved = dini.custom_root(lambda value, made, level: made[0].cdf(value, *made[1]) - level, on_failure="nan")
    return solved(lambda init, made, level: init)(drawn, (distribution, params), level)


@_strategy("strategy")
class Average(Strategy):
    """See `average`."""

    strategy: Strategy
    n: int
    branches = True

    def check(self, distribution: Any, params: tuple[Any, ...], where: str) -> None:
        self.strategy.check(distribution, params, where)

    def estimate(self, key: Array, site: Any, rest: Rest) -> Array:
        inner, again = site.with_strategy(self.strategy), rest.times(self.n)
        once = lambda key, later: self.strategy.estimate(key, inner, again.keyed(later))
        return jnp.mean(jax.vmap(once)(jax.random.split(key, self.n), jax.random.split(rest.key, self.n)))


def reparam() -> Strategy:
    r"""The derivative of a draw :math:`v = T(\epsilon, \theta)` at given random numbers, where the sampler has one.

    The rest of the program must be continuous in the draw: a jump, such as at a comparison, moves with the parameters,
    and no derivative of a draw sees it. There `reinforce` is right.
    """
    return Reparam()


def reinforce(baseline: Any = 0.0) -> Strategy:
    r"""The score-function estimator :math:`(k(v) - b) e^{l - \bar l} + b` with the log-density :math:`l`.

    Parameters
    ----------
    baseline
        :math:`b`, a scalar that lessens the variance: a number, or a function of the distribution's parameters. It must
        not depend on the choice's value, and cannot, since it is evaluated before.
    """
    return Reinforce(jax.tree_util.Partial(baseline) if callable(baseline) else baseline)


def enumerate_(*, parallel: bool = True, limit: int = LIMIT) -> Strategy:
    r"""The exact sum :math:`\sum_v p_\theta(v) k(v)` over a finite support.

    Parameters
    ----------
    parallel
        Whether all continuations are one batch; else they are compiled one after another.
    limit
        So many values the choice may have, all of its elements combined, times those of enumerated choices before it.
    """
    return Enumeration(parallel, limit)


def measure_valued() -> Strategy:
    """The difference of two continuations, see `phantoms`; second derivatives raise `NotImplementedError`."""
    return MeasureValued()


def implicit() -> Strategy:
    r"""The derivative of the root :math:`v` of :math:`F_\theta(v) = u`, F the distribution function; solved by dini.

    It holds for scalar continuous distributions whose sampler has no derivative, such as mixtures. Where the density at
    a draw is zero in floating point, the derivative is not a number.
    """
    return Implicit()


def average(n: int, strategy: Strategy) -> Strategy:
    """The mean of `n` independent evaluations of a strategy, each with a continuation of its own."""
    if n < 1:
        raise ValueError(f"`n` must be at least 1: given {n}.")
    return Average(strategy, n)
