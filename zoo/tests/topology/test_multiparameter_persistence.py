"""Signed measures: the specification's exact checks, engines against each other, ties, batches, what bad input gets."""

import dataclasses
import doctest
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measures import as_dict
from outputs import assert_bars_met, assert_drawn, assert_fits, performed

from dini_zoo.topology.multiparameter_persistence import (
    codensity,
    cubical_filtration,
    cumulative,
    engines,
    graph_batch,
    graph_filtration,
    linear_functional,
    rank_function,
    reduction,
    rips_lower_star,
    signed_measure,
    simplicial_filtration,
    vectorizations,
)
from dini_zoo.topology.multiparameter_persistence.clouds import MIDDLE, RADIUS, basin
from dini_zoo.topology.multiparameter_persistence.complexes import Ranked
from dini_zoo.topology.multiparameter_persistence.experiment import experiment
from dini_zoo.topology.multiparameter_persistence.graphs import EDGES, Classifier, births, sampled
from dini_zoo.topology.multiparameter_persistence.study import PARTS, Settings, exact_checks, reconstruction

TRIANGLE = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
VALUES = np.array([[0, 0]] * 3 + [[1, 0], [0, 1], [1, 1], [2, 2]], float)


@pytest.fixture
def multipers():
    return pytest.importorskip("multipers", reason="multipers, the engine of large complexes, has no build here")


def triangle(values, degree, invariant, engine="numpy"):
    options = {} if invariant == "euler" else {"max_points": 8, "engine": engine}
    return signed_measure(simplicial_filtration(TRIANGLE, values), degree, invariant, **options)


@pytest.mark.parametrize("engine", ["numpy", pytest.param("multipers", marks=pytest.mark.thorough)])
def test_the_measures_of_a_triangle(engine, request):
    if engine == "multipers":
        request.getfixturevalue("multipers")
    inf = np.inf
    cases = {
        (0, "hilbert"): {(0, 0): 3, (1, 0): -1, (0, 1): -1},
        (1, "hilbert"): {(1, 1): 1, (2, 2): -1},
        (1, "rank"): {(1, 1, 2, inf): 1, (1, 1, inf, 2): 1, (1, 1, 2, 2): -1},
        (None, "euler"): {(0, 0): 3, (1, 0): -1, (0, 1): -1, (1, 1): -1, (2, 2): 1},
    }
    for (degree, invariant), truth in cases.items():
        measure = triangle(VALUES, degree, invariant, engine)
        assert as_dict(measure) == truth
        assert not np.any(np.asarray(measure.weights)[~np.asarray(measure.mask)])


def test_equal_values_share_the_derivative_and_say_so():
    """By the order of equal values one of them would get all of it: a sum of births is smooth in all of them."""
    values = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
    simplices = [(0,), (1,), (2,), (0, 1)]

    @jax.jit
    def births_of(values):
        measure = signed_measure(simplicial_filtration(simplices, values), 0, engine="numpy", max_points=8)
        positive = jnp.where(measure.weights > 0, measure.points[:, 1], 0)
        return jnp.sum(positive), measure

    slope, measure = jax.grad(births_of, has_aux=True)(values)
    assert slope[:, 1].tolist() == [1, 1, 1, 0]
    assert as_dict(measure) == {(0, 1): 3, (2, 1): -1}
    assert measure.tied[measure.mask].all()
    apart = np.stack([np.arange(4.0), np.arange(4.0) + 5], axis=1)
    assert not births_of(apart)[1].tied.any()


def test_the_checks_with_known_figures(multipers):
    found = exact_checks()
    assert found.derivatives == pytest.approx((5.054463203, 1.677611879), abs=1e-8)
    assert found.differences == pytest.approx(found.derivatives, abs=1e-7)
    ours, truth = reconstruction()
    assert (ours == truth).all()
    assert truth.size == 63
    assert np.sum(truth != 0) == 16


def circle():
    turn = 2 * np.pi * np.arange(24) / 24
    points = np.stack([np.cos(turn), np.sin(turn)], axis=1) + 0.1 * np.random.RandomState(0).randn(24, 2)
    return points, points[:, 0] ** 2 + 0.3 * points[:, 1] + 0.1 * np.arange(24) / 24


