"""Penalties: proximal operators that are optimal and firmly nonexpansive, derivatives, distances to kinks, Moreau."""

import functools

import cvxpy as cp
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_default import but
from catalogue_penalties import CASES

import dini
from dini import penalties, sets

# a case's programs are its own: each case in one test, each test with one case
pytestmark = pytest.mark.by_default("once")

STEP = 0.9
settings = hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
#: one of each kind: in the default run the others' proximal operators are tested, and all else on these
KINDS = {"l1", "group lasso", "huber", "total variation", "nuclear norm", "entropy", "l0", "scad", "shifted"}
OTHERS = set(CASES) - KINDS
cases = pytest.mark.parametrize("name", but(CASES, OTHERS))
CONVEX = [name for name, case in CASES.items() if case.make(5).convex]


@functools.cache
def penalty_of(name, n=5):
    return CASES[name].make(n)


@functools.cache
def prox_of(name):
    return jax.jit(lambda penalty, x, step: penalty.prox(x, step))


distance_of = jax.jit(lambda penalty, x, step: penalty.kink_distance(x, step))


def points(name, n=5, seed=0, count=1):
    shape = CASES[name].shape(n)
    return np.random.default_rng(seed).standard_normal((count, *shape)) * 1.5


def vectors(name, count):
    shape = CASES[name].shape(5)
    return hnp.arrays(float, (count, *shape), elements=st.floats(-5, 5, allow_subnormal=False))


def test_convexity_is_declared():
    assert set(CASES) - set(CONVEX) == {"l0", "mcp", "scad"}


@cases
def test_values(name):
    """Against NumPy, at a point and at its proximal point (where the barriers and indicators are finite)."""
    penalty = penalty_of(name)
    for x in points(name, count=4):
        for u in (x, np.asarray(penalty.prox(x, STEP))):
            np.testing.assert_allclose(penalty.value(jnp.asarray(u)), CASES[name].value(u), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
@settings
@hypothesis.given(data=st.data(), step=st.floats(0.1, 3))
def test_proximal_operators(name, data, step):
    """The proximal point beats its neighbors (NumPy's value); firmly nonexpansive if convex."""
    x, y = data.draw(vectors(name, 2))
    p, q = np.asarray(prox_of(name)(penalty_of(name), x, step)), np.asarray(prox_of(name)(penalty_of(name), y, step))
    objective = lambda u: 0.5 * np.sum((u - x) ** 2) + step * CASES[name].value(u)
    best = objective(p)
    assert np.isfinite(best)
    rng = np.random.default_rng(0)
    moves = [*np.eye(p.size).reshape(-1, *p.shape), *rng.standard_normal((5, *p.shape)), y - p, q - p, -p, x - p]
    for move in moves:
        for size in (1e-4, -1e-4, 0.3, -0.3, 1.0):
            assert best <= objective(p + size * move) + 1e-9
    if penalty_of(name).convex:
        assert np.sum((p - q) ** 2) <= np.sum((p - q) * (x - y)) + 1e-9


@pytest.mark.parametrize("n", [1, 4, 30])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.judge])
def test_against_cvxpy(name, n):
    case = CASES[name]
    (x,) = points(name, n, seed=n)
    p = cp.Variable(case.shape(n))
    judged = case.judge(p)
    value, constraints = judged if isinstance(judged, tuple) else (judged, [])
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(p - x) + STEP * value), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    np.testing.assert_allclose(prox_of(name)(penalty_of(name, n), x, STEP), p.value, atol=1e-5)


