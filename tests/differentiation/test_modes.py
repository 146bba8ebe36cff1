"""The approximate modes against their formulas, and what the choosing one chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import linear

D = 6
M = np.random.default_rng(0).standard_normal((D, D))
M = 0.6 * M / np.linalg.norm(M, 2)
A0 = np.random.default_rng(1).standard_normal(D)


def affine(x, a):
    return M @ x + a**2


def fit(mode, fun=affine, solver=None):
    solver = solver or dini.FixedPointIteration(tol=1e-13, max_steps=1000)
    return lambda a: dini.solve(dini.FixedPoint(fun), solver, jnp.zeros(D), a, differentiation=mode).x


def partial_sum(terms, damping=1.0):
    """The series' matrix times the derivative in the parameter."""
    step = np.eye(D) - damping * (np.eye(D) - M)
    return damping * sum(np.linalg.matrix_power(step, i) for i in range(terms)) @ np.diag(2 * A0)


@pytest.mark.by_default("jacfwd-JFB", "jacrev-one step", "jacfwd-last 4", "jacrev-auto")
@pytest.mark.parametrize(
    ("mode", "want"),
    [
        (dini.JacobianFree(), partial_sum(1)),
        (dini.Neumann(terms=3), partial_sum(3)),
        (dini.Neumann(terms=5, damping=0.5), partial_sum(5, 0.5)),
        (dini.Unrolled(last=4), partial_sum(4)),
        (dini.OneStep(), partial_sum(1)),
        (dini.Neumann(terms=80), np.linalg.solve(np.eye(D) - M, np.diag(2 * A0))),
        (dini.Auto(), np.linalg.solve(np.eye(D) - M, np.diag(2 * A0))),
        (dini.Auto(dense_limit=0), np.linalg.solve(np.eye(D) - M, np.diag(2 * A0))),
    ],
    ids=["JFB", "3 terms", "phantom", "last 4", "one step", "80 terms", "auto", "auto, series"],
)
@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev])
def test_series(mode, want, derivative):
    np.testing.assert_allclose(derivative(fit(mode))(A0), want, rtol=1e-8, atol=1e-9)


@pytest.mark.thorough
def test_minima_are_fixed_points_of_descent():
    """Neumann's derivative of a minimum is that of steps of gradient descent with step size 1/L."""
    H = np.diag([1.0, 0.5, 0.1])
    problem = dini.Minimize(lambda x, a: 0.5 * x @ H @ x - a @ x)
    solve = lambda mode: lambda a: dini.solve(problem, dini.Newton(), jnp.zeros(3), a, differentiation=mode).x
    got = jax.jacrev(solve(dini.Neumann(terms=4)))(jnp.ones(3))
    want = sum(np.linalg.matrix_power(np.eye(3) - H, i) for i in range(4))
    np.testing.assert_allclose(got, want, rtol=1e-5)  # the curvature is found by power iteration
    lasso = dini.Minimize(lambda x, a: 0.5 * x @ H @ x - a @ x, penalty=dini.penalties.L1(0.1))
    exact = jax.jacrev(lambda a: dini.solve(lasso, dini.ProximalGradient(tol=1e-12), jnp.zeros(3), a).x)(jnp.ones(3))
    series = lambda a: (
        dini.solve(lasso, dini.ProximalGradient(tol=1e-12), jnp.zeros(3), a, differentiation=dini.Neumann(terms=300)).x
    )
    np.testing.assert_allclose(jax.jacrev(series)(jnp.ones(3)), exact, rtol=1e-8)


@pytest.mark.thorough
def test_auto_falls_back_where_the_map_does_not_contract():
    """A map that expands: its fixed point (found by Newton) has a derivative, which no series converges to."""
    wide = 2.5 * M / 0.6
    fun = lambda x, a: wide @ x + a
    problem = dini.FixedPoint(fun)
    auto = dini.Auto(dense_limit=0)
    x = np.linalg.solve(np.eye(D) - wide, A0)
    solve = lambda a: dini.solve(problem, dini.Newton(), jnp.zeros(D), a, differentiation=auto).x
    np.testing.assert_allclose(jax.jacrev(solve)(A0), np.linalg.inv(np.eye(D) - wide), rtol=1e-7)
    choice = auto.explain(problem, x, A0)
    assert choice.method == "GMRES"
    assert "too slowly" in choice.reason
    assert choice.contraction > 1
    assert choice.condition > 1


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_auto_says_why():
    contracting = dini.FixedPoint(lambda x, a: 0.25 * jnp.sin(jnp.roll(x, 1)) + a)
    x = dini.solve(contracting, dini.Anderson(), jnp.zeros(D), A0).x
    choice = dini.Auto(dense_limit=0).explain(contracting, x, A0)
    assert choice.method == "Neumann series"
    assert choice.contraction <= 0.25
    assert "terms reach the tolerance" in choice.reason
    choice = dini.Auto().explain(contracting, x, A0)
    assert choice.method == "Dense"
    assert choice.reason == "6 unknowns are not more than dense_limit=512"
    smooth = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2))
    assert dini.Auto(dense_limit=0).explain(smooth, A0, A0).method == "CG"
    assert dini.Auto(linear_solver=linear.GMRES()).explain(smooth, A0, A0).method == "GMRES"


