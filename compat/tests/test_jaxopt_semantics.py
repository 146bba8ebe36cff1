"""What JAXopt's arguments mean: auxiliary outputs, loops by hand, Python loops, warnings, batches, precision."""

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
import dini_jaxopt as jaxopt
from dini.status import SolveWarning

X = np.array([[1.0, 0.0], [0.0, 2.0]])
Y = np.array([2.0, 5.0])
ZERO = np.zeros(2)


def ridge(w, strength, X, y):
    return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * strength * jnp.sum(w**2)


def with_aux(w, strength, X, y):
    return ridge(w, strength, X, y), {"predicted": X @ w}


@pytest.mark.by_default("each")
@pytest.mark.parametrize("name", ["GradientDescent", "LBFGS", "NonlinearCG", "ArmijoSGD"])
@pytest.mark.parametrize("form", ["aux", "gradient", "both"])
def test_forms_of_objectives(name, form):
    fun = {"aux": with_aux, "gradient": jax.value_and_grad(ridge), "both": jax.value_and_grad(with_aux, has_aux=True)}
    settings = {"has_aux": form != "gradient", "value_and_grad": form != "aux", "implicit_diff": True}
    solver = getattr(jaxopt, name)(fun[form], tol=1e-8, **settings)

    @jax.jit
    def both(strength):
        run = lambda s: solver.run(ZERO, s, X=X, y=Y)
        return run(strength), jax.jacrev(lambda s: run(s).params)(strength)

    (params, state), slope = both(0.5)
    np.testing.assert_allclose(params, [1.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(slope, [-1.0, -0.8], rtol=1e-5)
    if form == "gradient":
        assert state.aux is None
    elif name != "ArmijoSGD":  # whose output is that of the last batch
        np.testing.assert_allclose(state.aux["predicted"], X @ params)


@pytest.mark.by_default("each")
@pytest.mark.parametrize("name", ["GradientDescent", "LBFGS", "BFGS", "NonlinearCG"])
@pytest.mark.parametrize("loop", ["scan", "python"])
def test_loops_by_hand(name, loop):
    """An update is an iteration: it moves the point, and lowers the objective."""
    solver = getattr(jaxopt, name)(with_aux, has_aux=True, tol=1e-9)
    state = solver.init_state(ZERO, 0.5, X, y=Y)
    assert state.error == jnp.inf
    assert state.iter_num == 0
    if loop == "scan":

        def body(now, _):
            step = solver.update(*now, 0.5, X, y=Y)
            return tuple(step), (step.params, step.state.error)

        (params, state), (path, errors) = jax.jit(lambda: jax.lax.scan(body, (ZERO, state), None, length=12))()
    else:
        params, path, errors = ZERO, [], []
        for _ in range(12):
            params, state = solver.update(params, state, 0.5, X, y=Y)
            path.append(params)
            errors.append(state.error)
    assert state.iter_num == 12
    values = [float(ridge(w, 0.5, X, Y)) for w in (ZERO, *path)]
    assert values[1] < values[0] - 1
    assert min(values) == pytest.approx(values[-1], abs=1e-3)
    np.testing.assert_allclose(params, [1.0, 2.0], atol=2e-3 if name == "GradientDescent" else 1e-7)
    np.testing.assert_allclose(state.aux["predicted"], X @ params)
    if hasattr(state, "value"):
        np.testing.assert_allclose(state.value, ridge(params, 0.5, X, Y))


def test_plain_gradient_descent_is_that():
    solver = jaxopt.GradientDescent(ridge, stepsize=0.3, acceleration=False)
    params, state = ZERO, solver.init_state(ZERO, 0.5, X, Y)
    expected = ZERO
    for i in range(4):
        gradient = jax.grad(ridge)(expected, 0.5, X, Y)
        params, state = solver.update(params, state, 0.5, X, Y)
        expected = expected - 0.3 * gradient
        np.testing.assert_allclose(params, expected, rtol=1e-12)
        np.testing.assert_allclose(state.error, jnp.linalg.norm(gradient))
        assert state.stepsize == 0.3
        assert state.iter_num == i + 1


def test_run_is_updates():
    solver = jaxopt.LBFGS(ridge, maxiter=3, tol=0.0)
    run = solver.run(ZERO, 0.5, X, Y)
    step = jaxopt.OptStep(ZERO, solver.init_state(ZERO, 0.5, X, Y))
    for _ in range(3):
        step = solver.update(*step, 0.5, X, Y)
    np.testing.assert_allclose(run.params, step.params, rtol=1e-12)
    assert run.state.iter_num == step.state.iter_num == 3


def test_loops_of_python():
    """With jit=False the function sees values, and may be NumPy's."""

    def by_numpy(w, strength):
        w, X_, y_ = (np.asarray(part) for part in (w, X, Y))
        r = X_ @ w - y_
        value = 0.5 * np.mean(r**2) + 0.5 * strength * np.sum(w**2)
        return jnp.asarray(value), jnp.asarray(X_.T @ r / 2 + strength * w)

    solver = jaxopt.GradientDescent(by_numpy, value_and_grad=True, jit=False, stepsize=0.4, tol=1e-5)
    params, state = solver.run(ZERO, 0.5)
    np.testing.assert_allclose(params, [1.0, 2.0], rtol=1e-4)
    assert state.status == dini.Status.CONVERGED

    def branches(w, a):
        return jnp.sum((w - a) ** 2) if w[0] < 100 else jnp.sum(w)

    settings = {"jit": False, "stepsize": 0.3, "acceleration": False, "tol": 1e-6}
    for solver in (
        jaxopt.GradientDescent(branches, implicit_diff=False, **settings),
        jaxopt.GradientDescent(branches, **settings),
    ):
        slope = jax.grad(lambda a, solver=solver: jnp.sum(solver.run(ZERO, a).params))(3.0)
        np.testing.assert_allclose(slope, 2.0, rtol=1e-5)


def test_a_run_that_does_not_end_warns_and_says_so():
    solver = jaxopt.GradientDescent(ridge, maxiter=2)
    with pytest.warns(SolveWarning, match=r"jaxopt.GradientDescent .*MAX_STEPS.*maxiter=2 and tol=0.001. Raise"):
        _, state = solver.run(ZERO, 0.5, X, Y)
    assert state.status == dini.Status.MAX_STEPS
    assert state.iter_num == 2
    # in a program the state alone says it
    assert jax.jit(solver.run)(ZERO, 0.5, X, Y).state.status == dini.Status.MAX_STEPS
    # without a test, iterations are what is asked for
    _, state = dataclasses.replace(solver, tol=0.0).run(ZERO, 0.5, X, Y)
    assert state.status == dini.Status.CONVERGED
    assert state.iter_num == 2
    np.testing.assert_array_equal(dataclasses.replace(solver, maxiter=0, tol=0.0).run(ZERO, 0.5, X, Y).params, ZERO)


def test_the_derivative_of_what_is_no_solution_warns():
    solver = jaxopt.GradientDescent(ridge, maxiter=2)
    with pytest.warns(SolveWarning, match="does not satisfy the optimality condition"):
        jax.grad(lambda s: jnp.sum(solver.run(ZERO, s, X, Y).params))(0.5)


@pytest.mark.filterwarnings("ignore::dini.status.SolveWarning")
def test_nan_and_divergence_are_seen():
    nan = jaxopt.LBFGS(lambda x: jnp.log(x - 1).sum()).run(ZERO)
    assert nan.state.status == dini.Status.NONFINITE
    far = jaxopt.GradientDescent(lambda x: jnp.sum(x**2), stepsize=3.0, acceleration=False, maxiter=3000).run(ZERO + 1)
    assert far.state.status in (dini.Status.DIVERGED, dini.Status.NONFINITE)
    assert jnp.all(jnp.isfinite(far.params))


def test_batches_with_a_bad_lane():
    solver = jaxopt.LBFGS(ridge, tol=1e-8)
    run = lambda s: solver.run(ZERO, s, X, Y)
    params, state = jax.jit(jax.vmap(run))(jnp.array([0.5, jnp.nan, 0.25]))
    assert [int(status) for status in state.status] == [0, dini.Status.NONFINITE, 0]
    np.testing.assert_allclose(params[0], [1.0, 2.0], rtol=1e-7)
    np.testing.assert_allclose(
        params[2], jnp.array([0.5, 2.0]) * Y / (jnp.array([0.5, 2.0]) + 0.25) / X.diagonal(), rtol=1e-7
    )


def test_single_precision_and_trees():
    fun = lambda p, a: (p["a"] - a) ** 2 + jnp.sum((p["b"] - a) ** 2)
    start = {"a": jnp.zeros((), jnp.float32), "b": jnp.ones(2, jnp.float32)}
    solver = jaxopt.LBFGS(fun)
    params, state = solver.run(start, jnp.float32(2.0))
    assert params["b"].dtype == state.error.dtype == jnp.float32
    # the curvature is two, and the tolerance on the gradient 1e-3
    np.testing.assert_allclose(params["b"], 2.0, atol=5e-4)
    slope = jax.grad(lambda a: solver.run(start, a).params["a"])(jnp.float32(2.0))
    np.testing.assert_allclose(slope, 1.0, rtol=1e-5)


def test_complex_unknowns():
    fun = lambda z: jnp.sum(jnp.abs(z - (1 + 2j)) ** 2)
    solver = jaxopt.LBFGS(fun, tol=1e-8)
    np.testing.assert_allclose(solver.run(jnp.zeros(2, complex)).params, 1 + 2j)
    start = jnp.zeros(2, complex)
    params = solver.update(start, solver.init_state(start)).params
    assert params.dtype == complex
    assert fun(params) < fun(start)


@pytest.mark.by_default("GradientDescent")
@pytest.mark.parametrize("name", ["LBFGS", "GradientDescent"])
def test_unrolled(name):
    """The derivative of the iterations, in the starting point as well."""
    solver = getattr(jaxopt, name)(ridge, tol=1e-9, implicit_diff=False, maxiter=60)
    slope = jax.jit(jax.jacrev(lambda s: solver.run(ZERO, s, X, Y).params))(0.5)
    np.testing.assert_allclose(slope, [-1.0, -0.8], rtol=1e-5)


def test_unrolled_in_the_start():
    solver = jaxopt.GradientDescent(ridge, stepsize=0.3, acceleration=False, tol=0.0, maxiter=2, implicit_diff=False)
    slope = jax.jacrev(lambda w: solver.run(w, 0.5, X, Y).params)(ZERO)
    hessian = jax.hessian(ridge)(ZERO, 0.5, X, Y)
    once = jnp.eye(2) - 0.3 * hessian
    np.testing.assert_allclose(slope, once @ once, rtol=1e-10)


def test_closures_and_higher_orders():
    """What JAXopt left out in silence, or could not do: closed-over values, forward mode, second derivatives."""
    run = lambda s: jaxopt.LBFGS(lambda w: ridge(w, s, X, Y), tol=1e-9).run(ZERO).params
    np.testing.assert_allclose(jax.jit(jax.jacfwd(run))(0.5), [-1.0, -0.8], rtol=1e-6)
    # the closed form is b / (c + s)
    second = jax.jit(jax.jacfwd(jax.jacrev(run)))(0.5)
    np.testing.assert_allclose(second, [2 * 1.0 / (1.0) ** 3, 2 * 5.0 / 2.5**3], rtol=1e-5)


def test_a_linear_solver_of_the_user():
    calls = []

    def solve(matvec, b):
        calls.append(1)
        return jaxopt.linear_solve.solve_cg(matvec, b)

    solver = jaxopt.LBFGS(ridge, tol=1e-9, implicit_diff_solve=solve)
    slope = jax.jacrev(lambda s: solver.run(ZERO, s, X, Y).params)(0.5)
    np.testing.assert_allclose(slope, [-1.0, -0.8], rtol=1e-6)
    assert calls


def test_verbose(capfd):
    jaxopt.GradientDescent(ridge, maxiter=2, tol=0.0, verbose=True).run(ZERO, 0.5, X, Y)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("INFO: jaxopt.GradientDescent: Iter:") == 2


def test_a_start_that_is_a_step():
    solver = jaxopt.LBFGS(ridge, tol=1e-8)
    step = solver.run(ZERO, 0.5, X, Y)
    again = solver.run(step, 0.5, X, Y)
    np.testing.assert_allclose(again.params, step.params, rtol=1e-7)
    assert again.state.iter_num <= 1
    np.testing.assert_allclose(solver.update(step, step.state, 0.5, X, Y).params, step.params, rtol=1e-7)


def batches(epochs=30):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(64, 2))
    target = data @ np.array([1.0, -2.0])
    return ((data[i : i + 8], target[i : i + 8]) for _ in range(epochs) for i in range(0, 64, 8))


@pytest.mark.parametrize("name", ["ArmijoSGD", "PolyakSGD", "OptaxSolver"])
def test_streams(name):
    fun = lambda w, strength, data: (jnp.mean((data[0] @ w - data[1]) ** 2) + strength * jnp.sum(w**2), data[0].shape)
    more = (optax.sgd(0.1),) if name == "OptaxSolver" else ()
    seen = []

    def before(params, state, *args, **kwargs):
        seen.append(kwargs["data"][0].shape)
        return params, state

    solver = getattr(jaxopt, name)(fun, *more, has_aux=True, maxiter=200, pre_update=before)
    state = solver.init_state(ZERO, strength=0.0, data=next(batches()))
    assert tuple(map(int, state.aux)) == (8, 2)
    params, state = solver.run_iterator(ZERO, batches(), strength=0.0)
    np.testing.assert_allclose(params, [1.0, -2.0], atol=1e-3)
    assert state.iter_num == 200
    assert seen
    assert tuple(map(int, state.aux)) == (8, 2)
    with pytest.raises(ValueError, match="at least one item: given none"):
        solver.run_iterator(ZERO, iter(()), strength=0.0)


def test_updates_of_batches_move_on():
    """A batch whose gradient is below the tolerance is no end of a loop by hand."""
    solver = jaxopt.OptaxSolver(lambda w, data: 1e-6 * jnp.sum((w - data) ** 2), optax.sgd(1e5))
    state = solver.init_state(ZERO, data=Y)
    params, state = solver.update(ZERO, state, data=Y)
    assert jnp.all(params != ZERO)
    assert state.error < 1e-3


@pytest.mark.parametrize("name", ["GradientDescent", "ProximalGradient", "ProjectedGradient", "AndersonWrapper"])
def test_a_state_that_needs_no_data(name):
    """JAXopt's loops by hand may start without the function's arguments, where the state says nothing of it."""
    fun = jaxopt.objective.least_squares
    solver = {
        "GradientDescent": jaxopt.GradientDescent(fun),
        "ProximalGradient": jaxopt.ProximalGradient(fun, jaxopt.prox.prox_lasso),
        "ProjectedGradient": jaxopt.ProjectedGradient(fun, jaxopt.projection.projection_non_negative),
        "AndersonWrapper": jaxopt.AndersonWrapper(jaxopt.GradientDescent(fun, stepsize=0.2)),
    }[name]
    more = (0.0,) if name == "ProximalGradient" else (None,) if name == "ProjectedGradient" else ()
    params, state = ZERO, solver.init_state(ZERO, *more)
    for _ in range(3):
        params, state = solver.update(params, state, *more, data=(X, Y))
    again, whole = ZERO, solver.init_state(ZERO, *more, data=(X, Y))
    for _ in range(3):
        again, whole = solver.update(again, whole, *more, data=(X, Y))
    assert fun(params, (X, Y)) < 0.5 * fun(ZERO, (X, Y))
    np.testing.assert_array_equal(params, again)


def test_a_wrapped_momentum_does_not_outlive_an_extrapolation():
    """JAXopt starts the solver's state again at an extrapolated point; momentum from elsewhere would lead away."""
    optax = pytest.importorskip("optax")
    scales = jnp.array([1.0, 10.0, 100.0])
    descent = jaxopt.OptaxSolver(lambda x: scales @ (x - 1) ** 2, optax.sgd(4e-3, momentum=0.9), maxiter=300, tol=1e-3)
    params, state = jaxopt.AndersonWrapper(descent, history_size=3).run(jnp.zeros(3))
    assert state.error <= 1e-3
    np.testing.assert_allclose(params, 1.0, atol=1e-3)


@pytest.mark.parametrize("name", ["LBFGS", "LBFGSB", "GaussNewton", "ArmijoSGD"])
def test_a_state_that_needs_data_says_so(name):
    settings = {"has_aux": True} if name == "ArmijoSGD" else {}
    solver = getattr(jaxopt, name)(jaxopt.objective.least_squares, **settings)
    with pytest.raises(TypeError, match=f"{name}.init_state evaluates the function .*: 'data' is missing"):
        solver.init_state(ZERO)


def test_states_of_optax_may_be_changed():
    opt = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    solver = jaxopt.OptaxSolver(lambda w: 0.5 * jnp.sum((w - Y) ** 2), opt)
    state = solver.init_state(ZERO)
    state.internal_state.hyperparams["learning_rate"] = jnp.asarray(1.0)
    np.testing.assert_allclose(solver.update(ZERO, state).params, Y)


def test_pre_update_in_a_run():
    halved = lambda params, state, *args: (0.5 * params, state)
    solver = jaxopt.PolyakSGD(lambda w: jnp.sum(w**2), pre_update=halved, max_stepsize=0.25, tol=0.0, maxiter=3)
    np.testing.assert_allclose(solver.run(jnp.ones(2)).params, (0.5 * 0.5) ** 3)


class State(NamedTuple):
    iter_num: Any
    error: Any


@dataclasses.dataclass(eq=False)
class Heron(jaxopt.base.IterativeSolver):
    """A user's own solver of the base class."""

    maxiter: int = 50
    tol: float = 1e-10
    implicit_diff: bool = True

    def init_state(self, init_params, a):
        return State(jnp.asarray(0), jnp.asarray(jnp.inf))

    def update(self, params, state, a):
        new = 0.5 * (params + a / params)
        return jaxopt.OptStep(new, State(state.iter_num + 1, jnp.abs(new - params)))

    def optimality_fun(self, params, a):
        return params**2 - a


@pytest.mark.parametrize("implicit", [True, False])
def test_solvers_of_the_user(implicit):
    solver = Heron(implicit_diff=implicit)
    params, state = solver.run(1.0, 9.0)
    np.testing.assert_allclose(params, 3.0)
    assert 3 < state.iter_num < 10
    np.testing.assert_allclose(jax.jit(jax.grad(lambda a: solver.run(1.0, a).params))(9.0), 1 / 6, rtol=1e-7)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Heron(maxiter=1).run(1.0, 9.0)
    assert any("Heron ended before" in str(warning.message) for warning in seen)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxopt.LBFGS(ridge, linesearch="armijo"), "linesearch must be"),
        (lambda: jaxopt.LBFGS(ridge, linesearch_init="up"), "linesearch_init must be"),
        (lambda: jaxopt.LBFGS(ridge, unroll="yes").run(ZERO, 0.5, X, Y), "unroll must be"),
        (lambda: jaxopt.LBFGSB(ridge, stepsize=0.1), "stepsize must be at most zero"),
        (lambda: jaxopt.NonlinearCG(ridge, method="newton"), "method must be one of"),
        (lambda: jaxopt.ArmijoSGD(ridge, reset_option="no"), "reset_option must be"),
        (lambda: jaxopt.PolyakSGD(ridge, variant="SPS"), "variant must be"),
        (lambda: jaxopt.LevenbergMarquardt(ridge, stop_criterion="x"), "stop_criterion must be"),
        (lambda: jaxopt.LevenbergMarquardt(ridge, solver="svd"), "solver must be"),
        (lambda: jaxopt.BacktrackingLineSearch(ridge, condition="x"), "condition must be"),
        (lambda: jaxopt.ScipyLeastSquares(fun=ridge, loss="l1"), "loss must be"),
        (lambda: jaxopt.ScipyMinimize(fun=ridge, callback=print), "callback must be None"),
    ],
)
def test_the_door(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_deprecated_and_missing_are_told():
    with pytest.warns(DeprecationWarning, match="condition"):
        jaxopt.LBFGS(ridge, linesearch="backtracking", condition="wolfe")
    with pytest.warns(SolveWarning, match="fletcher-reeves"):
        jaxopt.NonlinearCG(ridge, method="fletcher-reeves")
