"""Gauss-Newton methods: linear algebra, bounds, robust losses, separable problems, against SciPy and closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import dini
from dini import LevenbergMarquardt, Status
from dini.linear._small import COLUMNS, SMALL, positive_definite_solver, product

T = np.linspace(0.0, 4.0, 20)
RNG = np.random.default_rng(3)
Y = 2 * np.exp(-0.5 * T) + np.exp(-3 * T) + 0.05 * RNG.standard_normal(20)
Y[[4, 11]] += 2.0
START = np.array([1.0, 0.3, 1.0, 2.0])


def decay(x, y):
    return x[0] * jnp.exp(-x[1] * T) + x[2] * jnp.exp(-x[3] * T) - y


def rosenbrock(x, a=1.0):
    return jnp.stack([10 * (x[1] - x[0] ** 2), a - x[0]])


def brown_dennis(x):
    t = np.arange(1, 21) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + jnp.sin(t) * x[3] - np.cos(t)) ** 2


def scipy_solution(fun, start, **options):
    jac = jax.jit(jax.jacobian(fun))
    return scipy.optimize.least_squares(
        lambda x: np.asarray(fun(x)), start, lambda x: np.asarray(jac(x)), xtol=1e-14, ftol=1e-14, gtol=1e-12, **options
    )


SOLVERS = [
    LevenbergMarquardt(tol=1e-9),
    LevenbergMarquardt(tol=1e-9, strategy="trust region", linear_solver="qr"),
    LevenbergMarquardt(tol=1e-8, linear_solver="cg", geodesic=True, hessian="gauss-newton"),
    # with a loss that is not convex its steps converge linearly, and stall (which it says) at the rounding of the value
    dini.DoglegLeastSquares(tol=1e-7),
]
BOX = np.array([0.0, 0.0, 0.0, 0.0]), np.array([1.5, 2.0, 1.2, 2.5])


@pytest.mark.by_default("cg-geodesic")
@pytest.mark.parametrize("solver", SOLVERS, ids=["nielsen", "region-qr", "cg-geodesic", "dogleg"])
def test_bounds_and_robust_losses_as_scipy(solver):
    for loss, name in ((None, "linear"), (dini.losses.Cauchy(0.1), "cauchy")):
        want = scipy_solution(lambda x: decay(x, Y), START, loss=name, f_scale=0.1, bounds=BOX)
        problem = dini.LeastSquares(decay, loss=loss, constraint=dini.sets.Box(*BOX))
        solution = dini.solve(problem, solver, START, Y)
        np.testing.assert_allclose(solution.x, want.x, atol=2e-6)
        np.testing.assert_allclose(problem.value(solution.x, Y), want.cost, rtol=1e-9)


@pytest.mark.by_default("huber")
@pytest.mark.parametrize("name", ["huber", "soft_l1", "arctan"])
def test_losses_as_scipy(name):
    loss = {"huber": dini.losses.Huber, "soft_l1": dini.losses.SoftL1, "arctan": dini.losses.Arctan}[name](0.3)
    want = scipy_solution(lambda x: decay(x, Y), START, loss=name, f_scale=0.3)
    problem = dini.LeastSquares(decay, loss=loss)
    solution = dini.solve(problem, LevenbergMarquardt(tol=1e-9), START, Y)
    np.testing.assert_allclose(solution.x, want.x, atol=2e-6)
    np.testing.assert_allclose(problem.value(solution.x, Y), want.cost, rtol=1e-9)


@pytest.mark.thorough
def test_derivatives_with_bounds_and_in_the_scale_of_a_loss():
    def solution(y, scale, upper):
        problem = dini.LeastSquares(decay, loss=dini.losses.Cauchy(scale), constraint=dini.sets.Box(0.0, upper))
        return dini.solve(problem, LevenbergMarquardt(tol=1e-11), START, y).x

    upper, scale, h = jnp.asarray(BOX[1]), jnp.asarray(0.1), 1e-5
    jacobian = jax.jacobian(solution, argnums=(0, 1, 2))(jnp.asarray(Y), scale, upper)
    for i, direction in ((0, np.eye(20)[3]), (1, np.ones(())), (2, np.eye(4)[0])):
        at = [jnp.asarray(Y), scale, upper]
        ends = []
        for sign in (1, -1):
            moved = list(at)
            moved[i] = at[i] + sign * h * direction
            ends.append(solution(*moved))
        want = (ends[0] - ends[1]) / (2 * h)
        got = jacobian[i] @ direction if direction.ndim else jacobian[i]
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.thorough
def test_a_custom_loss_and_one_scale_a_residual():
    scale = jnp.asarray(np.where(np.arange(20) == 4, 0.01, 100.0))
    by_class = dini.LeastSquares(decay, loss=dini.losses.SoftL1(scale))
    by_function = dini.LeastSquares(decay, loss=lambda s: 2 * scale**2 * (jnp.sqrt(1 + s / scale**2) - 1))
    x = [dini.solve(problem, LevenbergMarquardt(tol=1e-8), START, Y).x for problem in (by_class, by_function)]
    np.testing.assert_allclose(x[0], x[1], rtol=1e-6)
    # the outlier that is left out counts no more, the other does
    without = dini.solve(dini.LeastSquares(lambda x, y: decay(x, y)[np.arange(20) != 4]), SOLVERS[0], START, Y).x
    np.testing.assert_allclose(by_class.value(x[0], Y), by_class.value(without, Y), rtol=1e-3)


def test_a_robust_loss_of_plain_numbers():
    for squared in (4, 4.0, jnp.array(4), jnp.array(4, jnp.bfloat16)):
        assert dini.losses.Huber(0.5)(squared) == 0.25 * (2 * 4 - 1)


@pytest.mark.thorough
def test_full_steps_are_those_of_the_textbook():
    """Against NumPy, whether the Jacobian is made with the residuals (few unknowns) or apart."""
    rng = np.random.default_rng(0)
    for d, algebra in ((3, "cholesky"), (3, "qr"), (12, "cholesky"), (12, "cg")):
        A, y = rng.standard_normal((20, d)), rng.standard_normal(20)
        residuals = lambda x, y, A=A: jnp.tanh(A @ x) - 0.1 * y
        x = np.zeros(d)
        for _ in range(3):
            J = (1 - np.tanh(A @ x) ** 2)[:, None] * A
            x = x - np.linalg.lstsq(J, np.tanh(A @ x) - 0.1 * y, rcond=None)[0]
        problem, solver = dini.LeastSquares(residuals), dini.GaussNewton(patience=None, linear_solver=algebra)
        four = dini.solve(problem, dataclasses.replace(solver, max_steps=4), jnp.zeros(d), y, on_failure="ignore")
        np.testing.assert_allclose(four.x, x, atol=1e-6 if algebra == "cg" else 1e-12)
        end = lambda y, solver, problem=problem, d=d: dini.solve(problem, solver, jnp.zeros(d), y).x
        want = jax.jacobian(lambda y, end=end: end(y, LevenbergMarquardt(tol=1e-11)))(jnp.asarray(y))
        got = jax.jacobian(lambda y, end=end, s=solver: end(y, dataclasses.replace(s, tol=1e-9)))(jnp.asarray(y))
        np.testing.assert_allclose(got, want, atol=1e-6)
    unrolled = dini.Unrolled(steps=12)
    last = lambda y: dini.solve(problem, solver, jnp.zeros(d), y, differentiation=unrolled, on_failure="ignore").x
    np.testing.assert_allclose(jax.jacobian(last)(jnp.asarray(y)), want, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_full_steps_that_run_away_are_told(dtype):
    """At infinity the gradient vanishes, slowly or by underflow, and is no solution's; a resumed run ends alike."""
    solver = dini.GaussNewton(patience=None, tol=1e-5)
    how = {"on_failure": "ignore", "return_state": True}
    for residual, near, beyond in (
        (jnp.arctan, [0.5, 1.0], [2.0, 20.0, 1e5]),
        (jnp.tanh, [0.5, 1.0], [2.0, 3.0, 8.0]),
        (lambda x: jnp.exp(-x) - 2, [-1.0, -0.5], [5.0, 30.0, 80.0]),
        (lambda x: 1 / (1 + jnp.exp(-x)) - 0.3, [-1.0, 0.0], [4.0, 6.0, 8.0]),
    ):
        problem, starts = dini.LeastSquares(residual), jnp.array([*near, *beyond], dtype)
        ends = jax.vmap(lambda x, problem=problem: dini.solve(problem, solver, x[None], **how))(starts)
        again = jax.vmap(lambda x, s, problem=problem: dini.solve(problem, solver, x, state=s, **how))
        for found in (ends, again(ends.x, ends.state)):
            assert jnp.all(jnp.isfinite(found.x))
            np.testing.assert_array_equal(found.success, jnp.abs(residual(found.x[:, 0])) < 1e-3)
        assert list(ends.success) == [True, True, False, False, False]