def test_the_circle_has_16_points_whose_weights_cancel(multipers):
    measure = signed_measure(rips_lower_star(*circle()), 1, max_points=64)
    assert measure.count == 16
    assert measure.total == 0


def test_each_coordinate_has_one_owner(multipers):
    """Backward: the derivative of check 3, and the sums by owner; total weight; equivariance under scaling."""
    points = np.random.RandomState(7).rand(25, 2)
    function = np.asarray(1 - np.exp(-np.sum((points - MIDDLE) ** 2, axis=1) / RADIUS**2))

    @jax.jit
    def both(points, function, scale):
        measure = signed_measure(rips_lower_star(scale[0] * points, scale[1] * function), 1)
        return linear_functional(measure, lambda p: p[0] ** 2 + p[0] * p[1]), measure

    of = jax.jit(jax.value_and_grad(both, argnums=(0, 1), has_aux=True))
    (_, measure), (by_points, by_function) = of(points, function, np.ones(2))
    assert np.sum(by_function) == pytest.approx(float(jnp.sum(measure.weights * measure.points[:, 0])), abs=1e-12)
    owned = np.zeros(25)
    np.add.at(owned, measure.owners[measure.mask, 1], (measure.weights * measure.points[:, 0])[measure.mask])
    assert np.allclose(by_function, owned, atol=1e-14)
    slope = (1 - function)[:, None] * 2 * (points - MIDDLE) / RADIUS**2
    direction = np.random.RandomState(8).randn(25, 2)
    assert np.vdot(by_points + by_function[:, None] * slope, direction) == pytest.approx(1.677611879, abs=1e-8)
    (_, other), _ = of(points, function, np.array([3.0, 1e-6]))
    assert np.allclose(other.points, np.asarray(measure.points) * [3.0, 1e-6], rtol=1e-12, atol=0)
    assert np.array_equal(other.weights, measure.weights)
    assert measure.total == 0  # the complex is contractible at the top


@pytest.mark.parametrize("function", [None, pytest.param(np.zeros(24), marks=pytest.mark.thorough)], ids=str)
def test_one_parameter_is_a_barcode(function, multipers):
    measure = as_dict(signed_measure(rips_lower_star(circle()[0], function), 1, max_points=64))
    ends = {point[0]: weight for point, weight in measure.items()}
    assert sorted(ends) == pytest.approx([0.51574177, 1.57255033], abs=1e-8)
    assert [ends[end] for end in sorted(ends)] == [1, -1]


@pytest.mark.thorough
def test_barcodes_are_those_of_ripser(multipers):
    ripser = pytest.importorskip("ripser", reason="ripser is what barcodes are compared with")
    points, _ = circle()
    barcode = ripser.ripser(points, maxdim=1)["dgms"]
    assert barcode[1].tolist() == [pytest.approx([0.51574177, 1.57255033], abs=1e-6)]
    for degree in (0, 1):
        bars = signed_measure(rips_lower_star(points), degree, "rank", max_points=64)
        found = np.asarray(bars.points)[bars.mask]
        assert np.allclose(found[np.lexsort(found.T)], barcode[degree][np.lexsort(barcode[degree].T)], atol=1e-6)


def random_complex(random, parameters):
    """At most 60 simplices, of dimension 3 at most, with few different values."""
    count = random.randint(4, 8)
    levels = [[(i,) for i in range(count)]]
    for dimension in (1, 2, 3):
        before = set(levels[-1])
        faces = lambda one: itertools.combinations(one, len(one) - 1)
        possible = [one for one in itertools.combinations(range(count), dimension + 1) if before.issuperset(faces(one))]
        levels.append([one for one in possible if random.rand() < 0.65])
    levels = [level for level in levels if level]
    while sum(map(len, levels)) > 60:
        levels[-1].pop()
    values = {}
    for one in itertools.chain(*levels):
        before = [values[face] for face in itertools.combinations(one, len(one) - 1) if face]
        values[one] = np.max([random.randint(1, 7, parameters), *before], axis=0)
    cells = [np.array(level, np.int32).reshape(-1, d + 1) for d, level in enumerate(levels)]
    return Ranked(cells, [np.array([values[one] for one in level]) for level in levels], 0)


