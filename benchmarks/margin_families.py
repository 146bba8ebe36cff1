"""Families of problems for ``margins.py``: each is one batch of a solver, with a judge that knows the truth.

A family is made by a function of a solver and a precision. Its lanes are right, wrong (claimed, and not so) or failed
(not claimed, and there is a solution); what has no solution is right where none is claimed. The judge is NumPy in
double precision, and never what a solver says of itself.
"""

from __future__ import annotations

import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "solvers"))

import cones
import fuzz
import hock_schittkowski as hs
import jax
import jax.numpy as jnp
import judgements
import numpy as np
import programs
import scipy.optimize
from mgh_functions import FUNCTIONS

import dini
from dini import penalties, sets

#: random programs of each kind, and random data of the other families
MANY = 12
#: units of the objective, the unknown and the constraints
UNITS = np.array([(1, 1, 1), (1e4, 1e3, 1e-3), (1e-4, 1e-3, 1e3), (1, 1e-4, 1), (1e4, 1, 1e4)], float)


class Family(NamedTuple):
    """Lanes, how one is solved (to a dictionary with ``status`` and ``steps``), and what is true of its end."""

    lanes: Any
    solve: Callable[..., dict[str, Any]]
    judge: Callable[[int, str, dict[str, Any]], str]


def _told(solution: Any, **more: Any) -> dict[str, Any]:
    return {"status": solution.status, "steps": solution.stats.steps} | more


def _kind(right: bool, end: str) -> str:
    return "failed" if end != "CONVERGED" else "right" if right else "wrong"


def _room(dtype: Any, double: float, single: float) -> float:
    return double if dtype == np.float64 else single


def _verdict(kind: str, end: str, left: float, allowed: float) -> str:
    if end == "CONVERGED":
        return "right" if kind not in fuzz.NO_SOLUTION and left <= allowed else "wrong"
    if end.endswith("_INFEASIBLE") and end != "LOCALLY_INFEASIBLE":
        return "right" if kind in fuzz.NO_SOLUTION and left <= allowed else "wrong"
    return "failed"


def quadratic(solver: Any, dtype: Any, form: str = "dense", many: int = MANY) -> Family:
    """Return random quadratic programs of all kinds."""
    rng = np.random.default_rng(1)
    n, m, p = fuzz.SHAPES["n = 7"]
    rows = lambda kind: m - 1 if kind == "contradiction" else m
    made = [(kind, programs.program(kind, n, rows(kind), p, rng)) for kind in programs.KINDS for _ in range(many)]

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        end = dini.quadratic_program(**programs.in_form(d, form), solver=solver, on_failure="ignore")
        dual = end.multipliers
        return _told(end, x=end.x, y=dual.equality, z=dual.inequality, mu=dual.bounds)

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        kind, d = made[i]
        if end == "CONVERGED":
            left = programs.residual(d, out["x"], out["y"], out["z"], out["mu"])
        else:
            left = fuzz.proof_of_quadratic(d, out, end) if end.endswith("INFEASIBLE") else np.inf
        return _verdict(kind, end, left, _room(dtype, cones.WRONG, 1e-3))

    return Family({key: np.stack([d[key] for _, d in made]) for key in programs.NAMES}, solve, judge)


def conic(solver: Any, dtype: Any, name: str) -> Family:
    """Return random programs over cones."""
    rng, family = np.random.default_rng(2), cones.FAMILIES[name]
    cone = cones.cone_of(family)
    onto = jax.jit(cone.project)
    project = lambda v: np.asarray(onto(v), float)
    made = [(kind, cones.program(kind, family, project, 6, rng)) for kind in cones.KINDS for _ in range(MANY)]

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        end = dini.cone_program(**d, cone=cones.cone_of(family), solver=solver, on_failure="ignore")
        return _told(end, x=end.x, y=end.multipliers)

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        kind, d = made[i]
        if end == "CONVERGED":
            left = cones.residual(d, family, out["x"], out["y"])
        else:
            left = fuzz.proof_of_cones(d, family, out, end) if end.endswith("INFEASIBLE") else np.inf
        return _verdict(kind, end, left, _room(dtype, cones.WRONG, 1e-3))

    return Family({key: np.stack([d[key] for _, d in made]) for key in cones.NAMES}, solve, judge)