def test_full_steps_are_resumed_where_they_were():
    """Although the point of the least error, the start here, is what is returned."""
    first = dini.solve(
        dini.LeastSquares(rosenbrock), dini.GaussNewton(patience=None, max_steps=2), jnp.array([-1.2, 1.0]),
        on_failure="ignore", return_state=True,
    )  # fmt: skip
    rest = dini.solve(dini.LeastSquares(rosenbrock), dini.GaussNewton(patience=None), first.x, state=first.state)
    np.testing.assert_allclose(rest.x, 1)
    # the third step leaves 4e-13, more than rounding
    assert rest.stats.steps == 2
    # a gradient that is small where the units are is not yet a solution
    slight = dini.LeastSquares(lambda x: 1e-9 * (x - 10.0))
    np.testing.assert_allclose(dini.solve(slight, dini.GaussNewton(patience=None), jnp.zeros(1)).x, 10)


def test_a_watchdog_goes_over_the_ridge_and_comes_back():
    problem = dini.LeastSquares(rosenbrock)
    start = jnp.array([-1.2, 1.0])
    assert dini.solve(problem, dini.GaussNewton(), start).stats.steps == 4
    monotone = dini.solve(problem, dini.GaussNewton(patience=0), start)
    assert monotone.stats.steps > 10
    np.testing.assert_allclose(monotone.x, 1.0, atol=1e-8)
    # a step that diverges without control: the arctangent far from its root
    solution = dini.least_squares(lambda x: jnp.arctan(x), jnp.array([20.0]), solver=dini.GaussNewton())
    np.testing.assert_allclose(solution.x, 0.0, atol=1e-8)


