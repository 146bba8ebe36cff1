"""Programs whose central path ends before its residuals are small: the active rows are tried before that fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini import Status


def test_a_solution_of_zero_with_unlike_prices():
    """Elements vanish one faster than the other: beside the largest one, those that are gone are all error."""
    solve = lambda c: dini.quadratic_program(c=c, lower=0.0, solver=dini.InteriorPoint(), on_failure="ignore")
    prices = jnp.array([[1.0, 1e-3, 1e-6, 1e-8], [1.0, 1.0, 1.0, 1e-8], [1e6, 1e3, 1.0, 1e-2], [1.0, 2.0, 3.0, -1.0]])
    found = jax.jit(jax.vmap(solve))(prices)
    assert found.status.tolist() == [Status.CONVERGED] * 3 + [Status.DUAL_INFEASIBLE]
    np.testing.assert_array_equal(found.x[:3], np.zeros((3, 4)))
    np.testing.assert_allclose(found.multipliers.bounds[:3], -prices[:3], rtol=1e-12)


@pytest.mark.thorough
def test_support_vectors_of_a_nearly_singular_kernel():
    """The dual of a support vector machine with a wide kernel, judged by its conditions in NumPy."""
    n, rng = 80, np.random.default_rng(1)
    points = rng.standard_normal((n, 2))
    y = np.sign(points[:, 0] * points[:, 1] + 0.3 * rng.standard_normal(n))
    square = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    cases = [(0.01, 10.0), (0.1, 100.0), (0.3, 100.0), (0.3, 1000.0)]
    matrices = [np.exp(-gamma * square) * y[:, None] * y for gamma, _ in cases]
    limits = np.array([[limit] * n for _, limit in cases])

    def solve(Q, upper):
        rows = {"A": y[None], "b": np.zeros(1), "lower": 0.0, "upper": upper}
        return dini.quadratic_program(Q=Q, c=-np.ones(n), **rows, solver=dini.InteriorPoint(), on_failure="ignore")

    found = jax.jit(jax.vmap(solve))(jnp.asarray(matrices), jnp.asarray(limits))
    assert found.status.tolist() == [Status.CONVERGED] * len(cases)
    for Q, upper, x, equality in zip(matrices, limits, np.asarray(found.x), found.multipliers.equality, strict=True):
        slope = Q @ x - 1 + float(equality[0]) * y
        size = (np.abs(Q) @ x).max()
        assert abs(y @ x) <= 1e-9 * x.sum()
        assert (x >= 0).all()
        assert (x <= upper).all()
        # at a lower bound the slope may be positive, at an upper one negative
        assert (
            np.abs(np.where(x == 0, np.minimum(slope, 0), np.where(x == upper, np.maximum(slope, 0), slope))).max()
            <= 1e-9 * size
        )


@pytest.mark.thorough
def test_where_the_active_set_stalls_its_message_names_a_solver_that_does_not():
    """A quadratic term of 1e7 beside prices of one; the least value in rational arithmetic is 1 - 1.25e-8."""
    Q = np.array([[1e7, 2e7, 0], [2e7, 4e7, 0], [0, 0, 0]])
    G = np.array([[3.0, -1, -1], [0, -1, 1], [3, -3, -3], [0, 0, -3], [-3, -1, -2]])
    h, lower = np.array([-5.0, -2, -4, 3, 9]), np.array([-2.0, -np.inf, -1])
    data = {"Q": Q, "c": np.array([2.0, 2, -3]), "G": G, "h": h, "lower": lower}
    with pytest.raises(dini.SolveError, match=r"pass `solver=InteriorPoint\(\)`"):
        dini.quadratic_program(**data)
    found = dini.quadratic_program(**data, solver=dini.InteriorPoint())
    np.testing.assert_allclose(found.value, 1 - 1.25e-8, rtol=1e-12)
