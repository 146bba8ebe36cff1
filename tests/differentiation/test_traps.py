"""The traps of the field: where well-known libraries return a wrong derivative without a word.

The numbers are those of the trap suite of the specification on trusted derivatives.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.testing import cases, check_gradient


def distance(x, y):
    return 0.5 * jnp.sum((x - y) ** 2)


SIMPLEX = dini.Minimize(distance, constraint=dini.sets.Simplex())
SIMPLEX_JACOBIAN = np.array([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
POINT = np.array([0.9, 0.5, -1.0])


def sort_projection(problem, init, y):
    """A user's own solver: the simplex projection by sorting, in one go."""
    u = jnp.sort(y)[::-1]
    total = jnp.cumsum(u)
    count = jnp.sum(u * jnp.arange(1, y.size + 1) > total - 1)
    return jnp.maximum(y - (total[count - 1] - 1) / count, 0)


@pytest.mark.by_default("ProjectedGradient")
@pytest.mark.parametrize(
    "solver",
    [
        dini.ProjectedGradient(tol=1e-10),
        dini.ProximalGradient(tol=1e-10),
        dini.MirrorDescent(tol=1e-3),
        sort_projection,
    ],
    ids=["ProjectedGradient", "ProximalGradient", "MirrorDescent", "function"],
)
def test_trap_1_constrained_condition(solver):
    """The derivative is that of the constrained solution, also for a solver that knows nothing of derivatives."""
    start = jnp.full(3, 1 / 3)
    solve = lambda y: dini.solve(SIMPLEX, solver, start, y).x
    for jacobian in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(jacobian(solve)(POINT), SIMPLEX_JACOBIAN, atol=1e-9)


def test_trap_1_lasso_by_a_foreign_solver():
    """A Lasso solved by a plain function is differentiated with the Lasso's condition: zero off the support."""
    problem = dini.Minimize(distance, penalty=dini.penalties.L1(1.0))
    ista = lambda problem, init, y: jnp.sign(y) * jnp.maximum(jnp.abs(y) - 1.0, 0)
    y = jnp.array([3.0, 0.2, -2.0])
    jacobian = jax.jacobian(lambda y: dini.solve(problem, ista, jnp.zeros(3), y).x)(y)
    np.testing.assert_allclose(jacobian, np.diag([1.0, 0.0, 1.0]), atol=1e-12)


@pytest.mark.parametrize(
    "solver", [dini.LBFGS(), dini.Newton(), dini.GradientDescent(), dini.BFGS()], ids=lambda s: s.name
)
def test_trap_1_a_solver_that_would_ignore_the_constraint_is_refused(solver):
    with pytest.raises(TypeError, match=f"{solver.name} cannot handle the constraint Simplex"):
        dini.solve(SIMPLEX, solver, jnp.full(3, 1 / 3), POINT)


def test_trap_2_a_point_that_violates_the_condition_is_no_success():
    """A solver that returns the unconstrained minimum of a constrained problem."""
    unconstrained = lambda problem, init, y: y
    with pytest.raises(dini.SolveError, match="does not satisfy the optimality condition"):
        dini.solve(SIMPLEX, unconstrained, jnp.full(3, 1 / 3), POINT)
    solution = dini.solve(SIMPLEX, unconstrained, jnp.full(3, 1 / 3), POINT, on_failure="ignore")
    assert solution.status == dini.Status.CONDITION


def test_trap_3_solvers_are_pure():
    """One solver object, two solves, then the gradient of the first."""
    solver = dini.ProjectedGradient(tol=1e-10)

    def first(y):
        kept = dini.solve(SIMPLEX, solver, jnp.full(3, 1 / 3), y).x
        dini.solve(SIMPLEX, solver, jnp.full(3, 1 / 3), -y)
        return kept[0]

    np.testing.assert_allclose(jax.grad(first)(POINT), [0.5, -0.5, 0.0], atol=1e-9)


