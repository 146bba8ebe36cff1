"""Polyhedra and intersections where they are hard (degenerate, empty, many rows, batches), sets that are not convex."""

import itertools

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import penalties, sets
from dini.status import SolveError

project = jax.jit(lambda part, x: part.project(x))
distance = jax.jit(lambda part, x: part.kink_distance(x))


def cross_polytope(n):
    faces = np.array(list(itertools.product([1.0, -1.0], repeat=n)))
    return sets.Polyhedron(faces, np.ones(len(faces)))


@pytest.mark.thorough
@pytest.mark.parametrize("n", [3, 6])
def test_degenerate_vertices(n):
    """The 1-norm ball by its 2^n faces has the ball's projection, Jacobian and, from below, distances to kinks."""
    part, ball = cross_polytope(n), sets.L1Ball()
    rng = np.random.default_rng(0)
    jacobian = jax.jit(lambda part, y: jax.jacfwd(part.project)(y))
    points = [10 ** rng.uniform(-1, 1) * rng.standard_normal(n) for _ in range(20)]
    # on the axis, where multipliers of two opposite faces alone would leave directions free
    for y in [*points, 3 * np.eye(n)[0], np.round(3 * points[0])]:
        np.testing.assert_allclose(project(part, y), project(ball, y), atol=1e-13)
        assert distance(part, y) <= distance(ball, y) + 1e-9
        if distance(ball, y) > 1e-9:
            np.testing.assert_allclose(jacobian(part, y), jacobian(ball, y), atol=1e-12)
    assert distance(part, 3 * np.eye(n)[0]) > 0.5


@pytest.mark.thorough
def test_redundant_equations():
    """Doubly stochastic matrices by all of their 2n equations."""
    n = 5
    E = np.vstack([np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))])
    part = sets.Polyhedron(-np.eye(n * n), np.zeros(n * n), E, np.ones(2 * n))
    jacobians = [jax.jit(jax.jacfwd(one.project)) for one in (part, sets.Birkhoff())]
    for scale in (0.3, 1.0):
        Y = scale * np.random.default_rng(1).standard_normal((n, n))
        np.testing.assert_allclose(project(part, Y), project(sets.Birkhoff(), Y), atol=1e-13)
        np.testing.assert_allclose(distance(part, Y), distance(sets.Birkhoff(), Y), rtol=1e-9)
        got, want = (jacobian(Y) for jacobian in jacobians)
        np.testing.assert_allclose(got, want, atol=1e-11)


@pytest.mark.thorough
def test_many_rows_and_large_numbers():
    """Optimal by the conditions: what is taken off is a nonnegative combination of the active rows."""
    rng = np.random.default_rng(0)
    for m, n, scale in ((300, 20, 1.0), (60, 60, 1.0), (40, 10, 1e6), (40, 10, 1e-6)):
        A, b, y = rng.standard_normal((m, n)), scale * rng.random(m), 3 * scale * rng.standard_normal(n)
        p = np.asarray(project(sets.Polyhedron(A, b), y))
        assert (A @ p - b).max() <= 1e-12 * scale
        active = A @ p - b >= -1e-11 * scale
        multipliers = np.linalg.lstsq(A[active].T, y - p, rcond=None)[0]
        np.testing.assert_allclose(A[active].T @ multipliers, y - p, atol=1e-11 * scale)
        assert multipliers.min() >= -1e-11 * scale


def test_rows_at_small_angles():
    """A wedge that closes: exact, or nothing."""
    for angle in 10.0 ** -np.arange(1, 13, 2):
        A = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)], [-np.cos(angle), np.sin(angle)]])
        p = project(sets.Polyhedron(A, np.zeros(3)), np.array([3.0, 1.5 * angle]))
        assert np.isnan(p).all() or np.abs(p).max() <= 1e-6


