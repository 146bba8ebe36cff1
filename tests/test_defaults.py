"""What the verbs choose, and that the choice is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.functions.costs import cost, reached
from dini.solution import CHOICES

R = np.random.RandomState(0)
X, Y = R.randn(400, 20), np.sign(R.randn(400))
W = np.arange(1.0, 41.0)


def ridge(w, strength):
    return 0.5 * jnp.mean((X @ w - Y) ** 2) + 0.5 * strength * jnp.sum(w**2)


def logistic(w, strength):
    return jnp.mean(jax.nn.softplus(-Y * (X @ w))) + 0.5 * strength * jnp.sum(w**2)


def rosenbrock(x, a):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (a - x[:-1]) ** 2)


def chain(x, a):
    """A quadratic whose Hessian is tridiagonal, with the minimum at ``a * W``."""
    return jnp.sum((x[1:] - x[:-1] - a) ** 2) + (x[0] - a) ** 2


def huber(x, a):
    """A piecewise quadratic is none."""
    apart = jnp.abs(x - a)
    return jnp.sum(jnp.where(apart < 1, 0.5 * apart**2, apart - 0.5))


def decay(p, a):
    t = jnp.linspace(0.0, 4.0, 12)
    return p[0] * jnp.exp(-p[1] * t) - a * jnp.exp(-1.3 * t)


def path(p, a):
    """Residuals along the path of a differential equation."""
    euler = lambda y, _: (y - 0.1 * p[1] * y, y)
    return jax.lax.scan(euler, p[0], None, length=12)[1] - a * 0.95 ** jnp.arange(12)


def tridiagonal(x, a):
    padded = jnp.pad(x, 1)
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + a


BAND, TINY = (
    "one factorization by Sparse(), or else LBFGS()",
    "GaussNewton(patience=None), or else LevenbergMarquardt()",
)
PROBLEMS = {
    "a quadratic": (dini.minimize, ridge, 20, {}, 'BFGS(start="hessian")'),
    "a regression": (dini.minimize, logistic, 20, {}, 'BFGS(start="hessian")'),
    "a band": (dini.minimize, chain, 40, {}, BAND),
    "few unknowns": (dini.minimize, rosenbrock, 3, {}, "BFGS()"),
    "more unknowns": (dini.minimize, rosenbrock, 40, {}, "LBFGS()"),
    "pieces": (dini.minimize, huber, 3, {}, "BFGS()"),
    "few bounds": (dini.minimize, ridge, 20, {"constraint": dini.sets.NonNegative()}, "ProjectedNewton()"),
    "many bounds": (dini.minimize, chain, 40, {"constraint": dini.sets.NonNegative()}, "LBFGSB()"),
    "a penalty": (dini.minimize, ridge, 20, {"penalty": dini.penalties.L1(0.01)}, "ProximalGradient()"),
    "few residuals": (dini.least_squares, decay, 2, {}, TINY),
    "costly residuals": (dini.least_squares, path, 2, {}, "LevenbergMarquardt()"),
    "residuals": (dini.least_squares, lambda x, a: jnp.sinh(x - a), 20, {}, "LevenbergMarquardt()"),
    "equations": (dini.root, lambda x, a: x**3 + x - a, 3, {}, "Newton()"),
    "a band of equations": (dini.root, tridiagonal, 40, {}, "Newton(linear_solver=Sparse())"),
    "a fixed point": (dini.fixed_point, lambda x, a: 0.5 * jnp.cos(x) + a, 3, {}, "Anderson()"),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_the_choice_and_its_derivative(what):
    """The choice, its point and its derivative beside those of differences of tight solves."""
    verb, fun, size, options, name = PROBLEMS[what]
    start = jnp.full(size, -0.5 if verb is dini.root else 0.5)
    solve = jax.jit(lambda a: verb(fun, start, a, **options))
    solution, slope = solve(0.8), jax.jit(jax.jacfwd(lambda a: verb(fun, start, a, **options).x))(0.8)
    assert solution.solver == name
    assert bool(solution.success)
    assert name in repr(solution)
    apart = (solve(0.8 + 1e-4).x - solve(0.8 - 1e-4).x) / 2e-4
    np.testing.assert_allclose(slope, apart, rtol=1e-4, atol=2e-4 * float(jnp.abs(apart).max()))


def test_the_minimum_of_a_band():
    solution = dini.minimize(chain, jnp.zeros(40), 0.7)
    np.testing.assert_allclose(solution.x, 0.7 * W, rtol=1e-12)
    slope = jax.jacrev(lambda a: dini.minimize(chain, jnp.zeros(40), a).x)(0.7)
    np.testing.assert_allclose(slope, W, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_a_band_has_no_units(scale):
    solution = dini.minimize(lambda x, a: scale * chain(x / scale, a), jnp.zeros(40), 0.7)
    np.testing.assert_allclose(solution.x, 0.7 * W * scale, rtol=1e-10)
    assert int(solution.stats.steps) == 2


@pytest.mark.parametrize(
    "fun",
    [lambda x: chain(x, 1.0) - 3 * x[0] ** 2, lambda x: jnp.sum((x[1:] - x[:-1]) ** 2) + x[0]],
    ids=["indefinite", "unbounded"],
)
def test_a_saddle_is_no_minimum(fun):
    """Newton's equations have a solution there; the linear solver sees that the Hessian is not positive definite."""
    solution = dini.minimize(fun, jnp.ones(40), on_failure="ignore")
    assert solution.solver == BAND
    assert not bool(solution.success)