def quartic(x, a):
    return jnp.sum((x - a) ** 4) + 0.5 * jnp.sum(jnp.array([1.0, 10.0]) * (x - a) ** 2)


STOPPED = [dini.GradientDescent(max_steps=2), dini.LBFGS(max_steps=2), dini.Newton(max_steps=2), dini.BFGS(max_steps=2)]


@pytest.mark.by_default("Implicit-GradientDescent", "Unrolled-GradientDescent")
@pytest.mark.parametrize("solver", STOPPED, ids=lambda s: s.name)
@pytest.mark.parametrize("mode", [dini.Implicit(), dini.Unrolled()], ids=["Implicit", "Unrolled"])
def test_trap_4_stopped_early(solver, mode):
    """Stopped after two steps: an error eagerly and under jit, in value and gradient; a marked lane under vmap."""
    problem = dini.Minimize(quartic)
    solve = lambda a: dini.solve(problem, solver, jnp.zeros(2), a, differentiation=mode).x
    a = jnp.array([1.0, 2.0])
    with pytest.raises(dini.SolveError, match="MAX_STEPS after 2 steps") as caught:
        solve(a)
    assert caught.value.status == dini.Status.MAX_STEPS
    with pytest.raises(dini.SolveError, match="MAX_STEPS"):
        jax.grad(lambda a: solve(a).sum())(a)
    with pytest.raises(Exception, match="MAX_STEPS"):
        jax.jit(jax.grad(lambda a: solve(a).sum()))(a).block_until_ready()
    lanes = jax.vmap(lambda a: dini.solve(problem, solver, jnp.zeros(2), a, differentiation=mode))(
        jnp.stack([a, 0 * a])
    )
    np.testing.assert_array_equal(lanes.status, [dini.Status.MAX_STEPS, dini.Status.CONVERGED])
    assert np.isfinite(lanes.x).all()


EVERY = {
    "GradientDescent": "ridge",
    "LBFGS": "ridge",
    "BFGS": "ridge",
    "Newton": "pair",
    "LevenbergMarquardt": "valley",
    "ProximalGradient": "lasso",
    "ProjectedGradient": "simplex",
    "MirrorDescent": "entropy",
    "BlockCoordinateDescent": "ridge",
    "FixedPointIteration": "linear map",
    "Anderson": "linear map",
}


@pytest.mark.by_default("BFGS", "FixedPointIteration", "BlockCoordinateDescent")
@pytest.mark.parametrize("name", EVERY)
def test_trap_4_for_every_solver(name):
    """After one step no solver claims success, and no derivative comes out of it."""
    (case,) = [case for case in cases() if case.name == EVERY[name]]
    init, theta = case.arrays(float)
    solver = getattr(dini, name)(max_steps=1)

    def total(theta):
        problem, args = case.make(theta)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(dini.solve(problem, solver, init, *args).x))

    with pytest.raises(Exception, match=f"not solved by {name}: MAX_STEPS after 1 step"):
        jax.block_until_ready(jax.jit(jax.grad(total))(theta))
    lanes = jax.vmap(jax.grad(total))(jax.tree.map(lambda leaf: leaf[None], theta))
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(lanes))


def test_trap_4_the_derivative_of_a_failed_lane_is_nan_and_of_its_neighbors_right():
    problem, solver = dini.Minimize(quartic), dini.LBFGS(max_steps=2)
    solve = lambda a: dini.solve(problem, solver, jnp.zeros(2), a).x.sum()
    for gradient in (jax.vmap(jax.grad(solve)), jax.jit(jax.vmap(jax.grad(solve)))):
        lanes = gradient(jnp.array([[1.0, 2.0], [0.0, 0.0]]))
        assert np.isnan(lanes[0]).all()
        np.testing.assert_allclose(lanes[1], [1.0, 1.0], rtol=1e-9)


def singular(w, theta):
    return 0.5 * (w[0] + w[1] - theta) ** 2


