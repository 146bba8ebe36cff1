r"""A noise, a prior or another weight of an inverse problem, tuned through the solution of the problem.

For each of `m` sets of data the unknowns are those of least energy, :math:`z^* = \arg\min_z \tfrac12 |r(z,
\theta)|^2`, which dini solves; :math:`\theta` minimizes a function of :math:`(z^*(\theta), \theta)`, whose derivative
dini takes through the solution. All sets share :math:`\theta`. There are two such functions: minus the logarithm of
the evidence, by Laplace's method, for what belongs to a density, such as a noise; and the error at observations that
were held out.

References ---------- MacKay, "Bayesian interpolation", Neural Computation 1992. Pedregosa, "Hyperparameter
optimization with approximate gradient", ICML 2016 (arXiv 1602.02355).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, finite, one_length

from .posteriors import negative_log_evidence

#: `(z, theta, data)`, of one set of data: a vector, half of whose squares is the energy.
Residual = Callable[[Float[Array, " d"], Any, Any], Float[Array, " r"]]
#: `(z, theta)` of all sets, `(m, d)`: a number.
Criterion = Callable[[Float[Array, "m d"], Any], Float[Array, ""]]


def inner_problem(residual: Residual, data: Any) -> dini.LeastSquares:
    """The least energies of all sets, a problem in `z` `(m, d)` with the parameter `theta`."""
    return dini.LeastSquares(lambda z, theta: jax.vmap(residual, in_axes=(0, None, 0))(z, theta, data))


def evidence(residual: Residual, normalizer: Callable[[Any], Float[Array, ""]], data: Any) -> Criterion:
    r"""Minus the logarithm of the evidence, the mean over the sets.

    Parameters
    ----------
    residual
        Of one set.
    normalizer
        Minus the logarithm of what stands before :math:`e^{-E}` in the densities of one set, a function of `theta`: of
        `n` observations with noise :math:`\sigma` it is :math:`n \log \sigma`, but for a constant.
    data
        A tree with an axis for the sets in front.
    """

    def value(z: Array, theta: Any) -> Array:
        def one(z: Array, data: Any) -> Array:
            return negative_log_evidence(lambda z: 0.5 * jnp.sum(residual(z, theta, data) ** 2), z)

        return jnp.mean(jax.vmap(one)(z, data)) + normalizer(theta)

    return value


class Tuned(NamedTuple):
    """Hyperparameters, the solutions there, and how they were found."""

    theta: Any
    z: Float[Array, "m d"]
    path: list[Any]
    """`theta` after each step."""
    value: Float[Array, ""]
    """The criterion at the end."""
    gradient: Any
    """Its derivative in `theta` there."""


def tune(
    criterion: Criterion,
    inner: dini.LeastSquares,
    theta: Any,
    z: Float[Array, "m d"],
    *,
    steps: int = 20,
    advance: Callable[[int], None] = lambda steps: None,
) -> Tuned:
    """Minimize a criterion in `theta` by HOAG, whose steps have no rate, from `z` as the first solution.

    Raises
    ------
    dini.SolveError
        Where the inner problem cannot be solved at the start.
    """
    at_least("steps", steps, 1)
    finite("theta", theta)
    one_length("z", z)
    method = dini.bilevel.HOAG(criterion, inner, solver=dini.LevenbergMarquardt())
    state = method.init(theta, z)
    path = []
    for _ in range(steps):
        state = method.step(state)
        path.append(state.theta)
        advance(1)
    at = dini.bilevel.value_and_hypergradient(criterion, inner, state.theta, state.x, solver=method.solver)
    return Tuned(state.theta, at.solution.x, path, at.value, at.gradient)
