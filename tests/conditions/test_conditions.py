"""Conditions as plain functions: KKT, conic programs, convex hulls, variational inequalities."""

from decimal import Decimal, getcontext

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import sets
from dini.conditions import (
    KKT,
    KL,
    ConicResidual,
    ConvexHull,
    VariationalInequality,
    multipliers,
    quadratic_program,
)

RNG = np.random.default_rng(0)
FORMS = ("complementarity", "active")


def derivative(F, x, args, tangents, **settings):
    return jax.jit(lambda x, args, tangents: dini.root_jvp(F, x, args, tangents, **settings))(x, args, tangents)


# ---------------------------------------------------------------- KKT
def random_program(n=6, q=2, r=5):
    """A convex program with some inequalities active and some not, solved by CVXPY and polished on its active set."""
    rng = np.random.default_rng(8)
    root = rng.standard_normal((n, n))
    Q, c = root @ root.T + np.eye(n), 3 * rng.standard_normal(n)
    E, d = rng.standard_normal((q, n)), rng.standard_normal(q)
    M, h = rng.standard_normal((r, n)), 0.1 + rng.random(r)
    return (Q, c), (E, d), (M, h)


def by_active_set(data, active):
    (Q, c), (E, d), (M, h) = data
    C = np.vstack([E, M[active]])
    system = np.block([[(Q + Q.T) / 2, C.T], [C, np.zeros((len(C), len(C)))]])
    solved = np.linalg.solve(system, np.concatenate([-c, d, h[active]]))
    lam = np.zeros(len(h))
    lam[active] = solved[len(c) + len(d) :]
    return solved[: len(c)], solved[len(c) : len(c) + len(d)], lam


@pytest.fixture(scope="module")
def program():
    data = random_program()
    (Q, c), (E, d), (M, h) = data
    z = cp.Variable(len(c))
    constraints = [E @ z == d, M @ z <= h]
    cp.Problem(cp.Minimize(0.5 * cp.quad_form(z, cp.psd_wrap(Q)) + c @ z), constraints).solve(solver=cp.CLARABEL)
    active = constraints[1].dual_value > 1e-4
    solution = by_active_set(data, active)
    np.testing.assert_allclose(solution[0], z.value, atol=1e-6)
    np.testing.assert_allclose(solution[1], constraints[0].dual_value, atol=1e-5)
    np.testing.assert_allclose(solution[2], constraints[1].dual_value, atol=1e-5)
    assert 0 < active.sum() < active.size
    return data, active, solution


