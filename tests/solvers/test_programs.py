"""Quadratic and linear programs: solutions, derivatives, certificates, units, batches."""

import functools

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

import dini
from dini import Status

NAMES = ("Q", "c", "A", "b", "G", "h", "lower", "upper")
N, M, P = 4, 1, 3


@jax.jit
@jax.vmap
def solved(data):
    """All tests with these shapes share one program."""
    return dini.quadratic_program(**data, solver=dini.InteriorPoint(), on_failure="ignore")


@jax.jit
@jax.vmap
def gradients(data, cotangent):
    """Return the gradient of a linear function of the solution."""
    loss = lambda data: jnp.vdot(cotangent, dini.quadratic_program(**data, solver=dini.InteriorPoint()).x)
    return jax.grad(loss)(data)


def program(seed, *, linear=False):
    """Return a program whose solution has active and inactive constraints, with a strict one of each multiplier."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(N)
    half = rng.standard_normal((N, N))
    Q = 0 * half if linear else half @ half.T + 0.1 * np.eye(N)
    A, G = rng.standard_normal((M, N)), rng.standard_normal((P, N))
    # a vertex has as many active constraints as unknowns
    z, mu = np.array([rng.uniform(0.5, 1), 0, 0]), np.array([rng.uniform(0.5, 1), -rng.uniform(0.5, 1), 0, 0])
    y = rng.standard_normal(M)
    lower, upper = np.where(mu < 0, x, x - 1), np.where(mu > 0, x, x + 1)
    lower[3] = -np.inf
    c = -(Q @ x + A.T @ y + G.T @ z + mu)
    data = dict(zip(NAMES, (Q, c, A, A @ x, G, G @ x + np.where(z > 0, 0, 1), lower, upper), strict=True))
    return data, x, (y, z, mu)


def stacked(programs):
    return {name: jnp.stack([jnp.asarray(data[name]) for data in programs]) for name in NAMES}


def test_solutions_that_are_known():
    """Points, multipliers, slacks and active sets of programs that were built around them, linear ones among them."""
    made = [program(seed, linear=seed % 2 == 1) for seed in range(6)]
    solution = solved(stacked([data for data, *_ in made]))
    assert (solution.status == Status.CONVERGED).all()
    x, (y, z, mu) = (
        (np.stack([m[1] for m in made])),
        (np.stack(part) for part in zip(*(m[2] for m in made), strict=True)),
    )
    np.testing.assert_allclose(solution.x, x, rtol=1e-11, atol=1e-12)
    for ours, theirs in zip(solution.multipliers, (y, z, mu), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)
        np.testing.assert_array_equal(ours == 0, theirs == 0)
    np.testing.assert_array_equal(solution.active.inequality, z > 0)
    np.testing.assert_array_equal(solution.active.upper, mu > 0)
    np.testing.assert_array_equal(solution.active.lower, mu < 0)
    np.testing.assert_allclose(solution.slacks.inequality, np.where(z > 0, 0, 1), atol=1e-11)


def by_clarabel(data):
    up, low, eye = np.isfinite(data["upper"]), np.isfinite(data["lower"]), np.eye(N)
    rows = np.vstack([data["A"], data["G"], eye[up], -eye[low]])
    sides = np.concatenate([data["b"], data["h"], data["upper"][up], -data["lower"][low]])
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.tol_gap_abs, settings.tol_gap_rel, settings.tol_feas = False, 1e-12, 1e-12, 1e-12
    cones = [clarabel.ZeroConeT(M), clarabel.NonnegativeConeT(len(sides) - M)]
    quadratic = sp.csc_matrix(np.triu(data["Q"]))
    return np.array(clarabel.DefaultSolver(quadratic, data["c"], sp.csc_matrix(rows), sides, cones, settings).solve().x)


def test_agrees_with_other_solvers():
    """Random objectives over the same kind of constraints, beside Clarabel and, for linear programs, HiGHS."""
    programs = [program(seed)[0] for seed in range(6)]
    rng = np.random.default_rng(0)
    for seed, data in enumerate(programs):
        data["c"] = rng.standard_normal(N)
        data["lower"][3] = -3.0
        if seed >= 3:
            data["Q"] = np.zeros((N, N))
    solution = solved(stacked(programs))
    assert (solution.status == Status.CONVERGED).all()
    for i, data in enumerate(programs):
        if i < 3:
            np.testing.assert_allclose(solution.x[i], by_clarabel(data), atol=1e-7)
        else:
            bounds = list(zip(data["lower"], data["upper"], strict=True))
            found = linprog(data["c"], data["G"], data["h"], data["A"], data["b"], bounds)
            np.testing.assert_allclose(solution.value[i], found.fun, rtol=1e-9)


def test_derivatives_are_those_of_differences():
    """In all data at once, of a point and of multipliers, in float64."""
    data = {name: jnp.asarray(value) for name, value in program(3)[0].items()}
    rng = np.random.default_rng(1)
    along = {name: jnp.asarray(rng.standard_normal(value.shape)) for name, value in data.items()}

    @jax.jit
    def both(data, along):
        out = lambda data: (lambda s: (s.x, s.multipliers, s.value))(dini.quadratic_program(**data))
        value, tangent = jax.jvp(out, (data,), (along,))
        pulled = jax.vjp(out, data)[1](value)[0]
        return value, tangent, pulled

    value, tangent, pulled = both(data, along)
    move = lambda t: both(jax.tree.map(lambda u, du: u + t * du, data, along), along)[0]
    step = 1e-5
    differences = jax.tree.map(lambda a, b: (a - b) / (2 * step), move(step), move(-step))
    for ours, truth in zip(jax.tree.leaves(tangent), jax.tree.leaves(differences), strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-6, atol=1e-7)
    forward = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(tangent), strict=True))
    reverse = sum(jnp.vdot(jnp.where(along[name] == 0, 0, pulled[name]), along[name]) for name in NAMES)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)


def test_second_derivatives():
    """The Hessian of a function of the solution, forward over reverse, beside differences of gradients."""
    data = {name: jnp.asarray(value) for name, value in program(3)[0].items()}

    def loss(c, G):
        return jnp.sum(dini.quadratic_program(**(data | {"c": c, "G": G})).x ** 3)

    gradient = jax.grad(loss, argnums=(0, 1))
    rng = np.random.default_rng(2)
    dc, dG = jnp.asarray(rng.standard_normal(N)), jnp.asarray(rng.standard_normal((P, N)))

    @jax.jit
    def curved(t):
        at = lambda t: gradient(data["c"] + t * dc, data["G"] + t * dG)
        return jax.jvp(at, (t,), (1.0,))

    _, second = curved(0.0)
    (up, _), (down, _) = curved(1e-5), curved(-1e-5)
    for ours, a, b in zip(second, up, down, strict=True):
        np.testing.assert_allclose(ours, (a - b) / 2e-5, rtol=1e-5, atol=1e-6)


def infeasible(seed):
    data, *_ = program(seed)
    data["G"][1], data["G"][2] = data["G"][0], -data["G"][0]
    data["h"][1:] = data["h"][0], -data["h"][0] - 1
    return data


def unbounded(seed):
    data, x, _ = program(seed, linear=True)
    data["lower"], data["upper"] = np.full(N, -np.inf), np.full(N, np.inf)
    ray = np.linalg.svd(np.vstack([data["A"], data["G"][:1]]))[2][-1]
    data["G"][1:] *= np.where(data["G"][1:] @ ray > 0, -1, 1)[:, None]
    data["h"], data["c"] = data["G"] @ x + 1, -ray
    return data


def test_bad_lanes_are_told_apart_and_the_others_are_as_alone():
    """A batch with an infeasible, an unbounded, a nonconvex and a NaN lane (traps 10 and 15)."""
    good, other = program(4)[0], program(6)[0]
    concave = program(5)[0] | {"Q": -np.eye(N)}
    lost = program(5)[0] | {"c": np.full(N, np.nan)}
    data = stacked([good, infeasible(1), unbounded(2), concave, lost, other])
    cotangent = jnp.ones((6, N))
    solution, gradient = solved(data), gradients(data, cotangent)
    assert [Status(int(end)).name for end in solution.status] == [
        "CONVERGED", "PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE", "NOT_CONVEX", "NONFINITE", "CONVERGED",
    ]  # fmt: skip
    # in a batch of nothing else, whose program is the same
    alone = stacked([good] * 5 + [other])
    lone, lone_gradient = solved(alone), gradients(alone, cotangent)
    kept = np.array([0, 5])
    np.testing.assert_allclose(solution.x[kept], lone.x[kept], atol=1e-13)
    for name in NAMES:
        np.testing.assert_allclose(gradient[name][kept], lone_gradient[name][kept], rtol=1e-10, atol=1e-12)
        assert jnp.isnan(gradient["c"][1:5]).any(axis=1).all()
    # the certificates prove what they say
    y, z, mu = (np.asarray(part[1]) for part in solution.multipliers)
    bad = {name: np.asarray(data[name][1]) for name in NAMES}
    force = bad["A"].T @ y + bad["G"].T @ z + mu
    finite = np.where(np.isfinite(bad["lower"]), bad["lower"], 0)
    claim = bad["b"] @ y + bad["h"] @ z + bad["upper"] @ np.maximum(mu, 0) - finite @ np.maximum(-mu, 0)
    assert (z >= 0).all()
    assert claim < -1e-3
    assert np.abs(force).max() < 1e-7
    ray, bad = np.asarray(solution.ray[2]), {name: np.asarray(data[name][2]) for name in NAMES}
    assert bad["c"] @ ray < -1e-3
    assert max(np.abs(bad["A"] @ ray).max(), (bad["G"] @ ray).max()) < 1e-7
    assert np.isnan(solution.ray[0]).all()


@pytest.mark.parametrize(
    ("length", "objective", "rows"), [(1e-6, 1e6, 1e6), (1e6, 1e-6, 1e6), (1e6, 1e6, 1e-6), (1e-6, 1e-6, 1e-6)]
)
def test_units_do_not_decide(length, objective, rows):
    """Data in other units: the same point and multipliers, in these units, and the same gradients."""
    made = [program(7), program(8, linear=True)] * 3
    plain = stacked([data for data, *_ in made])
    factors = {
        "Q": objective / length**2,
        "c": objective / length,
        "A": rows / length,
        "b": rows,
        "G": rows / length,
        "h": rows,
        "lower": length,
        "upper": length,
    }
    scaled = {name: plain[name] * factors[name] for name in NAMES}
    ours, theirs = solved(scaled), solved(plain)
    assert (ours.status == Status.CONVERGED).all()
    np.testing.assert_allclose(ours.x / length, theirs.x, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(ours.multipliers.inequality * rows / objective, theirs.multipliers.inequality, rtol=1e-8)
    cotangent = jnp.ones((6, N))
    ours, theirs = gradients(scaled, cotangent / length), gradients(plain, cotangent)
    for name in NAMES:
        np.testing.assert_allclose(ours[name] * factors[name], theirs[name], rtol=1e-7, atol=1e-8)


def test_single_precision():
    """Status, points and derivatives in float32, beside float64."""
    made = [program(seed) for seed in range(6)]
    data = stacked([data for data, *_ in made])
    single = {name: value.astype(np.float32) for name, value in data.items()}
    solution = solved(single)
    assert (solution.status == Status.CONVERGED).all()
    assert solution.x.dtype == np.float32
    np.testing.assert_allclose(solution.x, solved(data).x, rtol=2e-4, atol=2e-4)
    cotangent = jnp.ones((6, N))
    ours, truth = gradients(single, cotangent.astype(np.float32)), gradients(data, cotangent)
    for name in ("c", "b", "h"):
        np.testing.assert_allclose(ours[name], truth[name], rtol=2e-2, atol=2e-3)


def test_equalities_alone_and_redundant_rows():
    """Trap 11: Q = I, c = 1, A = [1 1], b = 1; and with the row twice. One step does it."""

    def half(c, b, A):
        return dini.quadratic_program(Q=jnp.eye(2), c=c, A=A, b=b)

    c = jnp.ones(2)
    solution = half(c, jnp.ones(1), jnp.ones((1, 2)))
    np.testing.assert_allclose(solution.x, [0.5, 0.5], atol=1e-15)
    assert int(solution.stats.steps) == 1
    jacobian = jax.jacobian(lambda c: half(c, jnp.ones(1), jnp.ones((1, 2))).x)(c)
    np.testing.assert_allclose(jacobian, [[-0.5, 0.5], [0.5, -0.5]], atol=1e-12)
    np.testing.assert_allclose(half(c, jnp.ones(2), jnp.ones((2, 2))).x, [0.5, 0.5], atol=1e-12)
    with pytest.raises(dini.SolveError, match="PRIMAL_INFEASIBLE"):
        half(c, jnp.array([1.0, 2.0]), jnp.ones((2, 2)))


def test_a_weakly_active_bound_is_a_tie():
    """Trap 13: min (x - p)^2, x >= 0 has no derivative at p = 0, and the certificate says so; elsewhere it is exact."""
    certified = dini.Implicit(certify=True)
    point = lambda p: dini.quadratic_program(Q=2 * jnp.eye(1), c=-2 * p, lower=0.0, differentiation=certified).x[0]
    for p, slope in ((1.0, 1.0), (-1.0, 0.0)):
        np.testing.assert_allclose(jax.grad(point)(jnp.array([p])), [slope], atol=1e-12)
    with pytest.raises(dini.DerivativeError, match="TIE"):
        jax.grad(point)(jnp.array([0.0]))


def test_solves_share_nothing_and_steps_have_no_derivative():
    """Traps 3 and 12: the first of two solves has its own gradient; the unrolled derivative is refused."""
    project = lambda y: dini.quadratic_program(Q=jnp.eye(3), c=-y, A=jnp.ones((1, 3)), b=jnp.ones(1), lower=0.0).x
    two = lambda y: (project(y)[0], project(2 * y + 1))[0]
    np.testing.assert_allclose(jax.grad(two)(jnp.array([0.9, 0.5, -1.0])), [0.5, -0.5, 0.0], atol=1e-10)
    with pytest.raises(ValueError, match="Unrolled needs a solver whose points"):
        dini.quadratic_program(c=jnp.ones(1), lower=0.0, differentiation=dini.Unrolled())


def test_fixed_and_free_unknowns_have_derivatives():
    """Equal bounds hold an unknown, whose derivative is that of the bound; infinite ones are none."""

    def point(bound):
        lower, upper = jnp.array([0.0, -jnp.inf]), jnp.array([0.0, jnp.inf])
        shift = jnp.array([1.0, 0.0]) * bound
        Q = jnp.array([[2.0, 1.0], [1.0, 2.0]])
        return dini.quadratic_program(Q=Q, c=jnp.array([0.0, -1.0]), lower=lower + shift, upper=upper + shift).x

    x, dx = jax.jvp(point, (3.0,), (1.0,))
    np.testing.assert_allclose(x, [3.0, -1.0], atol=1e-14)
    np.testing.assert_allclose(dx, [1.0, -0.5], atol=1e-12)


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        ({}, TypeError, "needs data"),
        ({"Q": np.eye(2), "A": np.ones((1, 2))}, TypeError, "A needs b: given A alone"),
        ({"c": np.ones(2), "Q": np.eye(3)}, ValueError, r"Q must have the shape \(n, n\) = \(2, 2\): given \(3, 3\)"),
        ({"c": np.ones(2), "G": np.ones((3, 2)), "h": np.ones(2)}, ValueError, r"G must have the shape \(p, n\)"),
        ({"c": np.ones(2), "lower": np.ones(3)}, ValueError, "lower must be a number or have the shape"),
        ({"c": np.ones(2) * 1j}, TypeError, "c must be an array of real numbers"),
        ({"c": np.ones(2), "lower": 1.0, "upper": np.array([2.0, 0.0])}, ValueError, "lower must not be above upper"),
        ({"lower": 0.0}, ValueError, "must show the number n of unknowns"),
    ],
)
def test_data_that_do_not_fit_are_refused(data, error, said):
    with pytest.raises(error, match=said):
        dini.quadratic_program(**data)


def test_failures_are_raised_in_words():
    """Outside of batches, what has no solution is an exception that says why and what to do."""
    solve = functools.partial(dini.quadratic_program, c=jnp.array([1.0]))
    with pytest.raises(dini.SolveError, match=r"DUAL_INFEASIBLE.*ray") as caught:
        solve(upper=0.0)
    assert caught.value.status == Status.DUAL_INFEASIBLE
    with pytest.raises(dini.SolveError, match=r"NOT_CONVEX.*positive semidefinite"):
        solve(Q=-jnp.eye(1), lower=0.0, upper=1.0)


def test_the_state_of_other_data_is_not_taken():
    """The state holds the program: one of another would lead to that one's solution."""
    (one, *_), (other, x, _) = program(0), program(2)
    programs = [dini.QuadraticProgram(**{name: jnp.asarray(data[name]) for name in NAMES}) for data in (one, other)]
    start = programs[0].start()
    how = {"on_failure": "ignore", "return_state": True}
    begun = dini.solve(programs[0], dini.InteriorPoint(max_steps=3), start, **how)
    found = dini.solve(programs[1], dini.InteriorPoint(max_steps=100), start, state=begun.state, **how)
    np.testing.assert_allclose(found.x.primal, x, atol=1e-9)
    again = dini.solve(programs[0], dini.InteriorPoint(max_steps=100), start, state=begun.state, **how)
    assert again.stats.steps < dini.solve(programs[0], dini.InteriorPoint(), start).stats.steps