def test_after_a_failure_the_next_step_is_half_as_long():
    # the damping is far too small for it to matter when it is doubled
    problem, solver = dini.LeastSquares(jnp.arctan), LevenbergMarquardt(damping=1e-12, hessian="gauss-newton")
    x = jnp.array([20.0])
    x, state = solver.step(problem, x, solver.init(problem, x))
    for _ in range(3):
        after, new = solver.step(problem, x, state)
        assert after == x
        assert 0 < new.move / state.move <= 0.5 + 1e-12
        state = new


@pytest.mark.thorough
def test_large_residuals_take_few_steps():
    start = jnp.array([25.0, 5.0, -5.0, -1.0])
    solution = dini.least_squares(brown_dennis, start, solver=LevenbergMarquardt())
    assert solution.stats.steps < 30
    np.testing.assert_allclose(2 * dini.LeastSquares(brown_dennis).value(solution.x), 85822.20162635628, rtol=1e-12)
    slow = dini.least_squares(
        brown_dennis, start, solver=LevenbergMarquardt(hessian="gauss-newton"), on_failure="ignore"
    )
    assert slow.stats.steps > 3 * solution.stats.steps


def separable(x, y):
    return jnp.exp(-T[:, None] * x["rates"][None, :]) @ x["weights"] - y


