"""Calls of SciPy's solvers on the host, whose functions ask for their values."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..status import Status
from ._conversation import Ask

#: kinds of questions: a value (with what is of first order beside it), and a matrix or a product of second order
FIRST, SECOND = 0, 1

#: questions after which a method with gradients that finds nothing better is at its end
_PATIENCE = 200

Options = tuple[tuple[str, Any], ...]


def _optimize() -> Any:
    return importlib.import_module("scipy.optimize")


def _end(result: Any) -> int:
    """Return why SciPy gave up, as far as it says so."""
    message = str(result.message).lower()
    if result.success:
        return Status.RUNNING
    return Status.MAX_STEPS if any(word in message for word in ("maximum", "limit", "exceeded")) else Status.STALLED


class Known:
    """The parts of the reply at the last point: SciPy asks for a value and its derivatives one by one."""

    def __init__(self, ask: Callable[..., np.ndarray], *shapes: tuple[int, ...]):
        self._ask, self._shapes = ask, shapes
        self._point: np.ndarray | None = None
        self._parts: list[np.ndarray] = []

    @classmethod
    def of(cls, ask: Callable[..., np.ndarray], n: int, counts: tuple[int, int], smooth: bool) -> Known:
        """Return the value, the equalities and the inequalities, and where they are smooth the derivatives of all."""
        shapes: list[tuple[int, ...]] = [(), *((m,) for m in counts)]
        return cls(ask, *shapes, *([(n,), *((m, n) for m in counts)] if smooth else []))

    def __call__(self, x: Any) -> list[np.ndarray]:
        """Return the parts at a point."""
        point = np.asarray(x, float)
        if self._point is None or not np.array_equal(point, self._point):
            reply = self._ask(FIRST, point)
            ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])[:-1]
            self._parts = [part.reshape(shape) for part, shape in zip(np.split(reply, ends), self._shapes, strict=True)]
            self._point = point.copy()
        return self._parts


class Minimize(NamedTuple):
    """``scipy.optimize.minimize``, with bounds and constraints where there are any.

    ``given``: the start, lower and upper bounds, and a gradient that is no longer small.
    """

    method: str
    options: Options
    limit: int
    accuracy: float
    first_order: bool
    second: str | None
    bounded: bool
    equalities: int
    inequalities: int

    def __call__(self, ask: Ask, x0: Any, lower: Any, upper: Any, slope: Any) -> tuple[Any, int]:
        """Minimize."""
        optimize, n = _optimize(), x0.size
        counts = self.equalities, self.inequalities
        known, turn = Known.of(ask, n, counts, self.first_order), itertools.count()

        # a trust region that rounding errors shrink continues shrinking
        ask.patience = _PATIENCE if self.first_order else None

        def value(x: Any) -> float:
            parts = known(x)
            slope = np.abs(parts[3]).max(initial=0) if self.first_order else 0.0
            # with constraints, the last point is as good as any
            ask.note(-next(turn) if sum(counts) else float(parts[0]), x, float(slope))
            return float(parts[0])

        given: dict[str, Any] = {}
        if self.first_order:
            given["jac"] = lambda x: known(x)[3].copy()
        if self.second == "product":
            given["hessp"] = lambda x, p: ask(SECOND, x, p)
        elif self.second == "matrix":
            given["hess"] = lambda x: ask(SECOND, x).reshape(n, n)
        elif self.second == "lagrangian":
            given["hess"] = lambda x: ask(SECOND, x, [1.0], np.zeros(sum(counts))).reshape(n, n)
        if self.bounded:
            given["bounds"] = optimize.Bounds(lower, upper)
            x0 = np.clip(x0, lower, upper)
        constraints = [self._constraint(optimize, known, ask, n, i) for i in range(2) if counts[i]]
        if constraints:
            given["constraints"] = constraints
        options = self._accurate(x0, float(slope), float(np.abs(x0).max(initial=0))) | dict(self.options)
        found = optimize.minimize(value, x0, method=self.method, options=options, **given)
        return found.x, _end(found)

    def _constraint(self, optimize: Any, known: Known, ask: Ask, n: int, i: int) -> Any:
        """Return the equalities or the inequalities."""
        given: dict[str, Any] = {}
        count = (self.equalities, self.inequalities)[i]
        if self.first_order:
            given["jac"] = lambda x: known(x)[4 + i].copy()
        if self.second == "lagrangian":
            before, after = np.zeros(self.equalities if i else 0), np.zeros(0 if i else self.inequalities)
            given["hess"] = lambda x, v: ask(SECOND, x, [0.0], before, v, after).reshape(n, n)
        below = np.full(count, -np.inf) if i else np.zeros(count)
        return optimize.NonlinearConstraint(lambda x: known(x)[1 + i].copy(), below, np.zeros(count), **given)

    def _accurate(self, x0: Any, slope: float, size: float) -> dict[str, Any]:
        """Return options by which a method continues as long as it makes progress; SciPy's own are absolute numbers."""
        method, limit = self.method, self.limit
        gradient, unit = max(self.accuracy * slope, 1e-300), size or 1.0
        length = self.accuracy * unit
        small = {"gtol": gradient, "maxiter": limit}
        every = {
            "nelder-mead": {"xatol": length, "fatol": 1e-300, "maxiter": limit, "maxfev": limit},
            "powell": {"xtol": self.accuracy, "ftol": 1e-16, "maxiter": limit, "maxfev": limit},
            "cg": small,
            "bfgs": small,
            "newton-cg": {"xtol": 0.0, "maxiter": limit},
            "l-bfgs-b": {"ftol": 0.0, "maxfun": limit, **small},
            "tnc": {"gtol": gradient, "ftol": 0.0, "xtol": 0.0, "maxfun": limit},
            "cobyla": {"tol": length, "catol": length, "maxiter": limit, "rhobeg": unit},
            # of values alone, a point is known to the square root of their rounding errors
            "cobyqa": {"final_tr_radius": 1e-8 * unit, "initial_tr_radius": unit, "maxfev": limit, "maxiter": limit},
            "slsqp": {"ftol": 1e-300, "maxiter": limit},
            "trust-constr": {"gtol": gradient, "xtol": 1e-3 * length, "barrier_tol": self.accuracy, "maxiter": limit},
        }
        trust = {"initial_trust_radius": max(size, 1.0), "max_trust_radius": 1e10 * max(size, 1.0)}
        return every.get(method, small | trust)


