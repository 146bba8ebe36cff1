"""Variational inequalities: solutions of the literature, derivatives against differences, honest ends."""

import equilibrium_problems as equilibria
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sioux_falls import LEAST, Traffic

import dini
from dini import Status, sets

SOLVERS = {"newton": None, "extragradient": dini.Extragradient()}
POSITIVE = sets.NonNegative()


@pytest.mark.by_default("newton-Kojima-Shindo", "newton-matrix game", "extragradient-rotation", "newton-one")
@pytest.mark.parametrize("problem", equilibria.PROBLEMS, ids=lambda problem: problem.name)
@pytest.mark.parametrize("solver", SOLVERS)
def test_solutions(solver, problem):
    """From every start, at default settings, the answer is right: a solution, or a failure where there is none."""
    for start in problem.starts:
        init = jax.tree.map(jnp.asarray, start)
        how = {"constraint": problem.constraint, "solver": SOLVERS[solver], "on_failure": "ignore"}
        assert equilibria.judged(problem, dini.variational_inequality(problem.fun, init, **how)) == "right", start


def sold(cost, intercept=10.0, **how):
    fun = lambda q, cost, intercept: equilibria.cournot(q, cost, intercept)
    how = {"constraint": POSITIVE} | how
    return dini.variational_inequality(fun, jnp.ones(cost.shape), cost, intercept, **how).x


def test_cournot_and_its_derivative():
    """Closed forms: of k firms that sell, the quantities are affine in the costs."""
    cost = jnp.asarray(equilibria.COSTS)
    x, (forward, reverse) = sold(cost), (jax.jit(each(sold))(cost) for each in (jax.jacfwd, jax.jacrev))
    np.testing.assert_allclose(x, equilibria.cournot_solution(equilibria.COSTS), atol=1e-9)
    k = int(np.sum(np.asarray(x) > 0))
    want = np.zeros((5, 5))
    want[:k, :k] = 1 / (k + 1) - np.eye(k)
    np.testing.assert_allclose(forward, want, atol=1e-9)
    np.testing.assert_allclose(reverse, want, atol=1e-9)
    slope = jax.grad(lambda a: jnp.sum(sold(cost, a)))(10.0)
    np.testing.assert_allclose(slope, k / (k + 1), rtol=1e-9)


def test_a_kink_is_a_tie():
    """A firm that sells nothing, at a price that is just its cost: one-sided derivatives only."""
    cost = jnp.array([1.0, 2.0, 13.0 / 3.0])
    mode = dini.Implicit(certify=True)
    with pytest.raises(dini.DerivativeError, match="TIE"):
        jax.jacrev(lambda cost: sold(cost, differentiation=mode))(cost)
    jax.jacrev(lambda cost: sold(cost, differentiation=mode))(cost.at[2].set(5.0))


@pytest.mark.thorough
def test_second_derivatives():
    fun = lambda x, a: jnp.exp(x) - a * jnp.array([1.0, 2.0, 0.5]) + 0.1 * jnp.roll(x, 1) ** 2
    solve = lambda a: jnp.sum(dini.variational_inequality(fun, jnp.zeros(3), a, constraint=POSITIVE).x ** 2)
    slope = jax.jit(jax.grad(solve))
    difference = (slope(1.5 + 1e-5) - slope(1.5 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.hessian(solve))(1.5), difference, rtol=1e-6)


def travelled(toll):
    """Total time of all, without the toll, where everybody takes the quickest way."""
    flows = dini.variational_inequality(
        equilibria.braess,
        jnp.full(3, 2.0),
        toll,
        constraint=sets.Simplex(6.0),
        solver=dini.SemismoothNewton(rtol=1e-12),
    ).x
    return flows @ equilibria.braess(flows), flows


def test_a_toll_in_the_network_of_braess():
    """The paradox, flows and the derivative of the total time in closed form, and against differences."""
    slope, flows = jax.jit(jax.grad(travelled, has_aux=True))(3.0)
    np.testing.assert_allclose(flows, equilibria.braess_solution(3.0), rtol=1e-10)
    closed = lambda toll: (lambda h: h @ np.asarray(equilibria.braess(h)))(equilibria.braess_solution(toll))
    np.testing.assert_allclose(slope, (closed(3.0 + 1e-4) - closed(3.0 - 1e-4)) / 2e-4, rtol=1e-8)
    ours = (travelled(3.0 + 1e-4)[0] - travelled(3.0 - 1e-4)[0]) / 2e-4
    np.testing.assert_allclose(slope, ours, rtol=1e-7)
    # without the link in the middle everybody is quicker: 83 in place of 92
    np.testing.assert_allclose([travelled(0.0)[0], travelled(50.0)[0]], [6 * 92.0, 6 * 83.0], rtol=1e-9)


