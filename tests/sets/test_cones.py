"""Cones and sets of matrices: projections against CVXPY and Clarabel, derivatives against central differences."""

import itertools
import warnings

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_default import but
from catalogue_sets import derivatives, inner, project

import dini
from dini import sets

# a case's programs are its own: each case in one test, each test with one case
pytestmark = pytest.mark.by_default("once")

RNG = np.random.default_rng(3)


def symmetric(n, rng=RNG):
    a = rng.standard_normal((n, n))
    return (a + a.T) / 2


def vector(n):
    return RNG.standard_normal(n)


PRODUCT = sets.ConeProduct(
    [
        sets.Zero(),
        sets.NonNegative(),
        sets.SecondOrder(),
        sets.Exponential(),
        sets.Power(0.3),
        sets.PositiveSemidefinite(),
        sets.Exponential().dual,
        sets.Free(),
    ],
    [2, 2, 3, 6, 3, 6, 3, 1],
)
# name: the set, points of several sizes, the constraints that state it to CVXPY
CASES = {
    "second order": (
        sets.SecondOrder(),
        [vector(1), vector(3), vector(7), np.array([-0.2, 2.0, 1.0])],
        lambda x: [cp.norm(x[1:]) <= x[0]] if x.size > 1 else [x >= 0],
    ),
    "exponential": (
        sets.Exponential(),
        [
            np.array([1.0, 1.0, 1.0]),
            np.array([-1.0, 2.0, -3.0]),
            np.array([3.0, -1.0, 0.5]),
            np.array([-1.0, -2.0, 1.0]),
        ],
        lambda x: [cp.ExpCone(x[0], x[1], x[2])],
    ),
    "dual exponential": (
        sets.Exponential().dual,
        [np.array([1.0, 1.0, 1.0]), np.array([-1.0, 2.0, -3.0]), np.array([3.0, -1.0, 0.5])],
        # u < 0, -u e^(v/u) <= e w
        lambda x: [cp.ExpCone(x[0] - x[1], -x[0], x[2])],
    ),
    "power": (
        sets.Power(0.3),
        [
            np.array([0.4, -0.5, 1.0]),
            np.array([-0.2, 1.0, -3.0]),
            np.array([0.3, 0.6, 2.0]),
            np.array([-0.2, 1.0, 0.0]),
        ],
        lambda x: [cp.PowCone3D(x[0], x[1], x[2], 0.3)],
    ),
    "dual power": (
        sets.Power(0.3).dual,
        [np.array([0.4, -0.5, 1.0]), np.array([-0.2, 1.0, -3.0]), np.array([0.3, 0.6, 2.0])],
        lambda x: [cp.PowCone3D(x[0] / 0.3, x[1] / 0.7, x[2], 0.3)],
    ),
    "semidefinite": (
        sets.PositiveSemidefinite(),
        [symmetric(1), symmetric(3), symmetric(5)],
        lambda x: [x >> 0, x == x.T],
    ),
    "spectrahedron": (
        sets.Spectrahedron(1.5),
        [symmetric(1), symmetric(3), 2 * symmetric(5)],
        lambda x: [x >> 0, x == x.T, cp.trace(x) == 1.5],
    ),
    "spectral ball": (
        sets.SpectralNormBall(0.7),
        [RNG.standard_normal(shape) for shape in ((1, 1), (3, 2), (2, 4))],
        lambda x: [cp.sigma_max(x) <= 0.7],
    ),
    "nuclear ball": (
        sets.NuclearNormBall(0.7),
        [RNG.standard_normal(shape) for shape in ((1, 1), (3, 2), (2, 4))],
        lambda x: [cp.normNuc(x) <= 0.7],
    ),
}
#: much as others of these: the duals are projected through Moreau, the balls and the spectrahedron through eigenvalues
LIKE_OTHERS = {"dual exponential", "dual power", "spectrahedron", "nuclear ball"}
CONES = [name for name in CASES if isinstance(CASES[name][0], sets.Cone)]
SYMMETRIC = ("semidefinite", "spectrahedron")
POINTS = [
    pytest.param(name, i, marks=[pytest.mark.thorough] if name in LIKE_OTHERS else [])
    for name, (_, points, _) in CASES.items()
    for i in range(len(points))
]


