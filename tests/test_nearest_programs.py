"""The nearest feasible program: shifts and solutions that are known, their derivatives, and programs that need none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import dini

N = 3


@jax.jit
@jax.vmap
def solved(data):
    """Return the solution and its derivatives in the right-hand sides and the objective; one program for all."""

    def one(sides):
        found = dini.quadratic_program(**(data | sides), nearest_feasible=True, on_failure="ignore")
        return (found.x, found.shift.equality, found.shift.inequality), found

    sides = {name: data[name] for name in ("b", "c", "h")}
    return jax.jacfwd(one, has_aux=True)(sides)


def program(**changes):
    """Return the projection of a point onto a plane, with rows that are far away."""
    data = {
        "Q": np.eye(N),
        "c": -np.array([1.0, 2.0, -1.0]),
        "A": np.array([[0.0, 0.0, 1.0]]),
        "b": np.array([0.5]),
        "G": np.array([[1.0, 2.0, 0.0], [-1.0, -2.0, 0.0], [1.0, 0.0, 0.0]]),
        "h": np.array([1.0, 5.0, 9.0]),
        "lower": np.full(N, -20.0),
        "upper": np.full(N, 20.0),
    }
    return {name: np.asarray(part, float) for name, part in (data | changes).items()}


stacked = lambda programs: {name: jnp.asarray(np.stack([d[name] for d in programs])) for name in programs[0]}


def test_known_shifts_and_their_derivatives():
    """Two rows that exclude one another, an equality beyond a bound, and a program that has a solution of its own."""
    g, a = np.array([1.0, 2.0, 0.0]), np.array([1.0, 2.0, -1.0])
    apart = program(h=[-1.0, -1.0, 9.0])  # g x <= -1 and g x >= 1
    beyond = program(upper=[20.0, 20.0, 0.25])  # x_3 = 1/2 and x_3 <= 1/4
    lost = program(c=[np.nan, 0.0, 0.0])
    jacobian, found = solved(stacked([apart, beyond, program(), lost]))
    (dx, db, dh), ends = jacobian, np.asarray(found.status)
    assert ends[:3].tolist() == [0, 0, 0]
    assert ends[3] != 0
    assert found.shifted.tolist()[:3] == [True, True, False]
    onto = a - g * (g @ a) / 5
    np.testing.assert_allclose(found.x[0], [*onto[:2], 0.5], atol=1e-9)
    np.testing.assert_allclose(found.shift.inequality[0], [1, 1, 0], atol=1e-9)
    np.testing.assert_allclose(found.shift.equality[0], [0], atol=1e-9)
    # g x is in the middle of the two: (h_1 - h_2) / 2
    np.testing.assert_allclose(dx["h"][0], np.stack([g / 10, -g / 10, 0 * g], axis=1), atol=1e-8)
    np.testing.assert_allclose(dx["c"][0], np.diag([-1.0, -1.0, 0]) + np.outer(g, g) / 5, atol=1e-8)
    np.testing.assert_allclose(dx["b"][0], [[0], [0], [1]], atol=1e-8)
    np.testing.assert_allclose(dh["h"][0], [[-0.5, -0.5, 0], [-0.5, -0.5, 0], [0, 0, 0]], atol=1e-8)
    np.testing.assert_allclose(found.x[1][2], 0.25, atol=1e-12)
    np.testing.assert_allclose(found.shift.equality[1], [-0.25], atol=1e-9)
    np.testing.assert_allclose(db["b"][1], [[-1]], atol=1e-8)
    np.testing.assert_allclose(dx["b"][1], np.zeros((3, 1)), atol=1e-8)
    plain = dini.quadratic_program(**program())
    np.testing.assert_allclose(found.x[2], plain.x, atol=1e-12)
    np.testing.assert_allclose(found.multipliers.inequality[2], plain.multipliers.inequality, atol=1e-10)
    assert found.shift.inequality[2].tolist() == [0, 0, 0]


def test_shifts_are_the_least_ones():
    """Random rows that no point satisfies, in units from 1e-6 to 1e6: the violation is SciPy's least."""
    rng, made, units = np.random.default_rng(0), [], [1e-6, 1.0, 1.0, 1e6]
    for _ in units:
        G = np.vstack([np.eye(2, 3), -np.ones((1, 3)) * [1, 1, 0]]) + 0.1 * rng.standard_normal((3, 3)) * [1, 1, 0]
        made.append(program(G=G, h=-rng.uniform(0.5, 1, 3)))
    factors = lambda u: {"b": u, "h": u, "lower": u, "upper": u, "c": u}
    in_units = lambda d, u: {name: part * factors(u).get(name, 1) for name, part in d.items()}
    scaled = [in_units(d, u) for d, u in zip(made, units, strict=True)]
    _, found = solved(stacked(scaled))
    assert np.asarray(found.status).tolist() == [0] * 4
    for i, (d, u) in enumerate(zip(made, units, strict=True)):
        violation = lambda x, d=d: np.concatenate([d["A"] @ x - d["b"], np.maximum(d["G"] @ x - d["h"], 0)])
        least = scipy.optimize.least_squares(violation, np.zeros(3), xtol=1e-15, ftol=1e-15, gtol=1e-15)
        ours = np.concatenate([found.shift.equality[i], found.shift.inequality[i]]) / u
        np.testing.assert_allclose(ours, violation(least.x), atol=1e-7)
        assert (violation(np.asarray(found.x[i]) / u) <= ours + 1e-9).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(TypeError, match="given neither A nor G"):
        dini.quadratic_program(Q=jnp.eye(1), lower=0.0, nearest_feasible=True)
    with pytest.raises(dini.SolveError, match="not solved by ActiveSet: PRIMAL_INFEASIBLE"):
        dini.quadratic_program(Q=jnp.eye(1), G=jnp.ones((1, 1)), h=jnp.array([-jnp.inf]), nearest_feasible=True)
    rows = {"A": jnp.ones((1, 1)), "b": jnp.ones(1)}
    with pytest.raises(ValueError, match="needs differentiation=Implicit"):
        dini.quadratic_program(**rows, nearest_feasible=True, differentiation=dini.OneStep())


