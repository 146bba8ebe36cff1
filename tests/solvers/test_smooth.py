"""Smooth minimization: line searches, bounds, trust regions, simplices; robust loops, resumed and limited solves."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import dini
from dini import Status
from dini.linear._dense import symmetric_scales
from dini.solvers import Backtracking, HagerZhang, StrongWolfe, WeakWolfe

SEARCHES = [Backtracking(), WeakWolfe(), StrongWolfe(), StrongWolfe(curvature=0.1), HagerZhang()]


def valley(x):
    return jnp.sum((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2)


def wood(x):
    parts = 10 * (x[1] - x[0] ** 2), 1 - x[0], 90**0.5 * (x[3] - x[2] ** 2), 1 - x[2]
    both = 10**0.5 * (x[1] + x[3] - 2), 10**-0.5 * (x[1] - x[3])
    return jnp.sum(jnp.stack(parts + both) ** 2)


VALLEY = dini.Minimize(valley)
START = np.array([-1.2, 1.0, -1.2, 1.0])


def quietly(problem, solver, x0, *args):
    return dini.solve(problem, solver, jnp.asarray(x0), *args, on_failure="ignore")


THROUGH = [
    dini.Newton(dini.linear.Sparse(), max_steps=300),
    dini.Newton(dini.linear.Dense(), max_steps=300),
    dini.ProjectedNewton(dini.linear.MINRES(), max_steps=300),
]


@pytest.mark.by_default("Newton-Dense")
@pytest.mark.parametrize("solver", THROUGH, ids=lambda s: f"{s.name}-{type(s.linear_solver).__name__}")
def test_newton_with_a_linear_solver_passes_indefinite_hessians(solver):
    """The Hessians of these two are indefinite on the way; steepest descent there takes thousands of steps."""
    for function, start in ((valley, np.tile([-1.2, 1.0], 10)), (wood, [-3.0, -1.0, -3.0, -1.0])):
        solution = quietly(dini.Minimize(function), solver, start)
        assert solution.success
        np.testing.assert_allclose(function(solution.x), 0, atol=1e-12)


# -------------------------------------------------------------------------------------------------- line searches


def run_search(search, fun, trial):
    """Search along a line of one variable from zero; return the accepted step and the number of trials."""
    both = jax.value_and_grad(fun)
    value, slope = both(0.0)
    bracket = search.begin(trial, value, slope)
    for trials in range(1, 41):
        t = bracket.trial
        accept, bracket = search.judge(bracket, value, *both(t), 1e-15 * abs(value))
        if accept:
            return float(t), trials
    raise AssertionError(f"{search} found no step")


LINES = {
    "parabola": lambda t: (t - 1.0) ** 2,
    "far": lambda t: 1e-3 * (t - 200.0) ** 2,
    "near": lambda t: (t - 1e-3) ** 2,
    "wavy": lambda t: -jnp.sin(3 * t) - 0.3 * t + 0.05 * t**2,
    "logarithm": lambda t: -jnp.log(1 - t) - 3 * t,
    "kinked": lambda t: jnp.abs(t - 0.7) + 0.1 * t**2,
}


@pytest.mark.by_default("each")
@pytest.mark.parametrize("search", SEARCHES, ids=repr)
@pytest.mark.parametrize("line", LINES)
def test_accepted_steps_satisfy_their_conditions(search, line):
    if line == "kinked" and isinstance(search, StrongWolfe | HagerZhang):
        pytest.skip("a slope that jumps over zero satisfies no condition on its size")
    fun = LINES[line]
    for trial in (1e-4, 1.0, 30.0):
        t, trials = run_search(search, fun, trial)
        value, slope = fun(0.0), jax.grad(fun)(0.0)
        assert trials < 30
        if not isinstance(search, HagerZhang):  # which also takes the approximate conditions
            assert fun(t) <= value + search.decrease * t * slope
        if isinstance(search, StrongWolfe):
            assert abs(jax.grad(fun)(t)) <= -search.curvature * slope * (1 + 1e-12)
        elif not isinstance(search, Backtracking):
            assert jax.grad(fun)(t) >= search.curvature * slope


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("search", SEARCHES, ids=repr)
def test_a_trial_that_is_not_finite_is_too_long(search, bad):
    fun = lambda t: jnp.where(t < 0.5, (t - 0.3) ** 2, bad)
    t, _ = run_search(search, fun, 8.0)
    assert 0 < t < 0.5


@pytest.mark.by_default("BFGS")
@pytest.mark.parametrize("solver", [dini.BFGS, dini.LBFGS, dini.LBFGSB, dini.NonlinearCG], ids=lambda c: c.__name__)
def test_every_method_takes_every_line_search(solver):
    for search in SEARCHES[1:] if solver is dini.NonlinearCG else SEARCHES:
        solution = quietly(VALLEY, solver(line_search=search, tol=1e-8), START[:2])
        assert solution.success
        np.testing.assert_allclose(solution.x, 1, atol=1e-6)


def test_line_searches_refuse_bad_constants():
    with pytest.raises(ValueError, match="0 < decrease < curvature"):
        WeakWolfe(decrease=0.9, curvature=0.5)
    with pytest.raises(ValueError, match="shrink"):
        HagerZhang(shrink=2.0)
    with pytest.raises(TypeError, match="line_search must be one of"):
        dini.BFGS(line_search="armijo")
    with pytest.raises(ValueError, match="formula must be one of"):
        dini.NonlinearCG("fletcher-reeves")


# ------------------------------------------------------------------------------------- BFGS from the true Hessian


@pytest.mark.thorough
def test_bfgs_starts_from_the_hessian():
    """Its inverse where it is definite; that of absolute eigenvalues, in even units, elsewhere; of NaN the identity."""
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    solver, x0 = dini.BFGS(start="hessian"), {"a": jnp.zeros(2), "b": jnp.zeros((2, 2))}
    flat = lambda x: jnp.concatenate([x["a"], x["b"].reshape(-1)])
    for values in (np.geomspace(1e-3, 1e3, 6), np.array([-3.0, -0.1, 0.2, 1.0, 5.0, 7.0])):
        A = (Q * values) @ Q.T
        problem = dini.Minimize(lambda x, A=A: 0.5 * flat(x) @ A @ flat(x) - jnp.sum(flat(x)))
        matrix = solver.readings(x0, solver.init(problem, x0))["inverse_hessian"]
        units = np.ones(6) if np.all(values > 0) else np.asarray(symmetric_scales(A))
        even, V = np.linalg.eigh(A / np.outer(units, units))
        V = V / units[:, None]
        np.testing.assert_allclose(matrix, (V / np.abs(even)) @ V.T, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(matrix, matrix.T)
    infinite = dini.Minimize(lambda x: jnp.sum(jnp.abs(x) ** 1.5 + (x - 1) ** 2))
    matrix = solver.readings(jnp.zeros(3), solver.init(infinite, jnp.zeros(3)))["inverse_hessian"]
    np.testing.assert_array_equal(matrix, np.eye(3))
    assert quietly(infinite, solver, np.zeros(3)).success


@pytest.mark.thorough
def test_unrolled_steps_from_an_indefinite_hessian():
    problem, solver = dini.Minimize(lambda x, a: jnp.sum((x**2 - a) ** 2) + jnp.sum(x)), dini.BFGS(start="hessian")

    def end(a):
        return dini.solve(problem, solver, jnp.full(2, 0.1), a, differentiation=dini.Unrolled()).x.sum()

    forward = jax.jvp(end, (1.0,), (1.0,))[1]
    np.testing.assert_allclose(jax.grad(end)(1.0), forward, rtol=1e-9)
    # of the solution, a root of 4 x (x^2 - a) + 1 = 0, as the steps have converged
    x = end(1.0) / 2
    np.testing.assert_allclose(forward, 2 * 4 * x / (12 * x**2 - 4), rtol=1e-4)


@pytest.mark.thorough
def test_bfgs_from_the_hessian_needs_fewer_steps():
    """A quadratic takes one; the Hessian of a logistic regression changes little."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 30)) @ np.diag(np.geomspace(0.1, 10, 30))
    y = np.sign(X @ rng.standard_normal(30) + 10 * rng.standard_normal(200))
    quadratic = dini.Minimize(lambda w: jnp.mean((X @ w - y) ** 2))
    assert quietly(quadratic, dini.BFGS(start="hessian"), np.zeros(30)).stats.steps <= 3
    logistic = dini.Minimize(lambda w: jnp.mean(jnp.logaddexp(0, -y * (X @ w))) + 0.05 * jnp.vdot(w, w))
    plain = quietly(logistic, dini.BFGS(), np.zeros(30))
    solution = quietly(logistic, dini.BFGS(start="hessian"), np.zeros(30))
    assert solution.success
    assert plain.success
    assert 2 * solution.stats.steps < plain.stats.steps
    np.testing.assert_allclose(solution.x, plain.x, atol=1e-6)
    with pytest.raises(ValueError, match="start must be one of"):
        dini.BFGS(start="exact")