@pytest.mark.parametrize("step", [0.5, 1.5, 2.4, 3.5, 6.0])
@pytest.mark.parametrize("name", ["l0", "mcp", "scad"])
def test_nonconvex_against_search(name, step):
    """The global minimizer over a fine grid, for short steps and for steps with which the operator jumps."""
    grid = np.linspace(-8, 8, 160001)
    value = np.array([CASES[name].value(g[None]) for g in grid[::10]])
    value = np.interp(grid, grid[::10], value)
    value[grid == 0] = 0
    if name == "l0":
        value = 0.7 * (grid != 0)
    xs = np.linspace(-6, 6, 113)
    got = penalty_of(name).prox(jnp.asarray(xs), step)
    for x, p in zip(xs, np.asarray(got), strict=True):
        objective = 0.5 * (grid - x) ** 2 + step * value
        here = 0.5 * (p - x) ** 2 + step * CASES[name].value(np.array([p]))
        assert here <= objective.min() + 1e-6


def differences(run, values, directions, h=1e-6):
    ahead, behind = ([v + s * d for v, d in zip(values, directions, strict=True)] for s in (h, -h))
    return (run(*ahead) - run(*behind)) / (2 * h)


@cases
def test_derivatives(name):
    """In the point, the step size and the parameters, against central differences, away from kinks."""
    leaves, treedef = jax.tree.flatten(penalty_of(name))
    orthogonal = "ortho" in name  # its matrix has no neighbors
    rng = np.random.default_rng(0)
    x = next(x for x in points(name, seed=3, count=50) if not distance_of(penalty_of(name), x, STEP) < 1e-3)
    values = [*map(np.asarray, leaves), np.asarray(STEP), x]
    directions = [np.asarray(rng.standard_normal(value.shape)) for value in values]
    if orthogonal:
        directions = [np.zeros_like(d) if d.ndim == 2 else d for d in directions]
    run = jax.jit(lambda *values: jax.tree.unflatten(treedef, values[:-2]).prox(values[-1], values[-2]))
    cotangent = rng.standard_normal(x.shape)

    @jax.jit
    def derivatives(values, directions, cotangent):
        _, push = jax.linearize(run, *values)
        pull = jax.linear_transpose(push, *values)
        units = jnp.eye(x.size).reshape(-1, *x.shape)
        return push(*directions), pull(cotangent), jax.vmap(lambda unit: pull(unit)[-1])(units)

    got, back, jacobian = derivatives(values, directions, cotangent)
    np.testing.assert_allclose(got, differences(run, values, directions), atol=1e-8)
    # reverse mode is the transpose
    inner = sum(np.vdot(b, d) for b, d in zip(back, directions, strict=True))
    np.testing.assert_allclose(inner, np.vdot(cotangent, got), rtol=1e-9, atol=1e-12)
    jacobian = np.reshape(jacobian, (x.size, x.size))
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-12)
    if penalty_of(name).convex:
        assert np.linalg.eigvalsh(jacobian).min() >= -1e-12
        assert np.linalg.eigvalsh(jacobian).max() <= 1 + 1e-12


@cases
def test_second_derivatives(name):
    """The derivative of the derivative, against differences of first derivatives."""
    rng = np.random.default_rng(2)
    x = next(x for x in points(name, seed=3, count=50) if not distance_of(penalty_of(name), x, STEP) < 1e-3)
    t, s = rng.standard_normal((2, *x.shape))
    first = jax.jit(lambda x: jax.jvp(lambda x: penalty_of(name).prox(x, STEP), (x,), (t,))[1])
    got = jax.jvp(first, (x,), (s,))[1]
    np.testing.assert_allclose(got, differences(first, [x], [s], 1e-5), atol=1e-7)


@cases
def test_derivatives_are_finite_at_kinks(name):
    @jax.jit
    def jacobians(x):
        _, push = jax.linearize(lambda x: penalty_of(name).prox(x, 1.0), x)
        pull = jax.linear_transpose(push, x)
        units = jnp.eye(x.size).reshape(-1, *x.shape)
        return jax.vmap(push)(units), jax.vmap(pull)(units)

    for level in (0.0, 0.7, 1.0):
        for part in jax.tree.leaves(jacobians(np.full(CASES[name].shape(5), level))):
            assert np.isfinite(part).all()