@pytest.mark.by_default("forward-GradientDescent", "reverse-GradientDescent")
@pytest.mark.parametrize("solver", [dini.LBFGS(), dini.GradientDescent(), dini.BFGS()], ids=lambda s: s.name)
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.grad], ids=["forward", "reverse"])
def test_trap_5_singular_hessian(solver, mode):
    """The solution exists, its derivative does not: an error that says so, or NaN in the lane."""
    first = lambda theta: dini.solve(dini.Minimize(singular), solver, jnp.zeros(2), theta).x[0]
    assert np.isfinite(first(1.0))
    with pytest.raises(Exception, match="singular to working precision"):
        jax.block_until_ready(jax.jvp(first, (1.0,), (1.0,)) if mode is jax.jacfwd else mode(first)(1.0))
    assert np.isnan(jax.vmap(jax.grad(first))(jnp.array([1.0, 2.0]))).all()
    warned = lambda t: dini.solve(dini.Minimize(singular), solver, jnp.zeros(2), t, on_failure="warn").x[0]
    with pytest.warns(dini.SolveWarning, match="singular"):
        jax.block_until_ready(jax.grad(warned)(1.0))


def test_trap_6_condition_number_1e7():
    """n = 200 with default settings: the normal equations would have condition number 1e14."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((200, 200)))
    hessian = jnp.asarray((q * np.logspace(-7, 0, 200)) @ q.T)
    cotangent, b = jnp.asarray(rng.standard_normal((2, 200)))
    problem = dini.Minimize(lambda x, b: 0.5 * x @ hessian @ x - b @ x)
    exact = lambda problem, init, b: jnp.linalg.solve(hessian, b)
    solve = lambda b: dini.solve(problem, exact, jnp.zeros(200), b).x
    (got,) = jax.vjp(solve, b)[1](cotangent)
    want = (q * np.logspace(7, 0, 200)) @ (q.T @ np.asarray(cotangent))
    assert np.linalg.norm(got - want) <= 1e-8 * np.linalg.norm(want)


def test_trap_7_closed_over_parameters():
    """Values that plain functions close over, also inside jit, scan and cond."""

    def root(theta):
        return dini.root(lambda x: x**3 + x - theta, 1.0, solver=dini.Newton(rtol=1e-12)).x

    def in_scan(theta):
        return jax.lax.scan(lambda c, _: (c + root(c * theta), None), 1.0, None, length=2)[0]

    def in_cond(theta):
        return jax.lax.cond(theta > 0, lambda: root(theta), lambda: 0.0 * theta)

    def in_constraint(radius):
        ball = dini.sets.Custom(lambda x: x * jnp.minimum(1.0, radius / jnp.sqrt(jnp.sum(x**2))))
        return dini.minimize(lambda x: distance(x, jnp.array([3.0, 4.0])), jnp.array([0.1, 0.1]), constraint=ball).x[0]

    def in_condition(theta):
        mode = dini.Implicit(condition=lambda x: x**3 + x - theta)
        return dini.solve(dini.Root(lambda x: x**3 + x - theta), dini.Newton(tol=1e-12), 1.0, differentiation=mode).x

    np.testing.assert_allclose(jax.grad(root)(10.0), 1 / 13, rtol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(root)))(10.0), -12 / 2197, rtol=1e-9)
    h = 1e-5
    for f in (in_scan, in_cond):
        value, slope = jax.jit(f), jax.jit(jax.grad(f))
        np.testing.assert_allclose(slope(2.0), (value(2.0 + h) - value(2.0 - h)) / (2 * h), rtol=1e-7)
    for transform in (lambda f: f, jax.jit):
        np.testing.assert_allclose(transform(jax.grad(in_constraint))(1.0), 0.6, rtol=1e-7)
        np.testing.assert_allclose(transform(jax.grad(in_condition))(10.0), 1 / 13, rtol=1e-9)


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_trap_8_every_mode_and_order():
    """jvp, jacfwd, hessian, jvp of vjp, third derivatives, through one rule."""
    root = lambda a: dini.root(lambda x, a: x**3 + x - a, 1.0, a, solver=dini.Newton(tol=1e-13)).x
    first, second = 1 / 13, -12 / 2197
    third = -6 / 13**4 + 108 * 4 / 13**5  # d/da of -6x/(3x^2+1)^3 at x = 2
    np.testing.assert_allclose(jax.jvp(root, (10.0,), (1.0,))[1], first, rtol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(root)(10.0), first, rtol=1e-12)
    np.testing.assert_allclose(jax.hessian(root)(10.0), second, rtol=1e-11)
    np.testing.assert_allclose(jax.jacrev(jax.jacfwd(root))(10.0), second, rtol=1e-11)
    np.testing.assert_allclose(jax.jvp(jax.grad(root), (10.0,), (1.0,))[1], second, rtol=1e-11)
    for order in (
        jax.grad(jax.grad(jax.grad(root))),
        jax.jacfwd(jax.jacfwd(jax.jacfwd(root))),
        jax.jacfwd(jax.grad(jax.jacfwd(root))),
    ):
        np.testing.assert_allclose(jax.jit(order)(10.0), third, rtol=1e-10)


@pytest.mark.by_default("GradientDescent")
@pytest.mark.parametrize(
    "solver", [dini.LBFGS(tol=1e-11), dini.Newton(tol=1e-11), dini.GradientDescent(tol=1e-11)], ids=lambda s: s.name
)
def test_trap_9_complex_unknown(solver):
    """min sum |w - a|^2: the solution is a, and its derivative is the identity (not the conjugate)."""
    a = jnp.array([1.0 + 2.0j, -0.5j])

    def squared(w, a):
        return jnp.sum(((w - a) * jnp.conj(w - a)).real)

    solve = lambda a: dini.minimize(squared, jnp.zeros(2, complex), a, solver=solver).x
    np.testing.assert_allclose(solve(a), a, atol=1e-9)
    tangent = jnp.array([0.3 - 1.0j, 2.0 + 0.5j])
    np.testing.assert_allclose(jax.jvp(solve, (a,), (tangent,))[1], tangent, atol=1e-9)
    np.testing.assert_allclose(jax.vjp(solve, a)[1](tangent)[0], tangent, atol=1e-9)


@pytest.mark.parametrize("part", [{"constraint": dini.sets.NonNegative()}, {"penalty": dini.penalties.L1(1.0)}])
def test_trap_9_a_complex_unknown_under_a_constraint_is_refused(part):
    with pytest.raises(TypeError, match="complex unknown and a constraint or penalty"):
        dini.minimize(lambda w: jnp.sum(w.real**2), jnp.zeros(2, complex), **part)


def test_trap_9_an_absolute_value_at_zero_is_not_silent():
    """JAX's second derivative of abs vanishes at zero: an objective written with it must raise, not return zero."""
    a = jnp.array([1.0 + 2.0j, -0.5j])
    problem = dini.Minimize(lambda w, a: jnp.sum(jnp.abs(w - a) ** 2))
    solve = lambda a: dini.solve(problem, dini.GradientDescent(step_size=0.5), a, a).x
    with pytest.raises(Exception, match="linear system of the derivative"):
        jax.block_until_ready(jax.jvp(solve, (a,), (a,)))