@pytest.mark.thorough
def test_flows_on_paths_that_are_not_unique():
    """Links' flows are: they do not depend on the start; those of paths do, and have no derivative, which is said."""

    def links(start):
        init = jax.tree.map(jnp.asarray, start)
        how = {"constraint": equilibria.STREETS}
        return equilibria.link_flows(dini.variational_inequality(equilibria.travel_times, init, 0.5, **how).x)

    np.testing.assert_allclose(links(equilibria.EVEN), links(equilibria.FIRST), atol=1e-5)
    how = {"constraint": equilibria.STREETS}
    solve = lambda toll: dini.variational_inequality(equilibria.travel_times, start, toll, **how).x
    start = jax.tree.map(jnp.asarray, equilibria.EVEN)
    with pytest.raises(dini.DerivativeError, match="singular"):
        jax.jvp(solve, (0.5,), (1.0,))


@pytest.mark.thorough
def test_a_corner_of_sioux_falls():
    """Thirty times the trips between the first five nodes: nobody is longer on the road than on the shortest way."""
    town = Traffic(nodes=5, times=30.0, rounds=10)
    solution = dini.variational_inequality(town.costs, town.even(), constraint=town.constraint)
    assert town.excess(town.even()) > 1e-2
    assert abs(town.excess(solution.x)) < 1e-9


@pytest.mark.thorough
def test_sioux_falls():
    """The published least objective to all digits; with a spread, cars on ways are unique, and have derivatives."""
    town = Traffic()
    solution = dini.variational_inequality(town.costs, town.even(), constraint=town.constraint)
    assert abs(town.excess(solution.x)) < 1e-9
    np.testing.assert_allclose(town.objective(solution.x), LEAST, rtol=1e-12)

    def total(toll):
        """All minutes with a toll on the road from 6 to 8."""
        tolls = toll * jnp.eye(len(town.free))[town.number[5, 7]]
        flow = town.flow(dini.variational_inequality(town.costs, solution.x, tolls, 1.0, constraint=town.constraint).x)
        return flow @ town.minutes(flow)

    total = jax.jit(jax.value_and_grad(total))
    slope = total(1.0)[1]
    assert abs(slope) > 0.1
    np.testing.assert_allclose(slope, (total(1.0 + 1e-4)[0] - total(1.0 - 1e-4)[0]) / 2e-4, rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in equilibria.LEADERS if "kink" not in name])
def test_a_leader_and_followers(name):
    """Stackelberg: the leader's gain is greatest, by gradients through the followers' equilibrium; in closed form."""
    own, cost = equilibria.LEADERS[name]
    for start in (0.0, 4.0):
        solution = equilibria.stackelberg(start, own, jnp.asarray(cost))
        assert solution.success
        np.testing.assert_allclose(solution.x, equilibria.stackelberg_solution(own, cost), rtol=1e-8)


def test_the_slope_of_a_leaders_gain():
    """Closed form, on both sides of the kink at which a follower stops selling."""
    cost = jnp.asarray([1.0, 2.0, 3.5])
    price = lambda leads: 10.0 - leads - jnp.sum(equilibria.followers(leads, cost))
    slope = jax.jit(jax.grad(price))
    # the third one sells until the price is its cost
    np.testing.assert_allclose([slope(2.4), slope(2.6)], [-1 / 4, -1 / 3], rtol=1e-9)


def test_a_game_of_two_with_constraints():
    """Both strategies and their derivatives in closed form, with the second player at a bound and inside."""
    first = lambda x, a: (x[0] - a) ** 2 + x[0] * x[1]
    second = lambda x, a: (x[1] - 3.0 * x[0]) ** 2

    @jax.jit
    def play(a, bound):
        box = sets.Box(-bound, bound)
        game = lambda a: dini.nash_equilibrium((first, second), (0.0, 0.0), a, constraints=(None, box)).x
        return game(a), jax.jacrev(game)(a)

    (x, dx), (free, dfree) = play(2.0, 1.0), play(2.0, 9.0)
    np.testing.assert_allclose([*x, *dx], [1.5, 1.0, 1.0, 0.0], atol=1e-9)
    np.testing.assert_allclose([*free, *dfree], [0.8, 2.4, 0.4, 1.2], atol=1e-9)