@cases
def test_within_the_distance_to_a_kink_derivatives_hold(name):
    penalty = penalty_of(name)
    rng = np.random.default_rng(1)
    prox = jax.jit(lambda x: penalty.prox(x, STEP))
    directional = jax.jit(lambda x, t: jax.jvp(prox, (x,), (t,))[1])
    tried = 0
    for x in points(name, seed=1, count=12) * 1.3:
        distance = distance_of(penalty, x, STEP)
        assert distance.shape == ()
        if not distance > 1e-2:  # else the differences reach over the kink
            continue
        tried += 1
        for _ in range(6):
            offset, t = rng.standard_normal((2, *x.shape))
            y = x + offset / np.linalg.norm(offset) * min(float(distance), 3.0) * rng.uniform(0.5, 0.999)
            np.testing.assert_allclose(directional(y, t), differences(prox, [y], [t], 1e-6), atol=1e-6)
    assert tried >= 5


EXACT = sorted(
    set(CASES) - {"nonnegative group lasso", "nonnegative l1", "nonnegative ridge", "ridge", "log barrier", "entropy"}
)


@pytest.mark.by_default("l1", "group lasso", "l0", "scad", "nuclear norm")
@pytest.mark.parametrize("name", but(EXACT, OTHERS))
def test_distances_to_kinks_are_reached(name):
    """Straight towards the kink, the derivative changes at the distance and not before."""
    penalty = penalty_of(name)
    jacobian = jax.jit(jax.vmap(jax.jacfwd(lambda x: penalty.prox(x, STEP))))
    toward = jax.jit(jax.grad(lambda x: penalty.kink_distance(x, STEP)))
    for x in points(name, seed=5, count=3):
        distance = float(penalty.kink_distance(x, STEP))
        assert np.isfinite(distance)
        step = toward(jnp.asarray(x))
        np.testing.assert_allclose(np.linalg.norm(step), 1, atol=1e-6)
        over, under = (x - step * distance * factor for factor in (1 + 1e-6, 1 - 1e-6))
        a, b = jacobian(jnp.stack([over, under]))
        assert np.abs(a - b).max() > 1e-2


@pytest.mark.by_default("l1", "group lasso", "nuclear norm", "scad")
@cases
def test_transformations_and_types(name):
    batch = points(name, seed=7, count=4)
    penalty = penalty_of(name)
    steps = np.linspace(0.5, 1.5, 4)
    both = lambda x, step: jax.jvp(lambda x: penalty.prox(x, step), (x,), (jnp.ones_like(x),))
    got = jax.jit(jax.vmap(both))(batch, steps)
    both = jax.jit(both)
    for i, want in enumerate(both(x, step) for x, step in zip(batch, steps, strict=True)):
        np.testing.assert_allclose([part[i] for part in got], want, atol=1e-12)
    with jax.enable_x64(False):
        small = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), CASES[name].make(5))
        single = small.prox(jnp.asarray(batch[0], jnp.float32), steps[0])
        assert small.value(single).dtype == jnp.float32
        assert small.kink_distance(single, STEP).dtype == jnp.float32
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, got[0][0], atol=2e-6)


@pytest.mark.parametrize("name", [name for name in CASES if "simplex" not in name and "ortho" not in name])
def test_empty_unknowns(name):
    x = jnp.zeros(CASES[name].shape(0))
    penalty = CASES[name].make(0)
    assert penalty.prox(x, STEP).shape == x.shape
    assert penalty.value(x) == 0
    assert penalty.kink_distance(x, STEP) == jnp.inf
    assert jax.eval_shape(jax.jacrev(lambda x: penalty.prox(x, STEP)), x).shape == x.shape * 2


