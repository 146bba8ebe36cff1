"""Rips filtrations without edges: of one point, of points farther apart than the threshold, lanes of both kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measures import as_dict

from dini_zoo.topology.multiparameter_persistence import linear_functional, rips_lower_star, signed_measure

NO_EDGES = {
    "far": (np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.5]]), 0.5),
    "one point": (np.array([[0.3, 0.7]]), None),
    "one edge": (np.array([[0.0, 0.0], [3.0, 4.0]]), None),
}


@pytest.mark.parametrize("engine", ["numpy", "multipers"])
@pytest.mark.parametrize("case", NO_EDGES)
def test_a_filtration_without_edges_has_a_bar_for_each_point(case, engine):
    """Each point is a component that enters with its function, and none ends; of two points one does, with the edge."""
    if engine == "multipers":
        pytest.importorskip("multipers", reason="multipers, the engine of large complexes, has no build here")
    points, threshold = NO_EDGES[case]
    n = len(points)
    function = np.array([0.4, 0.1, 0.2])[:n]
    long = [5.0] if case == "one edge" else []
    last = function.max()

    @jax.jit
    def of(points, function):
        found = []
        for values in (None, function):
            filtration = rips_lower_star(points, values, threshold=threshold, dimension=2)
            for degree, invariant in ((0, "hilbert"), (1, "hilbert"), (0, "rank")):
                found.append(signed_measure(filtration, degree, invariant, max_points=8, engine=engine))
            found.append(signed_measure(filtration, None, "euler"))
        return found

    alone, no_cycles, bars, euler, both, no_cycles_of_both, rectangles, euler_of_both = of(points, function)
    births = {(0.0,): n}
    assert as_dict(alone) == births | {(one,): -1 for one in long}
    assert as_dict(no_cycles) == as_dict(no_cycles_of_both) == {}
    assert as_dict(bars) == ({(0.0, 5.0): 1, (0.0, np.inf): 1} if long else {(0.0, np.inf): n})
    assert as_dict(euler) == as_dict(alone)
    of_both = {(0.0, value): 1 for value in function} | {(one, last): -1 for one in long}
    assert as_dict(both) == as_dict(euler_of_both) == of_both
    if not long:
        assert as_dict(rectangles) == {(0.0, value, np.inf, np.inf): 1 for value in function}

    def loss(points, function):
        return sum(linear_functional(one, lambda p: jnp.sum(p**2)) for one in of(points, function)[4:5])

    of_points, of_function = jax.grad(loss, (0, 1))(points, function)
    by_hand = 2 * function - np.where(function == last, 2 * last, 0) * len(long)
    np.testing.assert_allclose(of_function, by_hand, atol=1e-12)
    # the edge has the length 5, and minus its square is in the loss
    pull = 2 * (points[1] - points[0]) if long else 0
    np.testing.assert_allclose(of_points, np.stack([pull, -pull]) if long else 0 * points, atol=1e-12)


def test_matrices_without_edges():
    """Of one point, of points that are never joined, and lanes with an edge beside lanes without."""
    for distances, total in ((np.zeros((1, 1)), 1), (np.where(np.eye(3) == 1, 0, np.inf), 3)):
        measure = signed_measure(rips_lower_star(distances=distances), 0, engine="numpy", max_points=8)
        assert as_dict(measure) == {(0.0,): total}
    lanes = np.array([[[0.0], [1.0]], [[0.0], [3.0]]])
    of = lambda points: signed_measure(rips_lower_star(points, threshold=2.0), 0, engine="numpy", max_points=8)
    found = jax.jit(jax.vmap(of))(lanes)
    assert found.weights.sum(axis=1).tolist() == [1, 2]
    slopes = jax.vmap(jax.grad(lambda points: linear_functional(of(points), lambda p: p[0])))(lanes)
    np.testing.assert_array_equal(slopes, [[[1.0], [-1.0]], [[0.0], [0.0]]])
