"""What the methods share: doors, constraints on both levels, batches in turn, lanes, transformations of optax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dini
from dini import bilevel

rng = np.random.default_rng(3)
A, B = rng.standard_normal((9, 4)), 0.4 * rng.standard_normal((4, 3))
y, target = rng.standard_normal(9), rng.standard_normal(4)


def inner(x, theta):
    return 0.5 * jnp.mean((A @ x - y) ** 2) + 0.5 * jnp.sum(x**2) - x @ (B @ theta)


def outer(x, theta):
    return 0.5 * jnp.sum((x - target) ** 2) + 0.2 * jnp.sum(theta**2)


# in these cases the optimum is at no kink of the outer objective, where the active constraints change
ASIDE = np.random.default_rng(11).standard_normal(4)
PARTS = {
    "bounds": (dini.Minimize(inner, constraint=dini.sets.NonNegative()), {"constraint": dini.sets.Box(-0.1, 0.3)}),
    "ball": (dini.Minimize(inner, constraint=dini.sets.L2Ball(0.05)), {}),
    "l1": (dini.Minimize(inner, penalty=dini.penalties.L1(0.3)), {"penalty": dini.penalties.L1(0.05)}),
}


@pytest.mark.parametrize(("name", "method"), [("bounds", "SOBA"), ("ball", "SOBA"), ("l1", "AmIGO")])
def test_parts_on_both_levels_are_kept_and_differentiated(name, method):
    """The end is a stationary point by the exact hypergradient of the other door."""
    problem, of_theta = PARTS[name]
    weight = 3.0 if name == "ball" else 0.2
    objective = lambda x, theta: 0.5 * jnp.sum((x - ASIDE) ** 2) + weight * jnp.sum(theta**2)
    made = getattr(bilevel, method)(bilevel.Bilevel(objective, problem, **of_theta), inner_step=0.3, outer_step=0.1)
    state = made.run(made.init(np.zeros(3), np.zeros(4)), 2000)
    solver = dini.ProximalGradient(tol=1e-12, max_steps=5000)
    exact = bilevel.value_and_hypergradient(objective, problem, state.theta, np.zeros(4), solver=solver)
    np.testing.assert_allclose(state.x, exact.solution.x, atol=1e-9)
    moved = made.problem.prox(state.theta - 0.1 * exact.gradient, 0.1)
    np.testing.assert_allclose(moved, state.theta, atol=1e-9)
    active = np.any(state.x == 0) if name != "ball" else abs(np.linalg.norm(state.x) - 0.05) < 1e-9
    assert active, "the case shows nothing where no constraint is active"


def test_any_transformation_of_optax_on_either_level():
    problem = bilevel.Bilevel(outer, inner)
    rate = optax.exponential_decay(0.1, 100, 0.6)
    method = bilevel.SOBA(problem, inner_step=optax.sgd(0.3, momentum=0.5), outer_step=optax.adam(rate))
    state = method.run(method.init(np.zeros(3), np.zeros(4)), 1500)
    exact = bilevel.value_and_hypergradient(outer, dini.Minimize(inner), state.theta, np.zeros(4))
    assert np.linalg.norm(exact.gradient) < 1e-5


def test_the_parts_of_a_step_use_batches_in_turn():
    """One step of AmIGO by hand, with a batch of its own for each part."""
    data = bilevel.Batches(np.arange(1.0, 7.0), 1)
    g = lambda x, t, batch: 0.5 * batch[0] * jnp.sum(x**2) - t * jnp.sum(x)
    f = lambda x, t, batch: 0.5 * jnp.sum((x - batch[0]) ** 2) + 0.5 * t**2
    method = bilevel.AmIGO(bilevel.Bilevel(f, g), inner_step=0.1, outer_step=0.2, inner_steps=2, adjoint_steps=2)
    assert method.batches == (3, 5)
    state = method.init(1.0, np.array([2.0]), data[np.array([0])], data[np.array([0])])
    state = method.step(state, data[np.array([0, 1, 2])], data[np.array([1, 2, 3, 4, 5])])
    theta, x, v = 1.0, 2.0, 0.0
    for a in (2.0, 3.0):
        x -= 0.1 * (a * x - theta)
    for a, b in ((4.0, 1.0), (5.0, 2.0)):
        v -= 0.1 * (a * v + x - b)
    np.testing.assert_allclose([state.x[0], state.v[0]], [x, v], rtol=1e-12)
    np.testing.assert_allclose(state.theta, theta - 0.2 * (theta - v), rtol=1e-12)


def test_a_lane_that_overflows_is_marked_and_stays_where_it_was():
    problem = bilevel.Bilevel(outer, inner)

    @jax.jit
    @jax.vmap
    def lanes(length):
        method = bilevel.SOBA(problem, inner_step=length, outer_step=0.1)
        return method.run(method.init(jnp.zeros(3), jnp.zeros(4)), 600, on_failure="ignore")

    state = lanes(np.array([0.3, 1e30, 0.2]))
    assert list(state.status) == [dini.Status.RUNNING, dini.Status.NONFINITE, dini.Status.RUNNING]
    np.testing.assert_allclose(state.theta[0], state.theta[2], atol=1e-6)
    assert np.all(np.isfinite(state.theta))
    assert state.steps[1] < 600 == state.steps[0]


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_decide_where_there_is_no_learning_rate(scale):
    def end(unit):
        fit = dini.Minimize(lambda x, t: unit * inner(x / unit, t / unit))
        tolerance = lambda k: 0.1 * 0.5**k
        method = bilevel.HOAG(lambda x, t: unit**2 * outer(x / unit, t / unit), fit, tolerance=tolerance)
        return method.run(method.init(unit * np.ones(3), np.zeros(4)), 30).theta / unit

    np.testing.assert_allclose(end(scale), end(1.0), rtol=1e-3)


def test_single_precision():
    problem = bilevel.Bilevel(outer, inner)
    method = bilevel.SOBA(problem, inner_step=0.3, outer_step=0.1)
    state = method.run(method.init(np.zeros(3, np.float32), np.zeros(4, np.float32)), 600)
    assert {leaf.dtype for leaf in jax.tree.leaves(state[:4])} == {np.dtype(np.float32)}
    exact = bilevel.value_and_hypergradient(outer, dini.Minimize(inner), np.float64(state.theta), np.zeros(4))
    assert np.linalg.norm(exact.gradient) < 1e-5


SOBA = {"inner_step": 0.1, "outer_step": 0.1}
ODD = {"estimator": bilevel.STORM(), "simultaneous": False}
SMOOTH, BOUNDED = bilevel.Bilevel(outer, inner), bilevel.Bilevel(outer, PARTS["bounds"][0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: bilevel.Bilevel(outer, 3), TypeError, "inner must be a function"),
        (lambda: bilevel.Bilevel(outer, inner, dini.penalties.L1(1.0)), TypeError, "constraint must be an object"),
        (lambda: bilevel.SOBA(outer, **SOBA), TypeError, "problem must be a dini.bilevel.Bilevel"),
        (lambda: bilevel.SOBA(SMOOTH, inner_step=-1.0, outer_step=1.0), ValueError, "inner_step must be positive"),
        (lambda: bilevel.SOBA(SMOOTH, inner_step=1.0, outer_step="a"), TypeError, "outer_step must be a number"),
        (lambda: bilevel.SOBA(BOUNDED, **SOBA, adjoint_step=0.2), ValueError, "adjoint_step must be left out"),
        (lambda: bilevel.SubBiO(BOUNDED, **SOBA), ValueError, "Plane solves the adjoint system of a smooth"),
        (
            lambda: bilevel.Stochastic(SMOOTH, **SOBA, adjoint=bilevel.Plane(), **ODD),
            ValueError,
            "no estimator corrects",
        ),
        (lambda: bilevel.BOME(BOUNDED, 0.1, 0.1), ValueError, "without constraint and penalty"),
        (lambda: bilevel.Stochastic(SMOOTH, 0.1, 0.1, inner_steps=2), ValueError, "Pass simultaneous=False"),
        (lambda: bilevel.MASOBA(SMOOTH, **SOBA, average=0.0), ValueError, "average must be in"),
        (lambda: bilevel.SABA(SMOOTH, **SOBA).init(np.zeros(3), np.zeros(4), np.ones(2)), TypeError, "takes"),
        (lambda: bilevel.SOBA(SMOOTH, **SOBA).init(np.arange(3), np.zeros(4)), TypeError, "theta must be"),
        (lambda: bilevel.Batches(np.zeros(7), 8), ValueError, "size must be at most the number of samples"),
        (lambda: bilevel.Batches((np.zeros(6), np.zeros(4)), 2), TypeError, "one leading axis"),
        (lambda: bilevel.SPIDER(0), ValueError, "period must be at least 1"),
        (lambda: bilevel.F2SA(SMOOTH, 0.1, 0.1, 10.0, order=3), ValueError, "order must be one of 1, 2"),
    ],
)
def test_doors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_numbered_batches_are_asked_for():
    f, g = (lambda x, t, b: outer(x, t) + 0 * jnp.sum(b)), (lambda x, t, b: inner(x, t) + 0 * jnp.sum(b))
    method = bilevel.SABA(bilevel.Bilevel(f, g), **SOBA)
    with pytest.raises(TypeError, match="SAGA stores a value for each batch"):
        method.init(np.zeros(3), np.zeros(4), np.ones(2), np.ones(2))


def test_other_batches_than_those_of_the_table_are_refused():
    f, g = (lambda x, t, b: outer(x, t) + 0 * jnp.sum(b)), (lambda x, t, b: inner(x, t) + 0 * jnp.sum(b))
    method = bilevel.SABA(bilevel.Bilevel(f, g), **SOBA)
    six, three = bilevel.Batches(np.arange(6.0), 1), bilevel.Batches(np.arange(6.0), 2)
    state = method.init(np.zeros(3), np.zeros(4), three[0], six[0])
    with pytest.raises(ValueError, match=r"SAGA stores a value for each of the 6 batches.* one of 3"):
        method.step(state, three[0], three[0])
    with pytest.raises(ValueError, match=r"3 of them.* one of 6"):
        method.run(state, 2, six, six, jax.random.key(0))


def test_batches_are_a_sequence():
    batches = bilevel.Batches(np.arange(6.0), 2)
    assert len(batches) == 3
    np.testing.assert_array_equal([batch.data for batch in batches], np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(batches[-1].data, [4.0, 5.0])
    np.testing.assert_array_equal(jax.jit(lambda i: batches[i].data)(1), [2.0, 3.0])
    for number in (3, -4, np.array([0, 3])):
        with pytest.raises(IndexError, match="There are 3 batches"):
            batches[number]
    for number in (1.0, True, slice(2), np.array([0.0])):
        with pytest.raises(TypeError, match="numbered by integers"):
            batches[number]


def test_any_size_of_batches_is_unbiased():
    """Two sizes that differ by one: the mean over draws is that over all samples, and nothing is left out."""
    data = np.random.default_rng(5).standard_normal(11) ** 3
    batches = bilevel.Batches({"a": data, "b": np.arange(11)}, 4)
    assert [len(batch.data["b"]) for batch in batches] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([batch.data["b"] for batch in batches]), np.arange(11))
    np.testing.assert_allclose([batches.share(i) for i in range(3)], [4 / 11, 4 / 11, 3 / 11])
    for samples, size in ((442, 30), (569, 64), (5, 4), (7, 6), (9, 9), (7, 1)):
        sizes = [len(batch.data) for batch in bilevel.Batches(np.zeros(samples), size)]
        assert sum(sizes) == samples
        assert len(sizes) == -(-samples // size)
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1

    mean = lambda batch: batch.given_to(lambda d: jnp.mean(d["a"]))
    numbers = np.asarray(batches.draw(jax.random.key(0), 30000).number)
    often = np.bincount(numbers) / 30000
    assert np.all(np.abs(often - [4 / 11, 4 / 11, 3 / 11]) < 5 * np.sqrt(0.24 / 30000))
    means = jax.jit(jax.vmap(lambda i: mean(batches[i])))(np.arange(3))
    np.testing.assert_allclose(means, [np.mean(data[:4]), np.mean(data[4:8]), np.mean(data[8:])])
    np.testing.assert_allclose(np.dot(means, [4 / 11, 4 / 11, 3 / 11]), np.mean(data))
    np.testing.assert_allclose(jax.jit(lambda i: mean(batches[i]))(2), means[2])
    with pytest.raises(TypeError, match="have two sizes"):
        jax.jit(lambda i: batches[i].data["a"])(1)


@pytest.mark.parametrize("name", ["SOBA", "SABA", "SRBA", "F2SA", "BOME", "LancBiO"])
@pytest.mark.by_default(2)
def test_batches_of_two_sizes_end_where_all_samples_do(name):
    """The optimum of 11 samples by 4, which no weight of a sample other than one in eleven has."""
    rng = np.random.default_rng(5)
    a, c = 1 + rng.random(11), rng.standard_normal((11, 2))
    g = lambda x, t, b: jnp.mean(0.5 * b * (x[0] ** 2 + x[1] ** 2)) - x @ t
    f = lambda x, t, b: 0.5 * jnp.mean(jnp.sum((x[None] - b) ** 2, axis=1)) + 0.05 * t @ t
    problem, how = bilevel.Bilevel(f, g), {"inner_step": 0.3, "outer_step": 0.05}
    inner, outer = bilevel.Batches(a, 4), bilevel.Batches(c, 3)
    # x = t / mean(a), and t minimizes |t / A - C|^2 / 2 + .05 t^2
    A, optimum = np.mean(a), np.mean(c, axis=0) * np.mean(a) / (1 + 0.1 * np.mean(a) ** 2)
    exact = {"SABA": {}, "SRBA": {"period": 4, "radius": 100.0}}
    method = {
        "SOBA": lambda: bilevel.SOBA(problem, inner_step=0.02, outer_step=0.005),
        "SABA": lambda: bilevel.SABA(problem, **how),
        "SRBA": lambda: bilevel.SRBA(problem, **how, period=4, radius=100.0),
        "F2SA": lambda: bilevel.F2SA(problem, 0.02, 0.005, 100.0, 2),
        "BOME": lambda: bilevel.BOME(problem, 0.02, 0.005),
        "LancBiO": lambda: bilevel.LancBiO(problem, inner_step=0.02, outer_step=0.005),
    }[name]()
    state = method.init(np.zeros(2), np.zeros(2), outer[0], inner[0])
    state = method.run(state, 3000, outer, inner, jax.random.key(0))
    np.testing.assert_allclose(state.theta, optimum, atol=1e-6 if name in exact else 0.2)
    np.testing.assert_allclose(state.x, optimum / A, atol=1e-6 if name in exact else 0.2)


def test_methods_that_solve_take_batches():
    """Their functions get the samples, as those of the others do; of two sizes they cannot be."""
    c = np.arange(6.0)
    fit = dini.Minimize(lambda x, t, b: jnp.sum((x - t) ** 2) + 0 * jnp.sum(b))
    target = lambda x, t, b: jnp.mean((x - b) ** 2)
    whole, halves, uneven = bilevel.Batches(c, 6), bilevel.Batches(c, 3), bilevel.Batches(np.arange(7.0), 4)
    for method in (bilevel.HOAG(target, fit), bilevel.EvolutionStrategy(target, fit, 0.3, 0.1)):
        state = method.init(np.zeros(1), np.zeros(1), whole[0], whole[0])
        state = method.run(state, 30, whole, whole, jax.random.key(0))
        np.testing.assert_allclose(state.theta, 2.5, atol=1e-3)
    method = bilevel.HOAG(target, fit, outer_step=0.1)
    state = method.init(np.zeros(1), np.zeros(1), halves[0], halves[0])
    assert np.isfinite(method.run(state, 3, halves, halves, jax.random.key(0)).theta)
    with pytest.raises(TypeError, match="have two sizes"):
        method.run(state, 3, uneven, uneven, jax.random.key(0))


BOX = dini.sets.Box(-1.0, 1.0)


@pytest.mark.parametrize("level", ["outer", "inner"])
def test_a_projection_hides_no_infinite_direction(level):
    """The root has an infinite slope at zero, which a box makes a finite step of."""
    root = lambda x, t: jnp.sum(jnp.sqrt(t if level == "outer" else x + 1)) + jnp.sum((x - t) ** 2)
    square = lambda x, t: jnp.sum((x - t) ** 2)
    f, g = (root, square) if level == "outer" else (square, root)
    problem = bilevel.Bilevel(f, dini.Minimize(g, constraint=BOX), constraint=BOX)
    t, x = np.array([0.0 if level == "outer" else 0.5]), np.array([-1.0])
    methods = [bilevel.SOBA(problem, **SOBA), bilevel.F2SA(problem, 0.1, 0.1, 10.0)]
    if level == "outer":
        methods += [bilevel.HOAG(f, dini.Minimize(g), outer_step=step, constraint=BOX) for step in (0.1, None)]
    for method in methods:
        state = method.step(method.init(t, x))
        assert state.status == dini.Status.NONFINITE
        np.testing.assert_array_equal(state.theta, t)


def test_an_adjoint_step_that_was_left_out_follows_the_inner_one():
    method = bilevel.SOBA(SMOOTH, inner_step=0.4, outer_step=0.1)
    replaced, other = (
        dataclasses.replace(method, inner_step=0.01),
        bilevel.SOBA(SMOOTH, inner_step=0.01, outer_step=0.1),
    )
    start = np.ones(3), np.ones(4)
    states = [m.step(m.init(*start)) for m in (replaced, other)]
    np.testing.assert_array_equal(states[0].v, states[1].v)
    assert np.any(states[0].v != method.step(method.init(*start)).v)


STIFF = jnp.array([1.0, 1e3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hoag_keeps_no_promise_of_a_coarse_tolerance(dtype):
    """The soft direction's inner solution stands still where the tolerance is coarse; the end is at one."""
    # the finest tolerance of single precision, times a thousand, would leave the soft direction half a digit
    curvatures = STIFF if dtype == np.float64 else jnp.array([1.0, 300.0], dtype)
    stiff = dini.Minimize(lambda x, t: 0.5 * jnp.sum(curvatures * (x - t) ** 2))
    method = bilevel.HOAG(lambda x, t: 0.5 * jnp.sum((x - 1) ** 2), stiff)
    state = method.run(method.init(np.full(2, 5, dtype), np.ones(2, dtype)), 1000)
    unit = np.sqrt(np.finfo(dtype).eps)
    assert state.status == dini.Status.RUNNING
    np.testing.assert_allclose(state.theta, 1, atol=unit)
    # an inner solution is off by the tolerance, and the error with it
    assert abs(state.error - np.linalg.norm(state.theta - 1)) < 10 * unit
    assert state.error < 10 * unit