def counts(points):
    return {tuple(place): int(weight) for place, weight in zip(points.places.tolist(), points.weights, strict=True)}


@pytest.mark.parametrize("parameters", [1, 2])
def test_the_engines_agree_on_random_complexes(parameters, multipers):
    random, seen = np.random.RandomState(0), 0
    for _ in range(20):
        complex = random_complex(random, parameters)
        for degree, invariant in itertools.product((0, 1), ("hilbert", "rank")):
            ours = counts(engines.measured("numpy", None, complex, degree, invariant))
            assert ours == counts(engines.measured("multipers", None, complex, degree, invariant))
            seen += degree * len(ours)
    assert seen > 40


def test_the_hilbert_function_is_that_of_boundary_matrices():
    """At every point of the grid, in all degrees, of a complex cut there."""
    complex = random_complex(np.random.RandomState(3), 2)
    for degree in (0, 1, 2):
        found = reduction.hilbert(complex, degree)
        for x in itertools.product(range(1, 7), repeat=2):
            there = [(ranks <= x).all(axis=1) for ranks in complex.ranks]
            cells = [one[mine] for one, mine in zip(complex.cells, there, strict=True)]
            cut = Ranked(cells, [one[mine] for one, mine in zip(complex.ranks, there, strict=True)], 0)
            below = (found.places <= x).all(axis=1)
            assert found.weights[below].sum() == reduction.betti(cut, degree)


def test_the_invariants_of_a_rips_complex_fit_together():
    """Ranks on the diagonal are the Hilbert function, and its alternating sum is the Euler characteristic."""
    random = np.random.RandomState(1)
    points, function = random.rand(7, 2), random.rand(7)

    @jax.jit
    def of(points, function, at):
        filtration = rips_lower_star(points, function, dimension=3)
        options = {"engine": "numpy", "max_points": 64}
        hilbert = [cumulative(signed_measure(filtration, d, **options), at) for d in (0, 1, 2)]
        ranks = rank_function(signed_measure(filtration, 0, "rank", **options), at, at)
        return hilbert, ranks, cumulative(signed_measure(filtration, invariant="euler"), at)

    at = random.rand(40, 2) * [0.5, 1.0]
    hilbert, ranks, _ = of(points, function, at)
    assert np.array_equal(hilbert[0], ranks)
    assert np.max(hilbert[0]) >= 3
    # three simplices of dimension three have no room for cycles where there are four points or fewer
    few = np.where(np.arange(7) < 4, function, np.inf)
    hilbert, _, euler = of(points, few, at)
    assert np.array_equal(hilbert[0] - hilbert[1] + hilbert[2], euler)


