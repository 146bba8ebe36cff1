"""Optax transformations as solvers, Armijo and Polyak step sizes, runs on iterators."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import dini


def interpolated(n=64, d=5, seed=0):
    """Return a regression that every batch can fit."""
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(n, d)), rng.normal(size=d)
    return X, X @ w, w


def loss(w, batch):
    X, y = batch
    return 0.5 * jnp.mean((X @ w - y) ** 2)


def batches(X, y, epochs, size=8, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(y))
        for i in range(0, len(y), size):
            yield X[order[i : i + size]], y[order[i : i + size]]


STOCHASTIC = [
    dini.ArmijoSGD(tol=0.0),
    dini.ArmijoSGD(tol=0.0, momentum=0.3),
    dini.PolyakSGD(tol=0.0),
    dini.PolyakSGD(tol=0.0, scale=0.5, momentum=0.3),
    dini.OptaxSolver(optax.sgd(0.1), tol=0.0),
    dini.OptaxSolver(optax.polyak_sgd(), tol=0.0),
]


@pytest.mark.parametrize("solver", STOCHASTIC, ids=lambda s: f"{s.name}{getattr(s, 'momentum', '')}")
def test_interpolation_on_an_iterator(solver):
    X, y, w = interpolated()
    solution = dini.run_iterator(dini.Minimize(loss), solver, jnp.zeros(5), batches(X, y, 60))
    np.testing.assert_allclose(solution.x, w, atol=1e-5)
    # the last batches may be fitted exactly
    assert solution.status == (dini.Status.MAX_STEPS if solution.stats.steps == 480 else dini.Status.CONVERGED)


@pytest.mark.parametrize("solver", STOCHASTIC[::2], ids=lambda s: s.name)
def test_a_batch_without_gradient_does_not_end_the_run(solver):
    """The second batch is on the right side of its hinge already; the third one is not."""
    hinge = lambda w, batch: jnp.mean(jnp.maximum(0, 1 - batch[0] @ w))
    rows = [np.array([[1.0, 0.0]]), np.array([[20.0, 0.0]]), np.array([[0.0, 1.0]])]
    solution = dini.run_iterator(dini.Minimize(hinge), solver, jnp.zeros(2), ((row,) for row in rows * 20))
    assert solution.stats.steps == 60
    np.testing.assert_array_less(0.9, solution.x)


def test_a_complex_unknown_on_an_iterator():
    target = np.array([1.0 + 1.0j, 2.0])
    problem = dini.Minimize(lambda x, b: jnp.sum(jnp.abs(x - b) ** 2))
    x = dini.run_iterator(problem, dini.ArmijoSGD(), jnp.zeros(2, complex), [target] * 60).x
    np.testing.assert_allclose(x, target, atol=1e-7)


def test_by_hand_and_on_an_iterator_are_the_same():
    X, y, _ = interpolated()
    problem, solver = dini.Minimize(loss), dini.ArmijoSGD(tol=0.0)
    x = jnp.zeros(5)
    state = solver.init(problem, x, (X[:8], y[:8]))
    for batch in batches(X, y, 1):
        x, state = solver.step(problem, x, state, batch)
    np.testing.assert_allclose(dini.run_iterator(problem, solver, jnp.zeros(5), batches(X, y, 1)).x, x, rtol=1e-12)


@pytest.mark.parametrize("solver", [dini.ArmijoSGD(tol=0.0, momentum=0.3), dini.OptaxSolver(optax.adam(0.1), tol=0.0)])
def test_a_run_goes_on_from_its_saved_state(solver):
    X, y, _ = interpolated()
    problem, all_batches = dini.Minimize(loss), list(batches(X, y, 3))
    whole = dini.run_iterator(problem, solver, jnp.zeros(5), all_batches)
    half = dini.run_iterator(problem, solver, jnp.zeros(5), all_batches[:10])
    saved = jax.tree.map(np.asarray, half.state)
    np.testing.assert_array_equal(dini.run_iterator(problem, solver, half.x, all_batches[10:], state=saved).x, whole.x)
    # without it, moments and step sizes start anew
    assert not np.array_equal(dini.run_iterator(problem, solver, half.x, all_batches[10:]).x, whole.x)
    # of a step that failed nothing is kept: the next run takes the good batches
    bad = [*all_batches[:10], (np.nan * X[:8], y[:8]), all_batches[10]]
    failed = dini.run_iterator(problem, solver, jnp.zeros(5), bad, on_failure="ignore")
    assert failed.status == dini.Status.NONFINITE
    assert np.isnan(failed.stats.error)
    again = dini.run_iterator(problem, solver, failed.x, all_batches[10:], state=failed.state)
    np.testing.assert_array_equal(again.x, whole.x)
    with pytest.raises(TypeError, match="state must have the structure, shapes and dtypes"):
        dini.run_iterator(problem, solver, half.x, all_batches, state=(1.0,))


def test_a_run_on_batches_is_no_function_to_be_traced():
    problem, all_batches = dini.Minimize(lambda x, t, b: jnp.sum((x - t * b) ** 2)), [1.0, 2.0]
    run = lambda t: dini.run_iterator(problem, dini.ArmijoSGD(), jnp.zeros(2), all_batches, t).x.sum()
    closed = lambda t: dini.run_iterator(
        dini.Minimize(lambda x, b: jnp.sum((x - t * b) ** 2)), dini.ArmijoSGD(), jnp.zeros(2), all_batches
    ).x.sum()
    batched = lambda t: dini.run_iterator(problem, dini.ArmijoSGD(), jnp.zeros(2), [t, 2 * t], 1.0).x.sum()
    for traced in (jax.grad(run), jax.jit(run), lambda t: jax.vmap(run)(t[None]), jax.grad(closed), jax.grad(batched)):
        with pytest.raises(TypeError, match="outside of jit, vmap and grad"):
            traced(jnp.ones(()))


def test_transformations_that_do_not_fit_are_told():
    lookahead = dini.OptaxSolver(optax.lookahead(optax.sgd(0.1), 5, 0.5))
    with pytest.raises(AttributeError) as told:
        dini.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(2), solver=lookahead)
    assert any("(such as optax.lookahead) are not supported" in note for note in told.value.__notes__)


@pytest.mark.by_default("adam")
@pytest.mark.parametrize(
    "transformation",
    [
        optax.adam(0.05),
        optax.lbfgs(),
        optax.contrib.sam(optax.sgd(0.1), optax.sgd(1e-3), sync_period=2, opaque_mode=True, reset_state=False),
    ],
    ids=["adam", "lbfgs", "sam"],
)
def test_optax_on_all_data_and_its_implicit_derivative(transformation):
    X, y, w = interpolated()
    solver = dini.OptaxSolver(transformation, tol=1e-9)
    fit = lambda y: dini.solve(dini.Minimize(loss), solver, jnp.zeros(5), (X, y)).x
    np.testing.assert_allclose(fit(y), w, atol=1e-7)
    np.testing.assert_allclose(jax.jacrev(fit)(jnp.asarray(y)), np.linalg.pinv(X), atol=1e-7)


def test_projections():
    a = jnp.array([1.5, -1.0, 0.2])
    problem = dini.Minimize(lambda x: 0.5 * jnp.sum((x - a) ** 2), constraint=dini.sets.Simplex())
    want = dini.sets.Simplex().project(a)
    for solver in (dini.OptaxSolver(optax.sgd(0.3)), dini.ArmijoSGD(), dini.ArmijoSGD(momentum=0.2)):
        np.testing.assert_allclose(dini.solve(problem, solver, jnp.ones(3) / 3).x, want, atol=1e-7)
    bound = float(0.5 * jnp.sum((want - a) ** 2))
    polyak = dini.PolyakSGD(lower_bound=bound, tol=1e-5)
    np.testing.assert_allclose(dini.solve(problem, polyak, jnp.ones(3) / 3).x, want, atol=1e-4)


def test_armijo_condition_holds_on_every_batch():
    X, y, _ = interpolated()
    problem, solver = dini.Minimize(loss), dini.ArmijoSGD(tol=0.0, max_step_size=100.0)
    x = jnp.zeros(5)
    state = solver.init(problem, x, (X[:8], y[:8]))
    for batch in batches(X, y, 3):
        before, gradient = problem.value_and_gradient(x, batch)
        x, state = solver.step(problem, x, state, batch)
        assert loss(x, batch) <= before - 0.1 * state.step_size * jnp.sum(gradient**2) + 1e-12


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_armijo_reaches_a_minimum_that_is_not_zero(momentum):
    """There the last decreases are smaller than rounding; and the start may be outside, below the minimum."""
    d, a = jnp.array([1.0, 30.0, 5.0]), jnp.array([0.2, 0.5, -1.0])
    fun = lambda x: 0.5 * jnp.sum(d * (x - a) ** 2) + 3.0
    solver = dini.ArmijoSGD(momentum=momentum, max_steps=500)
    np.testing.assert_allclose(dini.solve(dini.Minimize(fun), solver, jnp.ones(3)).x, a, atol=1e-7)
    problem = dini.Minimize(fun, constraint=dini.sets.Simplex())
    want = dini.solve(problem, dini.ProjectedGradient(), jnp.ones(3) / 3).x
    np.testing.assert_allclose(dini.solve(problem, solver, a).x, want, atol=1e-7)


def test_armijo_goes_on_after_a_search_in_vain():
    """At a kink no step helps; the batches after it have their old step size."""
    problem = dini.Minimize(lambda x, b: jnp.sum(b[0] * jnp.maximum(x, -2 * x) + b[1] * (x - 1) ** 2))
    solver, kink, bowl = dini.ArmijoSGD(tol=0.0), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    x, state = solver.step(problem, jnp.zeros(1), solver.init(problem, jnp.zeros(1), kink), kink)
    _, state = solver.step(problem, x, state, bowl)
    assert state.step_size > 0.3


def test_polyak_step_is_the_formula():
    X, y, _ = interpolated()
    problem, x = dini.Minimize(loss), jnp.ones(5)
    batch = (X[:8], y[:8])
    solver = dini.PolyakSGD(scale=0.5, max_step_size=1e3, lower_bound=0.01)
    value, gradient = problem.value_and_gradient(x, batch)
    new, _ = solver.step(problem, x, solver.init(problem, x, batch), batch)
    want = x - (value - 0.01) / (0.5 * jnp.sum(gradient**2)) * gradient
    np.testing.assert_allclose(new, want, rtol=1e-12)


def test_unrolled_through_armijo():
    """The search is a constant: the derivative of a step is that of a gradient step with its size."""
    X, y, _ = interpolated()
    problem, solver = dini.Minimize(loss), dini.ArmijoSGD(tol=0.0)
    how = dini.Unrolled(steps=1)
    got = jax.jacrev(
        lambda y: dini.solve(problem, solver, jnp.zeros(5), (X, y), differentiation=how, on_failure="ignore").x
    )(jnp.asarray(y))
    state = solver.init(problem, jnp.zeros(5), (X, y))
    _, state = solver.step(problem, jnp.zeros(5), state, (X, y))
    np.testing.assert_allclose(got, state.step_size * X.T / len(y), rtol=1e-10)


def test_what_goes_wrong_is_told():
    X, y, _ = interpolated()
    problem = dini.Minimize(loss)
    with pytest.raises(ValueError, match="at least one batch"):
        dini.run_iterator(problem, dini.ArmijoSGD(), jnp.zeros(5), [])
    bad = [(X[:8], y[:8]), (X[:8] * np.nan, y[:8])]
    with pytest.raises(dini.SolveError, match="NONFINITE after 2 steps"):
        dini.run_iterator(problem, dini.ArmijoSGD(), jnp.zeros(5), bad)
    assert np.isfinite(dini.run_iterator(problem, dini.ArmijoSGD(), jnp.zeros(5), bad, on_failure="ignore").x).all()
    with pytest.raises(ValueError, match="max_steps of at least 1"):
        dini.run_iterator(problem, dini.ArmijoSGD(max_steps=0), jnp.zeros(5), bad)
    with pytest.raises(TypeError, match="run_iterator's batch must be an array or a number: given 'a'"):
        dini.run_iterator(problem, dini.ArmijoSGD(), jnp.zeros(5), ["a"])
    with pytest.raises(TypeError, match="problem must be a Minimize"):
        dini.run_iterator(loss, dini.ArmijoSGD(), jnp.zeros(5), bad)
    with pytest.raises(TypeError, match="is a function"):
        dini.run_iterator(problem, lambda problem, init, batch: init, jnp.zeros(5), bad)
    with pytest.raises(ValueError, match="on_failure must be 'raise' or 'ignore'"):
        dini.run_iterator(problem, dini.ArmijoSGD(), jnp.zeros(5), bad, on_failure="nan")
    with pytest.raises(TypeError, match="gradient transformation"):
        dini.OptaxSolver(lambda g: g)
    with pytest.raises(TypeError, match="but no penalties"):
        dini.solve(dini.Minimize(jnp.sum, penalty=dini.penalties.L1(1.0)), dini.PolyakSGD(), jnp.zeros(2))
    for settings in ({"aggressiveness": 1.0}, {"decrease": 0.0}, {"growth": 0.5}, {"momentum": 1.0}):
        with pytest.raises(ValueError, match="ArmijoSGD's"):
            dini.ArmijoSGD(**settings)
    with pytest.raises(ValueError, match="PolyakSGD's momentum"):
        dini.PolyakSGD(momentum=1.0)


def test_optax_is_optional(monkeypatch):
    import importlib

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match="pip install optax"):
        dini.OptaxSolver(optax.sgd(0.1))
