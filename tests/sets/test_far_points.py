"""Projections of points that are far from the set, or tiny: the digits of the set must not be lost beside the point's.

The projection of a point far out along a direction is the member that goes furthest in that direction: of a polytope a
vertex, in closed form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini import penalties, sets

# a case's programs are its own: each case in one test, each test with one case
pytestmark = pytest.mark.by_default("once")

RNG = np.random.default_rng(5)
X = np.array([3.0, -1.0, 2.0])
U, V = np.linalg.qr(RNG.standard_normal((3, 3)))[0], np.linalg.qr(RNG.standard_normal((3, 3)))[0]
SYMMETRIC, MATRIX = U @ np.diag([3.0, -1.0, 2.0]) @ U.T, U @ np.diag([3.0, 2.0, 0.5]) @ V.T
UNIT = X / np.linalg.norm(X)

#: a set, a direction, and the member that goes furthest in it
FURTHEST = {
    "simplex": (sets.Simplex(2.0), X, [2.0, 0, 0]),
    "l1 ball": (sets.L1Ball(2.0), X, [2.0, 0, 0]),
    "l2 ball": (sets.L2Ball(2.0), X, 2 * UNIT),
    "l2 sphere": (sets.L2Sphere(2.0), X, 2 * UNIT),
    "permutahedron": (sets.Permutahedron(jnp.array([1.0, 2.0, 3.0])), X, [3.0, 1.0, 2.0]),
    "spectrahedron": (sets.Spectrahedron(2.0), SYMMETRIC, 2 * np.outer(U[:, 0], U[:, 0])),
    "nuclear norm": (sets.NuclearNormBall(2.0), MATRIX, 2 * np.outer(U[:, 0], V[:, 0])),
    "spectral norm": (sets.SpectralNormBall(2.0), MATRIX, 2 * U @ V.T),
    "wide spectral norm": (sets.SpectralNormBall(2.0), MATRIX[:2], None),
}


def furthest(name):
    part, x, p = FURTHEST[name]
    if p is None:
        u, _, vt = np.linalg.svd(x, full_matrices=False)
        p = 2 * u @ vt
    return part, x, np.asarray(p, float)


@pytest.mark.parametrize("far", [1e5, 1e7, 1e9, 1e20, 1e30])
@pytest.mark.parametrize("name", FURTHEST)
def test_far_points_in_single_precision(name, far):
    part, x, p = furthest(name)
    single = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), part)
    for project in (single.project, jax.jit(single.project)):
        np.testing.assert_allclose(project(jnp.asarray(far * x, jnp.float32)), p, atol=2e-5)


@pytest.mark.by_default("simplex", "l1 ball", "l2 sphere")
@pytest.mark.parametrize("name", FURTHEST)
def test_derivatives_at_far_points(name):
    """Against double precision, whose projections there have eight digits and more."""
    part, x, _ = furthest(name)
    size = "vertex" if name == "permutahedron" else "trace" if name == "spectrahedron" else "radius"

    def move(dtype):
        leaf = lambda v: jnp.asarray(v, dtype)
        one, ones = jax.tree.map(leaf, part), jax.tree.map(lambda v: jnp.ones_like(leaf(v)), part)
        assert hasattr(one, size)
        # far times the change of the point, which is the change of the direction
        return [
            jax.jvp(one.project, (leaf(1e7 * x),), (leaf(1e7 * x[::-1]),))[1],
            jax.jvp(lambda s: s.project(leaf(1e7 * x)), (one,), (ones,))[1],
        ]

    for single, double in zip(move(jnp.float32), move(jnp.float64), strict=True):
        np.testing.assert_allclose(single, double, atol=2e-5)


@pytest.mark.thorough
def test_order_of_large_close_numbers():
    """Integers of eight digits, in blocks and far apart; against double precision."""
    w = np.sort(RNG.integers(-9, 9, 40)).astype(float)
    for spread in (1, 30, 3000):
        x = RNG.integers(-spread, spread, 40) + RNG.choice([0.0, 2.0**23, 2.0**23 + 8, -(2.0**22)], 40)

        def run(dtype, x=x):
            project = lambda x, w: sets.Permutahedron(w).project(x)
            x, v = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
            return project(x, v), *jax.jvp(project, (x, v), (v, x / 2.0**23))

        for single, double in zip(run(jnp.float32), run(jnp.float64), strict=True):
            np.testing.assert_allclose(single, double, atol=2e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e20, 1e30])
def test_squares_of_elements_are_no_numbers(size):
    """Where squares underflow or overflow: a change of units, and no more."""
    x = jnp.asarray([0.5, 3.0, 4.0], jnp.float32)
    scale = jnp.asarray(size, jnp.float32)
    normal = jnp.asarray([1.0, 1.0, 2.0], jnp.float32)
    cases = [
        (lambda s: sets.L2Ball(2.0 * s), True),
        (lambda s: sets.L2Sphere(2.0 * s), True),
        (lambda s: sets.SecondOrder(), True),
        (lambda s: sets.Halfspace(normal, s), True),
        # the normal's unit, not the point's
        (lambda s: sets.Halfspace(normal * s, s), False),
        (lambda s: sets.Hyperplane(normal * s, s), False),
    ]
    for make, moves in cases:
        unit, other = make(jnp.float32(1)), make(scale)
        s = scale if moves else jnp.float32(1)
        for method in ("project", "kink_distance", "residual"):
            np.testing.assert_allclose(getattr(other, method)(s * x) / s, getattr(unit, method)(x), rtol=1e-6)
        given = (jax.jacobian(unit.project)(x), jax.jacobian(lambda x, other=other: other.project(x))(s * x))
        np.testing.assert_allclose(given[1], given[0], rtol=1e-5, atol=1e-6)
    # inside, a point is left as it is
    np.testing.assert_array_equal(sets.L2Ball(9.0 * scale).project(scale * x), scale * x)


BOX = np.concatenate([np.eye(3), -np.eye(3)]), np.array([1.0, 1, 1, 0, 0, 0])
NORMAL = np.array([1.0, 1.0, 0.0])


def capped(y, radius, offset):
    """The projection onto the ball cut by <NORMAL, x> <= offset, where both are active."""
    a = NORMAL / np.sqrt(2)
    across, level = y - a * jnp.sum(a * y), offset / np.sqrt(2)
    return level * a + jnp.sqrt(radius**2 - level**2) * across / jnp.linalg.norm(across)


CORNER = np.array([[1.0, 2.0, 0.5], [0.5, 1.0, -1.0], [1.0, -1.0, 2.0]]), np.array([1.0, 0.5, 2.0])
#: a set, a direction in which all but its members' last digits are lost, the projection
VERTICES = {
    "cut simplex": (lambda: sets.Intersection([sets.Simplex(), sets.Box(0.0, 0.5)]), X, [0.5, 0.0, 0.5]),
    "cut ball": (
        lambda: sets.Intersection([sets.L2Ball(1.0), sets.Halfspace(NORMAL, -0.5)]),
        X,
        capped(X, 1.0, -0.5),
    ),
    "corner of a ball": (
        lambda: sets.Intersection([sets.L2Ball(1.0), *(sets.Halfspace(a, 0.0) for a in np.eye(3))]),
        np.abs(X),
        np.zeros(3),
    ),
    "cones": (lambda: sets.Intersection([sets.SecondOrder(), sets.NonNegative()]), -np.abs(X), np.zeros(3)),
    "box of rows": (lambda: sets.Polyhedron(*BOX), X, [1.0, 0.0, 1.0]),
    "corner of rows": (lambda: sets.Polyhedron(*CORNER), CORNER[0].T @ [1.0, 2.0, 3.0], np.linalg.solve(*CORNER)),
    "rows and equations": (
        lambda: sets.Polyhedron(-np.eye(3), np.zeros(3), np.ones((1, 3)), np.ones(1)),
        X,
        [1.0, 0.0, 0.0],
    ),
    "equations": (lambda: sets.Affine(*CORNER), X, np.linalg.solve(*CORNER)),
}


@pytest.mark.by_default(
    "cut simplex-1000.0",
    "cut simplex-10000000.0",
    "cut simplex-1e+30",
    "corner of a ball-1000.0",
    "corner of a ball-1e+30",
    "cones-1e+20",
)
@pytest.mark.parametrize("far", [1e3, 1e5, 1e7, 1e9, 1e20, 1e30])
@pytest.mark.parametrize("name", VERTICES)
def test_far_corners_in_single_precision(name, far):
    make, x, p = VERTICES[name]
    single = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), make())
    for project in (single.project, jax.jit(single.project)):
        found = project(jnp.asarray(far * x, jnp.float32))
        # cones have no size but the point's
        np.testing.assert_allclose(found, p, atol=1e-6 * far if name == "cones" else 2e-5)


@pytest.mark.thorough
def test_far_in_one_direction_only():
    """What is far in one direction must not decide what is near in another."""
    single = sets.Polyhedron(*(jnp.asarray(v, jnp.float32) for v in BOX))
    for far in (1e3, 1e5, 1e7):
        found = jax.jit(single.project)(jnp.asarray([far, 0.5, -far], jnp.float32))
        np.testing.assert_allclose(found, [1.0, 0.5, 0.0], atol=1e-5)


@pytest.mark.thorough
def test_derivatives_at_far_corners():
    """Against closed forms in double precision."""
    # the first and the last are at the top, and leave to the second what is missing to one
    y, top = jnp.asarray(1e7 * X, jnp.float32), jnp.asarray([0.4, 0.5, 0.5], jnp.float32)
    cut = lambda y, top: sets.Intersection([sets.Simplex(1.0), sets.Box(0.0, top)]).project(y)
    np.testing.assert_allclose(jax.jit(cut)(y, top), [0.4, 0.1, 0.5], atol=1e-5)
    for jacobian in (jax.jacfwd, jax.jacrev):
        in_point, in_top = jax.jit(jacobian(cut, (0, 1)))(y, top)
        np.testing.assert_allclose(in_point, np.zeros((3, 3)), atol=1e-5)
        np.testing.assert_allclose(in_top, [[1, 0, 0], [-1, 0, -1], [0, 0, 1]], atol=1e-5)

    # an edge whose normals turn: the closed form of two equations
    def edge(normals, y):
        multipliers = jnp.linalg.solve(normals @ normals.T, normals @ y - jnp.ones(2))
        return y - normals.T @ multipliers

    normals, turn = CORNER[0][:2], RNG.standard_normal((2, 3))
    y = 1e7 * normals.T @ [1.0, 2.0] + np.array([0.0, 0.3, 0.4])
    _, truth = jax.jvp(edge, (normals, y), (turn, X))
    meet = lambda normals, y: sets.Intersection([sets.Halfspace(a, 1.0) for a in normals]).project(y)
    single = [tuple(jnp.asarray(v, jnp.float32) for v in pair) for pair in ((normals, y), (turn, X))]
    _, found = jax.jit(lambda given, change: jax.jvp(meet, given, change))(*single)
    np.testing.assert_allclose(found, truth, atol=1e-4 * np.max(np.abs(truth)))


@pytest.mark.thorough
def test_derivatives_far_from_a_curved_intersection():
    """Against a closed form; NaN in the parameters where single precision has no digits left of these derivatives."""
    part = lambda radius, offset: sets.Intersection(
        [sets.L2Ball(radius), sets.Halfspace(jnp.asarray(NORMAL, radius.dtype), offset)]
    )
    project = lambda y, radius, offset: part(radius, offset).project(y)
    for far, dtype, atol in ((1e2, jnp.float64, 1e-8), (1e6, jnp.float64, 1e-2), (1e7, jnp.float32, None)):
        given = [jnp.asarray(v, dtype) for v in (far * X, 1.0, -0.5)]
        truth = jax.jacobian(capped, (0, 1, 2))(far * X, 1.0, -0.5)
        np.testing.assert_allclose(jax.jit(jax.jacobian(project))(*given), truth[0], atol=1e-5)
        for got, want in zip(jax.jit(jax.jacobian(project, (1, 2)))(*given), truth[1:], strict=True):
            assert np.isnan(got).all() if atol is None else np.allclose(got, want, atol=atol)


@pytest.mark.thorough
def test_derivatives_in_rows_at_far_corners():
    """At a corner, A x = b; on a face, the closed form of a half-space."""
    A, b = CORNER
    dA, y = RNG.standard_normal((3, 3)), 1e7 * A.T @ [1.0, 2.0, 3.0]
    x = np.linalg.solve(A, b)
    for make in (sets.Polyhedron, sets.Affine):
        project = lambda A, b, y, make=make: make(A, b).project(y)
        given = [jnp.asarray(v, jnp.float32) for v in (A, b, y)]
        change = tuple(jnp.asarray(v, jnp.float32) for v in (dA, b, 0 * y))
        _, found = jax.jit(lambda g, t, project=project: jax.jvp(project, tuple(g), t))(given, change)
        np.testing.assert_allclose(found, np.linalg.solve(A, b - dA @ x), rtol=1e-3, atol=1e-3)

    def halfspace(a, y):
        return y - a * (jnp.sum(a * y) - 1) / jnp.sum(a * a)

    a, da, y = A[0], dA[0], 1e7 * X
    _, truth = jax.jvp(halfspace, (a, y), (da, y[::-1]))
    for make in (sets.Polyhedron, sets.Affine):
        project = lambda a, y, make=make: make(a[None, :], jnp.ones(1, a.dtype)).project(y)
        given, change = ([jnp.asarray(v, jnp.float32) for v in pair] for pair in ((a, y), (da, y[::-1])))
        _, found = jax.jvp(project, tuple(given), tuple(change))
        np.testing.assert_allclose(found, truth, rtol=1e-5)


SHIFT = np.array([0.5, -0.25, 1.0])
#: a penalty whose conjugate is bounded by a set, a direction, and the furthest member of that set
CONJUGATES = {
    "l1": (penalties.L1(2.0), X, 2 * np.sign(X)),
    "group lasso": (penalties.GroupLasso(2.0), X, 2 * UNIT),
    "rows": (penalties.GroupLasso(2.0, axis=1), np.stack([X, -2 * X]), 2 * np.stack([UNIT, -UNIT])),
    "columns": (penalties.GroupLasso(2.0, axis=0), np.stack([X, -2 * X]).T, 2 * np.stack([UNIT, -UNIT]).T),
    "nuclear norm": (penalties.NuclearNorm(2.0), MATRIX, 2 * U @ V.T),
    "max norm": (penalties.LInf(2.0), X, [2.0, 0.0, 0.0]),
    "sorted l1": (penalties.SortedL1(jnp.array([3.0, 2.0, 1.0])), X, X),
    "support": (penalties.SupportFunction(sets.Permutahedron(jnp.array([1.0, 2.0, 4.0]))), X, [4.0, 1.0, 2.0]),
    "scaled": (penalties.Scaled(penalties.LInf(0.5), 4.0), X, [2.0, 0.0, 0.0]),
    "shifted": (penalties.Shifted(penalties.L1(2.0), jnp.asarray(SHIFT)), X, 2 * np.sign(X)),
    "turned": (penalties.Orthogonal(penalties.L1(2.0), jnp.asarray(U)), U.T @ X, U.T @ (2 * np.sign(X))),
    "product": (penalties.Product(penalties.LInf(2.0)), X, [2.0, 0.0, 0.0]),
}


@pytest.mark.by_default(without=["rows", "sorted l1", "support"])
@pytest.mark.parametrize("name", CONJUGATES)
def test_proximal_operators_of_conjugates_at_far_points(name):
    """Moreau's identity would lose them: it is a difference of two numbers of the point's size."""
    penalty, x, p = CONJUGATES[name]
    single = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), penalty)
    for far in (1e5, 1e7, 1e9):
        y = jnp.asarray(far * x, jnp.float32)
        for prox in (single.conjugate_prox, jax.jit(single.conjugate_prox)):
            np.testing.assert_allclose(prox(y, 0.5), p, atol=2e-5)
        # the strengths' change by their own size moves the result by its own
        change = jax.tree.map(lambda v: v if jnp.shape(v) != (3, 3) else 0 * v, single)
        if name not in ("scaled", "shifted"):
            slope = jax.jvp(lambda g, y=y: g.conjugate_prox(y, 0.5), (single,), (change,))[1]
            np.testing.assert_allclose(slope, p, atol=2e-5)
    for step in (-1.0, jnp.nan):
        assert np.isnan(jax.jit(single.conjugate_prox)(y, step)).all()


@pytest.mark.thorough
def test_conjugates_near_by():
    """By Moreau's identity, in double precision; with derivatives."""
    for name, (penalty, x, _) in CONJUGATES.items():
        moreau = lambda g, x: x - 0.7 * g.prox(x / 0.7, 1 / 0.7)
        for size in (0.2, 1.0, 3.0):
            given = (penalty, jnp.asarray(size * x))
            given = jax.tree.map(lambda v: jnp.asarray(v, float), given)
            change = jax.tree.map(lambda v: jnp.cos(jnp.arange(v.size).reshape(v.shape) + 1.0), given)
            if name == "turned":  # an orthogonal matrix has tangents of its own
                change = (jax.tree.map(jnp.zeros_like, given[0]), change[1])
            truth = jax.jvp(moreau, given, change)
            found = jax.jvp(lambda g, x: g.conjugate_prox(x, 0.7), given, change)
            np.testing.assert_allclose(found, truth, atol=1e-12, err_msg=name)
