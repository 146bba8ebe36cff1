"""Nonlinear programs: closed forms, published problems, units, failures that are named, derivatives of all orders."""

import functools

import hock_schittkowski as hs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dini
from dini.certified import Verdict
from dini.problems import Multipliers

SOLVER = dini.NonlinearInteriorPoint()


def solve(problem, start, *args, **how):
    return dini.solve(problem, SOLVER, problem.start(start, *args), *args, **how)


@functools.cache
def rosen_suzuki():
    """Return problem 43 of Hock and Schittkowski, with a right-hand side and units as parameters."""

    def objective(x, right, units):
        x = x / units[1]
        linear = 5 * x[0] + 5 * x[1] + 21 * x[2] - 7 * x[3]
        return units[0] * (x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2 - linear)

    def inequality(x, right, units):
        return -units[2] * (hs._hs43(x / units[1]) + right)

    return dini.NonlinearProgram(objective, inequality=inequality)


def rosen_suzuki_at(right, units, dtype=float):
    problem = rosen_suzuki()
    return solve(problem, jnp.zeros(4, dtype), right, units, on_failure="ignore")


UNITS = np.array([(1, 1, 1), (1e6, 1, 1), (1e-6, 1, 1), (1, 1e6, 1), (1, 1e-6, 1), (1, 1, 1e6), (1, 1, 1e-6)], float)


def test_units_do_not_decide():
    """The same problem in other units has the same solution, multipliers, derivative and number of steps."""

    def one(units):
        def point(right):
            solution = rosen_suzuki_at(right, units)
            return solution.x.primal, solution

        slope, solution = jax.jacfwd(point, has_aux=True)(jnp.zeros(3))
        weights = solution.x.dual.inequality * units[2] / units[0]
        return solution.status, solution.stats.steps, solution.x.primal / units[1], weights, slope / units[1]

    compiled = jax.jit(one)
    status, steps, x, weights, slopes = map(np.stack, zip(*map(compiled, UNITS), strict=True))
    assert not status.any()
    np.testing.assert_array_equal(steps, steps[0])
    np.testing.assert_allclose(x, np.tile([0.0, 1, 2, -1], (7, 1)), atol=1e-11)
    np.testing.assert_allclose(weights, np.tile([1.0, 0, 2], (7, 1)), atol=1e-9)
    assert (weights[:, 1] == 0).all()  # of an inactive constraint it is zero exactly
    np.testing.assert_allclose(slopes, np.tile(slopes[0], (7, 1, 1)), rtol=1e-9, atol=1e-10)
    # an independent truth: the KKT system at the known solution, by hand
    hessian = np.diag([2.0, 2, 4, 2]) + np.diag([2.0, 2, 2, 2]) + 2 * np.diag([4.0, 2, 2, 0])
    rows = np.array([[1.0, 1, 5, -3], [2.0, 1, 4, -1]])
    matrix = np.block([[hessian, rows.T], [rows, np.zeros((2, 2))]])
    expected = np.linalg.solve(matrix, np.vstack([np.zeros((4, 2)), np.eye(2)]))[:4]
    np.testing.assert_allclose(slopes[0][:, [0, 2]], expected, rtol=1e-9, atol=1e-10)
    assert (slopes[0][:, 1] == 0).all()


def test_single_precision():
    solution = rosen_suzuki_at(jnp.zeros(3, np.float32), jnp.ones(3, np.float32), np.float32)
    assert solution.x.primal.dtype == np.float32
    assert bool(solution.success)
    np.testing.assert_allclose(solution.x.primal, [0, 1, 2, -1], atol=1e-5)


def circle():
    return dini.NonlinearProgram(
        lambda x, a, radius: jnp.sum((x - a) ** 2), equality=lambda x, a, radius: jnp.sum(x**2) - radius
    )


