"""Landscapes, vectors and distances of signed measures, against rank functions, matchings, and other libraries."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from dini_zoo.topology.multiparameter_persistence import (
    SignedMeasure,
    TopologicalLoss,
    gaussian_vectorize,
    graph_filtration,
    kantorovich_rubinstein,
    landscape,
    linear_functional,
    multiparameter_landscape,
    rank_function,
    rips_lower_star,
    signed_measure,
    simplicial_filtration,
    sliced_wasserstein,
    transport,
)

TRIANGLE = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
VALUES = np.array([[0, 0]] * 3 + [[1, 0], [0, 1], [1, 1], [2, 2]], float)


def measure_of(points, weights, room=None, dtype=float):
    """Any measure, with room for more points."""
    points = np.asarray(points, float)
    room = room or len(weights)
    pad = room - len(weights)
    mask = np.arange(room) < len(weights)
    full = np.pad(points, ((0, pad), (0, 0))).astype(dtype)
    owners = np.full(full.shape, -1, np.int32)
    weights = np.pad(np.asarray(weights, float), (0, pad)).astype(dtype)
    return SignedMeasure(*map(jnp.asarray, (full, weights, mask, owners, np.zeros(room, bool))))


def random_measure(random, births, deaths, room=None, dtype=float):
    count = births + deaths
    return measure_of(random.rand(count, 2), [1.0] * births + [-1.0] * deaths, room, dtype)


@jax.jit
def of_triangle(values, grid):
    filtration = simplicial_filtration(TRIANGLE, values)
    return multiparameter_landscape(filtration, 1, (1, 2), grid, engine="numpy", max_points=8)


def test_the_landscape_of_a_triangle():
    grid = np.random.RandomState(0).rand(60, 2) * 3
    first, second = of_triangle(VALUES, grid)
    truth = np.maximum(0, np.minimum(grid.min(axis=1) - 1, 2 - grid.min(axis=1)))
    assert np.allclose(first, truth, atol=1e-15)
    assert np.sum(truth > 0) > 10
    assert not second.any()


@pytest.fixture(scope="module")
def cloud():
    """Eight points in a loose ring with a function: what its landscapes are known from."""
    random = np.random.RandomState(5)
    turn = 2 * np.pi * np.arange(8) / 8
    points = np.stack([np.cos(turn), np.sin(turn)], axis=1) + 0.15 * random.randn(8, 2)
    return points, random.rand(8)


@jax.jit
def landscapes(points, function, grid):
    filtration = rips_lower_star(points, function)
    ranks = [signed_measure(filtration, d, "rank", engine="numpy", max_points=64) for d in (0, 1)]
    return landscape(ranks[0], (1, 2, 3), grid, jnp.array([1.0, 0.5])), ranks


def test_landscapes_are_the_suprema_of_their_definition(cloud):
    """By the rank function, in steps of a fine grid of epsilon."""
    grid = np.random.RandomState(1).rand(12, 2) * [1.2, 1.0]
    found, ranks = landscapes(*cloud, grid)
    direction = np.array([1.0, 0.5])
    steps = np.linspace(0, 1.5, 3001)
    moved = steps[:, None, None] * direction
    values = np.asarray(jax.jit(rank_function)(ranks[0], grid - moved, grid + moved))
    for k, ours in zip((1, 2, 3), found, strict=True):
        reached = values >= k
        truth = np.where(reached.any(axis=0), steps[-1 - np.argmax(reached[::-1], axis=0)], 0)
        assert np.allclose(ours, truth, atol=1e-3)
    assert (found[0] >= found[1]).all()
    assert np.sum(found[1] > 0) >= 2


def test_the_derivative_of_a_landscape_is_that_of_differences(cloud):
    points, function = cloud
    grid = np.random.RandomState(2).rand(6, 2)
    of = jax.jit(jax.value_and_grad(lambda *given: jnp.sum(landscapes(*given)[0] ** 2), argnums=(0, 1, 2)))
    _, slopes = of(points, function, grid)
    random = np.random.RandomState(3)
    directions = [random.randn(*part.shape) for part in (points, function, grid)]
    h = 1e-6
    ends = [
        float(of(*(part + sign * h * one for part, one in zip((points, function, grid), directions, strict=True)))[0])
        for sign in (1, -1)
    ]
    ours = sum(float(np.vdot(a, b)) for a, b in zip(slopes, directions, strict=True))
    assert abs(ours) > 0.1
    assert ours == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def matching(mu, nu):
    """The distance by a matching of single masses."""
    points = np.concatenate([mu.points, nu.points])
    weights = np.concatenate([mu.weights, -np.asarray(nu.weights)]).astype(int)
    rows, columns = (np.repeat(np.arange(len(weights)), np.maximum(sign * weights, 0)) for sign in (1, -1))
    cost = np.abs(points[rows][:, None] - points[columns]).sum(axis=-1)
    return cost[linear_sum_assignment(cost)].sum()


@pytest.mark.parametrize("dtype", [pytest.param("float64", marks=pytest.mark.thorough), "float32"])
def test_the_transport_distance_is_a_matching(dtype):
    tolerance = {"float64": 1e-12, "float32": 2e-4}[dtype]
    random = np.random.RandomState(0)
    for births, deaths in ((1, 0), (3, 3), (4, 2)):
        mu, nu = (random_measure(random, births, deaths, 6, dtype) for _ in range(2))
        found = transport(mu, nu)
        assert found.converged
        assert found.distance.dtype == dtype
        assert found.distance == pytest.approx(matching(mu, nu), rel=tolerance)
        assert np.allclose(found.plan.sum(axis=1)[:6], np.maximum(mu.weights, 0), atol=1e-4)


def test_the_derivative_of_the_transport_distance_is_its_plan():
    random = np.random.RandomState(1)
    mu, nu = random_measure(random, 3, 2, 6), random_measure(random, 3, 2, 6)
    of = lambda points: kantorovich_rubinstein(mu._replace(points=points), nu)
    slope = jax.grad(of)(mu.points)
    h, direction = 1e-6, random.randn(6, 2)
    difference = matching(mu._replace(points=mu.points + h * direction), nu) - matching(
        mu._replace(points=mu.points - h * direction), nu
    )
    assert np.vdot(slope, direction) == pytest.approx(difference / (2 * h), rel=1e-7)
    # padding is not pulled, and a birth of weight 1 by 1 in each coordinate
    assert not slope[5:].any()
    assert np.allclose(np.abs(slope[:5]), 1)


def test_distances_of_a_measure_from_itself_and_of_empty_ones():
    random = np.random.RandomState(2)
    mu, none = random_measure(random, 3, 3, 6), measure_of(np.zeros((0, 2)), [], 6)
    far = measure_of([[0.0, 1e6], [0.0, 1e6 + 2]], [1.0, -1.0], 6)
    for distance in (kantorovich_rubinstein, sliced_wasserstein):
        value, slope = jax.value_and_grad(lambda points, distance=distance: distance(mu._replace(points=points), mu))(
            mu.points
        )
        assert value == pytest.approx(0, abs=1e-15)
        assert np.isfinite(slope).all()
        assert distance(none, none) == 0
    # a birth and its death cancel one another: nothing else is paid
    assert kantorovich_rubinstein(far, none) == pytest.approx(2)
    assert kantorovich_rubinstein(none, far) == pytest.approx(2)


def test_the_distance_is_stable():
    r"""At most the number of parameters times the sum of the changes of all simplices' values."""
    random = np.random.RandomState(3)
    edges = np.array([(0, 1), (1, 2), (0, 2)])

    @jax.jit
    def of(values):
        filtration = graph_filtration(values, edges)
        measures = [signed_measure(filtration, d, engine="numpy", max_points=6) for d in (0, 1)]
        return measures, jnp.concatenate([values, jnp.max(values[edges], axis=1)])

    one = random.rand(3, 2)
    for scale in (1e-3, 1.0):
        other = one + scale * random.randn(3, 2)
        (ours, simplices), (theirs, moved) = of(one), of(other)
        for mu, nu in zip(ours, theirs, strict=True):
            assert 0 < kantorovich_rubinstein(mu, nu) <= 2 * np.abs(simplices - moved).sum()