@pytest.mark.by_default("complementarity")
@pytest.mark.parametrize("form", FORMS)
def test_kkt_of_a_random_quadratic_program(program, form):
    """In all six parameters at once, against central differences of the solution that CVXPY's active set gives."""
    data, active, solution = program
    F = quadratic_program(form=form)
    x = jax.tree.map(jnp.asarray, solution)
    assert max(np.abs(part).max() for part in F(x, *data)) <= 1e-12
    structure = "symmetric" if form == "active" else None
    rng = np.random.default_rng(1)
    move = jax.tree.map(lambda a: rng.standard_normal(a.shape), data)
    got = derivative(F, x, data, move, structure=structure)
    near = lambda step: by_active_set(jax.tree.map(lambda a, b: a + step * b, data, move), active)
    want = jax.tree.map(lambda a, b: (a - b) / 2e-6, near(1e-6), near(-1e-6))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    # reverse mode
    weight = jax.tree.map(lambda a: rng.standard_normal(a.shape), solution)
    back = jax.jit(lambda x, args, w: dini.root_vjp(F, x, args, w, structure=structure))(x, data, weight)
    dot = lambda a, b: sum(np.vdot(u, v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
    np.testing.assert_allclose(dot(back, move), dot(weight, got), rtol=1e-9)
    if form == "active":
        jacobian = jax.jacobian(F)(x, *data)
        matrix = np.block([list(map(np.asarray, row)) for row in jacobian])
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-14)


def test_multipliers_are_recovered(program):
    data, _, (z, nu, lam) = program
    got = jax.jit(lambda z, *args: multipliers(quadratic_program(), z, *args))(z, *data)
    np.testing.assert_allclose(got[1], nu, atol=1e-10)
    np.testing.assert_allclose(got[2], lam, atol=1e-10)
    none = multipliers(KKT(lambda z: jnp.sum(z**2)), jnp.zeros(2))
    assert none[1] is none[2] is None


def test_linear_program_unit_check():
    """Maximize 2 x1 + x2 over x >= 0, x1 + x2 <= 1, x1 <= 0.6, by the KKT conditions and as a conic program."""
    c, M = -np.array([2.0, 1.0]), np.array([[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0], [1.0, 0.0]])
    h = np.array([0.0, 0.0, 1.0, 0.6])
    x, lam = jnp.array([0.6, 0.4]), jnp.array([0.0, 0.0, 1.0, 1.0])
    kkt = KKT(lambda z, h: c @ z, None, lambda z, h: M @ z - h)
    F = ConicResidual(sets.ConeProduct([sets.NonNegative()], [4]))
    z = F.point(x, lam, h - M @ x)
    for k, want in ((2, [0.0, 1.0]), (3, [1.0, -1.0])):
        np.testing.assert_allclose(derivative(kkt, (x, None, lam), (h,), (np.eye(4)[k],))[0], want, atol=1e-14)
        moved = derivative(F, z, (c, M, h), (np.zeros(2), np.zeros((4, 2)), np.eye(4)[k]))
        np.testing.assert_allclose(moved[0], want, atol=1e-14)


@pytest.mark.by_default("active")
@pytest.mark.parametrize("form", FORMS)
def test_projection_onto_the_simplex_as_a_program(form):
    """Unit checks 7 and 9: the quadratic program with Q = I over the simplex has the simplex's Jacobian."""
    y = jnp.array([0.9, 0.2, -0.4, 0.5, 0.35])
    F = quadratic_program(form=form)
    E, M = jnp.ones((1, 5)), -jnp.eye(5)

    @dini.custom_root(F)
    def solve(init, objective, equality, inequality):
        z = sets.project_simplex(-objective[1])
        return multipliers(F, z, objective, equality, inequality)

    project = lambda y, s: solve(None, (jnp.eye(5), -y), (E, s[None]), (M, jnp.zeros(5)))[0]
    np.testing.assert_allclose(project(y, jnp.array(1.0)), [0.65, 0, 0, 0.25, 0.1], atol=1e-15)
    support = np.array([1, 0, 0, 1, 1])
    want = np.diag(support) - np.outer(support, support) / 3
    for jacobian in (jax.jacfwd, jax.jacrev):
        in_y, in_s = jax.jit(jacobian(project, argnums=(0, 1)))(y, jnp.array(1.0))
        np.testing.assert_allclose(in_y, want, atol=1e-12)
        np.testing.assert_allclose(in_s, support / 3, atol=1e-12)


def test_kkt_of_a_nonlinear_program_through_solve():
    """Minimize a'x on the sphere of radius r, x = -r a/|a|: Newton on the conditions, another form for the rule."""
    objective, sphere = (lambda x, a, r: jnp.vdot(a, x)), (lambda x, a, r: 0.5 * (jnp.vdot(x, x) - r**2))
    kkt = KKT(objective, sphere)

    def solve(a, r, mode):
        start = (-jnp.array([0.5, 1.0, 0.5]), jnp.array(1.0), None)
        return dini.solve(dini.Root(kkt), dini.Newton(), start, a, r, differentiation=mode).x[0]

    a, r = jnp.array([1.0, 2.0, 2.0]), jnp.array(1.5)
    unit = a / 3
    for mode in (dini.Implicit(), dini.Implicit(condition=KKT(objective, sphere, form="active"))):
        np.testing.assert_allclose(solve(a, r, mode), -1.5 * unit, atol=1e-10)
        in_a, in_r = jax.jacrev(solve, argnums=(0, 1))(a, r, mode)
        np.testing.assert_allclose(in_a, -0.5 * (np.eye(3) - np.outer(unit, unit)), atol=1e-9)
        np.testing.assert_allclose(in_r, -unit, atol=1e-9)


def test_second_derivative_through_the_conditions():
    """The projection onto the ball has a curved Jacobian: the Hessian of |x| r / |x|."""
    kkt = KKT(lambda z, y, r: 0.5 * jnp.sum((z - y) ** 2), None, lambda z, y, r: 0.5 * (jnp.vdot(z, z) - r**2))

    @dini.custom_root(kkt)
    def nearest(init, y, r):
        size = jnp.linalg.norm(y)
        return r * y / size, None, size / r - 1

    y, weight = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.3, 1.0, -0.7])
    got = jax.jit(jax.hessian(lambda y: weight @ nearest(None, y, 1.2)[0]))(y)
    np.testing.assert_allclose(got, jax.hessian(lambda y: weight @ (1.2 * y / jnp.linalg.norm(y)))(y), atol=1e-10)