def test_closed_form_in_every_mode_and_order():
    """The nearest point of a circle, a multiplier that is a distance, and their derivatives."""
    problem = circle()
    nearest = lambda a, radius: solve(problem, jnp.ones(2), a, radius).x
    exact = lambda a, radius: a * jnp.sqrt(radius) / jnp.linalg.norm(a)
    multiplier = lambda a, radius: jnp.linalg.norm(a) / jnp.sqrt(radius) - 1
    a, radius = jnp.array([3.0, 4.0]), jnp.asarray(2.0)

    def everything(fun):
        both = (0, 1)
        forward, value = jax.jacfwd(lambda *t: (fun(*t), fun(*t)), both, has_aux=True)(a, radius)
        return value, forward, jax.jacfwd(jax.jacrev(fun))(a, radius)

    found = jax.jit(lambda: everything(lambda *t: (lambda x: (x.primal, x.dual.equality))(nearest(*t))))()
    expected = jax.jit(lambda: everything(lambda *t: (exact(*t), multiplier(*t))))()
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-9, atol=1e-11), found, expected)


def test_lanes_of_all_kinds():
    """Each lane ends as it would alone: solved, infeasible, unbounded, not a number."""

    def fun(x, t):
        return t[0] * x[0] + t[1] * jnp.sum((x - 1) ** 2)

    problem = dini.NonlinearProgram(fun, inequality=lambda x, t: jnp.stack([x[0] - t[2], t[4] * (t[3] - x[0])]))
    lanes = jnp.array(
        [
            [0.0, 1.0, 5.0, -5.0, 1.0],  # no constraint is active
            [0.0, 1.0, 0.5, -5.0, 1.0],  # the first is
            [0.0, 1.0, 5.0, 2.0, 1.0],  # the second is
            [0.0, 1.0, 1.0, 2.0, 1.0],  # both cannot hold
            [-1.0, 0.0, jnp.nan, -5.0, 1.0],  # no number
            [1.0, 0.0, 5.0, 0.0, 0.0],  # falls without bound
        ]
    )

    def point(t):
        solution = solve(problem, jnp.zeros(2), t)
        return solution.x.primal, (solution.x.primal, solution.status)

    slopes, (x, status) = jax.jit(jax.vmap(jax.jacrev(point, has_aux=True)))(lanes)
    names = [dini.Status(int(s)).name for s in status]
    assert names[:3] == ["CONVERGED"] * 3
    assert names[3] == "LOCALLY_INFEASIBLE"
    assert names[4] == "NONFINITE"
    assert names[5] == "DIVERGED"
    np.testing.assert_allclose(x[:3], [[1, 1], [0.5, 1], [2, 1]], atol=1e-12)
    expected = np.zeros((3, 2, 5))
    expected[0, :, 0] = [-0.5, 0]
    expected[1, 0, 2] = expected[2, 0, 3] = 1
    np.testing.assert_allclose(slopes[:3], expected, atol=1e-10)
    assert np.isnan(slopes[3:]).any(axis=(1, 2)).all()


def test_degenerate_points_are_named():
    """No strict complementarity, dependent gradients, a Hessian that is flat along the constraints."""
    problem = dini.NonlinearProgram(
        lambda x, a, w: w * (x[0] - a[0]) ** 2 + (x[1] - a[1]) ** 2,
        equality=lambda x, a, w: jnp.stack([x[2], x[2] * a[2]]),
        inequality=lambda x, a, w: x[0] + x[1] - 1.0,
    )

    @jax.jit
    def verdict(a, w):
        solution = solve(problem, jnp.zeros(3), a, w, on_failure="ignore")
        one = jnp.ones_like
        _, certificate = dini.certified.jvp(problem, solution.x, (a, w), (one(a), one(w)), on_failure="ignore")
        return solution.status, certificate.verdict

    for a, w, expected in (
        ((0.3, 0.1, 0.0), 1.0, Verdict.ILL_CONDITIONED),  # the second equality is no equation
        ((0.3, 0.1, 1.0), 1.0, Verdict.ILL_CONDITIONED),  # it is the first once more
    ):
        status, found = verdict(jnp.array(a), jnp.asarray(w))
        assert status == dini.Status.CONVERGED
        assert Verdict(int(found)) == expected