@pytest.mark.parametrize("functions", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_a_batch_of_graphs_is_the_sum_and_its_cycles_enter_with_their_last_nodes(functions, multipers):
    graphs = sampled(np.random.RandomState(0), 4)
    model = jax.jit(Classifier.create, static_argnums=1)(jax.random.key(0), functions)

    @jax.jit
    def of(features):
        values = model.functions(features)
        together = signed_measure(graph_batch(values, EDGES), 1, max_points=16)
        engine = jax.grad(lambda model: jnp.sum(model(features, direct=False) ** 2))(model)
        direct = jax.grad(lambda model: jnp.sum(model(features, direct=True) ** 2))(model)
        return births(values), together, engine, direct, model(features, direct=False), model(features, direct=True)

    entered, together, engine, direct, by_engine, by_births = of(jnp.asarray(graphs.features))
    assert together.count == 8
    points = np.asarray(together.points)[together.mask]
    graph = np.asarray(together.owners)[together.mask, 0] // 10
    for i in range(4):
        assert np.allclose(sorted(points[graph == i].tolist()), sorted(entered[i].tolist()), atol=1e-12, rtol=0)
    assert np.allclose(by_engine, by_births, atol=1e-12, rtol=0)
    for ours, truth in zip(jax.tree.leaves(engine), jax.tree.leaves(direct), strict=True):
        assert np.allclose(ours, truth, atol=1e-12, rtol=1e-10)


def test_graphs_of_several_sizes_are_padded():
    """A row of -1 is no edge, a node of infinity no node; edges may be traced."""
    values = jnp.array([[[0.0], [1.0], [2.0], [jnp.inf]], [[3.0], [4.0], [5.0], [6.0]]])
    edges = jnp.array([[[0, 1], [1, 2], [2, 0], [-1, -1]], [[0, 1], [1, 2], [2, 3], [3, 0]]])

    @jax.jit
    def of(values, edges):
        measure = signed_measure(graph_batch(values, edges), 1, max_points=8, engine="numpy")
        return measure, signed_measure(graph_batch(values, edges), 0, max_points=16, engine="numpy").total

    measure, components = of(values, edges)
    assert as_dict(measure) == {(2,): 1, (6,): 1}
    assert (measure.owners[measure.mask, 0] // 4).tolist() == [0, 1]
    assert components == 2
    # traced edges that are none of a graph: a loop, one that is given twice, a node that is not there
    for wrong in ([0, 0], [2, 1], [0, 4]):
        measure, components = of(values, edges.at[0, 3].set(jnp.array(wrong)))
        assert np.isnan(components)
        assert np.isnan(measure.total)


def test_images_are_cubical_complexes():
    ring = np.ones((5, 5))
    ring[1:4, 1:4] = 0
    ring[2, 2] = 0.5
    measure = signed_measure(cubical_filtration(ring), 1, engine="numpy", max_points=64)
    assert as_dict(measure) == {(0,): 1, (0.5,): -1}
    # pixels that touch at a corner are not joined
    corners = signed_measure(cubical_filtration([[0.0, 1.0], [2.0, 0.0]]), 0, engine="numpy", max_points=64)
    assert as_dict(corners) == {(0,): 2, (1,): -1}


@pytest.mark.thorough
def test_the_euler_characteristic_of_images():
    ring = np.random.RandomState(0).rand(4, 5)
    two = np.stack([ring, ring + np.arange(5)])
    euler = signed_measure(cubical_filtration(two), invariant="euler")
    assert euler.total == 1
    slope = jax.grad(lambda image: signed_measure(cubical_filtration(image), invariant="euler").points.sum())(ring)
    assert slope.sum() == euler.points.shape[0]


def test_lanes_that_are_not_numbers_and_empty_measures():
    """NaN where a lane is NaN, in value and derivative, and nowhere else; zero where there are no cycles."""
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.1], [0.0, 1.0]])
    line = square * [1, 0] + np.arange(4)[:, None] * [1, 0]
    lanes = np.stack([square, np.where(square == 1.1, np.nan, square), line, square[[0, 0, 1, 2]]])

    @jax.jit
    def of(points):
        def loss(points):
            measure = signed_measure(rips_lower_star(points, points[:, 0]), 1, engine="numpy", max_points=4)
            return linear_functional(measure, lambda p: p[0]), measure.count

        return jax.vmap(jax.value_and_grad(loss, has_aux=True))(points)

    (values, sizes), slopes = of(lanes)
    assert np.isnan(values).tolist() == [False, True, False, False]
    assert np.isnan(slopes[1]).any()
    assert np.isfinite(np.delete(slopes, 1, axis=0)).all()
    assert values[0] == pytest.approx(1.1 - np.hypot(1, 1))
    assert (sizes.tolist()[2:], values[2:].tolist()) == ([0, 0], [0, 0])
    assert not slopes[2:].any()


def test_single_precision_and_other_units_change_nothing():
    random = np.random.RandomState(2)
    points, function = random.rand(8, 2), random.rand(8)

    @jax.jit
    def of(points, function):
        measure = signed_measure(rips_lower_star(points, function), 0, engine="numpy", max_points=32)
        return measure.points, measure.weights

    truth, weights = of(points, function)
    for scale in (1.0, 1e-6, 1e6):
        found, single = of((scale * points).astype(np.float32), (function / scale).astype(np.float32))
        assert found.dtype == np.float32
        assert np.allclose(found, np.asarray(truth) * [scale, 1 / scale], rtol=1e-5, atol=0)
        assert np.array_equal(single, weights)


