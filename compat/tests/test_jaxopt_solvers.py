"""JAXopt's solvers against closed forms: solutions, derivatives, iterations by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
import dini_jaxopt as jaxopt
from dini.status import SolveWarning

X = np.array([[1.0, 0.2], [0.1, 2.0], [-0.3, 1.0]])
Y = np.array([2.0, 5.0, 1.0])
TIGHT = {"tol": 1e-10, "maxiter": 2000}


def ridge(w, strength, X, y):
    return 0.5 * jnp.sum((X @ w - y) ** 2) + 0.5 * strength * jnp.sum(w**2)


def ridge_solution(strength, X, y):
    return jnp.linalg.solve(X.T @ X + strength * jnp.eye(2), X.T @ y)


def rosenbrock(x, a):
    return (a - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


SMOOTH = {
    "GradientDescent": {},
    "GradientDescent-plain": {"acceleration": False},
    "GradientDescent-stepsize": {"stepsize": 0.15},
    "GradientDescent-schedule": {"stepsize": lambda i: 0.15 + 0 * i, "acceleration": False},
    "LBFGS": {},
    "LBFGS-backtracking": {"linesearch": "backtracking"},
    "LBFGS-hager": {"linesearch": "hager-zhang"},
    "LBFGS-stepsize": {"stepsize": 0.9},
    "BFGS": {},
    "BFGS-schedule": {"stepsize": lambda i: 0.9 + 0 * i},
    "NonlinearCG": {},
    "LBFGSB": {},
    "ArmijoSGD": {"implicit_diff": True},
    "PolyakSGD": {"implicit_diff": True, "max_stepsize": 0.15},
}


@pytest.mark.by_default("GradientDescent", "GradientDescent-schedule", "LBFGS", "LBFGS-stepsize", "LBFGSB")
@pytest.mark.parametrize("case", SMOOTH)
def test_ridge(case):
    name = case.partition("-")[0]
    solver = getattr(jaxopt, name)(ridge, **TIGHT, **SMOOTH[case])
    before = (None,) if name == "LBFGSB" else ()

    @jax.jit
    def solve(strength, X):
        run = lambda s, X: solver.run(jnp.zeros(2), *before, s, X=X, y=Y)
        return run(strength, X), jax.jacrev(lambda s, X: run(s, X).params, argnums=(0, 1))(strength, X)

    (params, state), slopes = solve(0.5, X)
    truth = ridge_solution(0.5, X, Y)
    np.testing.assert_allclose(params, truth, rtol=1e-8)
    for slope, exact in zip(slopes, jax.jacrev(ridge_solution, argnums=(0, 1))(0.5, X, Y), strict=True):
        np.testing.assert_allclose(slope, exact, rtol=1e-7, atol=1e-9)
    assert state.status == dini.Status.CONVERGED
    assert 0 < state.iter_num <= 2000
    assert state.error <= 1e-10
    assert np.shape(state.error) == ()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_other_units(scale):
    """A tolerance is JAXopt's, an absolute one: in other units it is another number."""
    fun = lambda w, y: 0.5 * jnp.sum((X @ w - y) ** 2)
    solver = jaxopt.LBFGS(fun, tol=1e-9 * scale)
    truth = jnp.linalg.lstsq(X, Y)[0]
    params, state = jax.jit(lambda y: solver.run(jnp.zeros(2), y))(scale * Y)
    np.testing.assert_allclose(params / scale, truth, rtol=1e-8)
    assert state.status == dini.Status.CONVERGED


def test_bounds():
    bounds = (jnp.full(2, -2.0), jnp.array([0.5, 2.0]))

    @jax.jit
    def both(upper):
        run = lambda upper: jaxopt.LBFGSB(rosenbrock, tol=1e-10).run(jnp.zeros(2), (bounds[0], upper), a=1.0).params
        return run(upper), jax.jacrev(run)(upper)

    params, slope = both(bounds[1])
    np.testing.assert_allclose(params, [0.5, 0.25], rtol=1e-8)
    # the second unknown is the square of the first, which is at its bound
    np.testing.assert_allclose(slope, [[1.0, 0.0], [1.0, 0.0]], atol=1e-7)