# ---------------------------------------------------------------- conic programs
SINGULAR = {"linear_solver": dini.linear.MinimumNorm()}


def conic(cones, sizes, x, y, s, pin=True):
    F = ConicResidual(sets.ConeProduct(cones, sizes), pin=pin)
    return F, F.point(jnp.asarray(x), jnp.asarray(y), jnp.asarray(s))


@pytest.mark.by_default("3.0-False")
@pytest.mark.parametrize("pin", [True, False])
@pytest.mark.parametrize("multiple", [1.0, 3.0])
def test_second_order_cone_unit_check(pin, multiple):
    """Minimize c'x over |x| <= r; also at another point of the ray of solutions."""
    c, r = np.array([1.0, 2.0, -2.0]), 1.0
    E, d = np.vstack([np.zeros(3), -np.eye(3)]), np.array([r, 0.0, 0.0, 0.0])
    x = -c / 3
    F, z = conic([sets.SecondOrder()], [4], x, np.r_[3.0, c], np.r_[r, x], pin)
    z = jax.tree.map(lambda part: multiple * part, z)
    assert max(np.abs(part).max() for part in F(z, c, E, d)) <= 1e-14
    for part, want in zip(F.solution(z), (x, np.r_[3.0, c], np.r_[r, x]), strict=True):
        np.testing.assert_allclose(part, want, atol=1e-14)
    settings = {} if pin else SINGULAR

    def moved(dc, dd):
        dz = derivative(F, z, (c, E, d), (dc, np.zeros_like(E), dd), **settings)
        return jax.jvp(F.solution, (z,), (dz,))[1][0]

    np.testing.assert_allclose(moved(np.array([0.3, -0.1, 0.2]), np.zeros(4)), [-1 / 9, 1 / 90, -2 / 45], atol=1e-13)
    np.testing.assert_allclose(moved(np.zeros(3), np.eye(4)[0]), x, atol=1e-13)
    # in reverse, by the transposed system
    weight = jnp.array([1.0, -1.0, 2.0])
    back = jax.vjp(F.solution, z)[1]((weight, jnp.zeros(4), jnp.zeros(4)))[0]
    cotangents = jax.jit(lambda z, w: dini.root_vjp(F, z, (c, E, d), w, **settings))(z, back)
    np.testing.assert_allclose(cotangents[0], -(weight - x * (x @ weight)) / 3, atol=1e-13)
    np.testing.assert_allclose(cotangents[2][0], weight @ x, atol=1e-13)


@pytest.mark.thorough
def test_the_homogeneous_map_is_singular_along_its_solution():
    F, z = conic([sets.SecondOrder()], [2], [-1.0], [1.0, 1.0], [1.0, -1.0], pin=False)
    args = jnp.array([1.0]), jnp.array([[0.0], [-1.0]]), jnp.array([1.0, 0.0])
    along = jax.jvp(lambda z: F(z, *args), (z,), (z,))[1]
    assert max(np.abs(part).max() for part in along) <= 1e-15
    with pytest.raises(Exception, match="singular to working precision"):
        dini.root_jvp(F, z, args, (jnp.ones(1), jnp.zeros((2, 1)), jnp.zeros(2)))


