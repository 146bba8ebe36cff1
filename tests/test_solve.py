"""The road: statuses, policies, bad input, monitors, steps by hand, caching."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini import Status


def loss(w, strength, X, y):
    return 0.5 * jnp.mean((X @ w - y) ** 2) + 0.5 * strength * jnp.sum(w**2)


RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((20, 4)), RNG.standard_normal(20)
PROBLEM = dini.Minimize(loss)


def closed_form(strength):
    return jnp.linalg.solve(X.T @ X / 20 + strength * jnp.eye(4), X.T @ Y / 20)


def test_ten_lines_of_ridge():
    fit = lambda s: dini.solve(PROBLEM, dini.LBFGS(tol=1e-12), jnp.zeros(4), s, X, Y).x
    np.testing.assert_allclose(fit(0.3), closed_form(0.3), rtol=1e-9)
    np.testing.assert_allclose(jax.jacobian(fit)(0.3), jax.jit(jax.jacobian(closed_form))(0.3), rtol=1e-9)
    want = jax.jit(jax.hessian(lambda s: jnp.sum(closed_form(s))))(0.3)
    np.testing.assert_allclose(jax.jit(jax.hessian(lambda s: jnp.sum(fit(s))))(0.3), want, rtol=1e-8)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("arguments", ["data", "leaves of a module"])
def test_parameters_in_callable_modules(arguments):
    """The arrays of an Equinox module are parameters, its activation function is not."""

    class Model(eqx.Module):
        weight: jax.Array
        activation: object

        def __call__(self, x, shift):
            return jnp.sum(self.activation(self.weight * x - shift) ** 2) + 0.1 * jnp.sum(x**2)

    def solution(weight):
        activation = jnp.tanh if arguments == "data" else jax.nn.softplus
        solver = dini.BFGS(tol=1e-11)
        return dini.minimize(Model(weight, activation), jnp.ones(2), jnp.array([0.3, -0.2]), solver=solver).x

    weight, h = jnp.array([1.0, 2.0]), 1e-5
    jacobian = jax.jacobian(solution)(weight)
    for i in range(2):
        e = jnp.zeros(2).at[i].set(h)
        np.testing.assert_allclose(jacobian[:, i], (solution(weight + e) - solution(weight - e)) / (2 * h), atol=1e-6)


@pytest.mark.parametrize("on_failure", ["raise", "warn", "nan", "ignore"])
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_policies(on_failure, jit):
    solver = dini.GradientDescent(max_steps=2)
    run = lambda s: dini.solve(PROBLEM, solver, jnp.zeros(4), s, X, Y, on_failure=on_failure).x
    run = jax.jit(run) if jit else run
    if on_failure == "raise":
        with pytest.raises(Exception, match="MAX_STEPS"):
            run(0.3).block_until_ready()
    elif on_failure == "warn":
        with pytest.warns(dini.SolveWarning, match="MAX_STEPS"):
            assert np.isfinite(run(0.3)).all()
    else:
        assert np.isnan(run(0.3)).all() == (on_failure == "nan")


@pytest.mark.by_default("Implicit", "OneStep")
@pytest.mark.parametrize("mode", [dini.Implicit(), dini.Unrolled(), dini.OneStep()], ids=lambda m: type(m).__name__)
def test_the_derivative_of_a_failed_solve_is_nan_in_every_mode(mode):
    solver = dini.GradientDescent(max_steps=2)

    def run(s, on_failure="raise"):
        return dini.solve(PROBLEM, solver, jnp.zeros(4), s, X, Y, differentiation=mode, on_failure=on_failure).x.sum()

    assert np.isnan(jax.vmap(jax.grad(run))(jnp.array([0.3, 0.5]))).all()
    assert np.isnan(jax.grad(run)(0.3, "nan"))
    assert np.isfinite(jax.grad(run)(0.3, "ignore"))


def test_nonfinite_objective_is_told_and_the_last_point_is_finite():
    for solver in (dini.LBFGS(), dini.GradientDescent(), dini.Newton(), dini.ProximalGradient(), dini.BFGS()):
        solution = dini.minimize(lambda x: jnp.log(x - 2.0), 1.0, solver=solver, on_failure="ignore")
        assert solution.status == Status.NONFINITE, solver
        assert np.isfinite(solution.x)
    diverging = dini.fixed_point(lambda x: x**2 + 1, 2.0, solver=dini.FixedPointIteration(), on_failure="ignore")
    assert diverging.status == Status.DIVERGED
    with pytest.raises(dini.SolveError, match="NaN or infinite"):
        dini.minimize(lambda x: jnp.log(x - 2.0), 1.0)


def test_stalled_below_the_rounding_level():
    for solver in (dini.GradientDescent(tol=0.0), dini.LBFGS(tol=0.0), dini.BFGS(tol=0.0)):
        solution = dini.solve(PROBLEM, solver, jnp.zeros(4), 0.3, X, Y, on_failure="ignore")
        assert not solution.success
        assert solution.status in (Status.STALLED, Status.MAX_STEPS)
        assert "tol" in solution.message
        np.testing.assert_allclose(solution.x, closed_form(0.3), atol=1e-8)


def test_singular_newton_system():
    solution = dini.root(lambda x: jnp.array([x[0] + x[1], x[0] + x[1] - 1.0]), jnp.zeros(2), on_failure="ignore")
    assert solution.status == Status.SINGULAR


BAD = [
    (lambda: dini.minimize(lambda x: x, jnp.zeros(2)), TypeError, "must return one real floating-point number: given"),
    (lambda: dini.minimize(lambda x: jnp.sum(x) * 1j, jnp.zeros(2)), TypeError, "one real floating-point number"),
    (lambda: dini.minimize(lambda x: jnp.sum(x), jnp.arange(3)), TypeError, r"init.*must be a floating-point.*int"),
    (lambda: dini.minimize(lambda x: jnp.sum(x["a"]), {"a": jnp.arange(3)}), TypeError, r"init\['a'\] must be"),
    (lambda: dini.root(lambda x: x[:1], jnp.zeros(2)), TypeError, "structure, shapes and dtypes of the unknown x"),
    (lambda: dini.fixed_point(lambda x: {"a": x}, jnp.zeros(2)), TypeError, "given {a: float64.2.}, needed float64.2."),
    (lambda: dini.root(lambda x: x.astype(jnp.float32), jnp.zeros(2)), TypeError, "given float32.2., needed float64"),
    (lambda: dini.least_squares(lambda x: x.astype(int), jnp.zeros(2)), TypeError, "floating-point residuals"),
    (lambda: dini.LBFGS(tol=-1.0), ValueError, "LBFGS's tol must be nonnegative: given -1.0"),
    (lambda: dini.LBFGS(history=0), ValueError, "history must be at least 1: given 0"),
    (lambda: dini.LBFGS(max_steps=1.5), TypeError, "max_steps must be a Python integer: given 1.5"),
    (lambda: dini.GradientDescent(step_size=0.0), ValueError, "step_size must be positive: given 0.0"),
    (lambda: dini.LBFGS(stepsize=1.0), TypeError, "stepsize"),
    (lambda: dini.Unrolled(steps=0), ValueError, "positive integer or None: given 0"),
    (lambda: dini.sets.Simplex(-1.0), ValueError, "radius must be positive: given -1.0"),
    (lambda: dini.sets.Box(1.0, 0.0), ValueError, "lower must not be above upper"),
    (lambda: dini.penalties.L1(-0.1), ValueError, "strength must be nonnegative"),
    (lambda: dini.minimize(jnp.sum, jnp.zeros((2, 2)), constraint=dini.sets.Simplex()), ValueError, "needs axis="),
    (
        lambda: dini.minimize(jnp.sum, jnp.zeros(2), constraint=dini.sets.Box(jnp.zeros(3))),
        ValueError,
        r"\(3,\), needed \(2,\)",
    ),
    (
        lambda: dini.Minimize(jnp.sum, constraint=dini.sets.L1Ball(), penalty=dini.penalties.L1(1.0)),
        ValueError,
        "proximal operator of L1 on L1Ball is not known",
    ),
    (lambda: dini.Minimize(3.0), TypeError, "fun must be callable: given 3.0"),
    (lambda: dini.solve(jnp.sum, dini.LBFGS(), jnp.zeros(2)), TypeError, "problem must be a Minimize"),
    (lambda: dini.solve(PROBLEM, dini.LBFGS, jnp.zeros(4), 0.3, X, Y), TypeError, "solver must be an object"),
    (lambda: dini.solve(PROBLEM, dini.LBFGS(), jnp.zeros(4), 0.3, X, "y"), TypeError, r"args\[2\] must be an array"),
    (
        lambda: dini.solve(PROBLEM, dini.Newton(linear_solver="cg"), jnp.zeros(4), 0.3, X, Y),
        TypeError,
        "linear_solver must",
    ),
    (lambda: dini.minimize(jnp.sum, jnp.zeros(2), on_failure="shout"), ValueError, "on_failure must be one of"),
    (
        lambda: dini.solve(dini.Root(jnp.sin), dini.LBFGS(), 1.0),
        TypeError,
        "LBFGS solves problems of the kinds Minimize",
    ),
    (
        lambda: dini.solve(PROBLEM, dini.LBFGS(), jnp.zeros(4), 0.3, X, Y, differentiation=dini.OneStep()),
        ValueError,
        "OneStep needs a solver with a differentiable step; LBFGS has none",
    ),
    (
        lambda: dini.solve(PROBLEM, lambda p, x, *a: x, jnp.zeros(4), 0.3, X, Y, differentiation=dini.Unrolled()),
        ValueError,
        "Unrolled needs a solver that takes steps",
    ),
    (lambda: dini.minimize(lambda x: (jnp.sum(x), 1, 2), jnp.zeros(2), has_aux=True), TypeError, "pair"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_raises_at_the_door(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_auxiliary_output_is_differentiable():
    fun = lambda x, a: (jnp.sum((x - a) ** 2), {"twice": 2 * x, "count": 3})
    solution = dini.minimize(fun, jnp.zeros(2), jnp.ones(2), has_aux=True)
    assert solution.aux["count"] == 3
    got = jax.jacobian(lambda a: dini.minimize(fun, jnp.zeros(2), a, has_aux=True).aux["twice"])(jnp.ones(2))
    np.testing.assert_allclose(got, 2 * np.eye(2), atol=1e-7)


def test_the_starting_point_has_derivative_zero():
    start = lambda x0: dini.solve(PROBLEM, dini.LBFGS(), x0, 0.3, X, Y).x.sum()
    np.testing.assert_array_equal(jax.grad(start)(jnp.ones(4)), 0)
    one_step = lambda x0: dini.root(lambda x: x**2 - 4.0, x0, differentiation=dini.OneStep()).x
    assert jax.grad(one_step)(1.0) == 0


@pytest.mark.by_default("jit")
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_monitors(jit):
    seen = []
    monitor = dini.Monitors((dini.Callback(seen.append), dini.Record(50), dini.Callback(lambda info: None, every=3)))
    run = lambda s: dini.solve(PROBLEM, dini.LBFGS(), jnp.zeros(4), s, X, Y, monitor=monitor)
    solution = (jax.jit(run) if jit else run)(0.3)
    jax.effects_barrier()
    steps = int(solution.stats.steps)
    assert sorted(int(info["steps"]) for info in seen) == list(range(1, steps + 1))
    errors = solution.history[1]["error"]
    assert np.isfinite(errors[:steps]).all()
    assert np.isnan(errors[steps:]).all()
    assert errors[steps - 1] == solution.stats.error


def test_progress_bar(capfd):
    dini.solve(PROBLEM, dini.LBFGS(), jnp.zeros(4), 0.3, X, Y, monitor=dini.ProgressBar(every=2))
    jax.effects_barrier()
    assert "step 2  error" in capfd.readouterr().err


@pytest.mark.thorough  # seconds of compilation: `.ci/run` runs it
def test_step_by_step_is_the_same_as_solve():
    for solver in (dini.LBFGS(), dini.GradientDescent(), dini.ProximalGradient(), dini.Newton()):
        x, s = jnp.zeros(4), 0.3
        state = solver.init(PROBLEM, x, s, X, Y)
        step = solver.step if solver.name == "GradientDescent" else jax.jit(solver.step)
        steps = 0
        while not state.error <= 1e-8:
            x, state = step(PROBLEM, x, state, s, X, Y)
            steps += 1
        solution = dini.solve(PROBLEM, dataclasses.replace(solver, tol=1e-8), jnp.zeros(4), s, X, Y)
        assert steps == solution.stats.steps
        np.testing.assert_allclose(x, solution.x, rtol=1e-12)


def test_schedules_and_optax():
    """A step size may be a schedule of optax's."""
    schedule = optax.exponential_decay(0.5, 100, 0.9)
    solution = dini.solve(PROBLEM, dini.GradientDescent(step_size=schedule, tol=1e-8), jnp.zeros(4), 0.3, X, Y)
    np.testing.assert_allclose(solution.x, closed_form(0.3), atol=1e-7)