@pytest.mark.parametrize(("name", "i"), POINTS)
def test_projection_against_cvxpy(name, i):
    part, points, constraints = CASES[name]
    variable = cp.Variable(points[i].shape)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(variable - points[i])), constraints(variable))
    # an objective within 1e-10 is a point within 1e-6, but for the exponential cone
    gap = 1e-12 if name == "exponential" else 1e-10
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate")  # for Clarabel that is much to ask
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=gap, tol_gap_rel=gap, tol_feas=gap)
    got = jax.jit(part.project)(points[i])
    np.testing.assert_allclose(got, variable.value, atol=1e-6)
    # at least as near as Clarabel's point
    assert np.linalg.norm(got - points[i]) <= np.linalg.norm(variable.value - points[i]) + 1e-7


def cloud(name, count=60):
    """Return points of all sizes around the first shape of at least two elements."""
    rng = np.random.default_rng(5)
    shape = next(p.shape for p in CASES[name][1] if p.size > 1)
    points = rng.standard_normal((count, *shape)) * 10 ** rng.uniform(-2, 2, (count, *[1] * len(shape)))
    if name in SYMMETRIC:
        points = points + np.swapaxes(points, -1, -2)
    return points


@pytest.mark.parametrize("name", but(CASES, LIKE_OTHERS))
def test_projections_are_projections(name):
    """Idempotent, nonexpansive, and the variational inequality <x - p, q - p> <= 0 against other members."""
    part, points = CASES[name][0], cloud(name)
    project = jax.jit(jax.vmap(part.project))
    p = np.asarray(project(points))
    size = np.linalg.norm(points.reshape(len(points), -1), axis=1)
    flat = lambda a: a.reshape(len(a), -1)
    assert (np.linalg.norm(flat(project(p) - p), axis=1) <= 1e-12 * (1 + size)).all()
    for a, b in itertools.pairwise(range(len(points))):
        assert np.linalg.norm(p[a] - p[b]) <= np.linalg.norm(points[a] - points[b]) * (1 + 1e-12)
        assert np.sum((points[a] - p[a]) * (p[b] - p[a])) <= 1e-12 * (1 + size[a]) * (1 + size[a] + size[b])
    np.testing.assert_allclose(part.residual(jnp.asarray(points[0])), np.linalg.norm(points[0] - p[0]), rtol=1e-12)


@pytest.mark.parametrize("name", but(CONES, LIKE_OTHERS))
def test_moreau(name):
    """x = P_K(x) - P_K*(-x) with orthogonal parts; the support function is 0 on the polar cone only."""
    cone = CASES[name][0]
    parts = lambda x: (cone.project(x), cone.dual.project(-x), cone.dual.dual.project(x))
    parts, support = jax.jit(parts), jax.jit(cone.support)
    for x in map(jnp.asarray, cloud(name, 12)):
        p, q, again = parts(x)
        scale = float(jnp.vdot(x, x))
        np.testing.assert_allclose(p - q, x, atol=1e-12 * (1 + scale))
        assert abs(jnp.vdot(p, q)) <= 1e-12 * scale
        np.testing.assert_allclose(again, p, atol=1e-12)
        if jnp.linalg.norm(q) > 1e-6:
            assert support(-q) == 0
        if jnp.linalg.norm(p) > 1e-6:
            assert support(x) == np.inf


