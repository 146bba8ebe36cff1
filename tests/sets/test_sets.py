"""The sets: projections beside CVXPY, feasible, nonexpansive, optimal; derivatives beside finite differences; kinks."""

import functools
import logging

import cvxpy as cp
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from catalogue_sets import CASES, derivatives, inner, project

from dini import penalties, sets
from dini.sets._transport import _euclidean_dual

# a case's programs are its own: each case in one test, each test with one case
pytestmark = pytest.mark.by_default("once")

SAME_SUMS = next(case.consistent for case in CASES if case.name == "transportation polytope")
NAMES = {case.name: case for case in CASES}
#: the first is that of all other tests, whose programs it shares
SIZES = (4, 2, 11)
#: their programs take long to compile; they have tests of their own, too
LARGE = {
    "Birkhoff polytope",
    "transportation polytope",
    "polyhedron",
    "polyhedron with equations",
    "cross-polytope",
    "box and hyperplane",
    "three sets",
}
#: one of each kind: in the default run the others are projected beside CVXPY, and all else is tested on these
KINDS = {"nonnegative", "box", "simplex", "l1 ball", "l2 ball", "hyperplane", "affine", "isotonic cone", "polyhedron"}
all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
cases = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[] if case.name in KINDS else [pytest.mark.thorough]) for case in CASES],
)


def mark(name):
    return pytest.mark.slow if name in LARGE else pytest.mark.thorough


light_cases = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[] if case.name in KINDS - LARGE else [mark(case.name)]) for case in CASES],
)
settings = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
distance = jax.jit(lambda part, x: part.kink_distance(x))
residual = jax.jit(lambda part, x: part.residual(x))


@functools.cache
def example(name, n=4):
    return NAMES[name].make(n, np.random.default_rng(n))


def point(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape) * 1.5


def violation(case, p):
    """The largest violation of the constraints as CVXPY sees them."""
    variable = cp.Variable(p.shape)
    variable.value = np.asarray(p)
    return max(np.max(np.abs(c.violation()), initial=0) for c in case.constraints(variable))


@pytest.mark.by_default("each")
@all_cases
@pytest.mark.parametrize("n", SIZES)
def test_agrees_with_cvxpy(case, n):
    one = example(case.name, n)
    for seed in range(3):
        y = point(one.shape, seed) * 3.0**seed / 2
        variable = cp.Variable(one.shape)
        problem = cp.Problem(cp.Minimize(cp.sum_squares(variable - y)), one.constraints(variable))
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=case.gap, tol_gap_rel=case.gap, tol_feas=case.gap)
        p = project(one.set, y)
        # a gap g in the squared distance is an error of up to its root in the point
        np.testing.assert_allclose(p, variable.value, atol=max(1e-6, case.gap**0.5) * (1 + np.abs(y).max()))
        assert violation(one, p) <= 1e-9 * (1 + np.abs(y).max())


@cases
@settings
@hypothesis.given(data=st.data())
def test_the_projection_is_one(case, data):
    """Feasible, idempotent, firmly nonexpansive; the variational inequality against other members."""
    one = example(case.name)
    arrays = hnp.arrays(float, one.shape, elements=st.floats(-5, 5, allow_subnormal=False, width=32))
    x, y = data.draw(arrays), data.draw(arrays)
    p, q = np.asarray(project(one.set, x)), np.asarray(project(one.set, y))
    assert violation(one, p) <= 1e-9
    assert residual(one.set, p) <= 1e-9
    np.testing.assert_allclose(project(one.set, p), p, atol=1e-9)
    assert inner(p - q, p - q) <= inner(p - q, x - y) + 1e-9
    assert inner(x - p, q - p) <= 1e-8
    assert distance(one.set, x) >= 0 or case.kink == "unknown"


