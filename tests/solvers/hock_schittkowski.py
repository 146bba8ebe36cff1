"""Problems of Hock and Schittkowski, "Test examples for nonlinear programming codes" (1981), by their formulas.

All of them are one program of ten unknowns, of which problem ``i`` uses the first few: so that one compilation serves
them all. Three more unknowns stand for equalities that a problem has not, and inequalities that it has not are -1.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dini

SIZE, EQUALITIES, INEQUALITIES = 10, 3, 4


class Problem(NamedTuple):
    """A problem with ``g(x) >= 0`` as in the book, its start, its value, and its solution where the book has it."""

    name: str
    fun: object
    start: tuple
    value: float
    equality: object = None
    inequality: object = None
    lower: object = -math.inf
    upper: object = math.inf
    solution: tuple | None = None


def _hs43(x):
    square = x**2
    return jnp.stack(
        [
            8 - square[:4].sum() - x[0] + x[1] - x[2] + x[3],
            10 - square[0] - 2 * square[1] - square[2] - 2 * square[3] + x[0] + x[3],
            5 - 2 * square[0] - square[1] - square[2] - 2 * x[0] + x[1] + x[3],
        ]
    )


def _hs78(x):
    return jnp.stack([(x[:5] ** 2).sum() - 10, x[1] * x[2] - 5 * x[3] * x[4], x[0] ** 3 + x[1] ** 3 + 1])


def _hs100(x):
    ends = (x[0] - 10) ** 2 + 5 * (x[1] - 12) ** 2 + x[2] ** 4 + 3 * (x[3] - 11) ** 2 + 10 * x[4] ** 6
    return ends + 7 * x[5] ** 2 + x[6] ** 4 - 4 * x[5] * x[6] - 10 * x[5] - 8 * x[6]


def _hs100_inequality(x):
    return jnp.stack(
        [
            127 - 2 * x[0] ** 2 - 3 * x[1] ** 4 - x[2] - 4 * x[3] ** 2 - 5 * x[4],
            282 - 7 * x[0] - 3 * x[1] - 10 * x[2] ** 2 - x[3] + x[4],
            196 - 23 * x[0] - x[1] ** 2 - 6 * x[5] ** 2 + 8 * x[6],
            -4 * x[0] ** 2 - x[1] ** 2 + 3 * x[0] * x[1] - 2 * x[2] ** 2 - 5 * x[5] + 11 * x[6],
        ]
    )


def _hs35(x):
    linear = 9 - 8 * x[0] - 6 * x[1] - 4 * x[2]
    return linear + 2 * x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2 + 2 * x[0] * x[1] + 2 * x[0] * x[2]


def _hs76(x):
    square = x[0] ** 2 + 0.5 * x[1] ** 2 + x[2] ** 2 + 0.5 * x[3] ** 2
    return square - x[0] * x[2] + x[2] * x[3] - x[0] - 3 * x[1] + x[2] - x[3]


def _hs76_inequality(x):
    first = 5 - x[0] - 2 * x[1] - x[2] - x[3]
    return jnp.stack([first, 4 - 3 * x[0] - x[1] - 2 * x[2] + x[3], x[1] + 4 * x[2] - 1.5])


_ROOT7, _INF = math.sqrt(7), math.inf
_VALLEY = lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
_ROSEN_SUZUKI = lambda x: x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3]

PROBLEMS = (
    Problem("HS6", lambda x: (1 - x[0]) ** 2, (-1.2, 1), 0, lambda x: 10 * (x[1] - x[0] ** 2)[None], solution=(1, 1)),
    Problem(
        "HS7",
        lambda x: jnp.log(1 + x[0] ** 2) - x[1],
        (2, 2),
        -math.sqrt(3),
        lambda x: ((1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4)[None],
        solution=(0, math.sqrt(3)),
    ),
    Problem(
        "HS10",
        lambda x: x[0] - x[1],
        (-10, 10),
        -1,
        None,
        lambda x: (-3 * x[0] ** 2 + 2 * x[0] * x[1] - x[1] ** 2 + 1)[None],
        solution=(0, 1),
    ),
    Problem(
        "HS11",
        lambda x: (x[0] - 5) ** 2 + x[1] ** 2 - 25,
        (4.9, 0.1),
        -8.498464223,
        None,
        lambda x: (x[1] - x[0] ** 2)[None],
    ),
    Problem(
        "HS12",
        lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
        (0, 0),
        -30,
        None,
        lambda x: (25 - 4 * x[0] ** 2 - x[1] ** 2)[None],
        solution=(2, 3),
    ),
    Problem(
        "HS14",
        lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
        (2, 2),
        9 - 2.875 * _ROOT7,
        lambda x: (x[0] - 2 * x[1] + 1)[None],
        lambda x: (-0.25 * x[0] ** 2 - x[1] ** 2 + 1)[None],
        solution=(0.5 * (_ROOT7 - 1), 0.25 * (_ROOT7 + 1)),
    ),
    Problem(
        "HS15",
        _VALLEY,
        (-2, 1),
        306.5,
        None,
        lambda x: jnp.stack([x[0] * x[1] - 1, x[0] + x[1] ** 2]),
        upper=(0.5, _INF),
        solution=(0.5, 2),
    ),
    Problem(
        "HS21",
        lambda x: 0.01 * x[0] ** 2 + x[1] ** 2 - 100,
        (-1, -1),
        -99.96,
        None,
        lambda x: (10 * x[0] - x[1] - 10)[None],
        (2, -50),
        (50, 50),
        (2, 0),
    ),
    Problem(
        "HS28",
        lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
        (-4, 1, 1),
        0,
        lambda x: (x[0] + 2 * x[1] + 3 * x[2] - 1)[None],
        solution=(0.5, -0.5, 0.5),
    ),
    Problem(
        "HS29",
        lambda x: -x[0] * x[1] * x[2],
        (1, 1, 1),
        -16 * math.sqrt(2),
        None,
        lambda x: (48 - x[0] ** 2 - 2 * x[1] ** 2 - 4 * x[2] ** 2)[None],
    ),
    Problem(
        "HS35",
        _hs35,
        (0.5, 0.5, 0.5),
        1 / 9,
        None,
        lambda x: (3 - x[0] - x[1] - 2 * x[2])[None],
        (0, 0, 0),
        solution=(4 / 3, 7 / 9, 4 / 9),
    ),
    Problem(
        "HS39",
        lambda x: -x[0],
        (2, 2, 2, 2),
        -1,
        lambda x: jnp.stack([x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2]),
        solution=(1, 1, 0, 0),
    ),
    Problem(
        "HS40",
        lambda x: -x[0] * x[1] * x[2] * x[3],
        (0.8, 0.8, 0.8, 0.8),
        -0.25,
        lambda x: jnp.stack([x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]]),
    ),
    Problem("HS43", _ROSEN_SUZUKI, (0, 0, 0, 0), -44, None, _hs43, solution=(0, 1, 2, -1)),
    Problem(
        "HS71",
        lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        (1, 5, 5, 1),
        17.0140173,
        lambda x: ((x[:4] ** 2).sum() - 40)[None],
        lambda x: (x[0] * x[1] * x[2] * x[3] - 25)[None],
        (1, 1, 1, 1),
        (5, 5, 5, 5),
    ),
    Problem("HS76", _hs76, (0.5, 0.5, 0.5, 0.5), -4.681818181, None, _hs76_inequality, (0, 0, 0, 0)),
    Problem("HS78", lambda x: x[:5].prod(), (-2, 1.5, 2, -1, -1), -2.91970041, _hs78),
    Problem(
        "HS80",
        lambda x: jnp.exp(x[:5].prod()),
        (-2, 2, 2, -1, -1),
        0.0539498478,
        _hs78,
        lower=(-2.3, -2.3, -3.2, -3.2, -3.2),
        upper=(2.3, 2.3, 3.2, 3.2, 3.2),
    ),
    Problem("HS100", _hs100, (1, 2, 0, 4, 0, 1, 1), 680.6300573, None, _hs100_inequality),
)


def _padded(values, filler):
    missing = filler[values.shape[0] :] if values is not None else filler
    return missing if values is None else jnp.concatenate([values, missing])


def _objective(problem):
    used = 0 if problem.equality is None else len(problem.equality(np.zeros(SIZE)))
    # an unknown that stands for an equality which the problem has is free
    return lambda x: problem.fun(x) + (x[SIZE - EQUALITIES : SIZE - EQUALITIES + used] ** 2).sum() + _unused(problem, x)


def _unused(problem, x):
    return (x[len(problem.start) : SIZE - EQUALITIES] ** 2).sum()


def _equality(problem):
    filler = lambda x: x[SIZE - EQUALITIES :]
    return lambda x: _padded(None if problem.equality is None else problem.equality(x), filler(x))


def _inequality(problem):
    filler = -jnp.ones(INEQUALITIES)
    return lambda x: _padded(None if problem.inequality is None else -problem.inequality(x), filler.astype(x.dtype))


_OBJECTIVES, _EQUALITIES, _INEQUALITIES = (
    [make(problem) for problem in PROBLEMS] for make in (_objective, _equality, _inequality)
)


def objective(x, units, which):
    """Return the objective of a problem, in other units."""
    return units[0] * jax.lax.switch(which, _OBJECTIVES, x / units[1])


def equality(x, units, which):
    """Return its equalities."""
    return units[2] * jax.lax.switch(which, _EQUALITIES, x / units[1])


def inequality(x, units, which):
    """Return its inequalities."""
    return units[2] * jax.lax.switch(which, _INEQUALITIES, x / units[1])


def _full(value, missing):
    values = np.ravel(np.asarray(value, float))
    return np.concatenate([values, np.full(SIZE - values.size, missing)]) if values.size > 1 else np.full(SIZE, missing)


START = np.array([_full(problem.start, 0.5) for problem in PROBLEMS])
LOWER = np.array([_full(problem.lower, -np.inf) for problem in PROBLEMS])
UPPER = np.array([_full(problem.upper, np.inf) for problem in PROBLEMS])


def solved(which, units, dtype=float, solver=None):
    """Solve some of the problems as one batch, in units of the objective, the unknown and the constraints."""

    def one(which, start, lower, upper, units):
        lower, upper = lower * units[1], upper * units[1]
        problem = dini.NonlinearProgram(objective, equality, inequality, lower, upper)
        init = problem.start(start * units[1], units, which)
        how = dini.NonlinearInteriorPoint() if solver is None else solver
        return dini.solve(problem, how, init, units, which, on_failure="ignore")

    parts = [jnp.asarray(part[which], dtype) for part in (START, LOWER, UPPER)]
    units = jnp.broadcast_to(jnp.asarray(units, dtype), (len(which), 3))
    return _batch(one, jnp.asarray(which), *parts, units)


def _batch(one, *given):
    return jax.jit(jax.vmap(one))(*given)