def test_series_solver():
    """The first terms of the series, also where it does not converge: an approximation is asked for."""
    b = jnp.ones(D)
    got = linear.solve(lambda w: w - M @ w, b, solver=linear.Series(terms=2))
    np.testing.assert_allclose(got, b + M @ b)
    got = linear.solve(lambda w: w - 10 * M @ w, b, solver=linear.SeriesFirst())
    np.testing.assert_allclose(got, np.linalg.solve(np.eye(D) - 10 * M, b), rtol=1e-8)


def test_bad_input():
    root = dini.Root(lambda x, a: x**3 + x - a)
    with pytest.raises(ValueError, match=r"Neumann needs a fixed point .* Use Implicit\(\)"):
        dini.solve(root, dini.Newton(), 1.0, 2.0, differentiation=dini.Neumann())
    with pytest.raises(ValueError, match="Neumann's terms must be at least 1"):
        dini.Neumann(terms=0)
    with pytest.raises(ValueError, match="Neumann's damping must be positive"):
        dini.Neumann(damping=0.0)
    with pytest.raises(ValueError, match=r"steps .* or last, not both"):
        dini.Unrolled(steps=3, last=2)
    with pytest.raises(ValueError, match="Unrolled's last must be a positive integer"):
        dini.Unrolled(last=0)
    with pytest.raises(ValueError, match="needs a solver with a differentiable step"):
        dini.solve(dini.Minimize(lambda x: x**2), dini.LBFGS(), 1.0, differentiation=dini.Unrolled(last=2))


def test_one_step_composes():
    """The point moves in derivatives of higher order: of a simple root by Newton's method they are exact."""
    root = lambda a: dini.root(lambda x, a: x**3 - a, 1.0, a, differentiation=dini.OneStep()).x
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(root)))(8.0), -2 / 9 * 8.0 ** (-5 / 3), rtol=1e-9)


@pytest.mark.thorough
def test_one_step_composes_at_third_order_and_in_several_variables():
    root = lambda a: dini.root(lambda x, a: x**3 - a, 1.0, a, differentiation=dini.OneStep()).x
    np.testing.assert_allclose(jax.jacfwd(jax.jacrev(jax.grad(root)))(8.0), 10 / 27 * 8.0 ** (-8 / 3), rtol=1e-8)
    for solver in (dini.LevenbergMarquardt(), dini.DoglegLeastSquares()):
        root = lambda a, solver=solver: (
            dini.solve(dini.Root(lambda x, a: x**3 - a), solver, jnp.ones(()), a, differentiation=dini.OneStep()).x
        )
        np.testing.assert_allclose(jax.grad(jax.grad(root))(8.0), -2 / 9 * 8.0 ** (-5 / 3), rtol=1e-6)
    # theta enters the weights, so that the step's own matrix moves too
    fun = lambda x, a: jnp.sum((x - a) ** 4 + jnp.arange(1.0, 4.0) * (x - a) ** 2 + x**2 * a**2)
    solve = lambda mode: lambda a: dini.minimize(fun, jnp.zeros(3), a, solver=dini.Newton(), differentiation=mode).x
    want = jax.hessian(solve(dini.Implicit()))(1.3)
    np.testing.assert_allclose(jax.jit(jax.hessian(solve(dini.OneStep())))(1.3), want, rtol=1e-9)


GENTLE = lambda x, a: jnp.sinh(x - a) + 0.1 * jnp.sum(x)