@pytest.mark.by_default("each")
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["double", "single"])
def test_a_tie_is_named(dtype):
    problem = dini.NonlinearProgram(
        lambda x, a: jnp.sum((x - a) ** 2), inequality=lambda x, a: jnp.sum(x) - 1.0, lower=0.0
    )

    @jax.jit
    def verdict(a):
        solution = solve(problem, jnp.ones_like(a), a, on_failure="ignore")
        along = (jnp.ones_like(a),)
        certificate = dini.certified.jvp(problem, solution.x, (a,), along, on_failure="ignore")[1]
        return solution.status, solution.x, certificate.verdict

    for a, x, expected in (
        ((0.5, 0.5), (0.5, 0.5), Verdict.TIE),  # on the inequality
        ((0.0, 0.5), (0.0, 0.5), Verdict.TIE),  # on a bound
        ((0.2, 0.3), (0.2, 0.3), Verdict.RELIABLE),
        ((2.0, 0.5), (1.0, 0.0), Verdict.RELIABLE),
    ):
        status, at, found = verdict(jnp.array(a, dtype))
        assert status == dini.Status.CONVERGED
        np.testing.assert_allclose(at.primal, x, atol=1e-7 if dtype == np.float64 else 1e-3)
        assert Verdict(int(found)) == expected, a


def test_a_derivative_that_does_not_exist_raises():
    problem = dini.NonlinearProgram(
        lambda x, a: jnp.sum((x - a) ** 2), equality=lambda x, a: jnp.stack([x[0] - a[0], 2 * x[0] - 2 * a[0]])
    )
    with pytest.raises(dini.DerivativeError, match="singular"):
        jax.jacfwd(lambda a: solve(problem, jnp.zeros(2), a).x.primal)(jnp.array([0.3, 0.1]))


def test_maratos():
    """From beside the solution on a circle, full steps raise both objective and violation: they are corrected."""
    problem = dini.NonlinearProgram(lambda x: 2 * (jnp.sum(x**2) - 1) - x[0], equality=lambda x: jnp.sum(x**2) - 1.0)
    solution = solve(problem, jnp.array([np.cos(0.5), np.sin(0.5)]))
    np.testing.assert_allclose(solution.x.primal, [1, 0], atol=1e-10)
    np.testing.assert_allclose(solution.x.dual.equality, -1.5, rtol=1e-10)
    assert solution.stats.steps <= 12


def test_where_line_searches_of_interior_points_jam():
    """Wachter and Biegler (2000): the linearized constraints and the bounds contradict each other on the way."""
    solution = dini.minimize(
        lambda x: x[0],
        jnp.array([-2.0, 3.0, 1.0]),
        equality=lambda x: {"square": x[0] ** 2 - x[1] - 1, "line": (x[0] - x[2] - 0.5,)},
        constraint=dini.sets.Box(jnp.array([-jnp.inf, 0.0, 0.0]), jnp.inf),
    )
    np.testing.assert_allclose(solution.x, [1, 0, 0.5], atol=1e-8)
    assert set(solution.multipliers.equality) == {"square", "line"}