def published(solver: Any, dtype: Any) -> Family:
    """Return Hock and Schittkowski's problems, in five settings of units."""
    which = np.repeat(np.arange(len(hs.PROBLEMS)), len(UNITS))
    lanes = {"which": which, "start": hs.START[which], "lower": hs.LOWER[which], "upper": hs.UPPER[which]}
    lanes["units"] = np.tile(UNITS, (len(hs.PROBLEMS), 1))

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        units, which = d["units"], d["which"]
        problem = dini.NonlinearProgram(
            hs.objective, hs.equality, hs.inequality, d["lower"] * units[1], d["upper"] * units[1]
        )
        start = problem.start(d["start"] * units[1], units, which)
        end = dini.solve(problem, solver, start, units, which, on_failure="ignore")
        x, ones = end.x.primal / units[1], jnp.ones(3, units.dtype)
        value, left, over = (f(x, ones, which) for f in (hs.objective, hs.equality, hs.inequality))
        violation = jnp.max(jnp.concatenate([jnp.abs(left), over, d["lower"] - x, x - d["upper"]]))
        return _told(end, value=value, violation=violation)

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        value, room = hs.PROBLEMS[which[i]].value, _room(dtype, 1e-5, 1e-2)
        return _kind(out["value"] <= value + room * (1 + abs(value)) and out["violation"] <= room * 10, end)

    return Family(lanes, solve, judge)


#: objective, equality, two inequalities (at most zero), start, and the value at most of a minimum (none: there is none)
_ODD: tuple[tuple[Any, Any, Any, tuple[float, float], float | None], ...] = (
    (lambda x: x[0], None, lambda x: (x @ x + 1, x[1] - 9), (1, 2), None),  # infeasible
    (lambda x: x[0], lambda x: jnp.exp(x[1]), None, (1, 1), None),  # infeasible, and the violation only tends to zero
    (lambda x: -x[0], None, lambda x: (x[1] ** 2 - x[0], -x[1]), (1, 1), None),  # unbounded
    (lambda x: jnp.exp(-x[0]) + x[1] ** 2, None, lambda x: (-x[0], -x[1]), (1, 1), None),  # a bound that it tends to
    (lambda x: x[0], None, lambda x: (x[1] - x[0] ** 3, -x[1]), (1, 1), 0.0),  # a cusp
    (lambda x: 2 * (x @ x - 1) - x[0], lambda x: x @ x - 1, None, (0.877, 0.479), -1.0),  # Maratos
    (lambda x: x[0], lambda x: x @ x - 1, None, (1, 0), -1.0),  # starts at the maximum
    (lambda x: -(x @ x), None, lambda x: (jnp.max(x) - 2, -1 - jnp.min(x)), (0, 0), -2.0),  # as well
    (lambda x: x[0] ** 4 + x[1] ** 2, lambda x: x[0] - x[1], None, (1, 2), 0.0),  # flat
    (lambda x: x @ x, lambda x: (x[0] + x[1] - 1) ** 2, None, (2, 3), 0.5),  # a singular equality
    (lambda x: x[0] + x[1], None, lambda x: (x @ x - 2, 2 * x @ x - 4), (0, 0), -2.0),  # the same constraint twice
    (lambda x: (x[0] - 1) ** 2, None, lambda x: (-x[0], x[0] * x[1]), (2, 1), 0.0),  # a saddle of a constraint
    (lambda x: x[0] ** 2 - x[1] ** 4, None, lambda x: (x[1] - 3, -3 - x[1]), (1, 0), -81.0),  # flat at a maximum
)