def smooth_point(case, one):
    """A point well away from kinks, with a projection that is not the point itself."""
    for seed in range(200):
        y = point(one.shape, seed)
        far = case.kink == "unknown" or distance(one.set, y) > 0.02
        if far and residual(one.set, jnp.asarray(y)) > 0.1:
            return jnp.asarray(y)
    raise AssertionError("no such point")


@cases
def test_derivatives(case):
    """In the point and in the parameters, against central differences; the Jacobian in the point is a symmetric one."""
    one = example(case.name)
    y = smooth_point(case, one)
    rng = np.random.default_rng(1)
    base = jax.tree.map(jnp.asarray, one.set)
    direction = case.consistent(jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), base))
    t = jnp.asarray(rng.standard_normal(one.shape))
    v = jnp.asarray(rng.standard_normal(one.shape))
    got, back, to, jacobian = derivatives(base, y, direction, t, v)
    h = 1e-6
    moved = lambda s: project(jax.tree.map(lambda a, d: a + s * d, base, direction), y + s * t)
    want = (moved(h) - moved(-h)) / (2 * h)
    np.testing.assert_allclose(got, want, atol=1e-6 * max(1, np.abs(want).max()))
    # reverse mode is the transpose, in all arguments
    np.testing.assert_allclose(inner(back, direction) + inner(to, t), inner(v, got), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-9)
    eigenvalues = np.linalg.eigvalsh(jacobian)
    assert eigenvalues.min() >= -1e-9
    assert eigenvalues.max() <= 1 + 1e-9
    if case.polyhedral:
        np.testing.assert_allclose(jacobian @ jacobian, jacobian, atol=1e-8)


@light_cases
def test_second_derivatives(case):
    """Reverse over forward, against central differences of the gradient."""
    one = example(case.name)
    y = smooth_point(case, one)
    base = jax.tree.map(jnp.asarray, one.set)
    rng = np.random.default_rng(2)
    direction = case.consistent(jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), base))
    v, t = (jnp.asarray(rng.standard_normal(one.shape)) for _ in range(2))
    along = lambda s: project(jax.tree.map(lambda a, d: a + s * d, base, direction), y + s * t)
    slope = jax.jit(jax.grad(lambda s: jnp.vdot(v, along(s)) + jnp.sum(along(s) ** 2)))
    h = 1e-5
    want = (slope(h) - slope(-h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(slope)(0.0), want, rtol=1e-6, atol=1e-6)


@cases
def test_the_projection_is_smooth_up_to_the_kink_distance(case):
    one = example(case.name)
    base = jax.tree.map(jnp.asarray, one.set)
    still = jax.tree.map(jnp.zeros_like, base)
    jacobian = lambda y: derivatives(base, y, still, jnp.zeros(one.shape), jnp.zeros(one.shape))[-1]
    if case.kink == "unknown":
        assert np.isnan(distance(one.set, point(one.shape, 0)))
        return
    if not case.polyhedral:
        return
    rng = np.random.default_rng(0)
    for seed in range(6):
        y = point(one.shape, seed)
        d, toward = jax.value_and_grad(distance, argnums=1)(one.set, y)
        here = jacobian(y)
        for _ in range(5):
            step = rng.standard_normal(one.shape)
            step *= 0.99 * min(float(d), 1e3) / np.linalg.norm(step)
            np.testing.assert_allclose(jacobian(y + step), here, atol=1e-7)
        if case.kink == "exact" and np.isfinite(d):
            # the distance falls fastest toward the nearest kink: just behind it, the Jacobian is another
            assert np.linalg.norm(toward) == pytest.approx(1, abs=1e-6)
            assert np.abs(jacobian(y - 1.001 * d * toward) - here).max() > 1e-3


@cases
@pytest.mark.parametrize("kind", ["zero", "ones"])
def test_derivatives_are_finite_at_kinks(case, kind):
    one = example(case.name)
    x = jnp.zeros(one.shape) if kind == "zero" else jnp.full(one.shape, 0.5, float)  # a program for zeros serves them
    base = jax.tree.map(jnp.asarray, one.set)
    ones = jax.tree.map(jnp.ones_like, base)
    for part in jax.tree.leaves(derivatives(base, x, ones, jnp.ones(one.shape), jnp.ones(one.shape))):
        assert np.isfinite(part).all()


@light_cases
def test_batches_and_single_precision(case):
    one = example(case.name)
    batch = np.stack([point(one.shape, seed) for seed in range(5)])
    loss = lambda y: (jnp.sum(one.set.project(y) ** 2), (one.set.project(y), one.set.kink_distance(y)))
    want = [project(one.set, y) for y in batch]
    gradient = jax.grad(loss, has_aux=True)
    to, (got, far) = jax.jit(jax.vmap(gradient))(batch)
    np.testing.assert_allclose(got, want, atol=1e-10)
    if case.kink == "bound":
        # where dual variables are not unique, rounding errors choose them
        assert np.all(far >= 0)
    else:
        np.testing.assert_allclose(far, [distance(one.set, y) for y in batch], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(to[0], jax.jit(gradient)(batch[0])[0], atol=1e-9)
    with jax.enable_x64(False):
        half = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), one.set)
        y = jnp.asarray(batch[0], jnp.float32)
        total = lambda y: (jnp.sum(half.project(y)), (half.project(y), half.kink_distance(y)))
        (single, (p, d)), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(y)
    assert p.dtype == d.dtype == single.dtype == slope.dtype == jnp.float32
    assert d.shape == ()
    np.testing.assert_allclose(p, want[0], atol=3e-6)