@pytest.mark.by_default("none")
@pytest.mark.parametrize("approximation", ["kaufman", "none"])
def test_variable_projection_is_the_joint_solution_with_its_derivative(approximation):
    y = jnp.asarray(2 * np.exp(-0.5 * T) + np.exp(-3 * T) + 0.05 * np.sin(5 * T))
    problem = dini.LeastSquares(separable)
    projected = dini.VariableProjection(linear="weights", approximation=approximation, tol=1e-10)
    rates = jnp.asarray(np.random.default_rng(0).uniform(0.2, 5, (12, 2)))
    steps = lambda solver, weights: jax.vmap(
        lambda first: dini.solve(problem, solver, {"rates": first, "weights": weights}, y).stats.steps
    )(rates)
    assert jnp.median(steps(projected, jnp.zeros(2))) < jnp.median(steps(LevenbergMarquardt(tol=1e-10), jnp.ones(2)))
    start = {"rates": jnp.array([0.5, 2.0]), "weights": jnp.zeros(2)}
    joint = {"rates": jnp.array([0.5, 2.0]), "weights": jnp.ones(2)}
    got = dini.solve(problem, projected, start, y)
    want = dini.solve(problem, LevenbergMarquardt(tol=1e-10), joint, y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7), got.x, want.x)
    if approximation == "kaufman":
        by = lambda solver, start: jax.jacobian(lambda y: dini.solve(problem, solver, start, y).x["rates"])(y)
        np.testing.assert_allclose(by(projected, start), by(LevenbergMarquardt(tol=1e-10), joint), atol=1e-6)


def test_variable_projection_does_not_believe_a_part_that_is_not_linear():
    problem = dini.LeastSquares(lambda x: jnp.stack([x[0] - 1, jnp.exp(x[1][0]) - 2, x[1][0] * x[0]]))
    solver = dini.VariableProjection(linear=1)
    solution = dini.solve(problem, solver, (jnp.zeros(()), jnp.zeros(1)), on_failure="ignore")
    assert not solution.success


def test_a_pole_of_the_slope_is_told_as_stalled():
    # the minimum lies at a pole of the slope: the objective stands still while the gradient does not vanish
    fun = lambda x: jnp.stack([1 + jnp.abs(x[0] - 1) ** 0.9, 0.3 * (x[0] - 1)])
    solution = dini.least_squares(fun, jnp.array([0.9]), solver=LevenbergMarquardt(tol=0.0), on_failure="ignore")
    assert solution.status == Status.STALLED
    assert solution.stats.steps < 200


@pytest.mark.by_default(without=["8-12"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (SMALL, COLUMNS), (2, COLUMNS + 1), (SMALL + 1, 2), (0, 3)])
def test_products_of_small_matrices(n, m):
    matrix, vector = RNG.standard_normal((5, n, m)), RNG.standard_normal((5, m))
    np.testing.assert_allclose(jax.vmap(product)(matrix, vector), np.einsum("bnm,bm->bn", matrix, vector), atol=1e-13)
    gram = jax.vmap(lambda a: product(a, a.T))(matrix)
    np.testing.assert_allclose(gram, np.einsum("bnm,bkm->bnk", matrix, matrix), atol=1e-13)


@pytest.mark.parametrize("n", [1, 3, SMALL, SMALL + 2])
def test_small_systems(n):
    matrix = RNG.standard_normal((5, n, n))
    matrix = matrix @ matrix.transpose(0, 2, 1) + 0.1 * np.eye(n)
    b = RNG.standard_normal((5, n))
    got = jax.vmap(lambda m, b: positive_definite_solver(m)(b))(jnp.asarray(matrix), jnp.asarray(b))
    np.testing.assert_allclose(got, np.linalg.solve(matrix, b[..., None])[..., 0], rtol=1e-8)