def odd(solver: Any, dtype: Any) -> Family:
    """Return small nonlinear programs that are infeasible, unbounded, degenerate or start at a maximum."""
    which = np.repeat(np.arange(len(_ODD)), 2 * len(UNITS))
    units = np.tile(UNITS, (2 * len(_ODD), 1))
    rng = np.random.default_rng(3)
    start = np.array([[*each[3], 0.5] for each in _ODD])[which]
    moved = (np.arange(len(which)) // len(UNITS)) % 2 == 1
    start[:, :2] += moved[:, None] * 0.3 * rng.standard_normal((len(which), 2))
    none = lambda x: (-jnp.ones((), x.dtype), -jnp.ones((), x.dtype))
    value = lambda f: lambda x: f(x[:2]) + x[2] ** 2
    values = [value(f) for f, *_ in _ODD]
    equal = [lambda x, e=e: (x[2] if e is None else e(x[:2]) + 0 * x[2])[None] for _, e, *_ in _ODD]
    unequal = [lambda x, g=g: jnp.stack((g or none)(x[:2])) for _, _, g, *_ in _ODD]
    part = lambda fs, k: lambda x, units, which: units[k] * jax.lax.switch(which, fs, x / units[1])
    fun, equality, inequality = part(values, 0), part(equal, 2), part(unequal, 2)

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        problem = dini.NonlinearProgram(fun, equality, inequality)
        at, which = d["units"], d["which"]
        begin = problem.start(d["start"] * at[1], at, which)
        end = dini.solve(problem, solver, begin, at, which, on_failure="ignore")
        x, ones = end.x.primal / at[1], jnp.ones(3, at.dtype)
        over = jnp.max(inequality(x, ones, which))
        return _told(
            end,
            value=fun(x, ones, which),
            violation=jnp.maximum(jnp.max(jnp.abs(equality(x, ones, which))), over),
        )

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        least, room = _ODD[which[i]][4], _room(dtype, 1e-4, 3e-2)
        if least is None:
            return "wrong" if end == "CONVERGED" else "right"
        return _kind(out["value"] <= least + room and out["violation"] <= room, end)

    return Family({"which": which, "units": units, "start": start}, solve, judge)


SQUARE = (
    "rosenbrock", "freudenstein_roth", "powell_badly_scaled", "helical_valley", "powell_singular",
    "trigonometric", "brown_almost_linear", "discrete_boundary", "discrete_integral", "broyden_tridiagonal",
    "broyden_banded", "chebyquad6", "chebyquad8",
)  # fmt: skip
RESIDUALS = (
    "rosenbrock", "freudenstein_roth", "powell_badly_scaled", "brown_badly_scaled", "beale", "jennrich_sampson",
    "helical_valley", "bard", "gaussian", "meyer", "box3d", "powell_singular", "wood", "kowalik_osborne",
    "brown_dennis", "osborne1", "biggs_exp6", "penalty1", "variably_dimensioned", "trigonometric", "linear_rank_one",
)  # fmt: skip


def _padded(names: tuple[str, ...], square: bool) -> tuple[list[Any], np.ndarray, list[int]]:
    """Return functions of one shape, with unknowns that stand alone beside those of a function, and their starts."""
    sizes = [len(FUNCTIONS[name][1]) for name in names]
    top = max(sizes)
    ends = [jax.eval_shape(FUNCTIONS[name][0], jnp.zeros(n)).shape[0] for name, n in zip(names, sizes, strict=True)]
    most = top if square else max(m + top - n for m, n in zip(ends, sizes, strict=True))

    def padded(name: str, n: int, m: int) -> Any:
        rest = most - m - (top - n)
        return lambda x: jnp.concatenate([FUNCTIONS[name][0](x[:n]), x[n:], jnp.zeros(rest, x.dtype)])

    starts = np.zeros((len(names), top))
    for row, name, n in zip(starts, names, sizes, strict=True):
        row[:n] = FUNCTIONS[name][1]
    return [padded(*each) for each in zip(names, sizes, ends, strict=True)], starts, sizes


def residuals(solver: Any, dtype: Any, square: bool = False) -> Family:
    """Return the functions of Moré, Garbow and Hillstrom, as equations or sums of squares, in seven settings."""
    names = SQUARE if square else RESIDUALS
    funs, starts, sizes = _padded(names, square)
    kept = [i for i, name in enumerate(judgements.SETTINGS) if name != "shifted"]
    which = np.repeat(np.arange(len(names)), len(kept))
    parts: list[list[np.ndarray]] = [[], [], []]
    for start, n in zip(starts, sizes, strict=True):
        units, scale, _, begin = judgements.settings(start[:n], 0.0)
        free = np.ones((len(units), starts.shape[1] - n)) * units[:, :1]
        parts[0].append(np.hstack([units, free])[kept])
        parts[1].append(np.sqrt(scale)[kept])
        parts[2].append(np.hstack([begin, 0 * free])[kept])
    units, scale, begin = (np.concatenate(part) for part in parts)
    fun = lambda z, unit, scale, which: scale * jax.lax.switch(which, funs, z / unit)
    verb = dini.root if square else dini.least_squares

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        given = d["units"], d["scale"], d["which"]
        end = verb(fun, d["start"] * d["units"], *given, solver=solver, on_failure="ignore")
        return _told(end, x=end.x / d["units"])

    values = [jax.jit(f) for f in funs]
    jacobians = [jax.jit(jax.jacfwd(f)) for f in funs]

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        k, claimed = which[i], end == "CONVERGED"
        if square and names[k] == "chebyquad8":  # has no root
            return "wrong" if claimed else "right"
        if not claimed:
            return "failed"
        x = out["x"]
        r, first = np.asarray(values[k](x)), np.linalg.norm(values[k](begin[i]))
        if square:
            return _kind(np.linalg.norm(r) <= _room(dtype, 1e-6, 1e-3) * max(1, min(first, 1e3)), end)
        matrix = np.asarray(jacobians[k](x))
        sizes = np.linalg.norm(matrix, axis=0) * np.linalg.norm(r)
        cosines = np.abs(matrix.T @ r) / np.where(sizes > 0, sizes, 1)
        gone = r @ r <= _room(dtype, 1e-14, 1e-9) * max(first**2, 1)
        return _kind(bool(gone or cosines.max() <= _room(dtype, 1e-5, 3e-2)), end)

    return Family({"units": units, "scale": scale, "which": which, "start": begin}, solve, judge)


SMOOTH = (
    "rosenbrock", "brown_badly_scaled", "beale", "helical_valley", "bard", "powell_singular", "wood", "kowalik_osborne",
    "brown_dennis", "biggs_exp6", "penalty1", "trigonometric", *judgements.OWN,
)  # fmt: skip


@functools.cache
def _lowest() -> dict[str, list[float]]:
    return {}


def smooth(solver: Any, dtype: Any) -> Family:
    """Return the functions of ``judgements.py`` in its eight settings."""
    those = [judgements.problems()[name] for name in SMOOTH]
    top = max(len(start) for _, start in those)
    part = lambda f, n: lambda x: f(x[:n]) + 0.5 * jnp.sum(x[n:] ** 2)
    funs = [part(f, len(start)) for f, start in those]
    parts: list[list[np.ndarray]] = [[], [], [], []]
    for f, start in those:
        units, scale, shift, begin = judgements.settings(start, float(f(start)))
        free = np.ones((len(units), top - len(start))) * units[:, :1]
        each = np.hstack([units, free]), scale, shift, np.hstack([begin, 0 * free])
        for row, value in zip(parts, each, strict=True):
            row.append(value)
    units, scale, shift, begin = (np.concatenate(row) for row in parts)
    which = np.repeat(np.arange(len(SMOOTH)), len(judgements.SETTINGS))
    fun = lambda z, unit, scale, shift, which: scale * (jax.lax.switch(which, funs, z / unit) + shift)

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        given = d["units"], d["scale"], d["shift"], d["which"]
        end = dini.minimize(fun, d["start"] * d["units"], *given, solver=solver, on_failure="ignore")
        return _told(end, x=end.x / d["units"])

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        name, claimed = SMOOTH[which[i]], end == "CONVERGED"
        if name in judgements.ENDLESS:
            return "wrong" if claimed else "right"
        if not claimed:
            return "failed"
        f, start = those[which[i]]
        x = out["x"][: len(start)]
        value, first = float(f(x)), float(f(begin[i, : len(start)]))
        room = _room(dtype, 1e-7, 1e-4)
        near = lambda low: (
            low <= value + 1e-12 * abs(value)
            and (value - low <= room * (first - low) + 10 * np.finfo(dtype).eps * (abs(low) + abs(shift[i])))
        )
        known = _lowest().setdefault(name, [])
        if not any(map(near, known)):
            known.append(judgements.polished(f, x))
        return _kind(any(map(near, known)), end)

    lanes = {"units": units, "scale": scale, "shift": shift, "which": which, "start": begin}
    return Family(lanes, solve, judge)


def _drawn(length: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray]:
    """Return a generator, and data with the units of the value and the unknown of each lane."""
    rng = np.random.default_rng(4)
    many = 4 * MANY
    units = 10.0 ** rng.integers(-3, 4, (2, many))
    return rng, rng.standard_normal((many, length)), units[0], units[1]


_DIFFERENCES = np.diff(np.eye(8), axis=0)
_WEIGHTS = np.arange(1.0, 9.0)


def _fused(t: np.ndarray, strength: float) -> np.ndarray:
    """Return the minimizer of half a weighted square with a penalty on differences, by its dual."""
    K, root = _DIFFERENCES, np.sqrt(_WEIGHTS)
    dual = scipy.optimize.lsq_linear((K / root).T, root * t, (-strength, strength), tol=1e-14)
    return t - K.T @ dual.x / _WEIGHTS


def split(solver: Any, dtype: Any, kind: str) -> Family:
    """Return half a weighted square with a part: differences, a penalty in a box, or the simplex."""
    _, t, c, b = _drawn(8)
    distance = lambda x, c, b, t: 0.5 * c * jnp.sum(jnp.asarray(_WEIGHTS, x.dtype) * (x / b - t) ** 2)
    strength = 0.6

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        c, b, t = d["c"], d["b"], d["t"]
        if kind == "simplex":
            start = jnp.full(8, 0.125, c.dtype) * b
            how = {"constraint": sets.Simplex(b), "solver": solver, "on_failure": "ignore"}
            end = dini.minimize(distance, start, c, b, t, **how)
            return _told(end, x=end.x / b)
        penalty = penalties.L1(strength * c / b)
        if kind == "fused":
            problem = dini.Composite(distance, penalty, jnp.asarray(_DIFFERENCES, c.dtype))
        else:
            problem = dini.Composite(distance, penalty, constraint=sets.Box(0 * b, b))
        start = problem.start(jnp.ones(8, c.dtype) * b, c, b, t)
        end = dini.solve(problem, solver, start, c, b, t, on_failure="ignore")
        return _told(end, x=end.x.primal / b)

    def truth(t: np.ndarray) -> np.ndarray:
        if kind == "fused":
            return _fused(t, strength)
        if kind == "box":
            return np.clip(t - strength / _WEIGHTS, 0, 1)
        left = lambda level: np.maximum(t - level / _WEIGHTS, 0).sum() - 1
        return np.maximum(t - scipy.optimize.brentq(left, -100, 100, xtol=1e-15) / _WEIGHTS, 0)

    truths = [truth(row) for row in t]

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        far = np.linalg.norm(out["x"] - truths[i])
        return _kind(far <= _room(dtype, 1e-5, 1e-2) * max(np.linalg.norm(truths[i]), 1e-1), end)

    return Family({"c": c, "b": b, "t": t}, solve, judge)


def sparse(solver: Any, dtype: Any, kind: str) -> Family:
    """Return random regressions with a penalty on sizes, in units: a lasso or a logistic one."""
    rng, target, c, b = _drawn(20)
    design = rng.standard_normal((len(c), 20, 30))
    labels = np.where(target > 0, 1.0, -1.0)
    share = 10.0 ** rng.uniform(-2.5, -0.3, len(c))
    pulls = np.einsum("lij,li->lj", design, target if kind == "lasso" else 0.5 * labels)
    strength = share * np.abs(pulls).max(axis=1)

    def fun(x: Any, X: Any, y: Any, c: Any, b: Any) -> Any:
        z = X @ (x / b)
        return c * (0.5 * jnp.sum((z - y) ** 2) if kind == "lasso" else jnp.sum(jnp.logaddexp(0, -y * z)))

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        c, b = d["c"], d["b"]
        how = {"penalty": penalties.L1(d["strength"] * c / b), "solver": solver, "on_failure": "ignore"}
        end = dini.minimize(fun, jnp.zeros(30, c.dtype), d["X"], d["y"], c, b, **how)
        return _told(end, x=end.x / b)

    y = target if kind == "lasso" else labels

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        x, z = out["x"], design[i] @ out["x"]
        slope = design[i].T @ (z - y[i] if kind == "lasso" else -y[i] / (1 + np.exp(y[i] * z)))
        left = np.where(x != 0, slope + strength[i] * np.sign(x), np.maximum(np.abs(slope) - strength[i], 0))
        return _kind(np.abs(left).max() <= _room(dtype, 1e-5, 1e-2) * np.abs(pulls[i]).max(), end)

    return Family({"X": design, "y": y, "c": c, "b": b, "strength": strength}, solve, judge)


def bounded(solver: Any, dtype: Any) -> Family:
    """Return Rosenbrock's function of four unknowns in random boxes, in units."""
    _, t, c, b = _drawn(4)
    upper = t + 0.5
    lower = upper - 3

    def fun(x: Any, c: Any, b: Any) -> Any:
        u = x / b
        return c * jnp.sum(100 * (u[1:] - u[:-1] ** 2) ** 2 + (1 - u[:-1]) ** 2)

    def solve(d: dict[str, Any]) -> dict[str, Any]:
        c, b = d["c"], d["b"]
        box = sets.Box(d["lower"] * b, d["upper"] * b)
        end = dini.minimize(fun, 0.5 * (d["lower"] + d["upper"]) * b, c, b, constraint=box, solver=solver,
                            on_failure="ignore")  # fmt: skip
        return _told(end, x=end.x / b)

    both = jax.jit(jax.value_and_grad(lambda u: fun(u, 1.0, 1.0)))
    numbers = lambda u: tuple(map(np.asarray, both(u)))

    def judge(i: int, end: str, out: dict[str, Any]) -> str:
        if end != "CONVERGED":
            return "failed"
        x = np.clip(out["x"], lower[i], upper[i])
        low = scipy.optimize.minimize(
            numbers, x, jac=True, method="L-BFGS-B", bounds=list(zip(lower[i], upper[i], strict=True)),
            options={"gtol": 1e-12, "ftol": 1e-16},
        ).fun  # fmt: skip
        value, first = numbers(x)[0], numbers((lower[i] + upper[i]) / 2)[0]
        inside = np.abs(x - out["x"]).max() <= _room(dtype, 1e-9, 1e-4)
        return _kind(bool(inside and value - low <= _room(dtype, 1e-7, 1e-4) * (1 + first - low)), end)

    return Family({"c": c, "b": b, "lower": lower, "upper": upper}, solve, judge)


def _all() -> dict[str, Callable[[Any], Family]]:
    part = functools.partial
    found: dict[str, Callable[[Any], Family]] = {
        "programs InteriorPoint": part(quadratic, dini.InteriorPoint()),
        "programs ActiveSet": part(quadratic, dini.ActiveSet()),
        "programs OperatorSplitting": part(quadratic, dini.OperatorSplitting()),
        "sparse programs OperatorSplitting": part(quadratic, dini.OperatorSplitting(), form="sparse", many=3),
        "programs of maps OperatorSplitting": part(quadratic, dini.OperatorSplitting(), form="maps", many=3),
        "cones ConicInteriorPoint": part(conic, None, name="all"),
        "second-order cones ConicInteriorPoint": part(conic, None, name="second-order"),
        "semidefinite ConicInteriorPoint": part(conic, None, name="semidefinite"),
    }
    for name in ("NonlinearInteriorPoint", "AugmentedLagrangian"):
        found |= {f"published {name}": part(published, getattr(dini, name)())}
        found |= {f"odd {name}": part(odd, getattr(dini, name)())}
    for name in ("Newton", "NewtonKrylov", "Broyden", "Chord"):
        found[f"equations {name}"] = part(residuals, getattr(dini, name)(), square=True)
    for name in ("LevenbergMarquardt", "DoglegLeastSquares", "GaussNewton"):
        found[f"residuals {name}"] = part(residuals, getattr(dini, name)())
    names = ("BFGS", "LBFGS", "NonlinearCG", "LBFGSB", "Newton", "TrustRegionNewtonCG", "Dogleg", "GradientDescent")
    for name in names:
        found[f"smooth {name}"] = part(smooth, getattr(dini, name)())
    found |= {f"bounded {name}": part(bounded, getattr(dini, name)()) for name in ("LBFGSB", "ProjectedNewton")}
    for name in ("ProximalNewton", "CoordinateDescent", "ProximalGradient"):
        found[f"lasso {name}"] = part(sparse, getattr(dini, name)(), kind="lasso")
    found["logistic ProximalNewton"] = part(sparse, dini.ProximalNewton(), kind="logistic")
    found |= {f"fused {name}": part(split, getattr(dini, name)(), kind="fused") for name in ("ADMM", "CondatVu")}
    found["box DouglasRachford"] = part(split, dini.DouglasRachford(), kind="box")
    for name in ("ProjectedGradient", "MirrorDescent", "FrankWolfe"):
        found[f"simplex {name}"] = part(split, getattr(dini, name)(), kind="simplex")
    return found


FAMILIES = _all()