def test_where_full_steps_fail():
    """Full steps run away from this start, and in a batch the other lanes keep their own."""
    fun = lambda x: jnp.arctan(x - 0.1) + 0.01 * (x - 0.1)
    solve = jax.jit(jax.vmap(lambda x: dini.least_squares(fun, x, on_failure="ignore")))
    solution = solve(jnp.array([[0.3], [30.0], [jnp.nan]]))
    np.testing.assert_array_equal(solution.success, [True, True, False])
    np.testing.assert_allclose(solution.x[:2, 0], 0.1, atol=1e-7)
    assert int(solution.stats.steps[0]) < 10 < int(solution.stats.steps[1])


@pytest.mark.parametrize("factor", [1e10, 1e30])
def test_what_overflows_has_not_converged(factor):
    """The error and what it is compared with are both infinite."""
    solution = dini.least_squares(lambda x: factor * (jnp.exp(x) - 2), jnp.zeros(2, jnp.float32), on_failure="ignore")
    near = np.allclose(solution.x, np.log(2), atol=1e-3)
    assert bool(solution.success) == near
    far = dini.least_squares(lambda x: jnp.exp(x) - 2, jnp.full(2, 200.0), on_failure="ignore")
    assert bool(far.success) == np.allclose(far.x, np.log(2))


def smoothed(x, strength):
    """A Whittaker smoother: its Hessian has five diagonals, of a condition of about 16 times the strength."""
    y = jnp.sin(0.3 * jnp.arange(x.size, dtype=x.dtype))
    return 0.5 * jnp.sum((x - y) ** 2) + 0.5 * strength * jnp.sum(jnp.diff(x, n=2) ** 2)


def test_rounding_counts_as_zero():
    """In single precision the gradient of an ill-conditioned band cannot vanish: one factorization is the best."""
    loose = dini.minimize(smoothed, jnp.zeros(200, jnp.float32), jnp.float32(1e4))
    exact = dini.minimize(smoothed, jnp.zeros(200), 1e4)
    assert int(loose.stats.steps) == int(exact.stats.steps) == 2
    np.testing.assert_allclose(loose.x, exact.x, atol=1e-5)


def test_a_minimum_at_zero():
    solution = dini.minimize(chain, jnp.linspace(0.3, 1.7, 300), 0.0)
    assert int(solution.stats.steps) == 2
    np.testing.assert_allclose(solution.x, 0, atol=1e-12)


def test_patterns_are_looked_for_where_they_can_be_narrow():
    """All pairs of unknowns are in a large array, or a sum mixes them all."""
    pairs = lambda x, a: x - a + 1e-3 * jnp.mean(jnp.tanh(x[:, None] - x[None, :]), axis=1)
    assert dini.root(pairs, jnp.zeros(200), 1.0).solver == "Newton()"
    mixed = lambda x, a: jnp.sum((jnp.cumsum(jnp.cumsum(x[::-1])) / x.size - a) ** 2) + jnp.sum(x**2)
    assert dini.minimize(mixed, jnp.zeros(200), 1.0).solver == 'BFGS(start="hessian")'


def test_a_loop_keeps_its_memory():
    """What a loop stores for its way back is not seen: no batch is made of it."""
    recur = lambda w, a: jnp.sum(jax.lax.scan(lambda h, _: (jnp.tanh(w @ h), None), a * jnp.ones(9), None, length=9)[0])
    loss = lambda w, a: recur(w.reshape(9, 9), a) + jnp.sum(w**2)
    assert dini.minimize(loss, jnp.zeros(81), 1.0).solver == "LBFGS()"