@pytest.mark.parametrize(("alpha", "scale"), [(0.5, 1), (0.02, 1), (0.9, 1), (0.3, 1e-140)])
def test_power_cone_at_all_scales(alpha, scale):
    """Orthogonal parts, the one in the cone and the other in its polar, to rounding."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((500, 3)) * 10 ** rng.uniform(-8, 8, (500, 3)) * scale
    p = np.asarray(jax.jit(jax.vmap(sets.Power(alpha).project))(points))
    size = np.linalg.norm(points, axis=1, keepdims=True)
    # a little further in, by less than any rounding of an ill-conditioned membership test
    x, y, z = (p / size + 1e-13 * np.array([1, 1, 0])).T
    assert (x**alpha * y ** (1 - alpha) >= abs(z)).all()
    u, v, w = ((p - points) / size + 1e-13 * np.array([1, 1, 0])).T
    assert ((u / alpha) ** alpha * (v / (1 - alpha)) ** (1 - alpha) >= abs(w)).all()
    assert np.abs(np.sum(p / size * (p - points) / size, axis=1)).max() <= 1e-14


@pytest.mark.parametrize("scale", [1, 1e-140, 1e140])
def test_exponential_cone_at_all_scales(scale):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((500, 3)) * 10 ** rng.uniform(-8, 8, (500, 3)) * scale
    # an exponent of 1e10: one that overflows if it is not kept small
    points[:4] = scale * np.array([[1e-10, -1, 1], [-1, 1e-10, -1], [1e-10, 1, 1], [1, 1e-10, -1]])
    p = np.asarray(jax.jit(jax.vmap(sets.Exponential().project))(points))
    size = np.linalg.norm(points, axis=1, keepdims=True)
    x, y, z = (p / size + 1e-13 * np.array([-1, 1, 2])).T
    assert (np.log(y) + x / y <= np.log(z)).all()
    u, v, w = ((p - points) / size + 1e-13 * np.array([-1, 1, 2])).T
    assert (np.log(-u) + v / u <= 1 + np.log(w)).all()
    assert np.abs(np.sum(p / size * (p - points) / size, axis=1)).max() <= 1e-14


@pytest.mark.thorough
@pytest.mark.parametrize("cone", [sets.Exponential(), sets.Power(0.5), sets.Power(0.05)])
def test_single_precision_over_sixteen_decades(cone):
    """As in float64 to rounding, with Jacobians that are finite, symmetric and between 0 and 1, next to kinks too."""
    rng = np.random.default_rng(0)
    points = (rng.standard_normal((2000, 3)) * 10 ** rng.uniform(-8, 8, (2000, 3))).astype(np.float32)
    run = lambda x: (cone.project(x), jax.jacrev(cone.project)(x), cone.kink_distance(x))
    with jax.enable_x64(False):
        p, J, _ = (np.asarray(a) for a in jax.jit(jax.vmap(run))(points))
    want, J64, near = (np.asarray(a) for a in jax.jit(jax.vmap(run))(points.astype(float)))
    size = np.linalg.norm(points.astype(float), axis=1)
    assert p.dtype == J.dtype == np.float32
    assert (np.linalg.norm(p - want, axis=1) <= 1e-6 * size).all()
    assert np.isfinite(J).all()
    away = near > 1e-3 * size
    assert np.abs(J - J64)[away].max() <= 1e-4
    assert np.abs(J64 - np.swapaxes(J64, 1, 2)).max() <= 1e-7  # where next to a kink
    eigenvalues = np.linalg.eigvalsh(J64)
    assert eigenvalues.min() >= -1e-7
    assert eigenvalues.max() <= 1 + 1e-7


@pytest.mark.parametrize(("name", "i"), POINTS)
def test_derivatives(name, i):
    """In the point and in the parameters: central differences; a symmetric Jacobian with eigenvalues in [0, 1]."""
    part, points, _ = CASES[name]
    part, x = jax.tree.map(np.asarray, part), points[i]
    rng = np.random.default_rng(1)
    h = 1e-5
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), part)
        t, v = rng.standard_normal((2, *x.shape))
        if name in SYMMETRIC:
            t = t + t.T
        moved = lambda s, d=direction, t=t: project(jax.tree.map(lambda a, b: a + s * b, part, d), x + s * t)
        got, back, to, jacobian = derivatives(part, x, direction, t, v)
        np.testing.assert_allclose(got, (moved(h) - moved(-h)) / (2 * h), atol=1e-6)
        # reverse mode is the transpose, in all arguments
        np.testing.assert_allclose(inner(back, direction) + inner(to, t), inner(v, got), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-10)
    eigenvalues = np.linalg.eigvalsh(jacobian)
    assert eigenvalues.min() >= -1e-10
    assert eigenvalues.max() <= 1 + 1e-10


@pytest.mark.thorough
def test_second_derivatives():
    """Hessians of a functional of the projection, against central differences of its gradient."""
    rng = np.random.default_rng(2)
    for name in ("second order", "exponential", "power", "semidefinite", "nuclear ball"):
        part, points, _ = CASES[name]
        x = jnp.asarray(points[2] if name != "second order" else points[3])
        weight = jnp.asarray(rng.standard_normal(x.shape))
        gradient = jax.jit(jax.grad(lambda x, part=part, weight=weight: jnp.vdot(weight, part.project(x))))
        move = jnp.asarray(rng.standard_normal(x.shape))
        move = move + move.T if name == "semidefinite" else move
        got = jax.jvp(gradient, (x,), (move,))[1]
        want = (gradient(x + 1e-5 * move) - gradient(x - 1e-5 * move)) / 2e-5
        np.testing.assert_allclose(got, want, atol=1e-6, err_msg=name)


KINKS = {
    "second order": [np.zeros(4), np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 0.0])],
    "exponential": [np.zeros(3), np.eye(3)[0], -np.eye(3)[0], np.eye(3)[1], -np.eye(3)[1], -np.eye(3)[2]],
    "dual exponential": [np.zeros(3), np.eye(3)[0], -np.eye(3)[1]],
    "power": [np.zeros(3), *np.eye(3), *-np.eye(3), np.array([1.0, 1.0, 1.0])],
    "semidefinite": [np.zeros((3, 3)), np.eye(3), -np.eye(3), np.diag([1.0, 0.0, -1.0])],
    "spectrahedron": [np.zeros((3, 3)), np.eye(3), np.diag([1.5, 0.0, 0.0])],
    "spectral ball": [np.zeros((3, 2)), np.eye(3)[:, :2], np.eye(2, 4) * 0.7, np.ones((3, 3))],
    "nuclear ball": [np.zeros((3, 2)), np.eye(3)[:, :2], np.eye(2, 4) * 0.35, np.ones((3, 3))],
}


@pytest.mark.by_default(without=["power", "spectral ball"])
@pytest.mark.parametrize("name", but(KINKS, LIKE_OTHERS))
def test_derivatives_at_kinks_and_ties(name):
    """Finite, symmetric, with eigenvalues in [0, 1]: an element of the generalized Jacobian's convex hull."""
    part = CASES[name][0]
    for jacobian_of in (jax.jacfwd, jax.jacrev):
        jacobian = jax.jit(jacobian_of(part.project))
        for x in KINKS[name]:
            J = np.asarray(jacobian(x)).reshape(x.size, x.size)
            assert np.isfinite(J).all()
            np.testing.assert_allclose(J, J.T, atol=1e-12)
            eigenvalues = np.linalg.eigvalsh(J)
            assert eigenvalues.min() >= -1e-12
            assert eigenvalues.max() <= 1 + 1e-12


