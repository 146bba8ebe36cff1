r"""Multiparameter persistence landscapes.

.. math:: \lambda_k(x) = \sup\{\epsilon \ge 0 :
    \mathrm{rank}(H_i(K_{x - \epsilon v}) \to H_i(K_{x + \epsilon v})) \ge k\}

With the rank invariant's rectangles :math:`(b_j, d_j)` and weights :math:`w_j` the rank at :math:`\epsilon` is the
weight of those with :math:`e_j(x) = \min_c \min\bigl((x_c - b_{jc}) / v_c, (d_{jc} - x_c) / v_c\bigr) > \epsilon`, so
that :math:`\lambda_k(x)` is one of the :math:`e_j(x)`: the largest one at which the weight of all that are no less
reaches ``k``. No bisection, and the derivative is that of one coordinate of one rectangle.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dini_zoo.kit.checking import at_least, positive

from .complexes import Filtration
from .engines import Engine
from .measures import SignedMeasure, nan_if_bad, rectangles, signed_measure


def landscape(
    measure: SignedMeasure, k: int | tuple[int, ...], grid: Float[Array, "m n"], direction: Any = 1.0
) -> Float[Array, " m"] | Float[Array, "r m"]:
    """The landscape of a rank invariant's measure at some points.

    Parameters
    ----------
    measure
        A rank invariant's.
    k
        Which one, from 1 on; of several there is a row for each.
    grid
        A row for each point.
    direction
        Positive: one number, or one for each parameter, in the units of which the landscape is.

    Raises
    ------
    ValueError
        Where k is less than 1, a direction not positive, or the grid has another number of columns.

    Examples
    --------
    >>> from dini_zoo.topology.multiparameter_persistence import graph_filtration
    >>> filtration = graph_filtration(jnp.array([0.0, 0.5, 2.0]), jnp.array([[0, 2], [1, 2]]))
    >>> measure = signed_measure(filtration, 0, "rank", engine="numpy", max_points=4)
    >>> print(landscape(measure, 2, jnp.array([[1.0], [3.0]])))
    [0.5 0. ]
    """
    births, deaths = rectangles(measure)
    parameters = births.shape[1]
    levels = (k,) if isinstance(k, int | np.integer) else tuple(k)
    for one in levels:
        at_least("k", one, 1)
    positive("direction", direction)
    grid = jnp.asarray(grid, measure.points.dtype)
    if grid.ndim != 2 or grid.shape[1] != parameters:
        raise ValueError(f"grid must have {parameters} columns, one for each parameter: given shape {grid.shape}.")
    direction = jnp.broadcast_to(jnp.asarray(direction, grid.dtype), (parameters,))
    asked = jnp.asarray(levels, grid.dtype)

    def at(x: Array) -> Array:
        reach = jnp.concatenate([(x - births) / direction, (deaths - x) / direction], axis=1)
        # one coordinate decides; where two do, the first
        which = jnp.argmin(jax.lax.stop_gradient(reach), axis=1)
        ends = jnp.where(measure.mask, jnp.take_along_axis(reach, which[:, None], axis=1)[:, 0], -jnp.inf)
        order = jnp.argsort(-jax.lax.stop_gradient(ends))
        sorted_ends = ends[order]
        # the weight of all that reach as far, equal ones included
        weight = jnp.cumsum(measure.weights[order])
        last = jnp.searchsorted(-sorted_ends, -sorted_ends, side="right") - 1
        enough = weight[last] >= asked[:, None]
        first = jnp.argmax(enough, axis=1)
        found = sorted_ends[first]
        alive = jnp.any(enough, axis=1) & (found > 0)
        return jnp.where(alive, jnp.where(alive, found, 0), 0) + nan_if_bad(measure, x)

    found = jax.vmap(at, out_axes=1)(grid)
    return found[0] if isinstance(k, int | np.integer) else found


def multiparameter_landscape(
    filtration: Filtration,
    degree: int,
    k: int | tuple[int, ...],
    grid: Float[Array, "m n"],
    *,
    direction: Any = 1.0,
    max_points: int = 256,
    engine: Engine = "auto",
) -> Float[Array, " m"] | Float[Array, "r m"]:
    """The landscape of a filtration at some points; arguments as of `signed_measure` and `landscape`."""
    measure = signed_measure(filtration, degree, "rank", max_points=max_points, engine=engine)
    return landscape(measure, k, grid, direction)