@pytest.mark.parametrize("formula", ["hager-zhang", "polak-ribiere", "hestenes-stiefel"])
def test_conjugate_directions_end_on_a_quadratic(formula):
    """With a nearly exact search the method needs about as many directions as there are eigenvalues."""
    scales = np.repeat([1.0, 5.0, 40.0], 10)
    problem = dini.Minimize(lambda x: 0.5 * jnp.sum(scales * x**2) - jnp.sum(x))
    solver = dini.NonlinearCG(formula, line_search=StrongWolfe(curvature=1e-3), tol=1e-9)
    solution = quietly(problem, solver, np.zeros(30))
    assert solution.success
    assert solution.stats.steps < 20
    np.testing.assert_allclose(solution.x, 1 / scales, atol=1e-9)


# --------------------------------------------------------------------------------------------------------- bounds

BOXES = {
    "above": (-2.0, 0.5),
    "some": (-2.0, np.array([0.7, 3.0, 3.0, 0.7])),
    "below": (1.1, 5.0),
    "fixed": (np.array([-2.0, 0.3, -2.0, -2.0]), np.array([2.0, 0.3, 2.0, 2.0])),
    "half": (None, np.array([0.5, 9.0, 9.0, 9.0])),
    "loose": (-5.0, 5.0),
}