def test_lasso_and_its_strength():
    solver = jaxopt.ProximalGradient(lambda w, X, y: 0.5 * jnp.sum((X @ w - y) ** 2), jaxopt.prox.prox_lasso, **TIGHT)
    run = lambda strength: solver.run(jnp.zeros(2), hyperparams_prox=strength, X=X, y=Y).params
    params, slope = jax.jit(lambda s: (run(s), jax.jacrev(run)(s)))(2.5)
    some = np.flatnonzero(params)
    part = X[:, some]
    truth = jnp.linalg.solve(part.T @ part, part.T @ Y - 2.5 * np.sign(params[some]))
    np.testing.assert_allclose(params[some], truth, rtol=1e-8)
    np.testing.assert_allclose(slope[some], -jnp.linalg.solve(part.T @ part, np.sign(params[some])), rtol=1e-7)
    assert solver.l2_optimality_error(params, 2.5, X, Y) < 1e-8


def test_a_proximal_operator_and_a_projection_of_the_user():
    """A number and an array of hyperparameters, both differentiated."""
    distance = lambda x, y: 0.5 * jnp.sum((x - y) ** 2)
    soft = lambda x, strength, scale=1.0: jnp.sign(x) * jnp.maximum(jnp.abs(x) - scale * strength, 0)
    ball = lambda x, radius: x * jnp.minimum(1, radius / jnp.linalg.norm(x))
    y = jnp.array([3.0, -4.0])

    @jax.jit
    def both():
        prox = lambda s: jaxopt.ProximalGradient(distance, soft, tol=1e-9).run(jnp.zeros(2), s, y).params
        inside = lambda r: jaxopt.ProjectedGradient(distance, ball, tol=1e-9).run(jnp.ones(2), r, y).params
        return prox(1.0), jax.jacrev(prox)(1.0), inside(2.0), jax.jacrev(inside)(2.0)

    prox, slope, inside, grown = both()
    np.testing.assert_allclose(prox, [2.0, -3.0], rtol=1e-8)
    np.testing.assert_allclose(slope, [-1.0, 1.0], rtol=1e-8)
    np.testing.assert_allclose(inside, [1.2, -1.6], rtol=1e-8)
    np.testing.assert_allclose(grown, [0.6, -0.8], rtol=1e-7)


def test_block_coordinate_descent():
    solver = jaxopt.BlockCoordinateDescent(jaxopt.objective.least_squares, jaxopt.prox.prox_lasso, tol=1e-11)
    run = lambda strength: solver.run(jnp.zeros(2), strength, (X, Y))
    (params, state), slope = jax.jit(lambda s: (run(s), jax.jacrev(lambda s: run(s).params)(s)))(0.5)
    signs = jnp.sign(params)
    assert jnp.all(signs != 0)
    gram = X.T @ X / 3
    np.testing.assert_allclose(params, jnp.linalg.solve(gram, X.T @ Y / 3 - 0.5 * signs), rtol=1e-8)
    np.testing.assert_allclose(slope, -jnp.linalg.solve(gram, signs), rtol=1e-7)
    assert state.status == dini.Status.CONVERGED
    with pytest.raises(AttributeError, match="composite linear functions"):
        jaxopt.BlockCoordinateDescent(ridge, jaxopt.prox.prox_lasso)


def test_mirror_descent():
    step = jaxopt.MirrorDescent.make_projection_grad(lambda z, _: jax.nn.softmax(z), jnp.log)
    objective = lambda x, c: x @ c + jnp.sum(x**2)
    for implicit in (True, False):
        solver = jaxopt.MirrorDescent(objective, step, stepsize=0.5, tol=1e-10, implicit_diff=implicit, maxiter=200)
        run = lambda c, solver=solver: solver.run(jnp.ones(2) / 2, None, c).params
        params, slope = jax.jit(lambda c, run=run: (run(c), jax.jacrev(run)(c)))(jnp.array([0.0, 1.0]))
        np.testing.assert_allclose(params, [0.75, 0.25], rtol=1e-8)
        np.testing.assert_allclose(slope, [[-0.25, 0.25], [0.25, -0.25]], rtol=1e-6)