@pytest.mark.by_default("Implicit", "OneStep")
@pytest.mark.parametrize("mode", [dini.Implicit(), dini.Unrolled(), dini.OneStep()], ids=lambda m: type(m).__name__)
def test_trap_14_scalars(mode):
    """A scalar unknown has a gradient."""
    root = lambda a: dini.root(lambda x, a: x**2 - a, 1.0, a, differentiation=mode, solver=dini.Newton(tol=1e-12)).x
    assert root(4.0).shape == ()
    np.testing.assert_allclose(jax.grad(root)(4.0), 0.25, rtol=1e-9)


@pytest.mark.by_default("jit")
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_trap_14_arguments_of_every_kind(transform):
    """Integers, booleans, None, PRNG keys and empty containers among the arguments."""

    def residual(x, theta, others):
        noise = jax.random.normal(others["key"], x.shape) * others["flag"]
        return x * others["n"] - theta - 0.1 * noise

    key = jax.random.key(0)
    others = {"n": jnp.arange(2, 4), "flag": True, "none": None, "key": key, "empty": {}, "also": ()}
    root = lambda theta: dini.root(residual, jnp.zeros(2), theta, others).x
    theta = jnp.array([1.0, 2.0])
    want = (theta + 0.1 * jax.random.normal(key, (2,))) / jnp.arange(2, 4)
    np.testing.assert_allclose(transform(root)(theta), want, rtol=1e-9)
    np.testing.assert_allclose(transform(jax.jacrev(root))(theta), np.diag([1 / 2, 1 / 3]), rtol=1e-9)
    np.testing.assert_allclose(transform(jax.jacfwd(root))(theta), np.diag([1 / 2, 1 / 3]), rtol=1e-9)


