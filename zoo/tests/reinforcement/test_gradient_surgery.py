"""The orthogonal update of any two losses on a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dini_zoo.reinforcement.gradient_surgery import combine, combined_gradient, inner, project_orthogonal

MAIN, ADDED = np.array([1.0, 2.0, -1.0]), np.array([-0.5, -1.2, 2.0])


def tree(vector):
    """The same numbers in two leaves."""
    return {"a": vector[:1], "b": (vector[1:],)}


def test_the_projection_of_the_specification():
    """Exact check 1, in an array and in a tree: all leaves are projected at once."""
    expected = [1.3166666667, 2.4333333333, 0.1833333333]
    found = combine(MAIN, ADDED)
    np.testing.assert_allclose(found.gradient, expected, atol=5e-11)
    np.testing.assert_allclose(found.coefficient, -0.8166666667, atol=5e-11)
    cosine = MAIN @ ADDED / jnp.linalg.norm(MAIN) / jnp.linalg.norm(ADDED)
    np.testing.assert_allclose(found.cosine, cosine, rtol=1e-14)
    assert abs(inner(project_orthogonal(ADDED, MAIN), MAIN)) < 1e-15
    split = combine(tree(MAIN), tree(ADDED)).gradient
    np.testing.assert_allclose(jnp.concatenate([split["a"], split["b"][0]]), expected, atol=5e-11)


def test_the_modes():
    np.testing.assert_array_equal(combine(MAIN, ADDED, "sum").gradient, MAIN + ADDED)
    np.testing.assert_array_equal(combine(MAIN, ADDED, "main").gradient, MAIN)
    np.testing.assert_allclose(combine(MAIN, -3 * MAIN).gradient, MAIN, rtol=1e-15)
    np.testing.assert_array_equal(combine(MAIN, 0 * ADDED).gradient, MAIN)
    # each leaf by itself: the first, of one number, has nothing orthogonal to it
    leafwise = combine(tree(MAIN), tree(ADDED), leafwise=True)
    assert leafwise.gradient["a"] == MAIN[0]
    np.testing.assert_allclose(leafwise.gradient["b"][0] @ MAIN[1:], MAIN[1:] @ MAIN[1:], rtol=1e-14)
    np.testing.assert_allclose(leafwise.coefficient, -0.8166666667, atol=5e-11)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_units_do_not_matter(dtype):
    expected = np.asarray(project_orthogonal(ADDED, MAIN))
    project = jax.jit(project_orthogonal)
    for main, added in ((1e-30, 1e-30), (1e30, 1e-30), (1e-6, 1e6), (1e25, 1e30)):
        found = project((added * ADDED).astype(dtype), (main * MAIN).astype(dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(np.asarray(found, float) / added, expected, rtol=3e-6)


def test_references_that_vanish_and_the_published_guard():
    np.testing.assert_array_equal(project_orthogonal(ADDED, 0 * MAIN), ADDED)
    # the guard counts where the reference is small beside it: here a thousandth is taken away
    small = 1e-6 * MAIN / jnp.linalg.norm(MAIN)
    taken = ADDED - project_orthogonal(ADDED, small, 1e-9)
    np.testing.assert_allclose(taken, 1e-3 * (ADDED - project_orthogonal(ADDED, small)), rtol=1e-9)
    # a lane that is not finite stays alone
    lanes = jax.vmap(project_orthogonal)(jnp.stack([ADDED, ADDED]), jnp.array([[np.nan, 2.0, -1.0], MAIN]))
    assert jnp.all(jnp.isnan(lanes[0]))
    np.testing.assert_allclose(lanes[1], project_orthogonal(ADDED, MAIN), rtol=1e-15)


def test_the_derivative_is_that_of_the_plain_formula():
    plain = lambda g, r: g - (g @ r) / (r @ r) * r
    for argnums in (0, 1):
        found, expected = (jax.jit(jax.jacfwd(f, argnums))(ADDED, MAIN) for f in (project_orthogonal, plain))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_added_part_leaves_the_main_loss():
    """Exact check 4, for two losses of a tree: what the step changes of the main one is of second order."""
    point = tree(jnp.array([0.3, -0.7, 1.1]))

    def main(params, scale):
        return scale * jnp.sum(jnp.sin(params["b"][0])) * jnp.exp(params["a"][0])

    def added(params, scale):
        return scale * jnp.sum(params["b"][0] ** 3) + params["a"][0] ** 2

    both, alone = (combined_gradient(main, added, point, 2.0, mode=mode).gradient for mode in ("orthogonal", "main"))
    direction = jax.tree.map(jnp.subtract, both, alone)
    assert inner(direction, direction) > 1
    moved = lambda h: main(jax.tree.map(lambda p, d: p - h * d, point, direction), 2.0) - main(point, 2.0)
    np.testing.assert_allclose(moved(1e-3) / moved(5e-4), 4.0, rtol=0.01)
    assert added(jax.tree.map(lambda p, d: p - 1e-3 * d, point, direction), 2.0) < added(point, 2.0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="mode must be one of"):
        combine(MAIN, ADDED, "semi")
    with pytest.raises(ValueError, match="eps must be zero or more"):
        project_orthogonal(ADDED, MAIN, -1.0)
    with pytest.raises(ValueError, match="trees of one form"):
        combine(tree(MAIN), MAIN)
    with pytest.raises(ValueError, match="leaves of one shape"):
        project_orthogonal(ADDED[:1], MAIN)
    with pytest.raises(TypeError, match="params must be a tree of arrays of floats"):
        combined_gradient(jnp.sum, jnp.sum, jnp.arange(3))
