"""No silent wrong answer: what once came back as a number, and is an error, a status or NaN now."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini import penalties, sets
from dini.certified import Verdict
from dini.testing import check_gradient

NAN = np.nan


def status(solution):
    return dini.Status(int(solution.status))


def by_name(solver):
    return solver.name


def quiet(problem, solver, init, *args, **settings):
    return dini.solve(problem, solver, init, *args, on_failure="ignore", **settings)


@pytest.mark.parametrize(
    "project",
    [
        sets.NonNegative().project,
        sets.Box(-1.0, 1.0).project,
        sets.LInfBall(1.0).project,
        sets.L2Ball(1.0).project,
        sets.L1Ball(1.0).project,
        sets.Simplex().project,
        sets.Halfspace(np.ones(3), 1.0).project,
        lambda x: penalties.L1(0.5).prox(x, 1.0),
        lambda x: penalties.L0(0.5).prox(x, 1.0),
        lambda x: penalties.MCP(0.5).prox(x, 1.0),
        lambda x: penalties.GroupLasso(0.5).prox(x, 1.0),
        lambda x: penalties.SortedL1(np.array([1.0, 0.5, 0.1])).prox(x, 1.0),
        lambda x: penalties.NonNegative(penalties.L1(0.5)).prox(x, 1.0),
    ],
)
def test_nan_passes_through_projections_and_proximal_operators(project):
    assert np.isnan(project(jnp.array([NAN, 1.0, 3.0]))).any()


@pytest.mark.thorough
def test_a_gradient_that_is_nan_at_a_bound_is_not_a_solution():
    problem = dini.Minimize(lambda x: jnp.sum((x - 1) ** 2) + 0.1 * jnp.linalg.norm(x), constraint=sets.Box(0.0, 5.0))
    for solver in (
        dini.ProjectedNewton(),
        dini.LBFGSB(),
        dini.ProjectedGradient(step_size=0.1),
        dini.ProximalGradient(),
        dini.ProximalNewton(),
    ):
        assert status(quiet(problem, solver, jnp.zeros(2))) == dini.Status.NONFINITE, solver.name


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "solver",
    [
        dini.OptaxSolver(optax.sgd(0.1)),
        dini.ArmijoSGD(),
        dini.PolyakSGD(),
        dini.FrankWolfe(),
        dini.ProximalGradient(step_size=0.1),
        dini.MirrorDescent(step_size=0.1),
        dini.ADMM(),
        dini.CondatVu(),
        dini.DouglasRachford(),
    ],
    ids=by_name,
)
@pytest.mark.parametrize("bad", [NAN, np.inf])
def test_an_objective_that_is_not_finite_has_no_minimum(solver, bad):
    """Its gradient does not show that."""
    fun, simplex = (lambda x, c: jnp.sum((x - 0.4) ** 2) + c), sets.Simplex()
    splits = dini.Composite in solver.solves
    problem = dini.Composite(fun, simplex) if splits else dini.Minimize(fun, constraint=simplex)
    start = problem.start(jnp.ones(3) / 3, 0.0) if splits else jnp.ones(3) / 3
    if splits or solver.gradient_only:
        assert status(quiet(problem, solver, start, 0.0)) == dini.Status.CONVERGED
    assert status(quiet(problem, solver, start, bad)) == dini.Status.NONFINITE


def test_an_objective_that_is_not_finite_has_no_minimum_in_a_batch():
    problem = dini.Minimize(lambda x, c: jnp.sum((x - 0.4) ** 2) + c)
    for solver in (dini.GradientDescent(step_size=0.1), dini.ProximalGradient(step_size=0.1)):
        solution = dini.batch_solve(problem, solver, jnp.ones((3, 2)), jnp.array([0.0, NAN, 1.0]), on_failure="ignore")
        assert [dini.Status(int(s)).name for s in solution.status] == ["CONVERGED", "NONFINITE", "CONVERGED"]


BAD_PARAMETERS = {
    "ball": (lambda p: dict(constraint=sets.L2Ball(p)), NAN),
    "negative ball": (lambda p: dict(constraint=sets.L2Ball(p)), -1.0),
    "1-ball": (lambda p: dict(constraint=sets.L1Ball(p)), -1.0),
    "simplex": (lambda p: dict(constraint=sets.Simplex(p)), -1.0),
    "half-space": (lambda p: dict(constraint=sets.Halfspace(jnp.ones(3), p)), NAN),
    "section": (lambda p: dict(constraint=sets.BoxSection(0.0, p, 1.0, 1.0)), NAN),
    "crossed bounds": (lambda p: dict(constraint=sets.Box(0.0, p)), -1.0),
    "lasso": (lambda p: dict(penalty=penalties.L1(p)), NAN),
    "negative lasso": (lambda p: dict(penalty=penalties.L1(p)), -1.0),
    "groups": (lambda p: dict(penalty=penalties.GroupLasso(p)), -1.0),
    "rising": (lambda p: dict(penalty=penalties.SortedL1(p)), np.array([1.0, 3.0, 3.0])),
}


@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_traced_parameters_out_of_their_domain_are_told(case):
    make, value = BAD_PARAMETERS[case]
    distance = lambda x: jnp.sum((x - jnp.array([2.0, 1.0, 3.0])) ** 2)
    solve = lambda p: dini.minimize(distance, jnp.ones(3) / 3, on_failure="ignore", **make(p))
    assert status(jax.jit(solve)(jnp.asarray(value))) == dini.Status.NONFINITE


@pytest.mark.thorough
def test_the_derivative_of_an_empty_projection_is_nan_like_its_value():
    empty = lambda b, y: sets.Polyhedron(jnp.array([[1.0, 0.0], [-1.0, 0.0]]), b).project(y).sum()
    section = lambda b, y: sets.BoxSection(0.0, 1.0, 1.0, b).project(y).sum()
    for fun, b in ((empty, -jnp.ones(2)), (section, jnp.asarray(-1.0))):
        assert np.isnan(jax.jit(jax.grad(fun, argnums=1))(b, jnp.zeros(2))).all()
    with pytest.raises(ValueError, match="empty"):
        sets.BoxSection(0.0, 1.0, 1.0, jnp.asarray(-1.0)).project(jnp.zeros(2))


def test_intersections_keep_their_digits_at_every_scale():
    for scale in (1e-12, 1.0, 1e6):
        cap = sets.Intersection([sets.L2Ball(scale), sets.Halfspace(jnp.array([1.0, 0.0]), 0.3 * scale)])
        got = cap.project(scale * jnp.array([10.0, 20.0])) / scale
        np.testing.assert_allclose(got, [0.3, np.sqrt(1 - 0.09)], rtol=1e-9)


@pytest.mark.thorough
def test_rows_at_a_small_angle_are_not_called_an_empty_set():
    t = 1e-9
    rows = jnp.array([[1.0, 0.0], [np.cos(t), np.sin(t)], [-np.cos(t), np.sin(t)]])
    with pytest.raises(dini.SolveError, match="small angle"):
        sets.Polyhedron(rows, jnp.array([0.0, -t, 0.0])).project(jnp.array([3.0, 1.5 * t]))


@pytest.mark.by_default(1)
@pytest.mark.parametrize("solver", [dini.LBFGS(), dini.Newton(), dini.GradientDescent(), dini.NelderMead()])
def test_the_state_of_another_problem_is_not_believed(solver):
    problem = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    done = dini.solve(problem, solver, jnp.zeros(2), 1.0, return_state=True)
    np.testing.assert_allclose(dini.solve(problem, solver, done.x, 5.0, state=done.state).x, 5, atol=1e-6)
    np.testing.assert_allclose(dini.solve(problem, solver, jnp.full(2, -3.0), 1.0, state=done.state).x, 1, atol=1e-6)


@pytest.mark.thorough
def test_the_state_of_another_set_is_not_believed():
    """The atoms of Frank-Wolfe are points of the set that it had."""
    a = jnp.array([0.2, 0.5, -1.0])
    problem = lambda radius: dini.Minimize(lambda x: 0.5 * jnp.sum((x - a) ** 2), constraint=sets.L2Ball(radius))
    early = quiet(problem(1.0), dini.FrankWolfe(max_steps=3), jnp.array([1.0, 0.0, 0.0]), return_state=True)
    solver = dini.FrankWolfe(tol=1e-9)
    smaller = dini.solve(problem(0.5), solver, early.x, state=early.state)
    np.testing.assert_allclose(smaller.x, sets.L2Ball(0.5).project(a), atol=1e-4)
    elsewhere = dini.solve(problem(1.0), solver, jnp.full(3, 5.0), state=early.state)
    np.testing.assert_allclose(elsewhere.x, sets.L2Ball(1.0).project(a), atol=1e-4)


def test_a_failed_solve_shows_in_its_auxiliary_output():
    problem = dini.Minimize(lambda x, a: (jnp.sum((x - a) ** 2) + jnp.sum(x**4), jnp.sum(x)), has_aux=True)
    run = lambda a, policy: (
        dini.solve(problem, dini.GradientDescent(max_steps=2), jnp.zeros(2), a, on_failure=policy).aux
    )
    with pytest.raises(Exception, match="MAX_STEPS"):
        jax.block_until_ready(jax.jit(lambda a: run(a, "raise"))(5.0))
    assert np.isnan(run(5.0, "nan"))
    assert np.isnan(jax.vmap(lambda a: run(a, "nan"))(jnp.array([5.0, 6.0]))).all()


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    ("target", "upper", "start"), [(0.04, 0.05, [0.0, 0.0]), (0.2, 0.5, [2.0, 2.0]), (-1.0, 0.5, [0.2, 0.3])]
)
def test_a_simplex_that_collapses_at_a_bound_goes_on(target, upper, start):
    problem = dini.Minimize(lambda x: jnp.sum((x - target) ** 2), constraint=sets.Box(0.0, upper))
    solution = dini.solve(problem, dini.NelderMead(), jnp.array(start))
    np.testing.assert_allclose(solution.x, max(target, 0), atol=1e-6)


@pytest.mark.thorough
def test_in_a_narrow_box_not_every_point_is_a_solution():
    for dtype, width in ((jnp.float64, 1e-9), (jnp.float32, 1e-4)):
        box, zero = sets.Box(jnp.zeros((), dtype), jnp.asarray(width, dtype)), jnp.zeros(1, dtype)
        middle = dini.Minimize(lambda x, w=width: jnp.sum((x / w - 0.5) ** 2), constraint=box)
        for solver in (dini.LBFGSB(), dini.ProjectedNewton()):
            np.testing.assert_allclose(quiet(middle, solver, zero).x / width, 0.5, rtol=1e-3)
        end = dini.LeastSquares(lambda x, w=width: x / w - 1, constraint=box)
        for solver in (dini.LevenbergMarquardt(), dini.DoglegLeastSquares()):
            np.testing.assert_allclose(quiet(end, solver, zero).x / width, 1, rtol=1e-3)


@pytest.mark.parametrize(
    "solver", [dini.Bisection(1.0, 1.0 + 1e-8), dini.Bisection(1.0, 1.0), dini.Bisection(0.0, 1.0, tol=0.5)]
)
def test_a_narrow_bracket_without_a_root_is_none(solver):
    root = dini.root(lambda x, a: x**2 - a, 1.0, 4.0, solver=solver, on_failure="ignore")
    assert status(root) == dini.Status.NO_BRACKET


def test_what_anderson_returns_has_the_residual_that_it_reports():
    rng = np.random.default_rng(0)
    run = jax.jit(
        lambda A, b: quiet(dini.FixedPoint(lambda x, A, b: A @ x + b + 0.1 * jnp.sin(x)), SOLVER, jnp.zeros(8), A, b)
    )
    for _ in range(20):
        A, b = rng.standard_normal((8, 8)), rng.standard_normal(8)
        A *= rng.uniform(0.3, 1.5) / np.abs(np.linalg.eigvals(A)).max()
        solution = run(A, b)
        if solution.success:
            x = np.asarray(solution.x)
            assert np.linalg.norm(A @ x + b + 0.1 * np.sin(x) - x) <= 2e-8 * np.linalg.norm(x)


SOLVER = dini.Anderson(type=1)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("function", [lambda c: c**2, jnp.cos])
def test_variable_projection_does_not_believe_even_functions(function):
    t = np.linspace(0, 3, 12)
    problem = dini.LeastSquares(lambda x, y: function(x["c"]) * jnp.exp(-t * x["a"]) - y)
    start = {"a": jnp.asarray(1.0), "c": jnp.asarray(1.0)}
    assert not quiet(problem, dini.VariableProjection(linear="c"), start, 4 * np.exp(-0.7 * t)).success


def test_a_symmetry_that_is_declared_and_does_not_hold():
    A = np.array([[2.0, 1.0], [0.0, 3.0]])
    solve = lambda a: dini.solve(dini.Root(lambda x, a: A @ x - a, symmetric=True), dini.Newton(), jnp.zeros(2), a).x
    with pytest.raises(Exception, match="declared symmetric"):
        jax.block_until_ready(jax.grad(lambda a: solve(a)[0])(jnp.ones(2)))


def test_a_symmetry_that_does_not_hold_in_a_block_of_small_elements():
    A = np.diag([1e9, 1e9, 2.0, 3.0])
    A[2, 3] = 1.0
    solve = lambda a: dini.solve(dini.Root(lambda x, a: A @ x - a, symmetric=True), dini.Newton(), jnp.zeros(4), a).x
    with pytest.raises(Exception, match="declared symmetric"):
        jax.block_until_ready(jax.grad(lambda a: solve(a)[2])(jnp.ones(4)))
    A[3, 2] = 1.0
    np.testing.assert_allclose(jax.jacrev(solve)(jnp.ones(4)), np.linalg.inv(A), rtol=1e-12)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("structure", ["symmetric", "positive definite"])
def test_the_structure_of_a_linear_system_is_tested(structure):
    solve = lambda A, b: dini.linear.solve(lambda w: A @ w, b, structure=structure)
    A = jnp.array([[2.0, 1e-3], [0.0, 3.0]])
    for run in (solve, lambda A, b: jax.grad(lambda b: solve(A, b)[0])(b)):
        with pytest.raises(Exception, match=f"declared {structure}|not solved"):
            jax.block_until_ready(run(A, jnp.ones(2)))
    S = 0.5 * (A + A.T)
    np.testing.assert_allclose(solve(S, jnp.ones(2)), np.linalg.solve(S, np.ones(2)), rtol=1e-12)


def test_a_solver_of_ones_own_must_satisfy_its_condition():
    early = dini.custom_root(lambda x, a: x**3 - a)(lambda init, a: 0.5 * a)
    with pytest.raises(Exception, match="does not satisfy the optimality condition"):
        jax.block_until_ready(jax.grad(early, argnums=1)(0.0, 8.0))
    shuffled = dini.custom_root(lambda x, b, a: x - a - 2 * b)(lambda init, a, b: a + 2 * b)
    with pytest.raises(TypeError, match="in the same order"):
        jax.grad(shuffled, argnums=1)(0.0, 1.0, 1.0)


@pytest.mark.by_default("0.5")
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_a_hessian_that_is_singular_or_indefinite_at_the_solution_only(shift):
    def objective(z, a):
        return 0.5 * (z[0] - a) ** 2 + 0.5 * ((z[0] - a) ** 2 - shift) * jnp.sum(z[1:] ** 2)

    start = jnp.zeros(100).at[0].set(1.0)
    run = lambda a: dini.solve(dini.Minimize(objective), dini.Newton(), start, a).x[0]
    # where the Hessian is indefinite the objective has no minimum: it falls without bound along z[1:] at z[0] = a
    with pytest.raises(Exception, match="DIVERGED|NO_MINIMUM" if shift else "singular"):
        jax.block_until_ready(jax.grad(run)(0.0))


def test_certificates_of_tiny_cotangents():
    problem = dini.Root(lambda x, a: jnp.arctan(1e3 * (x - 1)) - a)
    x, a = jnp.float32(1.001), jnp.float32(0.0)
    for size in (1.0, 1e-22):
        for product in (
            lambda t: dini.certified.vjp(problem, x, (a,), t, on_failure="ignore")[1],
            lambda t: dini.certified.jvp(problem, x, (a,), (t,), on_failure="ignore")[1],
        ):
            assert product(jnp.float32(size)).verdict == Verdict.UNCONVERGED
    with pytest.raises(TypeError, match="derivative must have"):
        dini.certified.vjp(
            dini.Root(lambda x, a: x - a), jnp.ones(3), (jnp.ones(3),), jnp.ones(3), derivative=(jnp.ones(()),)
        )


@pytest.mark.by_default(1)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_one_sided_derivatives_at_every_scale(dtype):
    one = jnp.ones(3, dtype)
    problem = dini.Minimize(lambda x, p, d: 0.5 * jnp.sum(d * (x - p) ** 2), constraint=sets.NonNegative())

    def along(condition, at, tangent):
        d = jnp.linspace(1, condition, 3, dtype=dtype)
        return dini.one_sided_jvp(problem, at, (at, d), (tangent, jnp.zeros_like(d)))

    for condition in (10, 1000):
        np.testing.assert_allclose(along(condition, 0 * one, one), 1, rtol=1e-4)
        np.testing.assert_allclose(along(condition, 0 * one, -one), 0, atol=1e-4)
    for size in (1e4, 1e8):
        np.testing.assert_allclose(along(2, size * one, one), 1, rtol=1e-4)
    for size in (1e-3, 1e-8):
        np.testing.assert_allclose(along(2, 0 * one, size * one), size, rtol=1e-4)


@pytest.mark.by_default("solver3")
@pytest.mark.parametrize("solver", [dini.NonlinearCG(), dini.LBFGS(), dini.BFGS(), dini.GradientDescent()])
def test_unrolled_steps_past_exact_convergence(solver):
    problem = dini.Minimize(lambda x, a: 0.5 * jnp.sum((x - a) ** 2))
    mode = dini.Unrolled(steps=24)
    run = lambda a: dini.solve(problem, solver, jnp.zeros(2), a, differentiation=mode, on_failure="ignore").x
    np.testing.assert_allclose(jax.jacrev(run)(jnp.array([1.0, 2.0])), np.eye(2), atol=1e-9)


@pytest.mark.thorough
def test_the_gradient_check_does_not_pass_over_failed_solves():
    report = check_gradient(dini.Root(lambda x, a: x**3 + x - a), dini.Newton(max_steps=0), 1.0, 9.9)
    assert not report.ok
    assert "failed" in str(report)


def test_bad_input_is_named():
    square = lambda x: jnp.sum(x**2)
    cases = {
        "dini.sets": lambda: dini.minimize(square, jnp.ones(2), constraint=penalties.L1(1.0)),
        "dini.penalties": lambda: dini.minimize(square, jnp.ones(2), penalty=sets.Box(0.0, 1.0)),
        "call it": lambda: dini.Minimize(square, constraint=sets.NonNegative),
        "supports bounds": lambda: quiet(
            dini.LeastSquares(lambda x: x - 1, constraint=sets.Intersection([sets.Box(0.0, 1.0)])),
            dini.LevenbergMarquardt(),
            jnp.ones(2),
        ),
    }
    for message, call in cases.items():
        with pytest.raises(TypeError, match=message):
            call()
    with pytest.raises(ValueError, match="time_limit"):
        dini.solve(dini.Minimize(square), dini.LBFGS(), jnp.ones(2), time_limit=1.0, differentiation=dini.Unrolled())


def test_a_function_counts_whatever_its_name():
    def _nothing(x, a):
        return 0.5 * jnp.sum((x - a) ** 2)

    problem = dini.Composite(_nothing, penalties.L1(0.5), jnp.array([[1.0, -1.0]]))
    a = jnp.array([0.0, 3.0])
    solution = dini.solve(problem, dini.CondatVu(), problem.start(a, a), a)
    np.testing.assert_allclose(solution.x.primal, [0.5, 2.5], atol=1e-7)


@pytest.mark.by_default(1)
@pytest.mark.parametrize(("dtype", "scale"), [(jnp.float32, 1e3), (jnp.float64, 1e9)])
def test_newton_ends_where_the_gradient_is_rounding(dtype, scale):
    """A tolerance that rounding does not let it reach is no reason for a hundred steps."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 8)), scale * rng.normal(size=400)
    want = np.linalg.solve(X.T @ X, X.T @ y)
    A, b = jnp.asarray(X, dtype), jnp.asarray(y, dtype)
    fit = lambda w: 0.5 * jnp.sum((A @ w - b) ** 2)
    solution = dini.minimize(fit, jnp.zeros(8, dtype), solver=dini.Newton(tol=1e-12), on_failure="ignore")
    assert status(solution) == dini.Status.CONVERGED
    assert solution.stats.steps <= 10
    np.testing.assert_allclose(solution.x, want, rtol=100 * float(jnp.finfo(dtype).eps), atol=1e-6 * np.abs(want).max())


