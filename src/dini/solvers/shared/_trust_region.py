r"""What trust regions share: whether a move is accepted, and the radius.

A model predicts the decrease :math:`m` of a move in scaled variables. With the ratio of the actual decrease to it,

.. math:: \rho = \frac{f(x) - f(x + p)}{m} , \qquad (1)

a move is accepted where :math:`\rho > 10^{-4}`. The radius grows by 2.5 after moves to the boundary with
:math:`\rho > 3/4`, and shrinks where :math:`\rho < 1/4`. After a rejected move the radius is a share of its length,

.. math:: \frac{-g^\top p}{2 (f(x + p) - f(x) - g^\top p)} , \qquad (2)

the minimizer of a parabola, from .1 to .5 (Nocedal and Yuan, "Combining trust region and line search techniques",
1998). Where both decreases are below the rounding of the values, :math:`\rho` is one; the gradient decides where that
is in doubt, and must decrease.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ... import trees
from ...trees import Tree
from ._line_method import ROUNDING, LineMethod, Pair, State, size_of

#: the least ratio (1) of an accepted move
DECREASE = 1e-4
#: what the first radius is of the size of the start: a first move to zero would end where an even function is
#: stationary, be it a maximum
FIRST = 0.93
#: trials from one point
TRIALS = 40


class Region(NamedTuple):
    """A trust region: the multiple of the move to try, the slope along it, the radius, and the number of trials."""

    trial: Any
    slope: Any
    radius: Any
    trials: Any


class TrustRegion(LineMethod):
    """Base of the trust regions; ``radius`` is the first radius, in the user's units."""

    radius: Any = None

    @property
    def scales_unknowns(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether steps are taken in scaled variables; a radius that is given is in the user's."""
        return self.radius is None

    def predicted(self, state: State, move: Tree) -> Any:
        """Return the decrease that the model predicts of a move."""
        raise NotImplementedError

    def scaled_gradient(self, state: State) -> Any:
        """Return the gradient of the accepted point in scaled variables."""
        return jax.tree.map(jnp.multiply, state.scaling, state.gradient)

    def bracket(self, state: State) -> Region:
        """Return the region."""
        return Region(*state.search)

    def exhausted(self, bracket: Region) -> Any:
        """Return whether no move is left to try."""
        return bracket.trials >= TRIALS

    def unbounded(self, bracket: Region) -> Any:
        """Return that moves have ends."""
        return jnp.zeros_like(bracket.trials, bool)

    def begin_search(self, length: Any, state: State, slope: Any) -> Any:
        """Return the region around a new point; the radius before the first move is infinite."""
        zero = jnp.zeros_like(slope)
        radius = jnp.full_like(slope, jnp.inf) if state.search is None else state.search[2]
        first = jnp.asarray(length) > 0
        gradient, point = self.scaled_gradient(state), trees.where(first, state.extent, trees.zeros_like(state.extent))
        start = self.first_radius(gradient, point, state)
        radius = jnp.where(first & jnp.isinf(radius), start, radius)
        return jnp.stack([zero + length, slope, radius, zero])

    def first_radius(self, gradient: Tree, point: Tree, state: State) -> Any:
        """Return the radius of the first move: nearly the size of the point, or to where the linear model is zero."""
        dtype = state.error.dtype
        if self.radius is not None:
            return jnp.asarray(self.radius, dtype)
        size, slope = size_of(point, state.scaling).astype(dtype), trees.norm(gradient).astype(dtype)
        ahead = jnp.abs(state.value) / jnp.where(slope > 0, slope, 1)
        ahead = jnp.where((ahead > 0) & jnp.isfinite(ahead), ahead, 1)
        return jax.lax.stop_gradient(FIRST * jnp.where(size > 0, size, ahead))

    def judge(self, state: State, bracket: Region, value: Any, pair: Pair) -> tuple[Any, Any]:
        """Return whether the move is accepted by (1), and the region with the next radius."""
        seen = jax.lax.stop_gradient((state, value, pair))
        state, value, pair = seen
        eps = jnp.finfo(value.dtype).eps
        predicted, products = self.predicted(state, pair.move), pair.products
        room, doubtful = ROUNDING * eps * jnp.abs(state.value), eps**0.5 * jnp.abs(state.value)
        fall = state.value - value
        rho = (fall + room) / jnp.maximum(predicted + room, jnp.finfo(value.dtype).tiny)
        old = products.gg - 2 * products.yg + products.yy
        share = jnp.where(-fall > room, 0.25, 1)
        shown = (predicted <= doubtful) & (-fall <= doubtful) & (products.gg < share * old)
        rho = jnp.where(shown, jnp.maximum(rho, 1), rho)
        finite = jnp.isfinite(value) & jnp.isfinite(products.gg)
        fits = finite & (rho > DECREASE)
        length, radius = jnp.sqrt(products.ss), bracket.radius
        grown = jnp.where(length > 0.9 * radius, 2.5 * radius, radius)
        # (2); NaN and infinity give a tenth
        slope = products.sg - products.sy
        parabola = -0.5 * slope / (-fall - slope)
        shorter = jnp.where((parabola > 0.1) & (parabola < 0.5), parabola, jnp.where(parabola >= 0.5, 0.5, 0.1))
        after = jnp.where(rho > 0.75, grown, jnp.where(rho < 0.25, 0.5 * length, radius))
        after = jnp.where(pair.first, radius, jnp.where(fits, after, shorter * length))
        trial = jnp.where(fits, bracket.trial, shorter * bracket.trial)
        return fits, Region(trial, bracket.slope, after, bracket.trials + 1)
