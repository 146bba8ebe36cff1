"""A transformed projection or proximal operator is that of another set: closed forms, by rows and by lanes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini_jaxopt as jaxopt

ROWS = np.array([[3.0, 1.0, -2.0], [0.3, 0.2, 0.1]])


def _distance(x, y):
    return 0.5 * jnp.sum((x - y) ** 2)


def _simplex(row):
    """Return the projection onto the simplex, by the sorted sums of its threshold."""
    ordered = np.sort(row)[::-1]
    threshold = max((ordered[: k + 1].sum() - 1) / (k + 1) for k in range(row.size))
    return np.maximum(row - threshold, 0)


@pytest.mark.parametrize("road", ["projection", "prox"])
def test_a_projection_by_rows_is_not_that_of_the_whole(road):
    by_rows = jax.vmap(jaxopt.projection.projection_simplex)
    if road == "projection":
        solver = jaxopt.ProjectedGradient(_distance, lambda x, _: by_rows(x), tol=1e-10)
        marked = jaxopt.ProjectedGradient(
            _distance, jax.vmap(jaxopt.projection.projection_simplex, in_axes=(0, None)), tol=1e-10
        )
        points = [each.run(jnp.asarray(ROWS), 1.0, ROWS).params for each in (solver, marked)]
    else:
        prox = jaxopt.prox.make_prox_from_projection(jax.vmap(jaxopt.projection.projection_simplex, in_axes=(0, None)))
        points = [jaxopt.ProximalGradient(_distance, prox, tol=1e-10).run(jnp.asarray(ROWS), 1.0, ROWS).params]
    for x in points:
        np.testing.assert_allclose(x, [_simplex(row) for row in ROWS], atol=1e-9)


def test_a_penalty_by_rows_is_not_that_of_the_whole():
    prox = jax.vmap(jaxopt.prox.prox_group_lasso, in_axes=(0, None, None))
    solver = jaxopt.ProximalGradient(_distance, prox, tol=1e-10)
    norms = np.linalg.norm(ROWS, axis=1, keepdims=True)
    expected = ROWS * np.maximum(1 - 0.5 / norms, 0)
    np.testing.assert_allclose(solver.run(jnp.asarray(ROWS), 0.5, ROWS).params, expected, atol=1e-9)
    # the derivative in the strength: minus the unit vector of each row that is not zero
    slope = jax.jacobian(lambda s: solver.run(jnp.asarray(ROWS), s, ROWS).params)(0.5)
    np.testing.assert_allclose(slope, np.where(norms > 0.5, -ROWS / norms, 0), atol=1e-8)


def test_a_function_that_wraps_a_projection_is_its_own():
    @functools.wraps(jaxopt.projection.projection_simplex)
    def twice(x, value=None):
        return 2 * jaxopt.projection.projection_simplex(x / 2, value)

    x = jaxopt.ProjectedGradient(_distance, twice, tol=1e-10).run(jnp.asarray(ROWS[0]), 1.0, ROWS[0]).params
    np.testing.assert_allclose(x, 2 * _simplex(ROWS[0] / 2), atol=1e-9)