def test_semidefinite_program_unit_check():
    """Maximize <C, X> over the spectrahedron: X = vv', and its derivative is that of the eigenvector."""
    rng = np.random.default_rng(2)
    n = 4
    C, T = ((lambda a: a + a.T)(rng.standard_normal((n, n))) for _ in range(2))
    values, vectors = np.linalg.eigh(C)
    v, top = vectors[:, -1], values[-1]
    svec = lambda a: np.asarray(sets.svec(jnp.asarray(a)))
    m = n * (n + 1) // 2
    E, d = np.vstack([svec(np.eye(n)), -np.eye(m)]), np.r_[1.0, np.zeros(m)]
    x = svec(np.outer(v, v))
    dual = np.r_[top, svec(top * np.eye(n) - C)]
    F, z = conic([sets.Zero(), sets.PositiveSemidefinite()], [1, m], x, dual, np.r_[0.0, x])
    assert max(np.abs(part).max() for part in F(z, -svec(C), E, d)) <= 1e-13
    dv = sum(u * (u @ T @ v) / (top - value) for u, value in zip(vectors.T[:-1], values[:-1], strict=True))
    got = derivative(F, z, (-svec(C), E, d), (-svec(T), np.zeros_like(E), np.zeros_like(d)))[0]
    np.testing.assert_allclose(sets.smat(got), np.outer(dv, v) + np.outer(v, dv), atol=1e-12)


@pytest.mark.thorough
def test_exponential_and_power_cones_in_programs():
    """Minimize e^b, and maximize a^alpha b^(1 - alpha), the exponent a parameter of the cones."""
    b = 0.7
    E = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, -1.0]])
    c, d = np.array([0.0, 1.0]), np.array([b, 0.0, 1.0, 0.0])
    e = np.exp(b)
    F, z = conic([sets.Zero(), sets.Exponential()], [1, 3], [b, e], [-e, -e, (b - 1) * e, 1.0], [0.0, b, 1.0, e])
    assert max(np.abs(part).max() for part in F(z, c, E, d)) <= 1e-14
    got = derivative(F, z, (c, E, d), (np.zeros(2), np.zeros_like(E), np.eye(4)[0]))[0]
    np.testing.assert_allclose(got, [1.0, e], rtol=1e-12)
    # s = (a, b, x) in the power cone
    a, alpha = 2.0, 0.3
    x = a**alpha * b ** (1 - alpha)
    c, E, d = np.array([-1.0]), np.array([[0.0], [0.0], [-1.0]]), np.array([a, b, 0.0])
    dual = np.array([alpha * x / a, (1 - alpha) * x / b, -1.0])
    _, z = conic([sets.Power(alpha)], [3], [x], dual, [a, b, x])

    def power(z, alpha, d):
        return ConicResidual(sets.ConeProduct([sets.Power(alpha)], [3]))(z, c, E, d)

    assert max(np.abs(part).max() for part in power(z, alpha, d)) <= 1e-14
    in_alpha = derivative(power, z, (jnp.array(alpha), d), (jnp.array(1.0), np.zeros(3)))[0]
    np.testing.assert_allclose(in_alpha, [x * np.log(a / b)], rtol=1e-10)
    in_a = derivative(power, z, (jnp.array(alpha), d), (jnp.array(0.0), np.eye(3)[0]))[0]
    np.testing.assert_allclose(in_a, [alpha * x / a], rtol=1e-10)


def test_conic_program_solved_by_clarabel():
    """A random program over three kinds of cones, by a solver behind a callback; against finite differences."""
    rng = np.random.default_rng(6)
    n, sizes = 5, (2, 3, 4)
    cones = sets.ConeProduct([sets.Zero(), sets.NonNegative(), sets.SecondOrder()], sizes)
    F = ConicResidual(cones)
    E = rng.standard_normal((9, n))
    # a feasible primal and dual pair, strictly inside
    inner = np.r_[np.zeros(2), np.ones(3), 3.0, 1.0, 1.0, 1.0]
    d = E @ rng.standard_normal(n) + inner
    c = -E.T @ np.r_[rng.standard_normal(2), np.ones(3), 3.0, 1.0, 0.5, 0.1]

    def clarabel(c, E, d):
        x, s = cp.Variable(n), cp.Variable(9)
        link = E @ x + s == d
        cone = [s[:2] == 0, s[2:5] >= 0, cp.norm(s[6:]) <= s[5]]
        tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
        cp.Problem(cp.Minimize(c @ x), [link, *cone]).solve(solver=cp.CLARABEL, **tight)
        return F.point(x.value, link.dual_value, s.value)

    z = clarabel(c, E, d)
    assert max(np.abs(part).max() for part in F(z, c, E, d)) <= 1e-7
    moves = tuple(rng.standard_normal(a.shape) for a in (c, E, d))
    got = derivative(F, z, (c, E, d), moves)[0]
    ends = [clarabel(*(a + h * m for a, m in zip((c, E, d), moves, strict=True)))[0] for h in (1e-4, -1e-4)]
    np.testing.assert_allclose(got, (ends[0] - ends[1]) / 2e-4, atol=1e-4 * np.abs(got).max())


