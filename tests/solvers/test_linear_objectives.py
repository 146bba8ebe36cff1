"""Linear objectives over sets whose projections are known to rounding only: what has no curvature has an end, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import dini


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_an_optimal_transport_plan_is_found_in_any_units(dtype):
    """The value is that of a linear program by HiGHS, with costs and masses of other units as well."""
    random = np.random.default_rng(0)
    n, m = 5, 6
    cost, a, b = random.random((n, m)), random.random(n) + 0.1, random.random(m) + 0.1
    a, b = a / a.sum(), b / b.sum()
    sums = np.concatenate([np.kron(np.eye(n), np.ones((1, m))), np.kron(np.ones((1, n)), np.eye(m))])
    best = linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate([a, b])).fun

    @jax.jit
    def plan(cost, a, b):
        polytope = dini.sets.TransportationPolytope(a, b)
        start = jnp.outer(a, b) / jnp.sum(a)
        found = dini.minimize(
            lambda P, C: jnp.sum(C * P),
            start,
            cost,
            constraint=polytope,
            solver=dini.ProjectedGradient(),
            on_failure="ignore",
        )
        return found.status, found.value

    for costly, mass in ((1, 1), (1e6, 1), (1e-6, 1e4), (1e6, 1e-4)):
        status, value = plan(*(jnp.asarray(v, dtype) for v in (costly * cost, mass * a, mass * b)))
        assert status == dini.Status.CONVERGED
        np.testing.assert_allclose(value / costly / mass, best, rtol=1e-6 if dtype == jnp.float32 else 1e-12)


@pytest.mark.parametrize("step_size", [1e-17, 1e-15, 1e-9])
def test_a_step_that_rounding_swallows_is_no_end(step_size):
    """With steps that are too short to move the point, its start is not called a solution."""
    solver = dini.ProximalGradient(step_size=step_size, max_steps=20)
    start, box = jnp.array([1.0, 2.5]), dini.sets.Box(-10.0, 10.0)
    found = dini.minimize(lambda x: x[0] + 2 * x[1], start, constraint=box, solver=solver, on_failure="ignore")
    assert found.status != dini.Status.CONVERGED