def test_bounds_starts_outside_and_elements_without_room():
    """A start far outside of the bounds, a fixed element, and what the bounds themselves do to the solution."""

    def point(lower, upper):
        problem = dini.NonlinearProgram(
            lambda x: jnp.sum((x - 2.0) ** 2) + jnp.log(x[0]),
            inequality=lambda x: x[1] - x[2],
            lower=lower,
            upper=upper,
        )
        solution = solve(problem, jnp.array([-50.0, 70.0, 0.0]))
        return solution.x.primal, solution.x

    lower, upper = jnp.array([0.5, -1.0, 1.5]), jnp.array([1.0, 9.0, 1.5])
    (by_lower, by_upper), (x, dual) = jax.jit(jax.jacrev(point, (0, 1), has_aux=True))(lower, upper)
    np.testing.assert_allclose(x, [1, 1.5, 1.5], atol=1e-10)
    # stationarity, element by element: 2 (x - 2) + 1 / x + w = 0 and so on
    np.testing.assert_allclose(dual.inequality, 1.0, rtol=1e-8)
    np.testing.assert_allclose(dual.bounds, [1.0, 0.0, 2.0], atol=1e-8)
    total = by_lower + by_upper  # of an element without room, both bounds move
    np.testing.assert_allclose(total, [[1, 0, 0], [0, 0, 1], [0, 0, 1]], atol=1e-9)


def test_the_verb_takes_trees_and_returns_multipliers():
    def fun(x, price):
        value = jnp.sum((x["a"] - price) ** 2) + (x["b"][0] - 1.0) ** 2
        return value, {"seen": x["b"][0]}

    def at(price):
        return dini.minimize(
            fun,
            {"a": jnp.zeros(2), "b": (jnp.asarray(0.0),)},
            price,
            inequality=lambda x, price: (jnp.sum(x["a"]) + x["b"][0] - 1.0,),
            constraint=dini.sets.NonNegative(),
            has_aux=True,
        )

    solution = at(jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(solution.x["a"], [0.5, 0], atol=1e-9)
    np.testing.assert_allclose(solution.aux["seen"], 0.5, atol=1e-9)
    assert isinstance(solution.multipliers, Multipliers)
    np.testing.assert_allclose(solution.multipliers.inequality[0], 1.0, rtol=1e-8)
    np.testing.assert_allclose(solution.multipliers.bounds["a"], [0, -3], atol=1e-8)
    assert solution.solver == "NonlinearInteriorPoint()"
    # the value falls by the multiplier times what a constraint is loosened: the envelope theorem
    slope = jax.grad(lambda p: at(p).value)(jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(slope, [1.0, -2.0], rtol=1e-7)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"equality": 1.0}, "equality must be callable"),
        ({"equality": lambda x: jnp.sum(x) > 1}, r"must return real floating-point.*a\(x\) = b as a\(x\) - b"),
        ({"inequality": lambda x: None}, r"must return real floating-point.*a\(x\) <= b"),
        ({"equality": jnp.sum, "constraint": jnp.sum}, "equality=h, inequality=g"),
    ],
    ids=["no function", "booleans", "nothing", "function as a set"],
)
def test_the_door(how, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dini.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), **how)


def test_the_door_of_the_problem():
    square = lambda x: jnp.sum(x**2)
    problem = dini.NonlinearProgram(square, equality=jnp.sum, lower=jnp.zeros(3))
    with pytest.raises(ValueError, match="lower of NonlinearProgram must broadcast"):
        solve(problem, jnp.ones(2))
    with pytest.raises(ValueError, match="lower must not be above upper"):
        solve(dini.NonlinearProgram(square, lower=1.0, upper=0.0), jnp.ones(2))
    with pytest.raises(TypeError, match=r"start at problem.start\(x, \*args\)"):
        dini.solve(problem, SOLVER, jnp.ones(2))
    with pytest.raises(TypeError, match="NonlinearInteriorPoint solves problems of the kinds NonlinearProgram"):
        dini.solve(dini.Minimize(square), SOLVER, jnp.ones(2))
    with pytest.raises(TypeError, match=r"LBFGS solves problems.*Use NonlinearInteriorPoint"):
        dini.solve(problem, dini.LBFGS(), problem.start(jnp.ones(3)))
    with pytest.raises(TypeError, match="no nonlinear programs"):
        dini.one_sided_jvp(problem, problem.start(jnp.ones(3)), (), ())