@pytest.mark.parametrize("name", ["GaussNewton", "LevenbergMarquardt"])
def test_least_squares(name):
    t = jnp.linspace(0.0, 1.0, 8)
    residuals = lambda p, y: p[0] * jnp.exp(-p[1] * t) - y
    exact = jnp.array([2.0, 1.5])
    solver = getattr(jaxopt, name)(residuals, tol=1e-11, maxiter=100)
    data = exact[0] * jnp.exp(-exact[1] * t)
    run = lambda y: solver.run(jnp.ones(2), y)
    (params, state), slope = jax.jit(lambda y: (run(y), jax.jacrev(lambda y: run(y).params)(y)))(data)
    np.testing.assert_allclose(params, exact, rtol=1e-9)
    jacobian = jax.jacfwd(residuals)(exact, data)
    # without residuals the Hessian is that of Gauss and Newton
    np.testing.assert_allclose(slope, jnp.linalg.solve(jacobian.T @ jacobian, jacobian.T), rtol=1e-6)
    np.testing.assert_allclose(state.value, 0, atol=1e-18)
    assert state.residual.shape == (8,)
    assert state.gradient.shape == (2,)
    params, state = jnp.ones(2), solver.init_state(jnp.ones(2), data)
    for _ in range(12):
        params, state = solver.update(params, state, data)
    np.testing.assert_allclose(params, exact, rtol=1e-6)
    np.testing.assert_allclose(state.residual, residuals(params, data))


def heron(x, a):
    return 0.5 * (x + a / x)