@pytest.mark.by_default("newton-float64", "extragradient-float32")
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("solver", SOLVERS)
def test_units_do_not_decide(solver, dtype):
    """The operator and the unknown times 1e6 and 1e-6: the same solution in the same number of steps, or nearly."""

    def run(c, b, start):
        fun = lambda x: c * equilibria.cournot(x / b, jnp.asarray(equilibria.COSTS, dtype))
        solution = dini.variational_inequality(
            fun, b * start, constraint=POSITIVE, solver=SOLVERS[solver], on_failure="ignore"
        )
        return solution.x / b, solution.status, solution.stats.steps

    c, b = jnp.asarray([(1, 1), (1e6, 1), (1e-6, 1), (1, 1e6), (1, 1e-6), (1e6, 1e6), (1e-6, 1e-6)], dtype).T
    for start in (np.ones(5), np.array([3.0, 0, 0, 1, 0])):
        x, status, steps = jax.jit(jax.vmap(run, in_axes=(0, 0, None)))(c, b, jnp.asarray(start, dtype))
        np.testing.assert_array_equal(status, Status.CONVERGED)
        want = equilibria.cournot_solution(equilibria.COSTS)
        np.testing.assert_allclose(x, np.broadcast_to(want, x.shape), atol=30 * jnp.finfo(dtype).eps ** 0.5)
        assert np.all(np.asarray(steps) <= 1.3 * int(steps[0]) + 5)


@pytest.mark.by_default("newton-float64", "newton-float32")
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("solver", SOLVERS)
def test_each_unknown_has_a_unit_of_its_own(solver, dtype):
    """Without scales, the start was called a solution in single precision, and one element was 100 % off in double."""
    costs = jnp.asarray(equilibria.COSTS, dtype)

    def run(b):
        fun = lambda x: equilibria.cournot(x / b, costs) / b
        how = {"constraint": POSITIVE, "solver": SOLVERS[solver], "on_failure": "ignore"}
        solution = dini.variational_inequality(fun, b, **how)
        return solution.x / b, solution.status

    units = jnp.asarray([(1, 1, 1, 1, 1), (1e6, 1, 1e-6, 1, 1), (1e-8, 1, 1, 1e8, 1)], dtype)
    x, status = jax.jit(jax.vmap(run))(units)
    np.testing.assert_array_equal(status, Status.CONVERGED)
    want = equilibria.cournot_solution(equilibria.COSTS)
    np.testing.assert_allclose(x, np.broadcast_to(want, x.shape), atol=30 * jnp.finfo(dtype).eps ** 0.5)


@pytest.mark.thorough
def test_derivatives_in_units_of_each_unknown():
    """Equations in units of their own: the derivative was refused, for rounding errors of one beside another."""
    costs = jnp.asarray(equilibria.COSTS)

    @jax.jit
    @jax.vmap
    def slopes(units):
        fun = lambda x, cost: equilibria.cournot(x / units, cost) / units
        solve = lambda cost: dini.variational_inequality(fun, units, cost, constraint=POSITIVE).x / units
        return jax.jacrev(solve)(costs)

    units = jnp.array([(1, 1, 1, 1, 1), (1e6, 1, 1e-6, 1, 1), (1e-8, 1, 1e8, 1, 1e3)])
    want = np.zeros((5, 5))
    want[:3, :3] = 1 / 4 - np.eye(3)
    np.testing.assert_allclose(slopes(units), np.broadcast_to(want, (3, 5, 5)), atol=1e-8)


@pytest.mark.thorough
def test_players_in_units_of_their_own():
    """What a matrix game shows is the product of the players' units: where they are apart, the end is visible."""
    A = jnp.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-1.0, 0.0, 2.0]])
    even = jnp.full(3, 1 / 3)

    def play(u, v):
        pay = lambda x: (x[0] / u) @ A @ (x[1] / v)
        how = {"constraints": (sets.Simplex(u), sets.Simplex(v)), "on_failure": "ignore"}
        solution = dini.nash_equilibrium((pay, lambda x: -pay(x)), (u * even, v * even), **how)
        return bool(solution.success), solution.x[0] / u, solution.x[1] / v

    success, x, y = play(1.0, 1.0)
    np.testing.assert_allclose((x @ A).max(), (A @ y).min(), atol=1e-8)
    for units in ((1e3, 1e3), (1e-6, 1e-6), (1e3, 1e-3), (1e6, 1e-6)):
        success, *points = play(*units)
        assert success or units[0] != units[1]
        if success:
            np.testing.assert_allclose(points, (x, y), atol=1e-6)


