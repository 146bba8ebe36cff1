r"""Distances of signed measures of equal total weight, as losses.

The Kantorovich-Rubinstein distance is optimal transport between what is positive in :math:`\mu - \nu` and what is
negative,

.. math:: \mathrm{KR}(\mu, \nu) = \min_{P \ge 0} \langle C, P \rangle \quad \text{with marginals} \quad
    \mu^+ + \nu^- ,\; \nu^+ + \mu^- , \qquad C_{ij} = \|p_i - q_j\|_1 ,

a linear program over dini's transportation polytope. By the envelope theorem its derivative in the points is that of
:math:`\langle C, P^* \rangle` with the plan held. The sliced distance is the mean over directions of the same on a
line, :math:`\int |(\mu - \nu)((-\infty, t])| dt`, which needs a sort alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

import dini
from dini.sets import TransportationPolytope
from dini_zoo.kit.checking import at_least, known

from .measures import SignedMeasure


class Transport(NamedTuple):
    """A distance and how it was found."""

    distance: Float[Array, ""]
    plan: Float[Array, "M+N M+N"]
    """Mass from the points of the first measure and then the second one to the same: rows of positive weight of the
    first or negative of the second, columns of the others."""
    converged: Bool[Array, ""]


def _together(mu: SignedMeasure, nu: SignedMeasure) -> tuple[Array, Array]:
    """The points of both and the weights of their difference; NaN where the totals differ."""
    if mu.points.shape[1] != nu.points.shape[1]:
        columns = (mu.points.shape[1], nu.points.shape[1])
        raise ValueError(f"mu and nu must have points of as many coordinates: given {columns[0]} and {columns[1]}.")
    if known(mu.weights) and known(nu.weights):
        totals = [float(np.asarray(one.weights).sum()) for one in (mu, nu)]
        if totals[0] != totals[1]:
            raise ValueError(f"mu and nu must have the same total weight: given {totals[0]:g} and {totals[1]:g}.")
    for name, one in (("mu", mu), ("nu", nu)):
        if known(one.points) and np.isinf(one.points).any():
            raise ValueError(f"{name} must have finite points: given infinite ones. `{name}.capped(bounds)` has none.")
    points = jnp.concatenate([mu.points, nu.points])
    weights = jnp.concatenate([mu.weights, -nu.weights])
    return points, weights + jnp.where(jnp.sum(weights) == 0, 0, jnp.nan)


def sliced_wasserstein(
    mu: SignedMeasure, nu: SignedMeasure, directions: int | Float[Array, "L n"] = 16
) -> Float[Array, ""]:
    r"""The mean over directions :math:`u` of :math:`\int |(\mu - \nu)(\{p : \langle u, p \rangle \le t\})|\, dt`.

    Parameters
    ----------
    mu, nu
        Of one total weight. The empty measure is one of weight zero.
    directions
        Vectors, which need not have length 1; or for two coordinates how many, evenly spread over half a circle.

    Raises
    ------
    ValueError
        Where total weights or numbers of coordinates differ, a point is infinite, or a number of directions is given
        for other than two coordinates. Of traced measures of unequal weight the distance is NaN.

    Examples
    --------
    >>> from dini_zoo.topology.multiparameter_persistence import graph_filtration, signed_measure
    >>> of = lambda values: signed_measure(graph_filtration(jnp.array(values), jnp.array([[0, 1]])), invariant="euler")
    >>> print(sliced_wasserstein(of([0.0, 1.0]), of([0.5, 1.0]), jnp.array([[1.0]])))
    0.5
    """
    points, weights = _together(mu, nu)
    if isinstance(directions, int | np.integer):
        at_least("directions", directions, 1)
        if points.shape[1] != 2:
            raise ValueError(f"directions must be vectors of {points.shape[1]} numbers: given how many.")
        angles = np.pi * (np.arange(directions) + 0.5) / directions
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    directions = jnp.asarray(directions, points.dtype)
    if directions.ndim != 2 or directions.shape[1] != points.shape[1]:
        raise ValueError(f"directions must have {points.shape[1]} columns: given shape {directions.shape}.")
    at_least("the number of directions", len(directions), 1)

    def along(direction: Array) -> Array:
        line = points @ direction
        order = jnp.argsort(jax.lax.stop_gradient(line))
        flow = jnp.cumsum(weights[order])[:-1]
        return jnp.sum(jnp.abs(flow) * jnp.diff(line[order]))

    return jnp.mean(jax.vmap(along)(directions))


def transport(mu: SignedMeasure, nu: SignedMeasure, *, on_failure: str = "raise") -> Transport:
    """The Kantorovich-Rubinstein distance with its plan; `on_failure="ignore"` says in `converged` what else raises."""
    points, weights = _together(mu, nu)
    cost, *program, masses = _program(points, weights)
    # proximal points of a linear program: with a step as long as the precision allows a few of them end it
    step = jnp.asarray(float(jnp.finfo(points.dtype).eps) ** -0.25, points.dtype)
    solver = dini.FixedPointIteration(max_steps=1000)
    found = dini.fixed_point(
        _proximal_step, *jax.lax.stop_gradient(program), step, solver=solver, on_failure=on_failure
    )
    plan = masses * jax.lax.stop_gradient(found.x)
    return Transport(jnp.sum(plan * cost), plan, found.status == 0)


@jax.jit
def _program(points: Array, weights: Array) -> tuple[Array, ...]:
    """The costs; a plan to start from, costs and marginals in units of their own; the marginals' unit."""
    rows, columns = jnp.maximum(weights, 0), jnp.maximum(-weights, 0)
    apart = points[:, None] - points
    # equal points do not pull
    cost = jnp.sum(jnp.where(apart == 0, 0, jnp.abs(apart)), axis=-1)
    unit = lambda x: jnp.where(jnp.max(x) > 0, jnp.max(x), 1)
    masses = jax.lax.stop_gradient(unit(rows))
    rows, columns = rows / masses, columns / masses
    start = rows[:, None] * columns / unit(jnp.sum(rows))
    return cost, start, cost / unit(cost), rows, columns, masses


def _proximal_step(plan: Array, cost: Array, rows: Array, columns: Array, step: Array) -> Array:
    return TransportationPolytope(rows, columns).project(plan - step * cost)


def kantorovich_rubinstein(mu: SignedMeasure, nu: SignedMeasure) -> Float[Array, ""]:
    """The Kantorovich-Rubinstein distance for the norm of absolute values; its derivative is the plan's.

    Its cost grows with the cube of the room for points in both measures: `max_points` should not be much larger than
    what is needed.

    Raises
    ------
    ValueError
        As `sliced_wasserstein`.
    dini.SolveError
        Where the linear program was not solved.

    Examples
    --------
    >>> from dini_zoo.topology.multiparameter_persistence import graph_filtration, signed_measure
    >>> of = lambda values: signed_measure(graph_filtration(jnp.array(values), jnp.array([[0, 1]])), invariant="euler")
    >>> print(kantorovich_rubinstein(of([0.0, 1.0]), of([0.5, 1.0])).round(3))
    0.5
    """
    return transport(mu, nu).distance
