"""A penalty on a set: proximal operators of sums, problems with both, exactly or split, and their derivatives."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import Status, penalties, sets

TIGHT = {"solver": "CLARABEL", "tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
WEIGHTS = np.array([0.1, 0.5, 0.9, 0.2, 0.3, 0.4])
NORMAL = np.array([1.0, -1.0, 2.0, 0.5, 1.0, 1.0])


def elastic(v):
    return 0.7 * cp.norm1(v) + 0.175 * cp.sum_squares(v)


# a penalty of strength s and a set of size r, both as dini's and as CVXPY's
PAIRS = {
    "l1, box": (
        lambda s, r: (penalties.L1(0.7 * s), sets.Box(-0.2, r)),
        lambda v: (0.7 * cp.norm1(v), [v >= -0.2, v <= 1]),
    ),
    "elastic net, box of arrays": (
        lambda s, r: (penalties.ElasticNet(0.7 * s, 0.5), sets.Box(-0.2 * NORMAL**2, r * WEIGHTS)),
        lambda v: (elastic(v), [v >= -0.2 * NORMAL**2, v <= WEIGHTS]),
    ),
    "huber, interval": (
        lambda s, r: (penalties.Huber(0.7 * s, 0.4), sets.LInfBall(r)),
        lambda v: (0.7 * cp.sum(cp.huber(v, 0.4)) / 0.8, [cp.abs(v) <= 1]),
    ),
    "entropy, box": (
        lambda s, r: (penalties.Entropy(0.7 * s), sets.Box(0.1, 0.5 * r)),
        lambda v: (-0.7 * cp.sum(cp.entr(v)), [v >= 0.1, v <= 0.5]),
    ),
    "l1, ball": (
        lambda s, r: (penalties.L1(0.7 * s * WEIGHTS), sets.L2Ball(r)),
        lambda v: (0.7 * WEIGHTS @ cp.abs(v), [cp.norm(v) <= 1]),
    ),
    "elastic net, ball": (
        lambda s, r: (penalties.ElasticNet(0.7 * s, 0.5), sets.L2Ball(r)),
        lambda v: (elastic(v), [cp.norm(v) <= 1]),
    ),
    "groups, ball": (
        lambda s, r: (penalties.GroupLasso(0.7 * s, axis=-1), sets.L2Ball(r)),
        lambda v: (0.7 * sum(cp.norm(v[2 * i : 2 * i + 2]) for i in range(3)), [cp.norm(v) <= 1]),
    ),
    "nonnegative sorted l1, ball": (
        lambda s, r: (penalties.NonNegative(penalties.L1(0.4 * s)), sets.L2Ball(r)),
        lambda v: (0.4 * cp.sum(v), [v >= 0, cp.norm(v) <= 1]),
    ),
    "total variation, interval": (
        lambda s, r: (penalties.TotalVariation(0.3 * s), sets.Box(-0.2, 0.4 * r)),
        lambda v: (0.3 * cp.tv(v), [v >= -0.2, v <= 0.4]),
    ),
    "group, nonnegative": (
        lambda s, r: (penalties.GroupLasso(0.7 * s * r), sets.NonNegative()),
        lambda v: (0.7 * cp.norm(v), [v >= 0]),
    ),
    "group, second-order cone": (
        lambda s, r: (penalties.GroupLasso(0.4 * s * r), sets.SecondOrder()),
        lambda v: (0.4 * cp.norm(v), [cp.norm(v[1:]) <= v[0]]),
    ),
    "ridge, l1 ball": (
        lambda s, r: (penalties.Ridge(0.7 * s), sets.L1Ball(r)),
        lambda v: (0.35 * cp.sum_squares(v), [cp.norm1(v) <= 1]),
    ),
    "entropy, simplex": (
        lambda s, r: (penalties.Entropy(0.7 * s), sets.Simplex(r)),
        lambda v: (-0.7 * cp.sum(cp.entr(v)), [v >= 0, cp.sum(v) == 1]),
    ),
    "weights, simplex": (
        lambda s, r: (penalties.L1(s * WEIGHTS), sets.Simplex(r)),
        lambda v: (WEIGHTS @ v, [v >= 0, cp.sum(v) == 1]),
    ),
    "l1, section": (
        lambda s, r: (penalties.L1(0.7 * s), sets.BoxSection(-1.0, 2.0, NORMAL, 0.3 * r)),
        lambda v: (0.7 * cp.norm1(v), [v >= -1, v <= 2, NORMAL @ v == 0.3]),
    ),
}


@pytest.mark.by_default(
    without=["l1, box", "total variation, interval", "groups, ball", "weights, simplex", "l1, section"]
)
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("name", PAIRS)
def test_proximal_operators_of_sums(name):
    """Against CVXPY, with derivatives in the point, the step size, the strength and the size of the set."""
    make, formula = PAIRS[name]
    shape = (3, 2) if name.startswith("groups") else (6,)
    rng = np.random.default_rng(len(name))
    points, directions = rng.normal(size=(2, 3, 6))
    directions = [directions, *rng.normal(size=(3, 3))]
    base = [1.3 * points, np.full(3, 0.8), np.ones(3), np.ones(3)]

    def prox(x, eta, s, r):
        problem = dini.Minimize(lambda x: jnp.sum(x), *make(s, r)[::-1])
        assert problem.constraint is None
        return problem.penalty.prox(x.reshape(shape), eta).ravel()

    @jax.jit
    @jax.vmap
    def run(at, along):
        p, tangent = jax.jvp(prox, at, along)
        back = jax.vjp(prox, *at)[1](jnp.cos(jnp.arange(6.0)))
        return p, tangent, sum(jnp.sum(a * b) for a, b in zip(back, along, strict=True))

    h = 1e-6
    (p, tangent, product), up, down = (
        run([a + t * d for a, d in zip(base, directions, strict=True)], directions) for t in (0.0, h, -h)
    )
    np.testing.assert_allclose(tangent, (up[0] - down[0]) / (2 * h), atol=2e-7)
    np.testing.assert_allclose(product, tangent @ np.cos(np.arange(6.0)), atol=1e-12)
    for x, found in zip(base[0], p, strict=True):
        v = cp.Variable(6)
        value, constraints = formula(v)
        cp.Problem(cp.Minimize(0.5 * cp.sum_squares(v - x) + 0.8 * value), constraints).solve(**TIGHT)
        np.testing.assert_allclose(found, v.value, atol=2e-5)


def test_values_and_distances():
    x = jnp.array([0.5, 1.3, -0.3, 3.0])
    part = dini.Minimize(jnp.sum, sets.Box(0.0, 1.0), penalties.L1(0.1)).penalty
    ball = penalties.Constrained(penalties.L1(0.1), sets.L2Ball(2.0))
    smooth = penalties.Constrained(penalties.Entropy(), sets.Simplex())

    @jax.jit
    def run(x):
        p = ball.prox(x, 1.0)
        values = part.value(x), part.value(jnp.clip(x, 0, 1)), ball.value(p) - 0.1 * jnp.sum(jnp.abs(p))
        at_rest, far = jnp.zeros(1), jnp.array([3.1])
        distances = part.kink_distance(x, 1.0), part.kink_distance(at_rest, 1.0), ball.kink_distance(far, 1.0)
        return values, (*distances, smooth.kink_distance(x, 1.0))

    values, distances = run(x)
    np.testing.assert_allclose(values, [jnp.inf, 0.25, 0.0], atol=1e-15)
    # 1.3 - 0.1 is 0.2 above its bound; -0.3 is 0.2 from the threshold; what rests at zero is at no kink of the bound
    np.testing.assert_allclose(distances, [0.2, 0.1, 1.0, jnp.inf])
    assert isinstance(dini.Minimize(jnp.sum, sets.NonNegative(), penalties.L0()).penalty, penalties.NonNegative)


def test_products():
    """Parts on their own, and one of both for a tree of the other."""
    x = {"a": jnp.array([2.0, -1.0]), "b": jnp.array([0.2, 0.9])}
    pair = {"a": penalties.L1(0.5), "b": penalties.Entropy(0.5)}, {"a": sets.Box(0.0, 1.0), "b": sets.Simplex()}
    both = dini.Minimize(jnp.sum, sets.Product(pair[1]), penalties.Product(pair[0])).penalty
    spread = dini.Minimize(jnp.sum, sets.Product(pair[1]), penalties.L1(0.5)).penalty
    groups = penalties.Product({"a": penalties.TotalVariation(0.5), "b": penalties.L1(0.5)})
    clipped = dini.Minimize(jnp.sum, sets.Box(-1.0, 0.3), groups).penalty
    alone = penalties.Constrained(pair[0]["b"], pair[1]["b"])
    parts = both, spread, clipped
    found, alone, simple = jax.jit(
        lambda x: ([part.prox(x, 1.0) for part in parts], alone.prox(x["b"], 1.0), pair[1]["b"].project(x["b"]))
    )(x)
    np.testing.assert_allclose([part["a"] for part in found], [[1.0, 0.0], [1.0, 0.0], [0.3, -0.5]])
    np.testing.assert_allclose([part["b"] for part in found], [alone, simple, [0.0, 0.3]], atol=1e-12)


def test_an_empty_intersection_is_told():
    with pytest.raises(dini.SolveError, match="infinite at every point of the constraint set"):
        penalties.Constrained(penalties.Entropy(), sets.Box(-2.0, -1.0)).prox(jnp.ones(2), 1.0)
    with pytest.raises(dini.SolveError) as caught:
        dini.minimize(jnp.sum, jnp.ones(2), constraint=sets.Box(-2.0, -1.0), penalty=penalties.LogBarrier())
    assert caught.value.status == Status.NONFINITE


def test_second_derivatives_of_a_multiplier():
    """Of the entropic projection, whose Jacobian changes with the point, to the fourth order of the differences."""
    part = penalties.Constrained(penalties.Entropy(0.5), sets.Simplex())
    x, t, w = jnp.array([0.3, 0.1, -0.5]), jnp.array([1.0, -0.5, 0.2]), jnp.array([1.0, 2.0, -1.0])
    f = lambda a: jnp.vdot(w, part.prox(x + a * t, 1.0))
    run = jax.jit(jax.vmap(lambda a: (jax.grad(f)(a), jax.grad(jax.grad(f))(a), jax.jvp(jax.grad(f), (a,), (1.0,))[1])))
    h = 1e-3
    first, second, forward = run(jnp.array([0.0, h, -h, 2 * h, -2 * h]))
    np.testing.assert_allclose(second[0], (8 * (first[1] - first[2]) - (first[3] - first[4])) / (12 * h), rtol=1e-8)
    np.testing.assert_allclose(second, forward, rtol=1e-9)


A = np.random.default_rng(0).normal(size=(12, 6))
Y = 2 * np.random.default_rng(1).normal(size=12)


def squares(x):
    return 0.5 * jnp.sum((A @ x - Y) ** 2)


def orthant_below(r):
    return sets.Polyhedron(jnp.concatenate([-jnp.eye(6), jnp.ones((1, 6))]), jnp.concatenate([jnp.zeros(6), r[None]]))


# with a solver of their own, and so with CVXPY's value and constraints
PROBLEMS = {
    "bounds": (
        lambda s, r: {"constraint": sets.Box(0, r), "penalty": penalties.L1(s)},
        lambda v: (0.5 * cp.norm1(v), [v >= 0, v <= 0.8]),
    ),
    "a working set": (
        lambda s, r: {
            "constraint": sets.Box(-0.1, r),
            "penalty": penalties.L1(s),
            "solver": dini.ProximalNewton(),
        },
        lambda v: (0.5 * cp.norm1(v), [v >= -0.1, v <= 0.8]),
    ),
    "coordinates": (
        lambda s, r: {
            "constraint": sets.Box(-0.1, r),
            "penalty": penalties.ElasticNet(s, 0.5),
            "solver": dini.CoordinateDescent(),
        },
        lambda v: (0.5 * cp.norm1(v) + 0.125 * cp.sum_squares(v), [v >= -0.1, v <= 0.8]),
    ),
    "entropy": (
        lambda s, r: {"constraint": sets.Simplex(r), "penalty": penalties.Entropy(s)},
        lambda v: (-0.5 * cp.sum(cp.entr(v)), [v >= 0, cp.sum(v) == 0.8]),
    ),
    "split": (
        lambda s, r: {"constraint": sets.Box(-0.2, r), "penalty": penalties.GroupLasso(5 * s, axis=-1)},
        lambda v: (2.5 * cp.norm(v), [v >= -0.2, v <= 0.8]),
    ),
    "split, with kinks at the bounds": (
        lambda s, r: {"constraint": orthant_below(r), "penalty": penalties.L1(6 * s)},
        lambda v: (3 * cp.norm1(v), [v >= 0, cp.sum(v) <= 0.8]),
    ),
    "split, of one's own": (
        lambda s, r: {
            "constraint": sets.Custom(lambda x: jnp.clip(x, -0.2, r)),
            "penalty": penalties.Custom(prox=lambda x, step: jnp.sign(x) * jnp.maximum(jnp.abs(x) - step * s, 0.0)),
        },
        lambda v: (0.5 * cp.norm1(v), [v >= -0.2, v <= 0.8]),
    ),
    "split, as was asked": (
        lambda s, r: {"constraint": sets.Box(0, r), "penalty": penalties.L1(s), "solver": dini.DouglasRachford()},
        lambda v: (0.5 * cp.norm1(v), [v >= 0, v <= 0.8]),
    ),
}


@pytest.mark.by_default("bounds", "split")
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_constraint_and_a_penalty(name):
    """Solutions against CVXPY, derivatives against differences, in both modes."""
    parts, formula = PROBLEMS[name]
    weights = jnp.cos(jnp.arange(6.0))
    solve = lambda s, r: dini.minimize(squares, jnp.zeros(6), **parts(s, r)).x
    at = jnp.array(0.5), jnp.array(0.8)
    run = jax.jit(lambda *at: (solve(*at), jax.jacfwd(solve, (0, 1))(*at), jax.vjp(solve, *at)[1](weights)))
    x, forward, backward = run(*at)
    v = cp.Variable(6)
    value, constraints = formula(v)
    cp.Problem(cp.Minimize(0.5 * cp.sum_squares(A @ v - Y) + value), constraints).solve(**TIGHT)
    np.testing.assert_allclose(x, v.value, atol=1e-5)
    h = 1e-4
    for i, (columns, gradient) in enumerate(zip(forward, backward, strict=True)):
        up, down = (run(*(a + t * (i == j) for j, a in enumerate(at)))[0] for t in (h, -h))
        np.testing.assert_allclose(columns, (up - down) / (2 * h), atol=2e-5)
        np.testing.assert_allclose(gradient, weights @ columns, atol=1e-9)
    assert float(jnp.max(jnp.abs(jnp.stack(forward)))) > 0.01


@pytest.mark.thorough
def test_a_split_solution_that_is_not_unique_has_no_derivative():
    """The multiplier may be any; where the unknown itself may move, the derivative is refused, as without a split."""
    own = penalties.Custom(prox=lambda x, step: x)
    loss = lambda x, a: 0.5 * (x[0] + x[1] - a) ** 2
    solve = lambda a, how: (
        dini.minimize(loss, jnp.ones(2), a, constraint=sets.Box(-9.0, 9.0), penalty=own, differentiation=how).x
    )
    forward = lambda a: jax.jvp(lambda a: solve(a, dini.Implicit()), (a,), (1.0,))
    for derivative in (forward, jax.grad(lambda a: solve(a, dini.Implicit())[0])):
        with pytest.raises(dini.DerivativeError, match="was not solved: its matrix is singular"):
            jax.block_until_ready(derivative(1.0))
    # asked for by name
    shortest = dini.Implicit(linear_solver=dini.linear.MinimumNorm())
    np.testing.assert_allclose(jax.jacfwd(lambda a: solve(a, shortest))(1.0), [0.5, 0.5], atol=1e-9)


@pytest.mark.thorough
def test_a_large_split_problem():
    """Above the size of dense systems: 300 unknowns and as many multipliers, some of which are not unique."""
    rng = np.random.default_rng(3)
    c = jnp.asarray(rng.normal(size=300))
    loss = lambda x, c: jnp.sum(jnp.cosh(x - c))
    own = lambda s: penalties.Custom(prox=lambda x, step: jnp.sign(x) * jnp.maximum(jnp.abs(x) - step * s, 0.0))
    solve = lambda s, c, **parts: dini.minimize(loss, jnp.zeros(300), c, constraint=sets.NonNegative(), **parts).x
    split = jax.jit(lambda s: jax.value_and_grad(lambda s: jnp.sum(solve(s, c, penalty=own(s)) ** 2))(s))(0.3)
    exact = jax.jit(lambda s: jax.value_and_grad(lambda s: jnp.sum(solve(s, c, penalty=penalties.L1(s)) ** 2))(s))(0.3)
    np.testing.assert_allclose(split, exact, rtol=1e-6)


def test_pairs_that_are_refused():
    problem = {"constraint": sets.Box(-1.0, 1.0), "penalty": penalties.MCP(0.1)}
    with pytest.raises(ValueError, match=r"together must be convex .*MCP is not. Given MCP on Box"):
        dini.minimize(squares, jnp.zeros(6), **problem)
    pair = sets.Polyhedron(np.ones((1, 6)), np.ones(1)), penalties.L1(0.1)
    with pytest.raises(ValueError, match=r"L1 on Polyhedron is not known. dini.minimize.*splits.*dini.Composite"):
        dini.Minimize(squares, *pair)
    with pytest.raises(ValueError, match=r"L1 on Polyhedron is not known"):
        penalties.Constrained(pair[1], pair[0])
    with pytest.raises(TypeError, match=r"ProximalGradient solves problems of the kinds .*Use CondatVu"):
        dini.minimize(squares, jnp.zeros(6), constraint=pair[0], penalty=pair[1], solver=dini.ProximalGradient())
    with pytest.raises(TypeError, match=r"Minimize's penalty must be an object of dini.penalties"):
        dini.minimize(squares, jnp.zeros(6), constraint=pair[0], penalty=0.1)