@pytest.mark.parametrize("name", but(CONVEX, OTHERS))
def test_moreau(name):
    """x = prox of g + prox of the conjugate; the conjugate's operator keeps to g's subdifferential."""
    penalty = penalty_of(name)
    both = jax.jit(lambda x: (penalty.prox(x, STEP), penalty.conjugate_prox(x / STEP, 1 / STEP)))
    for x in points(name, seed=9, count=3):
        p, q = both(x)
        np.testing.assert_allclose(p + STEP * q, x, atol=1e-12)
        # q is a subgradient at p: g(u) >= g(p) + <q, u - p>
        for u in points(name, seed=10, count=20):
            assert CASES[name].value(u) >= CASES[name].value(np.asarray(p)) + np.sum(np.asarray(q) * (u - p)) - 1e-9


def test_conjugates_that_are_known():
    x = jnp.array([1.3, -0.2, 0.6])
    pairs = [
        (penalties.L1(0.7), sets.Box(-0.7, 0.7)),
        (penalties.GroupLasso(0.7), sets.L2Ball(0.7)),
        (penalties.LInf(0.7), sets.L1Ball(0.7)),
        (penalties.SupportFunction(sets.Simplex()), sets.Simplex()),
    ]
    for penalty, conjugate in pairs:
        np.testing.assert_allclose(penalty.conjugate_prox(x, 1.9), conjugate.project(x), atol=1e-12)
        np.testing.assert_allclose(penalties.SupportFunction(conjugate).prox(x, 1.9), penalty.prox(x, 1.9), atol=1e-12)
    with pytest.raises(ValueError, match="not convex"):
        penalties.L0(1.0).conjugate_prox(x, 1.0)


def test_groups_of_a_matrix_are_named():
    x = jnp.array([[3.0, 4.0], [0.6, 0.8]])
    whole = penalties.GroupLasso(0.5, axis="all")
    np.testing.assert_allclose(whole.prox(x, 1.0), penalties.GroupLasso(0.5).prox(x.ravel(), 1.0).reshape(2, 2))
    np.testing.assert_allclose(whole.value(x), 0.5 * jnp.linalg.norm(x))
    assert not whole.separates_rows(x)
    for call in (
        lambda p: p.prox(x, 1.0),
        lambda p: p.value(x),
        lambda p: p.check(x),
        lambda p: p.kink_distance(x, 1.0),
    ):
        call(whole)
        with pytest.raises(ValueError, match=r'needs an axis for an array of shape \(2, 2\).*axis="all"'):
            call(penalties.GroupLasso(0.5))
    # of a batch of vectors no axis need be named
    each = jax.vmap(lambda row: penalties.GroupLasso(0.5).prox(row, 1.0))(x)
    np.testing.assert_allclose(each, penalties.GroupLasso(0.5, axis=1).prox(x, 1.0))
    with pytest.raises(ValueError, match="GroupLasso's axis must be an integer"):
        penalties.GroupLasso(0.5, axis="rows")


@pytest.mark.thorough
def test_distances_to_kinks_by_hand():
    x = jnp.array([3.0, -0.6, 0.2])
    np.testing.assert_allclose(penalties.L1(0.5).kink_distance(x, 2.0), 0.4)
    np.testing.assert_allclose(penalties.L1(jnp.array([0.5, 0.0, 0.0])).kink_distance(x, 2.0), 2.0)
    np.testing.assert_allclose(penalties.ElasticNet(0.5, 3.0).kink_distance(x, 2.0), 0.4)
    np.testing.assert_allclose(penalties.GroupLasso(0.5).kink_distance(jnp.array([3.0, 4.0]), 2.0), 4.0)
    rows = penalties.GroupLasso(0.5, axis=-1)
    np.testing.assert_allclose(rows.kink_distance(jnp.array([[3.0, 4.0], [0.3, 0.4]]), 2.0), 0.5)
    # zero is no kink of an operator that vanishes there, and one of an operator that does not
    np.testing.assert_allclose(penalties.NonNegative(penalties.L1(0.5)).kink_distance(x, 2.0), 0.8)
    np.testing.assert_allclose(penalties.NonNegative(penalties.Ridge(0.5)).kink_distance(x, 2.0), 0.2)
    for smooth in (penalties.Ridge(0.5), penalties.LogBarrier(0.5), penalties.Entropy(0.5), penalties.L1(0.0)):
        assert smooth.kink_distance(x, 2.0) == jnp.inf
    assert penalties.LInf(0.0).kink_distance(x, 2.0) == jnp.inf
    assert penalties.TotalVariation(0.0).kink_distance(x, 2.0) == jnp.inf
    own = penalties.Custom(lambda x: 0.5 * jnp.sum(x**2), lambda x, step: x / (1 + step))
    assert jnp.isnan(own.kink_distance(x, 2.0))
    known = penalties.Custom(own.function, own.proximal, lambda x, step: jnp.inf * step)
    known.check(x)
    assert known.closed(x).kink_distance(x, 2.0) == jnp.inf
    # trees, steps like the tree, no elements
    tree = {"a": jnp.array([3.0]), "b": jnp.array([[0.9]])}
    np.testing.assert_allclose(penalties.L1(1.0).kink_distance(tree, {"a": 2.5, "b": 0.5}), 0.4)
    product = penalties.Product({"a": penalties.L1(1.0), "b": penalties.Ridge(1.0)})
    np.testing.assert_allclose(product.kink_distance(tree, {"a": 2.5, "b": 0.5}), 0.5)
    np.testing.assert_allclose(
        jax.vmap(penalties.L1(0.5).kink_distance, (0, None))(jnp.stack([x, 2 * x]), 2.0), [0.4, 0.2]
    )