@pytest.mark.by_default("some-ProjectedNewton")
@pytest.mark.parametrize("solver", [dini.LBFGSB(tol=1e-9), dini.ProjectedNewton(tol=1e-9)], ids=lambda s: s.name)
@pytest.mark.parametrize("box", BOXES)
def test_bounds_against_scipy(solver, box):
    lower, upper = BOXES[box]
    problem = dini.Minimize(valley, constraint=dini.sets.Box(lower, upper))
    solution = quietly(problem, solver, START)
    both = jax.jit(jax.value_and_grad(valley))
    low, high = (np.broadcast_to(np.nan if b is None else b, 4) for b in (lower, upper))
    bounds = [tuple(None if np.isnan(v) else v for v in pair) for pair in zip(low, high, strict=True)]
    want = scipy.optimize.minimize(
        lambda x: [np.asarray(v) for v in both(x)],
        solution.x + 1e-3,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 0, "gtol": 1e-9},
    )
    assert solution.success
    np.testing.assert_allclose(solution.x, want.x, atol=1e-6)
    assert not np.any(solution.x < low)
    assert not np.any(solution.x > high)


def taken_in(model, s, y):
    from dini.solvers import _lbfgsb
    from dini.solvers.shared._gram import Gram

    gram = Gram(s @ s, s @ y, s @ y, y @ y, y @ y, y @ y)
    return _lbfgsb._take_in(model, jnp.asarray(s), jnp.asarray(y), gram, jnp.asarray(True))


def compact(model):
    """Return ``W'`` and ``M`` of the model ``theta I - W M W'`` of L-BFGS-B."""
    from dini.solvers import _lbfgsb

    inverse, scale = _lbfgsb._compact(model)
    m = model.theta * scale[:, None] * np.linalg.inv(inverse) * scale[None, :]
    return model.store.reshape(len(scale), -1), m


@pytest.mark.thorough
def test_the_cauchy_point_is_the_first_minimizer_along_the_path():
    """Against a fine grid on the piecewise linear path of a quadratic model with a low-rank part."""
    from dini.solvers import _lbfgsb
    from dini.solvers.shared._box import Box

    rng = np.random.default_rng(0)
    for _ in range(5):
        n = 6
        pairs = [rng.standard_normal((2, n)) for _ in range(3)]
        model = dini.LBFGSB(history=4).init(VALLEY, jnp.zeros(n)).model
        for s, y in pairs:
            y = y + (1 + abs(s @ y) / (s @ s)) * s
            model = taken_in(model, s, y)
        rows, m = compact(model)
        hessian = model.theta * np.eye(n) - rows.T @ m @ rows
        x, g = rng.uniform(-1, 1, n), rng.standard_normal(n)
        lower, upper = np.where(rng.random(n) < 0.3, -np.inf, -1.0), np.where(rng.random(n) < 0.3, np.inf, 1.0)
        got = jax.jit(_lbfgsb._cauchy_point)(Box(lower, upper, None), x, g, model.theta, rows, m)
        path = np.clip(x - np.linspace(0, 20, 200001)[:, None] * g, lower, upper) - x
        values = path @ g + 0.5 * np.sum((path @ hessian) * path, 1)
        first = np.argmax(np.diff(values) > 0)
        np.testing.assert_allclose(got, x + path[first], atol=3e-4 * (1 + abs(g).max()))