def test_a_batch_with_a_bad_element():
    """One without a solution, and one that is NaN, fail alone."""

    def solve(a):
        fun = lambda x, a: jnp.where(a < 0, 1.0, x - a)
        return dini.variational_inequality(fun, jnp.ones(2), a, constraint=sets.Free())

    solution = jax.jit(jax.vmap(solve))(jnp.array([1.0, -1.0, 2.0, jnp.nan]))
    np.testing.assert_array_equal(solution.status, [0, Status.DIVERGED, 0, Status.NONFINITE])
    np.testing.assert_allclose(solution.x[::2], [[1.0, 1.0], [2.0, 2.0]], rtol=1e-8)
    slopes = jax.jit(jax.vmap(jax.grad(lambda a: jnp.sum(solve(a).x))))(jnp.array([1.0, -1.0, 2.0, jnp.nan]))
    np.testing.assert_allclose(slopes, [2.0, np.nan, 2.0, np.nan], rtol=1e-8)


def test_failures_are_raised():
    few = dini.Extragradient(max_steps=3)
    with pytest.raises(dini.SolveError, match="MAX_STEPS"):
        dini.variational_inequality(equilibria.rotation, jnp.ones(2), constraint=sets.Free(), solver=few)
    with pytest.raises(dini.SolveError, match=r"SemismoothNewton.*DIVERGED"):
        dini.variational_inequality(lambda x: jnp.ones_like(x), 1.0, constraint=sets.Free())


INPUTS = {
    "no set": ({"constraint": None}, "needs constraint=, the set C"),
    "a set that is none": ({"constraint": 3}, "constraint must be an object of dini.sets: given 3"),
    "a set that is not convex": ({"constraint": sets.L2Sphere()}, "must be a convex set: given L2Sphere"),
    "a set of another size": ({"constraint": sets.Box(np.zeros(3), 1.0)}, r"given shape \(3,\), needed \(2,\)"),
    "integers": ({"x0": np.ones(2, int)}, "x0 must be a floating-point.*given int"),
    "another shape": ({"fun": lambda x: x[:1]}, r"fun must have the structure.*given .*\[1\], needed .*\[2\]"),
    "another structure": ({"fun": lambda x: (x, x)}, "fun must have the structure"),
    "another dtype": ({"fun": lambda x: x.astype(jnp.float16)}, "fun must have the structure.*given float16"),
    "no function": ({"fun": 3}, "fun must be callable: given 3"),
    "another solver": ({"solver": dini.LBFGS()}, "Use SemismoothNewton or Extragradient"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_wrong_inputs(name):
    changed, said = INPUTS[name]
    given = {"fun": lambda x: x, "x0": np.ones(2), "constraint": POSITIVE} | changed
    with pytest.raises((TypeError, ValueError), match=said):
        dini.variational_inequality(given.pop("fun"), given.pop("x0"), **given)


GAMES = {
    "one loss": (lambda f: ((f), (0.0, 0.0)), {}, "losses must be a tuple with an entry for each player"),
    "too few starts": (lambda f: ((f, f), (0.0,)), {}, "x0 must have an entry for each of the 2 players"),
    "an integer": (lambda f: ((f, f), (0.0, 1)), {}, r"x0\[1\] must be a floating-point"),
    "no number": (lambda f: ((f, lambda x: x), (0.0, 0.0)), {}, r"player 1, losses\[1\].*one real floating-point"),
    "too few sets": (lambda f: ((f, f), (0.0, 0.0)), {"constraints": (POSITIVE,)}, "constraints must have an entry"),
    "no set": (lambda f: ((f, f), (0.0, 0.0)), {"constraints": (POSITIVE, 3)}, r"constraints\[1\] must be an object"),
}  # fmt: skip


@pytest.mark.parametrize("name", GAMES)
def test_wrong_games(name):
    given, how, said = GAMES[name]
    with pytest.raises(TypeError, match=said):
        dini.nash_equilibrium(*given(lambda x: x[0] ** 2 + x[1] ** 2), **how)
