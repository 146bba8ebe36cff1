"""JAXopt's quadratic programs: CVXPY's solutions and multipliers, derivatives by differences, and no silent failure."""

import functools

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
import dini_jaxopt as jaxopt

RNG = np.random.default_rng(0)
M = RNG.normal(size=(4, 4))
Q, c = M @ M.T + np.eye(4), RNG.normal(size=4)
A, b, G, h = RNG.normal(size=(1, 4)), np.array([0.3]), RNG.normal(size=(3, 4)), np.array([0.1, 0.2, 0.3])
DATA = {"params_obj": (Q, c), "params_eq": (A, b), "params_ineq": (G, h)}


@pytest.fixture(scope="module")
def truth():
    """The solution by CVXPY and Clarabel, with its multipliers."""
    x = cp.Variable(4)
    constraints = [A @ x == b, G @ x <= h]
    cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, Q) + c @ x), constraints).solve(solver=cp.CLARABEL)
    return x.value, *(constraint.dual_value for constraint in constraints)


def product(params, x):
    return params @ x


def quadratic(x, params):
    return 0.5 * x @ params[0] @ x + params[1] @ x + 7.0


VARIANTS = {
    "arrays": lambda: jaxopt.OSQP(),
    "products": lambda: jaxopt.OSQP(matvec_Q=product, matvec_A=product, matvec_G=product),
    "one product": lambda: jaxopt.OSQP(matvec_A=product),
    "function": lambda: jaxopt.OSQP(fun=quadratic),
    "cvxpy": lambda: jaxopt.CvxpyQP(),
}


@functools.cache
def evaluated(name):
    """Return a value of the solution and its multipliers, them, and the derivative in all data; and the function."""
    solver = VARIANTS[name]()
    init = solver.init_params(jnp.zeros(4), **DATA) if name == "function" else None

    def value(data):
        solution = solver.run(init, **data).params
        return jnp.sum(jnp.sin(solution.primal)) + jnp.sum(solution.dual_eq) ** 2, solution

    compiled = jax.jit(jax.value_and_grad(value, has_aux=True))
    return compiled(DATA), compiled, solver


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if name == "one product" else ()) for name in VARIANTS]
)
def test_programs(name, truth):
    """Solution, multipliers and the derivative in all data, of each way to say what the program is."""
    ((_, solution), slopes), _, solver = evaluated(name)
    for ours, theirs in zip(solution, truth, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(slopes), jax.tree.leaves(evaluated("arrays")[0][1]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-11)
    if name == "arrays":
        assert solver.l2_optimality_error(solution, **DATA) < 1e-12


def test_derivatives_of_programs():
    """Differences in a direction of all data at once."""
    (_, slopes), compiled, _ = evaluated("arrays")
    move = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), DATA)
    far = lambda t: compiled(jax.tree.map(lambda leaf, d: leaf + t * d, DATA, move))[0][0]
    along = sum(np.vdot(u, v) for u, v in zip(jax.tree.leaves(slopes), jax.tree.leaves(move), strict=True))
    np.testing.assert_allclose(along, (far(1e-5) - far(-1e-5)) / 2e-5, rtol=1e-6)


BOX = (Q, c), np.concatenate([A, G]), (np.concatenate([b, np.full(3, -np.inf)]), np.concatenate([b, h]))


def test_the_box_form(truth):
    """Equations as equal bounds; the multipliers of both bounds are the parts of one."""
    solver = jaxopt.BoxOSQP()
    step = jax.jit(solver.run)(None, *BOX)
    (x, z), y, (mu, phi) = step.params
    np.testing.assert_allclose(x, truth[0], atol=1e-6)
    np.testing.assert_allclose(z, BOX[1] @ x, atol=1e-12)
    np.testing.assert_allclose(y, np.concatenate(truth[1:]), atol=1e-6)
    np.testing.assert_allclose(mu - phi, y)
    assert min(mu.min(), phi.min()) >= 0
    assert step.state.status == jaxopt.BoxOSQP.SOLVED
    assert step.state.error < 1e-12
    assert solver.l2_optimality_error(step.params, *BOX) < 1e-12
    # with the bounds of the equation moved together, the derivative is that in b
    boxed = jax.tree.map(jnp.asarray, BOX)
    moved = jax.jacobian(
        lambda t: solver.run(None, *boxed[:2], tuple(bound.at[0].add(t) for bound in boxed[2])).params.primal[0]
    )
    in_b = jax.jacobian(
        lambda b: jaxopt.OSQP().run(None, DATA["params_obj"], (A, b), DATA["params_ineq"]).params.primal
    )
    np.testing.assert_allclose(moved(0.0), in_b(jnp.asarray(b))[:, 0], atol=1e-10)