def test_a_call_of_the_host_that_knows_no_batches():
    @jax.custom_jvp
    def double(x):
        return jax.pure_callback(lambda x: 2 * np.asarray(x), x, x)

    double.defjvp(lambda x, t: (double(*x), double(*t)))

    @jax.custom_vjp
    def twice(x):
        return double(x)

    twice.defvjp(lambda x: (double(x), None), lambda _, g: (double(g),))
    # in single precision: in a thread of XLA's, JAX takes what a callback returns for less than these tests allow
    solution = dini.minimize(lambda x: 0.5 * jnp.sum((twice(x) - 1) ** 2), jnp.zeros(20, jnp.float32))
    np.testing.assert_allclose(solution.x, 0.5, atol=1e-3)


def test_full_steps_do_not_end_above_the_start():
    """Where residuals level off, the gradient vanishes as at a solution."""
    fun = lambda x: jnp.array([x[0] / (1 + x[0] ** 4), 0.1 * x[0] / (1 + x[0] ** 2)]) - 0.01
    solution = dini.least_squares(fun, jnp.array([0.7]), on_failure="ignore")
    assert float(solution.value) <= 0.5 * float(jnp.sum(fun(jnp.array([0.7])) ** 2))


def test_who_gives_a_solver_is_told_of_none():
    assert dini.minimize(ridge, jnp.zeros(20), 0.1, solver=dini.LBFGS()).solver is None


@pytest.mark.parametrize("how", ["steps", "state", "time_limit", "unrolled"])
def test_choices_that_take_steps(how):
    """What needs steps gets a solver that takes them."""
    options = {"steps": {"steps": 3}, "time_limit": {"time_limit": 100.0}}.get(how, {})
    if how == "unrolled":
        options = {"differentiation": dini.Unrolled()}
    if how == "state":
        options = {"state": dini.minimize(chain, jnp.zeros(40), 0.7, return_state=True).state}
    solution = dini.minimize(chain, jnp.zeros(40), 0.7, **options)
    assert bool(solution.success)
    assert solution.solver == 'BFGS(start="hessian")'


def test_a_failure_names_the_choice():
    with pytest.raises(dini.SolveError, match=r"was not solved by BFGS\(\): DIVERGED"):
        dini.minimize(lambda x: jnp.sum(jnp.exp(-x)), jnp.zeros(3))


def test_a_choice_is_not_known_while_jax_traces():
    with pytest.raises(TypeError, match="concrete"):
        jax.jit(lambda a: dini.minimize(ridge, jnp.zeros(20), a).solver)(0.1)


def test_a_function_without_a_derivative_in_forward_mode_is_solved():
    """A custom backward pass need not have a derivative itself."""

    @jax.custom_vjp
    def square(x):
        return jnp.sum(x**2)

    twice = lambda x: jax.pure_callback(lambda x: 2 * np.asarray(x), x, x)
    square.defvjp(lambda x: (square(x), x), lambda x, g: (g * twice(x),))
    solution = dini.minimize(square, jnp.ones(3))
    np.testing.assert_allclose(solution.x, 0, atol=1e-8)
    assert solution.solver == "BFGS()"


def test_costs_are_counted():
    """Products with what the input does not enter are none of its costs."""
    A = jnp.ones((30, 20))

    def fun(x, y):
        again = jax.lax.scan(lambda c, _: (jnp.tanh(A.T @ (A @ c)), None), x, None, length=5)[0]
        return again, jnp.ones((50, 50)) @ jnp.ones(50) * y

    jaxpr = jax.make_jaxpr(fun)(jnp.ones(20), 1.0).jaxpr
    spent = cost(jaxpr, [True, False])
    assert spent.products == 5 * 2 * (2 * 30 * 20)
    assert spent.largest == 30
    assert spent.loops
    assert not cost(jaxpr, [False, True]).loops
    assert reached(jaxpr, [True, False]) == [True, False]
    assert reached(jaxpr, [False, True]) == [False, True]


def test_every_choice_has_a_number():
    assert len(set(CHOICES)) == len(CHOICES)
    assert {name for *_, name in PROBLEMS.values()} < set(CHOICES)


def test_full_steps_that_leave_for_infinity_are_taken_back():
    """Kowalik and Osborne's function (Moré, Garbow, Hillstrom, no. 15) levels off at infinity, three times as high."""
    y = np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
    u = 1 / np.array([0.25, 0.5, 1, 2, 4, 6, 8, 10, 12, 14, 16])
    residuals = lambda x: y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])
    solution = dini.least_squares(residuals, jnp.array([0.11, 0.1, 0.24, 0.41]))
    np.testing.assert_allclose(2 * solution.value, 3.075e-4, rtol=1e-3)
    np.testing.assert_allclose(solution.x, [0.1928, 0.1913, 0.1231, 0.1361], rtol=1e-2)