def test_a_proximal_operator_alone():
    """What needs no value works as with one, derivatives and certificates too; what needs it says so."""
    soft = lambda x, step, strength: jnp.sign(x) * jnp.maximum(jnp.abs(x) - strength * step, 0.0)
    A, y = jnp.array([[1.0, 0.3], [0.0, 1.0], [0.5, 0.2]]), jnp.array([1.0, 0.05, 2.0])
    loss = lambda x: 0.5 * jnp.sum((A @ x - y) ** 2)
    solve = lambda s, penalty: dini.minimize(loss, jnp.zeros(2), penalty=penalty(s)).x
    own = lambda s: penalties.Custom(prox=lambda x, step: soft(x, step, s))
    run = lambda s, penalty: (solve(s, penalty), jax.jacobian(solve)(s, penalty))
    got, want = (jax.jit(lambda s, p=p: run(s, p))(0.2) for p in (own, penalties.L1))
    np.testing.assert_allclose(got[0], want[0], atol=1e-7)
    np.testing.assert_allclose(got[1], want[1], atol=1e-6)
    problem = dini.Minimize(loss, penalty=own(0.2))
    assert dini.certified.vjp(problem, want[0], (), jnp.ones(2))[1].reliable
    wrapped = penalties.Product([penalties.Scaled(own(0.1), 2.0), penalties.Shifted(own(0.3), 1.0)])
    np.testing.assert_allclose(wrapped.prox([jnp.ones(1), 3 * jnp.ones(1)], 1.0), [[0.8], [2.7]])
    assert not wrapped.valued
    assert penalties.Product([penalties.L1()]).valued
    for ask in (own(0.2).value, problem.objective, wrapped.penalties[0].value):
        with pytest.raises(TypeError, match=r"dini.penalties.Custom\(prox=...\) has no value.*Custom\(value"):
            ask(jnp.ones(2))
    with pytest.raises(ValueError, match=r"BlockCoordinateDescent compares values .* Custom has none"):
        dini.solve(problem, dini.BlockCoordinateDescent(), jnp.zeros(2))
    with pytest.raises(TypeError, match=r"Custom needs a proximal operator, .*: given a value alone"):
        penalties.Custom(lambda x: jnp.sum(x))