def test_equal_problems_and_solvers_do_not_compile_again():
    from dini.solving import _solve

    dini.solve(dini.Minimize(loss), dini.LBFGS(), jnp.zeros(4), 0.3, X, Y)
    dini.minimize(loss, jnp.zeros(4), 0.3, X, Y)
    before = _solve._cache_size()
    for strength in (0.4, 0.5):
        dini.solve(dini.Minimize(loss), dini.LBFGS(tol=None), jnp.ones(4), strength, X, Y)
        dini.minimize(loss, jnp.ones(4), strength, X, Y)
    assert _solve._cache_size() == before


def test_memory_of_the_implicit_gradient_does_not_grow_with_the_steps():
    def bytes_of(steps, mode):
        solver = dini.GradientDescent(step_size=0.1, tol=0.0, max_steps=steps)
        run = lambda s, X, Y: dini.solve(
            PROBLEM, solver, jnp.zeros(4), s, X, Y, differentiation=mode, on_failure="ignore"
        ).x.sum()
        return jax.jit(jax.grad(run)).lower(0.3, X, Y).compile().memory_analysis().temp_size_in_bytes

    assert bytes_of(200, dini.Implicit()) == bytes_of(20_000, dini.Implicit())
    assert bytes_of(20_000, dini.Unrolled()) < 0.1 * bytes_of(20_000, dini.Unrolled(checkpoint=False))


