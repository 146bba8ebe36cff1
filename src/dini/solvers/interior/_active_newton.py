r"""Newton's method for the equations of the active constraints, from a point nearby.

In units of the start, with the constraints that are active and their multipliers :math:`y`, and the bounds that are
active held fixed, one step solves the linearization of

.. math:: \nabla f(u) + J(u)^\top y = 0, \qquad c(u) - \delta (y - \bar y) = 0

where :math:`\delta` is tiny, so that multipliers are defined where gradients are dependent. With a set or a penalty the
first part is :math:`\eta^{-1} (u - \mathrm{prox}_{\eta g}(u - \eta (\nabla f + J^\top y)))`, and the step a semismooth
one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ...conditions._activity import active
from ...linear import DENSE_LIMIT, GMRES, MINRES, Dense
from ...trees.products import dot
from ._interior_state import softness
from ._program_view import Units, View
from ._second_look import pace

#: so many steps, each of which has to leave so much of the error of the last
_STEPS, _LESS = 6, 0.1


class Refined(NamedTuple):
    """A point in the problem's own units, its multipliers in those of the start, and what was measured there.

    ``leaps`` tells whether Newton's method would go farther from it than its own size, ``drifts`` whether its steps
    become no shorter; ``step`` is the last one that was taken.
    """

    x: Any
    y: Any
    known: Any
    leaps: Any
    drifts: Any
    step: Any

    @classmethod
    def of(cls, x: Any, y: Any, known: Any) -> Refined:
        """Return a point before the first step."""
        no = jnp.zeros((), bool)
        return cls(x, y, known, no, no, jnp.zeros_like(x))


def refined(
    view: View, units: Units, start: Refined, measured: Callable[[jax.Array, jax.Array], Any], tol: jax.Array
) -> Refined:
    """Return a point with a smaller error, or the one that is given.

    What is active is what has a multiplier larger than its slack, in units of the start. ``measured(x, y)`` returns the
    error, the multipliers of the bounds and a proximal step size; a step that does not reduce the error by much is not
    taken.
    """

    def step(now: tuple[Refined, Any, Any]) -> tuple[Refined, Any, Any]:
        at, _, count = now
        x, y, leaps, singular = _stepped(view, units, at)
        step = (x - at.x) / units.length
        drifts = pace(at.step, step, at.x / units.length).drifts & ~singular
        known = measured(x, y)
        within = at.known.error <= tol
        better = known.error < jnp.where(within, 1, _LESS) * at.known.error
        at = at._replace(leaps=leaps, drifts=drifts)
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), Refined(x, y, known, leaps, drifts, step), at)
        # within the tolerance one more step takes the last digits; two show whether they become shorter
        return kept, better & (~within | (count == 0)), count + 1

    going = lambda now: now[1] & (now[2] < _STEPS)
    first = start, jnp.isfinite(start.known.error), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(going, step, first)[0]


def _stepped(view: View, units: Units, at: Refined) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return the point and the multipliers after one step, whether it is longer than the point, or of no system."""
    u, eta = at.x / units.length, at.known.step_size
    # the same step size in units of the point and the objective
    own = eta / (units.length**2 * units.objective)
    pins = (at.known.bounds != 0) | (view.lower >= view.upper)
    slack = -view.values(u, units)[1:]
    equal = jnp.arange(view.rows) < view.equalities
    keep = equal | active(at.y, slack)
    held = jnp.where(keep, at.y, 0)
    gives = softness(u.dtype)

    def equations(w: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        v, y = w
        v = jnp.where(pins, u, v)

        def lagrangian(v: jax.Array) -> tuple[jax.Array, jax.Array]:
            values = view.values(v, units)
            return values[0] + dot(jnp.where(keep, y, 0), values[1:]), values

        force, values = jax.grad(lagrangian, has_aux=True)(v)
        if view.part is not None:
            force = (v - view.prox(units.length * (v - own * force), eta) / units.length) / own
        return jnp.where(pins, w[0] - u, force), jnp.where(keep, values[1:] - gives * (y - held), y)

    left, product = jax.linearize(equations, (u, at.y))
    symmetric = None if view.part is not None else "symmetric"
    solver = Dense() if view.unknowns + view.rows <= DENSE_LIMIT else (MINRES() if symmetric else GMRES())
    (du, dy), singular = solver(product, jax.tree.map(jnp.negative, left), symmetric)
    x = jnp.where(pins, at.x, jnp.clip(at.x + units.length * du, view.lower, view.upper))
    y = at.y + dy
    y = jnp.where(equal, y, jnp.where(keep, jnp.maximum(y, 0), 0))
    leaps = ~(jnp.max(jnp.abs(du), initial=0) <= jnp.max(jnp.abs(u), initial=0))
    return (x if view.part is None else view.snapped(x, y, units, eta)), y, leaps, singular