@cases
def test_support_functions(case):
    """Against the largest inner product that a linear program finds."""
    one = example(case.name)
    d = -np.abs(point(one.shape, 3))
    if not case.support:
        with pytest.raises(NotImplementedError, match=one.set.name):
            one.set.support(d)
        return
    got = jax.jit(one.set.support)(d)
    variable = cp.Variable(one.shape)
    problem = cp.Problem(cp.Maximize(cp.sum(cp.multiply(variable, d))), one.constraints(variable))
    want = problem.solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(got, want, atol=1e-6, rtol=1e-6)


@cases
def test_what_a_set_says_of_itself(case):
    one = example(case.name).set
    assert one.polyhedral == case.polyhedral
    assert one.convex


@pytest.mark.by_default("simplex")
@pytest.mark.parametrize("name", ["simplex", "box section", "permutahedron", "transportation polytope", "three sets"])
def test_outside_of_jit_nothing_is_compiled_twice(name):
    """A loop whose body is a new function at each call would be."""
    one = example(name)
    y = jnp.asarray(point(one.shape, 0))
    run = lambda: (one.set.project(y), jax.grad(lambda y: one.set.project(y)[..., 0].sum())(y))
    run()
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        compiled = []
        patch.setattr(logging.Logger, "handle", lambda self, record: compiled.append(record.getMessage()))
        run()
    assert not [message for message in compiled if "compil" in message.lower()]


@light_cases
def test_length_one(case):
    """The smallest unknown that the set has."""
    one = NAMES[case.name].make(1, np.random.default_rng(0))
    p = project(one.set, jnp.full(one.shape, 0.3))
    assert violation(one, p) <= 1e-9
    assert np.isfinite(jax.jit(jax.jacrev(one.set.project))(jnp.full(one.shape, 0.3))).all()


@pytest.mark.parametrize("part", [sets.NonNegative(), sets.Box(0.0, 1.0), sets.L1Ball(), sets.L2Ball()])
def test_empty_unknown(part):
    x = jnp.zeros(0)
    assert jax.jit(part.project)(x).shape == (0,)
    assert part.support(x) == 0
    assert np.shape(part.kink_distance(x)) == ()