@pytest.mark.thorough
def test_repeated_eigenvalues_and_singular_values():
    """Where nothing crosses the threshold the projection is smooth, whatever the multiplicities: closed forms."""
    t = jnp.asarray(symmetric(3))
    x = jnp.diag(jnp.array([2.0, 2.0, -1.0]))
    weights = np.array([[1, 1, 2 / 3], [1, 1, 2 / 3], [2 / 3, 2 / 3, 0]])
    got = jax.jvp(sets.PositiveSemidefinite().project, (x,), (t,))[1]
    np.testing.assert_allclose(got, weights * t, atol=1e-14)
    # two equal eigenvalues share the trace: the trace of the tangent is taken off their block
    shift = (t[0, 0] + t[1, 1]) / 2
    rest = np.array([[1, 1, 1 / 6], [1, 1, 1 / 6], [1 / 6, 1 / 6, 0]]) * t
    got = jax.jvp(sets.Spectrahedron(1.0).project, (x,), (t,))[1]
    np.testing.assert_allclose(got, rest - shift * np.diag([1, 1, 0]), atol=1e-14)
    # the identity, far outside of a ball that is a multiple of it: r/n of the trace's direction vanishes
    t = jnp.asarray(RNG.standard_normal((3, 3)))
    even, odd = (t + t.T) / 2, (t - t.T) / 2
    got = jax.jvp(sets.NuclearNormBall(0.6).project, (jnp.eye(3),), (t,))[1]
    np.testing.assert_allclose(got, even - np.eye(3) * np.trace(t) / 3 + 0.2 * odd, atol=1e-14)
    got = jax.jvp(sets.SpectralNormBall(0.6).project, (jnp.eye(3),), (t,))[1]
    np.testing.assert_allclose(got, 0.6 * odd, atol=1e-14)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "target"), [("spectrahedron", "lapack_dsyevd_ffi"), ("nuclear ball", "lapack_dgesdd_ffi")]
)
def test_one_decomposition(name, target):
    """The threshold comes from the decomposition that it is applied to: a second one would be twice the work."""
    part, points, _ = CASES[name]
    batch = jnp.stack([jnp.asarray(points[1])] * 2)
    for function in (part.project, jax.jacfwd(part.project), jax.jacrev(part.project)):
        program = jax.jit(jax.vmap(function)).lower(batch).compile().as_text()
        assert program.count(f'custom_call_target="{target}"') == 1


