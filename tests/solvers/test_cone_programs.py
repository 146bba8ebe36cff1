"""Cone programs: closed forms, derivatives, certificates, units, batches."""

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import dini
from dini import Status
from dini.sets import ConeProduct, DualCone, Exponential, NonNegative, PositiveSemidefinite, Power, SecondOrder, Zero

NAMES = ("P", "c", "A", "b", "alpha")
LANES, N, SIZES = 6, 8, (1, 1, 3, 3, 3, 3, 3)
ZERO, POSITIVE, NORM, MATRIX, EXP, OTHER, POWER = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])
#: slacks inside of all cones: where the rows of a cone are zero, it says nothing
INSIDE = np.array([0, 1, 1, 0, 0, 1, 0, 1, -1, 1, 1, -1, 1, 1, 1, 1, 0.0])


def cone(alpha):
    second, exponential = SecondOrder(), Exponential()
    cones = [Zero(), NonNegative(), second, PositiveSemidefinite("vector"), exponential, exponential, Power(alpha)]
    return ConeProduct(cones, SIZES)


def program(data, **how):
    return dini.cone_program(**{name: data[name] for name in "PcAb"}, cone=cone(data["alpha"]), **how)


@jax.jit
@jax.vmap
def both(data, cotangent):
    """Return the solution and the gradient of a linear function of it: tests of these shapes share one program."""

    def loss(data):
        solution = program(data)
        return jnp.vdot(cotangent, solution.x), solution

    (_, solution), gradient = jax.value_and_grad(loss, has_aux=True)(data)
    return solution, gradient


def solved(data):
    return both(data, jnp.ones((LANES, N), data["c"].dtype))[0]


def gradients(data, cotangent):
    return both(data, jnp.pad(jnp.asarray(cotangent), ((0, LANES - len(cotangent)), (0, 0)), mode="edge"))[1]


def blank(alpha=0.5):
    """Return a program of which every part that is not filled in is harmless."""
    return {"P": np.eye(N), "c": np.zeros(N), "A": np.zeros((17, N)), "b": INSIDE.copy(), "alpha": np.array(alpha)}


def norm_program(total=2.0):
    """The least norm of two numbers with a sum: total / sqrt(2)."""
    d = blank()
    d["P"][:3] = 0
    d["c"][0], d["A"][ZERO[0], 1:3], d["b"][ZERO[0]] = 1, 1, total
    d["A"][NORM, :3], d["b"][NORM] = -np.eye(3), 0
    return d


def eigenvalue_program(M):
    """The largest eigenvalue: the least t with t I - M semidefinite."""
    d = blank()
    d["P"][0] = 0
    d["c"][0] = 1
    d["A"][ZERO[0], 3] = 1  # an equation that says nothing would have no multiplier
    d["A"][MATRIX, 0], d["b"][MATRIX] = (-1, 0, -1), -np.array([M[0, 0], 2**0.5 * M[1, 0], M[1, 1]])
    return d


def entropy_program(a):
    """The most of entropy plus a linear term on the simplex, at softmax(a); unknowns are p and t <= -p log p."""
    d = blank()
    d["P"][:4] = 0
    d["c"][:4] = -np.concatenate([a, np.ones(2)])
    d["A"][ZERO[0], :2], d["b"][ZERO[0]] = 1, 1
    for i, rows in enumerate((EXP, OTHER)):
        d["A"][rows[0], 2 + i], d["A"][rows[1], i], d["b"][rows] = -1, -1, (0, 0, 1)
    return d


def product_program(alpha, budget):
    """The most of x^alpha y^(1 - alpha) with x + y = budget: x = alpha budget."""
    d = blank(alpha)
    d["P"][:3] = 0
    d["c"][2] = -1
    d["A"][ZERO[0], :2], d["b"][ZERO[0]] = 1, budget
    d["A"][POWER, :3], d["b"][POWER] = -np.eye(3), 0
    return d