@pytest.mark.by_default("float32-part3", "float64-part0")
@pytest.mark.parametrize(
    "part",
    [
        {"constraint": sets.NonNegative()},
        {"penalty": dini.penalties.L1(0.3)},
        {"penalty": dini.penalties.GroupLasso(0.3)},
        {"constraint": sets.Box(-1.0, 0.5)},
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_step_that_leaves_the_point_as_it_is_solves_nothing(dtype, part):
    """Where the objective is rounding, backtracking makes steps so short that they vanish; their error is not zero."""
    rng = np.random.default_rng(0)
    scales = np.array([1e3, 1e1, 1.0, 1e-2])
    bases = np.linalg.qr(rng.normal(size=(40, 4, 4)))[0]
    H = np.stack([q @ np.diag(rng.permutation(scales)) @ q.T for q in bases])
    b, starts = 3e3 * rng.normal(size=(40, 4)), 1e3 * rng.normal(size=(40, 4))
    problem = dini.Minimize(lambda x, H, b: 0.5 * x @ H @ x - b @ x, **part)
    given = [jnp.asarray(u, dtype) for u in (starts, H, b)]
    eps, size = float(jnp.finfo(dtype).eps), lambda v: np.linalg.norm(v, axis=1)

    @partial(jax.jit, static_argnums=0)
    def solve(solver, *given):
        return jax.vmap(lambda x, H, b: dini.solve(problem, solver, x, H, b, on_failure="ignore"))(*given)

    for accelerated in (True, False):
        solution = solve(dini.ProximalGradient(acceleration=accelerated, max_steps=3000, atol=eps**0.5), *given)
        x, matrices, slopes = (np.asarray(u, float) for u in (solution.x, *given[1:]))
        gradient = np.einsum("kij,kj->ki", matrices, x) - slopes
        # the error by a step of a length that suits the curvature
        whole = jax.vmap(lambda v: problem.prox(v, 1e-3))(jnp.asarray(x - 1e-3 * gradient))
        error = size(x - whole) / 1e-3
        rounding = 20 * eps * (size(np.einsum("kij,kj->ki", np.abs(matrices), np.abs(x))) + size(slopes))
        solved = np.asarray(solution.status) == 0
        # the others' gradients are rounding at their solutions, far from zero
        assert solved.all() or dtype == jnp.float32 or "Box" not in str(part)
        assert np.all(error[solved] <= 10 * eps**0.5 + rounding[solved])


DECAY = jnp.linspace(0.0, 2e4, 30)


def decay(rate):
    """Residuals of a rate constant in seconds: 1e-4."""
    return jnp.exp(-rate * DECAY.astype(rate.dtype)) - jnp.exp(-1e-4 * DECAY).astype(rate.dtype)


@pytest.mark.by_default("None-0.0003", "None-0.001", "solver2-0.0003", "solver2-0.001")
@pytest.mark.parametrize("start", [3e-4, 1e-3])
@pytest.mark.parametrize("solver", [None, dini.LBFGSB(), dini.ProximalNewton(), dini.CoordinateDescent()])
def test_an_unknown_in_small_units_is_not_solved_beside_its_bound(start, solver):
    """In single precision: the room down to zero is less than the tolerance, the gradient some thousand."""
    constraint, start = dini.sets.NonNegative(), jnp.float32(start)
    objective = lambda rate: jnp.sum(decay(rate) ** 2)
    solution = dini.minimize(objective, start, constraint=constraint, solver=solver, on_failure="ignore")
    assert solution.status != dini.Status.CONVERGED or abs(solution.x / 1e-4 - 1) < 1e-2
    if solver is None:
        # (the gradient at the solution is rounding of some 1e-3)
        x = dini.least_squares(decay, start, constraint=constraint, on_failure="ignore").x
        np.testing.assert_allclose([solution.x, x], 1e-4, rtol=1e-2)


@pytest.mark.parametrize(
    "solver", [dini.MirrorDescent(), dini.ArmijoSGD(), dini.PolyakSGD(), dini.ProximalGradient(), dini.FrankWolfe()]
)
def test_a_simplex_in_small_units(solver):
    objective = lambda x: jnp.sum((1e6 * x - jnp.array([1.0, 0.0])) ** 2)
    start, constraint = jnp.full(2, 5e-10), dini.sets.Simplex(1e-9)
    x = dini.minimize(objective, start, constraint=constraint, solver=solver).x
    np.testing.assert_allclose(x, [1e-9, 0.0], atol=1e-15)


@pytest.mark.by_default("BFGS", "GradientDescent")
@pytest.mark.parametrize(
    "solver",
    [dini.BFGS(), dini.LBFGS(), dini.LBFGSB(), dini.NonlinearCG(), dini.GradientDescent(), dini.Dogleg(hessian="bfgs")],
    ids=lambda solver: solver.name,
)
def test_an_ordinary_start_does_not_end_on_a_maximum(solver):
    """A first move of length one from a start of size one ends at zero, where even functions have no gradient."""
    for objective, want in ((lambda x: x**4 - x**2, 0.5**0.5), (lambda x: (x**2 - 0.25) ** 2, 0.5)):
        for start in (1.0, -1.0):
            x = dini.minimize(objective, start, solver=solver).x
            assert abs(abs(x) - want) < 1e-5
    radial = lambda x: jnp.sum(x**2) ** 2 - jnp.sum(x**2)
    x = dini.minimize(radial, jnp.full(16, 0.25), solver=solver).x
    assert abs(jnp.sum(x**2) - 0.5) < 1e-5


def test_a_condition_that_the_solution_does_not_satisfy():
    """In the differentiation, as in custom_root; and a nonconvex penalty's, at a point of another branch."""
    wrong = dini.Implicit(condition=lambda x, a: x - a)
    free = dini.Implicit(condition=lambda x, a: 2 * (x - a))
    square = lambda a: dini.root(lambda x, a: x**2 - a, 1.0, a, differentiation=wrong).x
    box = dini.sets.Box(0.0, 1.0)
    clipped = lambda a: dini.minimize(lambda x, a: (x - a) ** 2, 1.0, a, constraint=box, differentiation=free).x
    for fun in (square, clipped):
        with pytest.raises(Exception, match="does not satisfy the optimality condition"):
            jax.block_until_ready(jax.grad(fun)(4.0))
    y = jnp.array([2.0, 6.0])
    for penalty in (dini.penalties.L0(1.0), dini.penalties.MCP(1.0, 3.0)):
        fit = lambda y, p=penalty: (
            dini.minimize(lambda x, y: 0.05 * jnp.sum((x - y) ** 2), jnp.zeros(2), y, penalty=p).x
        )
        with pytest.raises(Exception, match="does not satisfy the optimality condition"):
            jax.block_until_ready(jax.vjp(fit, y)[1](jnp.ones(2)))


def test_a_far_start_does_not_vouch_for_what_a_function_returns():
    problem = dini.Root(lambda x, a: x**2 - a)
    guess = lambda problem, init, a: 50.0 + 0 * a
    assert dini.solve(problem, guess, 1e4, 4.0, on_failure="ignore").status == dini.Status.CONDITION
    steep = dini.Root(lambda x, a: jnp.exp(x) - a)
    wrong = lambda problem, init, a: 20.0 + 0 * a
    assert dini.solve(steep, wrong, 0.0, jnp.exp(19.9), on_failure="ignore").status == dini.Status.CONDITION
    assert dini.solve(problem, lambda problem, init, a: jnp.sqrt(a), 1e4, 4.0).status == dini.Status.CONVERGED


def test_the_error_names_the_threshold_that_a_function_missed():
    problem = dini.Root(lambda x, a: 1000 * (x - a))
    closed_form = lambda problem, init, a: a * (1 + 1e-2)
    # the residual at the start, 1000, times the fourth root of the unit roundoff
    says = r"CONDITION after 1 steps, optimality error 1.000e\+01, tolerance 1.2e-01\."
    with pytest.raises(dini.SolveError, match=says):
        dini.solve(problem, closed_form, 0.0, 1.0)
    with pytest.raises(Exception, match=says):
        jax.block_until_ready(jax.jit(lambda a: dini.solve(problem, closed_form, 0.0, a).x)(1.0))
    with pytest.warns(dini.SolveWarning, match=says):
        dini.solve(problem, closed_form, 0.0, 1.0, on_failure="warn")


@pytest.mark.parametrize("mode", [dini.Implicit(), dini.Unrolled()])
def test_what_meets_a_test_that_means_nothing_is_told_in_every_mode(mode):
    how = {"differentiation": mode, "on_failure": "ignore"}
    endless = dini.fixed_point(lambda x: 2.0 * x + 1.0, 1.0, solver=dini.FixedPointIteration(), **how)
    assert endless.status in (dini.Status.DIVERGED, dini.Status.NONFINITE)
    hidden = lambda x: (x - 1) ** 2 + jax.lax.stop_gradient(jnp.sqrt(x - 5))
    assert dini.minimize(hidden, 0.0, solver=dini.GradientDescent(step_size=0.1), **how).status == dini.Status.NONFINITE


def test_a_start_at_the_fixed_point_zero_is_a_solution():
    """Without a scale a residual of zero may be one that rounding ate, but zero has no rounding."""
    found = dini.fixed_point(lambda x: x / 2, jnp.zeros(3), solver=dini.FixedPointIteration(), on_failure="ignore")
    assert found.status == dini.Status.CONVERGED


@pytest.mark.by_default(1)
@pytest.mark.parametrize("solver", [dini.CoordinateDescent(), dini.ProximalNewton()])
def test_an_objective_that_falls_without_end_leaves_a_finite_point(solver):
    solution = dini.minimize(lambda x: -jnp.exp(jnp.sum(x)), jnp.zeros(2), solver=solver, on_failure="ignore")
    assert solution.status != dini.Status.CONVERGED
    assert jnp.all(jnp.isfinite(solution.x))


def test_the_point_that_met_the_test_is_the_one_returned():
    """A map that expands, and a step far too long, from a start within the tolerance."""
    tripled = dini.fixed_point(lambda x: 3 * x, 1e-9, solver=dini.FixedPointIteration(tol=1e-8))
    assert abs(tripled.x) <= 1e-9
    bowl = dini.Minimize(lambda x: jnp.sum(x**2))
    assert abs(dini.solve(bowl, dini.GradientDescent(step_size=1e3, atol=1e-8), jnp.array([1e-9])).x[0]) <= 1e-9
    # where the map contracts the next point is better, and returned
    halved = dini.fixed_point(lambda x: 0.1 * x, 1.0, solver=dini.FixedPointIteration(tol=1e-4))
    assert abs(halved.x) <= 0.2 * halved.stats.error


def test_mirror_descent_returns_a_point_of_the_set():
    flat = dini.Minimize(lambda x: 0 * jnp.sum(x), constraint=sets.Simplex())
    x = dini.solve(flat, dini.MirrorDescent(tol=1e-6), jnp.array([0.5, 0.5 + 1e-7])).x
    np.testing.assert_allclose(jnp.sum(x), 1, rtol=0, atol=1e-15)


@pytest.mark.thorough
@pytest.mark.parametrize("restarts", [0, 1])
def test_values_that_never_differ_are_no_minimum(restarts):
    """An offset that hides every difference; values that are the same by symmetry or on a plateau are another thing."""
    x0, solver = jnp.zeros(2, jnp.float32), dini.NelderMead(restarts=restarts)
    hidden = quiet(dini.Minimize(lambda x: 1e9 + jnp.sum((x - 3) ** 2)), solver, x0)
    assert hidden.status == dini.Status.STALLED
    even = quiet(dini.Minimize(lambda x: jnp.sum((x - 0.05) ** 2)), solver, x0)
    assert even.status == dini.Status.CONVERGED
    plateau = quiet(dini.Minimize(lambda x: jnp.sum(jnp.maximum(jnp.abs(x) - 5, 0))), solver, x0)
    assert plateau.status == dini.Status.CONVERGED