def test_values_out_of_order():
    wrong = VALUES.copy()
    wrong[3, 0] = -1
    with pytest.raises(ValueError, match=r"values must not fall.*\(0, 1\) does in parameter 0"):
        simplicial_filtration(TRIANGLE, wrong)
    both = jax.jit(lambda values: (triangle(values, 0, "hilbert").total, triangle(values, None, "euler").total))
    assert np.isnan(both(wrong)).all()
    assert np.array_equal(both(VALUES), [1, 1])


def test_no_room_says_how_much_is_needed():
    filtration = rips_lower_star(np.random.RandomState(0).rand(5, 2))
    with pytest.raises(RuntimeError, match="max_points must be at least 5 for this signed measure: given 3"):
        jax.block_until_ready(signed_measure(filtration, 0, max_points=3, engine="numpy"))


def test_without_multipers_small_complexes_only(monkeypatch):
    monkeypatch.setattr(engines, "has_multipers", lambda: False)
    filtration = simplicial_filtration(TRIANGLE, VALUES)
    with pytest.warns(RuntimeWarning, match=r"pip install 'dini-zoo\[topology\]'.*NumPy engine"):
        found = signed_measure(filtration, 1, max_points=8)
    assert as_dict(found) == {(1, 1): 1, (2, 2): -1}
    monkeypatch.setattr(engines, "LARGEST", 5)
    with (
        pytest.warns(RuntimeWarning, match="at most 5 simplices"),
        pytest.raises(RuntimeError, match="7 simplices, more than 5"),
    ):
        jax.block_until_ready(signed_measure(filtration, 1, max_points=8))
    with pytest.raises(ModuleNotFoundError, match="dini-zoo"):
        signed_measure(filtration, 1, engine="multipers")
    with pytest.raises(ModuleNotFoundError, match="dini-zoo"):
        signed_measure(graph_filtration(np.zeros((2, 3)), [[0, 1]]), 0)


CUBE = np.zeros((3, 2))
BAD = {
    "distances must be symmetric": lambda: rips_lower_star(distances=[[0.0, 1.0], [2.0, 0.0]]),
    r"distances must have the shape \(n, n\)": lambda: rips_lower_star(distances=np.zeros((2, 3))),
    "Either points or distances.*given none": lambda: rips_lower_star(),
    "Either points or distances.*given both": lambda: rips_lower_star(CUBE, distances=np.zeros((3, 3))),
    "points must be numbers": lambda: rips_lower_star([[np.nan, 0.0]]),
    "points must be a matrix": lambda: rips_lower_star([0.0, 1.0]),
    r"function must have the shape \(n,\), where n = 3 by points": lambda: rips_lower_star(CUBE, np.zeros(4)),
    "function must be numbers": lambda: rips_lower_star(CUBE, [0.0, np.nan, 1.0]),
    "function must make 1 to 3 parameters in all: given 4": lambda: rips_lower_star(CUBE, np.zeros((3, 3))),
    "threshold must be positive": lambda: rips_lower_star(CUBE, threshold=0.0),
    "dimension must be at least 1": lambda: rips_lower_star(CUBE, dimension=0),
    "bandwidth must be positive": lambda: codensity(CUBE, 0.0),
    "edges must be from 0 to 2": lambda: graph_filtration(np.zeros(3), [[0, 3]]),
    "edges must join different nodes": lambda: graph_filtration(np.zeros(3), [[1, 1]]),
    "edges must be given once": lambda: graph_filtration(np.zeros(3), [[0, 1], [1, 0]]),
    r"edges must have the shape \(m, 2\)": lambda: graph_filtration(np.zeros(3), [0, 1]),
    "node_values must make 1 to 3": lambda: graph_filtration(np.zeros((3, 4)), [[0, 1]]),
    r"node_values must have the shape \(B, n, p\)": lambda: graph_batch(np.zeros((3, 1)), [[0, 1]]),
    "images must have the shape": lambda: cubical_filtration(np.zeros((1, 5))),
    "images must be numbers": lambda: cubical_filtration([[np.nan, 0], [0, 0]]),
    "simplices must come after their faces": lambda: simplicial_filtration([(0, 1), (0,), (1,)], np.zeros((3, 1))),
    "simplices must be given once": lambda: simplicial_filtration([(0,), (0,)], np.zeros((2, 1))),
    "values must have a row for each of the 7": lambda: simplicial_filtration(TRIANGLE, np.zeros((6, 2))),
    "degree must be an integer from 0 on: given -1": lambda: triangle(VALUES, -1, "hilbert"),
    "degree must be None for the Euler": lambda: triangle(VALUES, 1, "euler"),
    "degree must be less than the dimension 2": lambda: signed_measure(rips_lower_star(CUBE), 2),
    "invariant must be one of": lambda: triangle(VALUES, 1, "betti"),
    "engine must be one of": lambda: triangle(VALUES, 1, "hilbert", "gudhi"),
    "engine must be 'multipers' for 3": lambda: triangle(VALUES[:, [0, 1, 1]], 1, "hilbert", "numpy"),
    "max_points must be at least 1": lambda: signed_measure(rips_lower_star(CUBE), 0, max_points=0),
    "x must have 2 columns": lambda: cumulative(triangle(VALUES, 1, "hilbert"), jnp.zeros((4, 1))),
    "measure must be a rank invariant's": lambda: rank_function(
        triangle(VALUES[:, :1], 1, "hilbert"), np.zeros(1), np.zeros(1)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()


def test_longer_edges_never_enter_and_equal_points_do_not_pull():
    points = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [5.0, 0.0]])

    @jax.jit
    def of(points):
        measure = signed_measure(rips_lower_star(points, threshold=2.0), 0, engine="numpy", max_points=16)
        return linear_functional(measure, lambda p: p[0]), measure

    (value, measure), slope = jax.value_and_grad(of, has_aux=True)(points)
    assert measure.total == 2
    assert value == -1
    assert np.isfinite(slope).all()
    assert measure.tied[measure.mask].any()