def test_iterations_of_the_box_form():
    solver = jaxopt.BoxOSQP(tol=1e-6)
    params = solver.init_params(None, *BOX)
    state = solver.init_state(params, *BOX)
    update = jax.jit(solver.update)
    for _ in range(300):
        params, state = update(params, state, *BOX)
        if state.status != solver.UNSOLVED:
            break
    assert state.status == solver.SOLVED
    assert 1 < state.iter_num < 300
    np.testing.assert_allclose(params.primal[0], solver.run(None, *BOX).params.primal[0], atol=1e-5)


def test_trees_are_blocks():
    """Of a tree, each leaf has its own matrices: the solution is that of separate programs."""
    Qs, cs = {"u": jnp.asarray(Q), "v": 2 * jnp.eye(2)}, {"u": jnp.asarray(c), "v": jnp.ones(2)}
    As, bs = {"u": jnp.asarray(A), "v": jnp.ones((1, 2))}, {"u": jnp.asarray(b), "v": jnp.ones(1)}
    solution = jaxopt.OSQP().run(params_obj=(Qs, cs), params_eq=(As, bs)).params
    alone = jaxopt.EqualityConstrainedQP().run(params_obj=(jnp.asarray(Q), jnp.asarray(c)), params_eq=(A, b)).params
    np.testing.assert_allclose(solution.primal["u"], alone.primal, atol=1e-12)
    np.testing.assert_allclose(solution.primal["v"], [0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(solution.dual_eq["u"], alone.dual_eq, atol=1e-12)
    np.testing.assert_allclose(solution.dual_eq["v"], [-2.0], atol=1e-12)
    assert solution.dual_ineq is None
    # and a matrix acts on every column of a leaf that has several
    columns = jaxopt.EqualityConstrainedQP().run(
        params_obj=(jnp.asarray(Q), jnp.stack([c, -c], 1)), params_eq=(jnp.asarray(A), jnp.array([[0.3, -0.3]]))
    )
    np.testing.assert_allclose(columns.params.primal, np.stack([alone.primal, -alone.primal], 1), atol=1e-12)


@pytest.mark.parametrize("kind", ["arrays", "products", "function"])
def test_equations_alone(kind):
    """The linear system of the optimality conditions, by NumPy; with a row that says the same twice."""
    twice = np.concatenate([A, 2 * A])
    right = np.concatenate([b, 2 * b])
    x = np.linalg.lstsq(np.block([[Q, A.T], [A, np.zeros((1, 1))]]), np.concatenate([-c, b]))[0][:4]
    settings = {"products": {"matvec_Q": product, "matvec_A": product}, "function": {"fun": quadratic}}.get(kind, {})
    solver = jaxopt.EqualityConstrainedQP(**settings)
    init = jaxopt.base.KKTSolution(jnp.zeros(4), jnp.zeros(2)) if kind == "function" else None
    step = solver.run(init, params_obj=DATA["params_obj"], params_eq=(jnp.asarray(twice), jnp.asarray(right)))
    assert step.state is None
    np.testing.assert_allclose(step.params.primal, x, atol=1e-10)
    np.testing.assert_allclose(twice.T @ step.params.dual_eq, -(Q @ x + c), atol=1e-9)


def test_boxes_by_coordinate_descent():
    low, high = np.full(4, -0.1), np.full(4, 0.1)
    x = cp.Variable(4)
    cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, Q) + c @ x), [x >= low, x <= high]).solve(solver=cp.CLARABEL)
    solver = jaxopt.BoxCDQP(tol=1e-10)
    step = solver.run(jnp.zeros(4), params_obj=DATA["params_obj"], params_ineq=(low, high))
    np.testing.assert_allclose(step.params, x.value, atol=1e-6)
    assert solver.l2_optimality_error(step.params, (Q, c), (low, high)) < 1e-9
    # elements at a bound move with it, the others with the rest of the gradient
    J = jax.jacobian(lambda high: solver.run(jnp.zeros(4), (Q, c), (low, high)).params)(jnp.asarray(high))
    at, free = np.isclose(x.value, 0.1, atol=1e-6), np.abs(x.value) < 0.1 - 1e-6
    expected = np.diag(at.astype(float))
    expected[np.ix_(free, at)] = -np.linalg.solve(Q[np.ix_(free, free)], Q[np.ix_(free, at)])
    np.testing.assert_allclose(J, expected, atol=1e-9)