def test_the_sliced_distance_is_the_one_on_lines():
    random = np.random.RandomState(4)
    mu, nu = random_measure(random, 5, 2, 9), random_measure(random, 4, 1, 7)
    directions = np.array([[1.0, 0.0], [0.6, -0.8], [2.0, 2.0]])
    truth = []
    for direction in directions:
        ends = [np.asarray(one.points)[one.mask] @ direction for one in (mu, nu)]
        signs = [np.asarray(one.weights)[one.mask] > 0 for one in (mu, nu)]
        sides = [
            np.concatenate([ends[0][signs[0]], ends[1][~signs[1]]]),
            np.concatenate([ends[1][signs[1]], ends[0][~signs[0]]]),
        ]
        truth.append(len(sides[0]) * wasserstein_distance(*sides))
    of = jax.jit(jax.value_and_grad(lambda points: sliced_wasserstein(mu._replace(points=points), nu, directions)))
    value, slope = of(mu.points)
    assert value == pytest.approx(np.mean(truth))
    h, direction = 1e-6, random.randn(9, 2)
    ahead, behind = (float(of(mu.points + sign * h * direction)[0]) for sign in (1, -1))
    assert np.vdot(slope, direction) == pytest.approx((ahead - behind) / (2 * h), rel=1e-6)


