"""A line search that takes one trial a call."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

#: sufficient decrease and curvature constants of the weak Wolfe conditions
_DECREASE, _CURVATURE = 1e-4, 0.9
_MAX_TRIALS = 40


class Bracket(NamedTuple):
    """A search along a line: its start, and an interval of step sizes that holds an acceptable one; all floats."""

    trial: Any
    slope: Any
    low: Any
    high: Any
    low_value: Any
    low_slope: Any
    trials: Any

    @classmethod
    def fresh(cls, trial: Any, value: Any, slope: Any) -> Bracket:
        """Return a search that has not begun, from a point with the given value and slope."""
        zero = jnp.zeros_like(value)
        infinity = jnp.full_like(value, jnp.inf)
        trial, slope = jnp.asarray(trial, value.dtype), jnp.asarray(slope, value.dtype)
        return cls(trial, slope, zero, infinity, value, slope, zero)

    @property
    def exhausted(self) -> Any:
        """Whether the search has failed: too many trials."""
        return self.trials >= _MAX_TRIALS


def search(bracket: Bracket, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Bracket]:
    r"""Judge the trial step and return whether to accept it, and the bracket with the next trial.

    Accepted are the weak Wolfe conditions :math:`\varphi(t) \le \varphi(0) + c_1 t \varphi'(0)` and
    :math:`\varphi'(t) \ge c_2 \varphi'(0)`; where values differ by no more than their rounding error ``slack``, the
    first one becomes :math:`\varphi'(t) \le (2 c_1 - 1) \varphi'(0)`. A step that is too long (or not finite) becomes
    the upper end, one that is too short the lower end; the next trial minimizes a parabola through what is known, kept
    inside the interval.
    """
    # where a search goes next is a constant of differentiation: at a solution it does not matter, and the parabola's
    # derivative need not exist
    bracket, start_value, value, slope = jax.lax.stop_gradient((bracket, start_value, value, slope))
    t, start = bracket.trial, bracket.slope
    decreases = value <= start_value + _DECREASE * t * start
    approximately = (value <= start_value + slack) & (slope <= (2 * _DECREASE - 1) * start)
    enough = (decreases | approximately) & jnp.isfinite(value) & jnp.isfinite(slope)
    width = t - bracket.low

    # too long: the parabola through the low end's value and slope and the trial's value; NaN where it tells nothing
    bend = value - bracket.low_value - bracket.low_slope * width
    parabola = -0.5 * bracket.low_slope * width / bend
    shorter = jnp.where((parabola > 0.1) & (parabola < 0.5), parabola, jnp.where(parabola >= 0.5, 0.5, 0.1))

    # too short: the secant through both slopes, in an interval that is four times as long while it has no end
    room = jnp.where(jnp.isinf(bracket.high), 3 * t, bracket.high - t)
    secant = -slope * width / ((slope - bracket.low_slope) * room)
    longer = jnp.where((secant > 0.1) & (secant < 0.9), secant, jnp.where(secant <= 0.1, 0.1, 0.9))

    return enough & (slope >= _CURVATURE * start), Bracket(
        jnp.where(enough, t + longer * room, bracket.low + shorter * width),
        start,
        jnp.where(enough, t, bracket.low),
        jnp.where(enough, bracket.high, t),
        jnp.where(enough, value, bracket.low_value),
        jnp.where(enough, slope, bracket.low_slope),
        bracket.trials + 1,
    )
