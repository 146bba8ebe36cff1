"""The augmented Lagrangian method: known solutions and derivatives, failures that are named, units, inner solvers."""

import hock_schittkowski as hs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini

SOLVER = dini.AugmentedLagrangian()


def nearest(a, radius, solver=SOLVER, **how):
    """Return the point nearest to ``a`` on a sphere: the equality has one solution, in closed form."""
    distance, sphere = lambda x, a, r: jnp.sum((x - a) ** 2), lambda x, a, r: jnp.sum(x**2) - r**2
    start = jnp.full_like(a, 0.5) * radius
    return dini.minimize(distance, start, a, radius, equality=sphere, solver=solver, **how)


def test_closed_form_and_its_derivatives_in_any_units():
    """Point, multiplier and their Jacobians, with lengths a million times smaller and larger."""

    @jax.jit
    def everything(a, radius):
        parts = lambda a, radius: (lambda s: (s.x, s.multipliers.equality))(nearest(a, radius))
        forward, value = jax.jacfwd(lambda *t: (parts(*t), parts(*t)), (0, 1), has_aux=True)(a, radius)
        return value, forward

    a, radius = jnp.array([3.0, 4.0, 0.0]), jnp.asarray(2.0)
    length = jnp.linalg.norm(a)
    for size in (1.0, 1e6, 1e-6):
        (x, y), ((x_a, x_r), (y_a, y_r)) = everything(a * size, radius * size)
        np.testing.assert_allclose(x / size, radius * a / length, atol=1e-7)
        np.testing.assert_allclose(y, length / radius - 1, rtol=1e-6)
        np.testing.assert_allclose(x_a, radius * (jnp.eye(3) / length - jnp.outer(a, a) / length**3), atol=1e-6)
        np.testing.assert_allclose(x_r, a / length, atol=1e-6)
        np.testing.assert_allclose(y_a * size, a / length / radius, atol=1e-6)
        np.testing.assert_allclose(y_r * size, -length / radius**2, rtol=1e-6)


def test_lanes_of_all_kinds():
    """Solved with and without active constraints, infeasible, not a number, without a lower bound; bounds beside."""

    def point(t):
        return dini.minimize(
            lambda x, t: t[0] * x[0] + t[1] * jnp.sum((x - 1) ** 2),
            jnp.zeros(2),
            t,
            inequality=lambda x, t: jnp.stack([x[0] - t[2], t[4] * (t[3] - x[0])]),
            constraint=dini.sets.Box(-1e6, jnp.array([jnp.inf, 0.75])),
            solver=SOLVER,
        )

    lanes = jnp.array(
        [
            [0.0, 1.0, 5.0, -5.0, 1.0],  # no constraint is active
            [0.0, 1.0, 0.5, -5.0, 1.0],  # the first is
            [0.0, 1.0, 5.0, 2.0, 1.0],  # the second is
            [0.0, 1.0, 1.0, 2.0, 1.0],  # both cannot hold
            [-1.0, 0.0, jnp.nan, -5.0, 1.0],  # no number
        ]
    )
    slopes, solution = jax.jit(jax.vmap(jax.jacrev(lambda t: (lambda s: (s.x, s))(point(t)), has_aux=True)))(lanes)
    names = [dini.Status(int(s)).name for s in solution.status]
    assert names[:4] == ["CONVERGED"] * 3 + ["LOCALLY_INFEASIBLE"]
    assert names[4] != "CONVERGED"
    np.testing.assert_allclose(solution.x[:3], [[1, 0.75], [0.5, 0.75], [2, 0.75]], atol=1e-7)
    np.testing.assert_allclose(solution.multipliers.inequality[:3], [[0, 0], [1, 0], [0, 2]], atol=1e-6)
    assert (solution.multipliers.inequality[0] == 0).all()
    np.testing.assert_allclose(solution.multipliers.bounds[:3], [[0, 0.5]] * 3, atol=1e-6)
    expected = np.zeros((3, 2, 5))
    expected[0, :, 0] = [-0.5, 0]
    expected[1, 0, 2] = expected[2, 0, 3] = 1
    np.testing.assert_allclose(slopes[:3], expected, atol=1e-6)
    assert np.isnan(slopes[3:]).any(axis=(1, 2)).all()