def test_no_point_satisfies_the_constraints():
    with pytest.raises(dini.SolveError, match=r"LOCALLY_INFEASIBLE.*violation"):
        dini.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), equality=lambda x: jnp.sum(x**2) + 1.0)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["double", "single"])
def test_hock_and_schittkowski(dtype):
    """All are solved, to the values of the book, in one batch."""
    which = np.arange(len(hs.PROBLEMS))
    solution = hs.solved(which, (1.0, 1.0, 1.0), dtype)
    accuracy = 1e-7 if dtype == np.float64 else 2e-3
    for i, problem in enumerate(hs.PROBLEMS):
        assert bool(solution.success[i]) or dtype == np.float32, problem.name
        if not bool(solution.success[i]):
            continue
        np.testing.assert_allclose(solution.value[i], problem.value, rtol=accuracy, atol=accuracy, err_msg=problem.name)
        if problem.solution is not None and dtype == np.float64:
            found = solution.x.primal[i][: len(problem.solution)]
            np.testing.assert_allclose(found, problem.solution, atol=1e-6, err_msg=problem.name)


@pytest.mark.thorough  # four programs, 15 s of CPU
def test_what_is_not_a_number_and_a_state_of_other_arguments_are_told():
    program = dini.NonlinearProgram(lambda x: jnp.sum((x + 2) ** 2), lower=jnp.array([jnp.nan, 0.0]))
    found = dini.solve(program, dini.NonlinearInteriorPoint(), program.start(jnp.zeros(2)), on_failure="ignore")
    assert found.status == dini.Status.NONFINITE

    nearest = dini.NonlinearProgram(lambda x, a: jnp.sum((x - a) ** 2), equality=lambda x, a: jnp.sum(x**2) - 1)
    a, other = jnp.array([3.0, 4.0]), jnp.array([4.0, -3.0])
    start, solver = nearest.start(jnp.ones(2), a), dini.NonlinearInteriorPoint()
    count = int(dini.solve(nearest, solver, start, a).stats.steps)
    begun = dini.solve(nearest, solver, start, a, steps=count - 1, return_state=True)
    went_on = dini.solve(nearest, solver, begun.x, other, state=begun.state)
    np.testing.assert_allclose(went_on.x.primal, other / 5, atol=1e-6)


def test_a_large_element_hides_no_violation():
    """Elements that differ by 1e7: each constraint is judged beside its own terms, and one without any is kept, too."""
    target = jnp.array([1e5, 1e-2, 2e-2, 0.0])
    solution = dini.minimize(
        lambda x: jnp.sum(((x - target) / jnp.array([1e5, 1e-2, 1e-2, 1.0])) ** 2),
        jnp.array([1e5, 0.0, 0.0, 1.0]),
        equality=lambda x: jnp.stack([x[1] + x[2] - 0.02, x[3]]),
    )
    np.testing.assert_allclose(solution.x, [1e5, 5e-3, 1.5e-2, 0.0], rtol=1e-7, atol=1e-12)


def test_multipliers_that_cancel_hide_no_error():
    """A sphere as an equality and an inequality: of both, multipliers grow, and what else is active is met as ever."""
    sphere = lambda x, a: jnp.sum(x**2) - 1.0

    def nearest(a, start):
        return dini.minimize(
            lambda x, a: 0.5 * jnp.sum((x - a) ** 2),
            start,
            a,
            equality=sphere,
            inequality=lambda x, a: jnp.stack([sphere(x, a), x[0] - 0.5]),
            constraint=dini.sets.Box(-1.0, 3.0),
            on_failure="ignore",
        )

    rng = np.random.default_rng(0)
    a, start = rng.normal(size=(2, 300, 3))
    a[:, 0] = np.abs(a[:, 0]) + 4
    found = jax.jit(jax.vmap(nearest))(jnp.asarray(a), jnp.asarray(start))
    ring = np.sqrt(0.75) * a[:, 1:] / np.linalg.norm(a[:, 1:], axis=1, keepdims=True)
    done = np.asarray(found.success)
    assert done.sum() >= 290
    np.testing.assert_allclose(found.x[done], np.c_[np.full(300, 0.5), ring][done], atol=1e-7)


