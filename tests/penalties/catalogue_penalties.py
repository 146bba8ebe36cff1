"""The catalogue of penalties under test: each with NumPy's value, CVXPY's expression, and points to try."""

from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np

from dini import penalties, sets

WEIGHTS = np.array([0.7, 0.1, 0.2, 1.5, 0.3])


def rotation(n, seed=5):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def huber(x, delta=0.4):
    return np.where(np.abs(x) <= delta, x**2 / (2 * delta), np.abs(x) - delta / 2)


@dataclass(frozen=True)
class Case:
    """A penalty: `make(n)`, its value by NumPy, and by CVXPY for an unknown of `shape(n)`."""

    make: Any
    value: Any
    judge: Any = None  # None: not convex, or not a cone program
    shape: Any = lambda n: (n,)
    polyhedral: bool = True  # the proximal operator is piecewise affine: no error in central differences


def inside(x, ok, value):
    return value if np.all(ok) else np.inf


CASES = {
    "l1": Case(lambda n: penalties.L1(0.7), lambda x: 0.7 * np.abs(x).sum(), lambda x: 0.7 * cp.norm1(x)),
    "l1, weights": Case(
        lambda n: penalties.L1(np.resize(WEIGHTS, n)),
        lambda x: np.resize(WEIGHTS, len(x)) @ np.abs(x),
        lambda x: np.resize(WEIGHTS, x.size) @ cp.abs(x),
    ),
    "elastic net": Case(
        lambda n: penalties.ElasticNet(0.7, 0.5),
        lambda x: 0.7 * (np.abs(x).sum() + 0.25 * x @ x),
        lambda x: 0.7 * (cp.norm1(x) + 0.25 * cp.sum_squares(x)),
    ),
    "ridge": Case(lambda n: penalties.Ridge(0.7), lambda x: 0.35 * x @ x, lambda x: 0.35 * cp.sum_squares(x)),
    "group lasso": Case(
        lambda n: penalties.GroupLasso(0.7),
        lambda x: 0.7 * np.linalg.norm(x),
        lambda x: 0.7 * cp.norm2(x),
        polyhedral=False,
    ),
    "group lasso of rows": Case(
        lambda n: penalties.GroupLasso(0.7, axis=-1),
        lambda x: 0.7 * np.linalg.norm(x, axis=-1).sum(),
        lambda x: 0.7 * cp.mixed_norm(x, 2, 1),
        lambda n: (n, 2),
        polyhedral=False,
    ),
    "nonnegative l1": Case(
        lambda n: penalties.NonNegative(penalties.L1(0.7)),
        lambda x: inside(x, x >= 0, 0.7 * x.sum()),
        lambda x: (0.7 * cp.sum(x), [x >= 0]),
    ),
    "nonnegative ridge": Case(
        lambda n: penalties.NonNegative(penalties.Ridge(0.7)),
        lambda x: inside(x, x >= 0, 0.35 * x @ x),
        lambda x: (0.35 * cp.sum_squares(x), [x >= 0]),
    ),
    "nonnegative group lasso": Case(
        lambda n: penalties.NonNegative(penalties.GroupLasso(0.7)),
        lambda x: inside(x, x >= 0, 0.7 * np.linalg.norm(x)),
        lambda x: (0.7 * cp.norm2(x), [x >= 0]),
        polyhedral=False,
    ),
    "huber": Case(
        lambda n: penalties.Huber(0.7, delta=0.4),
        lambda x: 0.7 * huber(x).sum(),
        lambda x: 0.7 / 0.8 * cp.sum(cp.huber(x, 0.4)),
    ),
    "maximum norm": Case(
        lambda n: penalties.LInf(0.7), lambda x: 0.7 * np.abs(x).max(initial=0), lambda x: 0.7 * cp.norm_inf(x)
    ),
    "sorted l1": Case(
        lambda n: penalties.SortedL1(np.linspace(1.2, 0.1, n)),
        lambda x: np.linspace(1.2, 0.1, len(x)) @ np.sort(np.abs(x))[::-1],
        lambda x: sum(
            step * cp.sum_largest(cp.abs(x), k)
            for k, step in enumerate(-np.diff(np.append(np.linspace(1.2, 0.1, x.size), 0)), 1)
        ),
    ),
    "total variation": Case(
        lambda n: penalties.TotalVariation(0.7),
        lambda x: 0.7 * np.abs(np.diff(x)).sum(),
        lambda x: 0.7 * cp.tv(x) if x.size > 1 else cp.Constant(0),
    ),
    "total variation of columns": Case(
        lambda n: penalties.TotalVariation(0.7, axis=0),
        lambda x: 0.7 * np.abs(np.diff(x, axis=0)).sum(),
        lambda x: 0.7 * cp.sum(cp.abs(x[1:] - x[:-1])) if x.shape[0] > 1 else cp.Constant(0),
        lambda n: (n, 2),
    ),
    "nuclear norm": Case(
        lambda n: penalties.NuclearNorm(0.7),
        lambda x: 0.7 * np.linalg.norm(x, "nuc"),
        lambda x: 0.7 * cp.normNuc(x),
        lambda n: (n, 2),
        polyhedral=False,
    ),
    "log barrier": Case(
        lambda n: penalties.LogBarrier(0.7),
        lambda x: inside(x, x > 0, -0.7 * np.log(np.where(x > 0, x, 1)).sum()),
        lambda x: -0.7 * cp.sum(cp.log(x)),
        polyhedral=False,
    ),
    "entropy": Case(
        lambda n: penalties.Entropy(0.7),
        lambda x: inside(x, x >= 0, 0.7 * (x * np.log(np.where(x > 0, x, 1))).sum()),
        lambda x: -0.7 * cp.sum(cp.entr(x)),
        polyhedral=False,
    ),
    "l0": Case(lambda n: penalties.L0(0.7), lambda x: 0.7 * np.count_nonzero(x)),
    "mcp": Case(
        lambda n: penalties.MCP(0.7, gamma=2.5),
        lambda x: np.where(np.abs(x) < 1.75, 0.7 * np.abs(x) - x**2 / 5, 0.6125).sum(),
    ),
    "scad": Case(
        lambda n: penalties.SCAD(0.7, gamma=3.0),
        lambda x: np.select(
            [np.abs(x) <= 0.7, np.abs(x) <= 2.1], [0.7 * np.abs(x), (4.2 * np.abs(x) - x**2 - 0.49) / 4], 0.98
        ).sum(),
    ),
    "indicator of the simplex": Case(
        lambda n: penalties.Indicator(sets.Simplex()),
        lambda x: inside(x, (x >= -1e-8) & (np.abs(x.sum() - 1) < 1e-8), 0.0),
        lambda x: (cp.Constant(0), [x >= 0, cp.sum(x) == 1]),
    ),
    "support function of the simplex": Case(
        lambda n: penalties.SupportFunction(sets.Simplex(0.7)),
        lambda x: 0.7 * np.max(x, initial=-np.inf),
        lambda x: 0.7 * cp.max(x),
    ),
    "scaled": Case(
        lambda n: penalties.Scaled(penalties.L1(0.5), 1.4), lambda x: 0.7 * np.abs(x).sum(), lambda x: 0.7 * cp.norm1(x)
    ),
    "shifted": Case(
        lambda n: penalties.Shifted(penalties.LInf(0.7), 0.3 * np.ones(n)),
        lambda x: 0.7 * np.abs(x - 0.3).max(initial=0),
        lambda x: 0.7 * cp.norm_inf(x - 0.3),
    ),
    "orthogonal": Case(
        lambda n: penalties.Orthogonal(penalties.L1(0.7), rotation(n)),
        lambda x: 0.7 * np.abs(rotation(len(x)) @ x).sum(),
        lambda x: 0.7 * cp.norm1(rotation(x.size) @ x),
    ),
    "orthonormal rows": Case(
        lambda n: penalties.Orthogonal(penalties.L1(0.7), rotation(n)[: (n + 1) // 2]),
        lambda x: 0.7 * np.abs((rotation(len(x)) @ x)[: (len(x) + 1) // 2]).sum(),
        lambda x: 0.7 * cp.norm1(rotation(x.size)[: (x.size + 1) // 2] @ x),
    ),
}
