"""What a solve returns: its value, its words, what it is not, and who may stop it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini import Status

A = np.array([1.0, 2.0])


def objective(x, a):
    return jnp.sum((x - a) ** 2) + jnp.sum(x**4) + jnp.sum(a)


def solve(a, **options):
    return dini.minimize(objective, jnp.zeros(2), a, **options)


STEPPING = [
    dini.BFGS(),
    dini.LBFGS(),
    dini.NonlinearCG(),
    dini.Newton(),
    dini.GradientDescent(),
    dini.OptaxSolver(optax.sgd(0.05)),
    dini.ArmijoSGD(),
]


@pytest.mark.by_default("LBFGS", "GradientDescent", "OptaxSolver", "ArmijoSGD")
@pytest.mark.parametrize("solver", STEPPING, ids=lambda s: s.name)
def test_value_is_the_objective_at_the_returned_point(solver):
    """Also where the solve failed, took no step, or took a fixed number."""

    @jax.jit
    def values(a):
        some = [
            solve(a, solver=solver, on_failure="ignore"),
            solve(a, solver=solver, on_failure="ignore", steps=3),
            dini.minimize(objective, a + 1e-3, a, solver=solver, steps=1, on_failure="ignore"),
        ]
        return [(s.value, objective(s.x, a)) for s in some]

    for value, expected in values(A):
        np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_value_where_no_step_is_taken():
    idle = solve(A, solver=dini.LBFGS(max_steps=0), on_failure="ignore")
    assert idle.value == objective(jnp.zeros(2), A)
    # a state goes on with other arguments: the value is theirs
    first = solve(A, return_state=True)
    again = dini.minimize(lambda x, a: objective(x, A) + a, first.x, 7.0, state=first.state)
    np.testing.assert_allclose(again.value, first.value + 7.0)


def test_value_of_equations_and_least_squares():
    t = jnp.linspace(0, 1, 5)
    residuals = lambda p: p[0] * jnp.exp(p[1] * t) - 1 - t**2
    fit = dini.least_squares(residuals, jnp.ones(2))
    np.testing.assert_allclose(fit.value, 0.5 * jnp.sum(residuals(fit.x) ** 2), rtol=1e-13)
    robust = dini.least_squares(residuals, jnp.ones(2), loss=dini.losses.Cauchy(1.0))
    np.testing.assert_allclose(robust.value, 0.5 * jnp.sum(jnp.log1p(residuals(robust.x) ** 2)), rtol=1e-12)
    equation = lambda x: {"u": x["u"] ** 2 - 2.0, "v": x["u"] * x["v"] - 1.0}
    for solver in (dini.Newton(max_steps=3), dini.LevenbergMarquardt(max_steps=3), dini.Broyden(max_steps=3)):
        root = dini.root(equation, {"u": 1.0, "v": 1.0}, solver=solver, on_failure="ignore")
        r = equation(root.x)
        assert root.value > 0
        np.testing.assert_allclose(root.value, 0.5 * (r["u"] ** 2 + r["v"] ** 2), rtol=1e-12)
    point = dini.fixed_point(jnp.cos, 1.0, solver=dini.FixedPointIteration(max_steps=5), on_failure="ignore")
    np.testing.assert_allclose(point.value, 0.5 * (point.x - jnp.cos(point.x)) ** 2, rtol=1e-12)
    complex_root = dini.root(lambda z: z**2 + 1.0, 1.0 + 1.0j)
    assert complex_root.value < 1e-15


def test_value_counts_the_penalty():
    y = jnp.array([2.0, 0.1])
    lasso = dini.minimize(lambda x: 0.5 * jnp.sum((x - y) ** 2), jnp.zeros(2), penalty=dini.penalties.L1(0.5))
    np.testing.assert_allclose(lasso.value, 0.5 * (0.25 + 0.01) + 0.5 * 1.5, rtol=1e-7)
    # of a proximal operator alone nobody knows the value
    own = dini.penalties.Custom(prox=lambda x, step: x)
    assert np.isnan(dini.minimize(lambda x: jnp.sum((x - y) ** 2), jnp.zeros(2), penalty=own).value)


def test_value_is_differentiable():
    """Of parameters, of what the objective closes over, and of a radius."""
    expected = jax.grad(lambda a: objective(solve(a).x, a))(A)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda a: solve(a).value))(A), expected, rtol=1e-12)
    ball = lambda r: (
        dini.minimize(lambda x: jnp.sum((x - r * A) ** 2), jnp.zeros(2), constraint=dini.sets.L2Ball(0.5 * r)).value
    )
    np.testing.assert_allclose(jax.grad(ball)(1.0), 2 * (np.sqrt(5) - 0.5) ** 2, rtol=1e-6)


@pytest.mark.thorough
def test_value_is_differentiable_in_every_mode_and_order():
    by_hand = lambda a, **options: objective(solve(a, **options).x, a)
    for options in ({}, {"steps": 3, "differentiation": dini.Unrolled()}):
        value = lambda a, options=options: solve(a, **options).value
        expected = jax.grad(lambda a, options=options: by_hand(a, **options))(A)
        np.testing.assert_allclose(jax.jit(jax.grad(value))(A), expected, rtol=1e-12)
        np.testing.assert_allclose(jax.jacfwd(value)(A), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.hessian(lambda a: solve(a).value)(A), jax.hessian(by_hand)(A), rtol=1e-6)


def test_value_of_functions_with_one_mode():
    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, c: (2 * x * c,))
    value = lambda a: dini.minimize(lambda x, a: jnp.sum(square(x - a)) + a, 0.0, a).value
    np.testing.assert_allclose(jax.grad(value)(2.0), 1.0)
    np.testing.assert_allclose(jax.jacfwd(value)(2.0), 1.0)


def test_value_in_lower_precision():
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        solution = dini.minimize(lambda x: jnp.sum((x - 1) ** 2) + 3, jnp.zeros(2, dtype), steps=3)
        assert solution.value.dtype == jnp.float32
        np.testing.assert_allclose(solution.value, 3, rtol=1e-2)


def test_words():
    solution = solve(A)
    lines = repr(solution).splitlines()
    assert lines[0] == "Solution: CONVERGED. The stopping test was met."
    assert [line.split()[0] for line in lines[1:]] == ["x", "steps", "error", "solver", "value"]
    assert lines[-1].endswith(f"{solution.value:.9g}")
    lanes = jax.vmap(lambda a: solve(a, solver=dini.Newton(max_steps=4), on_failure="ignore"))(
        jnp.stack([A, 100 * A, 0 * A])
    )
    assert repr(lanes).startswith("Solution of a batch of shape [3]: 2 MAX_STEPS, 1 CONVERGED. The solver reached")
    assert repr(solve(A, steps=2)).startswith("Solution: CONVERGED. All requested steps were taken.")
    traced = []
    jax.jit(lambda a: traced.append(repr(solve(a))))(A)
    jax.grad(lambda a: (traced.append(repr(solve(a))), solve(a).x.sum())[1])(A)
    assert all(text.startswith("Solution: ") and "float64[2]" in text for text in traced)
    # a tree of anything else
    assert "Solution" in repr(jax.tree.map(lambda _: None, solution))
    assert "Solution" in repr(jax.eval_shape(solve, A))
    assert "Solution" in repr(jax.tree.structure(solution))


@pytest.mark.parametrize(
    ("name", "place"),
    [("fun", "value"), ("params", "x"), ("nit", "stats.steps"), ("jac", "jax.grad"), ("result", "status")],
)
def test_names_of_other_libraries(name, place):
    with pytest.raises(AttributeError, match=rf"Solution has no attribute '{name}'.*{place}"):
        getattr(solve(A), name)
    assert not hasattr(solve(A), name)


def test_a_solution_does_not_unpack():
    with pytest.raises(TypeError, match=r"take solution\.x.*solution\.state"):
        _x, _state = solve(A)
    with pytest.raises(TypeError, match=r"solution\.x"):
        solve(A)[0]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(solve(A), "nonsense")  # noqa: B009


def test_a_solution_is_a_tree():
    solution = solve(A, return_state=True)
    leaves, treedef = jax.tree.flatten(solution)
    again = jax.tree.unflatten(treedef, leaves)
    assert type(again) is dini.Solution
    assert again.x is solution.x
    assert again.state.value is solution.state.value
    assert jax.tree_util.tree_leaves_with_path(solution)[0][0] == (jax.tree_util.GetAttrKey("x"),)
    _, seen = jax.lax.scan(lambda a, _: (a + 1, solve(a)), jnp.asarray(A), None, length=3)
    assert seen.status.shape == seen.value.shape == (3,)
    moved = solution._replace(x=jnp.ones(2))
    assert moved.value == solution.value
    assert moved.x[0] == 1
    with pytest.raises(AttributeError):
        solution.x = 0


def test_failed_solves_hide_no_value():
    lost = dini.GradientDescent(max_steps=2)
    assert np.isnan(solve(A, solver=lost, on_failure="nan").value)
    assert np.isnan(jax.jit(lambda a: solve(a, solver=lost, on_failure="nan").value)(A))
    # who looks at the value alone hears of the failure, too
    with pytest.raises(Exception, match="MAX_STEPS after 2 steps"):
        jax.block_until_ready(jax.jit(lambda a: solve(a, solver=lost).value)(A))


VERBS = {
    "minimize": (lambda **o: dini.minimize(objective, jnp.zeros(2), A, **o)),
    "least_squares": (lambda **o: dini.least_squares(lambda x: x**3 + x - A, jnp.zeros(2), **o)),
    "root": (lambda **o: dini.root(lambda x: x**3 + x - A, jnp.zeros(2), **o)),
    "fixed_point": (lambda **o: dini.fixed_point(lambda x: 0.5 * jnp.cos(x), jnp.zeros(2), **o)),
}


@pytest.mark.by_default("minimize", "root")
@pytest.mark.parametrize("verb", VERBS)
def test_options_of_the_verbs(verb):
    call = VERBS[verb]
    whole = call(return_state=True)
    two = call(steps=2, return_state=True)
    assert two.success
    assert two.stats.steps == 2
    assert call().state is None
    assert call(time_limit=60.0).success
    rest = call(state=whole.state)
    assert rest.success
    with pytest.raises(ValueError, match="time_limit must be a positive"):
        call(time_limit=-1.0)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        call(steps=0)


# ---- so many steps


@pytest.mark.by_default("GradientDescent", "Newton")
@pytest.mark.parametrize(
    "solver",
    [dini.GradientDescent(step_size=0.05), dini.LBFGS(), dini.Newton(), dini.BFGS(), dini.ProximalGradient()],
    ids=lambda s: s.name,
)
def test_so_many_steps(solver):
    """As those of Unrolled(steps=...), and of a loop by hand, with a value, an error and success at the end."""
    problem, count = dini.Minimize(objective), 7

    @jax.jit
    def run(a):
        x, state = jnp.zeros(2), solver.init(problem, jnp.zeros(2), a)
        for _ in range(count):
            x, state = solver.fixed_steps().step(problem, x, state, a)
        plain = dini.solve(problem, solver, jnp.zeros(2), a, steps=count)
        unrolled = dini.solve(problem, solver, jnp.zeros(2), a, steps=count, differentiation=dini.Unrolled())
        own = dini.solve(problem, solver, jnp.zeros(2), a, differentiation=dini.Unrolled(steps=count))
        return x, state.error, plain, unrolled, own

    x, error, *solutions = run(A)
    for solution in solutions:
        assert solution.success
        assert solution.stats.steps == count
        np.testing.assert_allclose(solution.x, x, rtol=1e-12)
        np.testing.assert_allclose(solution.stats.error, error, rtol=1e-9, atol=1e-15)


@pytest.mark.thorough
def test_derivatives_of_so_many_steps():
    solver = dini.GradientDescent(step_size=0.1)
    quadratic = lambda x, a: (x - a) ** 2
    end = lambda a, mode: dini.minimize(quadratic, 0.0, a, solver=solver, steps=5, differentiation=mode).x
    np.testing.assert_allclose(jax.grad(end)(1.0, dini.Unrolled()), 1 - 0.8**5)
    # the theorem at the point that five steps reach: the Hessian is the same everywhere
    np.testing.assert_allclose(jax.grad(end)(1.0, dini.Implicit()), 1.0)
    np.testing.assert_allclose(jax.grad(end)(1.0, dini.OneStep()), 0.2)
    np.testing.assert_allclose(jax.grad(end)(1.0, dini.Unrolled(last=2)), 1 - 0.8**2)
    np.testing.assert_allclose(end(1.0, dini.Unrolled(last=2)), 1 - 0.8**5)
    lanes = jax.vmap(jax.grad(lambda a: end(a, dini.Unrolled())))(jnp.ones(2))
    np.testing.assert_allclose(lanes, 1 - 0.8**5)


@pytest.mark.thorough
def test_steps_beyond_the_test_and_the_limit():
    count = 30
    solution = solve(A, solver=dini.GradientDescent(step_size=0.05, tol=1e3, max_steps=2), steps=count)
    assert solution.stats.steps == count
    assert solution.stats.error < 0.1
    # far beyond convergence nothing moves, and nothing fails
    assert solve(A, solver=dini.LBFGS(), steps=200).stats.error < 1e-6
    first = solve(A, solver=dini.BFGS(), steps=3, return_state=True)
    second = dini.minimize(objective, first.x, A, solver=dini.BFGS(), steps=4, state=first.state)
    np.testing.assert_allclose(second.x, solve(A, solver=dini.BFGS(), steps=7).x, rtol=1e-12)


def test_steps_that_fail():
    cliff = lambda x: jnp.where(x < 3, -x, jnp.nan)
    run = lambda **o: dini.minimize(cliff, 0.5, solver=dini.GradientDescent(step_size=1.0), steps=6, **o)
    with pytest.raises(dini.SolveError, match="NONFINITE"):
        run()
    assert np.isfinite(run(on_failure="ignore").x)
    assert run(on_failure="ignore").status == Status.NONFINITE
    with pytest.raises(TypeError, match="takes steps"):
        dini.minimize(objective, jnp.zeros(2), A, solver=lambda problem, init, a: a, steps=3)
    with pytest.raises(ValueError, match="exclude each other"):
        solve(A, steps=3, time_limit=1.0)
    with pytest.raises(ValueError, match="disagree"):
        solve(A, steps=3, differentiation=dini.Unrolled(steps=4))
    with pytest.raises(ValueError, match="needs at least"):
        solve(A, steps=3, differentiation=dini.Unrolled(last=4))


# ---- a callback that stops


class Stop:
    def __init__(self, at):
        self.at, self.seen = at, []

    def __call__(self, info):
        self.seen.append(int(info["steps"]))
        if info["steps"] >= self.at:
            raise StopIteration


@pytest.mark.by_default(1)
@pytest.mark.parametrize("every", [1, 2])
def test_a_callback_stops_a_solve(every):
    stop = Stop(3)
    descent = dini.GradientDescent(step_size=0.01)
    solution = solve(A, solver=descent, monitor=dini.Callback(stop, every=every))
    end = 3 if every == 1 else 4
    assert solution.status == Status.STOPPED
    assert not solution.success
    assert solution.stats.steps == end
    assert stop.seen == list(range(every, end + 1, every))
    np.testing.assert_allclose(solution.x, solve(A, solver=descent, steps=end).x)
    assert "callback" in solution.message


@pytest.mark.thorough
def test_a_callback_stops_beside_other_monitors_and_modes():
    descent = dini.GradientDescent(step_size=0.01)
    both = dini.Monitors((dini.Record(10), dini.Callback(Stop(3))))
    solution = jax.jit(lambda a: solve(a, solver=descent, monitor=both))(A)
    assert solution.status == Status.STOPPED
    assert solution.history[1] is None
    assert np.isfinite(solution.history[0]["error"]).sum() == 3
    for options in (
        {"steps": 9},
        {"steps": 9, "differentiation": dini.Unrolled()},
        {"differentiation": dini.Unrolled(steps=9)},
        {"differentiation": dini.Unrolled()},
    ):
        few = dini.GradientDescent(step_size=0.01, max_steps=9)
        stopped = solve(A, solver=few, monitor=dini.Callback(Stop(3)), **options)
        assert (stopped.status, stopped.stats.steps) == (Status.STOPPED, 3), options
    # a step that meets the test is a solution
    assert solve(A, monitor=dini.Callback(Stop(int(solve(A).stats.steps)))).success


def test_a_callback_stops_its_lane():
    def halt(info):
        if info["x"][0] > 10:
            raise StopIteration

    lanes = jax.vmap(lambda a: solve(a, solver=dini.BFGS(), monitor=dini.Callback(halt), on_failure="ignore"))(
        jnp.stack([A, 1e6 * A])
    )
    np.testing.assert_array_equal(lanes.status, [Status.CONVERGED, Status.STOPPED])


@pytest.mark.thorough
def test_the_derivative_of_a_stopped_solve():
    slow = dini.GradientDescent(step_size=0.01)

    def end(a, policy, **options):
        return solve(a, solver=slow, monitor=dini.Callback(Stop(3)), on_failure=policy, **options).x.sum()

    assert np.isfinite(end(A, "raise"))
    for way in (jax.grad, jax.jacfwd):
        with pytest.raises(dini.DerivativeError, match="a callback stopped the solve") as caught:
            way(end)(A, "raise")
        assert caught.value.status == Status.STOPPED
    assert np.isnan(jax.grad(end)(A, "nan")).all()
    assert np.isfinite(jax.grad(end)(A, "ignore")).all()
    # the derivative of three steps is one of three steps
    unrolled = jax.grad(lambda a: end(a, "ignore", differentiation=dini.Unrolled(steps=9)))(A)
    expected = jax.grad(lambda a: solve(a, solver=slow, steps=3, differentiation=dini.Unrolled()).x.sum())(A)
    np.testing.assert_allclose(unrolled, expected, rtol=1e-12)


# ---- states of stochastic solvers


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    "solver",
    [dini.OptaxSolver(optax.adam(0.1), tol=0.0), dini.ArmijoSGD(tol=0.0), dini.PolyakSGD(tol=0.0)],
    ids=lambda s: s.name,
)
def test_states_of_stochastic_solvers(solver):
    def loss(w, batch):
        X, y = batch
        r = X @ w - y
        return jnp.mean(r**2), {"largest": jnp.max(jnp.abs(r)), "count": jnp.asarray(y.size, jnp.int32)}

    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(8, 2)), rng.normal(size=8)) for _ in range(4)]
    problem = dini.Minimize(loss, has_aux=True)
    x = jnp.zeros(2)
    state = solver.init(problem, x, batches[0])
    assert state.steps == 0
    assert state.aux["count"].dtype == jnp.int32
    for k, batch in enumerate(batches):
        value, aux = loss(x, batch)
        x, state = solver.step(problem, x, state, batch)
        assert state.steps == k + 1
        np.testing.assert_allclose(state.value, value, rtol=1e-12)
        np.testing.assert_allclose(state.aux["largest"], aux["largest"], rtol=1e-12)
    run = dini.run_iterator(problem, solver, jnp.zeros(2), batches)
    np.testing.assert_allclose(run.x, x, rtol=1e-12)
    assert run.state.steps == 4
    np.testing.assert_allclose(run.value, loss(run.x, batches[-1])[0], rtol=1e-12)
    assert solver.init(dini.Minimize(lambda w: jnp.sum(w**2)), x).aux is None
