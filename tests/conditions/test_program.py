"""The error of a quadratic program's conditions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_what_a_point_violates_is_in_its_error_whatever_its_multipliers(scale):
    """A stationary point of the objective outside of a bound or a row is no solution."""
    condition, zero = dini.conditions.ProgramKKT(), jnp.zeros(2)
    start = scale * jnp.array([-2.0, 1.0])  # the minimum without constraints
    cases = {
        "lower": ({"lower": -scale}, dini.Multipliers(bounds=zero)),
        "upper": ({"upper": 0.5 * scale}, dini.Multipliers(bounds=zero)),
        "row": ({"G": jnp.array([[1.0, 1.0]]), "h": jnp.array([-2.0]) * scale}, dini.Multipliers(inequality=zero[:1])),
    }
    for name, (part, dual) in cases.items():
        for noise in (0.0, 1e-17, -1e-17):
            given = jax.tree.map(lambda leaf, noise=noise: leaf + noise * scale, dual)
            program = dini.QuadraticProgram(Q=jnp.eye(2), c=-start, **part)
            error = condition.error(program, dini.PrimalDual(start, given))
            assert error > 0.1, (name, noise)


def _with_all(units):
    """Return a program of all kinds of constraints, its solution, and wrong points of it, in units of every kind."""
    rng = np.random.default_rng(0)
    n, p = 4, 4
    x, half, y = rng.standard_normal(n), rng.standard_normal((n, n)), rng.standard_normal(1)
    Q, A, G = half @ half.T, rng.standard_normal((1, n)), rng.standard_normal((p, n))
    lower, upper, slack = x - rng.uniform(0.2, 1, n), x + rng.uniform(0.2, 1, n), rng.uniform(0.3, 1, p)
    z, mu, slack[0] = np.array([0.5, 0, 0, 0]), np.array([0, 0.7, -0.6, 0]), 0
    upper[1], lower[2] = x[1], x[2]
    c = -(Q @ x + A.T @ y + G.T @ z + mu)
    step = lambda v, e: (x + e * v / (v @ v), y, z, mu)
    points = {"solution": (x, y, z, mu)}
    for e in (1e-1, 1e-3, 1e-6):
        moves = {"row": G[0], "inside": -G[0], "upper": np.eye(n)[1], "lower": -np.eye(n)[2], "equality": A[0]}
        points |= {f"{name} {e}": step(v, e) for name, v in moves.items()}
        points[f"negative {e}"] = (x, y, z - e * np.eye(p)[1], mu)
        points[f"too many {e}"] = (x, y, z + e * np.eye(p)[1], mu)
        points[f"smaller {e}"] = (x, y, (1 - e) * z, mu)
    points |= {"no force": (x, y, 0 * z, mu), "no push": (x, y, z, 0 * mu)}
    length, objective, of_A, of_G = units
    force, rows = objective / length, of_G * np.ones(p) if np.ndim(of_G) == 0 else np.asarray(of_G)
    data = {"Q": Q * objective / length**2, "c": c * force, "A": A * of_A, "b": A @ x * of_A * length}
    data |= {"G": G * rows[:, None], "h": (G @ x + slack) * rows * length}
    data |= {"lower": lower * length, "upper": upper * length}
    in_units = lambda x, y, z, mu: (x * length, y * force / of_A, z * force / rows, mu * force)
    return data, {name: in_units(*point) for name, point in points.items()}


def test_units_of_the_data_and_of_single_rows_do_not_decide_the_error():
    """Of the solution and of points beside it, in each direction by 0.1 to 1e-6."""

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def error(data, point):
        x, y, z, mu = point
        dual = dini.Multipliers(y, z, mu)
        return dini.conditions.ProgramKKT().error(dini.QuadraticProgram(**data), dini.PrimalDual(x, dual))

    found, ones = {}, np.ones(3)
    rows = [(1, 1, 1, np.append(u, ones)) for u in (1e-6, 1e6)] + [
        (1, 1, 1, np.array([1, u, 1, 1])) for u in (1e-6, 1e6)
    ]
    plain = [tuple(u if i == k else 1 for i in range(4)) for k in range(4) for u in (1e-6, 1e6)]
    for units in [(1, 1, 1, 1), *plain, *rows, (1e6, 1e-6, 1, 1), (1e-6, 1e6, 1, 1)]:
        data, points = _with_all(units)
        found[str(units)] = np.asarray(error(data, jax.tree.map(lambda *p: jnp.stack(p), *points.values())))
    names, first = list(points), found["(1, 1, 1, 1)"]
    for name, size in zip(names, first, strict=True):
        wrong = float(name.split()[-1]) if name[-1].isdigit() else 0.1
        assert size < 1e-14 if name == "solution" else 0.1 * wrong < size < 10 * wrong, name
    for units, sizes in found.items():
        np.testing.assert_allclose(sizes, first, rtol=1e-6, atol=1e-14, err_msg=units)


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_zero_is_no_solution_of_equations_that_it_does_not_satisfy(size):
    """However small their right-hand side is, or their row."""
    error = lambda A: dini.conditions.ProgramKKT().error(
        dini.QuadraticProgram(c=jnp.zeros(2), A=A, b=jnp.array([size])),
        dini.PrimalDual(jnp.zeros(2), dini.Multipliers(equality=jnp.zeros(1))),
    )
    assert error(jnp.ones((1, 2))) >= 0.5
    assert error(jnp.zeros((1, 2))) >= 0.5


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_point_beside_a_small_row_has_no_derivative(size):
    """By a tenth of the solution of a linear program, whose gradient does not see it."""
    handed = lambda b, x: dini.differentiate(
        dini.QuadraticProgram(c=jnp.array([1.0, 2.0]), A=size * jnp.ones((1, 2)), b=b, lower=0.0),
        dini.PrimalDual(x, dini.Multipliers(-jnp.ones(1) / size, None, jnp.array([0.0, -1.0]))),
        on_failure="ignore",
    )
    b = size * jnp.ones(1)
    assert handed(b, jnp.array([1.0, 0.0])).status == dini.Status.CONVERGED
    assert handed(b, jnp.array([1.1, 0.0])).status == dini.Status.CONDITION