# ---------------------------------------------------------------- convex hulls and variational inequalities
@pytest.mark.thorough
def test_convex_hull_with_moving_vertices():
    """The nearest point of a triangle to y: on an edge it is a projection onto a line, in closed form."""
    corners = lambda t: jnp.array([[0.0, 0.0], [2.0, 1.0], [0.0, 2.0]]) + t * jnp.array([[0.1, 0], [0, 0.3], [0.2, 0]])
    objective = lambda x, y, t: 0.5 * jnp.sum((x - y) ** 2)
    y, t = jnp.array([1.5, 2.5]), jnp.array(0.2)

    def on_edge(y, t):
        _, a, b = corners(t)
        s = (y - b) @ (a - b) / ((a - b) @ (a - b))
        return jnp.array([0.0, s, 1 - s]), b + s * (a - b)

    for step_size in (None, 0.3):
        F = ConvexHull(objective, lambda y, t: corners(t), step_size)
        solve = dini.custom_root(F)(lambda init, y, t: on_edge(y, t)[0])
        point = lambda y, t, F=F, solve=solve: F.point(solve(None, y, t), y, t)
        assert np.abs(F(on_edge(y, t)[0], y, t)).max() <= 1e-15
        for jacobian in (jax.jacfwd, jax.jacrev):
            got = jax.jit(jacobian(point, argnums=(0, 1)))(y, t)
            want = jax.jacfwd(lambda y, t: on_edge(y, t)[1], argnums=(0, 1))(y, t)
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.thorough
def test_convex_hull_with_dependent_vertices():
    """In a square the weights are not unique, the point is: a minimum-norm solve gives its derivative."""
    square = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    F = ConvexHull(lambda x, y: 0.5 * jnp.sum((x - y) ** 2), square)
    bilinear = lambda y: jnp.array([(1 - y[0]) * (1 - y[1]), y[0] * (1 - y[1]), (1 - y[0]) * y[1], y[0] * y[1]])
    solve = dini.custom_root(F, linear_solver=dini.linear.MinimumNorm())(lambda init, y: bilinear(y))
    y = jnp.array([0.3, 0.6])
    for jacobian in (jax.jacfwd, jax.jacrev):
        got = jax.jit(jacobian(lambda y: F.point(solve(None, y), y)))(y)
        np.testing.assert_allclose(got, np.eye(2), atol=1e-10)


@pytest.mark.by_default("box")
@pytest.mark.parametrize("constraint", [sets.Box(-0.2, 0.3), sets.L2Ball(0.5)], ids=["box", "ball"])
def test_variational_inequality_that_is_no_minimization(constraint):
    """A monotone operator with an antisymmetric part, against finite differences; also in the set's parameters."""
    M = jnp.array([[2.0, 1.5, 0.0], [-1.5, 1.0, 0.5], [0.0, -0.5, 1.5]])
    operator = lambda x, q: M @ x + q
    q = jnp.array([1.0, -2.0, 0.2])

    @jax.jit
    def solution(q, constraint):
        step = lambda _, x: constraint.project(x - 0.2 * operator(x, q))
        return jax.lax.fori_loop(0, 2000, step, jnp.zeros(3))

    leaves, treedef = jax.tree.flatten(constraint)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    moves = [jnp.array([0.5, 1.0, -0.3]), *(jnp.array(0.3 + i) for i in range(len(leaves)))]
    near = lambda h: solution(
        q + h * moves[0],
        jax.tree.unflatten(treedef, [leaf + h * m for leaf, m in zip(leaves, moves[1:], strict=True)]),
    )
    want = (near(1e-6) - near(-1e-6)) / 2e-6
    x = solution(q, constraint)
    for step_size in (None, 0.05, 1.0):

        def F(x, q, *leaves, step_size=step_size):
            part = jax.tree.unflatten(treedef, list(leaves))
            return VariationalInequality(operator, part, step_size)(x, q)

        assert np.abs(F(x, q, *leaves)).max() <= 1e-14
        got = derivative(F, x, (q, *leaves), tuple(moves))
        np.testing.assert_allclose(got, want, atol=1e-8)