def test_each_row_is_judged_beside_its_own_terms():
    """A large element of the unknown hides no violation of a row that it is not in; not solved is not wrong."""
    single = lambda data: {name: jnp.asarray(value, jnp.float32) for name, value in data.items()}
    rows = {"Q": np.eye(3), "c": [-100, -1, -1], "A": [[0, 1, 1]], "b": [0.1], "lower": 0.0}
    with jax.enable_x64(False):
        solution = dini.quadratic_program(**single(rows), on_failure="ignore")
        assert solution.status == Status.CONVERGED
        np.testing.assert_allclose(solution.x, [100, 0.05, 0.05], rtol=1e-3)
        # separable ones, whose solution is cut off by bounds
        rng = np.random.default_rng(0)
        c, upper = (
            rng.choice([-1, 1], (100, 4)) * 10 ** rng.uniform(-1, 4, (100, 4)),
            10 ** rng.uniform(-1, 3, (100, 4)),
        )
        run = lambda c, upper: dini.quadratic_program(Q=jnp.eye(4), c=c, lower=0.0, upper=upper, on_failure="ignore")
        batch = jax.jit(jax.vmap(run))(jnp.asarray(c, jnp.float32), jnp.asarray(upper, jnp.float32))
    right = np.isclose(batch.x, np.clip(-c, 0, upper), rtol=1e-2, atol=1e-4).all(1)
    solved = np.asarray(batch.status) == Status.CONVERGED
    assert right[solved].all()
    assert solved.mean() > 0.8


def test_large_bounds_are_none_and_impossible_ones_are_told():
    """A bound of 1e20 is none, as in other solvers; a right-hand side of minus infinity, which no point satisfies."""
    data = {name: jnp.asarray(value) for name, value in program(3)[0].items()}
    free = {"lower": data["lower"].at[3].set(-1e20), "h": data["h"].at[2].set(3e20)}
    none = {"lower": data["lower"].at[3].set(-jnp.inf), "h": data["h"].at[2].set(jnp.inf)}
    impossible = [{"h": data["h"].at[1].set(-jnp.inf)}, {"upper": data["upper"].at[3].set(-jnp.inf)}]
    found = solved(stacked([data | change for change in (free, none, *impossible)]))
    assert [Status(int(end)).name for end in found.status] == ["CONVERGED"] * 2 + ["PRIMAL_INFEASIBLE"] * 2
    np.testing.assert_array_equal(found.x[0], found.x[1])
    np.testing.assert_array_equal(found.multipliers.inequality[2] > 0, [False, True, False])