@pytest.mark.parametrize("name", but(CASES, LIKE_OTHERS))
def test_kink_distance_is_a_lower_bound(name):
    """On any segment shorter than the distance, the Jacobian changes continuously."""
    part = CASES[name][0]
    distance = jax.jit(part.kink_distance)
    jacobian = jax.jit(jax.vmap(jax.jacfwd(part.project)))
    rng = np.random.default_rng(7)
    for x in cloud(name, 8):
        reach = float(distance(x))
        assert reach >= 0
        move = rng.standard_normal(x.shape)
        move = move + move.T if name in SYMMETRIC else move
        move *= min(reach, 1e3) / np.linalg.norm(move)
        steps = np.linspace(-0.999, 0.999, 4001)
        path = np.asarray(jacobian(x + steps.reshape(-1, *[1] * x.ndim) * move)).reshape(steps.size, -1)
        jumps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        # a jump does not shrink with the spacing; a steep but smooth stretch is spread over several steps
        assert jumps.max() <= max(0.3, 0.3 * jumps.sum())
    for x in KINKS.get(name, ())[:1]:
        if name in CONES:
            assert distance(x) == 0


def test_kink_distance_closed_forms():
    near = lambda part, x: float(jax.jit(part.kink_distance)(jnp.asarray(x)))
    assert near(sets.SecondOrder(), [0.0, 3.0, 4.0]) == pytest.approx(5 / np.sqrt(2))
    assert near(sets.PositiveSemidefinite(), np.diag([2.0, -0.5])) == pytest.approx(0.5)
    assert near(sets.SpectralNormBall(1.0), np.diag([2.0, 0.7])) == pytest.approx(0.3)
    assert near(sets.NuclearNormBall(2.0), np.diag([0.5, 0.5])) == pytest.approx(1 / np.sqrt(2))
    # support {0}: the second crosses where its distance to the first is the radius
    assert near(sets.Spectrahedron(1.0), np.diag([2.0, 0.5])) == pytest.approx(0.5 / np.sqrt(2))
    assert near(sets.Exponential(), [-3.0, -4.0, 5.0]) == pytest.approx(3.0)
    assert near(sets.Zero(), [1.0]) == near(sets.Free(), [1.0]) == np.inf


def test_support_functions():
    """Against the largest inner product that CVXPY finds."""
    for name in ("spectrahedron", "spectral ball", "nuclear ball"):
        part, points, constraints = CASES[name]
        variable = cp.Variable(points[1].shape)
        problem = cp.Problem(cp.Maximize(cp.sum(cp.multiply(points[1], variable))), constraints(variable))
        np.testing.assert_allclose(part.support(jnp.asarray(points[1])), problem.solve(solver=cp.CLARABEL), rtol=1e-6)


def test_scaled_vectors():
    x, y = jnp.asarray(symmetric(4)), jnp.asarray(symmetric(4))
    np.testing.assert_allclose(jnp.vdot(sets.svec(x), sets.svec(y)), jnp.vdot(x, y), rtol=1e-14)
    np.testing.assert_allclose(sets.smat(sets.svec(x)), x, atol=1e-15)
    # lower triangle by columns
    np.testing.assert_allclose(sets.svec(x)[:3], [x[0, 0], np.sqrt(2) * x[1, 0], np.sqrt(2) * x[2, 0]], rtol=1e-14)
    vectors, matrices = sets.PositiveSemidefinite(form="vector"), sets.PositiveSemidefinite()
    np.testing.assert_allclose(sets.smat(vectors.project(sets.svec(x))), matrices.project(x), atol=1e-14)
    np.testing.assert_allclose(vectors.kink_distance(sets.svec(x)), matrices.kink_distance(x), rtol=1e-12)


