"""Units do not decide: a function times ``c``, an unknown times ``b``, take as many steps to the same point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import dini
from dini import penalties, sets
from dini.status import Status

RNG = np.random.default_rng(0)
DESIGN, NOISE = RNG.standard_normal((40, 8)), 0.1 * RNG.standard_normal(40)
TARGET = DESIGN @ (np.arange(8.0) - 3) + NOISE
LABELS = (DESIGN @ np.ones(8) + RNG.standard_normal(40) > 0) * 1.0
CONTRACTION = RNG.standard_normal((8, 8))
CONTRACTION *= 0.8 / np.abs(np.linalg.eigvals(CONTRACTION)).max()
#: factors of the function and of the unknown
DOUBLE = [(1.0, 1.0), (1e-12, 1.0), (1e12, 1.0), (1.0, 1e-12), (1.0, 1e12), (1e-10, 1e10), (1e12, 1e12)]
SINGLE = [(1.0, 1.0), (1e-6, 1.0), (1e6, 1.0), (1.0, 1e-6), (1.0, 1e6), (1e-6, 1e-6)]


def rosenbrock(x, c, b):
    u = x / b
    return c * jnp.sum(100 * (u[1:] - u[:-1] ** 2) ** 2 + (1 - u[:-1]) ** 2)


def logistic(x, c, b):
    z = jnp.asarray(DESIGN, x.dtype) @ (x / b)
    return c * (jnp.mean(jnp.logaddexp(0, z) - jnp.asarray(LABELS, x.dtype) * z) + 1e-2 * jnp.sum((x / b) ** 2))


def fit(x, c, b):
    return 0.5 * c * jnp.sum((jnp.asarray(DESIGN, x.dtype) @ (x / b) - jnp.asarray(TARGET, x.dtype)) ** 2)


def distance(x, c, b):
    return 0.5 * c * jnp.sum(jnp.arange(1.0, 9.0, dtype=x.dtype) * (x / b - jnp.asarray(TARGET[:8], x.dtype)) ** 2)


def map_of_point(x, c, b):
    del c
    return b * (0.9 * jnp.tanh(jnp.asarray(CONTRACTION, x.dtype) @ (x / b)) + 0.3)


def minimize(fun, start, **parts):
    def run(solver, c, b):
        made = {name: part(c, b) for name, part in parts.items()}
        return dini.minimize(fun, jnp.asarray(start, c.dtype) * b, c, b, solver=solver, on_failure="ignore", **made)

    return run


def split(operator, part, *, inside=None):
    def run(solver, c, b):
        problem = dini.Composite(distance, part(c, b), operator, constraint=None if inside is None else inside(c, b))
        start = problem.start(jnp.ones(8, c.dtype) * b, c, b)
        return dini.solve(problem, solver, start, c, b, on_failure="ignore")

    return run


def fixed_point(solver, c, b):
    return dini.fixed_point(map_of_point, jnp.zeros(8, c.dtype), c, b, solver=solver, on_failure="ignore")


VALLEY = minimize(rosenbrock, -1.2 * np.ones(4))
CLASSES = minimize(logistic, np.zeros(8))
BOX = minimize(rosenbrock, -1.2 * np.ones(4), constraint=lambda c, b: sets.Box(-2 * b, jnp.asarray([0.5, 2, 2, 2]) * b))
LASSO = minimize(fit, np.zeros(8), penalty=lambda c, b: penalties.L1(30 * c / b))
SIMPLEX = minimize(distance, np.ones(8) / 8, constraint=lambda c, b: sets.Simplex(b))
DIFFERENCES = jnp.asarray(np.diff(np.eye(8), axis=0), jnp.float32)
FUSED = split(DIFFERENCES, lambda c, b: penalties.L1(0.2 * c / b))
TWO_PARTS = split(None, lambda c, b: penalties.L1(0.2 * c / b), inside=lambda c, b: sets.Box(0 * b, b))

#: solvers whose settings have no units, each with a problem
CASES = {
    "bfgs": (dini.BFGS(), VALLEY),
    "bfgs from the hessian": (dini.BFGS(start="hessian"), CLASSES),
    "lbfgs": (dini.LBFGS(), VALLEY),
    "lbfgs classes": (dini.LBFGS(), CLASSES),
    "nonlinear cg": (dini.NonlinearCG(), CLASSES),
    "gradient descent": (dini.GradientDescent(), CLASSES),
    "newton": (dini.Newton(), VALLEY),
    "trust region": (dini.TrustRegionNewtonCG(), VALLEY),
    "dogleg": (dini.Dogleg(), VALLEY),
    "dogleg bfgs": (dini.Dogleg(hessian="bfgs"), CLASSES),
    "nelder-mead": (dini.NelderMead(), minimize(rosenbrock, np.array([-1.2, 1.0]))),
    "lbfgsb": (dini.LBFGSB(), BOX),
    "projected newton": (dini.ProjectedNewton(), BOX),
    "proximal gradient": (dini.ProximalGradient(), LASSO),
    "proximal newton": (dini.ProximalNewton(), LASSO),
    "coordinate descent": (dini.CoordinateDescent(), LASSO),
    "block coordinate descent": (dini.BlockCoordinateDescent(), LASSO),
    "projected gradient": (dini.ProjectedGradient(), SIMPLEX),
    "mirror descent": (dini.MirrorDescent(), SIMPLEX),
    "frank-wolfe": (dini.FrankWolfe(), SIMPLEX),
    "condat-vu": (dini.CondatVu(), FUSED),
    "admm": (dini.ADMM(), FUSED),
    "douglas-rachford": (dini.DouglasRachford(), TWO_PARTS),
    "fixed-point iteration": (dini.FixedPointIteration(), fixed_point),
    "anderson": (dini.Anderson(), fixed_point),
}


def primal(solution):
    return getattr(solution.x, "primal", solution.x)


@pytest.mark.by_default("each")
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("name", CASES)
def test_units(name, dtype):
    solver, problem = CASES[name]
    factors = jnp.asarray(DOUBLE if dtype == jnp.float64 else SINGLE, dtype)

    @jax.jit
    def run(c, b):
        solution = problem(solver, c, b)
        return primal(solution) / b, solution.status, solution.stats.steps

    runs = [run(c, b) for c, b in factors]
    points, status, steps = map(np.asarray, zip(*runs, strict=True))
    assert (status == Status.CONVERGED).all()
    assert (steps <= 1.3 * steps[0] + 5).all()
    assert (1.3 * steps + 5 >= steps[0]).all()
    # a hundred times the accuracy that was asked for: curvatures differ by as much
    error = np.linalg.norm(points - points[0], axis=1) / np.linalg.norm(points[0])
    assert error.max() < 100 * float(jnp.finfo(dtype).eps) ** 0.5


@pytest.mark.by_default("bfgs", "gradient descent", "newton", "proximal gradient")
@pytest.mark.parametrize(
    "name", ["bfgs", "lbfgs", "gradient descent", "newton", "lbfgsb", "proximal gradient", "anderson"]
)
def test_warm_start(name):
    """A start beside the solution is seen as one, after the step that shows the curvature."""
    solver, problem = CASES[name]
    one = jnp.ones(())
    found = problem(solver, one, one).x
    fun = {VALLEY: rosenbrock, CLASSES: logistic, LASSO: fit, BOX: rosenbrock}.get(problem)

    @jax.jit
    def again(start):
        keywords = {"solver": solver, "on_failure": "ignore"}
        if fun is None:
            return dini.fixed_point(map_of_point, start, one, one, **keywords)
        if problem is BOX:
            keywords["constraint"] = sets.Box(-2.0, jnp.asarray([0.5, 2, 2, 2]))
        if problem is LASSO:
            keywords["penalty"] = penalties.L1(30.0)
        return dini.minimize(fun, start, one, one, **keywords)

    for off in (0.0, 1e-11):
        solution = again(found * (1 + off))
        assert solution.status == Status.CONVERGED
        assert solution.stats.steps <= 8


@pytest.mark.by_default("BFGS", "GradientDescent", "Newton")
@pytest.mark.parametrize(
    "solver",
    [dini.BFGS(), dini.LBFGS(), dini.NonlinearCG(), dini.GradientDescent(), dini.Newton(), dini.TrustRegionNewtonCG(),
     dini.Dogleg(), dini.LBFGSB(), dini.ProjectedNewton()],
    ids=lambda solver: solver.name,
)  # fmt: skip
def test_no_minimum(solver):
    """A function that falls forever has no minimum, whatever becomes of its gradient."""
    separable = DESIGN * np.where(DESIGN @ np.arange(1.0, 9.0) > 0, 1, -1)[:, None]
    functions = [
        (lambda x: jnp.exp(-x[0]), jnp.zeros(1)),
        (lambda x: 1e-6 * jnp.exp(-1e3 * x[0]), jnp.zeros(1)),
        (lambda x: -x[0], jnp.ones(1)),
        (lambda x: jnp.mean(jnp.logaddexp(0, -(separable @ x))), jnp.zeros(8)),
    ]
    for fun, start in functions:
        solution = dini.minimize(fun, start, solver=solver, on_failure="ignore")
        assert solution.status != Status.CONVERGED


@pytest.mark.thorough
def test_what_users_met():
    """Small data of a curve, a map without a fixed point, a concave quadratic and a linear function over a box."""
    assert dini.fixed_point(lambda x: x + jnp.exp(-x), 1.0, on_failure="ignore").status != Status.CONVERGED
    assert dini.fixed_point(lambda x: x + 1.0, 0.0, on_failure="ignore").status != Status.CONVERGED
    box = sets.Box(-1.0, 1.0)
    matrix = RNG.standard_normal((200, 200))
    quadratic = lambda x, c: c * (x @ (matrix @ x) + x[0])
    for c in (1e-6, 1e6):
        assert dini.minimize(quadratic, np.zeros(200), c, constraint=box).success
    for size in (20, 50):
        line = dini.minimize(lambda x: jnp.sum(jnp.asarray(matrix[0, : len(x)]) * x), np.zeros(size), constraint=box)
        np.testing.assert_array_equal(line.x, -np.sign(matrix[0, :size]))


def test_tolerances():
    """``rtol`` is relative, ``atol`` alone is absolute, ``tol`` is its old name."""
    error = lambda solver: (
        dini.minimize(lambda x: 1e6 * jnp.sum((x - 1) ** 4 + x**2), jnp.zeros(3), solver=solver).stats
    )
    assert error(dini.LBFGS(atol=1e3)).error > 1
    assert error(dini.LBFGS(tol=1e3)) == error(dini.LBFGS(atol=1e3))
    assert error(dini.LBFGS(rtol=1e-3)).steps < error(dini.LBFGS(rtol=1e-10)).steps
    assert dini.LBFGS(tol=1e-3) == dini.LBFGS(atol=1e-3)
    with pytest.raises(TypeError, match="tol is another name for atol"):
        dini.LBFGS(tol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="LBFGS's rtol"):
        dini.LBFGS(rtol=-1.0)


@pytest.mark.by_default("LBFGS", "ProximalGradient", "LBFGSB")
@pytest.mark.parametrize(
    ("solver", "least"),
    [
        pytest.param(dini.LBFGS(), 120, id="LBFGS"),
        pytest.param(dini.BFGS(), 120, id="BFGS"),
        pytest.param(dini.TrustRegionNewtonCG(), 120, id="TrustRegionNewtonCG"),
        pytest.param(dini.NonlinearCG(), 80, id="NonlinearCG"),
        pytest.param(dini.GradientDescent(max_steps=1000), 20, id="GradientDescent"),
        pytest.param(dini.ProximalGradient(max_steps=1000), 20, id="ProximalGradient"),
        pytest.param(dini.ProximalNewton(), 70, id="ProximalNewton"),
        pytest.param(dini.BlockCoordinateDescent(max_steps=1000), 2, id="BlockCoordinateDescent"),
        pytest.param(dini.LBFGSB(max_steps=500), 80, id="LBFGSB"),
        pytest.param(dini.ProjectedNewton(), 80, id="ProjectedNewton"),
    ],
)
def test_unlike_units(solver, least):
    """Each element in a unit of its own, of 1e-3 to 1e3: what is called a solution is the same one.

    A step of the whole point says nothing of an element whose gradient is a millionth of another's.
    """
    quartic = lambda x: jnp.sum((x - jnp.array([1.0, 2.0])) ** 2) + jnp.sum((x - 1) ** 4)
    valley = lambda x: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    how = {"solver": solver, "on_failure": "ignore"}

    def solved(unit, valleys):
        start = jnp.where(valleys, jnp.array([-1.2, 1.0]), 0.5) * unit
        fun = lambda u, v: jnp.where(v, valley(u / unit), quartic(u / unit))
        parts = {}
        if isinstance(solver, dini.LBFGSB | dini.ProjectedNewton):
            parts["constraint"] = sets.Box(-3 * unit, 1.3 * unit)
        elif solver.composite:
            parts["penalty"] = penalties.L1(1e-2 / unit)
        found = dini.minimize(fun, start, valleys, **parts, **how)
        return found.x / unit, found.success

    units = 10 ** np.concatenate([np.zeros((1, 2)), np.random.default_rng(0).uniform(-3, 3, (60, 2))])
    x, success = jax.jit(jax.vmap(jax.vmap(solved, (0, None)), (None, 0)))(jnp.asarray(units), jnp.array([False, True]))
    assert success.sum() >= least
    assert success[0, 0]
    for lanes, known in zip(x, success, strict=True):
        np.testing.assert_allclose(lanes[known], np.broadcast_to(lanes[0], lanes[known].shape), atol=1e-4)


@pytest.mark.by_default("LBFGS", "ProximalGradient")
@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(dini.LBFGS(), id="LBFGS"),
        pytest.param(dini.ProximalGradient(), id="ProximalGradient"),
        pytest.param(dini.GradientDescent(), id="GradientDescent"),
        pytest.param(dini.TrustRegionNewtonCG(), id="TrustRegionNewtonCG"),
        pytest.param(dini.LBFGSB(), id="LBFGSB"),
    ],
)
def test_a_start_beside_a_solution_with_zeros(solver):
    """Elements that are zero move by more than their size in each step: that shows nothing of the others."""
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((8, 8)))[0]
    matrix, solution = turn * np.geomspace(1, 10, 8) @ turn.T, np.where(np.arange(8) < 4, 0, np.arange(8.0) - 5.5)
    parts = {"constraint": sets.Box(-9.0, 9.0)} if isinstance(solver, dini.LBFGSB) else {}

    def again(off):
        fun = lambda x: 0.5 * (x - solution) @ matrix @ (x - solution)
        found = dini.minimize(fun, solution + off, solver=solver, on_failure="ignore", **parts)
        return found.status, found.stats.steps, jnp.linalg.norm(found.x - solution)

    offs = np.geomspace(1e-12, 1e-2, 6)[:, None] * np.random.default_rng(9).standard_normal(8)
    status, steps, error = jax.jit(jax.vmap(again))(offs)
    assert (status == Status.CONVERGED).all()
    assert (steps <= 100).all()
    # what is one already stays so, but for its rounding
    assert (error[:2] <= 1.01 * np.linalg.norm(offs[:2], axis=1)).all()
    assert (error <= 3e-8).all()


def _nonnegative():
    rng = np.random.default_rng(1)
    A = rng.standard_normal((12, 5))
    b = A @ np.maximum(rng.standard_normal(5), 0) + 0.3 * rng.standard_normal(12)
    return A, b, scipy.optimize.nnls(A, b)[1] ** 2 / 2


NONNEGATIVE = _nonnegative()
#: objective, start, bounds, and the minimum: problems 45, 3 and 4 of Hock and Schittkowski, and least squares
BOUNDED = {
    "product": (lambda u: 2 - jnp.prod(u) / 120, [0.5] * 5, ([0] * 5, [1, 2, 3, 4, 5]), 1.0),
    "nearly flat": (lambda u: u[1] + 1e-5 * (u[1] - u[0]) ** 2, [10, 1], ([-np.inf, 0], [np.inf] * 2), 0.0),
    "linear element": (lambda u: (u[0] + 1) ** 3 / 3 + u[1], [1.125, 0.125], ([1, 0], [np.inf] * 2), 8 / 3),
    "nonnegative": (
        lambda u: 0.5 * jnp.sum((jnp.asarray(NONNEGATIVE[0], u.dtype) @ u - jnp.asarray(NONNEGATIVE[1], u.dtype)) ** 2),
        [0] * 5,
        ([0] * 5, [np.inf] * 5),
        NONNEGATIVE[2],
    ),
}


@pytest.mark.by_default("product-ProjectedNewton-float32", "product-LBFGSB-float64")
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("solver", [dini.LBFGSB(), dini.ProjectedNewton()], ids=lambda solver: solver.name)
@pytest.mark.parametrize("name", BOUNDED)
def test_bounds_in_units_of_each_element(name, solver, dtype):
    """In whatever units value and elements are, the same minimum is found within bounds."""
    fun, start, bounds, minimum = BOUNDED[name]
    n = len(start)
    lower, upper = (jnp.asarray(bound, dtype) for bound in bounds)
    unlike = 10.0 ** np.linspace(-3, 3, n)
    settings = [(1, np.ones(n)), (1e6, np.ones(n)), (1e-6, np.ones(n)), (1, 1e3 * np.ones(n)), (1, 1e-3 * np.ones(n))]
    settings += [(1, unlike), (1, unlike[::-1]), (1e6, unlike)]
    scale, unit = (jnp.asarray(np.stack(part), dtype) for part in zip(*settings, strict=True))

    @jax.jit
    @jax.vmap
    def solved(c, unit):
        scaled = lambda x, c, unit: c * fun(x / unit)
        box = sets.Box(lower * unit, upper * unit)
        x = jnp.asarray(start, dtype) * unit
        found = dini.minimize(scaled, x, c, unit, constraint=box, solver=solver, on_failure="ignore")
        return found.value / c, found.status

    value, status = solved(scale, unit)
    assert (status == dini.Status.CONVERGED).all(), status
    np.testing.assert_allclose(value, minimum, atol=1e-6 if dtype == jnp.float64 else 1e-4)
