"""The engine: one linear solve, one linearization, decorators, bare products, other conditions."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.optimize

import dini
from dini import conditions, linear


def cubic(x, theta):
    return x**3 + x - theta


@dini.custom_root(cubic)
def solve_cubic(init, theta):
    newton = lambda _, x: x - cubic(x, theta) / (3 * x**2 + 1)
    return jax.lax.fori_loop(0, 60, newton, jnp.asarray(init))


def test_unit_check_1_cubic():
    root = lambda theta: solve_cubic(1.0, theta)
    np.testing.assert_allclose(root(10.0), 2.0, rtol=1e-14)
    np.testing.assert_allclose(jax.grad(root)(10.0), 1 / 13, rtol=1e-13)
    for second in (jax.grad(jax.grad(root)), jax.jacfwd(jax.jacrev(root)), jax.hessian(root)):
        np.testing.assert_allclose(jax.jit(second)(10.0), -12 / 2197, rtol=1e-12)


def random_system(seed=0, n=5, m=7):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((n, n)) + 4 * np.eye(n), rng.standard_normal((n, m))
    return lambda x, t: A @ x + 0.1 * jnp.tanh(x) - jnp.sin(B @ t), rng.standard_normal(m), rng


@pytest.mark.thorough
def test_unit_check_2_forward_and_reverse_agree():
    F, theta, rng = random_system()
    x = dini.root(F, jnp.zeros(5), theta, solver=dini.Newton(tol=1e-13)).x
    v, w = rng.standard_normal(5), rng.standard_normal(7)
    forward = dini.root_jvp(F, x, (theta,), (w,))
    (reverse,) = dini.root_vjp(F, x, (theta,), v)
    np.testing.assert_allclose(v @ forward, reverse @ w, rtol=1e-10)
    solution = lambda t: dini.root(F, jnp.zeros(5), t, solver=dini.Newton(tol=1e-13)).x
    np.testing.assert_allclose(jax.jvp(solution, (theta,), (w,))[1], forward, rtol=1e-10)
    np.testing.assert_allclose(jax.vjp(solution, theta)[1](v)[0], reverse, rtol=1e-10)


def test_unit_check_3_one_solve_serves_all_arguments():
    evaluations = []

    def T(x, a, b, c):
        evaluations.append(1)
        return 0.5 * jnp.cos(a * x) + b * c

    problem, picard = dini.FixedPoint(T), dini.FixedPointIteration()
    solve = lambda a, b, c: dini.solve(problem, picard, jnp.ones(3), a, b, c).x.sum()
    jaxpr = jax.make_jaxpr(jax.grad(solve, argnums=(0, 1, 2)))(jnp.ones(3), jnp.ones(3), jnp.ones(3))
    assert str(jaxpr).count("custom_linear_solve[") == 1
    # the user's function is traced once for the solve and its derivative together
    assert len(evaluations) == 1


def test_nothing_is_solved_where_nothing_is_differentiated():
    problem = dini.FixedPoint(lambda x, a, n: 0.5 * jnp.cos(a * x) + n)
    solve = lambda a, other: dini.solve(problem, dini.FixedPointIteration(), 1.0, a, 3).x + other
    jaxpr = jax.make_jaxpr(jax.grad(solve, argnums=1))(2.0, 1.0)
    assert "linear_solve[" not in str(jaxpr)


@pytest.mark.thorough
def test_unit_check_8_envelope_theorem():
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((12, 3)), rng.standard_normal(12)
    loss = lambda w, s: 0.5 * jnp.sum((X @ w - y) ** 2) + 0.5 * s * jnp.sum(w**2)
    value = lambda s: loss(dini.minimize(loss, jnp.zeros(3), s, solver=dini.Newton()).x, s)
    w = np.linalg.solve(X.T @ X + 0.7 * np.eye(3), X.T @ y)
    np.testing.assert_allclose(jax.grad(value)(0.7), 0.5 * w @ w, rtol=1e-10)


def test_unit_check_9_simplex():
    got = dini.sets.project_simplex(jnp.array([0.9, 0.2, -0.4, 0.5, 0.35]))
    np.testing.assert_allclose(got, [0.65, 0, 0, 0.25, 0.1], atol=1e-15)


def test_custom_root_around_host_code():
    """SciPy behind a callback: values, gradients, batches."""

    @dini.custom_root(cubic)
    def host(init, theta):
        solve = lambda i, t: np.asarray(scipy.optimize.brentq(lambda x: x**3 + x - float(t), -50, 50, xtol=1e-14))
        return jax.pure_callback(solve, jax.ShapeDtypeStruct((), float), init, theta, vmap_method="sequential")

    root = lambda t: host(1.0, t)
    np.testing.assert_allclose(jax.grad(root)(10.0), 1 / 13, rtol=1e-10)
    np.testing.assert_allclose(jax.vmap(jax.grad(root))(jnp.array([10.0, 2.0])), [1 / 13, 1 / 4], rtol=1e-10)


def test_custom_root_arguments():
    """Keywords, defaults, auxiliary output, static arguments; a call that does not fit names both signatures."""

    @dini.custom_root(lambda x, a, *, b=1.0, mode="plain": x**2 - a * b, has_aux=True)
    def root(init, a, *, b=1.0, mode="plain"):
        assert mode == "plain"
        return jnp.sqrt(a * b), {"a": a, "n": 3}

    (x, aux), gradient = (root(1.0, 4.0, b=4.0), jax.grad(lambda a, b: root(1.0, a, b=b)[0], argnums=(0, 1))(4.0, 4.0))
    assert x == 4.0
    assert aux["n"] == 3
    np.testing.assert_allclose(gradient, (0.5, 0.5), rtol=1e-12)
    assert jax.grad(lambda a: root(1.0, a)[1]["a"])(4.0) == 0  # documented: aux is a constant

    @dini.custom_root(lambda x, a: x - a)
    def other(init, a, **kwargs):
        return a

    with pytest.raises(TypeError, match=r"solver takes \(init, a, \*\*kwargs\), the condition takes \(x, a\)"):
        other(1.0, 2.0, tol=3.0)
    with pytest.raises(TypeError, match="structure, shapes and dtypes"):
        dini.custom_root(lambda x, a: jnp.stack([x, x]))(lambda init, a: a)(1.0, 2.0)


def test_custom_fixed_point():
    @dini.custom_fixed_point(lambda x, a: {"r": 0.5 * (x["r"] + a / x["r"])})
    def root(init, a):
        return {"r": jnp.sqrt(a)}

    np.testing.assert_allclose(jax.jacfwd(lambda a: root(None, a)["r"])(jnp.array([4.0, 9.0])), np.diag([1 / 4, 1 / 6]))


def svm(m=12, k=3, p=20, seed=0):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((m, p)) / np.sqrt(p), np.eye(k)[rng.integers(0, k, m)]
    fun = dini.LinearComposite(
        lambda z, x, theta: 0.5 * jnp.sum((X.T @ Y - z) ** 2) / theta + jnp.vdot(x, Y), lambda theta: X
    )
    return dini.Minimize(fun, constraint=dini.sets.Simplex(axis=-1)), jnp.full((m, k), 1 / k), k


CONDITIONS = {
    "projected gradient": conditions.ProjectedGradient(),
    "projected gradient, own step": conditions.ProjectedGradient(step_size=0.3),
    "mirror descent": conditions.MirrorDescent(),
    "block proximal gradient": conditions.BlockProximalGradient(jnp.linspace(0.2, 2.0, 12)[:, None]),
}


@pytest.mark.by_default("BlockCoordinateDescent-mirror descent", "ProjectedGradient-block proximal gradient")
@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize(
    "solver", [dini.BlockCoordinateDescent(tol=1e-11), dini.ProjectedGradient(tol=1e-11)], ids=lambda s: s.name
)
def test_any_solver_with_any_condition(name, solver):
    """Solve by block coordinate descent, differentiate the mirror-descent fixed point: the derivative is the same."""
    problem, start, _ = svm()

    def solution(theta, mode):
        return dini.solve(problem, solver, start, theta, differentiation=mode).x

    h = 1e-4
    want = (solution(1.0 + h, dini.Implicit()) - solution(1.0 - h, dini.Implicit())) / (2 * h)
    got = jax.jacfwd(solution)(1.0, dini.Implicit(condition=CONDITIONS[name]))
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert np.abs(want).max() > 1e-2


@pytest.mark.by_default("solver1")
@pytest.mark.parametrize(
    "solver", [linear.CG(), linear.Dense(), linear.GMRES(), linear.BiCGStab(), lx.GMRES(1e-10, 1e-10)]
)
def test_linear_solvers_agree_on_the_proximal_system(solver):
    """Conjugate gradients solve the reduced system, with inactive coordinates, in both directions."""
    problem, start, k = svm()
    mode = dini.Implicit(linear_solver=solver)
    solution = lambda theta: (
        dini.solve(problem, dini.ProjectedGradient(tol=1e-11), start, theta, differentiation=mode).x
    )
    want = jax.jacfwd(lambda t: dini.solve(problem, dini.ProjectedGradient(tol=1e-11), start, t).x)(1.0)
    weights = np.random.default_rng(3).standard_normal((12, k))

    @jax.jit
    def both(t):
        _, push = jax.linearize(solution, t)
        return push(1.0), jax.linear_transpose(push, t)(weights)[0]

    forward, reverse = both(1.0)
    np.testing.assert_allclose(forward, want, atol=1e-7)
    np.testing.assert_allclose(reverse, np.sum(weights * want), atol=1e-7)


@pytest.mark.thorough
def test_newton_conditions_and_problems_of_the_table():
    quadratic = dini.Minimize(lambda x, a: 0.5 * jnp.sum(a * x**2) - jnp.sum(jnp.sin(x)))
    a = jnp.array([2.0, 3.0])
    for condition in (conditions.Stationary(), conditions.NewtonStep()):
        mode = dini.Implicit(condition=condition)
        solve = lambda a, mode=mode: (
            dini.solve(quadratic, dini.Newton(tol=1e-12), jnp.ones(2), a, differentiation=mode).x
        )
        x = solve(a)
        first = -x / (a + jnp.sin(x))
        jacobian = jax.jit(jax.jacrev(solve))
        np.testing.assert_allclose(jacobian(a), np.diag(first), atol=1e-10)
        h = 1e-5
        second = (jacobian(a + h) - jacobian(a - h)) / (2 * h)
        np.testing.assert_allclose(jax.jit(jax.jacfwd(jax.jacfwd(solve)))(a).sum(-1), second, atol=1e-7)


@pytest.mark.thorough
@pytest.mark.parametrize("certify", [False, True])
@pytest.mark.parametrize("outer", [jnp.sin, lambda x: 2 * x])
def test_second_derivatives_in_every_order_where_the_system_does_not_change(certify, outer):
    """A clipped linear fit: neither matrix nor right-hand side of the derivative's system depends on the parameters.

    Of a loss that is linear, nor do the cotangents.
    """
    problem, solver = dini.Minimize(lambda x, a: jnp.sum((x - a) ** 2), dini.sets.Box(-1.0, 1.0)), dini.ProximalGradient
    how = {"differentiation": dini.Implicit(certify=certify)}
    total = lambda a: jnp.sum(outer(dini.solve(problem, solver(tol=1e-12), jnp.zeros(2), a, **how).x))
    a = jnp.array([0.4, 3.0])
    orders = [second(first(total)) for second in (jax.jacfwd, jax.jacrev) for first in (jax.jacfwd, jax.jacrev)]
    want = np.diag([jax.grad(jax.grad(outer))(0.4), 0.0])
    for second in jax.jit(lambda a: [order(a) for order in orders])(a):
        np.testing.assert_allclose(second, want, atol=1e-10)


@pytest.mark.thorough
def test_second_derivatives_where_a_loss_leaves_parts_of_the_solution_out():
    """The matrix does not depend on the parameter: a = t/4, b = t/2, and a = 4t/3 of a fixed point."""
    residual = lambda x, t: {"a": 2 * x["a"] + x["b"] - t, "b": x["b"] - t / 2}
    solve = dini.custom_root(residual)(lambda init, t: {"a": t / 4, "b": t / 2})
    for second in (jax.jacfwd, jax.jacrev):
        got = jax.jit(second(jax.jacrev(lambda t: solve(None, t)["a"] ** 3)))(0.7)
        np.testing.assert_allclose(got, 6 * 0.7 / 64)
    start, how = {"a": jnp.zeros(()), "b": jnp.zeros(())}, dini.Implicit(certify=True)
    contraction = lambda x, t: {"a": 0.5 * x["b"] + t, "b": 0.5 * x["a"]}
    certified = lambda t: dini.fixed_point(contraction, start, t, differentiation=how).x["a"] ** 3
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(certified)))(0.7), 6 * 0.7 * (4 / 3) ** 3, rtol=1e-6)


def test_small_right_hand_sides_survive_single_precision():
    with jax.enable_x64(False):
        matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])
        for solver in (linear.CG(), linear.GMRES(), linear.Dense()):
            b = jnp.array([1e-22, -2e-22])
            got = linear.solve(lambda w: matrix @ w, b, structure="positive definite", solver=solver)
            np.testing.assert_allclose(got * 1e22, np.linalg.solve(matrix, np.array([1.0, -2.0])), rtol=1e-5)


def test_krylov_failures_are_seen():
    matrix = jnp.diag(jnp.logspace(0, 12, 50))
    with pytest.raises(Exception, match="did not reach its tolerance"):
        jax.block_until_ready(
            linear.solve(
                lambda w: matrix @ w, jnp.ones(50), structure="positive definite", solver=linear.CG(max_steps=5)
            )
        )
    with pytest.raises(ValueError, match="CG needs a positive definite"):
        linear.solve(lambda w: matrix @ w, jnp.ones(50), solver=linear.CG())


def test_one_factorization_serves_a_full_jacobian():
    """The batch of cotangents does not batch the factorization."""
    F, theta, _ = random_system()
    solution = lambda t: dini.root(F, jnp.zeros(5), t).x
    text = str(jax.make_jaxpr(jax.jacrev(solution))(theta))
    lines = [line for line in text.splitlines() if " lu[" in line or " lu " in line]
    assert lines
    assert all("[5,5,5]" not in line for line in lines)