@jax.jit
@jax.vmap
def values(data):
    """Return how the solve ended, the point, and the shift."""
    found = dini.quadratic_program(**data, nearest_feasible=True, on_failure="ignore")
    return found.status, found.x, found.shift


@pytest.mark.thorough
def test_a_program_that_has_a_solution_is_unchanged():
    """Random ones: all forces of the first search are rounding errors, which ended it as stalled."""
    made = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, half, A, G = (rng.standard_normal(shape) for shape in (N, (N, N), (1, N), (3, N)))
        rows = {"A": A, "b": A @ x, "G": G, "h": G @ x + rng.uniform(0, 1, 3)}
        bounds = {"lower": x - rng.uniform(0.5, 2, N), "upper": x + rng.uniform(0.5, 2, N)}
        made.append(program(Q=half @ half.T, c=rng.standard_normal(N), **rows, **bounds))
    status, x, shift = values(stacked(made))
    assert not status.any()
    assert not shift.equality.any()
    assert not shift.inequality.any()
    plain = jax.jit(jax.vmap(lambda data: dini.quadratic_program(**data).x))(stacked(made))
    np.testing.assert_allclose(x, plain, atol=1e-9)


def test_units_do_not_decide():
    """Of the objective, the unknown and the rows: with a shift, and its derivatives, and without one."""
    apart, beyond, own = program(h=[-1.0, -1.0, 9.0]), program(upper=[20.0, 20.0, 0.25]), program()
    units = [(u if i == 0 else 1, u if i == 1 else 1, u if i == 2 else 1) for i in range(3) for u in (1e-6, 1e6)]
    parts = {"Q": (1, -2, 0), "c": (1, -1, 0), "A": (0, 0, 1), "b": (0, 1, 1), "G": (0, 0, 1), "h": (0, 1, 1)}
    parts |= {"lower": (0, 1, 0), "upper": (0, 1, 0)}
    size = lambda name, unit: np.prod([u**k for u, k in zip(unit, parts[name], strict=True)])
    in_units = lambda data, unit: {name: part * size(name, unit) for name, part in data.items()}
    first = solved(stacked([apart, beyond, own, own]))
    for unit in units:
        (dx, db, dh), found = solved(stacked([in_units(data, unit) for data in (apart, beyond, own, own)]))
        assert not found.status.any()
        length, row = unit[1], unit[1] * unit[2]
        np.testing.assert_allclose(found.x / length, first[1].x, atol=1e-9, err_msg=str(unit))
        for ours, known in zip(found.shift, first[1].shift, strict=True):
            np.testing.assert_allclose(ours / row, known, atol=1e-9, err_msg=str(unit))
        for name in ("b", "h", "c"):
            for ours, known, own_unit in zip((dx, db, dh), first[0], (length, row, row), strict=True):
                change = ours[name] * size(name, unit) / own_unit
                np.testing.assert_allclose(change, known[name], atol=1e-7, err_msg=f"{unit} {name}")