def test_levenbergs_damping_is_one_for_all_unknowns_and_steps():
    """The damped normal equations, with the largest squared column norm at the start."""
    solver = LevenbergMarquardt(damping=0.1, strategy="levenberg", hessian="gauss-newton", atol=1e-12)
    problem, x = dini.LeastSquares(rosenbrock), jnp.array([-1.2, 1.0])
    state = solver.init(problem, x)
    point, trials = np.array(x), 0
    mu, growth = None, 2.0
    for _ in range(9):
        x, state = solver.step(problem, x, state)
        r, J = np.asarray(rosenbrock(point)), np.array([[-20 * point[0], 10.0], [-1.0, 0.0]])
        if mu is None:  # the first step evaluates the start
            mu = 0.1 * max(np.diag(J.T @ J))
            continue
        h = np.linalg.solve(J.T @ J + mu * np.eye(2), -J.T @ r)
        at = np.asarray(rosenbrock(point + h))
        ratio = (r @ r - at @ at) / (h @ (mu * h - J.T @ r))
        accept = ratio > 0
        point, trials = (point + h, trials) if accept else (point, trials + 1)
        mu, growth = (mu * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0) if accept else (mu * growth, 2 * growth)
        np.testing.assert_allclose(x, point, rtol=1e-8)
    assert trials > 0  # one was rejected