def test_variational_inequality_of_a_gradient_is_the_projected_gradient():
    """As a condition of a minimization, with the parameters of the set in the problem's own condition."""
    Q = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    problem = dini.Minimize(lambda x, y: 0.5 * x @ Q @ x - y @ x, constraint=sets.Simplex())
    other = VariationalInequality(lambda x, y: Q @ x - y, sets.Simplex())
    run = lambda y, mode: (
        dini.solve(problem, dini.ProjectedGradient(tol=1e-12), jnp.ones(2) / 2, y, differentiation=mode).x
    )
    y = jnp.array([0.4, 0.1])
    want = jax.jacrev(run)(y, dini.Implicit())
    np.testing.assert_allclose(jax.jacrev(run)(y, dini.Implicit(condition=other)), want, atol=1e-12)
    # on the line x1 + x2 = 1, along (1, -1): the curvature is 2 - 2 * 0.5 + 1
    np.testing.assert_allclose(want, np.array([[1, -1], [-1, 1]]) / 2, atol=1e-12)


def test_single_precision_and_batches():
    F = quadratic_program(equality=False, form="active")
    with jax.enable_x64(False):
        M, h = -jnp.eye(2), jnp.zeros(2)

        def project(y):
            z = jnp.maximum(y, 0)
            solve = dini.custom_root(F)(lambda init, *args: (z, None, z - y))
            return solve(None, (jnp.eye(2), -y), None, (M, h))[0]

        got = jax.jit(jax.vmap(jax.jacrev(project)))(jnp.array([[1.0, -1.0], [2.0, 3.0]]))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, [np.diag([1, 0]), np.eye(2)], atol=1e-6)