@pytest.mark.thorough
def test_the_compact_matrix_is_that_of_bfgs_updates():
    rng = np.random.default_rng(1)
    n, model = 5, dini.LBFGSB(history=3).init(VALLEY, jnp.zeros(5)).model
    pairs = []
    for _ in range(5):  # more than fit
        s, y = rng.standard_normal((2, n))
        y = y + (1 + abs(s @ y) / (s @ s)) * s
        pairs.append((s, y))
        model = taken_in(model, s, y)
    rows, m = compact(model)
    s, y = pairs[-1]
    hessian = (y @ y) / (s @ y) * np.eye(n)
    for s, y in pairs[-3:]:
        hs = hessian @ s
        hessian = hessian + np.outer(y, y) / (s @ y) - np.outer(hs, hs) / (s @ hs)
    np.testing.assert_allclose(model.theta * np.eye(n) - rows.T @ m @ rows, hessian, rtol=1e-9, atol=1e-9)


@pytest.mark.thorough
def test_bounds_of_products_and_of_other_sets():
    problem = dini.Minimize(
        lambda x: jnp.sum((x["a"] - 2) ** 2) + jnp.sum((x["b"] + 1) ** 2),
        constraint=dini.sets.Product({"a": dini.sets.LInfBall(1.0), "b": dini.sets.NonNegative()}),
    )
    for solver in (dini.LBFGSB(), dini.ProjectedNewton()):
        x = dini.solve(problem, solver, {"a": jnp.zeros(2), "b": jnp.ones(1)}).x
        np.testing.assert_allclose(x["a"], 1)
        np.testing.assert_allclose(x["b"], 0)
        with pytest.raises(TypeError, match="takes bounds on each element"):
            dini.solve(dini.Minimize(valley, constraint=dini.sets.Simplex()), solver, jnp.ones(2))
        with pytest.raises(TypeError, match="takes bounds and no penalty"):
            dini.solve(dini.Minimize(valley, penalty=dini.penalties.L1(1.0)), solver, jnp.ones(2))


def test_minimize_picks_a_solver_for_bounds():
    solution = dini.minimize(valley, jnp.asarray(START), constraint=dini.sets.Box(-2.0, 0.5))
    assert solution.success
    assert solution.stats.steps < 60


# -------------------------------------------------------------------------------------------------- trust regions


@pytest.mark.by_default("dogleg")
@pytest.mark.parametrize(
    "solver",
    [dini.TrustRegionNewtonCG(tol=1e-9), dini.Dogleg(tol=1e-9), dini.Dogleg("bfgs", tol=1e-9)],
    ids=["steihaug", "dogleg", "dogleg-bfgs"],
)
def test_trust_regions_leave_a_saddle_and_keep_out_of_a_wall(solver):
    saddle = dini.Minimize(lambda x: jnp.sum(x**4) / 4 - x[0] ** 2 / 2 + x[1] ** 2 / 2)
    solution = quietly(saddle, solver, [1e-6, 0.5])
    assert solution.success
    np.testing.assert_allclose(jnp.abs(solution.x), [1.0, 0.0], atol=1e-6)
    wall = dini.Minimize(lambda x: jnp.sum(x) * 10 - jnp.sum(jnp.log(x)))
    solution = quietly(wall, solver, [5.0, 0.01])
    assert solution.success
    np.testing.assert_allclose(solution.x, 0.1, rtol=1e-6)


@pytest.mark.by_default("Dogleg")
@pytest.mark.parametrize(
    "solver",
    [
        dini.Dogleg(radius=6.0),
        dini.DoglegLeastSquares(),
        dini.LevenbergMarquardt(strategy="trust region", hessian="gauss-newton"),
    ],
    ids=lambda solver: solver.name,
)
def test_a_value_without_a_gradient_shrinks_the_region(solver):
    """Beyond the cliff values are good and gradients are NaN: the same move was tried until the steps were spent."""
    cliff = lambda x: jnp.sqrt(jnp.maximum(2 - x, 0))
    if isinstance(solver, dini.Dogleg):
        problem, start, want = dini.Minimize(lambda x: jnp.sqrt(1 + (x - 1.5) ** 2) + 0.1 * cliff(x)), -3.0, 1.577116
    else:
        residuals = lambda x: jnp.stack([jnp.arctan(x - 1.5), 0.1 * cliff(x) ** 0.5])
        problem, start, want = dini.LeastSquares(residuals), 0.5, 1.503548
    solution = quietly(problem, solver, start)
    assert solution.success
    assert solution.stats.steps < 30
    np.testing.assert_allclose(solution.x, want, rtol=1e-5)


def test_steps_by_number_come_back_from_a_plateau():
    """The gradient vanishes where a step has landed, which is refused: a shorter one must be tried next."""
    problem = dini.Minimize(lambda x: jnp.where(jnp.abs(x) < 20, jnp.sqrt(1 + x**2), 50.0))
    assert abs(dini.solve(problem, dini.GradientDescent(), 5.0, steps=60).x) < 1e-6