@pytest.mark.thorough
def test_products_of_cones():
    """Block by block as the cones alone, and the dual of the product is the product of the duals."""
    x = np.random.default_rng(4).standard_normal(26)
    got, other, near = jax.jit(lambda x: (PRODUCT.project(x), PRODUCT.dual.project(-x), PRODUCT.kink_distance(x)))(x)
    ends = np.cumsum(PRODUCT.sizes)
    exponential = jax.jit(sets.Exponential().project)

    def semidefinite(v):
        values, vectors = np.linalg.eigh(np.asarray(sets.smat(jnp.asarray(v))))
        return sets.svec(jnp.asarray(vectors * np.maximum(values, 0) @ vectors.T))

    alone = [
        np.zeros_like,
        lambda v: np.maximum(v, 0),
        jax.jit(sets.SecondOrder().project),
        lambda v: np.concatenate([exponential(v[:3]), exponential(v[3:])]),
        jax.jit(sets.Power(0.3).project),
        semidefinite,
        lambda v: v + exponential(-v),
        lambda v: v,
    ]
    for one, block, part in zip(alone, np.split(got, ends[:-1]), np.split(x, ends[:-1]), strict=True):
        np.testing.assert_allclose(block, one(part), atol=1e-13)
    np.testing.assert_allclose(got - other, x, atol=1e-13)
    assert isinstance(PRODUCT.dual.cones[0], sets.Free)
    assert isinstance(PRODUCT.dual.cones[6], sets.Exponential)
    assert near >= 0
    # the exponent of the power cone is a parameter
    first = jax.jit(lambda alpha: sets.ConeProduct([sets.Power(alpha)], [3]).project(jnp.array([0.4, -0.5, 1.0]))[0])
    got = jax.grad(first)(0.3)
    np.testing.assert_allclose(got, (first(0.3 + 1e-6) - first(0.3 - 1e-6)) / 2e-6, atol=1e-8)


@pytest.mark.by_default("second order", "exponential", "semidefinite")
@pytest.mark.parametrize("name", but(CASES, LIKE_OTHERS))
def test_batches_and_single_precision(name):
    part, points = CASES[name][0], cloud(name, 5)
    project = jax.jit(part.project)
    batch = jax.jit(jax.vmap(part.project))(points)
    for x, p in zip(points, batch, strict=True):
        np.testing.assert_allclose(project(x), p, atol=1e-13 * (1 + np.abs(x).max()))
    J = jax.jit(jax.jacrev(part.project))(points[1])
    with jax.enable_x64(False):
        point = jnp.asarray(points[1], jnp.float32)
        single = jax.jit(lambda x: (part.project(x), jax.jacrev(part.project)(x)))(point)
    assert single[0].dtype == single[1].dtype == jnp.float32
    np.testing.assert_allclose(single[0], batch[1], atol=2e-5 * np.abs(points[1]).max())
    np.testing.assert_allclose(single[1], J, atol=2e-3)


@pytest.mark.by_default("SecondOrder")
@pytest.mark.parametrize("cone", [sets.SecondOrder, sets.Exponential])
def test_axes(cone):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2)))
    columns = jax.jit(cone(axis=0).project)(x)
    one = jax.jit(cone().project)
    np.testing.assert_allclose(columns, np.stack([one(x[:, j]) for j in range(2)], axis=1), atol=1e-15)
    np.testing.assert_allclose(jax.jit(cone(axis=-1).project)(x.T), columns.T, atol=1e-15)
    rows = cone(axis=-1)
    assert rows.separates_rows(x.T)
    assert not cone(axis=0).separates_rows(x)
    np.testing.assert_allclose(jax.jit(rows.row(1, x.T).project)(x[:, 1]), columns[:, 1], atol=1e-15)
    near = jax.jit(cone().kink_distance)
    assert jax.jit(cone(axis=0).kink_distance)(x) == min(near(x[:, j]) for j in range(2))


def test_in_a_problem():
    """A cone and a ball as constraints of a solve; the derivative passes through their parameters."""
    target = jnp.asarray(symmetric(3))

    def nearest(radius):
        problem = dini.Minimize(lambda x: 0.5 * jnp.sum((x - target) ** 2), constraint=sets.NuclearNormBall(radius))
        return dini.solve(problem, dini.ProjectedGradient(tol=1e-10), jnp.zeros((3, 3))).x

    got = jax.jacrev(nearest)(0.5)
    np.testing.assert_allclose(got, (nearest(0.5 + 1e-5) - nearest(0.5 - 1e-5)) / 2e-5, atol=1e-6)