def test_trees_and_products():
    tree = {"a": jnp.array([1.0, -2.0, 0.3]), "b": jnp.array([[3.0, 0.0], [1.0, 1.0]])}
    product = penalties.Product({"a": penalties.TotalVariation(0.5), "b": penalties.NuclearNorm(0.5)})
    product.check(tree)
    got = product.prox(tree, 2.0)
    np.testing.assert_allclose(got["a"], penalties.TotalVariation(1.0).prox(tree["a"], 1.0))
    np.testing.assert_allclose(got["b"], penalties.NuclearNorm(1.0).prox(tree["b"], 1.0))
    np.testing.assert_allclose(
        product.value(tree), 0.5 * 5.3 + 0.5 * np.linalg.norm(np.asarray(tree["b"]), "nuc"), rtol=1e-12
    )
    assert not penalties.Product([penalties.L1(), penalties.L0()]).convex
    assert penalties.Product([penalties.L1(), penalties.L0()]).elementwise
    with pytest.raises(ValueError, match="Product does not fit"):
        product.check({"a": tree["a"]})
    with pytest.raises(TypeError, match=r"Indicator"):
        penalties.Product({"a": sets.NonNegative(), "b": penalties.L1()}).check(tree)
    # a vector that is spread over a tree
    flat = jnp.concatenate([tree["a"], tree["b"].ravel()])
    spread = penalties.LInf(0.7).prox(tree, 1.0)
    np.testing.assert_allclose(np.concatenate([spread["a"], spread["b"].ravel()]), penalties.LInf(0.7).prox(flat, 1.0))
    scaled = penalties.Scaled(penalties.L1(0.5), 2.0).prox(tree, {"a": 1.0, "b": 2.0})
    np.testing.assert_allclose(scaled["b"], [[1.0, 0.0], [0.0, 0.0]])
    turned = penalties.Orthogonal(penalties.L1(0.5), lambda x: {"image": x["a"][::-1]})
    turned.check({"a": tree["a"]})
    np.testing.assert_allclose(turned.prox({"a": tree["a"]}, 1.0)["a"], [0.5, -1.5, 0.0])


def test_rows():
    x = jnp.array([[3.0, 0.0, 0.4], [1.0, 1.0, -2.0]])
    for make in (
        lambda: penalties.GroupLasso(1.0, axis=-1),
        lambda: penalties.TotalVariation(1.0),
        lambda: penalties.NonNegative(penalties.GroupLasso(1.0, axis=1)),
        lambda: penalties.Shifted(penalties.L1(0.3), jnp.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]])),
        lambda: penalties.Scaled(penalties.L1(jnp.ones((2, 1))), 2.0),
        lambda: penalties.SupportFunction(sets.Simplex(axis=-1)),
        lambda: penalties.Indicator(sets.Box(0.0, 1.0)),
        lambda: penalties.MCP(0.5, jnp.array([[2.0], [3.0]])),
    ):
        penalty = make()
        penalty.check(x)
        assert penalty.separates_rows(x)
        np.testing.assert_allclose(penalty.row(1, x).prox(x[1], 1.0), penalty.prox(x, 1.0)[1], atol=1e-14)
    assert not penalties.TotalVariation(1.0, axis=0).separates_rows(x)
    assert not penalties.Orthogonal(penalties.L1(), lambda x: x).separates_rows(x)


@pytest.mark.thorough
def test_sorted_norms_that_are_others():
    x = jnp.array([2.5, -0.4, 1.1, -2.2])
    for strength, other in [
        (0.7, penalties.L1(0.7)),
        (np.full(4, 0.7), penalties.L1(0.7)),
        (np.array([0.7, 0.0, 0.0, 0.0]), penalties.LInf(0.7)),
    ]:
        penalty = penalties.SortedL1(strength)
        penalty.check(x)
        np.testing.assert_allclose(penalty.value(x), other.value(x), rtol=1e-14)
        np.testing.assert_allclose(penalty.prox(x, 0.9), other.prox(x, 0.9), atol=1e-14)
        np.testing.assert_allclose(penalty.kink_distance(x, 0.9), other.kink_distance(x, 0.9), atol=1e-14)