def test_steps_by_number_of_a_function_of_the_host():
    """There are no products with its Hessian, and none is asked for."""

    @jax.custom_vjp
    def bowl(x):
        return jax.pure_callback(lambda x: np.sum((np.asarray(x) - 1) ** 2), jnp.zeros((), x.dtype), x)

    slope = lambda x: jax.pure_callback(lambda x: 2 * (np.asarray(x) - 1), x, x)
    bowl.defvjp(lambda x: (bowl(x), x), lambda x, g: (g * slope(x),))
    solution = dini.minimize(bowl, jnp.zeros(2, jnp.float32), solver=dini.GradientDescent(), steps=10)
    np.testing.assert_allclose(solution.x, 1, rtol=1e-3)


def test_steihaug_counts_products_as_steps():
    scales = np.geomspace(1, 1e3, 20)
    problem = dini.Minimize(lambda x: 0.5 * jnp.sum(scales * x**2) - jnp.sum(x))
    solution = quietly(problem, dini.TrustRegionNewtonCG(radius=1e3, tol=1e-8), np.zeros(20))
    assert solution.success
    theirs = scipy.optimize.minimize(
        lambda x: 0.5 * np.sum(scales * x**2) - np.sum(x),
        np.zeros(20),
        jac=lambda x: scales * x - 1,
        hessp=lambda x, p: scales * p,
        method="trust-ncg",
        options={"initial_trust_radius": 1e3, "max_trust_radius": 1e4, "gtol": 1e-8},
    )
    assert solution.stats.steps <= 1.5 * (theirs.nhev + theirs.nfev)