def random_program(seed, *, linear=False):
    """Return a program around a strictly complementary solution on the curved part of each cone, and that."""
    rng = np.random.default_rng(seed)
    x, half, A = (rng.standard_normal(shape) for shape in ((N,), (N, N), (17, N)))
    v = 0.3 * rng.standard_normal(17)
    v[ZERO], v[POSITIVE], v[NORM[0]], v[MATRIX[0]], v[MATRIX[2]] = 0.7, (-1) ** seed, 0, 1, -1
    v[EXP], v[OTHER], v[POWER] = v[EXP] + (0, 1, -1), v[OTHER] + (1, 0.5, 0), v[POWER] + (0, 0, 1)
    s = np.asarray(cone(0.4).project(jnp.asarray(v)))
    P = 0 * half if linear else half @ half.T + 0.1 * np.eye(N)
    d = {"P": P, "c": -(P @ x + A.T @ (s - v)), "A": A, "b": A @ x + s, "alpha": np.array(0.4)}
    return d, x, s - v


def rough_program(seed):
    """Return a program whose unknowns appear twice, and whose multipliers are many: all cones are at their boundary."""
    rng = np.random.default_rng(seed)
    half, A, v, x = (rng.standard_normal(shape) for shape in ((N, N), (17, N), 17, N))
    half[:, N // 2 :], A[:, N // 2 :] = half[:, : N // 2], A[:, : N // 2]
    s = np.asarray(cone(0.4).project(jnp.asarray(v)))
    P = half.T @ half
    return {"P": P, "c": -(P @ x + A.T @ (s - v)), "A": A, "b": A @ x + s, "alpha": np.array(0.4)}


def stacked(programs):
    """Return a batch of one size, whose last lanes are the last program."""
    programs = [*programs, *[programs[-1]] * (LANES - len(programs))]
    return {name: jnp.stack([jnp.asarray(d[name]) for d in programs]) for name in NAMES}


def test_closed_forms():
    """A norm, an eigenvalue, an entropy, a product: the points, and their derivatives by hand."""
    M, a = np.array([[1.0, 2.0], [2.0, -1.0]]), np.array([0.3, -0.4])
    data = stacked([norm_program(), eigenvalue_program(M), entropy_program(a), product_program(0.3, 2.0)])
    solution = solved(data)
    assert (solution.status == Status.CONVERGED).all()
    top, p = 5**0.5, np.exp(a) / np.exp(a).sum()
    truth = [[2**0.5, 1, 1, 0], [top, 0, 0, 0], [*p, *(-p * np.log(p))], [0.6, 1.4, 2 * 0.3**0.3 * 0.7**0.7, 0]]
    np.testing.assert_allclose(solution.x[:4], np.pad(truth, ((0, 0), (0, N - 4))), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(solution.value[1], top, rtol=1e-13)

    first = np.zeros((4, N))
    first[:, 0] = 1
    gradient = gradients(data, jnp.asarray(first))
    np.testing.assert_allclose(gradient["b"][0, 0], 0.5**0.5, rtol=1e-10)
    vector = np.linalg.eigh(M)[1][:, 1]
    slope = -np.array([vector[0] ** 2, 2**0.5 * vector[0] * vector[1], vector[1] ** 2])
    np.testing.assert_allclose(gradient["b"][1][MATRIX], slope, rtol=1e-10)
    np.testing.assert_allclose(gradient["c"][2][:2], -p[0] * (np.array([1, 0]) - p), rtol=1e-9)
    np.testing.assert_allclose(gradient["b"][3, 0], 0.3, rtol=1e-9)
    np.testing.assert_allclose(gradient["alpha"][3], 2.0, rtol=1e-9)


def test_solutions_that_are_known():
    """Points, multipliers and slacks of programs that were built around them."""
    made = [random_program(seed) for seed in range(4)]
    solution = solved(stacked([data for data, *_ in made]))
    assert (solution.status == Status.CONVERGED).all()
    for i, (data, x, y) in enumerate(made):
        np.testing.assert_allclose(solution.x[i], x, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(solution.multipliers[i], y, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(solution.slacks[i], data["b"] - data["A"] @ x, atol=1e-9)


def test_solutions_that_are_not_unique():
    """Points and multipliers that are not unique: each is solved exactly. The method has stalled in all of them."""
    made = [rough_program(seed) for seed in (11, 30, 45, 46, 48, 52)]
    solution = solved(stacked(made))
    assert (solution.status == Status.CONVERGED).all()
    for i, d in enumerate(made):
        x, y, s = (np.asarray(part[i]) for part in (solution.x, solution.multipliers, solution.slacks))
        # the multipliers are in the dual cone, as far as Moreau's decomposition says, and orthogonal to the slacks
        onto = lambda v: np.asarray(cone(0.4).project(jnp.asarray(v)))
        np.testing.assert_allclose(onto(s), s, atol=1e-11)
        np.testing.assert_allclose(onto(-y), 0, atol=1e-11)
        np.testing.assert_allclose(d["P"] @ x + d["c"] + d["A"].T @ y, 0, atol=1e-11)
        assert abs(s @ y) < 1e-11


def by_clarabel(d):
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.tol_gap_abs, settings.tol_gap_rel, settings.tol_feas = False, 1e-11, 1e-11, 1e-11
    order = np.arange(17)  # two by two, both triangles are one
    exponential = clarabel.ExponentialConeT()
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(1), clarabel.SecondOrderConeT(3)]
    cones += [clarabel.PSDTriangleConeT(2), exponential, exponential, clarabel.PowerConeT(float(d["alpha"]))]
    rows, sides = sp.csc_matrix(d["A"][order]), d["b"][order]
    found = clarabel.DefaultSolver(sp.csc_matrix(np.triu(d["P"])), d["c"], rows, sides, cones, settings).solve()
    return str(found.status), np.array(found.x)


def test_agrees_with_clarabel():
    """Other objectives over the same constraints."""
    programs, rng = [random_program(seed)[0] for seed in range(4)], np.random.default_rng(0)
    for d in programs:
        d["c"] = d["c"] + 0.3 * rng.standard_normal(N)
    solution = solved(stacked(programs))
    for i, d in enumerate(programs):
        said, x = by_clarabel(d)
        assert Status(int(solution.status[i])) == Status.CONVERGED
        assert said in ("Solved", "AlmostSolved")  # as far as it gets: it is asked for more than it may reach
        np.testing.assert_allclose(solution.x[i], x, atol=1e-6)


def test_gradients_are_those_of_differences():
    """In all data at once, exponents included, in float64."""
    made, rng = [random_program(seed)[0] for seed in (0, 3, 4, 5)], np.random.default_rng(1)
    data, cotangent = stacked(made), jnp.asarray(rng.standard_normal((4, N)))
    along = {name: jnp.asarray(rng.standard_normal(value.shape)) for name, value in data.items()}
    at = lambda t: jnp.sum(cotangent * solved({name: data[name] + t * along[name] for name in NAMES}).x[:4], axis=1)
    gradient, step = gradients(data, cotangent), 1e-5
    ours = sum(jnp.sum((gradient[name] * along[name]).reshape(LANES, -1), axis=1)[:4] for name in NAMES)
    differences = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
    np.testing.assert_allclose(ours, differences, rtol=1e-6, atol=1e-7)


@pytest.mark.thorough
def test_forward_mode_is_that_of_differences():
    """Of a point, of multipliers, of slacks and of the value; the modes agree. Gradients are tested more cheaply."""
    data = {name: jnp.asarray(value) for name, value in random_program(3)[0].items()}
    rng = np.random.default_rng(1)
    along = {name: jnp.asarray(rng.standard_normal(value.shape)) for name, value in data.items()}

    @jax.jit
    def both(data, along):
        out = lambda data: (lambda s: (s.x, s.multipliers, s.slacks, s.value))(program(data))
        value, tangent = jax.jvp(out, (data,), (along,))
        return value, tangent, jax.vjp(out, data)[1](value)[0]

    value, tangent, pulled = both(data, along)
    move = lambda t: both(jax.tree.map(lambda u, du: u + t * du, data, along), along)[0]
    # four points: the solution bends so much along this direction that two leave 2e-6
    step = 1e-6
    near, far = (jax.tree.map(jnp.subtract, move(h), move(-h)) for h in (step, 2 * step))
    differences = jax.tree.map(lambda a, b: (8 * a - b) / (12 * step), near, far)
    for ours, truth in zip(tangent, differences, strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-6, atol=1e-7)
    forward = sum(jnp.vdot(a, b) for a, b in zip(value, tangent, strict=True))
    np.testing.assert_allclose(forward, sum(jnp.vdot(pulled[name], along[name]) for name in NAMES), rtol=1e-8)


def test_second_derivatives():
    """Forward over reverse, beside differences of gradients: of a second-order and an exponential cone."""
    rng = np.random.default_rng(3)
    cone = ConeProduct([SecondOrder(), Exponential()], [3, 3])
    P, A, v, dA, db = (jnp.asarray(rng.standard_normal(shape)) for shape in ((3, 3), (6, 3), 6, (6, 3), 6))
    s = cone.project(v)
    c = -(P.T @ P @ jnp.ones(3) + A.T @ (s - v))

    @jax.jit
    def curved(t):
        def loss(b, A):
            return jnp.sum(dini.cone_program(P=P.T @ P, c=c, A=A, b=b, cone=cone).x ** 3)

        at = lambda t: jax.grad(loss, argnums=(0, 1))(A @ jnp.ones(3) + s + t * db, A + t * dA)
        return jax.jvp(at, (t,), (1.0,))

    _, second = curved(0.0)
    (up, _), (down, _) = curved(1e-5), curved(-1e-5)
    for ours, a, b in zip(second, up, down, strict=True):
        np.testing.assert_allclose(ours, (a - b) / 2e-5, rtol=1e-5, atol=1e-5)


def infeasible():
    d, *_ = random_program(1)
    y = INSIDE + 0.0
    y[EXP], y[OTHER] = (-1, 1, 1), (-1, 1, 1)  # inside of the dual cone
    d["A"] -= np.outer(y, d["A"].T @ y) / (y @ y)
    d["b"] -= y * (d["b"] @ y + 1) / (y @ y)
    return d


def unbounded():
    d, x, _ = random_program(2, linear=True)
    ray = np.array([1.0, -1, 2, 0.5, 0, 1, -2, 0])
    d["A"] -= np.outer(d["A"] @ ray + INSIDE, ray) / (ray @ ray)
    d["b"], d["c"] = d["A"] @ x + INSIDE, -ray
    return d


def test_bad_lanes_are_told_apart_and_the_others_are_as_alone():
    """A batch with an infeasible, an unbounded, a nonconvex and a NaN lane."""
    good, other = random_program(0)[0], random_program(6)[0]
    concave, lost = random_program(5)[0] | {"P": -np.eye(N)}, random_program(5)[0] | {"c": np.full(N, np.nan)}
    data = stacked([good, infeasible(), unbounded(), concave, lost, other])
    cotangent = jnp.ones((6, N))
    solution, gradient = solved(data), gradients(data, cotangent)
    assert [Status(int(end)).name for end in solution.status] == [
        "CONVERGED", "PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE", "NOT_CONVEX", "NONFINITE", "CONVERGED",
    ]  # fmt: skip
    # in a batch of nothing else, whose program is the same
    alone = stacked([good] * 5 + [other])
    lone, lone_gradient, kept = solved(alone), gradients(alone, cotangent), np.array([0, 5])
    np.testing.assert_allclose(solution.x[kept], lone.x[kept], atol=1e-13)
    for name in NAMES:
        np.testing.assert_allclose(gradient[name][kept], lone_gradient[name][kept], rtol=1e-9, atol=1e-11)
    assert jnp.isnan(gradient["c"][1:5]).any(axis=1).all()
    # the certificates prove what they say
    bad, y = infeasible(), np.asarray(solution.multipliers[1])
    assert bad["b"] @ y < -1e-3
    assert np.abs(bad["A"].T @ y).max() < 1e-7
    polar = lambda alpha, v: np.abs(np.asarray(cone(alpha).project(jnp.asarray(-v)))).max()
    assert polar(0.4, y) < 1e-7
    bad, ray = unbounded(), np.asarray(solution.ray[2])
    assert bad["c"] @ ray < -1e-3
    into = -bad["A"] @ ray
    np.testing.assert_allclose(cone(0.4).project(jnp.asarray(into)), into, atol=1e-7)
    assert np.isnan(solution.ray[0]).all()


@pytest.mark.parametrize(
    ("length", "objective", "rows"), [(1e-6, 1e6, 1e6), (1e6, 1e-6, 1e6), (1e6, 1e6, 1e-6), (1e-6, 1e-6, 1e-6)]
)
def test_units_do_not_decide(length, objective, rows):
    """Data in other units: the same point and multipliers, in these units, and the same gradients."""
    plain = stacked([random_program(seed)[0] for seed in (0, 4, 6, 7, 8, 9)])
    factors = {"P": objective / length**2, "c": objective / length, "A": rows / length, "b": rows, "alpha": 1.0}
    other = {name: plain[name] * factors[name] for name in NAMES}
    ours, theirs = solved(other), solved(plain)
    assert (ours.status == Status.CONVERGED).all()
    np.testing.assert_allclose(ours.x / length, theirs.x, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ours.multipliers * rows / objective, theirs.multipliers, rtol=1e-7, atol=1e-8)
    cotangent = jnp.ones((6, N))
    ours, theirs = gradients(other, cotangent / length), gradients(plain, cotangent)
    for name in NAMES:
        np.testing.assert_allclose(ours[name] * factors[name], theirs[name], rtol=1e-6, atol=1e-7)


@pytest.mark.thorough
def test_single_precision():
    """Status, points and derivatives in float32, beside float64."""
    data = stacked([random_program(seed)[0] for seed in (0, 4, 6, 7, 8, 9)])
    single = {name: value.astype(np.float32) for name, value in data.items()}
    solution, truth = solved(single), solved(data)
    assert (solution.status == Status.CONVERGED).all()
    assert solution.x.dtype == np.float32
    np.testing.assert_allclose(solution.x, truth.x, rtol=1e-3, atol=1e-3)


@pytest.mark.thorough
def test_duals_of_cones():
    """The projection onto a cone and its polar add up to the point (Moreau): the cones above in other coordinates."""

    @jax.jit
    def parts(v):
        one = lambda cone: dini.cone_program(P=jnp.eye(6), c=-v, A=-jnp.eye(6), b=jnp.zeros(6), cone=cone)
        return one(ConeProduct([DualCone(Exponential()), DualCone(Power(0.3))], [3, 3])).x

    v = jnp.array([1.0, -0.5, 2.0, 0.3, -0.4, 1.0])
    polar = jnp.concatenate([Exponential().project(-v[:3]), Power(0.3).project(-v[3:])])
    np.testing.assert_allclose(parts(v), v + polar, atol=1e-12)


def test_a_point_on_two_faces_is_a_tie():
    """The distance to a point has no derivative at the point, and the certificate says so; elsewhere it is exact."""
    certified = dini.Implicit(certify=True)

    def projection(v):
        how = {"A": -jnp.eye(3), "b": jnp.zeros(3), "cone": SecondOrder(), "differentiation": certified}
        return dini.cone_program(P=jnp.eye(3), c=-v, **how).x[1]

    gradient = jax.grad(projection)
    np.testing.assert_allclose(gradient(jnp.array([0.0, 3.0, 4.0]))[0], 0.3, rtol=1e-10)
    with pytest.raises(dini.DerivativeError, match="TIE"):
        gradient(jnp.array([5.0, 3.0, 4.0]))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"A": None}, TypeError, "needs A, b and cone: given no A"),
        ({"cone": None}, TypeError, "given no cone"),
        ({"b": np.ones(2)}, ValueError, r"b must have the shape \(m,\) = \(3,\): given \(2,\)"),
        ({"c": np.ones(3)}, ValueError, r"c must have the shape \(n,\) = \(2,\)"),
        ({"P": np.eye(3)}, ValueError, r"P must have the shape \(n, n\)"),
        ({"A": np.ones(3)}, ValueError, r"A must have the shape \(m, n\): given \(3,\)"),
        ({"b": 1j * np.ones(3)}, TypeError, "b must be an array of real numbers"),
        ({"cone": ConeProduct([Zero()], [2])}, ValueError, "as many elements as A has rows, m = 3"),
        ({"cone": dini.sets.Simplex()}, TypeError, "A cone is needed"),
        ({"cone": dini.sets.IsotonicCone()}, TypeError, "A c"),
        ({"cone": PositiveSemidefinite(), "A": np.ones((4, 2)), "b": np.ones(4)}, ValueError, "triangle"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, error, said):
    data = {"P": np.eye(2), "c": np.ones(2), "A": np.ones((3, 2)), "b": np.ones(3), "cone": NonNegative()}
    with pytest.raises(error, match=said):
        dini.cone_program(**(data | change))


def test_failures_are_raised_in_words():
    """Outside of batches, what has no solution is an exception that says why and what to do."""
    with pytest.raises(dini.SolveError, match=r"DUAL_INFEASIBLE.*ray") as caught:
        dini.cone_program(c=jnp.ones(1), A=jnp.ones((1, 1)), b=jnp.ones(1), cone=NonNegative())
    assert caught.value.status == Status.DUAL_INFEASIBLE
    problem = dini.ConeProgram(c=jnp.ones(1), A=jnp.ones((1, 1)), b=jnp.ones(1), cone=NonNegative())
    with pytest.raises(TypeError, match="takes no further arguments"):
        dini.solve(problem, dini.ConicInteriorPoint(), problem.start(), 1.0)