@pytest.mark.parametrize("x", [{}, (), {"a": jnp.zeros(0)}, jnp.zeros((0, 3))], ids=["dict", "tuple", "leaf", "array"])
@pytest.mark.parametrize(
    "solver", [dini.LBFGS(), dini.Newton(), dini.GradientDescent(), dini.BFGS()], ids=lambda s: s.name
)
def test_trap_14_empty_unknowns(x, solver):
    def fun(x, a):
        return sum((jnp.sum((u - a) ** 2) for u in jax.tree.leaves(x)), a * 0)

    solution = dini.minimize(fun, x, 1.0, solver=solver)
    assert jax.tree.structure(solution.x) == jax.tree.structure(x)
    gradient = jax.grad(
        lambda a: sum((u.sum() for u in jax.tree.leaves(dini.minimize(fun, x, a, solver=solver).x)), 0.0 * a)
    )
    assert gradient(1.0) == 0


def test_trap_14_integer_argument_under_vmap_and_grad():
    """The gradient with respect to a float next to integer arguments, batched over the integers."""
    root = lambda a, n: dini.root(lambda x, a, n: x**n - a, 1.5, a, n).x
    got = jax.vmap(jax.grad(root), (None, 0))(4.0, jnp.array([2, 3]))
    np.testing.assert_allclose(got, [1 / (2 * 2.0), 1 / 3 * 4.0 ** (-2 / 3)], rtol=1e-7)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("structure", [None, "symmetric"])
def test_trap_16_a_user_linear_solver_gets_the_transposed_products(structure):
    """A solver given for the forward direction must be right in the transposed solve."""
    seen = []

    def dense(matvec, b):
        matrix = jax.vmap(matvec, out_axes=1)(jnp.eye(2))
        seen.append(matrix)
        return jnp.linalg.solve(matrix, b)

    matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]]) if structure else jnp.array([[2.0, 1.0], [0.0, 3.0]])
    problem = dini.Root(lambda x, a: matrix @ x - a, symmetric=structure is not None)
    mode = dini.Implicit(linear_solver=dense)
    solve = lambda a: dini.solve(problem, dini.Newton(), jnp.zeros(2), a, differentiation=mode).x
    want = jnp.linalg.inv(matrix)
    np.testing.assert_allclose(jax.jacfwd(solve)(jnp.ones(2)), want, rtol=1e-12)
    np.testing.assert_allclose(jax.jacrev(solve)(jnp.ones(2)), want, rtol=1e-12)
    assert seen


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_check_gradient_tells_a_wrong_condition():
    """The user's check finds a derivative through the wrong condition."""
    problem = dini.Root(lambda x, a: x**3 + x - a)
    assert check_gradient(problem, dini.Newton(), 1.0, 9.9).ok
    wrong = dini.Implicit(condition=lambda x, a: x**3 + x - 2 * a + 9.9)
    report = check_gradient(problem, dini.Newton(), 1.0, 9.9, differentiation=wrong)
    assert report.wrong == ("forward mode", "reverse mode")
    assert "<- disagrees" in str(report)
