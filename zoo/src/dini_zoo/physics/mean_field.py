"""A differentiable mean field of a population: maps of Lotka and Volterra's form, fitted to what it did."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, finite, known, not_negative, positive, same_shape, within

from .agents import ABM, Trajectory, simulate
from .policies import Schedule


def monomials(z: Float[Array, " k"], degree: int = 2) -> Float[Array, " f"]:
    """All products of at most `degree` of the numbers, the empty one first: 10 for three numbers and degree 2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(monomials(jnp.array([2.0, 3.0])))
    [1. 2. 3. 4. 6. 9.]
    """
    sets = itertools.chain.from_iterable(
        itertools.combinations_with_replacement(range(z.shape[0]), size) for size in range(degree + 1)
    )
    return jnp.stack([math.prod((z[i] for i in chosen), start=jnp.ones((), z.dtype)) for chosen in sets])


def _array(value: Any) -> Array:
    return jnp.asarray(value, float)


class LotkaVolterraMap(eqx.Module):
    r"""A step of a population with rates per head that are polynomials of the counts.

    .. math:: g_i(x, u) = \max\Bigl(0,\; x'_i \bigl(1 + \textstyle\sum_f C_{if}\, \varphi_f(x' / \sigma)\bigr)\Bigr),

    where :math:`x'_i = (1 - u_j) x_i` for the species that the control `j` removes, and :math:`x'_i = x_i` for the
    others. What has died out stays so: `g` maps 0 to 0.

    Parameters
    ----------
    coefficients
        `C`, a row for each species; `f` runs over :func:`monomials`.
    scale
        `σ`, a usual count of each species.
    controlled
        Which species each control removes, by index.
    degree
        Of the polynomials.
    """

    coefficients: Float[Array, "k f"] = eqx.field(converter=_array)
    scale: Float[Array, " k"] = eqx.field(converter=_array)
    controlled: tuple[int, ...] = eqx.field(static=True)
    degree: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        k = self.scale.shape[-1]
        within("controlled", self.controlled, k)
        if self.coefficients.shape[-2:] != (k, math.comb(k + self.degree, self.degree)):
            raise ValueError(
                f"coefficients must have {k} rows, as scale has, of {math.comb(k + self.degree, self.degree)} numbers: "
                f"given the shape {self.coefficients.shape}."
            )

    def thinned(self, x: Float[Array, " k"], u: Float[Array, " m"]) -> Float[Array, " k"]:
        """The counts after the removals; `ValueError` unless controls and counts are as many as the map has."""
        same_shape("u", u, "the controls", (len(self.controlled),))
        same_shape("x", x, "scale", jnp.shape(self.scale))
        return x * (1 - jnp.zeros_like(x).at[jnp.array(self.controlled, int)].add(u))

    def __call__(self, x: Float[Array, " k"], u: Float[Array, " m"]) -> Float[Array, " k"]:
        """About the mean of the counts after a step."""
        left = self.thinned(x, u)
        return jnp.maximum(0.0, left * (1 + self.coefficients @ monomials(left / self.scale, self.degree)))


class Transitions(NamedTuple):
    """Steps of a population."""

    x: Float[Array, "n k"]
    """The counts before."""
    u: Float[Array, "n m"]
    """The controls."""
    after: Float[Array, "n k"]
    """The counts after."""


def random_controls(
    key: Array, runs: int, steps: int, most: Sequence[float], *, hold: int = 10, active: float = 0.6
) -> Float[Array, "runs T m"]:
    """Controls that excite a population: uniform from 0 to `most` with the probability `active`, else 0.

    Each keeps its value for `hold` steps.
    """
    at_least("hold", hold, 1)
    shape = (runs, -(-steps // hold), len(most))
    level, chance = jax.random.uniform(key, (2, *shape))
    u = jnp.where(chance < active, level, 0.0) * jnp.asarray(most, float)
    return jnp.repeat(u, hold, axis=1)[:, :steps]


def record_transitions(abm: ABM, controls: Float[Array, "runs T m"], key: Array) -> Transitions:
    """What a population does under given controls, each run from a random start."""
    runs, steps, _ = controls.shape
    path = jax.vmap(lambda u, key: simulate(abm, Schedule(u), key, steps))(controls, jax.random.split(key, runs))
    return transitions_of(path)


def transitions_of(paths: Trajectory) -> Transitions:
    """The steps of several simulations."""
    flat = lambda part: part.reshape(-1, part.shape[-1])
    return Transitions(flat(paths.x[..., :-1, :]), flat(paths.u), flat(paths.x[..., 1:, :]))


def fit_mean_field(
    data: Transitions, *, scale: Sequence[float], controlled: Sequence[int], degree: int = 2, least: float = 5.0
) -> LotkaVolterraMap:
    r"""Fit a map of Lotka and Volterra's form to steps of a population.

    .. math:: \min_C\; \sum_n \sum_i \Bigl(x'_{ni} \bigl(1 + \textstyle\sum_f C_{if} \varphi_f(x'_n / \sigma)\bigr)
              - \bar x_{ni}\Bigr)^2 / \sigma_i^2

    over the steps `n` from `x` to :math:`\bar x`, by :func:`dini.least_squares`: the coefficients have derivatives in
    the data. Most of what a single step does is noise. So little of its variance is explained even by the best map;
    how good it is, a controller tells.

    Parameters
    ----------
    data
        From :func:`record_transitions`, say.
    scale, controlled, degree
        As in :class:`LotkaVolterraMap`.
    least
        Steps from a count below this are left out: the mean of few is not informative.

    Raises
    ------
    ValueError
        Where shapes do not fit, a number is not finite, or the steps that are left do not determine the coefficients
        (where they can be looked at: not in a program that is being traced).
    """
    k = data.x.shape[-1]
    scale = jnp.asarray(scale, float)
    same_shape("scale", scale, "the counts", (k,))
    same_shape("data.after", data.after, "data.x", data.x.shape)
    same_shape("data.u", data.u, "data.x and controlled", (data.x.shape[0], len(controlled)))
    positive("scale", scale)
    not_negative("least", least)
    finite("data", data)
    features = math.comb(k + degree, degree)
    model = lambda coefficients: LotkaVolterraMap(coefficients, scale, tuple(controlled), degree)
    if known(data.x) and known(data.u):
        many = np.all(np.asarray(data.x) >= least, axis=1)
        at_least(f"the number of steps from counts of at least {least:g}", int(np.sum(many)), features)
        _require_excitation(model(jnp.zeros((k, features))), data.x[many], data.u[many])

    def residual(coefficients: Array, data: Transitions) -> Array:
        # the map before its kink at zero: linear in the coefficients
        def one(x: Array, u: Array, after: Array) -> Array:
            left = model(coefficients).thinned(x, u)
            predicted = left * (1 + coefficients @ monomials(left / scale, degree))
            return jnp.where(jnp.all(x >= least), (predicted - after) / scale, 0.0)

        return jax.vmap(one)(*data)

    start = jnp.zeros((k, features), data.x.dtype)
    found = dini.least_squares(residual, start, data, solver=dini.GaussNewton())
    return LotkaVolterraMap(found.x, scale, tuple(controlled), degree)


def _require_excitation(model: LotkaVolterraMap, x: Array, u: Array) -> None:
    """Raise where steps from these counts do not tell all coefficients of a species apart."""
    left = jax.vmap(model.thinned)(x, u)
    features = np.asarray(jax.vmap(lambda z: monomials(z, model.degree))(left / model.scale), np.float64)
    for i in range(left.shape[1]):
        columns = np.asarray(left, np.float64)[:, i, None] * features
        size = np.linalg.norm(columns, axis=0)
        rank = int(np.linalg.matrix_rank(columns / np.where(size > 0, size, 1.0)))
        if rank < columns.shape[1]:
            raise ValueError(
                f"data must determine the {columns.shape[1]} coefficients of each species: given counts that tell "
                f"{rank} of those of species {i} apart. Excite the population with controls, or lower degree."
            )


def explained_increments(g: Any, data: Transitions) -> Float[Array, " k"]:
    """The share of the variance of the steps `x̄ - x` that a map explains, of each species."""
    missed = data.after - jax.vmap(g)(data.x, data.u)
    steps = data.after - data.x
    return 1 - jnp.sum(missed**2, axis=0) / jnp.sum((steps - jnp.mean(steps, axis=0)) ** 2, axis=0)