def test_any_inner_solver_and_single_precision():
    """Newton's method and BFGS give the same point; in float32 to its accuracy."""
    a = jnp.array([3.0, 4.0], np.float32)
    for inner in (dini.BFGS(), dini.Newton()):
        found = nearest(a, np.float32(2), dini.AugmentedLagrangian(inner))
        assert found.x.dtype == np.float32
        np.testing.assert_allclose(found.x, [1.2, 1.6], rtol=2e-3)


def test_a_warm_start_takes_the_multipliers():
    """A solve from a solution and its multipliers is done at once."""
    problem = dini.NonlinearProgram(lambda x, a: jnp.sum((x - a) ** 2), equality=lambda x, a: jnp.sum(x**2) - 4.0)
    a = jnp.array([3.0, 4.0])
    cold = dini.solve(problem, SOLVER, problem.start(jnp.ones(2), a), a)
    warm = dini.solve(problem, SOLVER, cold.x, a)
    assert warm.stats.steps < cold.stats.steps
    np.testing.assert_allclose(warm.x.primal, [1.2, 1.6], atol=1e-7)


def test_the_door():
    with pytest.raises(TypeError, match="must be a solver of dini's that takes steps"):
        dini.AugmentedLagrangian(lambda problem, x: x)
    with pytest.raises(TypeError, match="must be one for Minimize"):
        dini.AugmentedLagrangian(dini.Anderson())
    with pytest.raises(TypeError, match=r"must keep the bounds.*LBFGS cannot"):
        dini.minimize(
            jnp.sum,
            jnp.ones(2),
            equality=lambda x: x[0] - x[1],
            constraint=dini.sets.NonNegative(),
            solver=dini.AugmentedLagrangian(dini.LBFGS()),
        )
    with pytest.raises(ValueError, match="weight must be positive"):
        dini.AugmentedLagrangian(weight=-1.0)


@pytest.mark.thorough  # a program of its own for each
@pytest.mark.parametrize("problem", hs.PROBLEMS, ids=[problem.name for problem in hs.PROBLEMS])
def test_hock_and_schittkowski(problem):
    """All are solved to the last digits, which the inner solver alone does not reach in ten of them."""
    bound = lambda value: None if np.isinf(value).all() else jnp.asarray(value, float)
    inequality = None if problem.inequality is None else (lambda x: -problem.inequality(x))
    program = dini.NonlinearProgram(
        problem.fun, problem.equality, inequality, bound(problem.lower), bound(problem.upper)
    )
    solution = jax.jit(lambda x: dini.solve(program, SOLVER, program.start(x), on_failure="ignore"))(
        jnp.asarray(problem.start, float)
    )
    assert solution.success
    assert solution.stats.error <= 1e-12
    np.testing.assert_allclose(solution.value, problem.value, rtol=1e-8, atol=1e-8)
    if problem.solution is not None:
        np.testing.assert_allclose(solution.x.primal, problem.solution, atol=1e-7)


def test_nothing_is_believed_on_the_way_to_infinity():
    """Without a lower bound: far away any slope is small beside the forces, and any violation beside the point."""

    def end(t):
        # t: which of three; a slope along a line, a violation beside another element, a slope beside growing forces
        fun = lambda x: jnp.stack(
            [(x[0] - x[1]) ** 2 - 3 * (x[0] + x[1]), x[0] + x[1], (x[1] ** 2 - x[0] ** 2) / 2 - 3 * x[0]]
        )
        rows = lambda x: jnp.stack([x[0] - x[1] - 0.5, x[0] ** 2 + 1, x[0] - x[1]])
        return dini.minimize(
            lambda x: t @ fun(x), jnp.ones(2), equality=lambda x: t @ rows(x), solver=SOLVER, on_failure="ignore"
        )

    found = jax.jit(jax.vmap(end))(jnp.eye(3))
    assert not found.success.any()