def test_bad_input():
    f, g = (lambda z: jnp.sum(z**2)), (lambda z: z - 1.0)
    with pytest.raises(ValueError, match="KKT's form"):
        KKT(f, form="other")
    with pytest.raises(TypeError, match="KKT's equality must be callable"):
        KKT(f, equality=3.0)
    with pytest.raises(TypeError, match="tuple \\(z, nu, lam\\)"):
        KKT(f)(jnp.ones(2))
    with pytest.raises(TypeError, match="nu of KKT must be None"):
        KKT(f, None, g)((jnp.ones(2), jnp.ones(2), jnp.ones(2)))
    with pytest.raises(TypeError, match="lam of KKT must be given"):
        KKT(f, None, g)((jnp.ones(2), None, None))
    with pytest.raises(TypeError, match="multipliers lam"):
        KKT(f, None, g)((jnp.ones(2), None, jnp.ones(3)))
    with pytest.raises(TypeError, match="multipliers nu"):
        KKT(f, g)((jnp.ones(2), jnp.ones(3), None))
    with pytest.raises(TypeError, match="ConeProduct"):
        ConicResidual([sets.Zero()])
    F, z = conic([sets.NonNegative()], [2], [1.0], [0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="shapes"):
        F(z, jnp.ones(1), jnp.ones((1, 2)), jnp.ones(2))
    with pytest.raises(TypeError, match="tuple \\(u, v, w\\)"):
        F(jnp.ones(4), jnp.ones(1), jnp.ones((2, 1)), jnp.ones(2))
    with pytest.raises(ValueError, match="step_size must be positive"):
        ConvexHull(f, jnp.eye(2), 0.0)
    with pytest.raises(ValueError, match="one weight for each vertex"):
        ConvexHull(f, jnp.eye(2)).point(jnp.ones(3))
    with pytest.raises(TypeError, match="must be one of"):
        VariationalInequality(g, lambda x: x)
    with pytest.raises(ValueError, match="step_size must be positive"):
        VariationalInequality(g, sets.NonNegative(), -1.0)
    with pytest.raises(TypeError, match="output of the operator"):
        VariationalInequality(lambda x: x[:1], sets.NonNegative())(jnp.ones(2))
    with pytest.raises(ValueError, match="Simplex needs"):
        VariationalInequality(lambda x: x, sets.Simplex())(jnp.ones((2, 2)))


@pytest.mark.thorough
def test_sparse_matrices_of_jax_have_their_own_products():
    from jax.experimental import sparse

    Q, c = np.diag([2.0, 1.0, 3.0]), np.array([1.0, -1.0, 0.5])
    E, d = np.array([[1.0, 1.0, 0.0]]), np.array([1.0])
    kkt = np.block([[Q, E.T], [E, np.zeros((1, 1))]])
    point = np.linalg.solve(kkt, np.concatenate([-c, d]))
    condition = quadratic_program(inequality=False)
    found = jnp.asarray(point[:3]), jnp.asarray(point[3:]), None
    solve = dini.custom_root(condition)(lambda init, *args: found)
    programs = [((Q, c), (E, d)), ((sparse.BCOO.fromdense(Q), c), (sparse.BCOO.fromdense(E), d))]
    dense, thin = (
        jax.jacobian(lambda c, P=P, rest=rest: solve(None, (P, c), rest)[0])(jnp.asarray(c))
        for (P, c), rest in programs
    )
    np.testing.assert_allclose(dense, -np.linalg.inv(kkt)[:3, :3], atol=1e-9)
    np.testing.assert_allclose(thin, dense, atol=1e-9)


@pytest.mark.slow
def test_mirror_descent_on_sets_with_an_entropy_projection():
    """Solutions inside of the bounds, beside projected gradients; derivatives by either method's fixed point."""
    rng = np.random.default_rng(0)
    cost, rows, columns = jnp.asarray(rng.random((3, 4))), np.full(3, 1 / 3), np.array([0.1, 0.2, 0.3, 0.4])
    target = jnp.array([0.2, 3.0, 0.5])
    cases = [
        (lambda X, C: jnp.sum(C * X) + 6 * jnp.sum(X**2), sets.TransportationPolytope(rows, columns), cost),
        (lambda x, t: jnp.sum((x - t) ** 2), sets.Box(0.1, 2.0), target),
    ]
    mirror, projected = dini.MirrorDescent(tol=1e-9), dini.ProjectedGradient(tol=1e-11)
    for objective, part, parameter in cases:
        problem = dini.Minimize(objective, constraint=part)
        start = part.project(jnp.full_like(parameter, 0.3))

        def solve(parameter, solver, condition=None, problem=problem, start=start):
            how = dini.Implicit(condition=condition)
            return dini.solve(problem, solver, start, parameter, differentiation=how).x

        want = solve(parameter, projected)
        assert jnp.all(want > 0)
        np.testing.assert_allclose(solve(parameter, mirror), want, atol=1e-8)
        slope = jax.jacobian(lambda p, s=solve: s(p, projected))(parameter)
        for condition in (None, dini.conditions.MirrorDescent()):
            got = jax.jacobian(lambda p, s=solve, c=condition: s(p, mirror, c))(parameter)
            np.testing.assert_allclose(got, slope, atol=1e-6)
    # a start outside comes in, NaN stays NaN
    step = dini.conditions.KL().step(jnp.array([-0.5, 1.0, jnp.nan]), jnp.zeros(3), 0.1, sets.Box(0.1, 2.0))
    np.testing.assert_array_equal(step, [0.1, 1.0, np.nan])
    with pytest.raises(TypeError, match=r"set that has an entropy projection.*given L2Ball"):
        dini.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), constraint=sets.L2Ball(), solver=dini.MirrorDescent())