def test_unrolled_takes_the_steps_it_is_told_and_differentiates_the_iterate():
    """Gradient descent on a quadratic: the t-th iterate and its derivative in closed form."""
    solver = dini.GradientDescent(step_size=0.1, tol=0.0)
    problem = dini.Minimize(lambda x, a: 0.5 * a * x**2)

    def iterate(a, steps=7):
        mode = dini.Unrolled(steps=steps)
        return dini.solve(problem, solver, 2.0, a, differentiation=mode, on_failure="ignore").x

    a = 3.0
    np.testing.assert_allclose(iterate(a), 2 * (1 - 0.1 * a) ** 7, rtol=1e-12)
    want = -2 * 7 * 0.1 * (1 - 0.1 * a) ** 6
    np.testing.assert_allclose(jax.grad(iterate)(a), want, rtol=1e-12)
    np.testing.assert_allclose(jax.jacfwd(iterate)(a), want, rtol=1e-12)
    through_start = lambda x0: (
        dini.solve(problem, solver, x0, a, differentiation=dini.Unrolled(steps=7), on_failure="ignore").x
    )
    np.testing.assert_allclose(jax.grad(through_start)(2.0), (1 - 0.1 * a) ** 7, rtol=1e-12)


@pytest.mark.thorough
def test_one_solve_under_shard_map_and_scan():
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("batch")
    fit = lambda s: jax.vmap(lambda s: dini.solve(PROBLEM, dini.LBFGS(), jnp.zeros(4), s, X, Y).x)(s)
    strengths = jnp.array([0.3, 0.5])
    sharded = jax.shard_map(fit, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    want = jax.vmap(closed_form)(strengths)
    np.testing.assert_allclose(jax.jit(sharded)(strengths), want, atol=1e-7)
    scanned = jax.lax.scan(lambda c, s: (c, fit(s[None])[0]), 0.0, strengths)[1]
    np.testing.assert_allclose(scanned, want, atol=1e-7)


def test_a_solve_within_a_program_calls_the_host_for_no_other_purpose_than_to_raise():
    """A program that is to be exported must hold no callback, also where the start and the arguments are constants."""
    start = np.zeros(3)

    def solution(target, how):
        problem = dini.Minimize(lambda x: jnp.sum((x - target) ** 2))
        return dini.solve(problem, dini.BFGS(), start, on_failure=how).x

    for how in ("nan", "ignore"):
        assert "callback" not in jax.jit(functools.partial(solution, how=how)).lower(jnp.ones(3)).as_text()
    assert "callback" in jax.jit(functools.partial(solution, how="raise")).lower(jnp.ones(3)).as_text()


@pytest.mark.by_default("3")
@pytest.mark.parametrize("every", [1, 3])
def test_a_callback_sees_the_steps_of_each_lane(every):
    seen = []
    monitor = dini.Callback(lambda info: seen.append(int(info["steps"])), every)
    solve = lambda a: dini.minimize(
        lambda x, a: jnp.sum((x - a) ** 4 + x**2), jnp.zeros(2), a, solver=dini.Newton(), monitor=monitor
    )
    taken = jax.vmap(solve)(jnp.array([0.0, 1.0, 30.0])).stats.steps
    jax.effects_barrier()
    assert len(set(taken.tolist())) == 3
    assert sorted(seen) == sorted(k for n in taken.tolist() for k in range(every, n + 1, every))
