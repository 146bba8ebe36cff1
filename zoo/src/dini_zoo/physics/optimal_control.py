"""The best controls of a mean field, chosen beforehand: by shooting, or as a program of states and controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import dini
from dini_zoo.kit.checking import at_least, finite, one_of

from .estimators import MeanFieldMap, mean_field_rollout
from .policies import Schedule


class Plan(NamedTuple):
    """Controls that were chosen beforehand."""

    u: Float[Array, "T m"]
    x: Float[Array, "T+1 k"]
    """The counts of the mean field under them."""
    cost: Float[Array, ""]
    solution: dini.Solution
    """What dini found."""


def open_loop_optimal_control(
    g: MeanFieldMap,
    x0: Float[Array, " k"],
    cost: Callable[[Array, Array], Array],
    steps: int,
    *,
    lower: Any,
    upper: Any,
    start: Any = None,
    method: Literal["shooting", "collocation"] = "shooting",
    hold: int = 1,
    segment: int = 1,
    **options: Any,
) -> Plan:
    r"""The controls of least cost of a mean field, from `x0` on.

    .. math:: \min_{u}\; J(x_1, \dots, x_T, u) \quad\text{where}\quad x_{t+1} = g(x_t, u_t), \; l \le u_t \le h

    Shooting has the controls as its unknowns, and follows the map. Collocation (the direct transcription of the map)
    has the states as unknowns, too, and the map as equalities: a long horizon then is not a product of many Jacobians,
    and a start may say what the states should be. Both have the same minima. Either one is solved by
    :func:`dini.minimize`, and has its derivatives: in `x0`, and in what `g` holds, such as fitted coefficients.

    Parameters
    ----------
    g
        `g(x, u)`.
    x0
        The counts to start from.
    cost
        `cost(x, u)`, of the counts after each step and the controls.
    steps
        `T`.
    lower, upper
        Bounds of the controls, numbers or arrays of shape `(m,)`. At least one has that shape.
    start
        The controls to start with, of shape `(T, m)` or `(m,)`; the middle of the bounds if not given. The problem may
        have several minima.
    method
        `"shooting"` or `"collocation"`.
    hold
        Steps for which a control stays; it divides `steps`.
    segment
        Of collocation: states are unknowns after every so many steps, between which the map is followed (multiple
        shooting). Its matrices are dense: keep `steps / hold` controls and `steps / segment` states to a few hundred
        numbers. It divides `steps`.
    options
        Of :func:`dini.minimize`, such as `solver`.

    Raises
    ------
    ValueError
        Where shapes, bounds or divisors do not fit.
    dini.SolveError
        Where dini finds no minimum, with what to do.
    """
    one_of("method", method, ("shooting", "collocation"))
    for name, count in (("steps", steps), ("hold", hold), ("segment", segment)):
        at_least(name, count, 1)
    for name, count in (("hold", hold), ("segment", segment)):
        if steps % count:
            raise ValueError(f"{name} must divide the number of steps, {steps}: given {count}.")
    x0 = jnp.asarray(x0, float)
    finite("x0", x0)
    lower, upper = jnp.broadcast_arrays(*(jnp.asarray(bound, x0.dtype) for bound in (lower, upper)))
    if lower.ndim != 1:
        raise ValueError(f"lower or upper must have a number for each control: given the shape {lower.shape}.")
    blocks = steps // hold
    middle = (lower + upper) / 2 if start is None else jnp.asarray(start, x0.dtype)
    u0 = jnp.broadcast_to(middle, (steps, lower.shape[0]))[::hold]
    whole = lambda u: jnp.repeat(u, hold, axis=0)
    low, high = (jnp.broadcast_to(bound, (blocks, *bound.shape)) for bound in (lower, upper))

    def follow(g: Any, x0: Array, u: Array) -> Array:
        return mean_field_rollout(g, Schedule(u), x0, u.shape[0])[0]

    if method == "shooting":
        found = dini.minimize(
            lambda u, g, x0: cost(follow(g, x0, whole(u))[1:], whole(u)),
            u0,
            g,
            x0,
            constraint=dini.sets.Box(low, high),
            **options,
        )
        u = whole(found.x)
        return Plan(u, follow(g, x0, u), found.value, found)

    def pieces(unknown: tuple[Array, Array], g: Any, x0: Array) -> Array:
        """The counts after each step, from the states at the beginning of each segment on."""
        u, states = unknown
        starts = jnp.concatenate([x0[None], states[:-1]])
        controls = whole(u).reshape(steps // segment, segment, -1)
        return jax.vmap(lambda x, u: follow(g, x, u)[1:])(starts, controls)

    def value(unknown: tuple[Array, Array], g: Any, x0: Array) -> Array:
        return cost(pieces(unknown, g, x0).reshape(steps, -1), whole(unknown[0]))

    def gaps(unknown: tuple[Array, Array], g: Any, x0: Array) -> Array:
        return pieces(unknown, g, x0)[:, -1] - unknown[1]

    states = follow(g, x0, whole(u0))[segment::segment]
    box = dini.sets.Box((low, jnp.zeros_like(states)), (high, jnp.full_like(states, jnp.inf)))
    found = dini.minimize(value, (u0, states), g, x0, equality=gaps, constraint=box, **options)
    u = whole(found.x[0])
    return Plan(u, follow(g, x0, u), found.value, found)
