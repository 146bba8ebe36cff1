"""A line search that takes one trial a call."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

#: sufficient decrease and curvature constants of the weak Wolfe conditions
_DECREASE, _CURVATURE = 1e-4, 0.9
_MAX_TRIALS = 40


class Bracket(NamedTuple):
    """An interval of step sizes, relative to the point where the search started, that holds an acceptable one."""

    trial: Any
    low: Any
    high: Any
    low_value: Any
    low_slope: Any
    trials: Any

    @classmethod
    def fresh(cls, dtype: Any, start: Any) -> Bracket:
        """Return the bracket of a search that has not begun; NaN stands for the starting point's value and slope."""
        nan = jnp.full((), jnp.nan, dtype)
        return cls(
            jnp.asarray(start, dtype),
            jnp.zeros((), dtype),
            jnp.full((), jnp.inf, dtype),
            nan,
            nan,
            jnp.zeros((), jnp.int32),
        )

    @property
    def exhausted(self) -> Any:
        """Whether the search has failed: too many trials."""
        return self.trials >= _MAX_TRIALS


def search(
    bracket: Bracket, start_value: Any, start_slope: Any, value: Any, slope: Any, slack: Any
) -> tuple[Any, Bracket]:
    r"""Judge the trial step and return whether to accept it, and the bracket with the next trial.

    Accepted are the weak Wolfe conditions :math:`\varphi(t) \le \varphi(0) + c_1 t \varphi'(0)` and
    :math:`\varphi'(t) \ge c_2 \varphi'(0)`; where values differ by no more than their rounding error ``slack``, the
    first one becomes :math:`\varphi'(t) \le (2 c_1 - 1) \varphi'(0)`. A step that is too long (or not finite) becomes
    the upper end, one that is too short the lower end; the next trial minimizes a parabola through what is known,
    kept inside the interval.
    """
    t = bracket.trial
    low_value = jnp.where(jnp.isnan(bracket.low_value), start_value, bracket.low_value)
    low_slope = jnp.where(jnp.isnan(bracket.low_slope), start_slope, bracket.low_slope)
    decreases = value <= start_value + _DECREASE * t * start_slope
    approximately = (value <= start_value + slack) & (slope <= (2 * _DECREASE - 1) * start_slope)
    enough = (decreases | approximately) & jnp.isfinite(value) & jnp.isfinite(slope)
    steep = slope < _CURVATURE * start_slope
    accept = enough & ~steep

    # too long: the parabola through the low end's value and slope and the trial's value
    width = t - bracket.low
    bend = value - low_value - low_slope * width
    down = jnp.where(
        jnp.isfinite(bend) & (bend > 0), -0.5 * low_slope * width**2 / jnp.where(bend > 0, bend, 1), 0.5 * width
    )
    down = bracket.low + jnp.clip(jnp.where(jnp.isfinite(value), down, 0.1 * width), 0.1 * width, 0.5 * width)

    # too short: the secant through both slopes
    rise = slope - low_slope
    secant = t + width * jnp.where(rise > 0, -slope / jnp.where(rise > 0, rise, 1), 3.0)
    room = bracket.high - t
    open_ended = jnp.isinf(bracket.high)
    farthest = jnp.where(open_ended, 4 * t, t + 0.9 * jnp.where(open_ended, 0, room))
    nearest = jnp.where(open_ended, 1.5 * t, t + 0.1 * jnp.where(open_ended, 0, room))
    up = jnp.clip(secant, nearest, farthest)

    return accept, Bracket(
        jnp.where(enough, up, down).astype(t.dtype),
        jnp.where(enough, t, bracket.low),
        jnp.where(enough, bracket.high, t),
        jnp.where(enough, value, low_value).astype(t.dtype),
        jnp.where(enough, slope, low_slope).astype(t.dtype),
        bracket.trials + 1,
    )