@pytest.mark.thorough
@pytest.mark.parametrize("x", [0.3, 1e-7])
def test_divergence_of_points_close_together(x):
    """Against decimal arithmetic: the terms of an entropy divergence cancel."""
    getcontext().prec = 80
    relative = np.concatenate([[*10.0 ** np.arange(-12, 1)], [*-(10.0 ** np.arange(-12, 0))], [-0.99]])
    y = x * (1 + relative)
    want = [float(Decimal(x) * (Decimal(x) / Decimal(v)).ln() - Decimal(x) + Decimal(v)) for v in y.tolist()]
    got = jax.vmap(KL().divergence, (None, 0))(jnp.asarray(x), y)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert KL().divergence(jnp.asarray([1e-320, 0, 0.2]), jnp.asarray([0.1, 0.2, 0])) == pytest.approx(0.1)


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "constraint", [dini.sets.L2Ball(1e9), dini.sets.Halfspace(jnp.ones(4), 1e9)], ids=lambda c: c.name
)
def test_an_inactive_constraint_leaves_curvatures_far_below_the_largest(constraint):
    """In single precision, with curvatures from 1 to 1e6 or more: it was 1.5 % off at the median."""
    rng = np.random.default_rng(0)
    turns = np.linalg.qr(rng.standard_normal((50, 4, 4)))[0]
    units = 10.0 ** np.stack([np.zeros(50), np.full(50, 3.0), *rng.uniform(0, 3, (2, 50))], axis=1)
    Q = (turns * [1.0, 0.5, 0.3, 0.2]) @ turns.mT * units[:, :, None] * units[:, None, :]
    Q = jnp.asarray(0.5 * (Q + Q.mT), jnp.float32)
    c = jnp.asarray((np.asarray(Q, float) @ (rng.standard_normal((50, 4)) / units)[:, :, None])[:, :, 0], jnp.float32)
    truth = np.linalg.solve(np.asarray(Q, float), np.asarray(c, float)[:, :, None])[:, :, 0]
    problem = dini.Minimize(lambda x, Q, c, t: 0.5 * x @ (Q @ x) - t * (c @ x), constraint=constraint)

    def along(x, Q, c):
        exact = lambda problem, init, *args: init
        solve = lambda t: dini.solve(problem, exact, x, Q, c, t).x
        return jax.jvp(solve, (jnp.float32(1),), (jnp.float32(1),))[1]

    got = jax.jit(jax.vmap(along))(jnp.asarray(truth, jnp.float32), Q, c)
    errors = np.linalg.norm(got - truth, axis=1) / np.linalg.norm(truth, axis=1)
    assert np.max(errors) <= 1e-4


PENALTIES = {
    "ridge": dini.penalties.Ridge(1.0),
    "elastic net": dini.penalties.ElasticNet(0.5, 2.0),
    "scaled": dini.penalties.Scaled(dini.penalties.Ridge(0.5), 2.0),
    "barrier": dini.penalties.LogBarrier(1.0),
}


@pytest.mark.by_default("ridge-None", "barrier-linear_solver2")
@pytest.mark.parametrize("linear_solver", [None, dini.linear.Dense(), dini.linear.CG()])
@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_keeps_curvatures_far_below_the_largest(name, linear_solver):
    """In single precision, a curvature of 1 beside 1e6: the derivative of Ridge's solution was 5 % off.

    Minimize 1e6 x1^2 / 2 + g(x) - t (c @ x), at x = (1, 1), where the penalty's second derivative is one.
    """
    penalty = PENALTIES[name]
    with jax.enable_x64(False):
        x, one = jnp.ones(2), jnp.ones(())
        H = jnp.array([1e6, 0.0])
        c = H * x + jax.grad(penalty.value)(x)
        problem = dini.Minimize(lambda x, t: 0.5 * jnp.sum(H * x**2) - t * (c @ x), penalty=penalty)
        exact = lambda problem, init, *args: init
        # (a residual of the last digit of 1e6 is no solution to the solve's own test)
        how = {"differentiation": dini.Implicit(linear_solver=linear_solver), "on_failure": "ignore"}
        solve = lambda t: dini.solve(problem, exact, x, t, **how).x[1]
        np.testing.assert_allclose(jax.jit(jax.grad(solve))(one), c[1], rtol=1e-5)
        np.testing.assert_allclose(jax.jit(jax.jacfwd(solve))(one), c[1], rtol=1e-5)