def test_whether_a_polyhedron_is_empty():
    """As CVXPY finds it, on systems of which about half have no solution."""
    rng = np.random.default_rng(0)
    empty = 0
    for _ in range(40):
        A, b, y = rng.standard_normal((16, 5)), rng.standard_normal(16) + 0.5, rng.standard_normal(5)
        variable = cp.Variable(5)
        problem = cp.Problem(cp.Minimize(0), [A @ variable <= b])
        problem.solve(solver=cp.CLARABEL)
        assert np.isnan(project(sets.Polyhedron(A, b), y)).any() == (problem.status != "optimal")
        empty += problem.status != "optimal"
    assert 5 < empty < 35


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_empty_sets_are_seen():
    """Outside of jit by an exception, inside by NaN, in a batch in their own lane."""
    A = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    y = jnp.array([0.3, 2.0])
    with pytest.raises(ValueError, match="Polyhedron is empty: no point satisfies"):
        sets.Polyhedron(A, jnp.array([0.0, -1.0])).project(y)
    lanes = jax.vmap(lambda b: sets.Polyhedron(A, b).project(y))(jnp.array([[0.0, -1.0], [0.0, 1.0]]))
    assert np.isnan(lanes[0]).all()
    np.testing.assert_allclose(lanes[1], [0, 2], atol=1e-14)
    apart = sets.Intersection([sets.L2Ball(1.0), sets.Halfspace(jnp.array([1.0, 0.0]), -1.5)], max_steps=40)
    with pytest.raises(SolveError, match=r"L2Ball, Halfspace did not reach its tolerance in 40 sweeps.*may be empty"):
        apart.project(y)
    assert np.isnan(jax.jit(apart.project)(y)).all()
    assert np.isfinite(sets.Intersection([sets.L2Ball(1.0), sets.NonNegative()]).project(y)).all()


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_no_rows_no_columns():
    y = jnp.array([1.0, 2.0])
    free = sets.Polyhedron(jnp.zeros((0, 2)), jnp.zeros(0))
    assert (free.project(y) == y).all()
    assert free.kink_distance(y) == np.inf
    line = sets.Polyhedron(jnp.zeros((0, 2)), jnp.zeros(0), jnp.ones((1, 2)), jnp.ones(1))
    np.testing.assert_allclose(line.project(y), [0, 1], atol=1e-15)
    assert sets.Polyhedron(jnp.zeros((3, 0)), jnp.ones(3)).project(jnp.zeros(0)).shape == (0,)
    slack = sets.Polyhedron(jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.array([1.0, jnp.inf]))
    assert (slack.project(y) == y).all()


@pytest.mark.thorough
def test_intersections_of_polyhedra_are_polyhedra():
    """Projection and Jacobian as of one polyhedron; the bound of the distance to a kink is one."""
    rng = np.random.default_rng(2)
    n = 6
    A, inner = rng.standard_normal((2, n)), 0.5 * rng.random(n)
    together = sets.Polyhedron(np.vstack([np.eye(n), -np.eye(n)]), np.repeat([1.0, 0.0], n), A, A @ inner)
    apart = sets.Intersection([sets.Hypercube(1.0), sets.Affine(A, A @ inner)])
    jacobians = [jax.jit(jax.jacrev(part.project)) for part in (apart, together)]
    for _ in range(5):
        y = 2 * rng.standard_normal(n)
        np.testing.assert_allclose(project(apart, y), project(together, y), atol=1e-11)
        got, want = (jacobian(y) for jacobian in jacobians)
        np.testing.assert_allclose(got, want, atol=1e-10)
        assert 0 < distance(apart, y) <= distance(together, y) + 1e-9


def test_intersections_of_curved_sets():
    """A lens and an ice cream cone's top, by the optimality conditions: against a finer solve from the dual."""
    rng = np.random.default_rng(0)
    lens = sets.Intersection([sets.L2Ball(1.0), sets.Shifted(sets.L2Ball(1.0), jnp.full(3, 0.7))])
    corner = sets.Intersection([sets.SecondOrder(), sets.L2Ball(1.0), sets.Halfspace(jnp.array([0.0, 1.0, 0.0]), 0.2)])
    for part in (lens, corner):
        for _ in range(4):
            y = jnp.asarray(3 * rng.standard_normal(3))
            p = project(part, y)
            assert max(float(one.residual(p)) for one in part.sets) <= 1e-11
            members = [project(part, jnp.asarray(rng.standard_normal(3))) for _ in range(20)]
            assert max(float(jnp.vdot(y - p, q - p)) for q in members) <= 1e-11