BAD = [
    (lambda: LevenbergMarquardt(strategy="dogleg"), ValueError, "strategy must be one of 'nielsen', 'trust region'"),
    (lambda: LevenbergMarquardt(linear_solver="lu"), ValueError, "linear_solver must be one of 'auto', 'cholesky'"),
    (lambda: LevenbergMarquardt(damping=0.0), ValueError, "damping must be positive: given 0.0"),
    (lambda: dini.GaussNewton(patience=-1), ValueError, "patience must be at least 0"),
    (lambda: dini.losses.Huber(0.0), ValueError, "Huber's scale must be positive"),
    (lambda: dini.LeastSquares(decay, loss="huber"), TypeError, "loss must be one of dini.losses'"),
    (
        lambda: dini.solve(dini.LeastSquares(decay, loss=jnp.sum), LevenbergMarquardt(), START, Y),
        TypeError,
        "loss must be elementwise",
    ),
    (
        lambda: dini.solve(
            dini.LeastSquares(decay, loss=dini.losses.Huber(np.ones(3))), LevenbergMarquardt(), START, Y
        ),
        ValueError,
        r"given shape \(3,\), needed \(20,\)",
    ),
    (
        lambda: dini.solve(dini.LeastSquares(decay, constraint=dini.sets.Simplex()), LevenbergMarquardt(), START, Y),
        TypeError,
        "LevenbergMarquardt supports bounds, such as dini.sets.Box: given the constraint Simplex",
    ),
    (
        lambda: dini.solve(dini.LeastSquares(decay, constraint=dini.sets.Box(0.0)), dini.GaussNewton(), START, Y),
        TypeError,
        "GaussNewton cannot handle the constraint Box",
    ),
    (
        lambda: dini.solve(dini.LeastSquares(decay), dini.VariableProjection(linear="c"), START, Y),
        TypeError,
        "one of them linear='c'",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.thorough
def test_levenberg_marquardt_where_rounding_hides_the_decrease():
    rng = np.random.default_rng(0)
    A, w = rng.normal(size=(100, 30, 6)), rng.normal(size=(100, 6))
    y = np.einsum("kij,kj->ki", A, w) + 1e-3 * rng.normal(size=(100, 30))
    problem = dini.LeastSquares(lambda w, A, y: A @ w - y)
    one = lambda A, y: dini.solve(problem, dini.LevenbergMarquardt(tol=1e-12), jnp.zeros(6), A, y, on_failure="ignore")
    solution = jax.jit(jax.vmap(one))(A, y)
    np.testing.assert_array_equal(solution.status, dini.Status.CONVERGED)
    want = [np.linalg.lstsq(*pair)[0] for pair in zip(A, y, strict=True)]
    np.testing.assert_allclose(solution.x, want, atol=1e-11)


@pytest.mark.thorough
@pytest.mark.parametrize("approximation", ["kaufman", "none"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_variable_projection_with_columns_that_depend_on_each_other(approximation, dtype):
    t = jnp.linspace(0.0, 4.0, 25, dtype=dtype)
    y = 2 * jnp.exp(-0.5 * t) + 1 + 0.05 * jnp.sin(7 * t)

    def residuals(x, y):
        columns = jnp.stack([jnp.exp(-t * x["rate"]), jnp.ones_like(t), jnp.ones_like(t)], 1)
        return columns @ x["weights"] - y

    start = {"rate": jnp.asarray(0.4, dtype), "weights": jnp.zeros(3, dtype)}
    solver = dini.VariableProjection(linear="weights", approximation=approximation)
    x = dini.solve(dini.LeastSquares(residuals), solver, start, y).x
    model = lambda z, t: z[1] * np.exp(-np.asarray(t, float) * z[0]) + z[2]
    want = scipy.optimize.least_squares(lambda z: model(z, t) - np.asarray(y, float), [0.4, 1.0, 1.0], xtol=1e-15).x
    weights = [x["weights"][0], x["weights"][1] + x["weights"][2]]
    np.testing.assert_allclose([x["rate"], *weights], want, rtol=1e-3 if dtype == jnp.float32 else 1e-6)


@pytest.mark.parametrize("solver", [dini.LevenbergMarquardt(), dini.DoglegLeastSquares()], ids=lambda s: s.name)
@pytest.mark.parametrize("start", [3.0, 6.0])
def test_a_gradient_that_has_underflown_is_no_solution(solver, start):
    """A first step far out onto the plateau of a tanh, where the gradient is exactly zero and the residual is worse."""
    solution = dini.solve(
        dini.LeastSquares(lambda x: jnp.tanh(x) - 0.5), solver, jnp.asarray(start), on_failure="ignore"
    )
    assert abs(jnp.tanh(solution.x) - 0.5) <= 0.5
    if start == 3.0:
        np.testing.assert_allclose(solution.x, np.arctanh(0.5), rtol=1e-6)


def test_full_steps_do_not_come_to_rest_at_infinity():
    """Residuals that level off: what moves by its own size and changes nothing is no solution, wherever it stops."""
    level = lambda x, c: x / jnp.sqrt(1 + x * x) - c
    residuals = lambda x, c: jnp.stack([level(x[0], c), level(x[0] + x[1], 0.5 * c), x[1] - 1.0])
    problem, solver = dini.LeastSquares(residuals), dini.GaussNewton(patience=None)
    solve = jax.jit(jax.vmap(lambda x, c: dini.solve(problem, solver, x, c, on_failure="ignore"), (0, None)))
    assert solve(jnp.array([[10.0, 5.0]]), 2.0).status != dini.Status.CONVERGED
    # rounding errors make up the gradient there, and the step; what does end at a solution does so as ever
    starts = jnp.stack(jnp.meshgrid(jnp.arange(-12.0, 13.0), jnp.arange(-9.0, 10.0, 1.5)), -1).reshape(-1, 2)
    found = solve(starts, 1.0)
    assert found.success.sum() > 50
    np.testing.assert_allclose(found.x[found.success], [[1.674, 0.981]] * int(found.success.sum()), atol=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("algebra", ["qr", "cg"])
def test_no_algebra_comes_to_rest_at_infinity(algebra, dtype):
    """Conjugate gradients do not see that an unknown far away still moves."""
    level = lambda x, c: x / jnp.sqrt(1 + x * x) - c
    residuals = lambda x, c: jnp.stack([level(x[0], c), level(x[0] + x[1], 0.5 * c), x[1] - 1.0])
    problem, solver = dini.LeastSquares(residuals), dini.GaussNewton(patience=None, linear_solver=algebra)
    starts = jnp.stack(jnp.meshgrid(jnp.arange(-12.0, 13.0), jnp.arange(-9.0, 10.0, 1.5)), -1).reshape(-1, 2)
    found = jax.vmap(lambda x: dini.solve(problem, solver, x, 1.0, on_failure="ignore"))(starts.astype(dtype))
    assert found.success.sum() > 50
    assert jnp.abs(found.x[found.success]).max() < 2