def test_the_derivative_in_a_set_is_like_the_set():
    """Also where its numbers are none that a set can have: here a negative radius, and crossed bounds."""
    y = jnp.array([3.0, 4.0])
    assert jax.grad(lambda ball: -ball.project(y).sum())(sets.L2Ball(1.0)).radius == pytest.approx(-1.4)
    box = jax.grad(lambda box: box.project(jnp.array([-1.0, 2.0])) @ jnp.array([1.0, -1.0]))(sets.Box(0.0, 1.0))
    assert (box.lower, box.upper) == (1, -1)


def test_products_and_custom_sets():
    product = sets.Product({"a": sets.NonNegative(), "b": sets.Simplex()})
    x = {"a": jnp.array([-1.0, 2.0]), "b": jnp.array([1.0, 0.8])}
    assert product.kink_distance(x) == pytest.approx(min(1.0, np.sqrt(2) * 0.4))
    direction = {"a": -jnp.ones(2), "b": jnp.array([0.3, 2.0])}
    assert product.support(direction) == 2.0
    np.testing.assert_allclose(product.project_kl(x)["a"], np.exp([-1.0, 2.0]))
    np.testing.assert_allclose(product.project_kl(x)["b"].sum(), 1)
    halfline = sets.Custom(lambda x: jnp.maximum(x, 1.0), kink=lambda x: jnp.min(jnp.abs(x - 1)))
    assert halfline.kink_distance(jnp.array([0.5, 3.0])) == 0.5
    assert np.isnan(sets.Custom(lambda x: x).kink_distance(jnp.ones(2)))
    assert np.isnan(sets.Product({"a": sets.Custom(lambda x: x), "b": sets.Simplex()}).kink_distance(x))
    with pytest.raises(ValueError, match="kink must return a scalar"):
        sets.Custom(lambda x: x, kink=lambda x: x).check(jnp.ones(2))
    with pytest.raises(NotImplementedError, match="L2Ball has no projection in the entropy geometry"):
        sets.L2Ball().project_kl(jnp.ones(2))


def test_a_box_of_equal_bounds_has_no_kink_there():
    assert np.isinf(sets.Box(1.0, 1.0).kink_distance(jnp.ones(3)))
    assert sets.Box(None, 1.0).kink_distance(jnp.array([0.0, 0.5])) == 0.5


@pytest.mark.parametrize("part", [sets.NonNegative(), sets.Box(0.0, 1.0), sets.L1Ball()])
def test_complex_unknowns_are_refused(part):
    with pytest.raises(TypeError, match=r"real numbers: given .*complex"):
        part.check(jnp.ones(2, complex))


def test_simplex_of_many_sizes_against_sorting():
    rng = np.random.default_rng(0)
    for n in (1, 2, 10, 1000):
        y = rng.standard_normal(n) * 3
        u = np.sort(y)[::-1]
        c = np.cumsum(u) - 1
        rho = np.nonzero(u * np.arange(1, n + 1) > c)[0][-1]
        want = np.maximum(y - c[rho] / (rho + 1), 0)
        np.testing.assert_allclose(sets.project_simplex(jnp.asarray(y)), want, atol=1e-13)