@pytest.mark.thorough
def test_intersections_of_trees_rows_and_own_sets():
    tree = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
    part = sets.Intersection([sets.Product({"a": sets.NonNegative(), "b": sets.NonNegative()}), sets.L1Ball(1.0)])
    part.check(tree)
    got = project(part, tree)
    np.testing.assert_allclose([*got["a"], *got["b"]], [0.75, 0, 0.25], atol=1e-12)
    x = jnp.array([[2.0, 1.0], [0.3, 0.1]])
    rows = sets.Intersection([sets.Simplex(axis=-1), sets.Box(0.0, jnp.array([[0.6], [0.7]]))])
    assert rows.separates_rows(x)
    assert not rows.elementwise
    assert sets.Intersection([sets.NonNegative(), sets.Box(None, 1.0)]).elementwise
    np.testing.assert_allclose(rows.row(1, x).project(x[1]), rows.project(x)[1], atol=1e-12)

    # what the user's own set closes over is differentiated
    def nearest(level):
        own = sets.Custom(lambda x: jnp.minimum(x, level))
        return sets.Intersection([own, sets.Hyperplane(jnp.ones(3), 1.0)]).project(jnp.array([2.0, 0.3, 0.1]))

    np.testing.assert_allclose(nearest(0.5), [0.5, 0.35, 0.15], atol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(nearest)(0.5), [1, -0.5, -0.5], atol=1e-12)
    np.testing.assert_allclose(jax.jacrev(nearest)(0.5), [1, -0.5, -0.5], atol=1e-12)
    assert np.isnan(sets.Intersection([sets.L2Ball(), sets.NonNegative()]).kink_distance(jnp.ones(2)))


@pytest.mark.by_default("polyhedron")
@pytest.mark.parametrize("which", ["polyhedron", "intersection"])
def test_in_a_problem(which):
    """As a constraint of a solve, with derivatives in a bound."""
    target = jnp.array([0.9, 0.4, 0.8])

    def nearest(level):
        if which == "polyhedron":
            part = sets.Polyhedron(jnp.vstack([jnp.eye(3), jnp.ones((1, 3))]), jnp.array([1.0, 1.0, 0.6, 0.0]) + level)
        else:
            part = sets.Intersection([sets.Box(None, level + jnp.array([1.0, 1.0, 0.6])), sets.L1Ball(level)])
        problem = dini.Minimize(lambda x: jnp.sum((x - target) ** 2 * jnp.array([1.0, 2.0, 3.0])), constraint=part)
        return dini.solve(problem, dini.ProjectedGradient(tol=1e-10), jnp.zeros(3)).x

    got = jax.jacrev(nearest)(0.3)
    np.testing.assert_allclose(got, (nearest(0.3 + 1e-5) - nearest(0.3 - 1e-5)) / 2e-5, atol=1e-6)


@pytest.mark.thorough
def test_single_precision():
    rng = np.random.default_rng(0)
    with jax.enable_x64(False):
        run = jax.jit(lambda A, b, y: sets.Polyhedron(A, b).project(y))
        for m, n in ((6, 3), (60, 20)):
            A, b = rng.standard_normal((m, n)).astype(np.float32), rng.random(m).astype(np.float32)
            y = rng.standard_normal(n).astype(np.float32)
            p = np.asarray(run(A, b, y))
            assert (A @ p - b).max() <= 1e-5
    with jax.enable_x64(True):
        np.testing.assert_allclose(p, project(sets.Polyhedron(*map(np.float64, (A, b))), y.astype(float)), atol=1e-5)


NONCONVEX = {
    "l2 sphere": sets.L2Sphere(1.3),
    "l1 sphere": sets.L1Sphere(1.3),
    "sparse simplex": sets.SparseSimplex(2, 1.3),
}