@pytest.mark.by_default("Minimize-ArmijoSGD")
@pytest.mark.parametrize(
    ("problem", "solver"),
    [
        (dini.Minimize(lambda x, a: jnp.sum(jnp.cosh(x - a)) + 0.05 * jnp.sum(x) ** 2), solver)
        for solver in (dini.Newton(), dini.TrustRegionNewtonCG(), dini.ArmijoSGD())
    ]
    + [(dini.Root(GENTLE), solver) for solver in (dini.Newton(), dini.Broyden(), dini.NewtonKrylov())]
    + [
        (dini.LeastSquares(GENTLE), solver)
        for solver in (dini.LevenbergMarquardt(), dini.DoglegLeastSquares(), dini.GaussNewton())
    ],
    ids=lambda part: part.name.split("(")[0],
)
def test_so_many_steps_are_differentiated_wherever_they_start(problem, solver):
    """From a start that meets the test, and far beyond where nothing moves any more."""
    a = jnp.array([0.5, 1.0])
    exact = dini.root(GENTLE, a, a, solver=dini.Newton(tol=1e-13)).x
    want = np.linalg.inv(np.diag(np.cosh(exact - a)) + 0.1) @ np.diag(np.cosh(exact - a))
    # so near, Krylov's method has little room for products, and gradient descent is one
    atol = {"NewtonKrylov": 2e-2, "ArmijoSGD": 2e-5}.get(solver.name, 1e-7)
    for start, steps in ((exact + 1e-9, 12), (jnp.zeros(2), 60)):
        run = lambda a, start=start, steps=steps: (
            dini.solve(problem, solver, start, a, differentiation=dini.Unrolled(steps=steps)).x
        )
        np.testing.assert_allclose(jax.jacrev(run)(a), want, atol=atol)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "solver",
    [
        dini.LBFGS(), dini.BFGS(), dini.NonlinearCG("hestenes-stiefel"), dini.GradientDescent(),
        dini.ProximalGradient(acceleration=False),
    ],
    ids=lambda solver: solver.name,
)  # fmt: skip
def test_steps_from_an_earlier_solution(solver):
    """Its gradient is rounding: a first step that moves the point in spite of that is a billion times too long."""
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(30, 4)) * np.geomspace(1, 0.4, 4))
    a = jnp.asarray(np.random.default_rng(1).normal(size=30))
    problem = dini.Minimize(lambda x, a: 0.5 * jnp.sum((rows @ x - a) ** 2) + jnp.sum(jnp.logaddexp(0, rows @ x)))
    start = dini.solve(problem, dini.Newton(), jnp.zeros(4), a).x
    run = lambda a, **how: dini.solve(problem, solver, start, a, **how).x
    tangent = jnp.ones(30)
    along = lambda **how: jax.jvp(lambda a: run(a, **how), (a,), (tangent,))[1]
    # as gradient descent converges from there
    np.testing.assert_allclose(along(differentiation=dini.Unrolled(steps=40)), along(), rtol=1e-2)


@pytest.mark.parametrize("solver", [dini.BFGS(), dini.NonlinearCG()], ids=lambda solver: solver.name)
def test_a_fixed_number_of_steps_descends_where_rounding_is_large(solver):
    """A start 300 from a minimum at a million is not rounding: a search rejects steps that increase the objective."""
    objective = lambda x: (x[0] - 1e6) ** 2 + 50 * (x[1] - 1e6) ** 2
    start = jnp.asarray([1e6 + 300, 1e6 - 200], jnp.float32)
    x = dini.solve(dini.Minimize(objective), solver, start, differentiation=dini.Unrolled(steps=40)).x
    np.testing.assert_allclose(x, 1e6, atol=0.25)  # four units in the last place


@pytest.mark.thorough
@pytest.mark.parametrize("held", ["none", "some"])
@pytest.mark.parametrize("solver", [dini.LBFGSB(), dini.ProximalGradient()], ids=lambda solver: solver.name)
def test_steps_from_an_earlier_solution_that_bounds_hold(solver, held):
    """A step is as long as the curvature of what is free allows, however large the gradients at the bounds are."""
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(40, 8)))
    b = rows @ jnp.asarray(np.random.default_rng(1).normal(size=8))
    box = dini.sets.Box(-0.6, 0.6) if held == "some" else dini.sets.Box(-10.0, 10.0)
    problem = dini.Minimize(lambda x, a: jnp.sum((rows @ x - a * b) ** 2) / 80 + 0.05 * jnp.sum(x**4), constraint=box)
    exact = dini.solve(problem, dini.ProjectedNewton(tol=1e-13), jnp.zeros(8), 1.0).x
    free = np.abs(problem.gradient(exact, 1.0)) < 1e-8
    assert 2 <= free.sum() <= 6 if held == "some" else np.all(free)
    # the conditions of the solution, differentiated on what is free
    hessian = jax.hessian(lambda x: problem.value(x, 1.0))(exact)[free][:, free]
    want = np.zeros(8)
    want[free] = -np.linalg.solve(hessian, jax.jacfwd(lambda a: problem.gradient(exact, a))(1.0)[free])

    @jax.jit
    def along(start):
        run = lambda a: dini.solve(problem, solver, start, a, differentiation=dini.Unrolled(steps=40)).x
        return jax.jvp(run, (1.0,), (1.0,))[1]

    rough = dini.solve(problem, solver, jnp.zeros(8), 1.0).x
    for start in (exact, rough):
        np.testing.assert_allclose(along(start), want, rtol=1e-2, atol=1e-3)


@pytest.mark.by_default("Newton")
@pytest.mark.parametrize("solver", [dini.ProximalGradient(), dini.Newton(), dini.GradientDescent()], ids=type)
def test_steps_from_a_point_at_rest(solver):
    """The gradient is zero: no step tells how long it may be, and its derivative must not grow."""
    problem = dini.Minimize(lambda x, a: jnp.sum(jnp.array([2.0, 5.0]) * (x - a) ** 2))
    a = jnp.array([1.0, 2.0])
    run = lambda a: dini.solve(problem, solver, jnp.array([1.0, 2.0]), a, differentiation=dini.Unrolled(steps=60)).x
    np.testing.assert_allclose(jax.jacrev(run)(a), np.eye(2), atol=1e-6)