@pytest.mark.parametrize("n", [2, 4])
def test_nelder_mead_against_scipy(n):
    want = scipy.optimize.minimize(
        lambda x: float(np.sum((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2)),
        START[:n],
        method="Nelder-Mead",
        options={"adaptive": True, "xatol": 1e-8, "fatol": 1e-8, "maxfev": 5000},
    )
    solution = quietly(VALLEY, dini.NelderMead(), START[:n])
    assert solution.success
    np.testing.assert_allclose(solution.x, 1, atol=1e-6)
    assert solution.stats.steps < 3 * want.nfev


def test_nelder_mead_with_bounds_and_holes():
    holed = dini.Minimize(
        lambda x: jnp.where(x[0] + x[1] > 1.5, jnp.nan, (x[0] - 1) ** 2 + (x[1] + 2) ** 2),
        constraint=dini.sets.Box(-1.0, 1.0),
    )
    solution = quietly(holed, dini.NelderMead(tol=1e-7), [0.0, 0.0])
    assert solution.success
    np.testing.assert_allclose(solution.x, [1.0, -1.0], atol=1e-6)
    with pytest.raises(ValueError, match="Unrolled needs a solver whose points depend smoothly"):
        dini.solve(VALLEY, dini.NelderMead(), jnp.zeros(2), differentiation=dini.Unrolled())


# --------------------------------------------------------------------------------------------------- robust loops

DESCENT = [
    dini.GradientDescent(),
    dini.BFGS(),
    dini.LBFGS(),
    dini.NonlinearCG(),
    dini.LBFGSB(),
    dini.TrustRegionNewtonCG(),
]


@pytest.mark.by_default(without=["LBFGSB"])
@pytest.mark.parametrize(
    "solver",
    [dini.LBFGS(max_steps=6000), dini.LBFGSB(max_steps=6000), dini.NonlinearCG(max_steps=20000)],
    ids=lambda s: s.name,
)
def test_ill_conditioned_functions_are_not_given_up(solver):
    """Near the end, values tell nothing any more, and gradients rise and fall for hundreds of steps."""
    curvature = np.geomspace(1, 1e5, 200)
    solution = quietly(dini.Minimize(lambda x: 0.5 * jnp.sum(curvature * x**2) - jnp.sum(x)), solver, np.zeros(200))
    assert solution.status == Status.CONVERGED
    np.testing.assert_allclose(solution.x, 1 / curvature, atol=1e-7)


@pytest.mark.by_default(2)
@pytest.mark.parametrize("solver", DESCENT, ids=lambda s: s.name)
def test_a_function_without_minimum_diverges(solver):
    solution = quietly(dini.Minimize(lambda x: -jnp.sum(x**2)), solver, [1.0, 2.0])
    assert solution.status == Status.DIVERGED
    assert np.all(np.isfinite(solution.x))


@pytest.mark.by_default(2)
@pytest.mark.parametrize("solver", [*DESCENT, dini.Newton(), dini.Dogleg()], ids=lambda s: s.name)
def test_a_start_outside_the_domain_is_not_finite(solver):
    solution = quietly(dini.Minimize(lambda x: jnp.sum(x - jnp.log(x))), solver, [-1.0, 2.0])
    assert solution.status == Status.NONFINITE
    np.testing.assert_array_equal(solution.x, [-1.0, 2.0])


@pytest.mark.by_default(2)
@pytest.mark.parametrize("solver", [*DESCENT, dini.Dogleg("bfgs")], ids=lambda s: s.name)
def test_single_precision_ends_at_its_rounding_level(solver):
    """A tolerance below the rounding error ends in a status, soon, at a point that is as good as can be."""
    scales = np.array([1.0, 1e3], np.float32)
    problem = dini.Minimize(lambda x: 1e4 + jnp.sum(scales * (x - 0.3) ** 2))
    solver = dataclasses.replace(solver, tol=1e-12)
    solution = quietly(problem, solver, jnp.zeros(2, jnp.float32))
    assert solution.status in (Status.CONVERGED, Status.STALLED, Status.STEP_TOO_SMALL)
    assert solution.stats.steps < 500
    np.testing.assert_allclose(solution.x, 0.3, atol=3e-2)


def test_the_best_point_comes_back_from_a_step_size_that_is_too_long():
    problem = dini.Minimize(lambda x: 0.5 * jnp.sum(x**2))
    start = jnp.array([1.0, -2.0])
    solution = dini.solve(problem, dini.GradientDescent(step_size=2.5), start, on_failure="ignore")
    assert solution.status == Status.DIVERGED
    np.testing.assert_array_equal(solution.x, start)
    # one that converges returns its last point, as ever
    solution = dini.solve(problem, dini.GradientDescent(step_size=0.5, max_steps=3), start, on_failure="ignore")
    assert solution.status == Status.MAX_STEPS
    np.testing.assert_allclose(solution.x, start / 8)


def test_the_best_point_comes_back_from_a_map_that_expands():
    problem = dini.FixedPoint(lambda x: jnp.array([3.0, -2.0]) * x)
    solution = dini.solve(problem, dini.FixedPointIteration(), jnp.array([1.0, 1.0]), on_failure="ignore")
    assert solution.status == Status.DIVERGED
    np.testing.assert_array_equal(solution.x, [1.0, 1.0])
    lanes = jax.vmap(
        lambda x: dini.solve(dini.FixedPoint(lambda u: x * u + 1), dini.FixedPointIteration(), 0.0, on_failure="ignore")
    )(jnp.array([0.5, 3.0]))
    np.testing.assert_array_equal(lanes.status, [Status.CONVERGED, Status.DIVERGED])
    np.testing.assert_allclose(lanes.x, [2.0, 0.0], atol=1e-6)


@pytest.mark.by_default("NonlinearCG")
@pytest.mark.parametrize(
    "solver",
    [dini.BFGS(), dini.LBFGS(), dini.NonlinearCG(), dini.NelderMead()],
    ids=lambda s: s.name,
)
def test_a_resumed_solve_is_the_uninterrupted_one(solver):
    x0 = jnp.asarray(START[:2])
    whole = quietly(VALLEY, solver, x0)
    short = dataclasses.replace(solver, max_steps=20)
    first = dini.solve(VALLEY, short, x0, on_failure="ignore", return_state=True)
    assert first.status == Status.MAX_STEPS
    state = jax.tree.map(np.asarray, first.state)  # as it comes back from a file
    rest = dini.solve(VALLEY, solver, first.x, on_failure="ignore", state=state)
    assert rest.status == whole.status
    assert rest.stats.steps + 20 == whole.stats.steps
    np.testing.assert_allclose(rest.x, whole.x, rtol=1e-12)


def test_a_converged_state_takes_no_step_and_a_foreign_one_is_refused():
    done = dini.solve(VALLEY, dini.BFGS(), jnp.zeros(2), return_state=True)
    again = dini.solve(VALLEY, dini.BFGS(), done.x, state=done.state)
    assert again.stats.steps == 0
    np.testing.assert_array_equal(again.x, done.x)
    with pytest.raises(TypeError, match="state must have the structure"):
        dini.solve(VALLEY, dini.LBFGS(), done.x, state=done.state)
    with pytest.raises(TypeError, match="need a solver that takes steps"):
        dini.solve(VALLEY, lambda problem, x: x, done.x, state=done.state)


def test_a_solve_in_time_is_the_plain_one_or_stops():
    x0 = jnp.zeros(2)
    plain = dini.solve(VALLEY, dini.BFGS(), x0)
    timed = dini.solve(VALLEY, dini.BFGS(), x0, time_limit=100.0)
    assert timed.stats.steps == plain.stats.steps
    np.testing.assert_allclose(timed.x, plain.x, rtol=1e-12)
    slow = dini.solve(
        VALLEY,
        dini.GradientDescent(tol=0.0, max_steps=10**9),
        x0,
        time_limit=1e-3,
        on_failure="ignore",
        return_state=True,
    )
    assert slow.status in (Status.TIME_LIMIT, Status.STEP_TOO_SMALL)
    assert slow.state is not None
    with pytest.raises(dini.SolveError, match="TIME_LIMIT"):
        dini.solve(VALLEY, dini.GradientDescent(tol=0.0, max_steps=10**9), x0, time_limit=1e-6)
    with pytest.raises(TypeError, match="time_limit needs concrete values"):
        jax.jit(lambda x: dini.solve(VALLEY, dini.BFGS(), x, time_limit=1.0).x)(x0)
    with pytest.raises(ValueError, match="takes no monitor"):
        dini.solve(VALLEY, dini.BFGS(), x0, time_limit=1.0, monitor=dini.Record(3))
    with pytest.raises(ValueError, match="time_limit must be a positive"):
        dini.solve(VALLEY, dini.BFGS(), x0, time_limit=0.0)


@pytest.mark.thorough
def test_bfgs_keeps_its_digits_in_single_precision():
    """A barrier far from its minimum, where an update that is not symmetric (in optimized programs) goes wrong."""
    start = np.abs(np.random.default_rng(1).normal(size=(60, 50))) * 30 + 1e-2
    problem = dini.Minimize(lambda x, a: jnp.sum(a * x - jnp.log(x)))

    def solved(x):
        solution = dini.solve(problem, dini.BFGS(), x, jnp.float32(10), on_failure="ignore")
        return solution.success, solution.x

    optimized = {"xla_backend_optimization_level": 2, "xla_llvm_disable_expensive_passes": False}
    run = jax.jit(jax.vmap(solved), compiler_options=optimized)
    success, x = run(jnp.asarray(start, jnp.float32))
    # 0.85; of an update that is not symmetric, 0.3
    assert jnp.mean(success) >= 0.7
    # far out the Newton step leads out of the domain, and only a small share of it to a lower point
    np.testing.assert_allclose(x[success], 0.1, rtol=0.05)


@pytest.mark.by_default("LBFGS-0.01", "GradientDescent-0.01")
@pytest.mark.parametrize(
    ("method", "residual"),
    [
        *itertools.product([dini.BFGS, dini.LBFGS, dini.NonlinearCG, dini.TrustRegionNewtonCG], [1e-5, 1e-2]),
        *itertools.product([dini.GradientDescent, dini.ProximalGradient], [1e-3, 1e-2]),
    ],
)
def test_least_squares_that_nearly_interpolate(method, residual):
    """A small sum of squares of differences of large numbers has lost digits that its gradient has kept."""
    rng = np.random.default_rng(0)
    A, w = rng.normal(size=(50, 12, 4)), rng.normal(size=(50, 4))
    y = np.einsum("kij,kj->ki", A, w) + residual * rng.normal(size=(50, 12))
    problem = dini.Minimize(lambda w, A, y: 0.5 * jnp.sum((A @ w - y) ** 2))
    one = lambda A, y: dini.solve(problem, method(tol=1e-11), jnp.zeros(4), A, y, on_failure="ignore")
    solution = jax.jit(jax.vmap(one))(A, y)
    np.testing.assert_array_equal(solution.status, dini.Status.CONVERGED)
    want = [np.linalg.lstsq(*pair)[0] for pair in zip(A, y, strict=True)]
    np.testing.assert_allclose(solution.x, want, atol=1e-10)


@pytest.mark.by_default("BFGS", "LBFGS")
@pytest.mark.parametrize(
    "method",
    [dini.Newton, dini.Dogleg, dini.BFGS, dini.LBFGS, dini.TrustRegionNewtonCG, dini.ProjectedNewton, dini.LBFGSB],
)
def test_curves_that_nearly_interpolate(method):
    """Newton's steps, which the values call too long, were shortened until nothing was left of them."""
    rng, t = np.random.default_rng(0), np.linspace(0, 3, 30)
    basis = lambda w, np=np: [np.exp(-w[1] * t), np.sin(w[3] * t), w[4]]
    curve = lambda w, np=np: 30 * sum(a * b for a, b in zip([w[0], w[2], 1.0], basis(w, np), strict=True))
    true = np.array([1.5, 1.0, 0.8, 2.0, 0.3]) + 0.2 * rng.normal(size=(40, 5))
    y = np.stack([curve(w) for w in true]) + 10.0 ** rng.uniform(-5, -1, (40, 1)) * rng.normal(size=(40, 30))
    bounded = method in (dini.ProjectedNewton, dini.LBFGSB)
    low = np.array([0.0] * 4 + [0.35]) if bounded else np.full(5, -np.inf)
    fun = lambda w, y: 0.5 * jnp.mean((curve(w, jnp) - y) ** 2)
    problem = dini.Minimize(fun, constraint=dini.sets.Box(low, jnp.inf) if bounded else None)
    one = lambda w, y: dini.solve(problem, method(tol=1e-10), w, y, on_failure="ignore")
    solution = jax.jit(jax.vmap(one))(np.maximum(true + 0.05 * rng.normal(size=(40, 5)), low), y)
    np.testing.assert_array_equal(solution.status, Status.CONVERGED)
    # in more digits: the gradient by hand, of what is not at its bound
    x, y, t = (np.asarray(a, np.longdouble) for a in (solution.x, y, t))
    for w, data in zip(x, y, strict=True):
        decay, wave, _ = basis(w)
        columns = 30 * np.stack([decay, -w[0] * t * decay, wave, w[2] * t * np.cos(w[3] * t), np.ones(30)])
        gradient = columns @ (curve(w) - data) / 30
        assert np.all(np.abs(gradient[w > low]) <= 2e-10)
        assert np.all(gradient[w == low] >= -2e-10)


@pytest.mark.by_default("each")
@pytest.mark.parametrize("residual", [1e-5, 1e-2])
@pytest.mark.parametrize("method", [dini.MirrorDescent, dini.FrankWolfe])
def test_least_squares_on_a_simplex_that_nearly_interpolate(method, residual):
    rng = np.random.default_rng(0)
    A, w = rng.normal(size=(20, 30, 4)), rng.dirichlet(np.full(4, 5.0), 20)
    y = np.einsum("kij,kj->ki", A, w) + residual * rng.normal(size=(20, 30))
    problem = dini.Minimize(lambda w, A, y: 0.5 * jnp.sum((A @ w - y) ** 2), constraint=dini.sets.Simplex())
    solver = method(tol=1e-11, max_steps=20_000)
    one = lambda A, y: dini.solve(problem, solver, jnp.full(4, 0.25), A, y, on_failure="ignore")
    solution = jax.jit(jax.vmap(one))(A, y)
    np.testing.assert_array_equal(solution.status, Status.CONVERGED)

    def optimal(A, y):
        """Solve the KKT system of a solution inside of the simplex."""
        matrix = np.block([[A.T @ A, np.ones((4, 1))], [np.ones((1, 4)), np.zeros((1, 1))]])
        return np.linalg.solve(matrix, np.append(A.T @ y, 1.0))[:4]

    want = np.stack([optimal(*pair) for pair in zip(A, y, strict=True)])
    assert np.all(want > 0)
    # the error of Frank-Wolfe is a gap of the objective, which is quadratic in the distance
    np.testing.assert_allclose(solution.x, want, atol=1e-10 if method is dini.MirrorDescent else 1e-6)


def test_frank_wolfe_far_inside_of_a_set():
    """Where the objective's rounding hides what a step gains, curvature must not grow with it: 3 of 100 converged."""
    rng = np.random.default_rng(0)
    A, w = rng.normal(size=(20, 30, 6)), rng.normal(size=(20, 6))
    y = np.einsum("kij,kj->ki", A, w) + 1e-5 * rng.normal(size=(20, 30))
    problem = dini.Minimize(lambda w, A, y: 0.5 * jnp.sum((A @ w - y) ** 2), constraint=dini.sets.L1Ball(20.0))
    one = lambda A, y: dini.solve(problem, dini.FrankWolfe(max_steps=5000), jnp.zeros(6), A, y, on_failure="ignore")
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(A, y).status, Status.CONVERGED)


def test_newton_goes_on_from_the_state_of_a_looser_solve():
    problem = dini.Minimize(lambda x: jnp.sum(jnp.cosh(x - 1) + 0.1 * x**2))
    early = dini.solve(problem, dini.Newton(tol=0.3), jnp.zeros(2), return_state=True)
    late = dini.solve(problem, dini.Newton(tol=1e-10), early.x, state=early.state)
    assert late.success
    assert early.stats.error > 1e-4
    assert late.stats.error <= 1e-10


@pytest.mark.by_default("Newton", "ProjectedNewton")
@pytest.mark.parametrize(
    "solver",
    [dini.Newton(), dini.ProjectedNewton(), dini.TrustRegionNewtonCG(), dini.Dogleg(), dini.BFGS(), dini.LBFGSB()],
    ids=lambda solver: solver.name,
)
def test_a_leap_says_nothing_of_the_start(solver):
    """The first Newton step moves the point by a million, to where the gradient is 1e20 times larger."""
    solution = dini.minimize(lambda x: 1e-3 * x[0] + x[0] ** 4, jnp.array([1e-5]), solver=solver)
    np.testing.assert_allclose(solution.x, -((1e-3 / 4) ** (1 / 3)), rtol=1e-7)