def best(name, y):
    """The nearest point by trying all faces, each of which is convex."""
    if name == "l2 sphere":
        return 1.3 * y / np.linalg.norm(y)
    found = []
    if name == "l1 sphere":
        for signs in itertools.product([1.0, -1.0], repeat=y.size):
            found.append(np.array(signs) * np.asarray(sets.project_simplex(jnp.asarray(np.array(signs) * y), 1.3)))
    else:
        for places in itertools.combinations(range(y.size), 2):
            p = np.zeros(y.size)
            p[list(places)] = sets.project_simplex(jnp.asarray(y[list(places)]), 1.3)
            found.append(p)
    return min(found, key=lambda p: np.linalg.norm(p - y))


@pytest.mark.thorough
@pytest.mark.parametrize("name", NONCONVEX)
def test_nearest_points_of_nonconvex_sets(name):
    part = jax.tree.map(jnp.asarray, NONCONVEX[name])
    rng = np.random.default_rng(0)
    jacobian = jax.jit(lambda part, y: jax.jacfwd(part.project)(y))
    for k in range(12):
        y = rng.standard_normal(4) * 3.0 ** (k % 3 - 1)
        p = project(part, y)
        np.testing.assert_allclose(p, best(name, y), atol=1e-12)
        assert part.residual(p) <= 1e-13
        d, toward = jax.value_and_grad(distance, argnums=1)(part, jnp.asarray(y))
        if d < 1e-3:
            continue
        t, s = rng.standard_normal(4), 0.7
        grown = jax.tree.map(jnp.ones_like, part)
        got = jax.jvp(project, (part, jnp.asarray(y)), (jax.tree.map(lambda g, s=s: s * g, grown), jnp.asarray(t)))[1]

        def moved(h, part=part, grown=grown, y=y, s=s, t=t):
            return project(jax.tree.map(lambda r, g: r + h * s * g, part, grown), y + h * t)

        np.testing.assert_allclose(got, (moved(1e-6) - moved(-1e-6)) / 2e-6, atol=1e-8)
        np.testing.assert_allclose(jax.jit(jax.jacrev(part.project))(y), jacobian(part, y), atol=1e-13)
        # straight behind the nearest kink, the Jacobian is another, or the point has jumped
        over, under = y - 1.0001 * d * toward, y - 0.9999 * d * toward
        apart = (
            np.abs(jacobian(part, over) - jacobian(part, under)).max()
            + np.abs(project(part, over) - project(part, under)).max()
        )
        assert apart > 1e-2


@pytest.mark.thorough
def test_nonconvex_sets_are_marked():
    """And refused where convexity is needed; the linear system of their fixed points has no semidefinite stand-in."""
    for part in NONCONVEX.values():
        assert not part.convex
        assert not sets.Shifted(part, 1.0).convex
        assert not sets.Scaled(part, 2.0).convex
        assert not sets.Product([part, sets.NonNegative()]).convex
        assert not penalties.Indicator(part).convex
        with pytest.raises(ValueError, match="needs convex sets"):
            sets.Intersection([part])
        with pytest.raises(ValueError, match="needs a convex set"):
            penalties.SupportFunction(part)
    x, fun = jnp.array([0.6, 0.8]), lambda x: jnp.sum((x - jnp.array([1.2, 1.4])) ** 2)
    problem = dini.Minimize(fun, constraint=sets.L2Sphere())
    assert dini.conditions.ProximalGradient(step_size=0.5).linearize(problem, x)[1] is None
    # the nearest point of the sphere through a solve: the derivative of y/|y|
    nearest = lambda y: (
        dini.solve(
            dini.Minimize(lambda x: 0.5 * jnp.sum((x - y) ** 2), constraint=sets.L2Sphere()),
            dini.ProjectedGradient(tol=1e-10),
            jnp.array([1.0, 0.0]),
        ).x
    )
    y = jnp.array([1.2, 1.4])
    np.testing.assert_allclose(jax.jacrev(nearest)(y), jax.jacfwd(lambda y: y / jnp.linalg.norm(y))(y), atol=1e-8)


