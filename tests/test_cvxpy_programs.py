"""Problems of CVXPY's as functions of their parameters, beside CVXPY itself."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

R = np.array([0.1, 0.2, 0.15])
S = np.array([[0.2, 0.0, 0.0], [0.1, 0.3, 0.0], [0.0, 0.1, 0.25]])


def portfolio():
    """A problem with a second-order cone, an equation, and bounds that are lifted out of the constraints."""
    w, returns, spread = cp.Variable(3, bounds=[0.05, 0.5]), cp.Parameter(3), cp.Parameter((3, 3))
    problem = cp.Problem(cp.Maximize(returns @ w - cp.norm(spread @ w)), [cp.sum(w) == 1])
    return problem, [returns, spread], [w]


def by_cvxpy(problem, parameters, variables, values):
    for parameter, value in zip(parameters, values, strict=True):
        parameter.value = np.asarray(value)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return [np.asarray(variable.value) for variable in variables]


@pytest.mark.may_cost(20)
def test_a_point_and_two_derivatives():
    """The point beside CVXPY's, the gradient and the Hessian beside differences; a bound holds at one of the points."""
    given = portfolio()
    layer = dini.from_cvxpy(*given)
    assert given[1][0].value is None

    @jax.jit
    def all_of(r, along):
        loss = lambda r: jnp.sum(layer(r, S)[0] ** 3)
        gradient, second = jax.jvp(jax.grad(loss), (r,), (along,))
        return layer(r, S)[0], loss(r), gradient, second

    along = np.array([1.0, -0.5, 0.3])
    for r in (R, R + np.array([0, 0, 0.3])):
        w, _, gradient, second = all_of(r, along)
        np.testing.assert_allclose(w, by_cvxpy(*given, (r, S))[0], atol=1e-6)
        (_, up, g_up, _), (_, down, g_down, _) = all_of(r + 1e-5 * along, along), all_of(r - 1e-5 * along, along)
        np.testing.assert_allclose(gradient @ along, (up - down) / 2e-5, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(second, (g_up - g_down) / 2e-5, rtol=1e-5, atol=1e-6)
    # at the bound one direction is left, along which nothing is gained
    assert float(w[2]) == pytest.approx(0.5, abs=1e-12)
    left = np.array([1.0, -1.0, 0.0])
    assert r @ left == pytest.approx(float((S @ left) @ (S @ w) / np.linalg.norm(S @ w)), abs=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["clarabel", "scs"])
def test_solvers_on_the_host(method):
    """Under jit and vmap, with the gradient of the solver on the device. The pages hold Clarabel by default."""
    layer = dini.from_cvxpy(*portfolio())
    host = dini.HostConeSolver(method)
    batch = jnp.stack([R, 2 * R])

    @jax.jit
    @jax.vmap
    def both(r):
        loss = lambda r, **how: jnp.sum(layer(r, S, **how)[0] ** 3)
        return jax.value_and_grad(loss)(r), jax.value_and_grad(lambda r: loss(r, solver=host))(r)

    ours, theirs = both(batch)
    for a, b in zip(ours, theirs, strict=True):
        # the derivative at the host's point, which curved cones let it know to about the root of its accuracy
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.thorough
def test_matrices_exponentials_and_attributes():
    """A semidefinite variable with its symmetry, an exponential cone, a quadratic term, a parameter that is a number.

    Each cone is tested more cheaply where programs are solved.
    """
    X, t, a, M = cp.Variable((2, 2), PSD=True), cp.Variable(), cp.Parameter(nonneg=True), cp.Parameter((2, 2))
    objective = cp.sum_squares(X - M) + cp.exp(t) - a * t
    given = cp.Problem(cp.Minimize(objective), [cp.trace(X) == 1]), [M, a], [X, t]
    layer = dini.from_cvxpy(*given)
    value = np.array([[1.0, 0.4], [0.4, -0.5]]), 2.0
    (X, t), slope = jax.jit(lambda M, a: (layer(M, a), jax.grad(lambda a: layer(M, a)[1])(a)))(*value)
    theirs = by_cvxpy(*given, value)
    np.testing.assert_allclose(X, theirs[0], atol=1e-5)
    np.testing.assert_allclose(X, np.asarray(dini.sets.Spectrahedron(1.0).project(jnp.asarray(value[0]))), atol=1e-9)
    np.testing.assert_allclose([t, slope], [np.log(2), 0.5], rtol=1e-8)


def test_what_does_not_fit_is_refused():
    problem, parameters, variables = portfolio()
    a, x = cp.Parameter(nonneg=True), cp.Variable()
    with pytest.raises(TypeError, match=r"must be a cvxpy\.Problem"):
        dini.from_cvxpy(1.0, parameters, variables)
    with pytest.raises(TypeError, match=r"must be all of the problem's"):
        dini.from_cvxpy(problem, parameters[:1], variables)
    with pytest.raises(TypeError, match=r"variables must be a list of cvxpy.Variable"):
        dini.from_cvxpy(problem, parameters, parameters)
    with pytest.raises(ValueError, match="variables must be the problem's"):
        dini.from_cvxpy(problem, parameters, [x])
    with pytest.raises(ValueError, match="convex, but not so parametrized"):
        dini.from_cvxpy(cp.Problem(cp.Minimize(a * a * x), [x >= 1]), [a], [x])
    with pytest.raises(ValueError, match="not convex"):
        dini.from_cvxpy(cp.Problem(cp.Maximize(x**2)), [], [x])
    integer = cp.Variable(integer=True)
    with pytest.raises(ValueError, match="integer"):
        dini.from_cvxpy(cp.Problem(cp.Minimize(integer), [integer >= 1]), [], [integer])
    with pytest.raises(ValueError, match="is given twice"):
        dini.from_cvxpy(problem, [*parameters, parameters[0]], variables)
    with pytest.raises(ValueError, match="without constraints whose objective is linear"):
        dini.from_cvxpy(cp.Problem(cp.Minimize(x)), [], [x])
    layer = dini.from_cvxpy(problem, parameters, variables)
    with pytest.raises(TypeError, match="array of real numbers: given None"):
        layer(R, None)
    with pytest.raises(TypeError, match="given 1 values"):
        layer(R)
    with pytest.raises(ValueError, match=r"must have the shape \(3,\): given \(2,\)"):
        layer(R[:2], S)
    with pytest.raises(ValueError, match="method"):
        dini.HostConeSolver("simplex")


@pytest.mark.thorough
def test_rows_whose_multipliers_are_all_zero_do_not_hide_the_solution():
    """A matrix's inverse as the minimum of -log det X + tr SX: a column of its data touches inactive rows alone."""
    X, S = cp.Variable((2, 2), PSD=True), cp.Parameter((2, 2))
    layer = dini.from_cvxpy(cp.Problem(cp.Minimize(-cp.log_det(X) + cp.trace(S @ X))), [S], [X])
    weights = jnp.array([[1.0, 2.0], [3.0, 4.0]])

    def of_layer(S):
        solution = layer.solution(S, on_failure="ignore")
        value = layer.variables_of(solution.x)[0]
        return jnp.sum(weights * value), (value, solution.status)

    truth = lambda S: jnp.linalg.inv(0.5 * (S + S.T))
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((20, 2, 2))
    near = np.array([[2.0, 0.3], [0.3, 1.0]]) + 1e-5 * rng.standard_normal((20, 2, 2))
    many = jnp.asarray(np.concatenate([roots @ roots.mT + 0.1 * np.eye(2), near]))
    (_, (found, status)), slopes = jax.jit(jax.vmap(jax.value_and_grad(of_layer, has_aux=True)))(many)
    expected = jax.vmap(jax.grad(lambda S: jnp.sum(weights * truth(S))))(many)
    assert np.all(status == dini.Status.CONVERGED)
    size = lambda v: jnp.max(jnp.abs(v), axis=(1, 2))
    assert np.all(size(found - jax.vmap(truth)(many)) < 1e-10 * size(found))
    assert np.all(size(slopes - expected) < 1e-9 * size(expected))


def test_values_of_an_excluded_sign_are_seen():
    """With ``a |x| <= 2 a - 1`` and negative ``a``, ``|x|`` is bounded from below: CVXPY's program is another one."""
    x, a, b = cp.Variable(2), cp.Parameter(nonneg=True, name="a"), cp.Parameter(2)
    given = cp.Problem(cp.Minimize(cp.sum_squares(x - b)), [a * cp.norm(x) <= 2 * a - 1]), [a, b], [x]
    layer = dini.from_cvxpy(*given)
    far = jnp.array([3.0, -4.0])
    with pytest.raises(ValueError, match=r"Parameter a must not be negative: given -1\.0"):
        layer(-1.0, far)

    @jax.jit
    @jax.vmap
    def lanes(a):
        def loss(a):
            solution = layer.solution(a, far)
            return jnp.sum(layer.variables_of(solution.x)[0]), solution

        (value, solution), slope = jax.value_and_grad(loss, has_aux=True)(a)
        return solution.status, value, slope

    # the length is 2 - 1 / a: at 0.25 no point is left
    status, value, slope = lanes(jnp.array([1.0, -1.0, 0.25, 2.0]))
    assert [dini.Status(int(end)).name for end in status] == [
        "CONVERGED", "NONFINITE", "PRIMAL_INFEASIBLE", "CONVERGED",
    ]  # fmt: skip
    np.testing.assert_allclose(value[jnp.array([0, 3])], [-0.2, -0.3], rtol=1e-9)
    np.testing.assert_allclose(slope[jnp.array([0, 3])], [-0.2, -0.05], rtol=1e-8)
    np.testing.assert_array_equal(np.isnan(slope[jnp.array([1, 2])]), True)