def test_codensity_is_that_of_a_gaussian_kernel():
    points = np.random.RandomState(0).randn(4, 2)
    squares = np.sum((points[:, None] - points) ** 2, axis=-1)
    assert np.allclose(jax.jit(codensity)(points, 0.7), -np.log(np.mean(np.exp(-squares / 0.98), axis=1)))


def test_three_parameters(multipers):
    """Two copies of one function: the measure sits on their diagonal, and is that of two parameters there."""
    points, function = (part[:10] for part in circle())
    two = as_dict(signed_measure(rips_lower_star(points, function), 0, max_points=64))
    three = as_dict(signed_measure(rips_lower_star(points, np.stack([function] * 2, axis=1)), 0, max_points=64))
    assert three == {(*point, point[1]): weight for point, weight in two.items()}


def test_the_examples_in_docstrings():
    assert doctest.testmod(vectorizations).failed == 0


@pytest.mark.thorough
def test_the_first_import_of_multipers_warns_of_nothing(multipers, tmp_path):
    """Where its modules are compiled first, escapes in its strings are warned of: the guard holds them back."""
    code = "from dini_zoo.topology.multiparameter_persistence import engines; engines._multipers()"
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning:multipers", "-W", "always::SyntaxWarning", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "multipers" not in done.stderr


@pytest.mark.thorough
def test_all_parts_of_a_tiny_run(multipers):
    settings = dataclasses.replace(Settings.tiny(), parts=PARTS, parameters=(2, 1), starts=2)
    done = performed("multiparameter-persistence", experiment, settings)
    assert len(done.record.tables) == 3
    assert_fits([*done.record.tables, done.record.verdict.table()])
    assert_drawn(experiment.draw(done.result))
    assert [check.verdict for check in done.record.verdict.checks][-4:] == ["met"] * 4
    nothing = performed("multiparameter-persistence", experiment, dataclasses.replace(settings, parts=()))
    assert not nothing.record.tables
    assert {check.verdict for check in nothing.record.verdict.checks} == {"not measured"}


@pytest.mark.slow
def test_all_bars_are_met(multipers):
    assert_bars_met("multiparameter-persistence", experiment)


def test_the_function_of_the_clouds():
    assert np.allclose(basin(jnp.array([MIDDLE, (0.3, 0.35 + RADIUS)])), [0, 1 - np.exp(-1)])