BAD = {
    "negative radius": (lambda: sets.LInfBall(-1.0), "LInfBall's radius must be positive"),
    "no side": (lambda: sets.Hypercube(0.0), "Hypercube's side must be positive"),
    "radii": (lambda: sets.LInfBall(jnp.ones(2)).check(jnp.ones(2)), "must be a scalar"),
    "sides": (lambda: sets.Hypercube(jnp.ones(2)).check(jnp.ones(2)), "must be a scalar"),
    "crossed bounds": (lambda: sets.BoxSection(1.0, 0.0), "BoxSection's lower must not be above upper"),
    "crossed bounds in a tree": (
        lambda: sets.BoxSection({"a": 1.0}, {"a": 0.0}).check({"a": jnp.ones(2)}),
        "BoxSection's lower must not be above upper",
    ),
    "empty section": (lambda: sets.BoxSection(0.0, 1.0, jnp.ones(3), 4.0), "BoxSection is empty"),
    "empty section of scalars": (lambda: sets.BoxSection(0.0, 1.0, 1.0, 4.0).check(jnp.ones(3)), "BoxSection is empty"),
    "section's normal": (lambda: sets.BoxSection(normal=jnp.ones(2)).check(jnp.ones(3)), "normal of BoxSection"),
    "section's offset": (lambda: sets.BoxSection(offset=jnp.ones(3)).check(jnp.ones(3)), "offset must be a scalar"),
    "zero normal": (lambda: sets.Hyperplane(jnp.zeros(2)), "Hyperplane's normal must not be zero"),
    "zero normal of a half-space": (lambda: sets.Halfspace(jnp.zeros(2)), "Halfspace's normal must not be zero"),
    "normal of another shape": (lambda: sets.Halfspace(jnp.ones(2)).check(jnp.ones(3)), "normal must have the"),
    "offset of another shape": (lambda: sets.Hyperplane(jnp.ones(2), jnp.ones(1)).check(jnp.ones(2)), "must be a scal"),
    "no solution": (lambda: sets.Affine(np.ones((2, 2)), np.array([0.0, 1.0])), "Affine is empty"),
    "columns": (lambda: sets.Affine(np.ones((1, 2)), np.ones(1)).check(jnp.ones(3)), "a column for each of the 3"),
    "rows": (lambda: sets.Affine(np.ones((1, 2)), np.ones(2)).check(jnp.ones(2)), "an element for each row of matrix"),
    "scaled by a vector": (lambda: sets.Scaled(sets.L2Ball(), jnp.ones(2)).check(jnp.ones(2)), "must be a scalar"),
    "scaled by zero": (lambda: sets.Scaled(sets.L2Ball(), 0.0), "factor must be positive"),
    "shifted by another shape": (lambda: sets.Shifted(sets.L2Ball(), jnp.ones(2)).check(jnp.ones(3)), "center of Shif"),
    "matrix of a cone": (lambda: sets.IsotonicCone().check(jnp.ones((2, 2))), "unknown that is one vector"),
    "tree of a cone": (lambda: sets.Permutahedron(jnp.ones(2)).check({"a": jnp.ones(2)}), "unknown that is one vector"),
    "vertex": (lambda: sets.Permutahedron(jnp.ones(2)).check(jnp.ones(3)), "vertex must have the shape"),
    "sums": (lambda: sets.TransportationPolytope(np.ones(2), np.ones(3)), "rows sum to 2.0, its columns to 3.0"),
    "negative marginal": (lambda: sets.TransportationPolytope(-np.ones(2), np.ones(2)), "rows must be nonnegative"),
    "marginals": (
        lambda: sets.TransportationPolytope(np.ones(2), np.ones(2)).check(jnp.ones((2, 3))),
        "columns must be a vector of 3 numbers",
    ),
    "vector of a plan": (
        lambda: sets.TransportationPolytope(np.ones(2), np.ones(2)).check(jnp.ones(2)),
        "an unknown that is one matrix",
    ),
    "square": (lambda: sets.Birkhoff().check(jnp.ones((2, 3))), "one square matrix"),
    "radius of the base": (lambda: sets.Shifted(sets.L2Ball(jnp.ones(2)), 1.0).check(jnp.ones(2)), "must be a scalar"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_a_base_must_be_a_set():
    for make in (sets.Shifted, sets.Scaled):
        with pytest.raises(TypeError, match=r"needs a set of dini\.sets as its base"):
            make(jnp.ones(2), 1.0)


EMPTY = {
    "box section": (lambda b: sets.BoxSection(0.0, 1.0, jnp.ones(3), b), 4.0),
    "affine": (lambda b: sets.Affine(jnp.ones((2, 3)), jnp.stack([b, 0.0])), 1.0),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_set_that_is_known_late_projects_to_nan(name):
    make, value = EMPTY[name]
    run = jax.jit(lambda b: make(b).project(jnp.array([0.3, 0.5, 0.1])))
    assert np.isnan(run(value)).all()
    assert np.isfinite(run(0.0)).all()


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_trees():
    """A set of the whole unknown sees a tree as one vector."""
    tree = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[0.5, 3.0]])}
    flat, unravel = jax.flatten_util.ravel_pytree(tree)
    a = jnp.array([1.0, -1.0, 0.5, 2.0])
    pairs = [
        (sets.Hyperplane(unravel(a), 0.3), sets.Hyperplane(a, 0.3)),
        (sets.Halfspace(unravel(a), 0.3), sets.Halfspace(a, 0.3)),
        (sets.Affine(a[None], jnp.ones(1)), sets.Affine(a[None], jnp.ones(1))),
        (sets.BoxSection(-1.0, unravel(a + 3), unravel(a), 0.5), sets.BoxSection(-1.0, a + 3, a, 0.5)),
        (sets.Shifted(sets.L1Ball(), unravel(a)), sets.Shifted(sets.L1Ball(), a)),
        (sets.Scaled(sets.L2Ball(), 2.0), sets.Scaled(sets.L2Ball(), 2.0)),
        (sets.LInfBall(0.4), sets.LInfBall(0.4)),
    ]
    for of_tree, of_vector in pairs:
        of_tree.check(tree)
        got = of_tree.project(tree)
        assert jax.tree.structure(got) == jax.tree.structure(tree)
        np.testing.assert_allclose(jax.flatten_util.ravel_pytree(got)[0], of_vector.project(flat), atol=1e-14)
        np.testing.assert_allclose(of_tree.kink_distance(tree), of_vector.kink_distance(flat), rtol=1e-12)