class MinimizeScalar(NamedTuple):
    """``scipy.optimize.minimize_scalar``; ``given``: the start and bounds, each of one element."""

    method: str
    options: Options
    limit: int
    accuracy: float

    def __call__(self, ask: Ask, x0: Any, lower: Any, upper: Any) -> tuple[Any, int]:
        """Minimize."""
        options: dict[str, Any] = {"maxiter": self.limit}
        given: dict[str, Any] = {}

        def value(x: Any) -> float:
            found = float(ask(FIRST, x)[0])
            ask.note(found, x)
            return found

        if self.method == "bounded":
            given["bounds"] = float(lower[0]), float(upper[0])
            options["xatol"] = self.accuracy * (given["bounds"][1] - given["bounds"][0])
        else:
            start = float(x0[0])
            given["bracket"] = start, start + (0.1 * abs(start) or 1.0)
            options["xtol"] = self.accuracy
        settings = dict(self.options)
        given |= {name: settings.pop(name) for name in ("bracket",) if name in settings}
        found = _optimize().minimize_scalar(value, method=self.method, options=options | settings, **given)
        return found.x, _end(found)


class Root(NamedTuple):
    """``scipy.optimize.root``; ``given``: the start."""

    method: str
    options: Options
    limit: int
    accuracy: float

    def __call__(self, ask: Ask, x0: Any) -> tuple[Any, int]:
        """Solve the equations."""
        n, largest = x0.size, [0.0]

        def residual(x: Any) -> np.ndarray:
            found = ask(FIRST, x)
            merit = float(np.abs(found).max(initial=0))
            largest[0] = max(largest[0], merit)
            ask.note(merit, x)
            return found

        options: dict[str, Any] = {}
        given: dict[str, Any] = {}
        if self.method in ("hybr", "lm"):
            given["jac"] = lambda x: ask(SECOND, x).reshape(n, n)
            options = {"xtol": self.accuracy**1.5} | ({"maxfev": self.limit} if self.method == "hybr" else {})
            options |= {"ftol": self.accuracy**1.5, "gtol": 0.0, "maxiter": self.limit} if self.method == "lm" else {}
        elif self.method == "df-sane":
            options = {"ftol": self.accuracy, "fatol": 0.0, "maxfev": self.limit}
        else:
            first = float(np.abs(residual(x0)).max(initial=0))
            options = {"fatol": max(self.accuracy * first, 1e-300), "maxiter": self.limit}
        found = _optimize().root(residual, x0, method=self.method, options=options | dict(self.options), **given)
        return found.x, _end(found)


class LeastSquares(NamedTuple):
    """``scipy.optimize.least_squares``; ``given``: the start, bounds, and a gradient that is no longer small.

    With a loss, the reply of first order holds the residuals, and the loss of their squares with two derivatives.
    """

    method: str
    options: Options
    limit: int
    accuracy: float
    rows: int
    lossy: bool

    def __call__(self, ask: Ask, x0: Any, lower: Any, upper: Any, slope: Any) -> tuple[Any, int]:
        """Minimize."""
        n, m = x0.size, self.rows
        seen: list[tuple[np.ndarray, np.ndarray]] = []

        def residuals(x: Any) -> np.ndarray:
            reply = ask(FIRST, x)
            found, losses = reply[:m], reply[m:].reshape(-1, m) if self.lossy else reply[m:]
            ask.note(float(losses[0].sum() if self.lossy else np.dot(found, found)), x)
            seen.append((found**2, losses))
            del seen[:-3]
            return found

        def loss(squares: Any) -> np.ndarray:
            return min(seen, key=lambda one: float(np.abs(one[0] - squares).max(initial=0)))[1].copy()

        options: dict[str, Any] = {
            "ftol": None if self.method != "lm" else 1e-15,
            "xtol": 1e-15,
            # MINPACK's is a cosine, and takes no less
            "gtol": max(self.accuracy * float(slope), 1e-300) if self.method != "lm" else 1e-15,
            "x_scale": "jac",
            "max_nfev": self.limit,
        }
        if self.lossy:
            options["loss"] = loss
        if self.method != "lm":
            options["bounds"] = lower, upper
            x0 = np.clip(x0, lower, upper)
        jacobian = lambda x: ask(SECOND, x).reshape(m, n)
        options |= dict(self.options)
        found = _optimize().least_squares(residuals, x0, jac=jacobian, method=self.method, **options)
        return found.x, _end(found)