@pytest.mark.thorough
def test_nonconvex_sets_at_zero_and_in_trees():
    zero = jnp.zeros(4)
    np.testing.assert_allclose(sets.L2Sphere(2.0).project(zero), np.ones(4))
    np.testing.assert_allclose(sets.L1Sphere(2.0).project(zero), 0.5 * np.ones(4))
    for part in (sets.L2Sphere(2.0), sets.L1Sphere(2.0)):
        assert np.isfinite(jax.jacrev(part.project)(zero)).all()
        assert part.kink_distance(zero) == 0
        tree = part.project({"a": jnp.array([3.0]), "b": jnp.array([[-1.0]])})
        flat = part.project(jnp.array([3.0, -1.0]))
        np.testing.assert_allclose([tree["a"][0], tree["b"][0, 0]], flat, atol=1e-15)
    # a number whose square underflows
    np.testing.assert_allclose(sets.L2Sphere().project(jnp.array([3e-200, 4e-200])), [0.6, 0.8])
    batch = jnp.asarray(np.random.default_rng(0).standard_normal((3, 5)))
    part = sets.SparseSimplex(2)
    np.testing.assert_allclose(jax.vmap(part.project)(batch)[1], part.project(batch[1]), atol=1e-15)
    with jax.enable_x64(False):
        assert part.project(jnp.asarray(batch[0], jnp.float32)).dtype == jnp.float32


BAD = {
    "columns": (lambda: sets.Polyhedron(np.ones((1, 2)), np.ones(1)).check(jnp.ones(3)), "a column for each of the 3"),
    "rows": (lambda: sets.Polyhedron(np.ones((1, 2)), np.ones(2)).check(jnp.ones(2)), "an element for each row"),
    "columns of equations": (
        lambda: sets.Polyhedron(np.ones((1, 2)), np.ones(1), np.ones((1, 3)), np.ones(1)).check(jnp.ones(2)),
        "equality_matrix must have a column for each of the 2",
    ),
    "equations without numbers": (lambda: sets.Polyhedron(np.ones((1, 2)), np.ones(1), np.ones((1, 2))), "together"),
    "no solution": (
        lambda: sets.Polyhedron(np.ones((1, 2)), np.ones(1), np.ones((2, 2)), np.array([0.0, 1.0])),
        "Polyhedron is empty: E x = d has no solution",
    ),
    "impossible row": (lambda: sets.Polyhedron(np.zeros((1, 2)), -np.ones(1)), "row 0 of the inequalities"),
    "no sets": (lambda: sets.Intersection([]), "at least one set"),
    "tolerance": (lambda: sets.Intersection([sets.NonNegative()], tol=0.0), "tol must be positive"),
    "steps": (lambda: sets.Intersection([sets.NonNegative()], max_steps=0), "max_steps must be at least 1"),
    "parts": (lambda: sets.Intersection([sets.Simplex()]).check(jnp.ones((2, 2))), "needs axis"),
    "l2 radius": (lambda: sets.L2Sphere(-1.0), "L2Sphere's radius must be positive"),
    "l2 radii": (lambda: sets.L2Sphere(jnp.ones(2)).check(jnp.ones(2)), "must be a scalar"),
    "l2 nothing": (lambda: sets.L2Sphere().check(jnp.ones(0)), "of no elements is empty"),
    "l1 radius": (lambda: sets.L1Sphere(0.0), "L1Sphere's radius must be positive"),
    "nonzeros": (lambda: sets.SparseSimplex(0), "nonzeros must be at least 1"),
    "matrix": (lambda: sets.SparseSimplex(1).check(jnp.ones((2, 2))), "one vector"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_raises(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_types_raise():
    with pytest.raises(TypeError, match="needs sets"):
        sets.Intersection([lambda x: x])
    with pytest.raises(TypeError, match="nonzeros must be a Python integer"):
        sets.SparseSimplex(1.5)
    with pytest.raises(TypeError, match="real numbers"):
        sets.Polyhedron(jnp.ones((1, 2)), jnp.ones(1)).check(jnp.ones(2, complex))
