"""The test functions of Moré, Garbow and Hillstrom (ACM Trans. Math. Softw. 7, 1981), from their published formulas.

``FUNCTIONS`` maps a name to ``(residuals, standard starting point)``. All are systems of ``m >= n`` residuals.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

E = np.exp(1.0)


def rosenbrock(x):
    return jnp.stack([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def freudenstein_roth(x):
    return jnp.stack([-13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1], -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]])


def powell_badly_scaled(x):
    return jnp.stack([1e4 * x[0] * x[1] - 1, jnp.exp(-x[0]) + jnp.exp(-x[1]) - 1.0001])


def brown_badly_scaled(x):
    return jnp.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(x):
    i = np.arange(1.0, 4.0)
    return np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** i)


def jennrich_sampson(x):
    i = np.arange(1.0, 11.0)
    return 2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


def helical_valley(x):
    turn = jnp.arctan(x[1] / x[0]) / (2 * jnp.pi) + jnp.where(x[0] < 0, 0.5, 0.0)
    return jnp.stack([10 * (x[2] - 10 * turn), 10 * (jnp.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


BARD = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])


def bard(x):
    u = np.arange(1.0, 16.0)
    v, w = 16 - u, np.minimum(u, 16 - u)
    return BARD - (x[0] + u / (v * x[1] + w * x[2]))


GAUSSIAN = np.array(
    [
        0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989, 0.3521, 0.2420, 0.1295, 0.0540, 0.0175,
        0.0044, 0.0009,
    ]
)  # fmt: skip


def gaussian(x):
    t = (8 - np.arange(1.0, 16.0)) / 2
    return x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2) - GAUSSIAN


MEYER = np.array(
    [34780.0, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
)


def meyer(x):
    t = 45 + 5 * np.arange(1.0, 17.0)
    return x[0] * jnp.exp(x[1] / (t + x[2])) - MEYER


def gulf(x):
    t = np.arange(1.0, 100.0) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return jnp.exp(-(jnp.abs(y - x[1]) ** x[2]) / x[0]) - t


def box3d(x):
    t = np.arange(1.0, 11.0) / 10
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


def powell_singular(x):
    a = jnp.stack([x[0] + 10 * x[1], 5**0.5 * (x[2] - x[3])])
    return jnp.concatenate([a, jnp.stack([(x[1] - 2 * x[2]) ** 2, 10**0.5 * (x[0] - x[3]) ** 2])])


def wood(x):
    return jnp.stack(
        [
            10 * (x[1] - x[0] ** 2),
            1 - x[0],
            90**0.5 * (x[3] - x[2] ** 2),
            1 - x[2],
            10**0.5 * (x[1] + x[3] - 2),
            (x[1] - x[3]) / 10**0.5,
        ]
    )


KOWALIK = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
KOWALIK_U = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])


def kowalik_osborne(x):
    u = KOWALIK_U
    return KOWALIK - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x):
    t = np.arange(1.0, 21.0) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


OSBORNE1 = np.array(
    [
        0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628,
        0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420,
        0.414, 0.411, 0.406,
    ]
)  # fmt: skip


def osborne1(x):
    t = 10 * np.arange(33.0)
    return OSBORNE1 - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def biggs_exp6(x):
    t = np.arange(1.0, 14.0) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4]) - y


OSBORNE2 = np.array(
    [
        1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616,
        0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495,
        0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672,
        0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581,
        0.428, 0.292, 0.162, 0.098, 0.054,
    ]
)  # fmt: skip


def osborne2(x):
    t = np.arange(65.0) / 10
    peaks = sum(x[i] * jnp.exp(-((t - x[i + 7]) ** 2) * x[i + 4]) for i in (1, 2, 3))
    return OSBORNE2 - (x[0] * jnp.exp(-t * x[4]) + peaks)


def watson(x):
    n = x.shape[0]
    t = np.arange(1.0, 30.0)[:, None] / 29
    j = np.arange(n)
    powers = t**j
    slope = (powers[:, :-1] * j[1:]) @ x[1:]
    return jnp.concatenate([slope - (powers @ x) ** 2 - 1, jnp.stack([x[0], x[1] - x[0] ** 2 - 1])])


def extended_rosenbrock(x):
    return jnp.stack([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]], 1).ravel()


def extended_powell(x):
    a, b, c, d = x[::4], x[1::4], x[2::4], x[3::4]
    return jnp.stack([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2], 1).ravel()


def penalty1(x):
    return jnp.append(1e-5**0.5 * (x - 1), jnp.sum(x**2) - 0.25)


def penalty2(x):
    n = x.shape[0]
    a, i = 1e-5**0.5, np.arange(2.0, n + 1)
    y = np.exp(i / 10) + np.exp((i - 1) / 10)
    e = jnp.exp(x / 10)
    weights = n - np.arange(n) * 1.0
    parts = [x[:1] - 0.2, a * (e[1:] + e[:-1] - y), a * (e[1:] - np.exp(-0.1))]
    return jnp.concatenate([*parts, jnp.sum(weights * x**2)[None] - 1])


def variably_dimensioned(x):
    s = jnp.sum(np.arange(1.0, x.shape[0] + 1) * (x - 1))
    return jnp.concatenate([x - 1, jnp.stack([s, s**2])])


def trigonometric(x):
    n = x.shape[0]
    i = np.arange(1.0, n + 1)
    return n - jnp.sum(jnp.cos(x)) + i * (1 - jnp.cos(x)) - jnp.sin(x)


def brown_almost_linear(x):
    n = x.shape[0]
    return jnp.append((x + jnp.sum(x) - (n + 1))[:-1], jnp.prod(x) - 1)


def discrete_boundary(x):
    n = x.shape[0]
    h = 1 / (n + 1)
    t = np.arange(1, n + 1) * h
    padded = jnp.concatenate([jnp.zeros(1), x, jnp.zeros(1)])
    return 2 * x - padded[:-2] - padded[2:] + h**2 * (x + t + 1) ** 3 / 2


def discrete_integral(x):
    n = x.shape[0]
    h = 1 / (n + 1)
    t = np.arange(1, n + 1) * h
    cube = (x + t + 1) ** 3
    before = jnp.cumsum(t * cube)
    after = jnp.sum((1 - t) * cube) - jnp.cumsum((1 - t) * cube)
    return x + h * ((1 - t) * before + t * after) / 2


def broyden_tridiagonal(x):
    padded = jnp.concatenate([jnp.zeros(1), x, jnp.zeros(1)])
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


def broyden_banded(x):
    n = x.shape[0]
    i = np.arange(n)
    band = (i[:, None] - i[None, :] <= 5) & (i[None, :] - i[:, None] <= 1) & (i[:, None] != i[None, :])
    return x * (2 + 5 * x**2) + 1 - band.astype(float) @ (x * (1 + x))


def linear_full_rank(x, m=20):
    s = 2 * jnp.sum(x) / m + 1
    return jnp.concatenate([x - s, jnp.full(m - x.shape[0], -1.0) * s])


def linear_rank_one(x, m=20):
    return np.arange(1.0, m + 1) * jnp.sum(np.arange(1.0, x.shape[0] + 1) * x) - 1


def linear_rank_one_zeros(x, m=20):
    n = x.shape[0]
    s = jnp.sum(np.arange(2.0, n) * x[1:-1])
    middle = np.arange(1.0, m - 1) * s - 1
    return jnp.concatenate([jnp.full(1, -1.0), middle, jnp.full(1, -1.0)])


def chebyquad(x):
    n = x.shape[0]
    y = 2 * x - 1
    before, now, means = jnp.ones(n), y, []
    for k in range(1, n + 1):
        integral = 0.0 if k % 2 else -1 / (k**2 - 1)
        means.append(jnp.mean(now) - integral)
        before, now = now, 2 * y * now - before
    return jnp.stack(means)


def spread(n):
    return np.arange(1, n + 1) / (n + 1)


FUNCTIONS = {
    "rosenbrock": (rosenbrock, [-1.2, 1]),
    "freudenstein_roth": (freudenstein_roth, [0.5, -2]),
    "powell_badly_scaled": (powell_badly_scaled, [0, 1]),
    "brown_badly_scaled": (brown_badly_scaled, [1, 1]),
    "beale": (beale, [1, 1]),
    "jennrich_sampson": (jennrich_sampson, [0.3, 0.4]),
    "helical_valley": (helical_valley, [-1, 0, 0]),
    "bard": (bard, [1, 1, 1]),
    "gaussian": (gaussian, [0.4, 1, 0]),
    "meyer": (meyer, [0.02, 4000, 250]),
    "gulf": (gulf, [5, 2.5, 0.15]),
    "box3d": (box3d, [0, 10, 20]),
    "powell_singular": (powell_singular, [3, -1, 0, 1]),
    "wood": (wood, [-3, -1, -3, -1]),
    "kowalik_osborne": (kowalik_osborne, [0.25, 0.39, 0.415, 0.39]),
    "brown_dennis": (brown_dennis, [25, 5, -5, -1]),
    "osborne1": (osborne1, [0.5, 1.5, -1, 0.01, 0.02]),
    "biggs_exp6": (biggs_exp6, [1, 2, 1, 1, 1, 1]),
    "osborne2": (osborne2, [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5]),
    "watson6": (watson, np.zeros(6)),
    "watson9": (watson, np.zeros(9)),
    "watson12": (watson, np.zeros(12)),
    "extended_rosenbrock": (extended_rosenbrock, np.tile([-1.2, 1], 5)),
    "extended_powell": (extended_powell, np.tile([3, -1, 0, 1], 3)),
    "penalty1": (penalty1, np.arange(1, 11)),
    "penalty2": (penalty2, np.full(10, 0.5)),
    "variably_dimensioned": (variably_dimensioned, 1 - np.arange(1, 11) / 10),
    "trigonometric": (trigonometric, np.full(10, 0.1)),
    "brown_almost_linear": (brown_almost_linear, np.full(10, 0.5)),
    "discrete_boundary": (discrete_boundary, spread(10) * (spread(10) - 1)),
    "discrete_integral": (discrete_integral, spread(10) * (spread(10) - 1)),
    "broyden_tridiagonal": (broyden_tridiagonal, -np.ones(10)),
    "broyden_banded": (broyden_banded, -np.ones(10)),
    "linear_full_rank": (linear_full_rank, np.ones(5)),
    "linear_rank_one": (linear_rank_one, np.ones(5)),
    "linear_rank_one_zeros": (linear_rank_one_zeros, np.ones(5)),
    "chebyquad6": (chebyquad, spread(6)),
    "chebyquad7": (chebyquad, spread(7)),
    "chebyquad8": (chebyquad, spread(8)),
    "chebyquad9": (chebyquad, spread(9)),
    "chebyquad10": (chebyquad, spread(10)),
}