def test_box_section_of_many_elements():
    """Where few elements are free, and where the start is far away; against bisection."""
    rng = np.random.default_rng(0)
    for n, spread in ((1000, 1.0), (1000, 1e4), (30, 1e-3)):
        y, w = spread * rng.standard_normal(n), 0.5 + rng.random(n)
        below, above = -1e6, 1e6
        for _ in range(200):
            middle = (below + above) / 2
            short = w @ np.clip(y + middle * w, 0, 1) < n / 4
            below, above = (middle, above) if short else (below, middle)
        got = project(sets.BoxSection(0.0, 1.0, w, n / 4), y)
        np.testing.assert_allclose(got, np.clip(y + middle * w, 0, 1), atol=1e-11 * max(spread, 1))


@pytest.mark.by_default("each")
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("shape", [(30, 30), (20, 45), (1, 6)])
def test_transport_at_all_scales(shape, scale):
    """Optimal by the optimality conditions: dual variables that the support shares and the rest does not beat."""
    rng = np.random.default_rng(0)
    Y = scale * rng.standard_normal(shape)
    a, b = rng.random(shape[0]) + 0.05, rng.random(shape[1]) + 0.05
    b *= a.sum() / b.sum()
    P = np.asarray(project(sets.TransportationPolytope(a, b), Y))
    np.testing.assert_allclose(P.sum(1), a, atol=1e-12)
    np.testing.assert_allclose(P.sum(0), b, atol=1e-12)
    # a linear program over other plans gains nothing: its value is the largest inner product with Y - P
    cost = P - Y
    rows = np.kron(np.eye(shape[0]), np.ones(shape[1]))
    columns = np.kron(np.ones(shape[0]), np.eye(shape[1]))
    best = scipy.optimize.linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b]))
    assert np.sum(cost * P) <= best.fun + 1e-7 * scale


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 1000.0])
def test_transport_ends_where_rounding_ends_it(scale):
    """A tolerance out of the reach of rounding must not keep Newton's method running, nor a detour end it."""
    rng = np.random.default_rng(1)
    Y = scale * rng.standard_normal((200, 10, 10))
    rows, columns = (u / u.sum(1, keepdims=True) for u in rng.uniform(0.5, 1.5, (2, 200, 10)))
    alpha, beta, steps = jax.vmap(_euclidean_dual)(Y, rows, columns)
    assert steps.max() <= 100
    P = np.maximum(Y + np.asarray(alpha)[:, :, None] + np.asarray(beta)[:, None, :], 0)
    np.testing.assert_allclose(P.sum(2), rows, atol=1e-9)
    np.testing.assert_allclose(P.sum(1), columns, atol=1e-9)


