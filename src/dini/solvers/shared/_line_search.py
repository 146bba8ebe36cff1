"""Line searches that take one trial a call.

A search is an object of settings; what it knows is a :class:`Bracket`, which the solver carries from step to step. It
tests a trial by its value and slope: the trial is accepted, or the bracket shrinks around an acceptable step size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

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


class SecantBracket(NamedTuple):
    """A :class:`Bracket` with the slopes at both ends, the end that was replaced last, and the cycle of two secants.

    ``high_slope`` is NaN where the function is too high at the upper end for its slope to say anything.
    """

    trial: Any
    slope: Any
    low: Any
    high: Any
    low_value: Any
    low_slope: Any
    trials: Any
    high_slope: Any
    spare: Any
    spare_slope: Any
    width: Any
    secants: Any


class LineSearch:
    """Base of the line searches, frozen dataclasses of numbers that are part of the compiled program.

    Every search demands a sufficient decrease. Where values differ by no more than rounding may hide, the slope
    decides instead (the approximate Wolfe condition of Hager and Zhang), so that a search succeeds as near to a
    minimum as the gradient is exact. A trial that is NaN or infinite is too long.
    """

    decrease: float
    bracket: ClassVar[Any] = Bracket

    def _check_settings(self) -> None:
        name, curvature = type(self).__name__, getattr(self, "curvature", 1.0)
        if not 0 < self.decrease < curvature <= 1:
            raise ValueError(
                f"{name} needs 0 < decrease < curvature < 1: given decrease {self.decrease}"
                + (f" and curvature {curvature}." if hasattr(self, "curvature") else ".")
            )

    def begin(self, trial: Any, value: Any, slope: Any) -> Any:
        """Return a search that has not begun, from a point with the given value and slope."""
        zero, infinity = jnp.zeros_like(value), jnp.full_like(value, jnp.inf)
        trial, slope = jnp.asarray(trial, value.dtype), jnp.asarray(slope, value.dtype)
        return Bracket(trial, slope, zero, infinity, value, slope, zero)

    def judge(
        self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any, longest: Any = None
    ) -> tuple[Any, Any]:
        """Test the trial step and return whether to accept it, and the bracket with the next trial.

        ``slack`` is the difference that rounding may hide in the values, ``longest`` the longest step that may be
        taken: there, a sufficient decrease is enough.
        """
        # where a search goes next is a constant of differentiation: at a solution it does not matter, and the
        # derivative of an interpolation need not exist
        seen = jax.lax.stop_gradient((bracket, start_value, value, slope, slack))
        accept, new = self._judge(*seen)
        if longest is None:
            return accept, new
        accept = accept | (self._enough(*seen) & (bracket.trial >= longest))
        return accept, new._replace(trial=jnp.minimum(new.trial, longest))

    def _judge(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    def _enough(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> Any:
        """Return whether the value has decreased sufficiently."""
        start = bracket.slope
        decreases = value <= start_value + self.decrease * bracket.trial * start
        approximately = (value <= start_value + slack) & (slope <= (2 * self.decrease - 1) * start)
        return (decreases | approximately) & jnp.isfinite(value) & jnp.isfinite(slope)


def exhausted(bracket: Any) -> Any:
    """Return whether a search has failed: too many trials."""
    return bracket.trials >= _MAX_TRIALS


def unbounded(bracket: Any) -> Any:
    """Return whether a search has failed since the function falls along the whole line."""
    return exhausted(bracket) & jnp.isinf(bracket.high) & (bracket.low > 0)


def _shorter(bracket: Any, value: Any) -> Any:
    """Return the fraction of a step beyond the lower end that is too long at which to try next.

    It minimizes the parabola through the lower end's value and slope and the trial's value, kept in [0.1, 0.5]; NaN
    and infinity give 0.1.
    """
    width = bracket.trial - bracket.low
    bend = value - bracket.low_value - bracket.low_slope * width
    parabola = -0.5 * bracket.low_slope * width / bend
    return jnp.where((parabola > 0.1) & (parabola < 0.5), parabola, jnp.where(parabola >= 0.5, 0.5, 0.1))


def _longer(bracket: Any, slope: Any) -> tuple[Any, Any]:
    """Return the room beyond a trial that is too short (three times the trial without upper end), and a fraction of it.

    The fraction is where the secant through the slopes of lower end and trial vanishes, kept in [0.1, 0.9]. Where it
    vanishes nowhere ahead, since the function bends down, it is the middle, and without upper end the most.
    """
    width = bracket.trial - bracket.low
    open_ended = jnp.isinf(bracket.high)
    room = jnp.where(open_ended, 3 * bracket.trial, bracket.high - bracket.trial)
    far = jnp.where(open_ended, 0.9, 0.5)
    secant = -slope * width / ((slope - bracket.low_slope) * room)
    return room, jnp.where(secant > 0, jnp.clip(secant, 0.1, 0.9), far)


def _narrowed(bracket: Any, trial: Any, value: Any, slope: Any, ahead: Any) -> Bracket:
    """Return the interval whose lower end (where a good step is ``ahead``) or upper end (elsewhere) is the last trial.

    ``trial`` is the next one, ``value`` and ``slope`` are those of the last.
    """
    t = bracket.trial
    return Bracket(
        trial,
        bracket.slope,
        jnp.where(ahead, t, bracket.low),
        jnp.where(ahead, bracket.high, t),
        jnp.where(ahead, value, bracket.low_value),
        jnp.where(ahead, slope, bracket.low_slope),
        bracket.trials + 1,
    )


@dataclass(frozen=True)
class Backtracking(LineSearch):
    r"""Shorten the step until it decreases the function sufficiently (Armijo).

    Accepted is :math:`\varphi(t) \le \varphi(0) + c_1 t \varphi'(0)`. A step that is too long is shortened to the
    minimizer of a parabola.

    Parameters
    ----------
    decrease
        The constant :math:`c_1`.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> solver = dini.BFGS(line_search=dini.solvers.Backtracking())
    >>> print(dini.minimize(lambda x: jnp.sum((x - 1) ** 4 + x**2), jnp.zeros(2), solver=solver).x.round(3))
    [0.41 0.41]
    """

    decrease: float = 1e-4

    def __post_init__(self) -> None:
        self._check_settings()

    def _judge(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Any]:
        enough = self._enough(bracket, start_value, value, slope, slack)
        trial = bracket.trial * _shorter(bracket, value)
        return enough, bracket._replace(trial=trial, high=bracket.trial, trials=bracket.trials + 1)


@dataclass(frozen=True)
class Halving(LineSearch):
    """Halve the step until it decreases the function sufficiently: gentler than a parabola where steps leap by plan."""

    decrease: float = 1e-4

    def _judge(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Any]:
        enough = self._enough(bracket, start_value, value, slope, slack)
        return enough, bracket._replace(trial=0.5 * bracket.trial, high=bracket.trial, trials=bracket.trials + 1)


@dataclass(frozen=True)
class WeakWolfe(LineSearch):
    r"""Bracket a step with a sufficient decrease and a slope that has risen: the weak Wolfe conditions.

    Accepted are :math:`\varphi(t) \le \varphi(0) + c_1 t \varphi'(0)` with :math:`\varphi'(t) \ge c_2 \varphi'(0)`. A
    step that is too long becomes the upper end of an interval, one that is too short the lower end; the next trial
    interpolates inside. It serves functions with kinks as well.

    Parameters
    ----------
    decrease, curvature
        The constants :math:`c_1 < c_2`.

    References
    ----------
    Lewis and Overton, "Nonsmooth optimization via quasi-Newton methods", Math. Program. 2013.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> solver = dini.LBFGS(line_search=dini.solvers.WeakWolfe(curvature=0.5))
    >>> print(dini.minimize(lambda x: jnp.sum((x - 1) ** 4 + x**2), jnp.zeros(2), solver=solver).x.round(3))
    [0.41 0.41]
    """

    decrease: float = 1e-4
    curvature: float = 0.9

    def __post_init__(self) -> None:
        self._check_settings()

    def _judge(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Any]:
        t, start = bracket.trial, bracket.slope
        enough = self._enough(bracket, start_value, value, slope, slack)
        room, longer = _longer(bracket, slope)
        shorter = bracket.low + _shorter(bracket, value) * (t - bracket.low)
        trial = jnp.where(enough, t + longer * room, shorter)
        return enough & (slope >= self.curvature * start), _narrowed(bracket, trial, value, slope, enough)


@dataclass(frozen=True)
class StrongWolfe(LineSearch):
    r"""Bracket a step with a sufficient decrease and a slope that is small: the strong Wolfe conditions.

    Accepted are :math:`\varphi(t) \le \varphi(0) + c_1 t \varphi'(0)` with
    :math:`|\varphi'(t)| \le c_2 |\varphi'(0)|`. The lower end of the interval satisfies the first condition with a
    slope that is too steep, the upper end violates it or lies uphill, so that a step as wanted is inside.

    Parameters
    ----------
    decrease, curvature
        The constants :math:`c_1 < c_2`; a small :math:`c_2` makes the search nearly exact.

    References
    ----------
    Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM Trans. Math. Softw. 1994.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> solver = dini.LBFGS(line_search=dini.solvers.StrongWolfe(curvature=0.1))
    >>> print(dini.minimize(lambda x: jnp.sum((x - 1) ** 4 + x**2), jnp.zeros(2), solver=solver).x.round(3))
    [0.41 0.41]
    """

    decrease: float = 1e-4
    curvature: float = 0.9

    def __post_init__(self) -> None:
        self._check_settings()

    def _judge(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Any]:
        t, start = bracket.trial, bracket.slope
        width = t - bracket.low
        enough = self._enough(bracket, start_value, value, slope, slack)
        flat = jnp.abs(slope) <= -self.curvature * start
        uphill = enough & (slope > 0)
        ahead = enough & ~uphill
        room, longer = _longer(bracket, slope)
        # uphill, both slopes are known: their secant vanishes inside
        secant = jnp.clip(-bracket.low_slope / (slope - bracket.low_slope), 0.1, 0.9)
        back = jnp.where(uphill, secant, _shorter(bracket, value))
        trial = jnp.where(ahead, t + longer * room, bracket.low + back * width)
        return enough & flat, _narrowed(bracket, trial, value, slope, ahead)


@dataclass(frozen=True)
class Given(LineSearch):
    """Accept the first trial, whatever it is: for steps of given length."""

    decrease: float = 1e-4

    def _judge(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Any]:
        del start_value, slope, slack
        return jnp.ones_like(value, bool), bracket


@dataclass(frozen=True)
class HagerZhang(LineSearch):
    r"""Close in on a zero of the slope by pairs of secants, until the Wolfe or approximate Wolfe conditions hold.

    The interval has a falling slope at its lower end, where the value is no more than the start's, and a rising slope
    at its upper end. A cycle takes the secant of both ends, then a second secant of the end that was replaced with
    what it was before; if these two did not shrink the interval to ``shrink``, its middle follows.

    Parameters
    ----------
    decrease, curvature
        The constants :math:`\delta < \sigma` of the conditions.
    shrink
        The factor :math:`\gamma` below which a cycle counts as fast.

    References
    ----------
    Hager and Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search", SIAM J.
    Optim. 2005.

    Examples
    --------
    >>> import dini, jax.numpy as jnp
    >>> solver = dini.NonlinearCG(line_search=dini.solvers.HagerZhang())
    >>> print(dini.minimize(lambda x: jnp.sum((x - 1) ** 4 + x**2), jnp.zeros(2), solver=solver).x.round(3))
    [0.41 0.41]
    """

    decrease: float = 0.1
    curvature: float = 0.9
    shrink: float = 0.66

    bracket = SecantBracket

    def __post_init__(self) -> None:
        self._check_settings()
        if not 0 < self.shrink < 1:
            raise ValueError(f"HagerZhang's shrink must be between 0 and 1: given {self.shrink}.")

    def begin(self, trial: Any, value: Any, slope: Any) -> SecantBracket:
        """Return a search that has not begun, from a point with the given value and slope."""
        plain = super().begin(trial, value, slope)
        nan, infinity = jnp.full_like(value, jnp.nan), plain.high
        fields: tuple[Any, ...] = (*plain, nan, nan, nan, infinity, plain.low)
        return SecantBracket(*fields)

    def _judge(self, bracket: Any, start_value: Any, value: Any, slope: Any, slack: Any) -> tuple[Any, Any]:
        t, start = bracket.trial, bracket.slope
        finite = jnp.isfinite(value) & jnp.isfinite(slope)
        enough = self._enough(bracket, start_value, value, slope, slack)
        rising = finite & (slope >= 0)
        ahead = finite & (slope < 0) & (value <= start_value + slack)
        # where the function falls but lies too high it has turned before: no secant tells where
        tall = ~(rising | ahead)
        known = bracket._replace(
            low=jnp.where(ahead, t, bracket.low),
            low_value=jnp.where(ahead, value, bracket.low_value),
            low_slope=jnp.where(ahead, slope, bracket.low_slope),
            high=jnp.where(ahead, bracket.high, t),
            high_slope=jnp.where(rising, slope, jnp.where(tall, jnp.nan, bracket.high_slope)),
            spare=jnp.where(ahead, bracket.low, bracket.high),
            spare_slope=jnp.where(ahead, bracket.low_slope, bracket.high_slope),
            trials=bracket.trials + 1,
        )
        # a step that is far too long says by its value how far to go back
        fraction = jnp.where(tall, _shorter(bracket, value), 0.5)
        return enough & (slope >= self.curvature * start), self._next(known, fraction, ahead, tall)

    def _next(self, known: SecantBracket, fraction: Any, ahead: Any, tall: Any) -> SecantBracket:
        low, high, t = known.low, known.high, known.trial
        open_ended = jnp.isinf(high)
        inside = lambda c: (c > low) & (c < high)
        first = (low * known.high_slope - high * known.low_slope) / (known.high_slope - known.low_slope)
        new_slope = jnp.where(ahead, known.low_slope, known.high_slope)
        second = (known.spare * new_slope - t * known.spare_slope) / (new_slope - known.spare_slope)
        # a cycle: 0, a secant comes next; 1, the second one; 2, whether both were fast enough is seen
        again = (known.secants == 1) & inside(second) & ~tall
        slow = (high - low > self.shrink * known.width) & ~again
        middle = ~inside(first) | tall | slow
        trial = jnp.where(again, second, jnp.where(middle, low + fraction * (high - low), first))
        return known._replace(
            trial=jnp.where(open_ended, 5 * t, trial),
            width=jnp.where(again, known.width, high - low),
            secants=jnp.where(again, 2.0, jnp.where(open_ended | middle, 0.0, 1.0)).astype(t.dtype),
        )


def require_line_search(owner: str, search: Any) -> None:
    """Raise ``TypeError`` unless a setting is a line search."""
    if not isinstance(search, LineSearch):
        raise TypeError(
            f"{owner}'s line_search must be one of dini.solvers' Backtracking, WeakWolfe, StrongWolfe or HagerZhang: "
            f"given {search!r}."
        )
