"""Derivatives at given points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini


def near(got, want, rtol=1e-8):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol), got, want)


def loss(x, a):
    return jnp.sum(jnp.cosh(x) - a * x)


A = np.array([0.3, 2.0])


def test_a_minimum():
    problem, x = dini.Minimize(loss), jnp.arcsinh(A)
    at = lambda a: dini.differentiate(problem, x, a)
    assert bool(at(A).success)
    near(at(A).x, x)
    near(at(A).value, loss(x, A))
    jacobians = jax.jit(lambda a: (jax.jacrev(lambda a: at(a).x)(a), jax.jacfwd(lambda a: at(a).x)(a)))
    for J in jacobians(A):
        near(J, jnp.diag(1 / jnp.sqrt(1 + A**2)))
    curved = jax.grad(lambda a: at(a).x[1], argnums=0)
    near(jax.jacobian(curved)(A)[1, 1], -A[1] / (1 + A[1] ** 2) ** 1.5)


def test_the_point_has_no_derivative_of_its_own():
    """A point that was computed from the parameter is a constant, as a starting point is."""
    solve = lambda a: dini.differentiate(dini.Root(lambda x, a: x**3 - a), 2.0 + 0.0 * a, a).x
    near(jax.grad(solve)(8.0), 1 / 12)


def test_a_closure_and_a_part_of_the_problem():
    def project(t):
        problem = dini.Minimize(lambda x: jnp.sum((x - t[1]) ** 2), constraint=dini.sets.Box(0.0, t[0]))
        return dini.differentiate(problem, jnp.array(1.0), on_failure="nan").x

    near(jax.grad(project)(jnp.array([1.0, 3.0])), jnp.array([1.0, 0.0]))


def test_a_point_that_is_no_solution():
    problem = dini.Minimize(loss)
    with pytest.raises(dini.SolveError, match="the given point: CONDITION after 0 steps"):
        dini.differentiate(problem, jnp.ones(2), A)
    batch = jnp.stack([jnp.arcsinh(A), jnp.ones(2), jnp.full(2, jnp.nan)])
    found = jax.vmap(lambda x: dini.differentiate(problem, x, A))(batch)
    assert [dini.Status(int(s)).name for s in found.status] == ["CONVERGED", "CONDITION", "NONFINITE"]
    J = jax.vmap(lambda x: jax.jacrev(lambda a: dini.differentiate(problem, x, a).x)(A))(batch)
    near(J[0], jnp.diag(1 / jnp.sqrt(1 + A**2)))
    assert np.isnan(np.asarray(J[1:])).all()
    # a constraint that was ignored
    inside = dini.Minimize(loss, constraint=dini.sets.Box(0.0, 0.5))
    assert dini.differentiate(inside, jnp.arcsinh(A), A, on_failure="ignore").status == dini.Status.CONDITION


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units(unit):
    problem = dini.Minimize(lambda x, a: loss(x / unit, a))
    solve = lambda a, off: dini.differentiate(problem, unit * (jnp.arcsinh(A) + off), a, on_failure="ignore")
    assert solve(A, 0.0).success
    assert not solve(A, 0.01).success
    near(jax.jacobian(lambda a: solve(a, 0.0).x)(A) / unit, jnp.diag(1 / jnp.sqrt(1 + A**2)))
    # rounding to single precision is no reason to refuse
    assert dini.differentiate(problem, (unit * jnp.arcsinh(A)).astype(jnp.float32), A.astype(jnp.float32)).success


@pytest.mark.parametrize("kind", ["minimum", "quadratic program", "nonlinear program"])
def test_unlike_units(kind):
    """An element that is wrong by a tenth of itself is seen, however small its gradient is beside another one."""
    unit, t = np.array([1e3, 1.0, 1e-3]), np.array([0.7, -0.4, 0.9])
    squares = lambda x: 0.5 * jnp.sum((x / unit - t) ** 2)
    row = np.ones(3) / unit
    solution = unit * (t + (1 - t.sum()) / 3)
    if kind == "minimum":
        problem, solution = dini.Minimize(squares), unit * t
    elif kind == "quadratic program":
        problem = dini.QuadraticProgram(Q=np.diag(unit**-2), c=-t / unit, A=row[None], b=np.ones(1))
    else:
        problem = dini.NonlinearProgram(squares, equality=lambda x: row @ x - 1)
    # the second one moves along the constraint
    points = solution + np.array([[0.0, 0, 0], [0.1, -0.1, 0], [0, 0.1, -0.1]]) * unit
    found = jax.vmap(lambda x: dini.differentiate(problem, x, on_failure="ignore").success)(points)
    assert found.tolist() == [True, False, False]


PROGRAM = {"A": np.ones((1, 3)), "b": np.ones(1), "lower": 0.0, "upper": 0.6}


def test_a_quadratic_program_whose_multipliers_are_not_known():
    """The projection onto a bounded simplex: one element at each bound."""

    def at(y, **dual):
        problem = dini.QuadraticProgram(Q=jnp.eye(3), c=-y, **PROGRAM)
        return dini.differentiate(problem, jnp.array([0.6, 0.4, 0.0]), **dual)

    y = jnp.array([0.9, 0.5, -1.0])
    found = at(y)
    # x - y + nu + w = 0
    want = dini.Multipliers(jnp.array([0.1]), None, jnp.array([0.2, 0.0, -1.1]))
    near(found.multipliers, want)
    near(found.x, jnp.array([0.6, 0.4, 0.0]))
    near(at(y, multipliers=want).multipliers, want)
    J = jax.jit(jax.jacobian(lambda y: (at(y).x, at(y).multipliers.equality)))(y)
    near(J[0], jnp.zeros((3, 3)))
    near(J[1], jnp.array([[0.0, 1.0, 0.0]]))
    wrong = dini.Multipliers(jnp.array([0.3]), None, jnp.zeros(3))
    assert at(y, multipliers=wrong, on_failure="ignore").status == dini.Status.CONDITION


def test_a_nonlinear_program_whose_multipliers_are_not_known():
    """The nearest point of a disc, and a bound that is not active; the multiplier is |a| - 1."""
    problem = dini.NonlinearProgram(
        lambda x, a: jnp.sum((x["u"] - a) ** 2), None, lambda x, a: jnp.sum(x["u"] ** 2) - 1.0, upper={"u": 5.0}
    )
    a = jnp.array([3.0, 4.0])
    solve = lambda a: dini.differentiate(problem, {"u": jnp.array([0.6, 0.8])}, a)
    found = solve(a)
    near(found.multipliers.inequality, jnp.array(4.0))
    near(found.multipliers.bounds["u"], jnp.zeros(2))
    x = a / 5
    near(jax.jacobian(lambda a: solve(a).x["u"])(a), (jnp.eye(2) - jnp.outer(x, x)) / 5)
    # inside of the disc the multiplier would have to pull
    inner = lambda a: dini.differentiate(problem, {"u": jnp.array([0.6, 0.8])}, a, on_failure="ignore")
    assert inner(a / 10).status == dini.Status.CONDITION


def test_a_cone_program():
    bounds = {"A": -jnp.eye(2), "b": -jnp.array([1.0, 2.0]), "cone": dini.sets.NonNegative()}
    problem = dini.ConeProgram(c=jnp.array([1.0, 3.0]), **bounds)
    found = dini.differentiate(problem, jnp.array([1.0, 2.0]), multipliers=jnp.array([1.0, 3.0]))
    near(found.multipliers, jnp.array([1.0, 3.0]))
    with pytest.raises(TypeError, match="needs the multipliers of a cone program"):
        dini.differentiate(problem, jnp.array([1.0, 2.0]))


def test_a_certificate():
    problem = dini.Minimize(loss)
    sure = dini.Implicit(certify=True)
    solve = lambda a: dini.differentiate(problem, jnp.arcsinh(A), a, differentiation=sure).x
    near(jax.jacobian(solve)(A), jnp.diag(1 / jnp.sqrt(1 + A**2)))
    # near enough to pass for a solution, and yet its derivative is off by more than a percent
    rough = lambda a: dini.differentiate(problem, jnp.arcsinh(A) + 0.1, a, rtol=0.5, differentiation=sure).x
    with pytest.raises(dini.DerivativeError):
        jax.jacobian(rough)(A)


def test_what_is_refused():
    problem = dini.Minimize(loss)
    with pytest.raises(TypeError, match=r"differentiate supports Implicit\(\)"):
        dini.differentiate(problem, A, A, differentiation=dini.Unrolled())
    with pytest.raises(TypeError, match="Only a program has multipliers"):
        dini.differentiate(problem, A, A, multipliers=jnp.ones(1))
    program = dini.QuadraticProgram(Q=jnp.eye(3), c=jnp.ones(3), **PROGRAM)
    with pytest.raises((TypeError, ValueError), match=r"starting point must have.*Multipliers"):
        dini.differentiate(program, jnp.ones(3) / 3, multipliers=dini.Multipliers(jnp.ones(2), None, None))
    with pytest.raises((TypeError, ValueError), match=r"x0|unknown"):
        dini.differentiate(program, jnp.ones(2))


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_squares_that_single_precision_has_not(size):
    """The residual's square is zero or infinity in float32, which is no reason to believe or to refuse a point."""
    problem, a = dini.Root(lambda x, a: x**2 - a**2), jnp.float32(size)
    status = jax.jit(lambda x: dini.differentiate(problem, x, a, on_failure="ignore").status)
    assert status(a) == dini.Status.CONVERGED
    assert status(1.1 * a) == dini.Status.CONDITION


def test_an_unknown_of_another_shape_than_the_programs():
    program = dini.QuadraticProgram(Q=jnp.eye(2), c=jnp.ones(2))
    for wrong in ([-1.0, -1.0], jnp.ones(3)):
        with pytest.raises(TypeError, match=r"x must have the structure.*the unknown of the program|x must have"):
            dini.differentiate(program, wrong)