def test_transport_in_single_precision_where_a_step_is_no_better():
    """Far from the plan, marginals of zero: one Newton step that gained nothing was taken for the end of the digits."""
    rng = np.random.default_rng(0)
    corners, masses = rng.random((2, 60, 2)), rng.integers(0, 3, (2, 60)).astype(np.float32)
    masses[1] = rng.permutation(masses[0])
    Y = np.float32(-100) * np.abs(corners[0][:, None] - corners[1]).sum(-1).astype(np.float32)
    P = np.asarray(project(sets.TransportationPolytope(*masses), jnp.asarray(Y)))
    np.testing.assert_allclose(P.sum(1), masses[0], atol=2e-4)
    np.testing.assert_allclose(P.sum(0), masses[1], atol=2e-4)


ENTROPIC = {
    "simplex": (lambda n: sets.Simplex(1.5), lambda n: (n,)),
    "rows": (lambda n: sets.Simplex(axis=0), lambda n: (n, 2)),
    "orthant": (lambda n: sets.NonNegative(), lambda n: (n,)),
    "box": (lambda n: sets.Box(0.5, 2.0), lambda n: (n,)),
    "hypercube": (lambda n: sets.Hypercube(0.7), lambda n: (n,)),
    "scaled": (lambda n: sets.Scaled(sets.Simplex(), 2.0), lambda n: (n,)),
    "Birkhoff": (lambda n: sets.Birkhoff(), lambda n: (n, n)),
    "transport": (lambda n: _marginals(n, np.random.default_rng(n)), lambda n: (n, n + 1)),
    "tall": (lambda n: _marginals(n, np.random.default_rng(n), turned=True), lambda n: (n + 1, n)),
}


def _marginals(n, rng, turned=False):
    a, b = 0.2 + rng.random(n), 0.2 + rng.random(n + 1)
    b *= a.sum() / b.sum()
    return sets.TransportationPolytope(b, a) if turned else sets.TransportationPolytope(a, b)


