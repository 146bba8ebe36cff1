"""One evaluation of the outer objective: against differences, in every kind of inner problem and every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.bilevel import value_and_hypergradient

rng = np.random.default_rng(0)
A, y = rng.standard_normal((8, 4)), rng.standard_normal(8)
held_out = np.array([0.3, -0.2, 0.1, 0.5])
THETA = np.array([0.1, -0.3, 0.2, 0.4])


def outer(x, theta):
    return 0.5 * jnp.sum((x - held_out) ** 2) + 0.1 * jnp.sum(theta**2)


def ridge(x, theta):
    return 0.5 * jnp.sum((A @ x - y) ** 2) + 0.5 * jnp.sum(jnp.exp(theta) * x**2)


def lasso(theta):
    fit = lambda x: 0.5 * jnp.sum((A @ x - y) ** 2)
    return dini.Minimize(fit, penalty=dini.penalties.L1(jnp.exp(theta)))


def program(theta):
    return dini.QuadraticProgram(A.T @ A + jnp.diag(jnp.exp(theta)), -A.T @ y, G=jnp.ones((1, 4)), h=jnp.zeros(1))


INNER = {
    "smooth": (dini.Minimize(ridge), dini.Newton()),
    "constraint": (dini.Minimize(ridge, constraint=dini.sets.NonNegative()), dini.ProjectedNewton(rtol=1e-12)),
    "strength": (lasso, dini.ProximalGradient(tol=1e-12, max_steps=5000)),
    "root": (dini.Root(lambda x, t: jnp.sinh(x) + 0.2 * jnp.roll(x, 1) - t), dini.Newton()),
    "fixed point": (dini.FixedPoint(lambda x, t: 0.4 * jnp.cos(x) + t), dini.Anderson(rtol=1e-12)),
}


def central(fun, theta, step=1e-5):
    return np.array([(fun(theta + step * e) - fun(theta - step * e)) / (2 * step) for e in np.eye(theta.size)])


@pytest.mark.parametrize("kind", INNER)
def test_gradient_is_that_of_differences(kind):
    inner, solver = INNER[kind]
    at = lambda theta: value_and_hypergradient(outer, inner, theta, np.zeros(4), solver=solver, certify=True)
    found = at(THETA)
    np.testing.assert_allclose(found.gradient, central(lambda t: at(t).value, THETA), rtol=1e-6, atol=1e-8)
    assert found.certificate.reliable
    assert found.certificate.error < 1e-5


def test_a_program_is_an_inner_problem():
    target = lambda x, theta: outer(x.primal, theta)
    start = program(THETA).start()
    at = lambda theta: value_and_hypergradient(target, program, theta, start)
    np.testing.assert_allclose(at(THETA).gradient, central(lambda t: at(t).value, THETA), rtol=1e-6)


MODES = {
    "one step": (dini.OneStep(), dini.Newton(), True),
    "unrolled": (dini.Unrolled(), dini.Newton(), True),
    "poor series": (dini.Neumann(terms=2), dini.Newton(), False),
}


@pytest.mark.parametrize("mode", MODES)
def test_other_modes_are_judged(mode):
    differentiation, solver, right = MODES[mode]
    how = {"solver": solver, "certify": True, "on_failure": "ignore"}
    H = A.T @ A + np.diag(np.exp(THETA))
    x = np.linalg.solve(H, A.T @ y)
    exact = 0.2 * THETA - np.exp(THETA) * x * np.linalg.solve(H, x - held_out)
    found = value_and_hypergradient(
        outer, dini.Minimize(ridge), THETA, np.zeros(4), differentiation=differentiation, **how
    )
    error = np.linalg.norm(found.gradient - exact) / np.linalg.norm(exact)
    assert found.certificate.reliable == right == (error < 1e-2)


def test_the_next_evaluation_starts_where_this_one_ended():
    d, theta = np.linspace(1, 100, 40), np.ones(40)
    inner = dini.Minimize(lambda x, t: 0.5 * jnp.sum(d * x**2) + 0.25 * jnp.sum(x) ** 2 - jnp.sum(t * x))
    how = {"solver": dini.LBFGS(rtol=1e-10), "differentiation": dini.Implicit(linear_solver=dini.linear.CG())}
    target = lambda x, theta: 0.5 * jnp.sum((x - 1) ** 2)
    cold = value_and_hypergradient(target, inner, theta, np.zeros(40), **how)
    warm = value_and_hypergradient(target, inner, theta, np.zeros(40), state=cold.state, **how)
    assert warm.solution.stats.steps < cold.solution.stats.steps / 2
    np.testing.assert_allclose(warm.gradient, cold.gradient, rtol=1e-7)
    # the adjoint is that of the system: H u = -(x - 1)
    left = d * cold.state.adjoint + 0.5 * jnp.sum(cold.state.adjoint) + (cold.state.x - 1)
    assert np.linalg.norm(left) < 1e-6 * np.linalg.norm(cold.state.x - 1)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_matter(scale):
    def scaled(x, theta):
        return scale**2 * ridge(x / scale, theta)

    target = lambda x, theta: outer(x / scale, theta)
    found = value_and_hypergradient(target, dini.Minimize(scaled), THETA, np.zeros(4), solver=dini.Newton())
    exact = value_and_hypergradient(outer, dini.Minimize(ridge), THETA, np.zeros(4), solver=dini.Newton())
    np.testing.assert_allclose(found.gradient, exact.gradient, rtol=1e-7)


def test_a_bad_lane_is_marked_and_the_others_are_not():
    inner = dini.Minimize(lambda x, t: 0.5 * t * jnp.sum(x**2) - jnp.sum(x))
    target = lambda x, t: jnp.sum(x**2) + 0 * t

    @jax.vmap
    def lanes(theta):
        found = value_and_hypergradient(target, inner, theta, jnp.zeros(2), solver=dini.Newton())
        return found.gradient, found.solution.status

    gradient, status = map(np.asarray, lanes(np.array([2.0, -1.0, 0.0, 4.0])))
    np.testing.assert_allclose(gradient[[0, 3]], -4 / np.array([8.0, 64.0]), rtol=1e-10)
    assert np.isnan(gradient[2])
    assert status[2] != dini.Status.CONVERGED


def test_failures_are_raised():
    flat = dini.Minimize(lambda x, t: (x[0] + x[1] - t) ** 2)
    with pytest.raises(dini.DerivativeError, match="singular"):
        value_and_hypergradient(lambda x, t: x[0], flat, 1.0, np.zeros(2), solver=dini.BFGS())
    slow = dini.GradientDescent(max_steps=2)
    with pytest.raises(dini.SolveError, match="MAX_STEPS"):
        value_and_hypergradient(outer, dini.Minimize(ridge), THETA, np.zeros(4), solver=slow)


@pytest.mark.parametrize("size", [2, 600])
def test_a_maximum_and_a_saddle_of_the_inner_problem_are_called_so(size):
    """By the dense system and the matrix-free one, with a certificate and without; a flat minimum is neither."""
    second = np.arange(size) == 1
    cases = {"maximum": (-np.ones(size), "NO_MINIMUM"), "saddle": (np.where(second, -1e-3, 1.0), "NO_MINIMUM")}
    cases["flat"] = np.where(second, 0.0, 1.0), "ILL_CONDITIONED" if size == 2 else "LINEAR_SOLVE"
    cases["minimum"] = np.ones(size), "RELIABLE"
    at = lambda d, **how: value_and_hypergradient(
        lambda x, t: jnp.sum(x),
        INNER_QUADRATIC,
        (np.ones(size), d),
        np.ones(size),
        # a solver of dini's would leave a maximum and a saddle point
        solver=lambda problem, init, t: t[0],
        **how,
    )
    for d, verdict in cases.values():
        found = at(d, certify=True, on_failure="ignore")
        assert dini.certified.Verdict(int(found.certificate.verdict)).name == verdict
    assert "negative curvature" in dini.certified.Verdict.NO_MINIMUM.explanation
    with pytest.raises(dini.DerivativeError, match="not positive definite"):
        at(cases["saddle"][0])


INNER_QUADRATIC = dini.Minimize(lambda x, t: 0.5 * jnp.sum(t[1] * (x - t[0]) ** 2))


def test_a_compiled_evaluation_warns_whichever_part_is_used():
    """The gradient of this quadratic does not depend on the solution, which XLA then leaves out."""
    fit = dini.Minimize(lambda x, t: 0.5 * jnp.sum(jnp.array([1.0, 30.0]) * (x - t) ** 2))
    how = {"solver": dini.GradientDescent(max_steps=2), "on_failure": "warn"}
    at = jax.jit(lambda t: value_and_hypergradient(lambda x, t: jnp.sum(x), fit, t, np.zeros(2), **how).gradient)
    with pytest.warns(dini.SolveWarning, match="MAX_STEPS"):
        np.testing.assert_allclose(at(np.ones(2)), 1, rtol=1e-6)


def test_second_derivatives_are_right():
    def gradient(theta):
        return value_and_hypergradient(outer, dini.Minimize(ridge), theta, np.zeros(4), solver=dini.Newton()).gradient

    hessian = jax.jacobian(gradient)(THETA)
    differences = np.stack([(gradient(THETA + 1e-5 * e) - gradient(THETA - 1e-5 * e)) / 2e-5 for e in np.eye(4)])
    np.testing.assert_allclose(hessian, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"inner": 3.0}, TypeError, "inner must be a problem"),
        ({"inner": lambda t: t}, TypeError, "inner must return a problem"),
        ({"outer": lambda x, t: x}, TypeError, "one real floating-point number"),
        ({"theta": np.arange(4)}, TypeError, "theta must be a floating-point"),
        ({"state": 1.0}, TypeError, "state must be the state"),
        ({"differentiation": dini.Implicit}, TypeError, "differentiation must be a mode"),
        ({"on_failure": "shout"}, ValueError, "on_failure must be one of"),
    ],
)
def test_doors(change, error, words):
    given = {"outer": outer, "inner": dini.Minimize(ridge), "theta": THETA, "x": np.zeros(4)} | change
    with pytest.raises(error, match=words):
        value_and_hypergradient(**given)


def test_functions_that_are_made_anew_are_compiled_once(caplog):
    """In a loop of the user's own they are other objects each time, and read other arrays."""
    found, compiled = [], []
    with jax.log_compiles():
        for shift in (0.0, 1.0, 2.0, 3.0):
            target = jnp.asarray(held_out + shift)
            mismatch = lambda x, theta, target=target: jnp.sum((x - target) ** 2)
            fit = lambda theta: dini.Minimize(lambda x: ridge(x, theta))
            caplog.clear()
            found.append(value_and_hypergradient(mismatch, fit, jnp.asarray(THETA), jnp.zeros(4), certify=True))
            told = [record.message for record in caplog.records if "Finished XLA compilation" in record.message]
            compiled.append(sum("jit(_compiled)" in line or "jit(evaluate)" in line for line in told))
    assert compiled == [1, 0, 0, 0]
    x = found[0].solution.x
    np.testing.assert_allclose(
        [at.value for at in found], [np.sum((x - held_out - s) ** 2) for s in range(4)], rtol=1e-6
    )