def test_hoag_takes_no_adjoint_that_is_not_solved():
    # neither two steps of conjugate gradients nor a singular Hessian give one
    slow = dini.Implicit(linear_solver=dini.linear.CG(max_steps=2))
    d = np.geomspace(1, 1e3, 20)
    steep = dini.Minimize(lambda x, t: 0.5 * jnp.sum(d * (x - t) ** 2))
    flat = dini.Minimize(lambda x, t: (jnp.sum(x) - jnp.sum(t)) ** 2)
    target = lambda x, t: 0.5 * jnp.sum((x - jnp.arange(x.size)) ** 2)
    for step, fit, mode in ((None, steep, slow), (0.1, flat, dini.Implicit())):
        method = bilevel.HOAG(target, fit, dini.BFGS(), step, differentiation=mode)
        size = 20 if fit is steep else 2
        state = method.step(method.init(np.ones(size), np.zeros(size)))
        assert state.status == dini.Status.NONFINITE


def test_the_error_of_hoag_is_that_of_the_projected_gradient():
    fit, target = dini.Minimize(lambda x, t: jnp.sum((x - t) ** 2)), lambda x, t: jnp.sum((x - 3) ** 2)
    for step in (0.1, optax.sgd(0.1), None):
        method = bilevel.HOAG(target, fit, outer_step=step, constraint=BOX)
        state = method.run(method.init(np.zeros(2), np.zeros(2)), 60)
        np.testing.assert_allclose(state.theta, 1)
        assert state.error == 0