@pytest.mark.by_default(without=["Birkhoff", "transport", "tall"])
@pytest.mark.parametrize("name", ENTROPIC)
def test_entropy_projections(name):
    """Optimal against the Bregman variational inequality; derivatives against differences, twice."""
    make, shape = ENTROPIC[name]
    part, rng = make(4), np.random.default_rng(0)
    y, t, v, other = (rng.standard_normal(shape(4)) for _ in range(4))
    run = jax.jit(lambda part, y: part.project_kl(y))
    p = run(part, y)
    assert part.residual(p) <= 1e-12
    # <log p - y, q - p> >= 0 for every other member q
    for q in (project(part, other), run(part, 3 * other)):
        assert np.sum((np.log(p) - y) * (q - p)) >= -1e-9
    base = jax.tree.map(np.asarray, part)
    step = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), base)
    if isinstance(part, sets.TransportationPolytope):
        step = SAME_SUMS(step)
    along = lambda s: run(jax.tree.map(lambda a, d: a + s * d, base, step), y + s * t)
    got, h = jax.jvp(along, (0.0,), (1.0,))[1], 1e-5
    np.testing.assert_allclose(got, (along(h) - along(-h)) / (2 * h), atol=1e-8)
    slope = jax.jit(jax.grad(lambda s: jnp.vdot(v, along(s))))
    np.testing.assert_allclose(slope(0.0), np.vdot(v, got), rtol=1e-9)
    np.testing.assert_allclose(jax.grad(slope)(0.0), (slope(h) - slope(-h)) / (2 * h), atol=1e-6)
    batch = np.stack([y, t])
    np.testing.assert_allclose(jax.vmap(part.project_kl)(batch), [run(part, u) for u in batch], atol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_entropic_transport_of_hard_costs(scale):
    rng = np.random.default_rng(0)
    Y, a, b = scale * rng.standard_normal((12, 9)), rng.random(12) + 0.05, rng.random(9) + 0.05
    b *= a.sum() / b.sum()
    run = jax.jit(lambda part, Y: part.project_kl(Y))
    P = np.asarray(run(sets.TransportationPolytope(a, b), Y))
    np.testing.assert_allclose(P.sum(1), a, atol=1e-11)
    np.testing.assert_allclose(P.sum(0), b, atol=1e-11)
    # a marginal of zero leaves its row empty, and all derivatives finite
    a[3], b[2] = 0, 0
    b *= a.sum() / b.sum()
    part = sets.TransportationPolytope(a, b)
    P = np.asarray(run(part, Y))
    assert np.all(P[3] == 0)
    assert np.all(P[:, 2] == 0)
    np.testing.assert_allclose(P.sum(1), a, atol=1e-11)
    assert np.isfinite(jax.grad(lambda Y: jnp.sum(run(part, Y) ** 2))(Y)).all()


@pytest.mark.by_default("2-10-1000")
@pytest.mark.parametrize(("seed", "n", "sharpness"), [(6, 10, 500), (2, 10, 1000), (1, 10, 1 / 3e-4), (0, 30, 1000)])
def test_entropic_transport_close_to_a_vertex(seed, n, sharpness):
    """Plans that nearly fall apart: the Newton matrix lost its definiteness to rounding, and Sinkhorn steps crawled."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(n, 2)) + 1
    Y, a = -sharpness * ((x[:, None] - y) ** 2).sum(-1), np.full(n, 1 / n)
    run = jax.jit(sets.TransportationPolytope(a, a).project_kl)
    P, pull = jax.vjp(run, jnp.asarray(Y))
    np.testing.assert_allclose(P.sum(1), a, atol=1e-11)
    np.testing.assert_allclose(P.sum(0), a, atol=1e-11)
    v, t, h = rng.standard_normal((n, n)), rng.standard_normal((n, n)), 1e-4
    slope = np.vdot(v, run(Y + h * t) - run(Y - h * t)) / (2 * h)
    np.testing.assert_allclose(np.vdot(pull(v)[0], t), slope, rtol=1e-5, atol=1e-8)


def test_entropic_transport_between_very_unequal_marginals():
    """Newton steps there are millions long: nine of these sixteen were not found."""
    run = jax.jit(jax.vmap(lambda Y, a, b: sets.TransportationPolytope(a, b).project_kl(Y)))
    problems = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        cost = (rng.normal(size=(12, 1)) - rng.normal(size=12) - 1) ** 2
        problems += [(-sharpness * cost, *rng.dirichlet(np.full(12, 0.3), 2)) for sharpness in (1e3, 1e4)]
    Y, a, b = map(np.stack, zip(*problems, strict=True))
    P = run(Y, a, b)
    np.testing.assert_allclose(P.sum(2), a, atol=1e-10)
    np.testing.assert_allclose(P.sum(1), b, atol=1e-10)


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda: sets.Simplex().project(jnp.ones((2, 2))), "Simplex needs axis="),
        (lambda: sets.Box(jnp.zeros((3, 1)), 1.0).project(jnp.ones(3)), "lower of Box must broadcast"),
        (lambda: penalties.L1(jnp.ones((3, 1))).prox(jnp.ones(3), 1.0), "strength of L1 must broadcast"),
        (lambda: penalties.TotalVariation().prox(jnp.ones(()), 1.0), "TotalVariation's axis must be an axis"),
    ],
)
def test_a_point_that_does_not_fit_is_refused_by_the_operator_itself(apply, message):
    with pytest.raises(ValueError, match=message):
        apply()