def test_curved_constraints_that_are_far_from_tight_hold_up_nothing():
    """Down a slope without end, and across exponential functions whose curvature is far larger than what is needed."""
    down = dini.minimize(lambda x: x[0], jnp.array([10.0]), inequality=lambda x: -(x**2) - 1, on_failure="ignore")
    assert down.status == dini.Status.DIVERGED
    assert down.stats.steps < 40
    rows = lambda x: jnp.stack([x[2] - x[0] ** 2 - x[1] ** 4, x[2] - (2 - x[0]) ** 2, x[2] - 2 * jnp.exp(x[1] - x[0])])
    across = dini.minimize(lambda x: x[2], jnp.array([1.0, -0.1, 0.0]), inequality=rows, on_failure="ignore")
    assert not across.success
    assert across.stats.steps < 100


def test_small_elements_beside_large_ones_are_right():
    """Chemical equilibrium (problem 112 of Hock and Schittkowski): elements of 7e-4 to 0.8, all forces in balance."""
    c = jnp.array([-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.1, -10.708, -26.662, -22.179])
    rows = np.zeros((3, 10))
    rows[0, [0, 1, 2, 5, 9]] = 1, 2, 2, 1, 1
    rows[1, [3, 4, 5, 6]] = 1, 2, 1, 1
    rows[2, [2, 6, 7, 8, 9]] = 1, 1, 1, 2, 1
    fun = lambda x: x @ (c + jnp.log(x / x.sum()))
    solution = dini.minimize(
        fun,
        jnp.full(10, 0.1),
        equality=lambda x: rows @ x - jnp.array([2.0, 1, 1]),
        constraint=dini.sets.Box(1e-6, 2.0),
    )
    np.testing.assert_allclose(solution.value, -47.76109086, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(fun)(solution.x), -solution.multipliers.equality @ rows, rtol=1e-9)


@pytest.mark.parametrize(
    ("solver", "far", "least"),
    [
        pytest.param(dini.NonlinearInteriorPoint(), 6, 28, id="NonlinearInteriorPoint"),
        pytest.param(dini.AugmentedLagrangian(dini.LBFGS()), 3, 20, id="AugmentedLagrangian"),
    ],
)
def test_unknowns_of_unlike_units_are_no_less_right(solver, far, least):
    """Each element in a unit of its own, of 1e-3 to 1e3 and beyond: what is called a solution is the same one."""
    fun = lambda x: jnp.sum((x - jnp.array([1.0, 2, 3])) ** 2) + jnp.sum((x - 1) ** 4)
    bounded = isinstance(solver, dini.NonlinearInteriorPoint)

    def solved(unit):
        found = dini.minimize(
            lambda u: fun(u / unit),
            0.5 * unit,
            inequality=lambda u: u[0] / unit[0] + u[1] / unit[1] - 2.5,
            constraint=dini.sets.Box(-10 * unit, 10 * unit) if bounded else None,
            solver=solver,
            on_failure="ignore",
        )
        return found.x / unit, found.status

    rng = np.random.default_rng(0)
    units = 10 ** np.concatenate([np.zeros((1, 3)), rng.uniform(-3, 3, (30, 3)), rng.uniform(-far, far, (30, 3))])
    x, status = jax.jit(jax.vmap(solved))(jnp.asarray(units))
    success = status == dini.Status.CONVERGED
    # a small element that is in the way of the constraint does not make it infeasible
    assert not (status == dini.Status.LOCALLY_INFEASIBLE).any()
    assert success[0]
    assert success[:31].sum() > least
    np.testing.assert_allclose(x[success], np.broadcast_to(x[0], (int(success.sum()), 3)), atol=1e-5)