EQUATIONS = {
    "Bisection": lambda a: jaxopt.Bisection(lambda x, a: x**2 - a, 0.0, 4.0, 60, 1e-12).run(a=a),
    "Broyden": lambda a: jaxopt.Broyden(lambda x, a: x**2 - a, tol=1e-12).run(1.0, a),
    "FixedPointIteration": lambda a: jaxopt.FixedPointIteration(heron, tol=1e-12).run(1.0, a),
    "AndersonAcceleration": lambda a: jaxopt.AndersonAcceleration(heron, tol=1e-12).run(1.0, a),
    "ScipyRootFinding": lambda a: jaxopt.ScipyRootFinding("hybr", optimality_fun=lambda x, a: x**2 - a).run(1.0, a),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_equations(name):
    run = EQUATIONS[name]
    (x, state), slope = jax.jit(lambda a: (run(a), jax.grad(lambda a: run(a).params)(a)))(2.0)
    np.testing.assert_allclose(x, 2**0.5, rtol=1e-9)
    np.testing.assert_allclose(slope, 0.5 / 2**0.5, rtol=1e-8)
    assert state.status == dini.Status.CONVERGED


def test_a_bracket_without_a_root():
    solver = jaxopt.Bisection(lambda x: x**2 + 1, -1.0, 2.0)
    with pytest.raises(ValueError, match=r"no change of sign between lower=-1.0 and upper=2.0"):
        solver.run()
    with pytest.warns(SolveWarning, match="NO_BRACKET"):
        jaxopt.Bisection(lambda x: x**2 + 1, -1.0, 2.0, check_bracket=False).run()
    assert jax.jit(solver.run)().state.status == dini.Status.NO_BRACKET


def test_bisection_tests_the_value():
    """The tolerance is on the function, in JAXopt's sense, also where that is steep."""
    steep = lambda x: 1e6 * (x**3 - 2)
    params, _ = jaxopt.Bisection(steep, 0.0, 2.0, maxiter=80, tol=1e-3).run()
    assert abs(steep(params)) <= 1e-3
    solver = jaxopt.Bisection(lambda x: x - 1.0, 0.0, 2.0)
    params, state = solver.update(None, solver.init_state())
    assert params == 1.0
    assert state.low <= 1.0 <= state.high


def test_anderson_around_a_solver():
    plain = jaxopt.GradientDescent(ridge, stepsize=0.15, acceleration=False, **TIGHT)
    solver = jaxopt.AndersonWrapper(plain, history_size=3)
    run = lambda s: solver.run(jnp.zeros(2), s, X=X, y=Y)
    (params, state), slope = jax.jit(lambda s: (run(s), jax.jacrev(lambda s: run(s).params)(s)))(0.5)
    np.testing.assert_allclose(params, ridge_solution(0.5, X, Y), rtol=1e-8)
    np.testing.assert_allclose(slope, jax.jacrev(ridge_solution)(0.5, X, Y), rtol=1e-7)
    few = jax.jit(lambda s: plain.run(jnp.zeros(2), s, X=X, y=Y))(0.5).state.iter_num
    assert state.iter_num < few / 3


@pytest.mark.parametrize("search", ["BacktrackingLineSearch", "ZoomLineSearch", "HagerZhangLineSearch"])
def test_line_searches(search):
    fun = lambda x: (jnp.sum(jnp.cosh(3 * x)), jnp.sum(x))
    params = jnp.array([1.0, -0.5])
    gradient = jax.grad(lambda x: fun(x)[0])(params)
    solver = getattr(jaxopt, search)(fun, has_aux=True)
    stepsize, state = jax.jit(lambda: solver.run(1.0, params))()
    assert state.done
    assert not state.failed
    np.testing.assert_allclose(state.params, params - stepsize * gradient)
    np.testing.assert_allclose(state.aux, jnp.sum(state.params))
    assert state.value <= fun(params)[0] - 1e-4 * stepsize * jnp.sum(gradient**2)
    slope = -jax.grad(lambda x: fun(x)[0])(state.params) @ gradient
    assert slope >= -0.9 * jnp.sum(gradient**2)
    failed = getattr(jaxopt, search)(lambda x: jnp.sum(x), maxiter=3).run(1.0, params, descent_direction=gradient)
    assert failed.state.failed  # the direction does not descend


def test_scipy():
    solver = jaxopt.ScipyMinimize(fun=rosenbrock, method="BFGS", tol=1e-10)
    run = lambda a: solver.run(jnp.zeros(2), a)
    (params, state), slope = jax.jit(lambda a: (run(a), jax.jacrev(lambda a: run(a).params)(a)))(1.0)
    np.testing.assert_allclose(params, [1.0, 1.0], rtol=1e-7)
    np.testing.assert_allclose(slope, [1.0, 2.0], rtol=1e-6)
    assert state.success
    assert state.fun_val < 1e-12
    assert state.iter_num > 5
    bounded = jaxopt.ScipyBoundedMinimize(fun=rosenbrock, method="L-BFGS-B")
    upper = jnp.array([0.5, 2.0])
    params = jax.jit(lambda a: bounded.run(jnp.zeros(2), (jnp.full(2, -2.0), upper), a).params)(1.0)
    np.testing.assert_allclose(params, [0.5, 0.25], rtol=1e-6)
    assert bounded.l2_optimality_error(params, (jnp.full(2, -2.0), upper), 1.0) < 1e-4
    with pytest.raises(ValueError, match="maxiter"):
        jaxopt.ScipyMinimize(fun=rosenbrock, options={"maxiter": 3})


@pytest.mark.parametrize("loss", ["linear", "huber"])
def test_scipy_least_squares(loss):
    line = lambda p, t, y: p[0] + p[1] * t - y
    t = jnp.linspace(0.0, 1.0, 9)
    y = (1 + 2 * t).at[4].add(5.0)
    solver = jaxopt.ScipyLeastSquares(fun=line, loss=loss, options={"f_scale": 0.1})
    params, state = jax.jit(lambda y: solver.run(jnp.zeros(2), t, y))(y)
    residual = np.asarray(line(params, t, y))
    weight = residual if loss == "linear" else np.clip(residual, -0.1, 0.1)
    np.testing.assert_allclose([weight.sum(), weight @ np.asarray(t)], 0, atol=1e-7)
    np.testing.assert_allclose(state.fun_val, residual)
    bounded = jaxopt.ScipyBoundedLeastSquares(fun=line)
    params = jax.jit(lambda y: bounded.run(jnp.full(2, 0.5), (jnp.zeros(2), jnp.ones(2)), t, y).params)(1 + 2 * t)
    np.testing.assert_allclose(params, [1.0, 1.0], rtol=1e-6)