def test_vectors_of_a_measure():
    mu = measure_of([[0.0, 1.0], [2.0, np.inf], [1.0, 1.0]], [2.0, 1.0, -1.0], 5)
    centers = np.array([[0.0, 0.0], [1.0, 1.0]])
    bump = lambda p, c: np.exp(-np.sum((np.array(p) - c) ** 2) / (2 * 0.5**2))
    truth = [2 * bump((0, 1), c) - bump((1, 1), c) for c in centers]

    @jax.jit
    def of(points):
        mine = mu._replace(points=points)
        segments = jnp.array([0, 0, 1, 0, 0])
        parts = gaussian_vectorize(mine, centers, 0.5, segments=segments, count=3)
        integrals = (
            # what is padded is not looked at, where a function has no value as little as elsewhere
            linear_functional(mine, lambda p: jnp.log(p[1])),
            linear_functional(mine.capped(3.0), lambda p: p[1]),
            linear_functional(mine, lambda p: jnp.stack([p[0], p[0] ** 2, jnp.ones(())])),
        )
        return gaussian_vectorize(mine, centers, 0.5), parts, integrals

    whole, parts, integrals = of(mu.points)
    assert whole == pytest.approx(truth)
    assert parts.sum(axis=0) == pytest.approx(truth)
    assert parts[1] == pytest.approx([-bump((1, 1), c) for c in centers])
    assert not parts[2].any()
    assert integrals[:2] == (0, 2 + 3 - 1)
    assert integrals[2] == pytest.approx([-1, -1, 1])
    slope = jax.grad(lambda points: of(points)[0].sum())(mu.points)
    assert np.isfinite(slope).all()


@pytest.mark.thorough
def test_a_loss_moves_a_ring_of_points():
    """Births minus deaths of a square fall along its derivative, by scale and function."""
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.1, 1.0], [0.0, 1.2]])
    loss = TopologicalLoss(
        lambda x: rips_lower_star(x, x[:, 0]), lambda p: p[0], degree=1, engine="numpy", max_points=8
    )
    value, slope = jax.jit(jax.value_and_grad(loss))(square)
    assert value == pytest.approx(1.2 - min(np.hypot(1.1, 1), np.hypot(1, 1.2)))
    assert loss(square - 0.01 * slope) < value


MU, NU = measure_of([[0.0, 1.0]], [1.0]), measure_of([[0.0, 1.0], [1.0, 1.0]], [1.0, 1.0])
LINE, PLANE = measure_of([[1.0]], [1.0]), np.zeros((2, 2))
BAD = {
    "mu and nu must have the same total weight: given 1 and 2": lambda: sliced_wasserstein(MU, NU),
    "same total weight": lambda: kantorovich_rubinstein(MU, NU),
    "mu and nu must have points of as many coordinates": lambda: kantorovich_rubinstein(MU, LINE),
    "mu must have finite points.*mu.capped": lambda: sliced_wasserstein(measure_of([[0.0, np.inf]], [1.0]), MU),
    "directions must be vectors of 1 numbers": lambda: sliced_wasserstein(LINE, LINE),
    "directions must have 2 columns": lambda: sliced_wasserstein(MU, MU, np.ones((3, 3))),
    "directions must be at least 1": lambda: sliced_wasserstein(MU, MU, 0),
    "centers must have 1 columns": lambda: gaussian_vectorize(LINE, PLANE, 1.0),
    "width must be positive": lambda: gaussian_vectorize(MU, PLANE, 0.0),
    "segments and count": lambda: gaussian_vectorize(MU, PLANE, 1.0, count=2),
    "k must be at least 1": lambda: landscape(MU, 0, PLANE),
    "direction must be positive": lambda: landscape(MU, 1, PLANE, direction=-1.0),
    "grid must have 1 columns, one for each parameter": lambda: landscape(MU, 1, PLANE),
    "measure must be a rank invariant's": lambda: landscape(LINE, 1, PLANE),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()


def test_traced_measures_of_unequal_weight_are_nan():
    of = jax.jit(lambda weights: sliced_wasserstein(MU, NU._replace(weights=weights)))
    assert np.isnan(of(NU.weights))
    assert of(jnp.array([1.0, 0.0])) == 0


@pytest.mark.thorough
def test_another_point_compiles_nothing():
    counted = itertools.count()

    @jax.jit
    def of(points):
        next(counted)
        measure = signed_measure(rips_lower_star(points, points[:, 0]), 0, engine="numpy", max_points=16)
        return gaussian_vectorize(measure, PLANE, 1.0)

    random = np.random.RandomState(0)
    assert not np.array_equal(of(random.rand(5, 2)), of(random.rand(5, 2)))
    assert next(counted) == 1