def test_bad_input():
    for cone in (sets.SecondOrder(), sets.Exponential()):
        with pytest.raises(ValueError, match="needs axis"):
            cone.project(jnp.zeros((2, 3)))
        with pytest.raises(ValueError, match="one array"):
            cone.check({"a": jnp.zeros(3)})
    with pytest.raises(ValueError, match="3 elements"):
        sets.Exponential().project(jnp.zeros(4))
    with pytest.raises(ValueError, match="at least one element"):
        sets.SecondOrder().project(jnp.zeros(0))
    with pytest.raises(ValueError, match="axis must be one of"):
        sets.SecondOrder(axis=2).project(jnp.zeros((2, 3)))
    for alpha in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="Power's alpha"):
            sets.Power(alpha)
    with pytest.raises(ValueError, match="alpha must be a scalar"):
        sets.Power(jnp.array([0.5])).project(jnp.zeros(3))
    with pytest.raises(ValueError, match="symmetrize=True"):
        sets.PositiveSemidefinite().project(jnp.array([[1.0, 1.0], [0.0, 1.0]]))
    half = sets.PositiveSemidefinite(symmetrize=True).project(jnp.array([[1.0, 1.0], [0.0, 1.0]]))
    np.testing.assert_allclose(half, [[1, 0.5], [0.5, 1]], atol=1e-15)
    for part in (sets.PositiveSemidefinite(), sets.Spectrahedron()):
        with pytest.raises(ValueError, match="square matrix"):
            part.project(jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="n \\(n \\+ 1\\) / 2"):
        sets.PositiveSemidefinite(form="vector").project(jnp.zeros(4))
    with pytest.raises(ValueError, match="form must be"):
        sets.PositiveSemidefinite(form="square")
    for ball in (sets.SpectralNormBall, sets.NuclearNormBall, sets.Spectrahedron):
        with pytest.raises(ValueError, match="must be positive"):
            ball(0.0)
        with pytest.raises(ValueError, match="must be a scalar"):
            ball(jnp.ones(2)).check(jnp.eye(2))
    with pytest.raises(ValueError, match="one size for each cone"):
        sets.ConeProduct([sets.Zero()], [1, 2])
    with pytest.raises(ValueError, match="multiple of 3"):
        sets.ConeProduct([sets.Exponential()], [4])
    with pytest.raises(ValueError, match="vector of 3 elements"):
        sets.ConeProduct([sets.Zero()], [3]).project(jnp.zeros(2))
    with pytest.raises(TypeError, match="cone is needed"):
        sets.ConeProduct([sets.Box(0, 1)], [3])


def test_simplex_keeps_the_digits_of_large_points():
    """In float32 with elements of size 1e6, the projection still sums to the radius to single precision."""
    offset = np.float32(1e6) + np.array([0.5, 0.25, 0.0, -3.0], np.float32)
    with jax.enable_x64(False):
        p = sets.project_simplex(jnp.asarray(offset, jnp.float32))
    np.testing.assert_allclose(np.sum(p), 1, rtol=1e-6)
    np.testing.assert_allclose(p, [7 / 12, 1 / 3, 1 / 12, 0], atol=1e-6)
    assert (sets.project_simplex(jnp.array([0.0, -jnp.inf, 1.0])) == jnp.array([0.0, 0.0, 1.0])).all()


def test_twelve_equal_cones_are_no_longer_a_program_than_two():
    def length(count):
        project = sets.ConeProduct([sets.Exponential()] * count, [3] * count).project
        return len(str(jax.make_jaxpr(project)(jnp.ones(3 * count))).splitlines())

    assert length(12) == length(2)


@pytest.mark.thorough
def test_equal_cones_behind_each_other_are_projected_as_one_by_one():
    parts = [sets.Power(0.3), sets.Power(0.3), sets.Power(0.6), *[sets.SecondOrder()] * 2, sets.NonNegative()]
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    product = sets.ConeProduct(parts, [3] * 6)
    alone = [sets.ConeProduct([cone], [3]) for cone in parts]
    want = jnp.concatenate([cone.project(row) for cone, row in zip(alone, rows, strict=True)])
    np.testing.assert_allclose(product.project(rows.reshape(-1)), want, atol=1e-12)
    kinks = [cone.kink_distance(row) for cone, row in zip(alone, rows, strict=True)]
    np.testing.assert_allclose(product.kink_distance(rows.reshape(-1)), min(kinks), rtol=1e-9)
