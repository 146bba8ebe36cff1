"""Roots: Newton-like methods, brackets; fixed points: Anderson's types, returns and restarts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import dini
from dini import Status


def helical(x, a):
    turn = jnp.arctan2(x[1], x[0]) / (2 * jnp.pi)
    return jnp.stack([10 * (x[2] - 10 * turn), 10 * (jnp.sqrt(x[0] ** 2 + x[1] ** 2) - a), x[2]])


def tridiagonal(x, a):
    padded = jnp.concatenate([jnp.zeros(1), x, jnp.zeros(1)])
    return (a - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


GENERAL = [dini.Newton(), dini.Chord(), dini.Broyden(), dini.NewtonKrylov(), dini.DoglegLeastSquares()]


@pytest.mark.by_default("Newton")
@pytest.mark.parametrize("solver", GENERAL, ids=lambda s: s.name)
def test_a_root_that_plain_newton_misses(solver):
    """From behind the axis the first full step goes far away; the derivative is that of the closed form."""
    root = lambda a: dini.root(helical, jnp.array([-1.0, 0.0, 0.0]), a, solver=solver).x
    np.testing.assert_allclose(root(1.0), [1.0, 0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(jax.jacobian(root)(1.0), [1.0, 0.0, 0.0], atol=1e-6)


@pytest.mark.by_default("chord")
@pytest.mark.parametrize(
    "solver", [*GENERAL[1:4], dini.Broyden(start="identity", history=7)], ids=["chord", "broyden", "krylov", "identity"]
)
def test_systems_as_scipy(solver):
    a = jnp.full(12, 3.0)
    want = scipy.optimize.root(lambda x: np.asarray(tridiagonal(x, a)), -np.ones(12), tol=1e-12).x
    solution = dini.root(tridiagonal, -jnp.ones(12), a, solver=solver)
    np.testing.assert_allclose(solution.x, want, atol=1e-8)


@pytest.mark.thorough
def test_broyden_makes_the_steps_of_the_dense_formula():
    a, x = np.full(5, 3.0), -np.ones(5)
    fun = lambda x: np.asarray(tridiagonal(x, a))
    matrix = np.asarray(jax.jacobian(tridiagonal)(jnp.asarray(x), a))
    value = fun(x)
    for _ in range(4):
        s = -np.linalg.solve(matrix, value)
        x, new = x + s, fun(x + s)
        matrix = matrix + np.outer(new - value - matrix @ s, s) / (s @ s)
        value = new
    problem, solver, y = dini.Root(tridiagonal), dini.Broyden(), -jnp.ones(5)
    state, step = solver.init(problem, y, a), jax.jit(solver.step)
    for _ in range(5):
        y, state = step(problem, y, state, a)
    np.testing.assert_allclose(y, x, rtol=1e-12)


def test_chord_factorizes_seldom():
    calls = []

    def fun(x):
        jax.debug.callback(lambda: calls.append(1))
        return x**3 + x - 10.0

    solution = dini.root(fun, jnp.full(3, 1.9), solver=dini.Chord())
    assert solution.stats.steps > 4
    # one evaluation a step, one for the factorization, one more at the start; two of the verification, which follows
    # Newton's method from the solution
    assert len(calls) <= solution.stats.steps + 4


@pytest.mark.thorough
def test_newton_krylov_solves_its_systems_loosely_at_first():
    n = 400
    fun = lambda x: 2 * x - 0.5 * (jnp.roll(x, 1) + jnp.roll(x, -1)) + x**3 - 1.0 - 0.1 * jnp.sin(jnp.arange(n))
    solution = dini.root(fun, jnp.zeros(n), solver=dini.NewtonKrylov(atol=1e-7))
    assert jnp.linalg.norm(fun(solution.x)) < 1e-7
    assert solution.stats.steps < 45
    few = dini.root(fun, jnp.zeros(n), solver=dini.NewtonKrylov(restart=3, cycles=20))
    np.testing.assert_allclose(few.x, solution.x, atol=1e-7)


def bratu(u, strength):
    padded, h = jnp.pad(u, 1), 1 / (u.size + 1)
    return (padded[2:] - 2 * u + padded[:-2]) / h**2 + strength * jnp.exp(u)


@pytest.mark.by_default("30-200-1000")
@pytest.mark.parametrize(("restart", "n", "most"), [(None, 200, 460), (30, 200, 1000)])
def test_newton_krylov_on_a_grid(restart, n, most):
    """Thirty products alone did not get anywhere: the default makes more, and a restart keeps the last corrections."""
    solver = dini.NewtonKrylov(restart=restart)
    solution = dini.root(bratu, jnp.zeros(n), 1.0, solver=solver)
    assert solution.stats.steps < most
    np.testing.assert_allclose(solution.x, dini.root(bratu, jnp.zeros(n), 1.0).x, atol=1e-7)


@pytest.mark.thorough
def test_newton_krylov_side_by_side():
    """Lanes that read different parts of the basis, and that start again at different steps."""
    solver = dini.NewtonKrylov(restart=40)
    solve = lambda start, a: dini.root(bratu, start, a, solver=solver)
    starts, strengths = jnp.stack([jnp.zeros(96), jnp.sin(jnp.arange(96.0))]), jnp.array([1.0, 2.0])
    batch = jax.vmap(solve)(starts, strengths)
    alone = [solve(start, a) for start, a in zip(starts, strengths, strict=True)]
    np.testing.assert_allclose(batch.x, jnp.stack([s.x for s in alone]), atol=1e-8)
    assert batch.stats.steps.tolist() == pytest.approx([int(s.stats.steps) for s in alone], rel=0.1)


@pytest.mark.thorough
def test_newton_krylov_unrolled_over_restarts():
    solver = dini.NewtonKrylov(restart=36, tol=1e-7)
    root = lambda a, mode: dini.root(bratu, jnp.zeros(80), a, solver=solver, differentiation=mode).x
    steps = dini.Unrolled(steps=210)
    got = jax.grad(lambda a: jnp.sum(root(a, steps)))(1.0)
    want = jax.grad(lambda a: jnp.sum(root(a, dini.Implicit())))(1.0)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_equations_without_a_solution_are_told():
    fun = lambda x: jnp.stack([x[0] + x[1], x[0] + x[1] - 1.0])
    for solver in (dini.Newton(), dini.Chord(), dini.NewtonKrylov()):
        assert dini.root(fun, jnp.zeros(2), solver=solver, on_failure="ignore").status == Status.SINGULAR


CUBICS = np.linspace(5.0, 50.0, 6)


def cubic(x, a):
    return {"u": x["u"] ** 3 - 2 * x["u"] - a, "v": jnp.exp(x["v"]) - a[0]}


@pytest.mark.by_default(1)
@pytest.mark.parametrize("solver", [dini.Bisection(0.0, 10.0, tol=1e-11), dini.Chandrupatla(0.0, 10.0, tol=1e-13)])
def test_brackets_side_by_side(solver):
    start = {"u": jnp.full(6, 3.0), "v": jnp.array(1.0)}
    x = dini.root(cubic, start, CUBICS, solver=solver).x
    want = [scipy.optimize.brentq(lambda u, a=a: u**3 - 2 * u - a, 0, 10, xtol=1e-14) for a in CUBICS]
    np.testing.assert_allclose(x["u"], want, rtol=1e-10)
    np.testing.assert_allclose(x["v"], np.log(5.0), rtol=1e-10)
    slope = jax.grad(lambda a: jnp.sum(dini.root(cubic, start, a, solver=solver).x["u"]))(CUBICS)
    np.testing.assert_allclose(slope, 1 / (3 * np.asarray(want) ** 2 - 2), rtol=1e-8)


def test_chandrupatla_takes_few_evaluations_and_stays_inside():
    functions = [
        (lambda x: jnp.exp(x) - 100.0, 0.0, 50.0),
        (lambda x: x**9 - 1e-3, -1.0, 4.0),
        (lambda x: jnp.where(x > 0.3, 1.0, -1.0) * jnp.abs(x - 0.3) ** 0.2, 0.0, 1.0),
    ]
    for fun, low, high in functions:
        solution = dini.root(fun, low, solver=dini.Chandrupatla(low, high, tol=1e-10))
        want, info = scipy.optimize.brentq(lambda x, f=fun: float(f(x)), low, high, xtol=1e-10, full_output=True)
        np.testing.assert_allclose(solution.x, want, atol=1e-9)
        assert solution.stats.steps <= info.function_calls + 12


def test_ends_without_a_change_of_sign_are_told():
    solver = dini.Bisection(-1.0, 0.5)
    with pytest.raises(dini.SolveError, match="same sign at both ends"):
        dini.root(lambda x: x - 2.0, jnp.zeros(3), solver=solver)
    batch = jax.vmap(lambda a: dini.root(lambda x, a: x - a, 0.0, a, solver=solver).status)(jnp.array([0.0, 2.0]))
    np.testing.assert_array_equal(batch, [Status.CONVERGED, Status.NO_BRACKET])


BRACKETS = (dini.Bisection, dini.Chandrupatla)


@pytest.mark.by_default("tan-1.0-2.0-Bisection", "tan-1.0-2.0-Chandrupatla")
@pytest.mark.parametrize("method", BRACKETS)
@pytest.mark.parametrize(
    ("fun", "low", "high"),
    [
        (lambda x: 1 / (x - 0.3), -1.0, 1.0),
        (jnp.tan, 1.0, 2.0),
        (lambda x: x + 0.5 * jnp.sign(x - 0.3), -1.0, 2.0),
        (lambda x: x + jnp.cbrt(1e-3 / (x - 0.3)), 0.0, 1.5),
    ],
)
def test_a_change_of_sign_without_a_root_is_told(method, fun, low, high):
    for dtype in (jnp.float64, jnp.float32):
        solver = method(*jnp.asarray([low, high], dtype))
        solution = dini.root(fun, jnp.asarray(low, dtype), solver=solver, on_failure="ignore")
        assert solution.status == Status.DISCONTINUOUS
    with pytest.raises(dini.SolveError, match="pole or a jump"):
        dini.root(fun, low, solver=method(low, high))


@pytest.mark.thorough
@pytest.mark.parametrize("method", BRACKETS)
def test_steep_flat_and_noisy_functions_are_no_jumps(method):
    third = 1 / 3
    functions = [
        lambda x: jnp.tanh(1e10 * (x - third)),  # needs a bracket narrower than the tolerance
        lambda x: jnp.sign(x - third) * jnp.abs(x - third) ** 0.05,
        lambda x: (x - third) ** 9,
        lambda x: jnp.polyval(jnp.asarray(np.poly([third] * 5)), x),  # whose values are rounding near the root
    ]
    for fun, width in zip(functions, (2e-8, 2e-8, 2e-8, 3e-3), strict=True):
        x = dini.root(fun, 0.0, solver=method(-1.0, 2.0)).x
        np.testing.assert_allclose(x, third, atol=width)
    lanes = jax.vmap(lambda a: dini.root(lambda x, a: a[0] / (x - 0.3) + a[1] * x, 0.0, a, solver=method(-1.0, 1.0)))
    solution = lanes(jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_array_equal(solution.status, [Status.DISCONTINUOUS, Status.CONVERGED])


def rotation(x):
    return jnp.stack([-2.0 * x[1] - 0.1 * x[0] ** 3 + 1.0, 2.0 * x[0] + 0.3])


@pytest.mark.by_default("II")
@pytest.mark.parametrize(
    "solver",
    [dini.Anderson(), dini.Anderson(type=1), dini.Anderson(type=1, restart=3), dini.Anderson(history=2, mixing=0.5)],
    ids=["II", "I", "I-restart", "mixing"],
)
def test_anderson_on_a_map_that_does_not_contract(solver):
    solution = dini.fixed_point(rotation, jnp.ones(2), solver=solver)
    np.testing.assert_allclose(rotation(solution.x), solution.x, atol=1e-7)
    plain = dini.fixed_point(rotation, jnp.ones(2), solver=dini.FixedPointIteration(), on_failure="ignore")
    assert not plain.success


def test_anderson_goes_back_to_the_best_point():
    """A map that is undefined far away: the step that leads there is undone and mixed less."""
    fun = lambda x: jnp.where(x < 0.5, x + 40.0, jnp.log(x) - 3.0 * (x - 1.0) + 1.0)
    solution = dini.fixed_point(fun, jnp.array([0.9, 3.0]), solver=dini.Anderson(growth=2.0))
    np.testing.assert_allclose(solution.x, 1.0, atol=1e-7)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("kind", [1, 2])
def test_anderson_with_one_difference(kind):
    fun = lambda x: jnp.cos(x) + jnp.array([0.0, 0.1])
    solution = dini.fixed_point(fun, jnp.ones(2), solver=dini.Anderson(history=1, type=kind))
    np.testing.assert_allclose(fun(solution.x), solution.x, atol=1e-7)


@pytest.mark.by_default(1)
@pytest.mark.parametrize("kind", [1, 2])
def test_anderson_is_a_krylov_method_on_linear_maps(kind):
    matrix = np.diag([0.9, -0.8, 0.5, 0.2]) + 0.05
    fun = lambda x: matrix @ x + 1.0
    solution = dini.fixed_point(fun, jnp.zeros(4), solver=dini.Anderson(history=4, type=kind, tol=1e-10))
    np.testing.assert_allclose(solution.x, np.linalg.solve(np.eye(4) - matrix, np.ones(4)), rtol=1e-8)
    assert solution.stats.steps <= 7


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["contraction", "rotation"])
def test_the_backward_pass_of_large_fixed_points(kind):
    """A contraction is inverted by its series, another map by GMRES; both to the accuracy of the solution."""
    n = 600
    shift = lambda x: 0.3 * jnp.roll(x, 1) if kind == "contraction" else 1.5 * (jnp.roll(x, 1) - jnp.roll(x, -1)) / 2
    fun = lambda x, a: shift(x) + a
    weights = jnp.sin(jnp.arange(n))
    got = jax.grad(lambda a: weights @ dini.fixed_point(fun, jnp.zeros(n), a).x)(jnp.cos(jnp.arange(n) ** 2.0))
    matrix = np.eye(n) - np.asarray(jax.jacobian(shift)(jnp.zeros(n)))
    np.testing.assert_allclose(got, np.linalg.solve(matrix.T, weights), atol=1e-6)


BAD = [
    (lambda: dini.Bisection(1.0, 0.0), ValueError, "Bisection's lower must not be above upper"),
    (lambda: dini.Anderson(type=3), ValueError, "type must be one of 1, 2"),
    (lambda: dini.Anderson(growth=1.0), ValueError, "growth must be above 1"),
    (lambda: dini.Broyden(start="zero"), ValueError, "start must be one of 'auto'"),
    (lambda: dini.NewtonKrylov(restart=0), ValueError, "restart must be at least 1"),
    (
        lambda: dini.root(jnp.sin, jnp.zeros(2), solver=dini.Bisection(jnp.zeros(3), 1.0)),
        ValueError,
        r"\(3,\), needed \(2,\)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