IMPOSSIBLE = {"params_obj": (np.eye(2), np.zeros(2)), "params_eq": (np.ones((2, 2)), np.array([0.0, 1.0]))}
ENDLESS = {"params_obj": (np.zeros((1, 1)), np.ones(1)), "params_ineq": (np.ones((1, 1)), np.ones(1))}


@pytest.mark.parametrize(("data", "status"), [(IMPOSSIBLE, 3), (ENDLESS, 2)], ids=["infeasible", "unbounded"])
def test_programs_without_a_solution(data, status):
    with pytest.warns(dini.SolveWarning, match="INFEASIBLE"):
        step = jaxopt.OSQP().run(None, **data)
    assert step.state.status == status
    assert np.all(np.isnan(step.params.primal))
    # who looks at the status needs no warning, and in a program there is none
    told = jaxopt.OSQP(check_primal_dual_infeasability=True).run(None, **data)
    assert told.state.status == jax.jit(jaxopt.OSQP().run)(None, **data).state.status == status
    for solver in (jaxopt.OSQP(jit=False), jaxopt.CvxpyQP()):
        with pytest.raises(ValueError, match="found no solution"):
            solver.run(None, **data)


def test_one_bad_lane():
    """Of a batch, one lane is infeasible: value and derivative are NaN there, and the others are right."""
    run = lambda h: jaxopt.OSQP().run(None, (jnp.eye(1), jnp.array([3.0])), None, (jnp.array([[1.0], [-1.0]]), h))
    h = jnp.array([[1.0, 1.0], [-1.0, -1.0], [2.0, 0.5]])

    def value(h):
        step = run(h)
        return step.params.primal, (step.params.primal, step.state.status)

    J, (x, status) = jax.vmap(jax.jacobian(value, has_aux=True))(h)
    np.testing.assert_allclose(x[:, 0], [-1.0, np.nan, -0.5])
    np.testing.assert_array_equal(status, [1, 3, 1])
    np.testing.assert_allclose(J[::2, 0], [[0, -1], [0, -1]], atol=1e-12)
    assert np.all(np.isnan(J[1]))


def test_a_program_that_is_not_convex():
    with pytest.warns(dini.SolveWarning, match="NOT_CONVEX"):
        step = jaxopt.EqualityConstrainedQP().run(None, (-jnp.eye(2), jnp.ones(2)), (jnp.ones((1, 2)), jnp.ones(1)))
    assert np.all(np.isnan(step.params.primal))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units(scale, truth):
    """In single precision, with objective and unknown in other units."""
    single = lambda part: jnp.asarray(part, jnp.float32)
    data = {
        "params_obj": (single(Q / scale), single(c)),
        "params_eq": (single(A), single(scale * b)),
        "params_ineq": (single(G), single(scale * h)),
    }
    solution = jaxopt.OSQP().run(None, **data).params
    assert solution.primal.dtype == jnp.float32
    np.testing.assert_allclose(solution.primal / scale, truth[0], atol=1e-5)


def test_bad_input_is_said_at_the_door():
    with pytest.raises(ValueError, match="fun or matvec_Q"):
        jaxopt.OSQP(fun=quadratic, matvec_Q=product)
    with pytest.raises(ValueError, match="params_obj"):
        jaxopt.OSQP().run(None)
    with pytest.raises(ValueError, match="pair"):
        jaxopt.OSQP().run(None, (Q, c, 1.0))
    with pytest.raises(ValueError, match="init_params"):
        jaxopt.OSQP(fun=quadratic).run(None, (Q, c))
    with pytest.raises(ValueError, match="eq_qp_solve"):
        jaxopt.OSQP(eq_qp_solve="qr")
    with pytest.raises(ValueError, match="shape"):
        jaxopt.CvxpyQP().run(None, (Q, c[:3]))
    with pytest.raises(ValueError, match="each leaf"):
        jaxopt.OSQP().run(None, ({"u": Q}, c))