@pytest.mark.thorough
def test_barriers_far_out():
    """No cancellation and no overflow, in single precision, with derivatives."""
    with jax.enable_x64(False):
        x = jnp.array([-1e4, -50.0, 0.0, 50.0, 1e4, 1e25], jnp.float32)
        log = penalties.LogBarrier(1.0).prox(x, 1.0)
        want = np.array([1e-4, 0.0199920064, 1.0, 50.0199920064, 1e4 + 1e-4, 1e25])
        np.testing.assert_allclose(log, want, rtol=1e-6)
        slope = jax.vmap(jax.grad(lambda x: penalties.LogBarrier(1.0).prox(x, 1.0)))(x)
        np.testing.assert_allclose(slope, 1 / (1 + want**-2.0), rtol=2e-5)
        entropy = penalties.Entropy(1.0).prox(x, 1.0)
        # p + log p + 1 = x
        np.testing.assert_allclose(entropy[0], 0)
        np.testing.assert_allclose(entropy[3:] + np.log(entropy[3:]) + 1, x[3:], rtol=1e-6)
        slope = jax.vmap(jax.grad(lambda x: penalties.Entropy(1.0).prox(x, 1.0)))(x)
        np.testing.assert_allclose(slope, entropy / (1 + entropy), rtol=1e-6)
    z = jnp.linspace(-30.0, 30.0, 1001)
    p = penalties.Entropy(1.0).prox(z, 1.0)
    np.testing.assert_allclose(np.log(p) + p + 1, z, atol=1e-13)


def test_total_variation_of_long_signals():
    """Against the optimality conditions: multipliers within the threshold, at it with the sign of each jump."""
    rng = np.random.default_rng(0)
    y = np.repeat(rng.standard_normal(40), 50) + 0.3 * rng.standard_normal(2000) + 1e3
    for level in (0.01, 1.0, 30.0, 1e4):
        x = np.asarray(penalties.TotalVariation(level).prox(jnp.asarray(y), 1.0))
        multipliers = np.cumsum(x - y)
        np.testing.assert_allclose(multipliers[-1], 0, atol=1e-8)
        assert np.abs(multipliers[:-1]).max() <= level + 1e-8
        jumps = np.diff(x) != 0
        np.testing.assert_allclose(multipliers[:-1][jumps], level * np.sign(np.diff(x)[jumps]), atol=1e-8)
    np.testing.assert_allclose(x, y.mean(), rtol=1e-14)


def test_bad_input_raises():
    x = jnp.ones(3)
    for make, match in [
        (lambda: penalties.LogBarrier(0.0), "LogBarrier's strength must be positive"),
        (lambda: penalties.Entropy(-1.0), "Entropy's strength must be positive"),
        (lambda: penalties.Huber(1.0, delta=0.0), "Huber's delta must be positive"),
        (lambda: penalties.TotalVariation(-1.0), "nonnegative"),
        (lambda: penalties.NuclearNorm(-1.0), "nonnegative"),
        (lambda: penalties.LInf(-1.0), "nonnegative"),
        (lambda: penalties.SortedL1(np.array([1.0, 2.0])), "must not be above the one before"),
        (lambda: penalties.SortedL1(np.array([1.0, -2.0])), "nonnegative"),
        (lambda: penalties.SortedL1(np.array([2.0, 1.0])).check(x), "each of the 3 elements"),
        (lambda: penalties.MCP(1.0, gamma=0.0), "MCP's gamma must be positive"),
        (lambda: penalties.SCAD(1.0, gamma=1.0), "SCAD's gamma must be above 1"),
        (lambda: penalties.Scaled(penalties.L1(), 0.0), "Scaled's factor must be positive"),
        (lambda: penalties.NonNegative(penalties.TotalVariation()), "only on absolute values"),
        (lambda: penalties.NonNegative(penalties.Shifted(penalties.L1(), 1.0)), "only on absolute values"),
        (lambda: penalties.L1(1.0).prox(x, -1.0), "step_size must be positive"),
        (lambda: penalties.NuclearNorm(1.0).prox(x[:, None], 0.0), "step_size must be positive"),
        (lambda: penalties.TotalVariation(jnp.ones(3)).check(x), "must be a scalar"),
        (lambda: penalties.TotalVariation(1.0, axis=1).check(x), "axis of every leaf"),
        (lambda: penalties.NuclearNorm(1.0).check(x), "needs matrices"),
        (lambda: penalties.Shifted(penalties.L1(), jnp.ones(2)).check(x), "must broadcast"),
        (lambda: penalties.Orthogonal(penalties.L1(), 2 * jnp.eye(3)).check(x), "orthonormal rows"),
        (lambda: penalties.Orthogonal(penalties.L1(), jnp.eye(2)).check(x), "does not fit"),
        (lambda: penalties.Indicator(sets.Simplex()).check(jnp.ones((2, 2))), "axis"),
    ]:
        with pytest.raises(ValueError, match=match):
            make()
    for make in (
        lambda: penalties.Scaled(sets.NonNegative()),
        lambda: penalties.Shifted(jnp.ones(2)),
        lambda: penalties.Indicator(penalties.L1()),
    ):
        with pytest.raises(TypeError, match="needs a"):
            make()


