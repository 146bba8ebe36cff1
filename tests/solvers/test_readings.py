"""What a solver's state tells of its point, for every solver: held against the problem itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini

MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
A = jnp.array([1.0, -0.5])


def cosh(x, a):
    return jnp.sum(jnp.cosh(x["u"] - a)) + 0.5 * x["u"] @ MATRIX @ x["u"]


def residuals(x, a):
    return jnp.concatenate([x["u"] ** 3 - a, 2 * x["u"]])


def pull(x, a):
    return {"u": 0.5 * jnp.cos(x["u"]) + a}


BOX = dini.sets.Box(-1.0, 1.5)
MINIMIZE = dini.Minimize(cosh)
BOUNDED = dini.Minimize(cosh, constraint=BOX)
INEQUALITY = dini.VariationalInequality(lambda x, a: {"u": x["u"] ** 3 + MATRIX @ x["u"] - a}, BOX)
SMOOTH = ("value", "gradient", "step_size")
#: each solver with its problem, and what it must tell
CASES = {
    "GradientDescent": (dini.GradientDescent(), MINIMIZE, SMOOTH),
    "GradientDescent-given": (dini.GradientDescent(0.1), MINIMIZE, SMOOTH),
    "LBFGS": (dini.LBFGS(), MINIMIZE, SMOOTH),
    "LBFGS-given": (dini.LBFGS(step_size=0.2), MINIMIZE, SMOOTH),
    "BFGS": (dini.BFGS(), MINIMIZE, (*SMOOTH, "inverse_hessian")),
    "NonlinearCG": (dini.NonlinearCG(), MINIMIZE, (*SMOOTH, "direction")),
    "LBFGSB": (dini.LBFGSB(), BOUNDED, (*SMOOTH, "curvature")),
    "Newton": (dini.Newton(), MINIMIZE, ()),
    "TrustRegionNewtonCG": (dini.TrustRegionNewtonCG(), MINIMIZE, ()),
    "Dogleg": (dini.Dogleg(), MINIMIZE, ()),
    "NelderMead": (dini.NelderMead(), MINIMIZE, ()),
    "ProjectedNewton": (dini.ProjectedNewton(), BOUNDED, ()),
    "ProximalGradient": (dini.ProximalGradient(), BOUNDED, ("step_size", "momentum", "extrapolated")),
    "ProjectedGradient": (dini.ProjectedGradient(), BOUNDED, ("step_size",)),
    "ProximalNewton": (dini.ProximalNewton(), dini.Minimize(cosh, penalty=dini.penalties.L1(0.1)), ()),
    "CoordinateDescent": (dini.CoordinateDescent(), BOUNDED, ()),
    "FrankWolfe": (dini.FrankWolfe(), BOUNDED, ()),
    "BlockCoordinateDescent": (dini.BlockCoordinateDescent(), BOUNDED, ("value",)),
    "ArmijoSGD": (dini.ArmijoSGD(), MINIMIZE, ("value", "step_size", "velocity", "aux")),
    "PolyakSGD": (dini.PolyakSGD(max_step_size=0.1), MINIMIZE, ("value", "step_size", "velocity", "aux")),
    "OptaxSolver": (dini.OptaxSolver(optax.adam(0.1)), MINIMIZE, ("value", "aux", "inner")),
    "LevenbergMarquardt": (dini.LevenbergMarquardt(), dini.LeastSquares(residuals), ("damping", "growth")),
    "GaussNewton": (dini.GaussNewton(), dini.LeastSquares(residuals), ()),
    "DoglegLeastSquares": (dini.DoglegLeastSquares(), dini.LeastSquares(residuals), ()),
    "Chord": (dini.Chord(), dini.FixedPoint(pull), ()),
    "Broyden": (dini.Broyden(), dini.FixedPoint(pull), ()),
    "NewtonKrylov": (dini.NewtonKrylov(), dini.FixedPoint(pull), ()),
    "FixedPointIteration": (dini.FixedPointIteration(), dini.FixedPoint(pull), ()),
    "Anderson": (dini.Anderson(), dini.FixedPoint(pull), ()),
    "SemismoothNewton": (dini.SemismoothNewton(), INEQUALITY, ("step_size", "direction")),
    "Extragradient": (dini.Extragradient(), INEQUALITY, ("step_size",)),
    "Bisection": (dini.Bisection(-3.0, 3.0), dini.FixedPoint(pull), ("bracket", "bracket_values")),
    "Chandrupatla": (dini.Chandrupatla(-3.0, 3.0), dini.FixedPoint(pull), ("bracket", "bracket_values")),
}
#: of these, value and gradient are those of the point before the step, as the error is
BEFORE = {"GradientDescent-given", "ArmijoSGD", "PolyakSGD", "OptaxSolver"}


def _programs():
    """The solvers of programs, splittings and the like, with problems and starts."""
    c, a = jnp.array([1.0, -2.0]), jnp.array([0.0, 3.0])
    quadratic = dini.QuadraticProgram(Q=jnp.eye(2), c=c, lower=0.0)
    cone = dini.ConeProgram(c=jnp.ones(2), A=-jnp.eye(2), b=-jnp.ones(2), cone=dini.sets.NonNegative())
    nonlinear = dini.NonlinearProgram(lambda x: x[0] + x[1], inequality=lambda x: x @ x - 2.0)
    pair = dini.penalties.Shifted(dini.penalties.L1(1.0), c)
    composite = dini.Composite(None, pair, constraint=dini.sets.Box(0.0, 0.5))
    simplex = dini.Minimize(lambda x: x @ c + x @ x, constraint=dini.sets.Simplex())
    t = jnp.linspace(0.0, 4.0, 9)
    separable = dini.LeastSquares(lambda x: jnp.exp(-jnp.outer(t, x["rates"])) @ x["c"] - jnp.exp(-t))
    for solver in (dini.InteriorPoint(), dini.ActiveSet(), dini.OperatorSplitting()):
        yield solver, quadratic, quadratic.start()
    yield dini.ConicInteriorPoint(), cone, cone.start()
    for solver in (dini.NonlinearInteriorPoint(), dini.AugmentedLagrangian()):
        yield solver, nonlinear, nonlinear.start(jnp.zeros(2))
    smooth = dini.Composite(lambda x: 0.5 * jnp.sum((x - c) ** 2), dini.penalties.L1(1.0), jnp.diff)
    for solver in (dini.ChambollePock(), dini.CondatVu()):
        yield solver, composite, composite.start(a)
    yield dini.ADMM(), smooth, smooth.start(a)
    yield dini.DouglasRachford(), composite, composite.start(a)
    yield dini.MirrorDescent(), simplex, jnp.ones(2) / 2
    yield dini.VariableProjection(linear="c"), separable, {"rates": jnp.array([0.5, 2.0]), "c": jnp.ones(2)}


def test_other_states_tell_their_error():
    """Of each solver that is not looked at below, traced; and none is missing."""
    seen = {type(solver).__name__ for solver, _, _ in CASES.values()}
    for solver, problem, start in _programs():
        told = jax.eval_shape(lambda x, s=solver, p=problem: s.readings(x, s.init(p, x)), start)
        assert "error" in told, solver.name
        seen.add(type(solver).__name__)
    solvers = {name for name in dini.solvers.__all__ if isinstance(getattr(dini.solvers, name), type)}
    solvers = {name for name in solvers if issubclass(getattr(dini.solvers, name), dini.Solver)}
    # which take no steps, or are a base
    assert solvers - seen == {"Function", "HostConeSolver", "Solver"}


@pytest.mark.by_default("GradientDescent-given", "OptaxSolver", "LBFGSB", "Bisection")
@pytest.mark.parametrize("name", CASES)
def test_what_a_state_tells(name):
    solver, problem, needed = CASES[name]

    @jax.jit
    def run(x):
        state = solver.init(problem, x, A)
        for _ in range(4):
            before = x
            x, state = solver.step(problem, x, state, A)
        there = before if name in BEFORE else x
        told = solver.readings(x, state)
        exact = problem.value_and_gradient(there, A) if hasattr(problem, "value_and_gradient") else None
        return told, exact, state.error

    told, exact, error = run({"u": jnp.array([1.3, -0.9])})
    assert {"error", *needed} <= told.keys()
    np.testing.assert_array_equal(told["error"], error)
    if "value" in told:
        np.testing.assert_allclose(told["value"], exact[0], rtol=1e-12)
    if "gradient" in told:
        np.testing.assert_allclose(told["gradient"]["u"], exact[1]["u"], rtol=1e-9, atol=1e-12)
    if "step_size" in told:
        assert 0 < told["step_size"] < jnp.inf
    for vector in ("direction", "velocity", "extrapolated"):
        if vector in told:
            assert jax.tree.map(jnp.shape, told[vector]) == {"u": (2,)}
    if name == "BFGS":
        slope = jnp.concatenate([told["gradient"]["u"]])
        np.testing.assert_allclose(-told["inverse_hessian"] @ slope, told["direction"]["u"], rtol=1e-9)
    if "bracket" in told:
        for end, value in zip(told["bracket"], told["bracket_values"], strict=True):
            np.testing.assert_allclose(value["u"], end["u"] - pull(end, A)["u"], rtol=1e-12)


def test_quasi_newton_steps_of_given_lengths():
    """Plain steps along textbook directions; the sizes are those of a function of the number of the step."""
    fun = lambda x: jnp.sum(jnp.cosh(x)) + 0.5 * x @ MATRIX @ x
    problem, sizes, gradient = dini.Minimize(fun), lambda i: 0.5 / (1 + i), jax.grad(fun)
    for solver in (dini.BFGS(step_size=sizes, scaled=False), dini.LBFGS(step_size=sizes, scaled=False)):
        step = jax.jit(lambda x, state, solver=solver: solver.step(problem, x, state))
        x, state = step(jnp.array([1.0, -2.0]), solver.init(problem, jnp.array([1.0, -2.0])))  # evaluates the start
        point, inverse = np.array([1.0, -2.0]), np.eye(2)
        for i in range(5):
            x, state = step(x, state)
            move = -sizes(i) * inverse @ gradient(point)
            change = gradient(point + move) - gradient(point)
            point = point + move
            rho = 1 / (move @ change)
            left = np.eye(2) - rho * np.outer(move, change)
            inverse = left @ inverse @ left.T + rho * np.outer(move, move)
            np.testing.assert_allclose(x, point, rtol=1e-10)
    assert dini.LBFGS().monotone
    assert not dini.LBFGS(step_size=0.1).monotone
    with pytest.raises(ValueError, match="LBFGS's step_size must be positive: given -1"):
        dini.LBFGS(step_size=-1.0)


def test_block_coordinate_descent_without_values():
    """A penalty that is known by its proximal operator alone: the same minimum as with values."""
    X, y = np.array([[1.0, 0.2], [0.1, 2.0], [-0.3, 1.0]]), np.array([2.0, 5.0, 1.0])
    fun = dini.LinearComposite(lambda z, x, strength: jnp.sum(jnp.cosh(z - y)), lambda strength: X.T)

    def solve(penalty, **settings):
        problem = dini.Minimize(fun, penalty=penalty)
        return dini.solve(problem, dini.BlockCoordinateDescent(tol=1e-9, **settings), jnp.zeros(2), 1.0).x

    l1 = dini.penalties.L1(0.5)
    rows = dini.penalties.Custom(prox=l1.prox)
    with pytest.raises(ValueError, match='pass test="curvature"'):
        solve(rows)
    with pytest.raises(ValueError, match='test="curvature" needs a LinearComposite'):
        dini.solve(BOUNDED, dini.BlockCoordinateDescent(test="curvature"), {"u": jnp.zeros(2)}, A)
    np.testing.assert_allclose(solve(l1, test="curvature"), solve(l1), atol=1e-8)