DESIGN = np.random.default_rng(0).standard_normal((8, 5))


@pytest.mark.by_default("l1", "group lasso", "nuclear norm")
@cases
def test_problems_with_a_penalty(name):
    """Minimize with each penalty: the solution is a fixed point, its derivative agrees with differences."""
    shape = CASES[name].shape(5)
    design = jnp.asarray(DESIGN)
    target = jnp.asarray(points(name, n=8, seed=11)[0])

    def solve(target, factor):
        problem = dini.Minimize(
            lambda x, b: 0.5 * jnp.sum((design @ x - b) ** 2), penalty=penalties.Scaled(penalty_of(name), factor)
        )
        return dini.solve(problem, dini.ProximalGradient(tol=1e-11, max_steps=20000), jnp.ones(shape) * 0.2, target).x

    solve = jax.jit(solve)
    x = solve(target, 1.0)
    gradient = DESIGN.T @ (DESIGN @ x - target)
    np.testing.assert_allclose(penalty_of(name).prox(x - 0.01 * gradient, 0.01), x, atol=1e-9)
    t = jnp.asarray(points(name, n=8, seed=12)[0])
    got = jax.jvp(solve, (target, 1.0), (t, 0.3))[1]
    want = differences(solve, [target, 1.0], [t, 0.3], 1e-5)
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.thorough
def test_nonconvex_penalties_have_no_reduction():
    """The symmetric stand-in for the linear system needs an operator with slopes in [0, 1]."""
    x = jnp.array([1.2, 0.0])
    fun = lambda x: 0.5 * jnp.sum((x - jnp.array([1.5, 0.1])) ** 2)
    condition = dini.conditions.ProximalGradient(step_size=0.5)
    for penalty, convex in [(penalties.MCP(0.7, 2.0), False), (penalties.Scaled(penalties.L0(0.7)), False)]:
        assert penalty.convex == convex
        assert condition.linearize(dini.Minimize(fun, penalty=penalty), x)[1] is None
    assert condition.linearize(dini.Minimize(fun, penalty=penalties.L1(0.7)), x)[1] is not None
    assert condition.linearize(dini.Minimize(fun, constraint=sets.NonNegative()), x)[1] is not None


@pytest.mark.parametrize("inner", [penalties.Indicator(sets.Simplex()), penalties.SupportFunction(sets.Simplex())])
def test_an_orthogonal_map_around_a_penalty_of_a_set_in_a_problem(inner):
    Q = jnp.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0])
    target, penalty = jnp.array([1.0, 2.0, 3.0]), penalties.Orthogonal(inner, Q)
    x = dini.minimize(lambda x: 0.5 * jnp.sum((x - target) ** 2), jnp.zeros(3), penalty=penalty).x
    np.testing.assert_allclose(x, Q.T @ inner.prox(Q @ target, 1.0), atol=1e-6)
